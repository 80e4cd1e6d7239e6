"""The conformance kit over a torch classifier, a torch regressor and a skorch net."""

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn

from unlearnkit.testing import Subject, parametrize_with_checks
from unlearnkit.testing.subject import default_rows
from unlearnkit_torch import TorchModel


def classifier():
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, 3))


def regressor():
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))


X, y = default_rows("classification")
MODELS = [
    TorchModel(
        classifier,
        loss="cross_entropy",
        optimizer="adam",
        epochs=6,
        batch_size=16,
        scheduler="cosine",
        scheduler_params={"T_max": "total"},
    ),
    Subject.of(TorchModel(regressor, loss="mse", optimizer="sgd", epochs=6, batch_size=16), name="TorchRegressor"),
    Subject.of(
        NeuralNetClassifier(
            classifier, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, max_epochs=6, train_split=None
        ),
        X.astype(np.float32),
        y,
        base=classifier(),
    ),
]


@parametrize_with_checks(MODELS)
def test_conformance(subject, check):
    check(subject)
