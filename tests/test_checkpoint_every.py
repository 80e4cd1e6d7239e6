"""States of every so-manieth slice: what is kept follows from the plan alone, and nothing else changes."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from unlearnkit import SISAClassifier, load
from unlearnkit.errors import ParameterError, StoreInUseError
from unlearnkit.plan import missing, needed, repeated, standing
from unlearnkit.testing import RememberingLearner


@pytest.fixture
def data(helpers):
    return helpers.rows(120)


def fitted(helpers, data, every, **options):
    X, y, ids = data
    options = {"n_shards": 2, "n_slices": 6} | options
    return helpers.build(checkpoint_every=every, **options).fit(X, y, ids=ids)


def kept(model, shard=0):
    return [step.slice for step in model.plan.shards[shard] if step.kept]


def stored(model, shard=0):
    return [step.slice for step in model.plan.shards[shard] if step.key in model.store]


def members(model, data, shard, place):
    """The ids of the records of a cell."""
    rows = {tuple(row) for row in model._build.records.cell(shard, place).X.tolist()}
    return [int(i) for row, i in zip(data[0].tolist(), data[2], strict=True) if tuple(row) in rows]


@pytest.mark.parametrize(
    ("every", "expected"),
    [(1, [0, 1, 2, 3, 4, 5]), (2, [1, 3, 5]), (4, [3, 5]), (6, [5]), (50, [5])],
)
def test_every_so_manieth_slice_and_the_last_are_kept(helpers, data, every, expected):
    model = fitted(helpers, data, every)
    assert [kept(model, s) for s in (0, 1)] == [stored(model, s) for s in (0, 1)] == [expected] * 2


def test_it_is_in_no_key_and_changes_no_prediction(helpers, data):
    every, sparse = fitted(helpers, data, 1), fitted(helpers, data, 4)
    assert every.plan.keys == sparse.plan.keys
    assert (every.predict(data[0]) == sparse.predict(data[0])).all()
    assert every.model_digest != sparse.model_digest


@pytest.mark.parametrize("every", [2, 4, 50])
@pytest.mark.parametrize("place", range(6))
def test_forgetting_equals_a_fit_without_wherever_it_hits(helpers, data, every, place):
    model = fitted(helpers, data, every)
    gone = members(model, data, 1, place)[:2]
    receipt = model.forget(gone)
    rest = ~np.isin(data[2], gone)
    twin = helpers.build(
        checkpoint_every=every, n_shards=2, n_slices=6, partition=model.config.partition, schema=model.schema
    )
    twin.fit(data[0][rest], data[1][rest], ids=data[2][rest])
    assert twin.model_digest == model.model_digest
    assert helpers.remembered(model) == helpers.remembered(twin)
    before = (place // every) * every
    assert (receipt.steps_retrained, receipt.steps_repeated) == (6 - place, place - before)
    assert model.verify().exact


def test_what_is_emptied_at_the_end_moves_the_last_state_kept(helpers, data):
    model = fitted(helpers, data, 4)
    receipt = model.forget(members(model, data, 0, 5))
    assert kept(model) == stored(model) == [3, 4]
    assert (receipt.steps_retrained, receipt.steps_repeated) == (0, 1)


def test_an_arrival_goes_on_from_the_last_state_which_is_then_dropped(helpers, data):
    model = fitted(helpers, data, 4)
    model.learner.trained.clear()
    X, y, ids = helpers.rows(30, seed=1)
    model.partial_fit(X, y, ids=ids + 1000)
    assert {step.slice for step in model.learner.trained} == {6}
    assert kept(model) == stored(model) == [3, 6]
    names = {name for c in model.store.checkpoints().values() for _, name in c.parts}
    assert set(model.store.blobs.names()) == names


def test_steps_that_lead_to_no_kept_state_are_not_trained(helpers, data):
    """A step that starts anew goes on from nothing before it."""
    model = fitted(helpers, data, 6)
    steps = model.plan.shards[0]
    anew = (*steps[:3], replace(steps[3], parent=None, n_old=0), *steps[4:])
    assert [s.slice for s in needed(anew)] == [3, 4, 5]
    assert [s.slice for s in missing(anew, set())] == [3, 4, 5]
    assert standing(anew, {steps[1].key}).slice == 1


def test_a_lost_state_is_trained_from_the_last_that_is_kept(helpers, data):
    model = fitted(helpers, data, 2)
    steps = model.plan.shards[0]
    model.store.drop([steps[3].key])
    assert [s.slice for s in missing(steps, model.store.checkpoints())] == [2, 3, 4, 5]
    assert standing(steps, model.store.checkpoints()).slice == 1
    assert [s.slice for s in repeated(model._context, steps, 3)] == [2]
    before = model.model_digest
    model.repair()
    assert stored(model) == [1, 3, 5]
    assert model.model_digest != before
    assert model.verify().exact


def test_between_isolate_and_repair_the_last_sound_kept_state_answers(helpers, data):
    model = fitted(helpers, data, 2)
    gone = members(model, data, 0, 3)[:1]
    model.forget(gone, repair=False)
    assert model.snapshot.constituents[0].step.slice == 1
    assert model.degraded_shards == (0,)


def test_an_estimate_tells_repeated_steps_apart(helpers, data):
    model = fitted(helpers, data, 4)
    gone = members(model, data, 0, 2)[:1]
    known = model.estimate(gone)
    receipt = model.forget(gone)
    assert (known.n_steps, known.n_repeated) == (receipt.steps_retrained, receipt.steps_repeated) == (4, 2)
    assert 0 < known.cost_share < 0.6


def test_it_is_carried_by_pinned_pickles_and_stores(remember, data, tmp_path):
    X, y, ids = data
    options = {"n_shards": 2, "n_slices": 4, "random_state": 0, "checkpoint_every": 3}
    clf = SISAClassifier(remember(), **options, store=tmp_path / "a").fit(X, y, ids=ids)
    assert clf.pinned().checkpoint_every == 3
    again = load(tmp_path / "a", estimator=remember())
    assert again.pinned().checkpoint_every == 3
    clf.forget(int(ids[0]))
    assert again.model_digest_ == clf.model_digest_ == clf.pinned().fit(X[1:], y[1:], ids=ids[1:]).model_digest_
    assert pickle.loads(pickle.dumps(again)).model_digest_ == clf.model_digest_
    with pytest.raises(StoreInUseError, match="checkpoint_every"):
        SISAClassifier(remember(), **options | {"checkpoint_every": 2}, store=tmp_path / "a").fit(X, y, ids=ids)


@pytest.mark.parametrize("every", [0, -1, 1.5, "2", True])
def test_it_is_a_whole_number_of_at_least_one(remember, data, every):
    with pytest.raises(ParameterError, match="checkpoint_every"):
        SISAClassifier(remember(), checkpoint_every=every).fit(*data[:2])


def test_a_shard_that_cannot_be_trained_keeps_no_state_in_passing(helpers, data):
    """Otherwise it would answer with what a fresh fit has not."""

    class Fails(RememberingLearner):
        def train(self, state, batch, step):
            if step.slice == 6 and step.shard == 0:
                raise ValueError("no")
            return super().train(state, batch, step)

    model = fitted(helpers, data, 4, n_shards=1)
    model._learner = Fails()
    X, y, ids = helpers.rows(30, seed=1)
    with pytest.warns(RuntimeWarning, match="Shard 0"):
        model.partial_fit(X, y, ids=ids + 1000)
    assert stored(model) == [3]
    assert model.snapshot.constituents[0].step.slice == 3


def test_the_map_says_abstains_only_of_shards_that_do(helpers, data):
    for every in (1, 2, 3):
        model = fitted(helpers, data, every)
        for place in (0, 1, 3):
            model.forget(members(model, data, 0, place)[:1], repair=False)
            answering = tuple(state is not None for state in model.constituents)
            assert tuple(row.serves for row in model.layout) == answering
