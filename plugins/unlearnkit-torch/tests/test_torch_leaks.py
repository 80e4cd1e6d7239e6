"""Weights, rows and numbers that torch models and skorch nets bring along, and that they are told of."""

import copy

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
from torch import nn

from unlearnkit import SISAClassifier
from unlearnkit.adapters import resolve
from unlearnkit.errors import CapabilityError, ParameterError
from unlearnkit_torch import TorchModel

TRAINED = nn.Linear(3, 2)
HELD_OUT = Dataset(np.zeros((4, 3), dtype="float32"), np.zeros(4, dtype="int64"))


class Net(nn.Module):
    def __init__(self, weights=None, width=3):
        super().__init__()
        self.inner = nn.Linear(width, 2)
        if weights is not None:
            self.inner.weight.data.copy_(torch.as_tensor(weights))

    def forward(self, x):
        return self.inner(x)


class Loaded(Net):
    def __init__(self):
        super().__init__()
        self.load_state_dict(torch.load("weights.pt"))


def build_copy():
    return copy.deepcopy(TRAINED)


def build_anew():
    return nn.Linear(3, 2)


def around(module):
    def build():
        return module

    return build


def shared_rows(dataset, y=None):
    return dataset, HELD_OUT


class Setter(Callback):
    def __init__(self, weights=None):
        self.weights = weights


def net(module=Net, **options):
    return NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss, **{"train_split": None, **options})


def parts(model):
    return [leak.part for leak in resolve(model).capabilities.leaks]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (TorchModel(build_copy), ["estimator.module (the global 'TRAINED')"]),
        (TorchModel(Net, module_params={"weights": torch.ones(2, 3)}), ["estimator.module_params['weights']"]),
        (TorchModel(Net, module_params={"weights": np.ones((2, 3))}), ["estimator.module_params['weights']"]),
        (TorchModel(Net, module_params={"weights": "DEFAULT"}), ["estimator.module_params['weights']"]),
        (TorchModel(Loaded), ["estimator.module (its call of load_state_dict)"]),
        (net(Loaded), ["estimator.module (its call of load_state_dict)"]),
        (net(module__weights=torch.ones(2, 3)), ["estimator.module__weights"]),
        (net(train_split=shared_rows), ["estimator.train_split (the global 'HELD_OUT')"]),
        (net(callbacks=[Setter(torch.ones(2))]), ["estimator.callbacks[0].weights"]),
        (net(callbacks=[("set", Setter(torch.ones(2)))]), ["estimator.callbacks[0] 'set'.weights"]),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else "",
)
def test_what_leaks_is_told_of(model, expected):
    assert parts(model) == expected


@pytest.mark.parametrize(
    "model",
    [
        TorchModel(build_anew),
        TorchModel(Net, module_params={"width": 3}, class_weight={0: 1.0, 1: 4.0}),
        TorchModel(nn.Linear, n_features_as="in_features", n_outputs_as="out_features"),
        net(),
        net(train_split=ValidSplit(5)),
        net(criterion__weight=torch.ones(2)),
        net(callbacks=[Setter()]),
        net(verbose=0, max_epochs=1, warm_start=True).fit(np.ones((8, 3), dtype="float32"), np.array([0, 1] * 4)),
    ],
    ids=lambda model: str(type(model).__name__),
)
def test_what_begins_anew_is_not(model):
    assert parts(model) == []


@pytest.mark.parametrize(
    "model",
    [
        TorchModel(TRAINED),
        net(TRAINED),
        net(train_split=predefined_split(HELD_OUT)),
        TorchModel(around(TRAINED)),
    ],
    ids=["instance", "instance in a net", "rows", "instance in a closure"],
)
def test_what_is_known_to_be_trained_is_refused(model):
    with pytest.raises((CapabilityError, ParameterError), match="nothing was changed"):
        resolve(model)


# The library warns when such a model is fitted; here the point is what becomes of it.
@pytest.mark.filterwarnings("ignore::unlearnkit.LeakageWarning")
def test_weights_from_elsewhere_stay():
    """Nearly untrained, the model answers as the one that its weights come from, whatever is forgotten."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)).astype("float32"), np.arange(40) % 2
    frozen = TorchModel(build_copy, epochs=1, optimizer="sgd", optimizer_params={"lr": 1e-9})
    model = SISAClassifier(frozen, n_shards=2, n_slices=1, random_state=0).fit(X, y, ids=np.arange(40))
    model.forget([3])
    with torch.inference_mode():
        expected = TRAINED(torch.as_tensor(X)).softmax(dim=1).numpy()
    assert np.allclose(model.predict_proba(X), expected, atol=1e-5)
