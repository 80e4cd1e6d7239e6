from __future__ import annotations

import joblib
import pytest

from unlearnkit.build import Builder
from unlearnkit.errors import EnvironmentChangedError
from unlearnkit.plan import missing
from unlearnkit.store import Store
from unlearnkit.testing import RememberingLearner


@pytest.fixture
def model(helpers):
    X, y, ids = helpers.rows(90)
    return helpers.build().fit(X, y, ids=ids)


def builder(model, learner=None, environment="env", n_jobs=1):
    return Builder(learner or RememberingLearner(), model.schema.labels, environment, n_jobs)


def store_for(model):
    store = Store()
    store.replan(model._build.plan.keys)
    return store


def build(model, store, learner=None, environment="env", **options):
    done = []
    found = builder(model, learner, environment, options.pop("n_jobs", 1)).build(
        model._build,
        store,
        lambda trained, kept: done.append((trained.step, kept)),
        **options,
    )
    return found, done


def test_only_what_the_store_lacks_is_trained(model):
    store, learner = store_for(model), RememberingLearner()
    steps = model._build.plan.shards[1]
    build(model, store)
    store.replan(model._build.plan.keys - {steps[2].key})
    store.replan(model._build.plan.keys)
    assert missing(steps, store.ledger.checkpoints()) == steps[2:]
    _, done = build(model, store, learner)
    assert learner.trained == [steps[2].step]
    assert done == [(steps[2], True)]
    assert build(model, store, learner)[1] == []


def test_shards_may_be_left_alone(model):
    store, learner = store_for(model), RememberingLearner()
    build(model, store, learner, without=frozenset({0, 2}))
    assert {step.shard for step in learner.trained} == {1}


def test_a_result_that_is_no_longer_planned_is_dropped_and_said_so(model):
    store = store_for(model)

    class Meanwhile(RememberingLearner):
        def train(self, state, batch, step):
            store.replan(set())
            return super().train(state, batch, step)

    _, done = build(model, store, Meanwhile())
    # The other shards are not even begun.
    assert [kept for _, kept in done] == [False] * len(model._build.plan.shards[0])
    assert list(store.blobs.names()) == []


def test_training_on_in_another_environment_is_refused_before_anything_is_trained(model):
    store, learner = store_for(model), RememberingLearner()
    build(model, store)
    last = model._build.plan.shards[2][-1]
    store.replan(model._build.plan.keys - {last.key} - {s.key for s in model._build.plan.shards[0]})
    store.replan(model._build.plan.keys)
    with pytest.raises(EnvironmentChangedError, match="Shard 2"):
        build(model, store, learner, environment="other")
    assert learner.trained == []
    assert build(model, store, learner, environment="env")[0] == {}


def test_starting_in_another_environment_is_no_mixture(model):
    store = store_for(model)
    build(model, store)
    store.replan(model._build.plan.keys - {s.key for s in model._build.plan.shards[0]})
    store.replan(model._build.plan.keys)
    assert build(model, store, environment="other")[0] == {}


@pytest.mark.parametrize("backend", ["threading", "loky"])
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_jobs_and_backends_never_change_a_byte(model, backend, n_jobs):
    alone, together = store_for(model), store_for(model)
    build(model, alone)
    with joblib.parallel_config(backend, n_jobs=2):
        build(model, together, n_jobs=n_jobs)
    assert set(alone.blobs.names()) == set(together.blobs.names())
    assert all(alone.parts(key) == together.parts(key) for key in model._build.plan.keys)
