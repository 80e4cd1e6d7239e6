"""Rows that are read once for all modules: no module sees what another has done to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from unlearnkit_torch import TorchModel
from unlearnkit_torch.learner import TorchLearner


class Greedy(nn.Module):
    """Works in the memory of its input."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)

    def forward(self, x):
        return self.linear(x.mul_(2))


MODEL = TorchModel(
    module=Greedy, n_features_as="n_in", n_outputs_as="n_out", loss="cross_entropy", epochs=1, predict_batch_size=50
)


def switches():
    return torch.get_num_threads(), torch.is_inference_mode_enabled(), torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("n", [1, 50, 91])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_module_that_writes_into_its_input_spoils_no_rows(drive, blobs, n, dtype):
    X, y, labels = blobs
    learner = TorchLearner(MODEL)
    states = [drive(learner, X, y, 1, classes=labels, seed=seed)[1] for seed in (1, 2)]
    rows = X[:n].astype(dtype)
    kept = rows.copy()
    alone = [learner.predict(state, rows).tobytes() for state in states]
    with learner.sharing(rows) as read:
        assert [learner.predict(state, read).tobytes() for state in states * 2] == alone * 2
    assert (rows == kept).all()


def test_switches_are_let_go(drive, blobs):
    X, y, labels = blobs
    learner = TorchLearner(MODEL)
    _, state = drive(learner, X, y, 1, classes=labels)
    before = switches()
    with learner.sharing(X[:1]) as read:
        learner.predict(state, read)
        assert switches() == (1, True, True)
    assert switches() == before
    with pytest.raises(RuntimeError), learner.sharing(X[:1]):
        learner.predict(state, X[:1, :3])
    assert switches() == before
    assert np.isfinite(learner.predict(state, X[:1])).all()
    assert switches() == before
