"""The suite that every implementation of `Ledger` must pass."""

from __future__ import annotations

import pickle
import threading
from copy import copy

import pytest

from unlearnkit.ledger import Checkpoint, MemoryLedger, Request

IMPLEMENTATIONS = {"memory": MemoryLedger}


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys())
def ledger(request):
    return request.param()


def checkpoint(key, *blobs, environment="here"):
    return Checkpoint(key, 0, 0, tuple((f"part{i}", blob) for i, blob in enumerate(blobs)), environment)


def request(sequence, *pseudonyms, **facts):
    return Request(sequence, frozenset(pseudonyms), facts)


def test_a_checkpoint_is_kept_if_its_key_is_planned(ledger):
    ledger.replan({"a"})
    assert ledger.commit(checkpoint("a", "x"))
    assert not ledger.commit(checkpoint("b", "y"))
    assert ledger.checkpoint("a") == checkpoint("a", "x")
    assert ledger.checkpoint("b") is None


def test_a_new_plan_drops_and_returns_what_is_outside(ledger):
    ledger.replan({"a", "b", "c"})
    for key in "ab":
        ledger.commit(checkpoint(key, f"blob {key}"))
    assert ledger.replan({"b", "c"}) == (checkpoint("a", "blob a"),)
    assert ledger.checkpoint("a") is None
    assert ledger.checkpoint("b") is not None
    assert not ledger.commit(checkpoint("a", "blob a")), "a dropped key must not come back"


def test_a_plan_back_and_forth_brings_no_state_back(ledger):
    ledger.replan({"a"})
    ledger.commit(checkpoint("a", "x"))
    ledger.replan(set())
    ledger.replan({"a"})
    assert ledger.checkpoint("a") is None


def test_a_blob_is_unreferenced_once_nothing_refers_to_it(ledger):
    ledger.replan({"a", "b"})
    ledger.commit(checkpoint("a", "shared", "own"))
    ledger.commit(checkpoint("b", "shared", "shared"))
    assert ledger.unreferenced(["shared", "own", "never"]) == {"never"}
    ledger.replan({"b"})
    assert ledger.unreferenced(["shared", "own"]) == {"own"}
    ledger.replan(set())
    assert ledger.unreferenced(["shared", "own"]) == {"shared", "own"}


def test_committing_again_replaces(ledger):
    ledger.replan({"a"})
    ledger.commit(checkpoint("a", "old"))
    ledger.commit(checkpoint("a", "new"))
    assert ledger.checkpoint("a") == checkpoint("a", "new")
    assert ledger.unreferenced(["old", "new"]) == {"old"}
    ledger.commit(checkpoint("a", "new"))
    ledger.replan(set())
    assert ledger.unreferenced(["new"]) == {"new"}


def test_the_epoch_goes_up_with_every_plan_and_with_nothing_else(ledger):
    before = ledger.epoch
    ledger.replan({"a"})
    assert ledger.epoch > before
    before = ledger.epoch
    ledger.commit(checkpoint("a", "x"))
    ledger.checkpoint("a")
    assert ledger.epoch == before


def test_requests_are_kept_in_order(ledger):
    assert ledger.requests() == ()
    for i in (1, 2):
        ledger.replan(set(), request(i, f"p{i}", n=i))
    assert [r.sequence for r in ledger.requests()] == [1, 2]
    assert ledger.requests()[1].facts == {"n": 2}
    assert ledger.requests()[1].repaired_at is None


def test_a_request_is_updated_without_losing_facts(ledger):
    ledger.replan(set(), request(1, n=1, m=1))
    updated = ledger.update(1, {"m": 2}, None)
    assert updated.facts == {"n": 1, "m": 2}
    assert updated.repaired_at is None
    ledger.update(1, {}, "then")
    assert ledger.requests()[0].repaired_at == "then"
    assert ledger.requests()[0].facts == {"n": 1, "m": 2}


def test_forgotten_is_what_any_request_removed(ledger):
    ledger.replan(set(), request(1, "p", "q"))
    ledger.replan(set(), request(2, "r"))
    assert ledger.forgotten(["p", "r", "never"]) == {"p", "r"}
    assert ledger.forgotten([]) == set()


def test_commits_and_plans_from_many_threads_agree(ledger):
    ledger.replan({f"{i}" for i in range(50)})
    threads = [threading.Thread(target=ledger.commit, args=(checkpoint(f"{i}", f"b{i}"),)) for i in range(50)]
    threads += [threading.Thread(target=ledger.replan, args=({f"{i}" for i in range(25)},))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {i for i in range(50) if ledger.checkpoint(f"{i}")} == set(range(25)) - {
        i for i in range(25) if ledger.checkpoint(f"{i}") is None
    }
    assert ledger.unreferenced([f"b{i}" for i in range(25, 50)]) == {f"b{i}" for i in range(25, 50)}


def test_nothing_of_a_dropped_state_stays_in_memory():
    ledger = MemoryLedger()
    ledger.replan({"a"})
    ledger.commit(checkpoint("a", "digest of a state"))
    ledger.replan(set())
    assert b"digest of a state" not in pickle.dumps(ledger)


@pytest.mark.parametrize("duplicate", [copy, lambda ledger: pickle.loads(pickle.dumps(ledger))])
def test_a_copied_memory_ledger_is_independent(duplicate):
    ledger = MemoryLedger()
    ledger.replan({"a", "b"}, request(1, "p"))
    ledger.commit(checkpoint("a", "x"))
    other = duplicate(ledger)
    other.commit(checkpoint("b", "y"))
    other.replan(set(), request(2, "q"))
    assert ledger.checkpoint("a") is not None
    assert ledger.checkpoint("b") is None
    assert ledger.forgotten(["p", "q"]) == {"p"}
    assert ledger.unreferenced(["x"]) == set()
