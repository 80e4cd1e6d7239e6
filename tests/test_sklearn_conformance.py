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


def lightgbm(kind: str) -> Any:
    module = pytest.importorskip("lightgbm")
    # The checks have shards of 30 rows: the default of 20 rows per leaf would leave nothing to split.
    return getattr(module, kind)(min_child_samples=5, verbose=-1, n_jobs=1)


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
    "lightgbm": lambda: lightgbm("LGBMRegressor"),
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
    judge(SISAClassifier(CLASSIFIERS[name]()), CLASSIFIERS[name](), BaggingClassifier(CLASSIFIERS[name]()))


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressor(name):
    judge(SISARegressor(REGRESSORS[name]()), REGRESSORS[name](), BaggingRegressor(REGRESSORS[name]()))


def judge(sisa: Any, bare: Any, bagging: Any) -> None:
    own = failures(sisa)
    unexcused = set(own) - set(failures(bare)) - set(failures(bagging))
    assert not unexcused, "\n".join(f"{name}: {own[name]}" for name in sorted(unexcused))
