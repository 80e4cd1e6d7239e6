from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.datasets import make_classification
from sklearn.tree import DecisionTreeClassifier

from unlearnkit import SISAClassifier, serving
from unlearnkit.aggregation import choose
from unlearnkit.data import SliceFacts
from unlearnkit.errors import NoConstituentError
from unlearnkit.learner import Capabilities
from unlearnkit.plan import Context, plan_shard
from unlearnkit.serving import Constituent, Snapshot, open_constituent
from unlearnkit.threads import side_by_side


class Echo:
    """Predicts its state for every row."""

    capabilities = Capabilities("classification", probabilities=True)
    fingerprint = "echo"

    def predict(self, state, X):
        return np.tile(np.asarray(state, dtype=float), (X.shape[0], 1))


CONTEXT = Context("f", 0, 2, "s", n_classes=3, resumable=True, absent_classes=False)
X = np.zeros((2, 1))


def step(*classes):
    return plan_shard(CONTEXT, 0, [SliceFacts(2, "d", frozenset(classes)), SliceFacts(0, "", frozenset())])[0]


def snapshot(*constituents, prior=None):
    return Snapshot(Echo(), choose("mean", Echo.capabilities), 3, constituents, prior, None)


def test_columns_of_absent_classes_are_scattered_back():
    found = snapshot(Constituent(step(0, 2), [0.25, 0.75], None)).predict(X)
    assert found.tolist() == [[0.25, 0, 0.75]] * 2


def test_a_constant_is_certain_and_weighs_as_the_others():
    found = snapshot(Constituent(step(1), None, 1), Constituent(step(0, 1, 2), [0.5, 0.25, 0.25], None), None).predict(
        X
    )
    assert found.tolist() == [[0.25, 0.625, 0.125]] * 2


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_jobs_change_no_prediction(n_jobs):
    rng = np.random.default_rng(0)
    many = snapshot(*[Constituent(step(0, 1, 2), rng.random(3), None) if i % 3 else None for i in range(30)])
    assert many.predict(X, n_jobs).tobytes() == many.predict(X).tobytes()


def test_all_abstain():
    with pytest.raises(NoConstituentError, match="repair"):
        snapshot(None, None).predict(X)
    assert snapshot(None, prior=np.array([0.2, 0.3, 0.5])).predict(X).tolist() == [[0.2, 0.3, 0.5]] * 2


@pytest.mark.parametrize(("prior", "shape"), [(np.asarray(1.5), (2,)), (np.array([1.0, 2.0]), (2, 2))])
def test_a_prior_has_the_shape_of_a_prediction(prior, shape):
    assert snapshot(None, prior=prior).predict(X).shape == shape


def test_the_longest_stored_prefix_serves(helpers):
    rows, y, ids = helpers.rows()
    model = helpers.build(n_shards=1).fit(rows, y, ids=ids)
    steps = model._build.plan.shards[0]

    def opened(steps, old=None):
        return open_constituent(model.learner, model.store, steps, model.store.ledger.checkpoints(), old)

    whole = opened(steps)
    assert whole.step == steps[-1]
    assert opened(steps, whole).state is whole.state, "what serves goes on"
    model.store.replan({steps[0].key, steps[2].key})
    # The last is stored, but hangs in the air.
    assert opened(steps, whole).step == steps[0]
    model.store.replan(set())
    assert opened(steps) is None
    assert opened(()) is None


class Reader(Echo):
    """Reads rows once, and notes by whom and how often it is asked."""

    def __init__(self):
        self.read, self.held, self.threads = 0, False, []

    @contextmanager
    def sharing(self, X):
        self.read, self.held = self.read + 1, True
        try:
            yield Rows(X)
        finally:
            self.held = False

    def predict(self, state, X):
        assert self.held
        assert isinstance(X, Rows), "each constituent gets the rows that were read"
        self.threads.append(threading.get_ident())
        return super().predict(state, X.X)


@dataclass(frozen=True)
class Rows:
    X: np.ndarray


def of_reader(*states):
    whole = step(0, 1, 2)
    constituents = tuple(None if s is None else Constituent(whole, s, None) for s in states)
    return Snapshot(Reader(), choose("mean", Echo.capabilities), 3, constituents, None, None)


SEVEN = [*np.random.default_rng(0).random((7, 3)), None]


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("many", [0, 10**6])
def test_rows_are_read_once_for_all_constituents(n_jobs, many, monkeypatch):
    monkeypatch.setattr(serving, "MANY_ROWS", many)
    asked = of_reader(*SEVEN)
    assert asked.predict(X, n_jobs).tobytes() == of_reader(*SEVEN).predict(X).tobytes()
    assert asked.learner.read == 1
    assert len(asked.learner.threads) == 7
    assert not asked.learner.held


def test_what_is_held_is_let_go_after_an_error():
    asked = of_reader([0.5, 0.5], [0.2, 0.3, 0.5])
    with pytest.raises(ValueError, match="broadcast"):
        asked.predict(X)
    assert not asked.learner.held


def test_few_rows_do_without_other_threads(monkeypatch):
    monkeypatch.setattr(serving, "POOL_S", 1000)
    asked = of_reader(*SEVEN)
    asked.predict(X, n_jobs=2)
    assert set(asked.learner.threads) == {threading.get_ident()}


@pytest.fixture
def jobs():
    """How many threads constituents were shared among, each time they were."""
    counts = []

    def counted(call, items, n):
        counts.append(n)
        return side_by_side(call, items, n)

    with mock.patch.object(serving, "side_by_side", counted):
        yield counts


@pytest.mark.parametrize(("setting", "value"), [("MANY_ROWS", 0), ("POOL_S", 0)])
def test_many_rows_and_slow_constituents_get_other_threads(setting, value, jobs, monkeypatch):
    monkeypatch.setattr(serving, setting, value)
    of_reader(*SEVEN).predict(X, n_jobs=2)
    assert jobs == [2]
    alone = of_reader(*SEVEN)
    alone.predict(X, n_jobs=1)
    assert jobs == [2]
    assert set(alone.learner.threads) == {threading.get_ident()}


def test_jobs_of_the_surroundings_count(jobs, monkeypatch):
    monkeypatch.setattr(serving, "MANY_ROWS", 0)
    with parallel_config(backend="threading", n_jobs=2):
        of_reader(*SEVEN).predict(X)
    assert jobs == [2]


def test_a_learner_that_holds_joblib_to_one_thread_gets_as_many_as_were_asked_for(jobs, monkeypatch):
    monkeypatch.setattr(serving, "MANY_ROWS", 0)
    features, target = make_classification(60, random_state=0)
    model = SISAClassifier(DecisionTreeClassifier(), n_shards=4, random_state=0).fit(features, target)
    model.set_params(n_jobs=2).predict(features)
    assert jobs == [2]
