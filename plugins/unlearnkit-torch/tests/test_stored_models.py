"""Torch and skorch models as a store describes them: back by the plugin's list of modules alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import EarlyStopping, EpochScoring, EpochTimer, GradientNormClipping, LRScheduler
from skorch.dataset import ValidSplit
from torch import nn
from torch.optim import lr_scheduler

from unlearnkit.adapters import resolve
from unlearnkit.errors import CodeNeededError
from unlearnkit.fingerprints import fingerprint
from unlearnkit.models import describe, restore
from unlearnkit_torch import TorchModel


def net(**options):
    return NeuralNetClassifier(nn.Linear, module__in_features=3, module__out_features=2, **options)


MODELS = {
    "torch": TorchModel(nn.Linear, n_features_as="in_features", n_outputs_as="out_features"),
    "torch_classes": TorchModel(
        nn.Bilinear,
        module_params={"bias": False, "sizes": (1, [2])},
        loss=nn.CrossEntropyLoss,
        loss_params={"label_smoothing": 0.1},
        optimizer=torch.optim.SGD,
        optimizer_params={"lr": np.float64(0.1)},
        scheduler=lr_scheduler.StepLR,
        scheduler_params={"step_size": "total"},
        class_weight={0: 1.0, "a": 2.0},
    ),
    "regressor": NeuralNetRegressor(nn.Linear, module__in_features=3, module__out_features=1, train_split=None),
    "binary": NeuralNetBinaryClassifier(nn.Linear, optimizer=torch.optim.Adam, optimizer__betas=(0.9, 0.99)),
    "defaults": net(),
    "shuffled": net(iterator_train__shuffle=True, train_split=ValidSplit(5, stratified=True), lr=0.02),
    "silent": net(callbacks="disable", criterion=nn.CrossEntropyLoss, criterion__reduction="sum"),
    "scheduled": net(callbacks=[LRScheduler("StepLR", step_size=2), ("f1", EpochScoring("f1_macro", on_train=True))]),
    "by_class": net(callbacks=[LRScheduler(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=6), EpochTimer()]),
    "stopped": net(callbacks=[EarlyStopping(), GradientNormClipping(1.0)], callbacks__print_log=None),
}


@pytest.mark.parametrize("copy", [lambda model: model, clone], ids=["given", "cloned"])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_a_stored_model_is_built_again(model, copy):
    model = copy(model)
    before = fingerprint(model)
    other = restore(json.loads(json.dumps(describe(model), allow_nan=False)))
    assert type(other) is type(model)
    assert fingerprint(other) == fingerprint(model) == before


def test_its_learner_is_the_same():
    for name in ("torch", "silent", "scheduled"):
        assert resolve(restore(describe(MODELS[name]))).fingerprint == resolve(MODELS[name]).fingerprint


class Mine(nn.Module):
    pass


def build():
    return nn.Linear(3, 2)


@pytest.mark.parametrize(
    "model",
    [
        TorchModel(Mine),
        TorchModel(build),
        TorchModel(nn.Linear, module_params={"inner": nn.ReLU()}),
        TorchModel(nn.Linear, loss=nn.functional.cross_entropy),
        TorchModel(nn.Linear, loss_params={"weight": torch.ones(2)}),
        NeuralNetClassifier(Mine),
        NeuralNetClassifier(nn.Linear(3, 2)),
        net(train_split=None, dataset=dict),
        net(callbacks=[EpochScoring(build)]),
    ],
)
def test_user_code_and_live_objects_have_to_be_given(model):
    assert describe(model) is None


@pytest.mark.parametrize(
    "name",
    [
        "torch:load",
        "torch.hub:load",
        "torch.nn.modules.linear:Linear",
        "torch.serialization:load",
        "skorch.utils:open_file",
    ],
)
def test_nothing_but_estimators_is_made(name):
    with pytest.raises(CodeNeededError, match="estimator="):
        restore({"estimator": {"class": name, "parameters": {}}})
    if name != "torch.nn.modules.linear:Linear":
        inside = {
            "estimator": {"class": "unlearnkit_torch.model:TorchModel", "parameters": {"module": {"class": name}}}
        }
        with pytest.raises(CodeNeededError, match="estimator="):
            restore(inside)
