"""Few rows are predicted from all constituents in one call, once that pays, and no bit is another."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from unlearnkit import joining
from unlearnkit.aggregation import choose
from unlearnkit.data import SliceFacts
from unlearnkit.joining import FEW_ROWS, WORTH_IT, Joint
from unlearnkit.learner import Capabilities
from unlearnkit.plan import Context, plan_shard
from unlearnkit.serving import Constituent, Snapshot

CONTEXT = Context("f", 0, 2, "s", n_classes=3, resumable=True, absent_classes=False)
ONE_ROW, MANY_ROWS = np.zeros((1, 1)), np.zeros((FEW_ROWS + 1, 1))
WHOLE = [*np.random.default_rng(0).random((7, 3))]


class Able:
    """Predicts its state for every row, from many states in one call, too, and counts what it is asked."""

    capabilities = Capabilities("classification", probabilities=True)
    fingerprint = "able"

    def __init__(self, *, joins=True, gives=list):
        self.joins, self.gives, self.of, self.alone, self.together = joins, gives, [], 0, 0

    def predict(self, state, X):
        self.alone += 1
        return np.tile(np.asarray(state, dtype=float), (X.shape[0], 1))

    def joined(self, states):
        self.of.append(list(states))
        return (lambda X: self._all(states, X)) if self.joins else None

    def _all(self, states, X):
        self.together += 1
        return self.gives([np.tile(np.asarray(state, dtype=float), (X.shape[0], 1)) for state in states])


def step(*classes):
    return plan_shard(CONTEXT, 0, [SliceFacts(2, "d", frozenset(classes)), SliceFacts(0, "", frozenset())])[0]


def snapshot(learner, *constituents):
    return Snapshot(learner, choose("mean", Able.capabilities), 3, constituents, None, None)


def of_states(learner, states):
    return snapshot(learner, *(Constituent(step(0, 1, 2), state, None) for state in states))


def asked(found, times=WORTH_IT, X=ONE_ROW):
    return [found.predict(X).tobytes() for _ in range(times)]


@pytest.mark.parametrize("gives", [list, iter, np.array])
def test_it_waits_until_it_pays(gives):
    learner = Able(gives=gives)
    found = of_states(learner, WHOLE)
    before = asked(found, WORTH_IT - 1)
    assert (learner.of, learner.together) == ([], 0)
    assert asked(found, 3) == before[:3]
    assert (len(learner.of), learner.together) == (1, 3)
    assert learner.alone == 7 * (WORTH_IT - 1)


def test_many_rows_are_asked_of_each_and_count_for_nothing():
    learner = Able()
    found = of_states(learner, WHOLE)
    asked(found, WORTH_IT + 1, MANY_ROWS)
    assert learner.of == []
    asked(found)
    found.predict(MANY_ROWS)
    assert learner.together == 1


@pytest.mark.parametrize("rule", ["vote", lambda predictions, present: predictions.max(axis=0) * present.sum()])
def test_other_aggregations(rule):
    learner = Able(gives=np.array)
    found = replace(of_states(learner, WHOLE), aggregation=choose(rule, Able.capabilities))
    assert len(set(asked(found, WORTH_IT + 1))) == 1
    assert learner.together == 2


def test_one_that_abstains_is_not_counted():
    learner = Able(gives=np.array)
    whole = of_states(learner, WHOLE)
    found = replace(whole, constituents=(None, *whole.constituents), joint=Joint())
    assert asked(found, WORTH_IT + 1)[-1] == asked(whole, 1)[0]


@pytest.mark.parametrize("shape", [(1,), (1, 1), (1, 2), (5,), (64, 3)])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_mean_of_an_array_has_the_bits_of_that_of_its_items(shape, dtype):
    rng, mean = np.random.default_rng(0), choose("mean", Able.capabilities)
    for n in (1, 2, 9, 200):
        given = (rng.normal(size=(n, *shape)) * 10.0 ** rng.integers(-9, 9, size=(n, *shape))).astype(dtype)
        together, apart = mean(given), mean(iter(given))
        assert (together.dtype, together.shape, together.tobytes()) == (apart.dtype, apart.shape, apart.tobytes())


@pytest.mark.parametrize("gives", [list, np.array])
def test_constants_and_absent_classes_are_where_they_belong(gives):
    learner = Able(gives=gives)
    constituents = (
        Constituent(step(1), None, 1),
        None,
        Constituent(step(0, 2), [0.25, 0.75], None),
        Constituent(step(0, 2), [0.5, 0.5], None),
    )
    found = snapshot(learner, *constituents)
    (first,) = set(asked(found, WORTH_IT + 2))
    assert learner.together == 3
    assert learner.of == [[[0.25, 0.75], [0.5, 0.5]]]
    assert np.frombuffer(first).tolist() == [0.25, 1 / 3, 1.25 / 3]


def test_nothing_but_constants_is_not_joined():
    learner = Able()
    asked(snapshot(learner, Constituent(step(1), None, 1)), WORTH_IT + 1)
    assert learner.of == []


def test_what_cannot_be_joined_is_tried_once():
    learner = Able(joins=False)
    asked(of_states(learner, WHOLE), 3 * WORTH_IT)
    assert len(learner.of) == 1
    assert learner.alone == 7 * 3 * WORTH_IT


def test_a_learner_without_the_ability_is_left_alone():
    plain = SimpleNamespace(predict=Able().predict)
    assert len(set(asked(of_states(plain, WHOLE), WORTH_IT + 1))) == 1


def test_another_snapshot_begins_anew():
    learner = Able()
    asked(of_states(learner, WHOLE))
    other = of_states(learner, WHOLE[:3])
    asked(other, WORTH_IT - 1)
    assert len(learner.of) == 1
    asked(other, 1)
    assert [len(states) for states in learner.of] == [7, 3]


def test_nobody_waits_for_a_thread_that_joins():
    joins, goes_on = threading.Event(), threading.Event()

    class Slow(Able):
        def joined(self, states):
            joins.set()
            assert goes_on.wait(60)
            return super().joined(states)

    learner = Slow()
    found = of_states(learner, WHOLE)
    before = asked(found, WORTH_IT - 1)[0]
    worker = threading.Thread(target=found.predict, args=(ONE_ROW,))
    worker.start()
    assert joins.wait(60)
    assert asked(found, 2) == [before] * 2
    goes_on.set()
    worker.join()
    assert asked(found, 1) == [before]
    assert (len(learner.of), learner.together) == (1, 2)


def test_an_error_while_joining_is_told_once_and_each_is_asked_as_before(monkeypatch):
    monkeypatch.setattr(joining, "WORTH_IT", 1)

    class Unlucky(Able):
        def joined(self, states):
            raise MemoryError

    learner = Unlucky()
    found = of_states(learner, WHOLE)
    with pytest.warns(RuntimeWarning, match=r"could not be joined \(MemoryError"):
        first = found.predict(ONE_ROW).tobytes()
    assert asked(found, 2) == [first] * 2
