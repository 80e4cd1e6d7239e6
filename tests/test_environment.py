from __future__ import annotations

import platform

import numpy as np
import sklearn
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from unlearnkit import environment as module
from unlearnkit.environment import environment, environment_digest, environment_now


class Framework:
    """A model of a package that is not installed as a distribution."""


class Wrapper:
    def __init__(self, inner):
        self.inner = inner

    def get_params(self, deep=True):
        return {"inner": self.inner}


def test_it_names_what_decides_the_bits():
    found = environment()
    assert found["python"] == platform.python_version()
    assert found["numpy"] == np.__version__
    assert found["scikit-learn"] == sklearn.__version__
    assert found["cpu"]


def test_frameworks_of_models_inside_count():
    import lightgbm

    alone = environment(DecisionTreeClassifier())
    assert "lightgbm" not in alone
    inside = make_pipeline(lightgbm.LGBMClassifier())
    assert environment(Wrapper(inside))["lightgbm"] == lightgbm.__version__


def test_the_plugin_and_what_it_requires_count(monkeypatch):
    class Learner:
        pass

    Learner.__module__ = "unlearnkit_lightgbm.learner"
    found = environment(Framework(), Learner())
    assert "lightgbm" in found
    assert "unlearnkit-lightgbm" in found
    assert "unlearnkit" not in found


def test_a_model_of_nobody_knows_what_is_no_error():
    assert environment(Framework()) == environment()


def test_now_asks_again_for_the_same_facts(monkeypatch):
    recorded = environment() | {"vanished": "1.0"}
    monkeypatch.setattr(module, "_version", lambda name: "9.9" if name == "numpy" else None)
    now = environment_now(recorded)
    assert now.keys() == recorded.keys()
    assert now["numpy"] == "9.9"
    assert now["vanished"] == "not installed"
    assert environment_digest(now) != environment_digest(recorded)


def test_the_digest_depends_on_facts_not_on_their_order():
    assert environment_digest({"a": "1", "b": "2"}) == environment_digest({"b": "2", "a": "1"})
    assert environment_digest({"a": "1"}) != environment_digest({"a": "2"})
