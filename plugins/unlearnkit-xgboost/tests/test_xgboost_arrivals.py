"""Steps after the whole budget: more rounds on the margin of those that are there."""

from fractions import Fraction

import numpy as np
import pytest
from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier

from unlearnkit.adapters import resolve
from unlearnkit.learner import Batch, Step

SMALL = {"n_estimators": 4, "max_depth": 3}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(240, 4))
    return X, np.digitize(X[:, 0] + X[:, 1] * X[:, 2], [-0.5, 0.5])


def later(learner, X, y, ends, *, keep_scratch):
    """The parts after the slice of the fit, and after each that arrived."""
    stored, scratch, n_old = [], {}, 0
    classes = np.unique(y) if learner.capabilities.task == "classification" else None
    for r, n in enumerate(ends):
        state = learner.load(stored[-1]) if stored else None
        shard, given = (X, scratch) if keep_scratch else (X[:n], {})
        batch = Batch(X[:n], y[:n], None, n_old, classes, np.linspace(0, 0.99, n), shard, given)
        step = Step(0, r, Fraction(r), Fraction(r + 1), Fraction(1), 40 + r)
        stored.append(learner.save(learner.train(state, batch, step)))
        n_old = n
    return stored


@pytest.mark.parametrize(
    "model",
    [
        XGBClassifier(**SMALL),
        XGBClassifier(**SMALL, num_parallel_tree=2, subsample=0.6, colsample_bynode=0.6),
        XGBClassifier(**SMALL, tree_method="exact"),
        XGBClassifier(**SMALL, multi_strategy="multi_output_tree"),
        XGBRegressor(**SMALL, objective="reg:absoluteerror"),
    ],
)
def test_an_arrival_has_the_bytes_of_a_training_in_one_go(model, rows):
    X, y = rows
    learner = resolve(model)
    in_one_go = later(learner, X, y, (100, 180, 240), keep_scratch=True)
    assert in_one_go == later(learner, X, y, (100, 180, 240), keep_scratch=False)
    rounds = [learner.load(parts).booster.num_boosted_rounds() for parts in in_one_go]
    assert rounds == [4, 8, 12]
    # Bins and intercept stay those of the fit.
    assert in_one_go[2]["edges"] == in_one_go[0]["edges"]
    assert in_one_go[2]["model"] == in_one_go[0]["model"]


def test_a_late_second_class_starts_with_the_budget_so_far(rows):
    X, y = rows
    batch = Batch(X, y, None, 0, np.unique(y), np.linspace(0, 0.99, 240), X)
    learner = resolve(XGBClassifier(**SMALL))
    state = learner.train(None, batch, Step(0, 1, Fraction(0), Fraction(2), Fraction(3, 2), 1))
    assert state.booster.num_boosted_rounds() == 8


@pytest.mark.parametrize(
    "model",
    [
        XGBClassifier(**SMALL, booster="dart"),
        XGBRegressor(n_estimators=4, booster="gblinear"),
        XGBClassifier(**SMALL, early_stopping_rounds=2),
        XGBRFClassifier(n_estimators=4),
    ],
)
def test_what_cannot_go_on_is_not_resumable(model):
    capabilities = resolve(model).capabilities
    assert not capabilities.resumable
    assert capabilities.max_slices == 1
