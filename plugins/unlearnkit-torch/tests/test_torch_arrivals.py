"""Steps after the whole budget: optimizers go on, and schedules go on or stay where they ended."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping, LRScheduler
from torch import nn
from torch.optim import lr_scheduler

from unlearnkit.learner import Batch, Step
from unlearnkit_torch import TorchModel
from unlearnkit_torch.budget import advance
from unlearnkit_torch.learner import TorchLearner
from unlearnkit_torch.skorch_learner import SkorchLearner


def net():
    return nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.1), nn.ReLU(), nn.Linear(5, 3))


def torch_model(scheduler=None, **scheduler_params):
    options = {"optimizer": "sgd", "optimizer_params": {"lr": 0.1, "momentum": 0.9}, "epochs": 4, "batch_size": 16}
    return TorchModel(net, scheduler=scheduler, scheduler_params=scheduler_params or None, **options)


def skorch_net(*callbacks, **options):
    settings = {"max_epochs": 4, "batch_size": 16, "train_split": None, "callbacks": list(callbacks)}
    return NeuralNetClassifier(net, criterion=nn.CrossEntropyLoss, **{**settings, **options})


def steps(n_slices, n_steps):
    for r in range(n_steps):
        start, stop = Fraction(r, n_slices), Fraction(r + 1, n_slices)
        yield Step(0, r, start, stop, Fraction(2, n_slices + 1), 30 + r)


def later(learner, rows, n_slices=1, arrivals=2, *, keep_scratch=True):
    """The states after each slice, the last of which arrived later."""
    X, y, classes = rows
    ends = [len(y) * (r + 1) // (n_slices + arrivals) for r in range(n_slices + arrivals)]
    states, n_old, scratch = [], 0, {}
    for n, step in zip(ends, steps(n_slices, len(ends)), strict=True):
        state = learner.load(learner.save(states[-1])) if states else None
        shard, given = (X, scratch) if keep_scratch else (X[:n], {})
        batch = Batch(X[:n], y[:n], None, n_old, classes, np.linspace(0, 0.99, n), shard, given)
        states.append(learner.train(state, batch, step))
        n_old = n
    return states


MODELS = {
    "none": torch_model(),
    "step": torch_model("step", step_size=3),
    "cosine": torch_model("cosine", T_max="total"),
    "onecycle": torch_model("onecycle", max_lr=0.1, total_steps="total"),
    "polynomial": torch_model("polynomial", total_iters="total"),
    "plateau": torch_model("plateau", patience=0),
}
NETS = {
    "none": skorch_net(),
    "onecycle": skorch_net(LRScheduler(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=4)),
    "onecycle_per_batch": skorch_net(
        LRScheduler(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=10, step_every="batch")
    ),
    "cosine": skorch_net(LRScheduler(lr_scheduler.CosineAnnealingLR, T_max=4)),
    "plateau": skorch_net(LRScheduler("ReduceLROnPlateau", monitor="train_loss", patience=0)),
}
LEARNERS = {f"torch-{name}": (TorchLearner, model) for name, model in MODELS.items()}
LEARNERS |= {f"skorch-{name}": (SkorchLearner, model) for name, model in NETS.items()}


@pytest.mark.parametrize("n_slices", [1, 3])
@pytest.mark.parametrize(("wrap", "model"), LEARNERS.values(), ids=LEARNERS.keys())
def test_an_arrival_has_the_bytes_of_a_training_in_one_go(wrap, model, n_slices, blobs):
    learner = wrap(model)
    assert learner.capabilities.resumable
    in_one_go = [learner.save(state) for state in later(learner, blobs, n_slices)]
    assert in_one_go == [learner.save(state) for state in later(learner, blobs, n_slices, keep_scratch=False)]
    stands_still = model is MODELS["polynomial"]
    assert (in_one_go[-1]["module.safetensors"] == in_one_go[-3]["module.safetensors"]) == stands_still


def test_an_epoch_over_a_grown_shard_is_one_epoch_of_the_schedule():
    for n_slices in (1, 2, 5):
        moved = [advance(step, 12) for step in steps(n_slices, n_slices + 2)]
        assert sum(moved[:n_slices]) == 12
        assert moved[n_slices] == moved[n_slices + 1] == Fraction(24, n_slices + 1)


def rates(states):
    return [state.training["optimizer"]["param_groups"][0]["lr"] for state in states]


def test_what_schedules_do_beyond_their_end(blobs):
    assert np.allclose(rates(later(TorchLearner(MODELS["step"]), blobs)), [1e-2, 1e-3, 1e-5])
    # Torch's own: half a swing down, half a swing up.
    assert np.allclose(rates(later(TorchLearner(MODELS["cosine"]), blobs)), [0, 0.1, 0])
    for name in ("onecycle", "polynomial"):
        first, *others = rates(later(TorchLearner(MODELS[name]), blobs))
        assert first < 1e-5
        assert others == [first, first]


def test_a_cycle_of_skorch_stays_at_its_last_rate(blobs):
    *_, last = later(SkorchLearner(NETS["onecycle"]), blobs)
    seen = [epoch["event_lr"] for block in last.history for epoch in json.loads(block)]
    assert len(seen) == 12
    assert seen[0] > seen[4] == seen[11]


def test_a_cycle_within_its_length_is_that_of_torch(blobs):
    X, y, classes = blobs
    batch = Batch(X, y, None, 0, classes, np.linspace(0, 0.99, 91), X)
    state = SkorchLearner(NETS["onecycle"]).train(None, batch, next(steps(1, 1)))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
    cycle, expected = lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=4), []
    for _ in range(4):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cycle.step()
    assert [epoch["event_lr"] for epoch in json.loads(state.history[0])] == expected


@pytest.mark.parametrize("options", [{"callbacks": [EarlyStopping("train_loss")]}, {"max_epochs": 1}])
def test_a_net_of_one_slice_is_resumable_only_if_it_can_go_on(options):
    capabilities = SkorchLearner(skorch_net(**options)).capabilities
    assert capabilities.max_slices == 1
    assert capabilities.resumable == ("max_epochs" in options)
