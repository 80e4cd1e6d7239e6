from __future__ import annotations

import pickle
from fractions import Fraction

import pytest

from unlearnkit.blobs import blob_name
from unlearnkit.errors import StateError
from unlearnkit.learner import Step
from unlearnkit.plan import PlannedStep
from unlearnkit.store import Store


def step(key):
    return PlannedStep(
        Step(1, 2, Fraction(0), Fraction(1), Fraction(1), 0), key, None, 0, 1, classes=None, constant=False, place=2
    )


@pytest.fixture
def store():
    store = Store()
    store.replan({"a", "b"})
    return store


def test_a_state_is_found_by_its_key(store):
    assert store.save(step("a"), {"p": b"1", "q": b"2"}, "env")
    assert "a" in store
    assert "b" not in store
    assert 5 not in store
    assert store.parts("a") == {"p": b"1", "q": b"2"}
    assert store.ledger.checkpoint("a").shard == 1
    assert store.ledger.checkpoint("a").slice == 2


def test_a_state_that_is_no_longer_planned_leaves_nothing(store):
    store.save(step("a"), {"p": b"shared"}, "env")
    assert not store.save(step("gone"), {"p": b"shared", "q": b"own"}, "env")
    assert list(store.blobs.names()) == [blob_name(b"shared")]


def test_replanning_destroys_what_is_left_out_and_nothing_else(store):
    store.save(step("a"), {"p": b"shared", "q": b"own"}, "env")
    store.save(step("b"), {"p": b"shared"}, "env")
    assert store.replan({"b"}) == 1
    assert "a" not in store
    assert store.parts("b") == {"p": b"shared"}
    assert list(store.blobs.names()) == [blob_name(b"shared")]


def test_a_replaced_state_leaves_nothing(store):
    store.save(step("a"), {"p": b"old", "q": b"same"}, "env")
    store.save(step("a"), {"p": b"new", "q": b"same"}, "env")
    assert store.parts("a") == {"p": b"new", "q": b"same"}
    assert set(store.blobs.names()) == {blob_name(b"new"), blob_name(b"same")}


def test_a_missing_or_damaged_state_is_an_error(store):
    with pytest.raises(StateError, match="no state"):
        store.parts("a")
    store.save(step("a"), {"p": b"true"}, "env")
    assert store.is_whole(store.ledger.checkpoint("a"))
    store.blobs._data[blob_name(b"true")] = b"false"
    assert not store.is_whole(store.ledger.checkpoint("a"))
    with pytest.raises(StateError, match="named by"):
        store.parts("a")


def test_a_copy_is_of_one_moment_and_independent(store):
    store.save(step("a"), {"p": b"1"}, "env")
    other = pickle.loads(pickle.dumps(store))
    store.save(step("b"), {"p": b"2"}, "env")
    store.replan({"b"})
    assert other.parts("a") == {"p": b"1"}
    assert "b" not in other
