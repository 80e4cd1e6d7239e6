"""Rows that are looked at once for all estimators: the same bits, and the errors of the bare models."""

from __future__ import annotations

import threading

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.ensemble import BaggingClassifier, HistGradientBoostingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.naive_bayes import CategoricalNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_info, threadpool_limits

from unlearnkit import wrap
from unlearnkit.adapters import resolve
from unlearnkit_sklearn import base
from unlearnkit_sklearn.base import Finite, are_finite

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 4))
CODES = np.digitize(X[:, 0] + X[:, 1], [-0.5, 0.5])
SIMPLE = {
    "tree": DecisionTreeClassifier(max_depth=4),
    "monotonic tree": DecisionTreeClassifier(max_depth=4, monotonic_cst=[1, 0, 0, 0]),
    "forest": RandomForestClassifier(5),
    "bagging": BaggingClassifier(n_estimators=3),
    "hist. boosting": HistGradientBoostingClassifier(max_iter=4),
    "logistic": LogisticRegression(),
    "linear": LinearRegression(),
    "neighbours": KNeighborsClassifier(),
    "bayes": GaussianNB(),
    "network": MLPClassifier((4,), max_iter=3),
    "machine": SVC(),
}
COMPOUND = {
    "a kernel of one's own": SVC(kernel=lambda a, b: rbf_kernel(np.sqrt(a), np.sqrt(b))),
    "weights of one's own": KNeighborsClassifier(weights=lambda distances: 1 / (1 + distances)),
    "process": GaussianProcessClassifier(RBF()),
    "pipeline": make_pipeline(StandardScaler(), LogisticRegression()),
    "bagged pipelines": BaggingClassifier(make_pipeline(StandardScaler(), LogisticRegression()), 3),
    "votes": VotingClassifier([("tree", DecisionTreeClassifier(max_depth=3)), ("bayes", GaussianNB())]),
}


class OwnTree(DecisionTreeClassifier):
    """Nobody knows what it makes of its rows."""


def states_of(model, features=None, target=None):
    features = X if features is None else features
    target = (CODES > 0 if "monotonic" in str(model) else CODES) if target is None else target
    fitted = wrap(model, n_shards=2, random_state=0).fit(features, target)
    return fitted._ensemble.learner, fitted.estimators_


def outcome(learner, state, rows):
    # That a number does not fit is refused, or is not, and numpy warns of it on the way.
    with np.errstate(all="ignore"):
        try:
            return learner.predict(state, rows).tobytes()
        except ValueError as error:
            return str(error)


def assert_alike(learner, states, features):
    alone = [outcome(learner, state, features) for state in states]
    with learner.sharing(features) as read:
        assert [outcome(learner, state, read) for state in states] == alone
        elsewhere = []
        thread = threading.Thread(target=lambda: elsewhere.extend(outcome(learner, state, read) for state in states))
        thread.start()
        thread.join()
    assert elsewhere == alone
    assert not sklearn.get_config()["assume_finite"]


@pytest.mark.parametrize(("name", "value"), [("logistic", np.nan), ("tree", np.inf), ("tree", 1e200)])
def test_some_of_the_outcomes_compared_are_errors(name, value):
    learner, states = states_of(SIMPLE[name])
    assert isinstance(outcome(learner, states[0], np.full((1, 4), value)), str)


@pytest.mark.parametrize("name", SIMPLE)
@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, -np.inf, 1e200, 3.5e38])
@pytest.mark.parametrize("n", [1, 30])
def test_simple_models(name, value, n):
    learner, states = states_of(SIMPLE[name])
    some = X[:n].copy()
    some[-1, 2] = value
    assert_alike(learner, states, some)


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int64, sparse.csr_matrix, pd.DataFrame, np.asfortranarray])
def test_rows_of_any_kind(kind):
    learner, states = states_of(SIMPLE["tree"])
    some = kind(X[:20]) if not isinstance(kind, type) or not issubclass(kind, np.generic) else X[:20].astype(kind)
    assert_alike(learner, states, some)


def test_codes_that_a_learner_looks_up():
    categories = np.abs(X).round().astype(np.float64)
    learner, states = states_of(CategoricalNB(), categories)
    assert_alike(learner, states, categories[:9])
    assert_alike(learner, states, categories[:9] + 5)


@pytest.mark.parametrize("name", SIMPLE)
def test_they_are_looked_at_once(name):
    learner, _ = states_of(SIMPLE[name])
    with learner.sharing(X) as read:
        assert isinstance(read, Finite)
        assert sklearn.get_config()["assume_finite"]


@pytest.mark.parametrize("model", [*COMPOUND.values(), OwnTree()], ids=[*COMPOUND, "a class of one's own"])
def test_what_the_parts_of_a_model_hand_on_is_looked_at_every_time(model):
    learner, states = states_of(model, np.abs(X))
    with learner.sharing(X) as read:
        assert read is X
        assert not sklearn.get_config()["assume_finite"]
    assert_alike(learner, states, X[:5])


@pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt")
def test_what_a_function_of_the_user_makes_of_the_rows_is_refused_as_ever():
    learner, states = states_of(COMPOUND["a kernel of one's own"], np.abs(X))
    with learner.sharing(-np.abs(X[:2])) as read, pytest.raises(ValueError, match="NaN"):
        learner.predict(states[0], read)


def test_rows_that_nobody_has_looked_at_are_refused_in_the_middle_of_others():
    learner, states = states_of(SIMPLE["tree"])
    other = np.full((1, 4), np.inf)
    with learner.sharing(X) as read:
        before = learner.predict(states[0], read).tobytes()
        with pytest.raises(ValueError, match="infinity"):
            learner.predict(states[0], other)
        with learner.sharing(other) as unread, pytest.raises(ValueError, match="infinity"):
            learner.predict(states[0], unread)
        assert sklearn.get_config()["assume_finite"]
        assert learner.predict(states[0], read).tobytes() == before


def test_what_the_user_has_set_stays():
    learner, states = states_of(SIMPLE["tree"])
    with sklearn.config_context(assume_finite=True):
        with learner.sharing(np.full((1, 4), np.inf)) as read:
            learner.predict(states[0], read)
        assert sklearn.get_config()["assume_finite"]


def test_a_function_that_aggregates_is_left_alone():
    def mean(predictions, present):
        seen.append(sklearn.get_config()["assume_finite"])
        return predictions.mean(axis=0)

    seen: list[bool] = []
    model = wrap(SIMPLE["tree"], n_shards=2, random_state=0, aggregation=mean).fit(X, CODES)
    model.predict(X)
    assert seen == [False]


def test_infinity_within_a_pipeline_is_refused_as_ever():
    steps = FunctionTransformer(lambda a: np.where(a > 5, np.inf, a)), LogisticRegression()
    learner, states = states_of(make_pipeline(*steps))
    large = np.full((2, 4), 6.0)
    with learner.sharing(large) as read, pytest.raises(ValueError, match="infinity"):
        learner.predict(states[0], read)


def test_rows_are_looked_at_by_one_thread(monkeypatch):
    """Another would wait for more to do, on a processor that the predictions want."""
    held = []

    def looked(X):
        held.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return are_finite(X)

    monkeypatch.setattr(base, "are_finite", looked)
    learner = resolve(DecisionTreeClassifier())
    with threadpool_limits(2), learner.sharing(np.ones((20, 3))):
        pass
    assert set(held) == {1}
