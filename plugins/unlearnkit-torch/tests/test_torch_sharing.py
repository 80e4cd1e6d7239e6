"""Rows that are read once for all modules: no module sees what another has done to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from unlearnkit_torch import TorchModel
from unlearnkit_torch.learner import TorchLearner, copies


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


def scorer(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 16), nn.Tanh(), nn.Linear(16, n_out))


def of_seeds(drive, learner, X, y, labels):
    return [drive(learner, X, y, 1, classes=labels, seed=seed)[1] for seed in range(5)]


def assert_joined_alike(learner, states, X):
    together = learner.joined(states)
    for n in (1, 2, 7, 50, 64):
        rows = X[:n]
        kept, alone = rows.copy(), [learner.predict(state, rows) for state in states]
        with learner.sharing(rows) as read:
            for _ in range(2):
                found = list(together(read))
                assert [(p.dtype, p.shape, p.tobytes()) for p in found] == [
                    (p.dtype, p.shape, p.tobytes()) for p in alone
                ]
        assert (rows == kept).all()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_modules_that_are_joined_give_the_bits_of_each(drive, blobs, dtype):
    X, y, labels = blobs
    learner = TorchLearner(MODEL)
    assert_joined_alike(learner, of_seeds(drive, learner, X, y, labels), X.astype(dtype))


@pytest.mark.parametrize("k", [2, 3, 5, 8, 9, 17])
def test_any_number_of_classes(drive, blobs, k):
    X = blobs[0]
    learner = TorchLearner(MODEL.__class__(**{**MODEL.get_params(), "module": scorer}))
    states = of_seeds(drive, learner, X, np.arange(len(X)) % k, np.arange(k))
    assert_joined_alike(learner, states, X)


def test_one_score_for_two_classes(drive, blobs):
    X, y, labels = blobs
    params = {**MODEL.get_params(), "module": nn.Linear, "n_features_as": "in_features", "n_outputs_as": None}
    learner = TorchLearner(TorchModel(**params | {"module_params": {"out_features": 1}, "loss": "bce_with_logits"}))
    assert_joined_alike(learner, of_seeds(drive, learner, X, (y > 0).astype(int), labels[:2]), X)


def test_modules_of_other_sizes_are_not_joined(drive, blobs):
    X, y, labels = blobs
    learner = TorchLearner(MODEL)
    states = of_seeds(drive, learner, X, y, labels)
    narrow = drive(learner, X[:, :3], y, 1, classes=labels)[1]
    assert learner.joined([states[0], narrow]) is None


def test_clones_made_in_one_go_are_apart_and_aligned():
    rows = torch.arange(15.0).reshape(3, 5)
    found = copies(rows, 4)
    found[1].mul_(0)
    assert [bool((own == rows).all()) for own in found] == [True, False, True, True]
    assert all(own.is_contiguous() and own.data_ptr() % 64 == rows.clone().data_ptr() % 64 for own in found)
