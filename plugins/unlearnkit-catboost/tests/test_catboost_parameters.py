"""Parameters: what is kept, in which spelling, and what is refused by name."""

import inspect

import pytest
from catboost import CatBoost, CatBoostClassifier, CatBoostRanker, CatBoostRegressor

from unlearnkit.adapters import resolve
from unlearnkit.errors import CapabilityError, ParameterError, UnsupportedModelError
from unlearnkit_catboost import parameters


@pytest.mark.parametrize(
    "given",
    [
        {"early_stopping_rounds": 5},
        {"od_type": "Iter"},
        {"od_wait": 5},
        {"use_best_model": True},
        {"eval_fraction": 0.1},
        {"save_snapshot": True},
        {"snapshot_file": "x"},
        {"input_borders": "x"},
        {"task_type": "GPU"},
        {"devices": "0"},
        {"used_ram_limit": "1gb"},
        {"class_names": ["a", "b"]},
        {"classes_count": 3},
        {"text_features": ["a"]},
        {"has_time": True},
        {"sampling_unit": "Group"},
        {"final_ctr_computation_mode": "Skip"},
        {"class_weights": [1, 2, 3]},
        {"random_seed": 1.5},
        {"callback": print},
    ],
    ids=lambda given: next(iter(given)),
)
def test_what_cannot_be_kept_is_refused_by_name(given):
    with pytest.raises(CapabilityError, match=rf"^{next(iter(given))} .*Nothing was changed"):
        resolve(CatBoostClassifier(**given))


class Loss:
    pass


@pytest.mark.parametrize("loss", ["Focal:focal_alpha=0.5;focal_gamma=2", "RMSE", Loss()])
def test_losses_that_give_no_classes_are_refused(loss):
    with pytest.raises(CapabilityError, match="loss_function"):
        resolve(CatBoostClassifier(loss_function=loss))


@pytest.mark.parametrize("loss", ["RMSEWithUncertainty", "MultiQuantile:alpha=0.2,0.8", "SurvivalAft", "Logloss"])
def test_losses_that_give_no_values_are_refused(loss):
    with pytest.raises(CapabilityError, match="loss_function"):
        resolve(CatBoostRegressor(loss_function=loss))


def test_every_parameter_is_decided_on():
    """A parameter that a new CatBoost adds is refused until somebody has looked at it; these are the known ones."""
    known = set(inspect.signature(CatBoostClassifier.__init__).parameters) - {"self"}
    decided = parameters._KEPT | parameters._WHOLE_ONLY.keys() | parameters.REFUSED.keys() | parameters.NEUTRAL
    decided |= parameters._ONLY.keys() | parameters.SPELLINGS.keys()
    assert known - decided == {"ctr_description", "fixed_binary_splits"}
    assert not parameters._KEPT & parameters.REFUSED.keys()


@pytest.mark.parametrize("name", ["ctr_description", "fixed_binary_splits", "no_such_thing"])
def test_unknown_parameters_are_refused(name):
    with pytest.raises(CapabilityError, match=rf"^{name} .*unknown"):
        resolve(CatBoostClassifier().set_params(**{name: 1}))


@pytest.mark.parametrize(
    ("one", "other"), [("max_depth", "depth"), ("eta", "learning_rate"), ("n_estimators", "iterations")]
)
def test_spellings_mean_the_same(one, other):
    twins = [resolve(CatBoostClassifier(**{name: 2})) for name in (one, other)]
    assert twins[0].settings == twins[1].settings


def test_a_parameter_in_two_spellings_is_refused():
    with pytest.raises(ParameterError, match="iterations is given twice"):
        resolve(CatBoostClassifier(iterations=3, n_estimators=3))


@pytest.mark.parametrize("value", [0, -1, 2.5, "many"])
def test_iterations_are_a_count(value):
    with pytest.raises(ParameterError, match="iterations"):
        resolve(CatBoostClassifier(iterations=value))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"langevin": True}, "langevin"),
        ({"model_shrink_rate": 0.1}, "shrink"),
        ({"per_object_feature_penalties": {0: 1.0}}, "penalties"),
        ({"loss_function": "MultiRMSE"}, "several targets"),
    ],
)
def test_what_concerns_the_whole_model_has_one_slice(given, reason):
    capabilities = resolve(CatBoostRegressor(**given)).capabilities
    assert not capabilities.resumable
    assert capabilities.max_slices == capabilities.recommended_slices == 1
    assert reason in capabilities.why_limited


def test_slices_are_limited_by_the_trees():
    capabilities = resolve(CatBoostClassifier(iterations=3)).capabilities
    assert (capabilities.max_slices, capabilities.recommended_slices) == (3, 3)
    assert resolve(CatBoostClassifier()).capabilities.recommended_slices == 5


def test_only_what_changes_a_result_is_in_the_fingerprint():
    plain = resolve(CatBoostClassifier(iterations=5)).fingerprint
    loud = {"verbose": 3, "thread_count": 2, "train_dir": "x", "eval_metric": "AUC", "metric_period": 5, "name": "n"}
    assert resolve(CatBoostClassifier(iterations=5, **loud)).fingerprint == plain
    assert resolve(CatBoostClassifier(iterations=5, depth=2)).fingerprint != plain


class Own(CatBoostClassifier):
    def fit(self, X, y=None, **options):
        return super().fit(X[:5], y[:5], **options)


class Renamed(CatBoostRegressor):
    pass


def test_models_that_train_in_their_own_way_are_refused():
    for model, reason in ((Own(), "fit of its own"), (CatBoostRanker(), "neither"), (CatBoost(), "neither")):
        with pytest.raises(UnsupportedModelError, match=reason):
            resolve(model)
    assert resolve(Renamed()).capabilities.task == "regression"


def test_the_model_stays_as_it_is():
    model = CatBoostClassifier(n_estimators=4, class_weights={0: 1, 1: 2})
    before = dict(model.get_params())
    resolve(model)
    assert model.get_params() == before
