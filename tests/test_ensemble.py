from __future__ import annotations

import copy
import io
import json
import pickle
import threading
from dataclasses import dataclass, field, replace
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearnkit import environment
from unlearnkit.errors import (
    DataError,
    EnvironmentChangedError,
    NoConstituentError,
    ParameterError,
    SchemaError,
    StateError,
    TrainingError,
    UnknownRecordError,
)
from unlearnkit.learner import Capabilities
from unlearnkit.plan import missing
from unlearnkit.testing import RememberingLearner
from unlearnkit.training import TrainedStep, make_batch


@dataclass
class Picky(RememberingLearner):
    """Cannot be trained on fewer than so many rows."""

    least: int = 2

    def train(self, state, batch, step):
        if len(batch.y) < self.least:
            raise ValueError(f"{len(batch.y)} rows, the first being {batch.X[:1]}")
        return super().train(state, batch, step)


@dataclass
class Blocking(RememberingLearner):
    """Waits in its next step, once it is told to."""

    wait: bool = False
    started: Any = field(default_factory=threading.Event, compare=False)
    go_on: Any = field(default_factory=threading.Event, compare=False)

    def __getstate__(self):
        return super().__getstate__() | {"started": None, "go_on": None}

    def train(self, state, batch, step):
        if self.wait:
            self.wait = False
            self.started.set()
            assert self.go_on.wait(30)
        return super().train(state, batch, step)


@dataclass
class Interrupted(RememberingLearner):
    """Calls back in the middle of a prediction."""

    during: Any = None

    def predict(self, state, X):
        if self.during is not None:
            during, self.during = self.during, None
            during()
        return super().predict(state, X)


class Rounding:
    """Its state in memory is finer than what it stores."""

    capabilities = Capabilities("regression", resumable=True, max_slices=None, parallel="threads")
    fingerprint = "rounding"

    def train(self, state, batch, step):
        return (0.0 if state is None else state) * 3 + float(batch.y[batch.n_old :].sum())

    def predict(self, state, X):
        return np.full(len(X), state)

    def save(self, state):
        return {"value": b"%.1f" % state}

    def load(self, parts):
        return float(parts["value"])


@pytest.fixture
def data(helpers):
    return helpers.rows(90)


@pytest.fixture
def model(helpers, data):
    X, y, ids = data
    return helpers.build().fit(X, y, ids=ids)


@pytest.fixture
def exact(helpers, data):
    """A function that says whether a model is that which never saw these ids."""

    def exact(model, gone, **options):
        X, y, ids = data
        keep = ~np.isin(ids, gone)
        return helpers.twin(model, **options).fit(X[keep], y[keep], ids=ids[keep]).model_digest == model.model_digest

    return exact


def of_shard(model, ids, shard, r=None):
    """Those of the ids that are of this shard, and slice."""
    cells = model.partition.locate(ids)
    return [i for i, (s, t) in zip(ids.tolist(), cells, strict=True) if s == shard and r in (None, t)]


def from_every_shard(model, ids):
    return [of_shard(model, ids, s)[0] for s in range(3)]


# -- exactness -------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_history_is_exact_trains_what_changed_and_remembers_nothing(helpers, data):
    draw = data.draw
    n, classes = draw(st.integers(6, 40)), draw(st.integers(2, 3))
    X, y, _ = helpers.rows(n, seed=draw(st.integers(0, 99)), classes=classes)
    ids = np.array(draw(st.lists(st.integers(0, n // 2), min_size=n, max_size=n)))
    weight = np.array(draw(st.lists(st.sampled_from([0.0, 1.0, 2.5]), min_size=n, max_size=n)))
    weight[0] = 1
    learner = RememberingLearner(resumable=draw(st.booleans()), absent_classes=draw(st.booleans()))
    shards, slices = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    model = helpers.build(learner, n_shards=shards, n_slices=slices).fit(X, y, weight, ids=ids)
    gone: set[int] = set()
    for _ in range(draw(st.integers(1, 3))):
        if gone >= set(ids.tolist()):
            break
        request = draw(st.lists(st.sampled_from(sorted(set(ids.tolist()) - gone)), min_size=1, max_size=4))
        repair = draw(st.booleans())
        before = model._build.plan
        learner.trained.clear()
        estimate = model.estimate(request)
        receipt = model.forget(request, repair=False)
        gone |= set(request)
        forgotten = {(*x, float(c), w) for x, c, w, i in zip(X.tolist(), y, weight, ids, strict=True) if i in gone}
        kept = {(*x, float(c), w) for x, c, w, i in zip(X.tolist(), y, weight, ids, strict=True) if i not in gone}
        assert not learner.trained
        leaked = {record[:3] for record in helpers.remembered(model)} & {r[:3] for r in forgotten - kept}
        assert not leaked
        due = [s for steps in model._build.plan.shards for s in missing(steps, model.store.ledger.checkpoints())]
        assert estimate.n_steps == len(due)
        assert (receipt.repaired_at is None) == bool(set(receipt.shards) & {s.shard for s in due})
        if not repair:
            continue
        model.repair()
        assert sorted((s.shard, s.slice) for s in learner.trained) == [
            (s.shard, s.slice) for s in due if not s.constant
        ]
        assert {s.key for s in model._build.plan} - before.keys <= {s.key for s in due}
        assert not {record[:3] for record in helpers.remembered(model)} & {r[:3] for r in forgotten - kept}
    model.repair()
    keep = ~np.isin(ids, list(gone))
    order = np.random.default_rng(0).permutation(np.flatnonzero(keep))
    fresh = helpers.twin(model).fit(X[order], y[order], weight[order], ids=ids[order])
    assert fresh.model_digest == model.model_digest
    assert model.degraded_shards == ()


def test_forgetting_trains_exactly_the_steps_whose_keys_changed(model, data):
    _, _, ids = data
    before = model._build.plan
    model.learner.trained.clear()
    receipt = model.forget(of_shard(model, ids, 1, 1)[0])
    changed = [s.step for s in model._build.plan if s.key not in before.keys]
    assert [(s.shard, s.slice) for s in changed] == [(1, 1), (1, 2)]
    assert model.learner.trained == changed
    assert receipt.shards == {1: 1}
    assert receipt.steps_retrained == receipt.states_destroyed == 2
    assert receipt.steps_total == len(model._build.plan.keys)


def test_many_requests_in_one_call_train_each_step_once(model, data, exact):
    _, _, ids = data
    model.learner.trained.clear()
    model.forget(ids[:30])
    assert len({(s.shard, s.slice) for s in model.learner.trained}) == len(model.learner.trained) <= 9
    assert exact(model, ids[:30])


def test_isolated_requests_are_repaired_together(model, data, exact):
    _, _, ids = data
    model.learner.trained.clear()
    receipts = [model.forget(i, repair=False) for i in ids[:10].tolist()]
    assert all(r.repaired_at is None and r.digest_after is None for r in receipts)
    assert not model.learner.trained
    repaired = model.repair()
    assert [r.request_id for r in repaired] == list(range(1, 11))
    assert len({(s.shard, s.slice) for s in model.learner.trained}) == len(model.learner.trained) <= 9
    assert {r.digest_after for r in repaired} == {model.model_digest}
    assert all(r.repaired_at >= r.isolated_at for r in repaired)
    assert exact(model, ids[:10])
    assert model.repair() == ()


def test_one_call_and_several_come_to_the_same(helpers, data):
    X, y, ids = data
    at_once, one_by_one = (helpers.build().fit(X, y, ids=ids) for _ in range(2))
    at_once.forget(ids[:5])
    for i in ids[4::-1].tolist():
        one_by_one.forget(i)
    assert at_once.model_digest == one_by_one.model_digest


def test_states_destroyed_counts_states_that_were_there(model, data):
    _, _, ids = data
    first, second = of_shard(model, ids, 0, 0)[:2]
    assert model.forget(first, repair=False).states_destroyed == 3
    assert model.forget(second, repair=False).states_destroyed == 0


def careless(task):
    """`train_shard` as it must not be: from the state in memory instead of the stored bytes."""
    state = None
    for planned in task.steps:
        if planned.parent is None:
            state = None
        elif state is None:
            state = task.learner.load(task.parent)
        state = task.learner.train(state, make_batch(task.records, planned, task.labels, {}), planned.step)
        yield TrainedStep(planned, task.learner.save(state), 0.0)


@pytest.mark.parametrize("broken", [False, True])
def test_exactness_fails_on_a_core_that_trains_from_the_undecoded_state(helpers, data, exact, monkeypatch, broken):
    X, _, ids = data
    if broken:
        monkeypatch.setattr("unlearnkit.workers.train_shard", careless)
    y = np.round(X[:, 0] * 100) / 7
    model = helpers.build(Rounding(), n_slices=5).fit(X, y, ids=ids)
    last = [i for s in range(3) for i in of_shard(model, ids, s, 4)]
    model.forget(last[:4])
    keep = ~np.isin(ids, last[:4])
    fresh = helpers.twin(model).fit(X[keep], y[keep], ids=ids[keep])
    assert (fresh.model_digest == model.model_digest) != broken


@pytest.mark.parametrize("how", ["one shard", "all but one", "everything"])
def test_forgetting_whole_shards(helpers, model, data, how):
    X, y, ids = data
    gone = {"one shard": of_shard(model, ids, 1), "all but one": ids[1:], "everything": ids}[how]
    receipt = model.forget(gone)
    assert receipt.repaired_at is not None
    keep = ~np.isin(ids, gone)
    fresh = helpers.twin(model).fit(X[keep], y[keep], ids=ids[keep])
    assert fresh.model_digest == model.model_digest
    assert [c is None for c in model.constituents] == [c is None for c in fresh.constituents]
    if how == "everything":
        with pytest.raises(NoConstituentError):
            model.predict(X)
        with pytest.raises(NoConstituentError):
            fresh.predict(X)
    else:
        assert (model.predict(X) == fresh.predict(X)).all()


def test_rows_of_one_id_go_together(helpers, data):
    X, y, ids = data
    ids = ids // 10
    model = helpers.build().fit(X, y, ids=ids)
    receipt = model.forget(ids[0])
    assert receipt.n_ids == 1
    assert receipt.n_records == (ids == ids[0]).sum() > 1


def test_a_row_of_weight_zero_goes_and_changes_nothing(helpers, data):
    X, y, ids = data
    weight = np.ones(90)
    weight[:5] = 0
    X[0, 0] = 123.456
    model = helpers.build().fit(X, y, weight, ids=ids)
    before, snapshot = model.model_digest, model._snapshot.constituents
    assert np.float64(123.456).tobytes() in pickle.dumps(model)
    receipt = model.forget(ids[:5])
    assert (receipt.n_records, receipt.shards, receipt.states_destroyed) == (5, {}, 0)
    assert receipt.repaired_at is not None
    assert receipt.digest_after == before == model.model_digest
    assert model._snapshot.constituents == snapshot
    assert np.float64(123.456).tobytes() not in pickle.dumps(model)


# -- requests --------------------------------------------------------------------------------------------------------


def test_requests_are_idempotent(model, data):
    _, _, ids = data
    first = model.forget([ids[0], ids[0], str(ids[0]), ids[1]])
    assert (first.n_ids, first.n_records, first.already_forgotten) == (2, 2, 0)
    after = model.model_digest
    model.learner.trained.clear()
    again = model.forget([ids[0], ids[1]])
    assert (again.n_ids, again.n_records, again.already_forgotten) == (2, 0, 2)
    assert again.repaired_at is not None
    assert model.model_digest == after
    assert not model.learner.trained


def test_no_ids_is_a_request_of_none(model):
    before = model.model_digest
    receipt = model.forget([])
    assert (receipt.n_ids, receipt.n_records, receipt.digest_after) == (0, 0, before)


def test_an_unknown_id_changes_nothing(model, data):
    _, _, ids = data
    model.estimate(ids[:1])  # what is worked out once, such as the key of the pseudonyms
    kept = pickle.dumps(model)
    with pytest.raises(UnknownRecordError, match=r"2 ids of 3 given .*positions in the request: 0, 2"):
        model.forget([-1, ids[0], -2])
    with pytest.raises(UnknownRecordError):
        model.estimate([-1])
    assert pickle.dumps(model) == kept


def test_unknown_ids_can_be_skipped(model, data, exact):
    _, _, ids = data
    receipt = model.forget((i for i in [-1, int(ids[0]), "-2"]), missing="ignore")
    assert receipt.skipped == (0, 2)
    assert receipt.n_records == 1
    assert exact(model, ids[:1])
    with pytest.raises(ParameterError, match="neither"):
        model.forget(ids[0], missing="skip")


def test_what_was_skipped_is_not_taken_for_forgotten(model):
    model.forget([-1], missing="ignore")
    with pytest.raises(UnknownRecordError):
        model.forget([-1])


def test_positions_never_shift(helpers, data):
    X, y, _ = data
    model = helpers.build().fit(X, y)
    for position in (0, 5, 1):
        assert model.forget(position).n_records == 1
    assert model.forget([0, "5", 2]).already_forgotten == 2
    keep = np.setdiff1d(np.arange(90), [0, 1, 2, 5])
    assert helpers.twin(model).fit(X[keep], y[keep]).model_digest == model.model_digest
    with pytest.raises(UnknownRecordError):
        model.forget(90)


def test_one_of_two_equal_rows_can_go(helpers, data):
    X, y, _ = data
    X, y = np.concatenate([X, X[:3]]), np.concatenate([y, y[:3]])
    model = helpers.build().fit(X, y)
    model.forget(90)
    assert helpers.twin(model).fit(np.delete(X, 90, 0), np.delete(y, 90)).model_digest == model.model_digest
    assert model.forget(0).n_records == 1
    assert model.forget([0, 90]).already_forgotten == 2


def test_index_labels_are_handles(helpers, data):
    import pandas as pd

    X, y, _ = data
    frame = pd.DataFrame(X, columns=list("abc"), index=[f"row {i}" for i in range(90)])
    model = helpers.build().fit(frame, y)
    assert model.forget(["row 7", "row 8"]).n_records == 2
    assert model.forget("row 7").already_forgotten == 1
    for unknown in (7, "row 90"):
        with pytest.raises(UnknownRecordError):
            model.forget(unknown)


@pytest.mark.parametrize("shape", ["ids", "handles"])
def test_what_an_estimate_says_is_what_happens(helpers, data, shape):
    X, y, ids = data
    model = helpers.build().fit(X, y, ids=ids) if shape == "ids" else helpers.build().fit(X, y)
    names = ids if shape == "ids" else np.arange(90)
    for request in (names[:1], names[1:4], names[4:40], names[40:]):
        digest = model.model_digest
        estimate = model.estimate(request)
        assert model.model_digest == digest
        receipt = model.forget(request, repair=False)
        abstaining = tuple(s for s, c in enumerate(model.constituents) if c is None)
        assert estimate.abstaining_shards == abstaining
        assert estimate.chance_all_abstain == (len(abstaining) == 3)
        receipt = model.repair()[-1] if receipt.repaired_at is None else receipt
        assert estimate.n_records == receipt.n_records
        assert estimate.shards == receipt.shards
        assert estimate.n_steps == receipt.steps_retrained
        assert estimate.steps_total == receipt.steps_total
        assert 0 <= estimate.cost_share <= 1


# -- serving ---------------------------------------------------------------------------------------------------------


def test_only_the_affected_shards_change_their_vote(model, data):
    _, _, ids = data
    before = model._snapshot.constituents
    model.forget(of_shard(model, ids, 1)[0], repair=False)
    after = model._snapshot.constituents
    assert after[0] is before[0]
    assert after[2] is before[2]
    assert after[1] is not before[1]


def test_a_prediction_never_sees_half_a_swap(helpers, data):
    X, y, ids = data
    learner = Interrupted()
    model = helpers.build(learner).fit(X, y, ids=ids)
    gone = [i for s in range(3) for i in of_shard(model, ids, s, 1)[:3]]
    before = model.predict(X).tobytes()
    learner.during = lambda: model.forget(gone, repair=False)
    assert model.predict(X).tobytes() == before
    isolated = model.predict(X).tobytes()
    assert isolated != before
    learner.during = model.repair
    assert model.predict(X).tobytes() == isolated
    assert model.predict(X).tobytes() != isolated


def test_predictions_from_another_thread_are_those_of_one_moment(helpers, data):
    X, y, ids = data
    model = helpers.build().fit(X, y, ids=ids)
    trial = copy.deepcopy(model)
    gone = from_every_shard(model, ids)
    allowed = {trial.predict(X).tobytes()}
    trial.forget(gone, repair=False)
    allowed.add(trial.predict(X).tobytes() if trial._snapshot.all_abstain is False else b"")
    trial.repair()
    allowed.add(trial.predict(X).tobytes())
    seen, stop = set(), threading.Event()

    def watch():
        while not stop.is_set():
            try:
                seen.add(model.predict(X).tobytes())
            except NoConstituentError:
                seen.add(b"")

    watcher = threading.Thread(target=watch)
    watcher.start()
    model.forget(gone)
    stop.set()
    watcher.join()
    assert seen <= allowed


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_all_abstain(helpers, data, task):
    X, y, ids = data
    y = y if task == "classification" else X[:, 0] * 3
    raising, prior = (
        helpers.build(RememberingLearner(task), when_isolated=when).fit(X, y, ids=ids) for when in ("raise", "prior")
    )
    gone = [of_shard(raising, ids, s, 0)[0] for s in range(3)]
    for model in (raising, prior):
        model.forget(gone, repair=False)
        assert model.constituents == [None] * 3
    with pytest.raises(NoConstituentError, match="repair"):
        raising.predict(X)
    left = y[~np.isin(ids, gone)]
    expected = left.mean() if task == "regression" else np.bincount(left) / len(left)
    assert np.allclose(prior.predict(X), expected)
    # The prior itself forgets.
    second = of_shard(prior, ids, 0, 0)[1]
    prior.forget(second, repair=False)
    left = y[~np.isin(ids, [*gone, second])]
    expected = left.mean() if task == "regression" else np.bincount(left) / len(left)
    assert np.allclose(prior.predict(X), expected)
    for model in (raising, prior):
        model.repair()
        assert model.predict(X).shape[0] == 90


def test_a_prior_of_nothing_is_an_error_too(helpers, data):
    X, y, ids = data
    model = helpers.build(when_isolated="prior").fit(X, y, ids=ids)
    model.forget(ids)
    with pytest.raises(NoConstituentError):
        model.predict(X)


# -- shards that cannot be trained -----------------------------------------------------------------------------------


@pytest.fixture
def untrainable(helpers, data):
    """A model of one slice whose shard 1 has been left with too few rows, and its receipt."""
    X, y, ids = data
    model = helpers.build(Picky(least=10), n_slices=1).fit(X, y, ids=ids)
    gone = of_shard(model, ids, 1)[9:]
    with pytest.warns(RuntimeWarning, match="Shard 1 cannot be trained"):
        receipt = model.forget(gone)
    return model, gone, receipt


def test_a_shard_that_cannot_be_trained_stays_isolated(untrainable, data, helpers):
    X, y, ids = data
    model, gone, receipt = untrainable
    assert receipt.untrainable_shards == {1: "ValueError in the step of slice 0"}
    assert receipt.repaired_at is None
    assert model.degraded_shards == (1,)
    assert model.constituents[1] is None
    with pytest.raises(TrainingError) as caught:
        model.repair()
    assert (caught.value.shard, caught.value.slice) == (1, 0)
    keep = ~np.isin(ids, gone)
    with pytest.warns(RuntimeWarning, match="Shard 1"):
        fresh = helpers.twin(model).fit(X[keep], y[keep], ids=ids[keep])
    assert fresh.model_digest == model.model_digest
    assert model.verify().exact


def test_other_requests_are_not_held_up(untrainable, data):
    _, _, ids = data
    model, gone, _ = untrainable
    other = of_shard(model, ids, 0)[0]
    assert model.estimate(other).n_steps == 1
    receipt = model.forget(other)
    assert receipt.repaired_at is not None
    assert receipt.untrainable_shards == {}
    # A request for the shard itself is another chance, and warns again.
    left = [i for i in of_shard(model, ids, 1) if i not in gone]
    with pytest.warns(RuntimeWarning, match="Shard 1"):
        assert model.forget(left[0]).untrainable_shards == {1: "ValueError in the step of slice 0"}


def test_an_emptied_shard_is_whole_again(untrainable, data):
    _, _, ids = data
    model, gone, _ = untrainable
    left = [i for i in of_shard(model, ids, 1) if i not in gone]
    receipt = model.forget(left)
    assert receipt.repaired_at is not None
    assert model.degraded_shards == ()
    assert model.receipt(1).repaired_at is not None


def test_no_value_of_the_frameworks_message_and_no_row_stays(untrainable, data):
    _X, _, _ids = data
    model, _, receipt = untrainable
    assert "rows, the first" not in receipt.to_json()
    assert b"rows, the first" not in pickle.dumps(model)


def test_fit_on_open_data_raises(helpers, data):
    X, y, ids = data
    with pytest.raises(TrainingError, match=r"Shard \d .*ValueError"):
        helpers.build(Picky(least=1000)).fit(X, y, ids=ids)


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_the_reason_is_the_same_from_a_worker(helpers, data, backend):
    X, y, ids = data
    model = helpers.build(Picky(least=10), n_slices=1).fit(X, y, ids=ids)
    gone = [*of_shard(model, ids, 1)[9:], of_shard(model, ids, 0)[0]]
    model.config = replace(model.config, n_jobs=2)
    with joblib.parallel_config(backend), pytest.warns(RuntimeWarning, match="Shard 1"):
        receipt = model.forget(gone)
    assert receipt.untrainable_shards == {1: "ValueError in the step of slice 0"}


# -- while a repair is in flight -------------------------------------------------------------------------------------


@pytest.fixture
def in_flight(helpers, data):
    """A model whose repair, in another thread, waits in its first step."""
    X, y, ids = data
    learner = Blocking()
    model = helpers.build(learner).fit(X, y, ids=ids)
    first = of_shard(model, ids, 0, 0)[0]
    model.forget(first, repair=False)
    learner.wait = True
    thread = threading.Thread(target=model.repair)
    thread.start()
    assert learner.started.wait(30)

    def finish():
        learner.go_on.set()
        thread.join(30)
        assert not thread.is_alive()

    yield model, first, finish
    finish()


def test_a_repair_in_flight_brings_nothing_back(in_flight, data, helpers, exact):
    X, _y, ids = data
    model, first, finish = in_flight
    second = of_shard(model, ids, 0, 0)[1]
    receipt = model.forget(second, repair=False)
    assert receipt.repaired_at is None
    finish()
    assert model.degraded_shards == ()
    gone = [first, second]
    rows = {tuple(x) for x in X[np.isin(ids, gone)].tolist()}
    assert not {record[:3] for record in helpers.remembered(model)} & rows
    assert exact(model, gone, learner=RememberingLearner())
    assert all(model.receipt(i).repaired_at is not None for i in (1, 2))
    referred = {blob for s in model._build.plan for _, blob in model.store.ledger.checkpoint(s.key).parts}
    assert set(model.store.blobs.names()) == referred


def test_a_request_for_another_shard_does_not_disturb(in_flight, data, exact):
    _, _, ids = data
    model, first, finish = in_flight
    second = of_shard(model, ids, 2, 1)[0]
    model.forget(second, repair=False)
    finish()
    assert exact(model, [first, second], learner=RememberingLearner())


def test_a_model_can_be_predicted_pickled_and_verified_meanwhile(in_flight, data):
    X, _, _ = data
    model, _, finish = in_flight
    assert len(model.predict(X)) == 90
    other = pickle.loads(pickle.dumps(model))
    assert other.degraded_shards == (0,)
    finish()
    assert model.verify().exact
    other.repair()
    assert other.model_digest == model.model_digest


def test_an_interrupted_repair_serves_what_was_trained(helpers, data, monkeypatch):
    X, y, ids = data
    learner = RememberingLearner()
    model = helpers.build(learner).fit(X, y, ids=ids)
    model.forget([of_shard(model, ids, s, 0)[0] for s in (0, 1)], repair=False)
    original = RememberingLearner.train

    def interrupted(self, state, batch, step):
        if step.shard == 1:
            raise KeyboardInterrupt
        return original(self, state, batch, step)

    with monkeypatch.context() as patch:
        patch.setattr(RememberingLearner, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.repair()
    assert model.degraded_shards == (1,)
    assert model.constituents[0] is not None
    model.repair()
    assert model.degraded_shards == ()


# -- copies ----------------------------------------------------------------------------------------------------------


def through_joblib(model):
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


@pytest.mark.parametrize("duplicate", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, through_joblib])
def test_copies_go_their_own_way(model, data, duplicate, exact):
    X, _, ids = data
    model.forget(ids[0])
    other = duplicate(model)
    assert other.model_digest == model.model_digest
    assert other.predict(X).tobytes() == model.predict(X).tobytes()
    digest = model.model_digest
    other.forget(ids[1])
    assert other.forget(ids[0]).already_forgotten == 1
    assert exact(other, ids[:2])
    assert model.model_digest == digest
    assert model.verify().exact


def test_no_raw_id_and_no_forgotten_value_in_a_pickle(helpers, data):
    X, y, _ = data
    ids = [f"canary-{i:03d}@example.org" for i in range(90)]
    X[3] = [3.14159265358979, -2.718281828459045, 1.4142135623730951]
    model = helpers.build().fit(X, y, ids=ids)
    values = [np.float64(v).tobytes() for v in X[3]] + [repr(v).encode() for v in X[3].tolist()]
    assert all(v in pickle.dumps(model) for v in values[:3])
    receipt = model.forget(ids[3], repair=False)
    for stored in (pickle.dumps(model), pickle.dumps(receipt), receipt.to_json().encode()):
        assert b"canary" not in stored
        assert not any(v in stored for v in values)
    model.repair()
    for stored in (pickle.dumps(model), model.receipt(1).to_json().encode()):
        assert b"canary" not in stored
        assert not any(v in stored for v in values)


def test_no_digest_of_a_row_that_is_gone_stays(model, data):
    _, _, ids = data
    shard = model.partition.locate([int(ids[0])])[0][0]
    before = model._build.records.shard(shard)
    place = model.partition.place([b"i%d" % ids[0]]).rid[0].tobytes()
    content = next(c.tobytes() for r, c in zip(before.rid, before.content, strict=True) if r.tobytes() == place)
    keys = {s.key for s in model._build.plan.shards[shard]}
    del before
    model.forget(ids[0])
    stored = pickle.dumps(model)
    assert place not in stored
    assert content not in stored
    gone = keys - model._build.plan.keys
    assert gone
    assert not any(key.encode() in stored for key in gone)


# -- environment -----------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(model, monkeypatch):
    """The model, unpickled where another numpy is installed."""
    stored = pickle.dumps(model)
    real = environment._version
    monkeypatch.setattr(environment, "_version", lambda name: "0.0.1" if name == "numpy" else real(name))
    return pickle.loads(stored)


def test_training_on_in_another_environment_is_refused(elsewhere, data):
    X, _, ids = data
    digest = elsewhere.model_digest
    assert len(elsewhere.predict(X)) == 90
    gone = of_shard(elsewhere, ids, 1, 2)[0]
    with pytest.raises(EnvironmentChangedError, match=r"repair\(rebuild=True\)"):
        elsewhere.forget(gone)
    assert elsewhere.degraded_shards == (1,)
    assert elsewhere.model_digest != digest
    assert elsewhere.receipt(1).repaired_at is None
    with pytest.raises(EnvironmentChangedError):
        elsewhere.repair()


def test_a_rebuild_trains_the_affected_shards_whole_and_says_so(elsewhere, data, exact):
    _, _, ids = data
    gone = of_shard(elsewhere, ids, 1, 2)[0]
    isolated = elsewhere.forget(gone, repair=False)
    assert isolated.rebuilt_shards == ()
    receipt = elsewhere.repair(rebuild=True)[0]
    assert receipt.rebuilt_shards == (1,)
    assert receipt.repaired_at is not None
    assert {(s.shard, s.slice) for s in elsewhere.learner.trained} == {(1, 0), (1, 1), (1, 2)}
    assert exact(elsewhere, [gone])
    assert not elsewhere.verify().same_environment
    # Said once, not of every request after it.
    again = elsewhere.forget(of_shard(elsewhere, ids, 1, 2)[1])
    assert again.repaired_at is not None
    assert again.rebuilt_shards == ()


def test_a_rebuild_where_nothing_is_due_does_nothing(elsewhere):
    assert elsewhere.repair(rebuild=True) == ()
    assert not elsewhere.learner.trained


# -- verify ----------------------------------------------------------------------------------------------------------


def test_verify_from_its_own_rows_and_from_the_callers(model, data):
    X, y, ids = data
    model.forget(ids[:3])
    report = model.verify()
    assert report.exact
    assert report.same_environment
    assert report.digest == report.rebuilt_digest == model.model_digest
    assert report.n_steps == len(model._build.plan.keys)
    order = np.random.default_rng(1).permutation(np.arange(3, 90))
    assert model.verify(X[order], y[order], ids=ids[order]).exact
    with_forgotten = model.verify(X, y, ids=ids)
    assert not with_forgotten.exact
    assert set(with_forgotten.differing) >= {model.partition.locate([int(i)])[0] for i in ids[:3]}


def test_verify_says_what_is_due(model, data):
    _, _, ids = data
    model.forget(of_shard(model, ids, 2, 1)[0], repair=False)
    report = model.verify()
    assert not report
    assert report.differing == ()
    assert report.due == ((2, 1), (2, 2))
    model.repair()
    assert model.verify()


def test_verify_needs_whole_arguments(model, data):
    X, y, ids = data
    for wrong in ({"y": y}, {"ids": ids}, {"sample_weight": np.ones(90)}):
        with pytest.raises(DataError, match="without X"):
            model.verify(**wrong)
    with pytest.raises(SchemaError):
        model.verify(X[:, :2], y, ids=ids)


def tamper(model, shard, r, change):
    step = next(s for s in model._build.plan if (s.shard, s.slice) == (shard, r))
    part = dict(model.store.ledger.checkpoint(step.key).parts)["records"]
    model.store.blobs._data[part] = change(model.store.blobs._data[part])


def test_verify_finds_a_tampered_blob(model):
    tamper(model, 1, 2, lambda data: data.replace(b"0", b"1", 1))
    report = model.verify()
    assert not report.exact
    assert report.differing == ((1, 2),)


def test_a_damaged_state_serves_nothing_and_can_be_rebuilt(model, data, exact):
    X, _, ids = data
    gone = of_shard(model, ids, 1, 2)[0]
    tamper(model, 1, 1, lambda data: b"")
    before = model._snapshot
    with pytest.raises(StateError):
        model.forget(gone)
    # Isolated all the same: the state that had seen the record is out.
    assert model._snapshot is not before
    assert model.constituents[1] is None
    assert model.predict(X).shape == (90, 2)
    receipt = model.repair(rebuild=True)[0]
    assert receipt.repaired_at is not None
    assert exact(model, [gone])
    assert model.verify().exact


# -- observers -------------------------------------------------------------------------------------------------------


def test_observers_hear_of_what_is_done_once(install, helpers, data):
    X, y, ids = data
    steps, receipts = [], []
    install(
        helpers.plugin(
            "observer",
            unlearnkit_step_trained=lambda step, seconds: steps.append((step.shard, step.slice)),
            unlearnkit_request_done=lambda receipt: receipts.append(receipt),  # noqa: PLW0108 - hooks go by argument names
        )
    )
    model = helpers.build().fit(X, y, ids=ids)
    assert len(steps) == 9
    done = model.forget(of_shard(model, ids, 0, 2)[0])
    assert steps[9:] == [(0, 2)]
    assert receipts == [done]
    model.forget(of_shard(model, ids, 0, 2)[1], repair=False)
    assert len(receipts) == 1
    model.repair()
    assert [r.request_id for r in receipts] == [1, 2]


def test_an_observer_that_fails_changes_nothing(install, helpers, data, exact):
    X, y, ids = data

    def fail(receipt):
        raise OSError("disk full")

    install(helpers.plugin("observer", unlearnkit_request_done=fail))
    model = helpers.build().fit(X, y, ids=ids)
    with pytest.warns(RuntimeWarning, match="disk full"):
        assert model.forget(ids[0]).repaired_at is not None
    assert exact(model, ids[:1])


def test_an_observer_may_use_the_model(install, helpers, data):
    X, y, ids = data
    seen = []
    install(
        helpers.plugin(
            "observer", unlearnkit_request_done=lambda receipt: seen.append((model.verify().exact, model.repair()))
        )
    )
    model = helpers.build().fit(X, y, ids=ids)
    model.forget(ids[0])
    assert seen == [(True, ())]


def test_receipts_are_plain_values(model, data):
    _, _, ids = data
    receipt = model.forget(ids[:2])
    assert json.loads(receipt.to_json())["n_ids"] == 2
    assert model.receipt(1) == receipt


def test_records_arrive_in_another_environment_and_are_learned_by_a_rebuild(elsewhere, data):
    X, y, _ = data
    with pytest.raises(EnvironmentChangedError, match=r"were added.*repair\(rebuild=True\)"):
        elsewhere.partial_fit(X[:9] + 1, y[:9], ids=np.arange(9000, 9009))
    assert elsewhere.degraded_shards
    elsewhere.repair(rebuild=True)
    assert elsewhere.degraded_shards == ()
    assert elsewhere.verify().exact


def test_consolidating_in_another_environment_trains_on_from_nothing_of_the_old_one(elsewhere, data):
    X, y, _ = data
    with pytest.raises(EnvironmentChangedError):
        elsewhere.partial_fit(X[:9] + 1, y[:9], ids=np.arange(9000, 9009))
    elsewhere.consolidate()
    assert elsewhere.degraded_shards == ()
    report = elsewhere.verify()
    assert report.exact
    current = elsewhere.config.environment_digest
    stored = elsewhere.store.checkpoints()
    touched = {s for s, _ in elsewhere.partition.locate(list(range(9000, 9009)))}
    assert all(stored[step.key].environment == current for step in elsewhere.plan if step.shard in touched)
