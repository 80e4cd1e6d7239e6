"""What a LightGBM estimator brings along from outside, and that it is told of."""

import numpy as np
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.pipeline import make_pipeline

from unlearnkit.adapters import resolve

MEAN = np.array([0.5])


def own(y, scores):
    return scores - y + 0 * MEAN, np.ones_like(y)


def plain(y, scores):
    return scores - y, np.ones_like(y)


def parts(model):
    return [leak.part for leak in resolve(model).capabilities.leaks]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (LGBMRegressor(objective=own), ["estimator.objective (the global 'MEAN')"]),
        (LGBMClassifier(feature_contri=np.ones(3)), ["estimator.feature_contri"]),
        (LGBMClassifier(feature_penalty=np.ones(3)), ["estimator.feature_penalty"]),
        (make_pipeline("passthrough", LGBMClassifier(fp=np.ones(3))), ["estimator.steps[1] 'lgbmclassifier'.fp"]),
    ],
)
def test_what_leaks_is_told_of(model, expected):
    assert parts(model) == expected


@pytest.mark.parametrize(
    "model",
    [
        LGBMRegressor(objective=plain),
        LGBMClassifier(feature_contri=[1.0, 1.0, 0.5]),
        LGBMClassifier(class_weight={0: 1.0, 1: 3.0}, monotone_constraints=np.array([1, 0, 0])),
        LGBMClassifier(n_estimators=2, verbose=-1).fit(np.arange(60.0).reshape(30, 2), [0, 1] * 15),
    ],
)
def test_constants_are_not(model):
    assert parts(model) == []
