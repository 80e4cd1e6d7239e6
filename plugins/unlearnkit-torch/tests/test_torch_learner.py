"""What the core relies on in the learner of `TorchModel`."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from sklearn.base import clone, is_classifier, is_regressor
from torch import nn

from unlearnkit.adapters import resolve
from unlearnkit.errors import CapabilityError, ParameterError, StateError
from unlearnkit_torch import TorchModel
from unlearnkit_torch.learner import TorchLearner
from unlearnkit_torch.runtime import derive


class Net(nn.Module):
    def __init__(self, d, k, p=0.3):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(d, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(p), nn.Linear(16, k))

    def forward(self, x):
        return self.layers(x)


class Hidden(nn.Module):
    """Random values that no state_dict shows, and tied weights."""

    def __init__(self, d, k):
        super().__init__()
        self.mix = torch.randn(d, d)
        self.register_buffer("shift", torch.rand(d), persistent=False)
        self.first, self.second, self.last = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, k)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.last(torch.relu(self.second(self.first(x @ self.mix + self.shift))))


def small(**options):
    settings = {
        "n_features_as": "d",
        "n_outputs_as": "k",
        "optimizer_params": {"lr": 0.01},
        "epochs": 7,
        "batch_size": 8,
        "random_state": 3,
    }
    return TorchModel(options.pop("module", Net), **{**settings, **options})


HARD = {
    "adam_onecycle": {
        "scheduler": "onecycle",
        "scheduler_params": {"max_lr": 0.02, "total_steps": "total"},
        "scheduler_step": 5,
    },
    "sgd_plateau": {
        "optimizer": "sgd",
        "optimizer_params": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
        "scheduler": "plateau",
        "scheduler_params": {"patience": 0},
    },
    "adamw_multistep": {
        "optimizer": "adamw",
        "scheduler": "multistep",
        "scheduler_params": {"milestones": [2, 5]},
        "class_weight": "balanced",
    },
    "rmsprop_batch": {
        "optimizer": torch.optim.RMSprop,
        "scheduler": torch.optim.lr_scheduler.ExponentialLR,
        "scheduler_params": {"gamma": 0.99},
        "scheduler_step": "batch",
        "max_grad_norm": 1.0,
    },
    "adagrad_cosine_f64": {
        "optimizer": "adagrad",
        "scheduler": "cosine",
        "scheduler_params": {"T_max": "total"},
        "dtype": "float64",
    },
    "hidden_tied": {"module": Hidden, "scheduler": "step", "scheduler_params": {"step_size": 2}},
}


@pytest.fixture(params=HARD.values(), ids=HARD.keys())
def learner(request):
    return TorchLearner(small(**request.param))


def test_resume_is_bitwise(learner, blobs, drive):
    X, y, classes = blobs
    stored, _ = drive(learner, X, y, 4, classes=classes)
    _, undecoded = drive(learner, X, y, 4, classes=classes, decode=False)
    assert stored[-1] == learner.save(undecoded)
    assert learner.save(learner.load(stored[-1])) == stored[-1]


def test_the_scratch_is_only_a_cache(learner, blobs, drive):
    X, y, classes = blobs
    assert drive(learner, X, y, 3, classes=classes, scratch={})[0] == drive(learner, X, y, 3, classes=classes)[0]


def test_later_rows_change_nothing(learner, blobs, drive):
    X, y, classes = blobs
    before = drive(learner, X, y, 3, classes=classes, scratch={})[0]
    X, y = X.copy(), y.copy()
    X[61:] += 5
    y[61:] = 0
    after = drive(learner, X, y, 3, classes=classes, scratch={})[0]
    assert before[:2] == after[:2]
    assert before[2] != after[2]


def test_state_and_rows_stay_as_they_were(blobs, drive, one_step):
    X, y, classes = blobs
    learner = TorchLearner(small(**HARD["sgd_plateau"]))
    stored, _ = drive(learner, X, y, 2, classes=classes)
    state = learner.load(stored[-1])
    batch, step = one_step(X, y, classes)
    copies = X.copy(), y.copy()
    learner.train(state, batch, step)
    learner.predict(state, X)
    assert learner.save(state) == stored[-1]
    assert np.array_equal(X, copies[0])
    assert np.array_equal(y, copies[1])


def test_the_whole_budget_is_the_bare_loop(blobs, one_step):
    X, y, classes = blobs
    batch, step = one_step(X, y, classes)
    learner = TorchLearner(small(epochs=4, scheduler="step", scheduler_params={"step_size": 2}))
    seed = step.seeded(3)
    torch.manual_seed(derive(seed, "weights"))
    net = Net(6, 3)
    order = torch.Generator().manual_seed(derive(seed, "order"))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(derive(seed, "noise"))
    for _ in range(4):
        for index in torch.randperm(91, generator=order).split(8):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(torch.from_numpy(X)[index]), torch.from_numpy(y)[index]).backward()
            optimizer.step()
        scheduler.step()
    net.eval()
    expected = torch.softmax(net(torch.from_numpy(X)), dim=1).detach().numpy()
    torch.set_num_threads(threads)
    state = learner.train(None, batch, step)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), learner.module(state).parameters(), strict=True))
    assert np.array_equal(learner.predict(state, X), expected)
    assert (learner.predict(state, X).argmax(axis=1) == y).mean() > 0.8


def test_sliced_training_shows_the_rows_as_often(blobs, drive):
    X, y, classes = blobs
    learner = TorchLearner(small(scheduler="step", scheduler_params={"step_size": 1}))
    for n_slices in (1, 2, 5):
        _, state = drive(learner, X, y, n_slices, classes=classes)
        shown = learner.module(state).layers[1].num_batches_tracked * 8
        assert state.position == 7
        assert state.training["scheduler"]["last_epoch"] == 7
        assert abs(shown - 7 * 91) < 0.12 * 7 * 91


def digest(build):
    """All states and predictions of some training, and the fingerprint of a learner of library code."""
    X = np.random.default_rng(1).normal(size=(60, 6)).astype("float32")
    learner = TorchLearner(small(**HARD["adam_onecycle"]))
    stored, state = build(learner, X, np.arange(60) % 3, 3, classes=np.arange(3))
    found = hashlib.sha256(repr([sorted(parts.items()) for parts in stored]).encode())
    found.update(learner.predict(state, X).tobytes())
    return found.hexdigest(), TorchLearner(small(module=nn.Linear)).fingerprint


def test_bytes_are_the_same_in_another_process(drive, tmp_path):
    here, script = Path(__file__), tmp_path / "other.py"
    script.write_text(
        textwrap.dedent(f"""
        import importlib.util, sys, torch
        def module(name, path):
            spec = importlib.util.spec_from_file_location(name, path)
            sys.modules[name] = found = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(found)
            return found
        core = module("core", {str(here.with_name("conftest.py"))!r})
        tests = module("tests", {str(here)!r})
        torch.set_num_threads(2)
        torch.manual_seed(99)
        print(*tests.digest(core.build), torch.get_num_threads())
        """)
    )
    env = {**os.environ, "PYTHONHASHSEED": "4711"}
    run = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [*digest(drive), "2"]


def test_what_else_draws_random_numbers_does_not_matter(blobs, drive):
    X, y, classes = blobs
    learner = TorchLearner(small(epochs=3))
    alone, state = drive(learner, X, y, 2, classes=classes)
    alone_predictions = learner.predict(state, X)
    before, stop = torch.get_rng_state(), threading.Event()
    found = []

    def disturb():
        while not stop.is_set():
            loaded = learner.load(alone[0])
            found.append(np.array_equal(learner.predict(learner.load(alone[1]), X), alone_predictions))
            learner.save(loaded)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        together, _ = drive(learner, X, y, 2, classes=classes)
    finally:
        stop.set()
        thread.join()
    assert together == alone
    assert found
    assert all(found)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()


def test_absent_classes_and_single_rows_train(blobs, drive):
    X, _, classes = blobs
    learner = TorchLearner(small(batch_size=4, scheduler="step", scheduler_params={"step_size": 1}))
    drive(learner, X[:1], np.zeros(1, dtype=np.int64), 1, classes=classes)
    _, state = drive(learner, X[:5], np.zeros(5, dtype=np.int64), 5, classes=classes)
    assert learner.predict(state, X).shape == (91, 3)
    assert state.owed < 5


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("bce_with_logits", {}),
        ("cross_entropy", {}),
        ("nll", {}),
        ("multi_margin", {}),
        ("focal", {"output": "logits"}),
    ],
)
def test_binary_losses(loss, options, blobs, one_step):
    def focal(output, target):
        rows = nn.functional.cross_entropy(output, target, reduction="none")
        return (1 - torch.exp(-rows)) ** 2 * rows

    class Logs(Net):
        def forward(self, x):
            return torch.log_softmax(super().forward(x), dim=1) if loss == "nll" else super().forward(x)

    X, y, _ = blobs
    y = (y == 1).astype(np.int64)
    model = small(module=Logs, loss=focal if loss == "focal" else loss, class_weight={"no": 1, "yes": 2}, **options)
    learner = TorchLearner(model)
    batch, step = one_step(X, y, np.array(["no", "yes"]), weight=np.linspace(1, 2, 91))
    state = learner.train(None, batch, step)
    output = learner.predict(state, X)
    assert output.shape == (91, 2)
    assert np.allclose(output.sum(axis=1), 1)
    assert (output.argmax(axis=1) == y).mean() > 0.8
    assert learner.capabilities.probabilities == (loss != "multi_margin")


def test_outputs_for_classes_that_no_record_has(blobs, one_step):
    X, y, classes = blobs
    for loss in ("cross_entropy", "multi_margin"):
        learner = TorchLearner(small(n_outputs_as=None, module_params={"k": 5}, loss=loss))
        state = learner.train(None, *one_step(X, y, classes))
        output = learner.predict(state, X)
        assert output.shape == (91, 3)
        assert np.allclose(output.sum(axis=1), 1)
    with pytest.raises(ParameterError, match="two classes"):
        TorchLearner(small(loss="bce")).train(None, *one_step(X, y, classes))
    with pytest.raises(ParameterError, match="for 6 classes"):
        learner.predict(replace(state, sizes=replace(state.sizes, n_classes=6)), X)


@pytest.mark.parametrize("targets", [None, 1, 2])
def test_regression_keeps_the_shape_of_the_targets(targets, blobs, drive):
    X, _, _ = blobs
    y = X[:, 0].astype(np.float64) if targets is None else X[:, :targets].astype(np.float64)
    learner = TorchLearner(small(loss="huber", epochs=60))
    assert learner.capabilities.task == "regression"
    _, state = drive(learner, X, y, 3)
    prediction = learner.predict(state, X)
    assert prediction.shape == y.shape
    assert ((prediction - y) ** 2).mean() < 0.5
    assert learner.predict(state, X[:0]).shape == (0, *y.shape[1:])


def test_images_and_embeddings(drive):
    def words(k):
        return nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, k))

    def pictures(k):
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, k))

    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    for module, X, dtype in (
        (words, rng.integers(0, 10, (40, 3)), "int64"),
        (pictures, rng.random((40, 1, 6, 6)), None),
    ):
        learner = TorchLearner(TorchModel(module, n_outputs_as="k", input_dtype=dtype, epochs=2, batch_size=8))
        X.setflags(write=False)
        stored, state = drive(learner, X, y, 2, classes=np.arange(2))
        assert learner.predict(state, X).shape == (40, 2)
        assert stored == drive(learner, X.copy(), y, 2, classes=np.arange(2), scratch={})[0]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64", "uint16", "float16", "float64"])
def test_numbers_of_any_width_train_like_those_of_the_network(dtype, blobs, drive):
    X, y, classes = blobs
    X = np.abs(X).astype(dtype)
    learner = TorchLearner(small())
    stored, state = drive(learner, X, y, 2, classes=classes, scratch={})
    wide, same = drive(learner, X.astype("float32"), y, 2, classes=classes)
    assert stored == wide
    assert np.array_equal(learner.predict(state, X), learner.predict(same, X.astype("float32")))


def test_weights_count_like_copies(blobs, one_step):
    X, y, classes = blobs
    learner = TorchLearner(
        small(module=nn.Linear, n_features_as="in_features", n_outputs_as="out_features", batch_size=999)
    )
    twice = learner.train(None, *one_step(np.repeat(X, 2, axis=0), np.repeat(y, 2), classes))
    weighted = learner.train(None, *one_step(X, y, classes, weight=np.full(91, 2.0)))
    assert torch.allclose(learner.module(twice).weight, learner.module(weighted).weight, atol=1e-5)


def test_class_weights_go_by_label_and_prefix(blobs, one_step):
    X, y, classes = blobs
    batch, step = one_step(X, y, classes)
    for weight in ("balanced", {"a": 1.0, "c": 4.0}):
        learner = TorchLearner(small(class_weight=weight))
        plain = TorchLearner(small())
        assert learner.fingerprint != plain.fingerprint
        assert learner.save(learner.train(None, batch, step)) != plain.save(plain.train(None, batch, step))
    with pytest.raises(ParameterError, match="class_weight names"):
        TorchLearner(small(class_weight={"z": 2.0})).train(None, batch, step)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"module": nn.Linear(2, 2)}, "module"),
        ({"module_params": {"activation": nn.ReLU()}}, "module_params"),
        ({"loss": nn.CrossEntropyLoss()}, "loss"),
        ({"loss_params": {"weight": [1.0, 2.0, 3.0]}}, "loss_params"),
        ({"optimizer": torch.optim.LBFGS}, "optimizer"),
        ({"random_state": np.random.RandomState(0)}, "random_state"),
    ],
)
def test_refusals_name_the_parameter(options, named):
    with pytest.raises(CapabilityError, match=named):
        TorchLearner(small(**options))


@pytest.mark.parametrize(
    "options",
    [
        {"module": 3},
        {"loss": "nonsense"},
        {"loss": lambda output, target: output.sum()},
        {"output": "nonsense"},
        {"optimizer": "nonsense"},
        {"scheduler": "nonsense"},
        {"scheduler_step": 0},
        {"scheduler_step": "batch", "scheduler_params": {"total_steps": "total"}},
        {"epochs": 0},
        {"batch_size": 1.5},
        {"dtype": "float16"},
        {"input_dtype": "text"},
        {"class_weight": "nonsense"},
        {"class_weight": "balanced", "loss": "mse"},
    ],
)
def test_nonsense_names_the_parameter(options):
    with pytest.raises(ParameterError, match=next(iter(options))):
        TorchLearner(small(**options))


def test_a_state_that_json_cannot_hold_is_refused(blobs, one_step):
    X, y, classes = blobs

    class Odd(torch.optim.SGD):
        def state_dict(self):
            return {**super().state_dict(), "odd": object()}

    learner = TorchLearner(small(optimizer=Odd))
    state = learner.train(None, *one_step(X, y, classes))
    with pytest.raises(CapabilityError, match="odd"):
        learner.save(state)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("code from the bytes was run",))


def test_load_rejects_garbage_and_runs_no_code(blobs, drive):
    X, y, classes = blobs
    learner = TorchLearner(small(scheduler="step", scheduler_params={"step_size": 2}))
    parts = drive(learner, X, y, 1, classes=classes)[0][0]
    document = json.loads(parts["state.json"])
    bombs = [b"", b"{}", b"[" * 100_000, pickle.dumps(Bomb()), b"\xff" * 64, (2**62).to_bytes(8, "little") + b"{}"]
    broken = [{**parts, name: data} for name in parts for data in bombs]
    broken += [{k: v for k, v in parts.items() if k != name} for name in parts] + [{}]
    for fact, values in {
        "n_features": [10**15, -1, "6", 7],
        "n_classes": [None, 10**12, 2.0],
        "birth": [-1, "x", None],
        "position": [[1, 0], [10**400, 1], None],
        "owed": ["1", [10**30, 1]],
    }.items():
        for value in values:
            changed = {**document, "facts": {**document["facts"], fact: value}}
            broken.append({**parts, "state.json": json.dumps(changed).encode()})
    fewer = {**document, "trees": {"module": document["trees"]["module"], "training": {"dict": []}}}
    broken.append({**parts, "state.json": json.dumps(fewer).encode()})
    broken.append({**parts, "module.safetensors": safetensors.torch.save({"module.x": torch.ones(3)})})
    for bad in broken:
        with pytest.raises(StateError):
            learner.load(bad)
    assert learner.save(learner.load(parts)) == parts


def test_a_declaration_behaves_like_an_estimator():
    model = small(scheduler="step")
    assert is_classifier(model)
    assert not is_regressor(model)
    assert is_regressor(small(loss="mse"))
    assert clone(model).get_params() == model.get_params()
    assert clone(model).set_params(epochs=3).epochs == 3
    assert resolve(model).fingerprint == resolve(clone(model)).fingerprint
    assert resolve(model).fingerprint != resolve(small(scheduler="step", epochs=8)).fingerprint
    learner = pickle.loads(pickle.dumps(resolve(model)))
    assert learner.fingerprint == resolve(model).fingerprint


def test_tensors_in_parameters_are_part_of_the_identity():
    models = [small(loss="bce_with_logits", loss_params={"pos_weight": torch.tensor([w])}) for w in (2.0, 2.0, 3.0)]
    same, again, other = [TorchLearner(model).fingerprint for model in models]
    assert same == again != other


def test_the_plain_model_fits_and_scores(blobs):
    X, y, classes = blobs
    model = small(epochs=20)
    fitted = model.fit(X, classes[y])
    assert fitted is model
    assert set(model.predict(X)) == set("abc")
    assert model.predict_proba(X).shape == (91, 3)
    assert model.score(X, classes[y]) > 0.8
    assert np.array_equal(clone(model).fit(X, classes[y]).predict_proba(X), model.predict_proba(X))
    learner = resolve(model)
    assert not hasattr(learner.model, "_state")
    regressor = small(loss="mse", epochs=60).fit(X, X[:, 0], sample_weight=np.ones(91))
    assert regressor.score(X, X[:, 0]) > 0.5
    assert not hasattr(regressor, "predict_proba")


def test_importing_the_plugin_imports_no_framework():
    code = "import sys, unlearnkit_torch as p; p.unlearnkit_adapters(); print({'torch', 'sklearn'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
