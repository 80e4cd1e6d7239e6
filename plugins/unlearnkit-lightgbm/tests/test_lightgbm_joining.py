"""Boosters that are joined give the bits that each gives by itself, and what cannot be joined is not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from scipy import sparse

from unlearnkit import SISAClassifier, joining, wrap
from unlearnkit_lightgbm import joint

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 4)).round(1)
X[RNG.random(X.shape) < 0.1] = np.nan
VALUES = np.nan_to_num(2 * X[:, 0] - X[:, 1]) + 0.1 * RNG.normal(size=400)
TWO, THREE = VALUES > 0, np.digitize(VALUES, [-1, 1])
FRAME = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": pd.Categorical(np.array(["x", "y", "z"])[THREE])})
SPARSE = sparse.csr_matrix(np.where(X > 0.5, X, 0))
SMALL = {"n_estimators": 7, "num_leaves": 5, "verbose": -1}
LINEAR = {"linear_tree": True}
ALIKE = {
    "two classes": (LGBMClassifier(**SMALL), X, TWO),
    "another sigmoid": (LGBMClassifier(**SMALL, sigmoid=0.7), X, TWO),
    "dart": (LGBMClassifier(**SMALL, boosting_type="dart"), X, TWO),
    "least squares": (LGBMRegressor(**SMALL), X, VALUES),
    **{
        loss: (LGBMRegressor(**SMALL, objective=loss), X, VALUES)
        for loss in ("regression_l1", "huber", "fair", "quantile", "mape")
    },
    "linear trees": (LGBMRegressor(**SMALL, **LINEAR), np.nan_to_num(X), VALUES),
    "frame": (LGBMClassifier(**SMALL), FRAME, TWO),
    "sparse": (LGBMClassifier(**SMALL), SPARSE, TWO),
    "stumps of one leaf": (LGBMClassifier(**SMALL, min_child_samples=1000), X, TWO),
}
UNLIKE = {
    "three classes": (LGBMClassifier(**SMALL), X, THREE),
    "one against all": (LGBMClassifier(**SMALL, objective="multiclassova"), X, THREE),
    "logarithms": (LGBMRegressor(**SMALL, objective="poisson"), X, np.abs(VALUES)),
    "roots": (LGBMRegressor(**SMALL, reg_sqrt=True), X, VALUES),
    "an average": (LGBMClassifier(**SMALL, boosting_type="rf", bagging_freq=1, bagging_fraction=0.5), X, TWO),
}


def fitted(model, features, target, **options):
    found = wrap(model, n_shards=4, random_state=0, **options).fit(features, target)
    return found._ensemble.learner, found.estimators_


def assert_alike(learner, states, features):
    together = learner.joined(states)
    for n in (1, 7, joining.FEW_ROWS):
        rows = features[:n]
        alone = [learner.predict(state, rows) for state in states]
        with learner.sharing(rows) as read:
            found = list(together(read))
        assert [p.tobytes() for p in found] == [p.tobytes() for p in alone]
        assert [p.shape for p in found] == [p.shape for p in alone]


@pytest.mark.parametrize("name", ALIKE)
def test_bits_are_the_same(name):
    model, features, target = ALIKE[name]
    options = {"n_slices": 1} if name == "dart" else {"n_slices": 3}
    learner, states = fitted(model, features, target, **options)
    assert_alike(learner, states, features)


def test_boosters_of_unequal_length():
    learner, states = fitted(LGBMClassifier(**SMALL), X, TWO, n_slices=3)
    short, long = states[:2]
    cut = type(short)(short.header, short.blocks[:1], short.edges)
    assert_alike(learner, [cut, long, cut], X)


@pytest.mark.parametrize("name", UNLIKE)
def test_what_has_no_such_model(name):
    model, features, target = UNLIKE[name]
    learner, states = fitted(model, features, target, n_slices=1)
    assert learner.joined(states) is None


def test_nothing_is_joined_where_it_would_not_pay_or_cannot_be(monkeypatch):
    learner, states = fitted(LGBMClassifier(**SMALL), X, TWO)
    assert learner.joined(states[:1]) is None
    other = fitted(LGBMClassifier(**SMALL), X[:, :3], TWO)[1]
    assert learner.joined([states[0], other[0]]) is None
    assert learner.joined(states) is not None
    monkeypatch.setattr(joint, "MAX_BYTES", 1000)
    assert learner.joined(states) is None


def test_after_a_request_the_constituents_are_joined_anew():
    model = SISAClassifier(LGBMClassifier(**SMALL), n_shards=4, random_state=0).fit(X, TWO)

    def ask():
        found = {model.predict_proba(X[:1]).tobytes() for _ in range(joining.WORTH_IT + 2)}
        assert model._ensemble._snapshot.joint._predict is not None
        return found

    before = ask()
    model.forget(range(100))
    anew = model.pinned().fit(X[100:], TWO[100:], ids=None)
    assert ask() == {anew.predict_proba(X[:1]).tobytes()} != before
