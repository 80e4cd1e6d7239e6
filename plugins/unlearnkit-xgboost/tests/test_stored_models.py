"""Models of XGBoost as a store describes them: back by the plugin's list of modules alone."""

import json

import numpy as np
import pytest
import xgboost

from unlearnkit.errors import CodeNeededError
from unlearnkit.fingerprints import fingerprint
from unlearnkit.models import describe, restore

MODELS = [
    xgboost.XGBClassifier(),
    xgboost.XGBRegressor(missing=-1.0, base_score=np.float64(0.5), random_state=np.int64(3)),
    xgboost.XGBClassifier(monotone_constraints={"a": 1}, interaction_constraints=[["a", "b"], ["c"]]),
    xgboost.XGBRegressor(eval_metric=["rmse", "mae"], monotone_constraints=(1, 0), gamma=float("inf")),
    xgboost.XGBRFClassifier(feature_types=["q", "c"], extra={"deep": (None, float("nan"))}),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_a_stored_model_is_built_again(model):
    before = fingerprint(model)
    other = restore(json.loads(json.dumps(describe(model), allow_nan=False)))
    assert type(other) is type(model)
    assert repr(sorted(other.get_params().items())) == repr(sorted(model.get_params().items()))
    assert fingerprint(other) == fingerprint(model) == before


def objective(y, prediction):
    return prediction - y, np.ones_like(y)


class Mine(xgboost.XGBClassifier):
    pass


@pytest.mark.parametrize(
    "model",
    [
        xgboost.XGBClassifier(objective=objective),
        xgboost.XGBClassifier(callbacks=[xgboost.callback.EarlyStopping(rounds=3)]),
        Mine(),
    ],
)
def test_user_code_and_live_objects_have_to_be_given(model):
    assert describe(model) is None


@pytest.mark.parametrize("name", ["xgboost.core:Booster", "xgboost.core:DMatrix", "xgboost.sklearn:XGBModelBase"])
def test_nothing_but_estimators_is_made(name, tmp_path):
    file = tmp_path / "rows.csv"
    with pytest.raises(CodeNeededError, match="estimator="):
        restore({"estimator": {"class": name, "parameters": {"data": str(file)}}})
