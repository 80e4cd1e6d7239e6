"""What the core relies on in the learner of skorch nets."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, EpochScoring, EpochTimer, LRScheduler
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
from torch import nn
from torch.optim import lr_scheduler

from unlearnkit.adapters import resolve
from unlearnkit.errors import CapabilityError, ParameterError, StateError
from unlearnkit_torch.runtime import derive
from unlearnkit_torch.skorch_learner import SkorchLearner


class Net(nn.Module):
    def __init__(self, k=3, last=nn.Softmax):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, k))
        self.last = nn.Identity() if last is None else last(dim=1)

    def forward(self, x):
        return self.last(self.layers(x))


def classifier(**options):
    settings = {
        "max_epochs": 6,
        "batch_size": 8,
        "train_split": None,
        "optimizer": torch.optim.Adam,
        "iterator_train__shuffle": True,
        "lr": 0.02,
    }
    return NeuralNetClassifier(Net, **{**settings, **options})


NETS = {
    "plain": classifier,
    "held_out": lambda: classifier(train_split=ValidSplit(5, stratified=True)),
    "step": lambda: classifier(callbacks=[LRScheduler("StepLR", step_size=2)]),
    "exponential_per_batch": lambda: classifier(
        callbacks=[LRScheduler("ExponentialLR", gamma=0.99, step_every="batch")]
    ),
    "plateau": lambda: classifier(callbacks=[LRScheduler("ReduceLROnPlateau", monitor="train_loss", patience=0)]),
    "onecycle": lambda: classifier(callbacks=[LRScheduler(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=6)]),
    "restarts": lambda: classifier(
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        callbacks=[LRScheduler(), ("f1", EpochScoring("f1_macro", on_train=True)), EpochTimer()],
    ),
    "silent": lambda: classifier(callbacks="disable"),
    "logits": lambda: classifier(criterion=nn.CrossEntropyLoss, module__last=None),
}


@pytest.fixture(params=NETS.values(), ids=NETS.keys())
def learner(request):
    return SkorchLearner(request.param())


def test_resume_is_bitwise_with_the_history(learner, blobs, drive):
    X, y, classes = blobs
    stored, _ = drive(learner, X, y, 3, classes=classes)
    _, undecoded = drive(learner, X, y, 3, classes=classes, decode=False)
    assert stored[-1] == learner.save(undecoded)
    state = learner.load(stored[-1])
    assert learner.save(state) == stored[-1]
    assert [stored[0]["history.0.json"], stored[1]["history.1.json"]] == list(state.history[:2])
    epochs = [epoch for block in state.history for epoch in json.loads(block)]
    assert len(epochs) == 6
    assert not any("dur" in epoch for epoch in epochs)
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3, 4, 5, 6]
    assert learner.predict(state, X).shape == (91, 3)


def test_rates_go_on_where_they_stopped(blobs, drive):
    X, y, classes = blobs
    for net, expected in (("step", [2e-2, 2e-2, 2e-3, 2e-3, 2e-4, 2e-4]), ("onecycle", None)):
        learner = SkorchLearner(NETS[net]())
        rates = []
        for n_slices in (1, 2, 3):
            _, state = drive(learner, X, y, n_slices, classes=classes)
            rates.append([epoch["event_lr"] for block in state.history for epoch in json.loads(block)])
        assert rates[0] == rates[1] == rates[2]
        assert expected is None or np.allclose(rates[0], expected)


def test_later_rows_change_nothing(learner, blobs, drive):
    X, y, classes = blobs
    before = drive(learner, X, y, 3, classes=classes)[0]
    X, y = X.copy(), y.copy()
    X[61:], y[61:] = 9, 0
    assert before[:2] == drive(learner, X, y, 3, classes=classes)[0][:2]


@pytest.mark.parametrize("net", ["plain", "held_out", "plateau"])
def test_the_whole_budget_is_the_bare_net(net, blobs, one_step):
    X, y, classes = blobs
    # No last batch of one row, which the bare net cannot train on.
    X, y = X[:90], y[:90]
    batch, step = one_step(X, y, classes)
    state = SkorchLearner(NETS[net]()).train(None, batch, step)
    bare, seed, threads = NETS[net]().set_params(verbose=0), step.seeded(None), torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(derive(seed, "weights"))
    bare.initialize()
    torch.manual_seed(derive(seed, "noise"))
    bare.partial_fit(X, y)
    torch.set_num_threads(threads)
    ours, theirs = state.net.module_.state_dict(), bare.module_.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert [e["train_loss"] for e in json.loads(state.history[0])] == bare.history[:, "train_loss"]


def test_the_net_and_the_state_are_not_changed(blobs, drive, one_step):
    X, y, classes = blobs
    net = classifier(callbacks=[LRScheduler("StepLR", step_size=2)])
    before = repr(net.get_params(deep=False))
    learner = SkorchLearner(net)
    stored = drive(learner, X, y, 2, classes=classes)[0]
    state = learner.load(stored[-1])
    learner.train(state, *one_step(X, y, classes))
    assert learner.save(state) == stored[-1]
    assert repr(net.get_params(deep=False)) == before
    assert not net.initialized_
    again = pickle.loads(pickle.dumps(learner))
    assert drive(again, X, y, 2, classes=classes)[0] == stored


def test_rows_are_shown_as_often_when_sliced(blobs, drive):
    X, y, classes = blobs
    for n_slices in (1, 2, 5, 6):
        _, state = drive(SkorchLearner(classifier()), X, y, n_slices, classes=classes)
        sizes = [b["train_batch_size"] for block in state.history for e in json.loads(block) for b in e["batches"]]
        assert abs(sum(sizes) - 6 * 91) < 0.05 * 6 * 91


def test_held_out_rows_are_the_same_in_every_slice(blobs, drive):
    X, y, classes = blobs
    _, state = drive(SkorchLearner(classifier(train_split=ValidSplit(0.3))), X, y, 3, classes=classes)
    watched = [sum(b.get("valid_batch_size", 0) for b in json.loads(block)[-1]["batches"]) for block in state.history]
    u = np.random.default_rng(5).random(91)
    assert watched == [int((u[:n] < 0.3).sum()) for n in (30, 60, 91)]


def test_tiny_prefixes_and_absent_classes(blobs, drive):
    X, _, classes = blobs
    for split in (None, ValidSplit(5, stratified=True)):
        learner = SkorchLearner(classifier(train_split=split))
        for n_slices in (1, 4):
            _, state = drive(learner, X[:4], np.zeros(4, dtype=np.int64), n_slices, classes=classes)
            assert learner.predict(state, X).shape == (91, 3)


@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_binary_nets(threshold, blobs, drive):
    X, y, _ = blobs
    net = NeuralNetBinaryClassifier(
        Net, module__k=1, module__last=None, max_epochs=20, lr=0.02, optimizer=torch.optim.Adam, threshold=threshold
    )
    learner = SkorchLearner(net)
    _, state = drive(learner, X, (y == 1).astype(np.int64), 3, classes=np.array(["no", "yes"]))
    output = learner.predict(state, X)
    assert output.shape == (91, 2)
    assert np.allclose(output.sum(axis=1), 1)
    assert learner.capabilities.probabilities == (threshold == 0.5)
    assert (output.argmax(axis=1) == (y == 1)).mean() > 0.8


@pytest.mark.parametrize("targets", [None, 2])
def test_regressors_keep_the_shape_of_the_targets(targets, blobs, drive):
    X, _, _ = blobs
    y = (X[:, 0] if targets is None else X[:, :targets]).astype(np.float64)
    net = NeuralNetRegressor(Net, module__k=targets or 1, module__last=None, max_epochs=60, lr=0.02, batch_size=16)
    learner = SkorchLearner(net)
    _, state = drive(learner, X, y, 2)
    prediction = learner.predict(state, X)
    assert prediction.shape == y.shape
    assert ((prediction - y) ** 2).mean() < y.var()


class Own(Callback):
    pass


def test_one_slice_where_a_callback_remembers(blobs, one_step):
    X, y, classes = blobs
    assert SkorchLearner(classifier()).capabilities.max_slices == 6
    for callback in (EarlyStopping(monitor="train_loss", patience=1, threshold=9, sink=print), Own()):
        learner = SkorchLearner(classifier(callbacks=[callback]))
        assert learner.capabilities.max_slices == 1
        assert type(callback).__name__ in learner.capabilities.why_limited
        state = learner.train(None, *one_step(X, y, classes))
        epochs = len(json.loads(state.history[0]))
        assert epochs == (6 if isinstance(callback, Own) else 2)
    assert SkorchLearner(classifier(train_split=first_rows)).capabilities.max_slices == 1


def first_rows(dataset, y):
    return torch.utils.data.Subset(dataset, range(10, len(y))), torch.utils.data.Subset(dataset, range(10))


class Interrupting(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise KeyboardInterrupt


def test_an_interrupt_does_not_pass_for_a_finished_step(blobs, one_step):
    X, y, classes = blobs
    with pytest.raises(KeyboardInterrupt):
        SkorchLearner(classifier(callbacks=[Interrupting()])).train(None, *one_step(X, y, classes))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"callbacks": [Checkpoint()]}, "Checkpoint"),
        ({"callbacks": [("cp", Checkpoint)]}, "callbacks"),
        ({"criterion": nn.NLLLoss()}, "criterion"),
        ({"compile": True}, "compile"),
        ({"iterator_train__num_workers": 2}, "iterator_train__num_workers"),
        ({"iterator_train__generator": torch.Generator()}, "iterator_train__generator"),
        ({"train_split": predefined_split(Dataset(np.ones((2, 6)), np.ones(2)))}, "train_split"),
    ],
)
def test_refusals_name_the_parameter(options, named):
    with pytest.raises(CapabilityError, match=named):
        SkorchLearner(classifier(**options))
    with pytest.raises(CapabilityError, match="module"):
        SkorchLearner(NeuralNetClassifier(Net()))
    with pytest.raises(ParameterError, match="max_epochs"):
        SkorchLearner(classifier(max_epochs=0))


def test_fingerprints_tell_nets_apart():
    assert resolve(classifier()).fingerprint == resolve(classifier(verbose=0)).fingerprint
    changed = [
        classifier(module__k=4),
        classifier(lr=0.5),
        classifier(criterion__weight=torch.ones(3)),
        classifier(criterion__weight=torch.zeros(3)),
        classifier(callbacks=[LRScheduler("StepLR", step_size=2)]),
        classifier(callbacks=[LRScheduler("StepLR", step_size=3)]),
    ]
    assert len({resolve(net).fingerprint for net in [classifier(), *changed]}) == 7


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("code from the bytes was run",))


def test_load_rejects_garbage_and_runs_no_code(blobs, drive):
    X, y, classes = blobs
    learner = SkorchLearner(classifier())
    parts = drive(learner, X, y, 1, classes=classes)[0][0]
    bombs = [b"", b"{}", b"[3]", b"[" * 100_000, pickle.dumps(Bomb()), (2**62).to_bytes(8, "little") + b"{}"]
    broken = [{**parts, name: data} for name in parts for data in bombs]
    broken += [{k: v for k, v in parts.items() if k != name} for name in parts]
    document = json.loads(parts["state.json"])
    for fact, value in {"steps": 10**12, "n_classes": None, "birth": "x", "owed": [1, 0], "n_targets": -1}.items():
        changed = {**document, "facts": {**document["facts"], fact: value}}
        broken.append({**parts, "state.json": json.dumps(changed).encode()})
    for bad in broken:
        with pytest.raises(StateError):
            learner.load(bad)
