"""The suite that every implementation of `Ledger` must pass."""

from __future__ import annotations

import pickle
import random
import threading
from copy import copy
from dataclasses import replace

import pytest

from unlearnkit.ledger import (
    ISOLATED,
    PURGED,
    RECEIVED,
    REJECTED,
    REPAIRED,
    Cell,
    Change,
    Checkpoint,
    MemoryLedger,
    Request,
)
from unlearnkit.sql import SqlLedger


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def ledger(request, tmp_path):
    if request.param == "memory":
        yield MemoryLedger()
        return
    target = tmp_path / "ledger.sqlite" if request.param == "sqlite" else request.getfixturevalue("database")
    ledger = SqlLedger(target, create=True)
    yield ledger
    assert ledger.check() == []
    ledger.close()


def checkpoint(key, *blobs):
    return Checkpoint(key, 0, 0, tuple((f"part{i}", blob) for i, blob in enumerate(blobs)), "here")


def items(*names):
    return {f"address {name}": f"pseudonym {name}" for name in names}


def request(*names, sequence=0, **facts):
    return Request(sequence, items=items(*names), facts=facts)


def views(ledger):
    """All that can be read of a ledger."""
    found = (ledger.epoch, ledger.checkpoints(), ledger.keys(), ledger.cells(), ledger.references())
    return (*found, ledger.requests(), ledger.tombstones(), ledger.statements(), ledger.notes())


def history(rng, n):
    """Operations that can be done to any ledger, with results that can be compared."""
    names = [f"{i:02}" for i in range(30)]
    submitted = 0
    for i in range(n):
        match rng.choice(["plan", "drop", "commit", "commit", "submit", "advance", "cells"]):
            case "drop":
                change = Change(dropped=frozenset(rng.sample(names, 3)))
                yield lambda ledger, change=change: sorted(c.key for c in ledger.apply(change))
            case "plan":
                change = Change(keys=set(rng.sample(names, 20)), notes={rng.choice("ab"): i}, statements=(f"s{i}",))
                yield lambda ledger, change=change: sorted(c.key for c in ledger.apply(change))
            case "commit":
                made = checkpoint(rng.choice(names), *rng.choices(names, k=rng.randrange(4)))
                yield lambda ledger, made=made: ledger.commit(made)
            case "submit":
                new = [request(*rng.sample(names, rng.randrange(4)), n=i) for _ in range(rng.randrange(3))]
                submitted += len(new)
                yield lambda ledger, new=new: ledger.submit(new)
            case "advance" if submitted:
                options = {
                    "sequence": rng.randint(1, submitted),
                    "state": rng.choice([RECEIVED, ISOLATED, PURGED, REPAIRED]),
                    "items": items(*rng.sample(names, rng.randrange(2))),
                    "pseudonyms": frozenset(rng.sample(names, 3)),
                }
                changed = Request(**options)
                tombstones = dict.fromkeys(changed.pseudonyms, changed.sequence)
                lifted = frozenset(rng.sample(names, 2))
                change = Change(requests=(changed,), tombstones=tombstones, lifted=lifted)
                yield lambda ledger, change=change: ledger.apply(change)
            case "cells":
                cells = [Cell(rng.randrange(3), rng.randrange(3), i, i, "d", parts=(("X", rng.choice(names)),))]
                yield lambda ledger, cells=cells: ledger.apply(Change(cells=tuple(cells)))


def plan(ledger, *keys):
    return ledger.apply(Change(keys=set(keys)))


def test_an_empty_ledger_holds_nothing(ledger):
    assert views(ledger) == views(MemoryLedger())
    assert ledger.epoch == 0
    with pytest.raises(LookupError):
        ledger.request(1)


def test_of_two_versions_of_a_request_in_one_change_the_last_counts(ledger):
    ledger.submit([request("a", "b")])
    purged = Request(1, PURGED, pseudonyms=frozenset({"pseudonym a"}))
    ledger.apply(Change(requests=(request("a", sequence=1), purged)))
    assert ledger.request(1) == purged
    assert ledger.requests() == (purged,)


def test_a_checkpoint_is_kept_if_its_key_is_planned(ledger):
    plan(ledger, "a")
    assert ledger.commit(checkpoint("a", "x"))
    assert not ledger.commit(checkpoint("b", "y"))
    assert ledger.checkpoints() == {"a": checkpoint("a", "x")}
    assert ledger.checkpoint("a") == checkpoint("a", "x")
    assert ledger.checkpoint("b") is None
    assert ledger.keys() == {"a"}


def test_a_checkpoint_comes_back_with_all_it_has(ledger):
    plan(ledger, "a")
    full = replace(checkpoint("a", "x", "y"), shard=3, slice=2, environment="e", parent="p")
    ledger.commit(full)
    assert ledger.checkpoint("a") == full
    assert ledger.checkpoint("a").parts == (("part0", "x"), ("part1", "y"))


def test_a_state_may_be_dropped_while_its_key_stays_in_the_plan(ledger):
    plan(ledger, "a", "b")
    ledger.commit(checkpoint("a", "x", "both"))
    ledger.commit(checkpoint("b", "y", "both"))
    epoch = ledger.epoch
    assert [c.key for c in ledger.apply(Change(dropped=frozenset({"a", "unknown"})))] == ["a"]
    assert ledger.epoch > epoch
    assert ledger.checkpoints().keys() == {"b"}
    assert ledger.keys() == {"a", "b"}
    assert ledger.references() == {"y", "both"}
    assert ledger.commit(checkpoint("a", "z"))
    with_plan = ledger.apply(Change(keys={"a"}, dropped=frozenset({"a"})))
    assert sorted(c.key for c in with_plan) == ["a", "b"]


def test_a_new_plan_drops_and_returns_what_is_outside(ledger):
    plan(ledger, "a", "b", "c")
    for key in "ab":
        ledger.commit(checkpoint(key, f"blob {key}"))
    assert plan(ledger, "b", "c") == (checkpoint("a", "blob a"),)
    assert ledger.checkpoint("a") is None
    assert ledger.checkpoint("b") is not None
    assert not ledger.commit(checkpoint("a", "blob a")), "a dropped key must not come back"


def test_a_plan_back_and_forth_brings_no_state_back(ledger):
    plan(ledger, "a")
    ledger.commit(checkpoint("a", "x"))
    plan(ledger)
    plan(ledger, "a")
    assert ledger.checkpoint("a") is None
    assert ledger.references() == set()


def test_a_change_without_keys_leaves_the_plan(ledger):
    plan(ledger, "a")
    ledger.commit(checkpoint("a", "x"))
    before = ledger.epoch
    assert ledger.apply(Change(notes={"n": 1})) == ()
    assert ledger.keys() == {"a"}
    assert ledger.checkpoint("a") is not None
    assert ledger.epoch == before


def test_a_blob_is_unreferenced_once_nothing_refers_to_it(ledger):
    plan(ledger, "a", "b")
    ledger.commit(checkpoint("a", "shared", "own"))
    ledger.commit(checkpoint("b", "shared", "shared"))
    assert ledger.unreferenced(["shared", "own", "never"]) == {"never"}
    assert ledger.references() == {"shared", "own"}
    plan(ledger, "b")
    assert ledger.unreferenced(["shared", "own"]) == {"own"}
    assert ledger.references() == {"shared"}
    plan(ledger)
    assert ledger.unreferenced(iter(["shared", "own"])) == {"shared", "own"}
    assert ledger.unreferenced([]) == ledger.references() == set()


def test_cells_refer_to_blobs_too(ledger):
    plan(ledger, "a")
    ledger.commit(checkpoint("a", "shared"))
    ledger.apply(Change(cells=(Cell(0, 0, 1, 1, "d", parts=(("X", "shared"), ("y", "own"))),)))
    plan(ledger)
    assert ledger.references() == {"shared", "own"}
    ledger.apply(Change(cells=(Cell(0, 0, 0, 0, "d"),)))
    assert ledger.references() == set()
    assert ledger.unreferenced(["shared", "own"]) == {"shared", "own"}


def test_committing_again_replaces(ledger):
    plan(ledger, "a")
    ledger.commit(checkpoint("a", "old", "both"))
    ledger.commit(checkpoint("a", "new", "both"))
    assert ledger.checkpoint("a") == checkpoint("a", "new", "both")
    assert ledger.unreferenced(["old", "new", "both"]) == {"old"}
    ledger.commit(checkpoint("a", "new", "both"))
    assert ledger.unreferenced(["new", "both"]) == set()


def test_the_epoch_goes_up_with_plan_checkpoints_and_cells_and_nothing_else(ledger):
    before = ledger.epoch
    plan(ledger, "a")
    assert ledger.epoch > before
    before = ledger.epoch
    assert not ledger.commit(checkpoint("b", "x"))
    ledger.submit([request()])
    ledger.apply(Change(notes={"n": 1}, statements=("s",)))
    assert ledger.settle()
    assert ledger.epoch == before
    ledger.apply(Change(cells=(Cell(0, 0, 1, 1, "d"),)))
    assert ledger.epoch > before
    before = ledger.epoch
    assert ledger.commit(checkpoint("a", "x"))
    assert ledger.epoch > before


def test_cells_are_replaced_by_place_and_ordered(ledger):
    full = Cell(1, 0, 2, 3, "digest", (0, 2), (("X", "x"), ("y", "y")), ((0, (1, 2)), (4, ())), stale=True)
    ledger.apply(Change(cells=(Cell(10, 0, 1, 1, "z"), full, Cell(2, 1, 1, 1, "b"))))
    assert [(cell.shard, cell.slice) for cell in ledger.cells()] == [(1, 0), (2, 1), (10, 0)]
    assert ledger.cells()[0] == full
    ledger.apply(Change(cells=(replace(full, stale=False, n=1),)))
    assert ledger.cells()[0] == replace(full, stale=False, n=1)
    assert len(ledger.cells()) == 3


def test_requests_are_numbered_from_one_without_a_gap(ledger):
    assert ledger.submit([]) == ()
    assert ledger.submit([request(n=1), request(n=2)]) == (1, 2)
    assert ledger.submit([request(n=3)]) == (3,)
    assert [r.sequence for r in ledger.requests()] == [1, 2, 3]
    assert [r.facts["n"] for r in ledger.requests()] == [1, 2, 3]
    assert ledger.request(2) == request(n=2, sequence=2)


def test_a_request_comes_back_with_all_it_has(ledger):
    facts = {"none": None, "text": "ü\n'\"", "deep": {"list": [1, 2.5, True, {"x": []}]}}
    full = Request(0, RECEIVED, items("b", "a"), frozenset({"p", "q"}), facts)
    assert ledger.submit([full]) == (1,)
    assert ledger.request(1) == replace(full, sequence=1)
    assert list(ledger.request(1).items) == list(full.items)
    assert ledger.requests() == (replace(full, sequence=1),)


def test_requests_are_found_by_state(ledger):
    states = (RECEIVED, ISOLATED, PURGED, REPAIRED, REJECTED)
    ledger.submit([request(n=state) for state in states])
    ledger.apply(Change(requests=tuple(replace(r, state=r.facts["n"]) for r in ledger.requests())))
    for i, state in enumerate(states, 1):
        assert [r.sequence for r in ledger.requests(state)] == [i]
    assert [r.sequence for r in ledger.requests(REPAIRED, RECEIVED)] == [1, 4]
    assert [r.sequence for r in ledger.requests(PURGED, RECEIVED)] == [1, 3]
    assert len(ledger.requests()) == 5
    assert ledger.requests("no such state") == ()


def test_a_purged_request_has_no_items_left(ledger):
    ledger.submit([request("a"), request("b")])
    ledger.apply(Change(requests=(replace(ledger.request(1), state=PURGED, items={}, facts={"n": 2}),)))
    assert ledger.request(1) == Request(1, PURGED, {}, frozenset(), {"n": 2})
    assert ledger.request(2).items == items("b")


def test_forgotten_is_what_any_request_removed(ledger):
    ledger.submit([request(), request()])
    assert ledger.forgotten(["p"]) == set()
    first, second = ledger.requests()
    ledger.apply(Change(requests=(first,), tombstones={"p": 1, "q": 1}))
    ledger.apply(Change(requests=(second,), tombstones={"r": 2, "q": 2}))
    assert ledger.forgotten(iter(["p", "r", "never"])) == {"p", "r"}
    assert ledger.forgotten([]) == set()
    assert ledger.tombstones() == {"p": 1, "q": 2, "r": 2}


def test_a_lifted_tombstone_is_gone_even_if_it_is_written_at_the_same_time(ledger):
    ledger.submit([request()])
    written = replace(ledger.request(1), pseudonyms=frozenset({"p", "q"}))
    ledger.apply(Change(requests=(written,)))
    ledger.apply(Change(requests=(written,), tombstones={"p": 1, "q": 1}, lifted=frozenset({"p", "never"})))
    assert ledger.tombstones() == {"q": 1}
    ledger.apply(Change(requests=(replace(written, state=REPAIRED),)))
    assert ledger.tombstones() == {"q": 1}, "writing the request again brings no tombstone back"
    assert ledger.request(1).pseudonyms == {"p", "q"}


def test_thousands_are_written_and_found(ledger):
    pseudonyms = [f"p{i}" for i in range(2500)]
    ledger.submit([request()])
    ledger.apply(Change(tombstones=dict.fromkeys(pseudonyms, 1)))
    assert ledger.forgotten([*pseudonyms, "never"]) == set(pseudonyms)
    ledger.apply(Change(lifted=frozenset(pseudonyms[:2000])))
    assert ledger.tombstones().keys() == set(pseudonyms[2000:])


def test_statements_are_appended_in_order(ledger):
    assert ledger.statements() == ()
    ledger.apply(Change(statements=("one", "two")))
    ledger.apply(Change(statements=("three",)))
    assert ledger.statements() == ("one", "two", "three")
    assert ledger.statements(1) == ("two", "three")
    assert ledger.statements(3) == ()


def test_notes_are_replaced_by_name(ledger):
    ledger.apply(Change(notes={"a": {"x": [1, None]}, "b": 2.5}))
    ledger.apply(Change(notes={"b": "text"}))
    assert ledger.notes() == {"a": {"x": [1, None]}, "b": "text"}


def test_what_is_handed_out_is_not_the_ledgers_own(ledger):
    plan(ledger, "a")
    ledger.commit(checkpoint("a", "x"))
    ledger.apply(Change(notes={"a": 1}))
    ledger.checkpoints().clear()
    ledger.notes().clear()
    assert ledger.checkpoints()
    assert ledger.notes()


@pytest.mark.parametrize("seed", range(3))
def test_every_history_reads_as_in_memory(ledger, seed):
    memory = MemoryLedger()
    rng = random.Random(seed)
    for operation in history(rng, 60):
        assert operation(ledger) == operation(memory)
    assert views(ledger) == views(memory)
    assert ledger.settle()
    assert views(ledger) == views(memory)


def test_commits_and_plans_from_many_threads_agree(ledger):
    plan(ledger, *(f"{i}" for i in range(50)))
    threads = [threading.Thread(target=ledger.commit, args=(checkpoint(f"{i}", f"b{i}"),)) for i in range(50)]
    threads += [threading.Thread(target=plan, args=(ledger, *(f"{i}" for i in range(25))))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {f"{i}" for i in range(25)} == set(ledger.checkpoints())
    assert ledger.references() == {f"b{i}" for i in range(25)}


def test_threads_that_submit_at_once_get_numbers_without_a_gap(ledger):
    numbers = []

    def work(name):
        for _ in range(5):
            numbers.extend(ledger.submit([request(n=name), request(n=name)]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 81))
    assert [r.sequence for r in ledger.requests()] == list(range(1, 81))


def test_nothing_of_a_dropped_state_stays_in_memory():
    ledger = MemoryLedger()
    plan(ledger, "a")
    ledger.commit(checkpoint("a", "digest of a state"))
    plan(ledger)
    assert b"digest of a state" not in pickle.dumps(ledger)


@pytest.mark.parametrize("duplicate", [copy, lambda ledger: pickle.loads(pickle.dumps(ledger))])
def test_a_copied_memory_ledger_is_independent(duplicate):
    ledger = MemoryLedger()
    plan(ledger, "a", "b")
    ledger.submit([request(n=1)])
    ledger.commit(checkpoint("a", "x"))
    other = duplicate(ledger)
    other.commit(checkpoint("b", "y"))
    other.submit([request(n=2)])
    other.apply(Change(keys={"b"}, notes={"n": 1}))
    assert ledger.checkpoints() == {"a": checkpoint("a", "x")}
    assert len(ledger.requests()) == 1
    assert ledger.notes() == {}
    assert ledger.unreferenced(["x"]) == set()
