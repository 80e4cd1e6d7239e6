"""A base: weights that training begins with, and nothing else of the model that they come from."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import LRScheduler
from torch import nn
from torch.optim import lr_scheduler

from unlearnkit import SISAClassifier
from unlearnkit.errors import ParameterError, StateError
from unlearnkit.learner import Batch, Step
from unlearnkit_torch import TorchModel
from unlearnkit_torch.learner import TorchLearner
from unlearnkit_torch.skorch_learner import SkorchLearner

WHOLE = Step(0, 0, Fraction(0), Fraction(1), Fraction(1), 3)


class Net(nn.Module):
    def __init__(self, n_in=6, n_out=3):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_in, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, n_out))

    def forward(self, x):
        return self.layers(x)


def net(n_out=3, *, weights=1):
    torch.manual_seed(weights)
    return Net(n_out=n_out).eval()


WEIGHTS = net().state_dict()


def with_weights():
    module = Net()
    module.load_state_dict(WEIGHTS)
    return module


def torch_model(**options):
    settings = {"n_features_as": "n_in", "n_outputs_as": "n_out", "epochs": 3, "batch_size": 16}
    return TorchModel(Net, **{**settings, **options})


def skorch_net(**options):
    settings = {"max_epochs": 3, "batch_size": 16, "train_split": None, "verbose": 0}
    return NeuralNetClassifier(Net, criterion=nn.CrossEntropyLoss, **{**settings, **options})


def batch(X, y, classes):
    return Batch(X, y, None, 0, classes, np.linspace(0, 0.99, len(y)), X)


def started(learner, base, labels):
    return learner.load(learner.save(learner.start(learner.pack_base(base, 6, labels), labels)))


@pytest.mark.parametrize("learner", [TorchLearner(torch_model()), SkorchLearner(skorch_net())])
def test_a_start_has_the_weights_and_a_fresh_optimizer(learner, blobs):
    X, y, classes = blobs
    base = net()
    start = started(learner, base, classes)
    expected = torch.softmax(base(torch.tensor(X)), dim=1).numpy(force=True)
    assert np.allclose(learner.predict(start, X), expected, atol=1e-6)
    optimizers = start.training.get("optimizers", {"optimizer": start.training.get("optimizer")})
    assert [optimizer["state"] for optimizer in optimizers.values()] == [{}]
    warm, cold = (learner.train(state, batch(X, y, classes), WHOLE) for state in (start, None))
    assert not np.allclose(learner.predict(warm, X), learner.predict(cold, X))


def test_equal_weights_give_equal_parts_however_they_come(blobs):
    X, y, classes = blobs
    fitted = torch_model(random_state=0).fit(X, classes[y])
    module = fitted._learner.module(fitted._state)
    learner = TorchLearner(torch_model())
    parts = learner.pack_base(fitted, 6, classes)
    before = [tensor.clone() for tensor in module.state_dict().values()]
    assert learner.pack_base(module, 6, classes) == learner.pack_base(module.state_dict(), 6, classes) == parts
    assert learner.pack_base(net(), 6, classes) != parts
    assert all(map(torch.equal, module.state_dict().values(), before))
    bare = skorch_net().fit(X, y)
    skorch = SkorchLearner(skorch_net())
    assert skorch.pack_base(bare, 6, classes) == skorch.pack_base(bare.module_, 6, classes)


def test_training_from_a_base_is_training_from_its_weights(blobs):
    X, y, classes = blobs
    options = {"epochs": 3, "batch_size": 16, "optimizer": "sgd", "optimizer_params": {"lr": 0.1}}
    warm, same = TorchLearner(TorchModel(Net, **options)), TorchLearner(TorchModel(with_weights, **options))
    trained = warm.train(started(warm, net(), classes), batch(X, y, classes), WHOLE)
    expected = same.train(None, batch(X, y, classes), WHOLE)
    assert np.array_equal(warm.predict(trained, X), same.predict(expected, X))


def test_a_schedule_begins_with_the_training(blobs):
    X, y, classes = blobs
    cycle = LRScheduler(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=3)
    learner = SkorchLearner(skorch_net(callbacks=[cycle]))
    state = learner.train(started(learner, net(), classes), batch(X, y, classes), WHOLE)
    rates = [epoch["event_lr"] for epoch in state.net.history]
    cold = learner.train(None, batch(X, y, classes), WHOLE)
    assert rates == [epoch["event_lr"] for epoch in cold.net.history]
    assert len(set(rates)) == 3


@pytest.mark.parametrize("n_slices", [1, 2])
def test_forgetting_from_a_base_leaves_the_bytes_of_a_fit_without(n_slices, blobs):
    X, y, classes = blobs
    ids = np.arange(91)
    model = SISAClassifier(torch_model(), n_shards=2, n_slices=n_slices, random_state=0, base=net())
    model.fit(X, classes[y], ids=ids).forget([3, 17])
    kept = np.setdiff1d(ids, [3, 17])
    fresh = model.pinned().fit(X[kept], classes[y[kept]], ids=kept)
    assert fresh.model_digest_ == model.model_digest_
    assert np.array_equal(fresh.predict_proba(X), model.predict_proba(X))


def test_images_and_several_targets(blobs):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 2, 4, 4)).astype(np.float32)

    def images():
        return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 2))

    learner = TorchLearner(TorchModel(images, loss="mse", epochs=2, batch_size=8))
    start = learner.start(learner.pack_base(images(), 2, None), None)
    targets = rng.normal(size=(20, 2))
    state = learner.train(start, Batch(X, targets, None, 0, None, np.zeros(20), X), WHOLE)
    assert learner.predict(learner.load(learner.save(state)), X).shape == (20, 2)
    regressor = SkorchLearner(
        NeuralNetRegressor(nn.Linear, module__in_features=6, module__out_features=1, max_epochs=2)
    )
    start = regressor.start(regressor.pack_base(nn.Linear(6, 1), 6, None), None)
    values = blobs[0][:, 0].astype(np.float64)
    state = regressor.train(start, Batch(blobs[0], values, None, 0, None, np.linspace(0, 0.99, 91), blobs[0]), WHOLE)
    assert regressor.predict(state, blobs[0]).shape == (91,)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (lambda: net(n_out=4), "do not fit the module"),
        (lambda: nn.Linear(6, 3), "do not fit the module"),
        (lambda: {"layers.0.weight": [1.0]}, "do not fit the module"),
        (torch_model, "not fitted"),
        (lambda: "weights.pt", "it is a str"),
        (lambda: torch_model().fit(np.eye(6, dtype=np.float32), np.array(list("xyzxyz"))), "its classes are"),
    ],
)
def test_a_base_that_does_not_fit_is_refused(base, message):
    with pytest.raises(ParameterError, match=message):
        TorchLearner(torch_model()).pack_base(base(), 6, np.array(["a", "b", "c"]))


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (lambda: net(n_out=4), "do not fit the module"),
        (skorch_net, "not fitted"),
        (lambda: 5, "it is a int"),
    ],
)
def test_a_base_that_does_not_fit_a_net_is_refused(base, message):
    learner = SkorchLearner(skorch_net(module__n_out=3))
    with pytest.raises(ParameterError, match=message):
        learner.pack_base(base(), 6, np.arange(3))


@pytest.mark.parametrize("learner", [TorchLearner(torch_model()), SkorchLearner(skorch_net())])
def test_a_packed_base_of_others_is_a_state_error(learner):
    labels = np.arange(3)
    parts = learner.pack_base(net(), 6, labels)
    other = learner.pack_base(net(weights=2), 6, labels)
    assert learner.save(learner.start(parts | {"module.safetensors": other["module.safetensors"]}, labels))
    for tampered in (
        parts | {"state.json": parts["state.json"].replace(b'"n_classes":3', b'"n_classes":2')},
        parts | {"state.json": parts["state.json"].replace(b"layers.0.weight", b"layers.9.weight")},
        {"module.safetensors": parts["module.safetensors"]},
    ):
        with pytest.raises(StateError):
            learner.start(tampered, labels)
    with pytest.raises(StateError):
        learner.start(parts, None)
