"""scikit-learn's own checks: no failure beyond those that the plain model, or bagging over it, has too.

A few quick models here; UNLEARNKIT_CONFORMANCE=whole runs all that `benchmarks/conformance.py` knows.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from unlearnkit import SISARegressor

SCRIPTS = Path(__file__).parents[1] / "benchmarks"
WHOLE = os.environ.get("UNLEARNKIT_CONFORMANCE") == "whole"
FRAMEWORKS = {
    "LightGBM": "lightgbm",
    "XGBoost": "xgboost",
    "CatBoost": "catboost",
    "TorchModel": "torch",
    "skorch": "skorch",
}
# Bagging over the others takes most of the time.
QUICK = {
    "classifiers": ["scaler, LogisticRegression", "LightGBM"],
    "regressors": ["DecisionTree", "KNeighbors", "columns, Ridge"],
}
# Their one-armed run is quick, and they have nothing to be excused for.
SPOTLESS = {"classifiers": ["XGBoost", "LinearSVC", "skorch"], "regressors": ["Gamma", "target scaled, Ridge"]}
# What docs/scikit-learn.md explains.
EXPLAINED = {("regressors", "HistGradientBoosting"): {"check_estimators_pickle"}}


@pytest.fixture(scope="module")
def script():
    """The script as a module. What lies beside it is found by name, as pickles of its network need it."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        spec = importlib.util.spec_from_file_location("conformance_script", SCRIPTS / "conformance.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(SCRIPTS))


def named(models):
    return [pytest.param(kind, name, id=f"{kind}, {name}") for kind, names in models.items() for name in names]


def everything():
    """All models, by name: the table of the page lists each."""
    if not WHOLE:
        return QUICK
    sys.path.insert(0, str(SCRIPTS))
    try:
        from conformance_models import CLASSIFIERS, REGRESSORS
    finally:
        sys.path.remove(str(SCRIPTS))
    return {"classifiers": list(CLASSIFIERS), "regressors": list(REGRESSORS)}


@pytest.mark.parametrize(("kind", "name"), named(everything()))
def test_no_failure_of_its_own(script, kind, name):
    needs(name)
    found = script.faults(kind, name)
    assert set(found) == EXPLAINED.get((kind, name), set()), found


@pytest.mark.parametrize(("kind", "name"), named(SPOTLESS))
def test_no_failure_at_all_but_of_equivalent_weights(script, kind, name):
    needs(name)
    models, _, sisa = script.KINDS[kind]
    found = script.outcome(sisa(models[name]()))
    assert found["passed"] > 40
    assert {check for check in found["failed"] if "sample_weight_equivalence" not in check} == set(), found


def test_lightgbm_regressor_at_its_defaults_is_short_of_rows(script):
    lightgbm = pytest.importorskip("lightgbm")
    found = script.outcome(SISARegressor(lightgbm.LGBMRegressor(n_estimators=10, verbose=-1, n_jobs=1)))
    assert "check_regressors_train" in found["failed"]


def test_a_fault_of_its_own_is_told_from_one_of_the_model(script):
    said = {"check_a": "of the model", "check_b": "of bagging", "check_c": "its own"}
    arms = {"plain": {"passed": 1, "failed": {"check_a": ""}}, "bagging": {"passed": 1, "failed": {"check_b": ""}}}
    arms["unlearnkit"] = {"passed": 1, "failed": said}
    assert script.unexcused(arms) == {"check_c": "its own"}
    assert "`c`" in script.markdown("regressors", {"Ridge": arms})


def test_only_what_neither_of_the_others_fails_is_a_fault(script, monkeypatch):
    fails = {"plain": {"check_a"}, "bagging": {"check_b", "check_d"}, "wrapped": {"check_a", "check_b", "check_c"}}
    asked = []

    def outcome(arm, only=None):
        asked.append((arm, only and set(only)))
        return {"passed": 1, "failed": {check: arm for check in fails[arm] if only is None or check in only}}

    monkeypatch.setattr(script, "outcome", outcome)
    kinds = {"k": ({"m": lambda: "plain"}, lambda _: "bagging", lambda _: "wrapped")}
    monkeypatch.setattr(script, "KINDS", kinds)
    assert script.faults("k", "m") == {"check_c": "wrapped"}
    assert asked == [
        ("wrapped", None),
        ("plain", {"check_a", "check_b", "check_c"}),
        ("bagging", {"check_b", "check_c"}),
    ]


def needs(name):
    for word, module in FRAMEWORKS.items():
        if word in name:
            pytest.importorskip(module)
