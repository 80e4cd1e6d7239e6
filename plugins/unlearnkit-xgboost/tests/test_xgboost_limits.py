"""What is refused, what has one slice, and what is declared."""

import subprocess
import sys

import numpy as np
import pytest
from xgboost import XGBClassifier, XGBModel, XGBRanker, XGBRegressor, XGBRFClassifier
from xgboost.callback import EarlyStopping

from unlearnkit.adapters import resolve
from unlearnkit.errors import CapabilityError, UnsupportedModelError

REFUSED = {
    "random_state": {"random_state": np.random.RandomState(0)},
    "callbacks": {"callbacks": [EarlyStopping(rounds=3)]},
    "device": {"device": "cuda"},
    "seed": {"seed": 3},
    "process_type": {"process_type": "update"},
    "objective": {"objective": "rank:pairwise"},
}
ONE_SLICE = {
    "dart": XGBClassifier(booster="dart"),
    "linear": XGBRegressor(booster="gblinear"),
    "forest": XGBRFClassifier(),
    "early_stopping_rounds": XGBClassifier(early_stopping_rounds=5),
    "updater": XGBClassifier(updater="grow_colmaker,prune"),
    "feature_types": XGBRegressor(feature_types=["q", "c"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_parameter(name):
    with pytest.raises(CapabilityError, match=f"^{name} .*nothing was changed"):
        resolve(XGBClassifier(**REFUSED[name]))


class Louder(XGBClassifier):
    def fit(self, X, y, **options):
        return super().fit(2 * X, y, **options)


class Shallow(XGBClassifier):
    pass


@pytest.mark.parametrize("model", [XGBRanker(), XGBModel(), Louder()])
def test_models_that_train_otherwise_are_refused(model):
    with pytest.raises(UnsupportedModelError, match=type(model).__name__):
        resolve(model)


def test_a_plain_subclass_is_welcome():
    assert resolve(Shallow()).capabilities.resumable


@pytest.mark.parametrize("name", ONE_SLICE)
def test_one_slice_where_slices_cannot_work(name):
    capabilities = resolve(ONE_SLICE[name]).capabilities
    assert (capabilities.max_slices, capabilities.resumable, capabilities.recommended_slices) == (1, False, 1)
    assert name.split("_", maxsplit=1)[0] in capabilities.why_limited


def test_a_slice_needs_a_round():
    capabilities = resolve(XGBClassifier(n_estimators=3)).capabilities
    assert (capabilities.max_slices, capabilities.recommended_slices) == (3, 3)
    assert "3 boosting rounds" in capabilities.why_limited


@pytest.mark.parametrize(
    ("model", "probabilities"),
    [
        (XGBClassifier(), True),
        (XGBClassifier(objective="multi:softmax"), True),
        (XGBClassifier(objective=np.subtract), True),
        (XGBClassifier(objective="binary:hinge"), False),
        (XGBClassifier(objective="binary:logitraw"), False),
        (XGBRegressor(), False),
    ],
)
def test_probabilities_are_declared(model, probabilities):
    assert resolve(model).capabilities.probabilities is probabilities


@pytest.mark.parametrize(
    ("params", "frames"),
    [
        ({}, False),
        ({"monotone_constraints": (1, 0)}, False),
        ({"monotone_constraints": {"a": 1}}, True),
        ({"interaction_constraints": [[0, 1]]}, False),
        ({"interaction_constraints": [["a", "b"]]}, True),
        ({"enable_categorical": True}, True),
    ],
)
def test_frames_stay_whole_where_columns_have_names(params, frames):
    assert resolve(XGBRegressor(**params)).capabilities.frames is frames


def test_neutral_parameters_leave_the_fingerprint_alone():
    plain = resolve(XGBClassifier()).fingerprint
    assert resolve(XGBClassifier(n_jobs=3, verbosity=2, nthread=2, importance_type="weight")).fingerprint == plain
    assert resolve(XGBClassifier(max_depth=2)).fingerprint != plain
    assert resolve(XGBRegressor()).fingerprint != plain


def test_the_plugin_imports_no_framework():
    code = "import sys, unlearnkit_xgboost; assert not {'xgboost', 'sklearn', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
