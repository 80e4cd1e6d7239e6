"""Forgetting through the estimator leaves what a fit without the records leaves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from torch import nn

from unlearnkit import SISAClassifier, SISARegressor
from unlearnkit_torch import TorchModel


class Net(nn.Module):
    def __init__(self, k=3):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, k))

    def forward(self, x):
        return self.layers(x)


def torch_model(**options):
    schedule = {"scheduler": "onecycle", "scheduler_params": {"max_lr": 0.1, "total_steps": "total"}}
    return TorchModel(Net, n_outputs_as="k", epochs=5, batch_size=8, random_state=1, **schedule, **options)


def skorch_net():
    schedule = LRScheduler("StepLR", step_size=2)
    options = {"criterion": nn.CrossEntropyLoss, "optimizer": torch.optim.Adam, "iterator_train__shuffle": True}
    return NeuralNetClassifier(Net, max_epochs=4, batch_size=8, callbacks=[schedule], **options)


@pytest.mark.parametrize(
    ("make", "model"),
    [(SISAClassifier, torch_model()), (SISARegressor, torch_model(loss="mse")), (SISAClassifier, skorch_net())],
    ids=["classifier", "regressor", "skorch"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_forget_equals_refit(make, model, blobs):
    X, y, classes = blobs
    y = classes[y] if make is SISAClassifier else X[:, 0].astype(np.float64)
    ids = np.arange(91) // 2
    sisa = make(model, n_shards=3, n_slices=3, random_state=0).fit(X, y, ids=ids)
    sisa.forget([3, 17])
    sisa.forget([44])
    kept = ~np.isin(ids, [3, 17, 44])
    reference = sisa.pinned().fit(X[kept][::-1], y[kept][::-1], ids=ids[kept][::-1])
    assert reference.model_digest_ == sisa.model_digest_
    assert np.array_equal(reference.predict(X), sisa.predict(X))
