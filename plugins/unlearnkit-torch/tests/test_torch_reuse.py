"""The steps of a shard share a module where that cannot show, and a decoded state makes one only when it predicts."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from unlearnkit.errors import StateError
from unlearnkit_torch import TorchModel, reuse
from unlearnkit_torch.codec import pack_tensors, tensors_in_place
from unlearnkit_torch.learner import TorchLearner


class Counted(nn.Module):
    """A plain network that counts on the class how often it is built."""

    built = 0

    def __init__(self, d, k):
        super().__init__()
        type(self).built += 1
        self.norm, self.layers, self.act = (
            nn.BatchNorm1d(d),
            nn.ModuleList([nn.Linear(d, 8), nn.Linear(8, k)]),
            torch.relu,
        )
        self.sizes = [d, (8, k)]

    def forward(self, x):
        return self.layers[1](self.act(self.layers[0](self.norm(x))))


class Remembering(nn.Module):
    """Its output depends on how often it was called, kept where a ``state_dict`` does not look."""

    def __init__(self, d, k, place):
        super().__init__()
        self.place = place
        self.layer = nn.Linear(d, k)
        self.calls = 0
        self.list, self.dict, self.nested = [0], {"calls": 0}, ([0],)
        self.grown = []
        self.register_buffer("lost", torch.zeros(()), persistent=False)
        if place == "tensor":
            self.loose = torch.zeros(())
        if place == "closure":
            seen = [0]

            def count():
                seen[0] += 1
                return seen[0]

            self.count = count
        if place == "hook":
            self.hook_calls = [0]
            self.layer.register_forward_hook(self._called)
        if place == "object":
            self.box = type("Box", (), {"calls": 0})()

    def _called(self, module, inputs, output):
        self.hook_calls[0] += 1
        return output * (1 + 0.1 * self.hook_calls[0])

    def forward(self, x):
        if self.place == "frozen" and self.calls >= 3:
            self.layer.bias.requires_grad_(False)
        count = getattr(self, f"_{self.place}", self._nothing)()
        self.calls += self.place in ("number", "frozen")
        return self.layer(x) * (1 + 0.1 * float(count))

    def _nothing(self):
        return 0

    def _number(self):
        return self.calls

    def _list(self):
        self.list[0] += 1
        return self.list[0]

    def _grown(self):
        self.grown.append(None)
        return len(self.grown)

    def _dict(self):
        self.dict["calls"] += 1
        return self.dict["calls"]

    def _nested(self):
        self.nested[0][0] += 1
        return self.nested[0][0]

    def _buffer(self):
        self.lost += 1
        return self.lost

    def _tensor(self):
        self.loose += 1
        return self.loose

    def _closure(self):
        return self.count()

    def _object(self):
        self.box.calls += 1
        return self.box.calls

    def _parameter(self):
        self.layer.weight.calls = getattr(self.layer.weight, "calls", 0) + 1
        return self.layer.weight.calls


PLACES = (
    "number",
    "list",
    "grown",
    "dict",
    "nested",
    "buffer",
    "tensor",
    "closure",
    "hook",
    "object",
    "parameter",
    "frozen",
)


def model(module, **options):
    settings = {"n_features_as": "d", "n_outputs_as": "k", "epochs": 5, "batch_size": 8, "random_state": 3}
    return TorchModel(module, **{**settings, **options})


def test_a_plain_module_is_built_once_and_no_byte_changes(blobs, drive):
    X, y, classes = blobs
    learner = TorchLearner(model(Counted))
    apart, _ = drive(learner, X, y, 4, classes=classes)
    before = Counted.built
    shared, _ = drive(learner, X, y, 4, classes=classes, scratch={})
    assert shared == apart
    assert Counted.built - before == 1


@pytest.mark.parametrize("place", PLACES)
def test_a_module_with_a_memory_is_built_anew(place, blobs, drive):
    X, y, classes = blobs
    learner = TorchLearner(model(Remembering, module_params={"place": place}, optimizer="sgd"))
    scratch = {}
    shared, _ = drive(learner, X, y, 4, classes=classes, scratch=scratch)
    assert reuse.left(scratch, None) is None
    assert not any(isinstance(value, reuse.Spare) for value in scratch.values())
    assert shared == drive(learner, X, y, 4, classes=classes)[0]


@pytest.mark.parametrize("place", PLACES)
def test_the_memory_would_show(place, blobs, drive, monkeypatch):
    X, y, classes = blobs
    learner = TorchLearner(model(Remembering, module_params={"place": place}, optimizer="sgd"))
    apart, _ = drive(learner, X, y, 4, classes=classes)
    monkeypatch.setattr(reuse.Inside, "is_unchanged", lambda _: True)
    monkeypatch.setattr(reuse, "look", lambda _: reuse.Inside())
    try:
        assert drive(learner, X, y, 4, classes=classes, scratch={})[0] != apart
    except ValueError as error:
        assert place == "frozen", error  # noqa: PT017 - the optimizer misses a parameter


def test_a_start_has_the_weights_of_its_seed(blobs, one_step):
    X, y, classes = blobs
    learner = TorchLearner(model(Counted))
    batch, step = one_step(X, y, classes)
    first = learner.save(learner.train(None, batch, step))
    assert learner.save(learner.train(None, batch, step)) == first


def test_a_module_for_other_sizes_is_not_taken(blobs, one_step):
    X, y, classes = blobs
    learner = TorchLearner(model(Counted))
    batch, step = one_step(X, y, classes)
    state = learner.train(None, batch, step)
    other = replace(batch, X=X[:, :4].copy(), X_shard=X[:, :4].copy(), scratch={})
    narrow = learner.train(None, other, step)
    expected = learner.save(learner.train(narrow, replace(other, scratch={}), step))
    mixed = {**other.scratch, **{key: value for key, value in batch.scratch.items() if key not in other.scratch}}
    mixed.update({key: value for key, value in batch.scratch.items() if isinstance(value, reuse.Spare)})
    assert learner.save(learner.train(narrow, replace(other, scratch=mixed), step)) == expected
    assert learner.predict(state, X).shape == (91, 3)


def test_a_decoded_state_makes_its_module_when_it_predicts(blobs, drive):
    X, y, classes = blobs
    learner = TorchLearner(model(Counted))
    stored, state = drive(learner, X, y, 2, classes=classes)
    learner.load(stored[-1])
    before = Counted.built
    loaded = learner.load(stored[-1])
    assert Counted.built == before
    assert learner.save(loaded) == stored[-1]
    assert np.array_equal(learner.predict(loaded, X), learner.predict(state, X))
    assert np.array_equal(learner.predict(pickle.loads(pickle.dumps(loaded)), X), learner.predict(state, X))
    assert learner.save(loaded) == stored[-1]


@pytest.mark.parametrize("change", ["shape", "name", "missing"])
def test_weights_that_fit_nothing_are_refused_after_some_that_did(change, blobs, drive):
    X, y, classes = blobs
    learner = TorchLearner(model(Counted))
    stored, _ = drive(learner, X, y, 1, classes=classes)
    learner.load(stored[-1])
    tensors = safetensors.torch.load(stored[-1]["module.safetensors"])
    name = "module.layers.0.bias"
    bias = tensors.pop(name)
    if change != "missing":
        tensors["module.layers.0.other" if change == "name" else name] = bias[:-1] if change == "shape" else bias
    with pytest.raises(StateError):
        learner.load({**stored[-1], "module.safetensors": safetensors.torch.save(tensors)})


def test_tensors_are_packed_as_safetensors_packs_them():
    rng = np.random.default_rng(0)
    dtypes = [torch.float64, torch.int64, torch.float32, torch.int32, torch.bfloat16, torch.float16]
    dtypes += [torch.int16, torch.int8, torch.uint8, torch.bool]
    for count in range(len(dtypes) + 1):
        some = rng.permutation(np.array(dtypes, dtype=object))[:count]
        values = [torch.tensor(rng.normal(size=rng.integers(4, size=i % 3))) for i in range(count)]
        names = [rng.choice(["a", "é", '"', "\n"]) + str(i) for i in range(count)]
        tensors = {name: value.to(dtype) for name, value, dtype in zip(names, values, some, strict=True)}
        assert pack_tensors(tensors) == safetensors.torch.save(tensors)


def test_tied_and_strange_tensors_are_packed(blobs):
    weight = torch.ones(2, 2)
    loaded = safetensors.torch.load(pack_tensors({"a": weight, "b": weight, "c": torch.ones(1, dtype=torch.complex64)}))
    assert torch.equal(loaded["a"], loaded["b"])
    assert loaded["c"].dtype == torch.complex64


def test_tensors_are_read_where_they_lie():
    dtypes = [torch.float64, torch.int64, torch.float32, torch.bfloat16, torch.int8, torch.bool, torch.complex64]
    shapes = [(), (0, 3), (2, 3), (1,), (4,)]
    tensors = {f"{d}{s}": torch.ones(s).to(d) for d in dtypes[:-1] for s in shapes}
    for some in ({}, tensors, {**tensors, "complex": torch.ones(2, dtype=dtypes[-1])}):
        data = pack_tensors(some)
        found = tensors_in_place(data)
        assert found.keys() == some.keys()
        assert all(torch.equal(found[n], t) and found[n].dtype == t.dtype for n, t in some.items())
        start = np.frombuffer(data, dtype=np.uint8).ctypes.data
        inside = [start <= t.data_ptr() < start + len(data) for t in found.values() if t.numel()]
        assert all(inside) == ("complex" not in some)


def crafted(header, data=b""):
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return len(text).to_bytes(8, "little") + text + data


def entry(shape, bounds, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": bounds}


NONSENSE = {
    "nothing": b"",
    "a length beyond the end": (1 << 40).to_bytes(8, "little") + b"{}",
    "no JSON": crafted(b"{"),
    "no object": crafted([]),
    "no entry": crafted({"a": 1}),
    "an entry without offsets": crafted({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)),
    "a negative shape": crafted({"a": entry([-1, -1], [0, 4])}, bytes(4)),
    "a shape that is no number": crafted({"a": entry([1.0], [0, 4])}, bytes(4)),
    "a shape of truth values": crafted({"a": entry([True], [0, 4])}, bytes(4)),
    "more than there is": crafted({"a": entry([2], [0, 8])}, bytes(4)),
    "less than it says": crafted({"a": entry([2], [0, 4])}, bytes(4)),
    "a gap": crafted({"a": entry([1], [0, 4]), "b": entry([1], [8, 12])}, bytes(12)),
    "bytes twice": crafted({"a": entry([1], [0, 4]), "b": entry([1], [0, 4])}, bytes(4)),
    "bytes left over": crafted({"a": entry([1], [0, 4])}, bytes(5)),
    "an unknown type": crafted({"a": entry([1], [0, 4], "F33")}, bytes(4)),
    "too deep": crafted(b"[" * 100_000),
    "huge": crafted({"a": entry([1 << 62, 1 << 62], [0, 4])}, bytes(4)),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_tensors_that_do_not_lie_where_they_say_are_refused(name):
    with pytest.raises(StateError):
        tensors_in_place(NONSENSE[name])


def test_a_state_that_somebody_keeps_is_not_trained_on(blobs, one_step):
    X, y, classes = blobs
    learner = TorchLearner(model(Counted))
    batch, step = one_step(X, y, classes)
    kept = learner.train(None, batch, step)
    stored, predicted = learner.save(kept), learner.predict(learner.load(learner.save(kept)), X)
    learner.train(learner.load(stored), batch, step)
    assert learner.save(kept) == stored
    assert np.array_equal(learner.predict(kept, X), predicted)


class Translating(Counted):
    """Writes into what it is given to load."""

    loaded = 0

    def load_state_dict(self, state_dict, *options, **more):
        type(self).loaded += 1
        found = super().load_state_dict(state_dict, *options, **more)
        for value in state_dict.values():
            value.zero_()
        return found


class Copying(Counted):
    """Gives copies of its weights."""

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in destination:
            destination[name] = destination[name].clone()


class Hooked(Counted):
    """Has something done before its weights are asked for."""

    def __init__(self, d, k):
        super().__init__(d, k)
        self.register_state_dict_pre_hook(halve)


def halve(module, prefix, keep_vars):
    pass


class Lending(Counted):
    """Gives weights that are not its own."""

    def __init__(self, d, k):
        super().__init__(d, k)
        self.loose = [nn.Parameter(torch.zeros(1))]
        self.register_state_dict_post_hook(lend)


def lend(module, state, prefix, metadata):
    state["loose"] = module.loose[0]


def test_only_a_module_that_loads_like_any_other_is_copied_into():
    assert reuse.Spare.of(Counted(5, 3), None).named is not None
    for kind in (Translating, Copying, Hooked, Lending):
        assert reuse.Spare.of(kind(5, 3), None).named is None


@pytest.mark.parametrize("kind", [Translating, Copying, Hooked])
def test_a_module_that_loads_in_its_own_way_does_so(kind, blobs, drive):
    X, y, classes = blobs
    learner = TorchLearner(model(kind))
    before = Translating.loaded
    shared, state = drive(learner, X, y, 3, classes=classes, scratch={})
    plain = TorchLearner(model(Counted))
    assert shared == drive(learner, X, y, 3, classes=classes)[0] == drive(plain, X, y, 3, classes=classes)[0]
    assert (Translating.loaded > before) == (kind is Translating)
    loaded = learner.load(shared[-1])
    assert np.array_equal(learner.predict(loaded, X), plain.predict(plain.load(shared[-1]), X))
    assert learner.save(loaded) == learner.save(state) == shared[-1]


def test_memory_is_filled_after_training_as_before(blobs, one_step):
    X, y, classes = blobs
    learner = TorchLearner(model(Counted))
    for fill in (False, True):
        torch.utils.deterministic.fill_uninitialized_memory = fill
        learner.train(None, *one_step(X, y, classes))
        assert torch.utils.deterministic.fill_uninitialized_memory is fill


class Careless(nn.Module):
    """Adds memory that nobody has written."""

    def __init__(self, d, k):
        super().__init__()
        self.layer = nn.Linear(d, k)

    def forward(self, x):
        return self.layer(x) + torch.empty(len(x), 1)


def test_reading_memory_that_was_never_written_shows(blobs, one_step):
    X, y, classes = blobs
    learner = TorchLearner(model(Careless))
    state = learner.train(None, *one_step(X, y, classes))
    assert all(torch.isnan(tensor).all() for tensor in state.weights.state_dict().values())


def test_no_call_is_noted_for_devices_that_are_not_there(blobs, one_step):
    X, y, classes = blobs
    learner = TorchLearner(model(Counted))
    before = len(torch.cuda._queued_calls)
    learner.train(None, *one_step(X, y, classes))
    assert len(torch.cuda._queued_calls) == before
