"""Rows that are read once for all boosters give the bits of rows that each booster reads for itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from xgboost import XGBClassifier, XGBRegressor

from unlearnkit import wrap
from unlearnkit_xgboost import rows

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 5))
CODES = np.digitize(X[:, 0] + X[:, 1], [-0.7, 0.7])
VALUES = 2 * X[:, 0] - X[:, 1]
SMALL = {"n_estimators": 4, "max_depth": 3}
MODELS = {
    "two classes": (XGBClassifier(**SMALL), CODES > 0),
    "another missing": (XGBClassifier(**SMALL, missing=-1.0, n_jobs=2), CODES > 0),
    "hinge": (XGBClassifier(**SMALL, objective="binary:hinge"), CODES > 0),
    "parallel trees": (XGBClassifier(**SMALL, num_parallel_tree=2, subsample=0.5), CODES),
    "softmax": (XGBClassifier(**SMALL, objective="multi:softmax"), CODES),
    "dart": (XGBClassifier(**SMALL, booster="dart", rate_drop=0.5), CODES > 0),
    "poisson": (XGBRegressor(**SMALL, objective="count:poisson"), np.abs(VALUES).round()),
    "trees of vectors": (
        XGBRegressor(**SMALL, multi_strategy="multi_output_tree"),
        np.column_stack([VALUES, -VALUES]),
    ),
    "two values": (XGBRegressor(**SMALL, base_score=0.3), np.column_stack([VALUES, -VALUES])),
    "linear": (XGBRegressor(n_estimators=4, booster="gblinear"), VALUES),
}


def states_of(model, features, target):
    fitted = wrap(model, n_shards=2, random_state=0).fit(features, target)
    return fitted._ensemble.learner, fitted.estimators_


def assert_alike(learner, states, features):
    with learner.sharing(features) as read:
        shared = [learner.predict(state, read) for state in states]
    alone = [learner.predict(state, features) for state in states]
    assert [p.tobytes() for p in shared] == [p.tobytes() for p in alone]
    assert [p.dtype for p in shared] == [p.dtype for p in alone]


@pytest.mark.parametrize("name", MODELS)
def test_objectives_and_boosters(name):
    learner, states = states_of(MODELS[name][0], X, MODELS[name][1])
    some = X.copy()
    some[::7, 1], some[::5, 2] = -1, 0 if name == "linear" else np.nan
    assert_alike(learner, states, some)
    assert_alike(learner, states, some[:1])


def test_values_beyond_float32_are_read_in_their_place():
    learner, states = states_of(XGBClassifier(**SMALL), X, CODES > 0)
    large = np.array([[1e300, 0, -1e300, 1, 2]])
    with learner.sharing(large) as read:
        assert read is large
    assert_alike(learner, states, large)


def test_sparse_rows():
    thin = sparse.csr_matrix(np.where(X > 0.5, X, 0))
    learner, states = states_of(XGBClassifier(**SMALL), thin, CODES)
    assert_alike(learner, states, thin)


def test_frames_with_categories():
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": pd.Categorical(np.array(["x", "y", "z"])[CODES])})
    frame.loc[::9, "c"] = None
    learner, states = states_of(XGBClassifier(**SMALL, enable_categorical=True), frame, CODES)
    with learner.sharing(frame) as read:
        assert isinstance(read, rows.Matrix)
    assert_alike(learner, states, frame)


def test_many_rows_are_not_copied_but_of_a_frame(monkeypatch):
    monkeypatch.setattr(rows, "FEW_ROWS", 10)
    learner, states = states_of(XGBClassifier(**SMALL), X, CODES)
    with learner.sharing(X) as read:
        assert read is X
    frame = pd.DataFrame(X, columns=list("abcde"))
    with learner.sharing(frame) as read:
        assert isinstance(read, rows.Matrix)
    assert_alike(learner, states, X)
