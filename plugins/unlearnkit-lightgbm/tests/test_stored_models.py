"""Models of LightGBM as a store describes them: back by the plugin's list of modules alone."""

import json

import lightgbm
import numpy as np
import pytest

from unlearnkit.errors import CodeNeededError
from unlearnkit.fingerprints import fingerprint
from unlearnkit.models import describe, restore

MODELS = [
    lightgbm.LGBMClassifier(),
    lightgbm.LGBMRegressor(objective="huber", random_state=np.int64(3), learning_rate=np.float32(0.1)),
    lightgbm.LGBMClassifier(class_weight={0: 1.5, "a": 2}, min_split_gain=float("-inf")),
    lightgbm.LGBMClassifier(monotone_constraints=[0, 1], interaction_constraints=((0, 1), (2,)), max_delta_step=np.nan),
    lightgbm.LGBMRegressor(metric=["l1", "l2"], cegb={"a": (None, True)}),
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


class Mine(lightgbm.LGBMClassifier):
    pass


@pytest.mark.parametrize("model", [lightgbm.LGBMClassifier(objective=objective), Mine()])
def test_user_code_has_to_be_given(model):
    assert describe(model) is None


@pytest.mark.parametrize(
    "name", ["lightgbm.basic:Booster", "lightgbm.basic:Dataset", "lightgbm.sklearn:_LGBMModelBase"]
)
def test_nothing_but_estimators_is_made(name, tmp_path):
    file = tmp_path / "model.txt"
    with pytest.raises(CodeNeededError, match="estimator="):
        restore({"estimator": {"class": name, "parameters": {"model_file": str(file)}}})
