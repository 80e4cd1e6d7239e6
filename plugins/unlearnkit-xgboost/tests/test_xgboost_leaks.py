"""What an XGBoost estimator brings along from outside, and that it is told of."""

import numpy as np
import pytest
from xgboost import XGBClassifier, XGBRegressor

from unlearnkit.adapters import resolve

MEAN = np.array([0.5])


def own(y, margin):
    return margin - y + 0 * MEAN, np.ones_like(y)


def plain(y, margin):
    return margin - y, np.ones_like(y)


def fitted():
    return XGBClassifier(n_estimators=2).fit(np.arange(60.0).reshape(30, 2), [0, 1] * 15)


def parts(model):
    return [leak.part for leak in resolve(model).capabilities.leaks]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: XGBRegressor(objective=own), ["estimator.objective (the global 'MEAN')"]),
        (lambda: XGBRegressor(eval_metric=own), ["estimator.eval_metric (the global 'MEAN')"]),
        (lambda: XGBClassifier(feature_weights=np.ones(3)), ["estimator.feature_weights"]),
        (lambda: XGBClassifier(xgb_model=fitted().get_booster()), ["estimator.xgb_model"]),
        (
            lambda: XGBClassifier(eval_set=[(np.ones((2, 2)), np.ones(2))]),
            ["estimator.eval_set[0][0]", "estimator.eval_set[0][1]"],
        ),
    ],
)
def test_what_leaks_is_told_of(make, expected):
    assert parts(make()) == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda: XGBRegressor(objective=plain),
        lambda: XGBClassifier(feature_weights=[1.0, 1.0, 0.5]),
        lambda: XGBClassifier(scale_pos_weight=3.0, base_score=0.5, monotone_constraints=(1, 0)),
        fitted,
    ],
)
def test_constants_are_not(make):
    assert parts(make()) == []
