"""Rows that are read once for all modules: no module sees what another has done to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from unlearnkit_torch import TorchModel
from unlearnkit_torch.direct import outputs
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


class Switching(Greedy):
    """Sets for the whole process what it has no business with."""

    def forward(self, x):
        torch.use_deterministic_algorithms(False)
        torch.set_default_dtype(torch.float64)
        torch.backends.cudnn.benchmark = True
        return self.linear(x)


def all_switches():
    return (*switches(), torch.get_default_dtype(), torch.backends.cudnn.benchmark)


@pytest.mark.parametrize("user_has", [False, True])
def test_what_a_module_switches_is_put_back(drive, blobs, user_has):
    X, y, labels = blobs
    learner = TorchLearner(TorchModel(**{**MODEL.get_params(), "module": Switching}))
    try:
        torch.use_deterministic_algorithms(user_has)
        torch.backends.cudnn.benchmark = user_has
        before = all_switches()
        _, state = drive(learner, X, y, 1, classes=labels)
        assert all_switches() == before
        learner.predict(state, X[:1])
        assert all_switches() == before
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = False
        torch.set_default_dtype(torch.float32)


def test_a_default_device_is_no_matter(drive, blobs):
    X, y, labels = blobs
    alone = TorchLearner(MODEL)
    _, state = drive(alone, X, y, 1, classes=labels)
    with torch.device("meta"):
        learner = TorchLearner(MODEL)
    assert learner.predict(state, X).tobytes() == alone.predict(state, X).tobytes()


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


def test_a_narrower_precision_that_is_switched_on_around_it_changes_no_bit(drive, blobs):
    X, y, labels = blobs
    learner = TorchLearner(MODEL)
    _, state = drive(learner, X, y, 2, classes=labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert learner.save(drive(learner, X, y, 2, classes=labels)[1]) == learner.save(state)
        found = learner.predict(state, X)
        assert torch.is_autocast_enabled("cpu")
    assert found.tobytes() == learner.predict(state, X).tobytes()


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


class Sometimes(nn.Module):
    """Gives its input on, and works in its memory if its weights say so."""

    def __init__(self, writes):
        super().__init__()
        self.writes = writes

    def forward(self, x):
        return x.neg_() if self.writes else x[:, :2]


@pytest.mark.parametrize("writes", [[0, 0, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1], [1, 1, 1]])
def test_answers_that_are_views_of_the_rows_are_not_spoilt_by_the_next_module(writes):
    rows = torch.tensor([[0.0, -0.0, float("nan"), 3.0]])
    modules = [Sometimes(w) for w in writes]
    alone = [module(rows.clone()) for module in modules]
    with torch.inference_mode():
        found = outputs(modules, rows)
    assert [a.numpy().tobytes() for a in found] == [a.numpy().tobytes() for a in alone]
    assert rows.numpy().tobytes() == torch.tensor([[0.0, -0.0, float("nan"), 3.0]]).numpy().tobytes()


def test_a_module_that_gives_its_input_another_shape_does_so_for_itself():
    rows = torch.arange(9.0).reshape(3, 3)
    with torch.inference_mode():
        found = outputs([torch.Tensor.t_] * 3 + [lambda x: x.unsqueeze_(1)] * 2, rows)
    assert all(torch.equal(one, rows.t()) for one in found[:3])
    assert [one.shape for one in found[3:]] == [(3, 1, 3)] * 2


def test_rows_of_one_number_that_lie_in_memory_in_another_way(drive, blobs):
    X, y, labels = blobs
    learner = TorchLearner(TorchModel(**{**MODEL.get_params(), "module": scorer}))
    narrow = np.linspace(0, 1, len(X), dtype="f4")[:, None]
    assert_joined_alike(learner, of_seeds(drive, learner, narrow, y, labels), narrow)


class Noting(nn.Module):
    """Notes how many rows it is given at once."""

    noted: list[int] = []  # noqa: RUF012

    def __init__(self, n_in, n_out):
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)

    def forward(self, x):
        self.noted.append(len(x))
        return self.linear(x)


@pytest.mark.parametrize(
    ("given", "width", "n", "expected"),
    [
        (None, 4, 5_000, [4_096, 904]),
        (None, 512, 1_100, [512, 512, 76]),
        (None, 30_000, 70, [64, 6]),
        (None, 30_000, 64, [64]),
        (50, 4, 120, [50, 50, 20]),
    ],
)
def test_rows_that_are_predicted_at_once(drive, given, width, n, expected):
    learner = TorchLearner(TorchModel(**{**MODEL.get_params(), "module": Noting, "predict_batch_size": given}))
    X = np.zeros((n, width), dtype="f4")
    _, state = drive(learner, X[:8], np.arange(8) % 2, 1, classes=np.arange(2))
    Noting.noted.clear()
    assert learner.predict(state, X).shape == (n, 2)
    assert Noting.noted == expected
