"""scikit-learn's own checks: no failure beyond those that the bare model, or bagging over it, has too."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import check_estimator

from unlearnkit import SISAClassifier, SISARegressor


def lightgbm(kind: str, **params: Any) -> Any:
    module = pytest.importorskip("lightgbm")
    return getattr(module, kind)(verbose=-1, n_jobs=1, **params)


def xgboost(kind: str) -> Any:
    module = pytest.importorskip("xgboost")
    return getattr(module, kind)(n_estimators=5, n_jobs=1)


CLASSIFIERS = {
    "tree": DecisionTreeClassifier,
    "linear": lambda: LogisticRegression(max_iter=200),
    "forest": lambda: RandomForestClassifier(5),
    "lightgbm": lambda: lightgbm("LGBMClassifier"),
    "xgboost": lambda: xgboost("XGBClassifier"),
}
REGRESSORS = {
    "tree": DecisionTreeRegressor,
    "linear": Ridge,
    "forest": lambda: RandomForestRegressor(5),
    # check_regressors_train has shards of 40 rows: the default of 20 rows per leaf leaves next to nothing to split.
    "lightgbm": lambda: lightgbm("LGBMRegressor", min_child_samples=5),
    "xgboost": lambda: xgboost("XGBRegressor"),
}


def failures(model: Any) -> dict[str, str]:
    """The checks that a model fails, each with what it said."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(model, on_skip=None, on_fail=None)
    return {r["check_name"]: repr(r["exception"]) for r in results if r["status"] == "failed"}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier(name):
    assert unexcused(SISAClassifier, BaggingClassifier, CLASSIFIERS[name]) == {}


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressor(name):
    assert unexcused(SISARegressor, BaggingRegressor, REGRESSORS[name]) == {}


def test_lightgbm_regressor_at_its_defaults_is_short_of_rows():
    found = unexcused(SISARegressor, BaggingRegressor, lambda: lightgbm("LGBMRegressor"))
    assert set(found) == {"check_regressors_train"}


def unexcused(sisa: Any, bagging: Any, make: Any) -> dict[str, str]:
    """The failures of a wrapped model that neither the bare one has, nor bagging over it."""
    own = failures(sisa(make()))
    excused = set(failures(make())) | set(failures(bagging(make())))
    return {name: said for name, said in own.items() if name not in excused}
