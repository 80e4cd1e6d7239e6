"""Which parameters are taken, which are refused, and that each refusal names its parameter."""

import lightgbm
import numpy as np
import pytest

from unlearnkit.adapters import resolve
from unlearnkit.errors import CapabilityError, ParameterError, UnsupportedModelError

REFUSED = [
    ("LGBMClassifier", {"objective": "regression"}, "objective"),
    ("LGBMClassifier", {"objective": np.add}, "objective"),
    ("LGBMClassifier", {"device": "gpu"}, "device_type"),
    ("LGBMClassifier", {"tree_learner": "data"}, "tree_learner"),
    ("LGBMClassifier", {"num_machines": 2}, "num_machines"),
    ("LGBMClassifier", {"machines": "10.0.0.1"}, "machines"),
    ("LGBMClassifier", {"forcedsplits_filename": "splits.json"}, "forcedsplits_filename"),
    ("LGBMClassifier", {"forcedbins_filename": "bins.json"}, "forcedbins_filename"),
    ("LGBMClassifier", {"input_model": "model.txt"}, "input_model"),
    ("LGBMClassifier", {"valid": "rows.csv"}, "valid"),
    ("LGBMClassifier", {"pred_early_stop": True}, "pred_early_stop"),
    ("LGBMClassifier", {"no_such_parameter": 1}, "no_such_parameter"),
    ("LGBMClassifier", {"random_state": np.random.RandomState(0)}, "random_state"),
    ("LGBMClassifier", {"boosting_type": "dart", "early_stopping_round": 3}, "early_stopping_round"),
    ("LGBMRegressor", {"objective": "lambdarank"}, "objective"),
    ("LGBMRegressor", {"objective": "multiclass"}, "objective"),
    ("LGBMRegressor", {"class_weight": "balanced"}, "class_weight"),
    ("LGBMRegressor", {"num_class": 3}, "num_class"),
]


@pytest.mark.parametrize(("kind", "params", "name"), REFUSED)
def test_refusals_name_the_parameter(kind, params, name):
    with pytest.raises(CapabilityError, match=name):
        resolve(getattr(lightgbm, kind)(**params))


@pytest.mark.parametrize("n_estimators", [0, -1, 2.5])
def test_the_number_of_trees_must_make_sense(n_estimators):
    with pytest.raises(ParameterError, match="n_estimators"):
        resolve(lightgbm.LGBMClassifier(n_estimators=n_estimators))


@pytest.mark.parametrize("params", [{"boosting_type": "rf"}, {"cegb_penalty_feature_coupled": [1.0, 1.0]}])
def test_what_concerns_the_whole_model_has_one_slice(params):
    can = resolve(lightgbm.LGBMClassifier(**params)).capabilities
    assert (can.resumable, can.max_slices, can.recommended_slices) == (False, 1, 1)
    assert any(str(value) in can.why_limited or key in can.why_limited for key, value in params.items())


def test_no_more_slices_than_trees():
    can = resolve(lightgbm.LGBMClassifier(n_estimators=3)).capabilities
    assert (can.max_slices, can.recommended_slices) == (3, 3)
    assert "tree" in can.why_limited


def test_rankers_and_models_without_a_task_are_refused():
    for model in (lightgbm.LGBMRanker(), lightgbm.LGBMModel()):
        with pytest.raises(UnsupportedModelError, match=type(model).__name__):
            resolve(model)


class OwnFit(lightgbm.LGBMClassifier):
    def fit(self, X, y, **options):
        return super().fit(X, 1 - y, **options)


class OwnDefaults(lightgbm.LGBMClassifier):
    def __init__(self, *, n_estimators=7, **params):
        super().__init__(n_estimators=n_estimators, **params)


def test_a_subclass_may_have_its_own_defaults_but_not_its_own_fit():
    assert resolve(OwnDefaults()).settings.rounds == 7
    with pytest.raises(UnsupportedModelError, match="fit"):
        resolve(OwnFit())


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"sub_row": 0.3}, "bagging_fraction"),
        ({"bagging_fraction": 0.3}, "bagging_fraction"),
        ({"min_data": 7}, "min_data_in_leaf"),
        ({"max_leaves": 9}, "num_leaves"),
        ({"sub_feature": 0.5}, "feature_fraction"),
        ({"l2_regularization": 0.3}, "lambda_l2"),
        ({"eta": 0.3, "shrinkage_rate": 0.4}, "learning_rate"),
    ],
)
def test_spellings_are_resolved_as_lightgbm_does(params, name):
    X = np.random.default_rng(0).normal(size=(60, 2))
    model = lightgbm.LGBMRegressor(n_estimators=1, verbose=-1, **params).fit(X, X[:, 0])
    shown = f"[{name}: {resolve(model).settings.params[name]:g}]"
    assert shown in model.booster_.model_to_string()


def test_trees_and_objective_may_be_spelled_otherwise():
    settings = resolve(lightgbm.LGBMRegressor(num_round=3, loss="l1")).settings
    assert (settings.rounds, settings.objective) == (3, "l1")


def test_neutral_parameters_leave_the_fingerprint_alone():
    plain = resolve(lightgbm.LGBMClassifier()).fingerprint
    for params in ({"n_jobs": 2}, {"nthread": 2}, {"verbosity": 1}, {"importance_type": "gain"}):
        assert resolve(lightgbm.LGBMClassifier(**params)).fingerprint == plain
    for params in ({"num_leaves": 5}, {"random_state": 1}, {"extra_trees": True}):
        assert resolve(lightgbm.LGBMClassifier(**params)).fingerprint != plain


def test_a_fitted_model_is_read_and_left_alone():
    X = np.random.default_rng(0).normal(size=(60, 2))
    constraints = [1, 0]
    model = lightgbm.LGBMRegressor(n_estimators=2, verbose=-1, monotone_constraints=constraints).fit(X, X[:, 0])
    text, params = model.booster_.model_to_string(), dict(model.get_params())
    learner = resolve(model)
    assert (model.booster_.model_to_string(), model.get_params()) == (text, params)
    constraints[0] = -1
    assert learner.settings.params["monotone_constraints"] == [1, 0]
