"""Shards are built wherever joblib sends them, and what happens to a worker changes no byte."""

from __future__ import annotations

import os
import pickle
import signal
import time
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier

from unlearnkit import SISAClassifier, load
from unlearnkit.build import Builder
from unlearnkit.ensemble import SisaEnsemble
from unlearnkit.errors import EnvironmentChangedError, StateError, WorkerLostError
from unlearnkit.store import Store
from unlearnkit.testing import RememberingLearner
from unlearnkit.workers import RemoteTask, Workers, run_task

# One cluster, and one pool of processes.
pytestmark = pytest.mark.xdist_group("workers")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 4))
    return X, (X[:, 0] + X[:, 1] > 0).astype(int), np.arange(400)


def estimator(store=None, **options):
    model = SGDClassifier(loss="log_loss", max_iter=3, tol=None)
    options = {"n_shards": 4, "n_slices": 3, "random_state": 0, "n_jobs": 2} | options
    return SISAClassifier(model, store=store, **options)


@pytest.fixture(scope="module")
def cluster():
    import distributed

    with warnings.catch_warnings():
        # Its own, and those of what it imports.
        warnings.simplefilter("ignore")
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1", processes=True
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client


@pytest.fixture(params=["threading", "loky", "dask"])
def backend(request):
    if request.param == "dask":
        request.getfixturevalue("cluster")
        return joblib.parallel_config("dask")
    return joblib.parallel_config(request.param, n_jobs=2)


@pytest.fixture(scope="module")
def alone(data):
    X, y, ids = data
    return estimator(n_jobs=1).fit(X, y, ids=ids).model_digest_


@pytest.mark.parametrize("stored", [False, True], ids=["in memory", "stored"])
def test_one_digest_wherever_the_shards_are_built(data, alone, tmp_path, backend, stored):
    X, y, ids = data
    with backend:
        model = estimator(tmp_path / "store" if stored else None).fit(X, y, ids=ids)
        assert model.model_digest_ == alone
        model.forget([1, 2, 3])
    rest = ids > 3
    rest[0] = True
    assert model.model_digest_ == model.pinned().fit(X[rest], y[rest], ids=ids[rest]).model_digest_
    if stored:
        assert load(tmp_path / "store").verify().exact


def ensemble(helpers, data, learner, store, n_jobs=2):
    X, y, ids = data
    config = helpers.build(learner, n_jobs=n_jobs, n_shards=4).config
    return SisaEnsemble(learner, config, store).fit(X, y, ids=ids)


@dataclass
class Elsewhere(RememberingLearner):
    """A learner that dies, once, in the middle of shard 2; it leaves a note of every process that trains."""

    folder: Path = Path()
    deaths: int = 0
    trained: list = field(default_factory=list, repr=False, compare=False)

    @property
    def capabilities(self):
        return replace(super().capabilities, parallel="processes")

    def train(self, state, batch, step):
        (self.folder / f"pid-{os.getpid()}").touch()
        died = sorted(self.folder.glob("died-*"))
        if step.shard == 2 and step.slice == 1 and len(died) < self.deaths:
            # What is finished on the way here is recorded first, even on a machine that has other things to do.
            time.sleep(1)
            (self.folder / f"died-{len(died)}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        (self.folder / f"step-{step.shard}-{step.slice}-{os.getpid()}-{len(died)}").touch()
        return super().train(state, batch, step)


@pytest.mark.parametrize("stored", [False, True], ids=["in memory", "stored"])
def test_a_worker_that_is_killed_costs_one_retry_and_no_byte(helpers, data, tmp_path, stored):
    (tmp_path / "notes").mkdir()
    store = Store.at(tmp_path / "store") if stored else None
    model = ensemble(helpers, data, Elsewhere(folder=tmp_path / "notes", deaths=1), store)
    assert len(list((tmp_path / "notes").glob("died-*"))) == 1
    assert not (tmp_path / "notes" / f"pid-{os.getpid()}").exists()
    assert model.degraded_shards == ()
    assert model.model_digest == ensemble(helpers, data, RememberingLearner(), None, n_jobs=1).model_digest
    # What the other worker had finished was not done twice: at most the shards that were under way were.
    again = [step for step in (tmp_path / "notes").glob("step-*-1") if step.name.split("-")[2] == "0"]
    assert len(again) <= 3


def test_workers_that_are_killed_again_and_again_are_given_up(helpers, data, tmp_path):
    (tmp_path / "notes").mkdir()
    learner = Elsewhere(folder=tmp_path / "notes", deaths=100)
    with pytest.raises(WorkerLostError, match="3 times in a row"):
        ensemble(helpers, data, learner, Store.at(tmp_path / "store"))
    # What was trained is kept, and the same call again goes on.
    learner.deaths = 0
    model = ensemble(helpers, data, learner, Store.at(tmp_path / "store"))
    assert model.model_digest == ensemble(helpers, data, RememberingLearner(), None, n_jobs=1).model_digest


def test_a_dask_worker_that_is_killed_costs_one_retry_and_no_byte(helpers, data, tmp_path, cluster):
    (tmp_path / "notes").mkdir()
    learner = Elsewhere(folder=tmp_path / "notes", deaths=1)
    with joblib.parallel_config("dask"):
        model = ensemble(helpers, data, learner, Store.at(tmp_path / "store"))
    assert len(list((tmp_path / "notes").glob("died-*"))) == 1
    assert model.model_digest == ensemble(helpers, data, RememberingLearner(), None, n_jobs=1).model_digest


# -- what travels ----------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(helpers, data, tmp_path):
    return ensemble(helpers, data, RememberingLearner(), Store.at(tmp_path / "store"), n_jobs=1)


def remote(model, shard=1):
    builder = model._builder
    return builder._remote_task(model._build, model.plan.shards[shard], model.store)


def test_neither_rows_nor_states_travel(stored):
    task = remote(stored)
    assert isinstance(task, RemoteTask)
    results = run_task(task, {})
    assert [(r.parts, bool(r.written)) for r in results] == [({}, True)] * 3
    sent = pickle.dumps([task, results])
    rows = stored._build.records.shard(1)
    assert all(row.tobytes() not in sent for row in rows.X)
    assert len(sent) < rows.X.nbytes + 20_000


def test_a_worker_writes_what_the_ledger_then_names(stored):
    task = remote(stored)
    for result, step in zip(run_task(task, {}), task.steps, strict=True):
        assert result.written == stored.store.ledger.checkpoint(step.key).parts


def test_a_worker_with_another_environment_is_refused(stored):
    facts = stored.config.environment | {"numpy": "0.1"}
    with pytest.raises(EnvironmentChangedError, match="numpy"):
        run_task(remote(stored), facts)


def test_rows_that_are_gone_when_a_worker_reads_them_are_looked_for_anew(stored, helpers, data):
    """Another process has purged a request in between."""
    task = remote(stored)
    stored.store.blobs.delete(name for cell in stored.store.ledger.cells() for _, name in cell.parts)
    (result,) = run_task(task, {})
    assert isinstance(result, StateError)


def test_a_state_that_was_swept_before_it_was_recorded_is_trained_again(helpers, data, tmp_path, monkeypatch):
    """A purge elsewhere cannot know of it."""
    learner = Elsewhere(folder=tmp_path / "notes")
    (tmp_path / "notes").mkdir()
    plain, swept = Store.commit, []

    def commit(store, step, written, environment):
        if not swept:
            swept.append(step)
            store.blobs.delete(name for _, name in written)
        return plain(store, step, written, environment)

    monkeypatch.setattr(Store, "commit", commit)
    model = ensemble(helpers, data, learner, Store.at(tmp_path / "store"))
    assert swept
    assert model.model_digest == ensemble(helpers, data, RememberingLearner(), None, n_jobs=1).model_digest


def test_a_damaged_cell_is_an_error_in_the_end(stored):
    stored.store.drop(step.key for step in stored.plan)
    stored.store.blobs.delete(name for cell in stored.store.ledger.cells() for _, name in cell.parts)
    builder = Builder(stored.learner, stored.schema.labels, "env", 2)
    with joblib.parallel_config("loky", n_jobs=2), pytest.raises(StateError):
        builder.build(stored._build, stored.store, lambda *_: None)


def test_threads_are_not_elsewhere():
    assert not Workers(2, "threads").are_elsewhere
    assert Workers(2, "processes").are_elsewhere
    with joblib.parallel_config("threading"):
        assert not Workers(2, "processes").are_elsewhere
