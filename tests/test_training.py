from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from unlearnkit.errors import CapabilityError, StateError, TrainingError
from unlearnkit.learner import Capabilities
from unlearnkit.training import (
    ShardTask,
    load_constant,
    make_batch,
    prefix_codes,
    save_constant,
    train_shard,
)
from unlearnkit.workers import run_task


@dataclass
class Recorder:
    """A learner that writes down what it is given; its state in memory differs from what it loads."""

    batches: list
    error: Exception | None = None
    fails_at: int = 1

    capabilities = Capabilities("classification", resumable=True, max_slices=None, sample_weight=True)
    fingerprint = "recorder"

    def train(self, state, batch, step):
        self.batches.append((state, batch, step))
        if self.error is not None and step.slice >= self.fails_at:
            raise self.error
        return {"n": len(batch.y), "decoded": False}

    def save(self, state):
        return {"n": json.dumps(state["n"]).encode()}

    def load(self, parts):
        return {"n": json.loads(parts["n"]), "decoded": True}

    def predict(self, state, X):
        return np.zeros((len(X), 2))


@pytest.fixture
def task(helpers):
    """The task of a whole shard of three slices, each with all classes."""
    X, y, ids = helpers.rows(60)
    model = helpers.build(Recorder([]), n_shards=1, n_jobs=1).fit(X, y, ids=ids, sample_weight=np.ones(60))
    steps = model._build.plan.shards[0]
    assert [s.slice for s in steps] == [0, 1, 2]
    return ShardTask(Recorder([]), model._build.records.shard(0), steps, None, model.schema.labels)


def test_each_step_trains_on_from_a_decoded_state(task):
    list(train_shard(task))
    states = [state for state, _, _ in task.learner.batches]
    assert states[0] is None
    assert all(state["decoded"] for state in states[1:])


def test_the_batch_is_the_prefix(task):
    list(train_shard(task))
    for (_, batch, step), planned in zip(task.learner.batches, task.steps, strict=True):
        assert step == planned.step
        assert len(batch.y) == planned.n == len(batch.X) == len(batch.u) == len(batch.sample_weight)
        assert batch.n_old == planned.n_old
        assert (task.records.X[: planned.n] == batch.X).all()
        assert len(batch.X_shard) == task.records.n_active
        assert batch.classes.tolist() == [0, 1]


def test_scratch_is_shared_by_the_steps_of_a_shard(task):
    list(train_shard(task))
    assert len({id(batch.scratch) for _, batch, _ in task.learner.batches}) == 1


def test_a_restart_gets_no_state_and_no_scratch(task):
    restarted = replace(task.steps[2], parent=None, n_old=0)
    task = replace(task, steps=(*task.steps[:2], restarted))
    list(train_shard(task))
    state, batch, _ = task.learner.batches[2]
    assert state is None
    assert batch.scratch is not task.learner.batches[1][1].scratch


def test_a_constant_is_held_by_the_core(task):
    constant = replace(task.steps[0], constant=True, classes=(1,))
    trained = list(train_shard(replace(task, steps=(constant,))))
    assert load_constant(trained[0].parts) == 1
    assert task.learner.batches == []


def test_an_error_carries_shard_slice_and_cause_and_keeps_what_was_trained(task):
    task = replace(task, learner=Recorder([], ValueError("secret value 3.14")))
    *trained, error = run_task(task, {})
    assert [t.step.slice for t in trained] == [0]
    assert isinstance(error, TrainingError)
    assert (error.shard, error.slice, error.cause) == (0, 1, "ValueError")


@pytest.mark.parametrize("error", [CapabilityError("no"), StateError("no"), MemoryError()])
def test_errors_that_are_no_fault_of_the_data_pass_through(task, error):
    with pytest.raises(type(error)):
        run_task(replace(task, learner=Recorder([], error)), {})


def test_codes_of_a_prefix_count_its_own_classes():
    y = np.array([3, 1, 3])
    assert prefix_codes(y, (1, 3)).tolist() == [1, 0, 1]
    assert prefix_codes(y, None) is y
    full = np.array([0, 1, 2])
    assert prefix_codes(full, (0, 1, 2)) is full


def test_labels_stand_behind_the_codes(task):
    planned = replace(task.steps[0], classes=(1,))
    assert make_batch(task.records, planned, np.array(["a", "b"]), {}).classes.tolist() == ["b"]
    assert make_batch(task.records, replace(planned, classes=None), None, {}).classes is None


@pytest.mark.parametrize("parts", [{}, {"constant": b"x"}, {"constant": b'"1"'}, {"constant": b"1", "more": b""}])
def test_a_constant_that_is_none(parts):
    with pytest.raises(StateError):
        load_constant(parts)
    assert load_constant(save_constant(2)) == 2
