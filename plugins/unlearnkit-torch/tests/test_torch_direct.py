"""Layers of torch that are called directly answer as they do when they are called by their module."""

from __future__ import annotations

import gc
from weakref import WeakKeyDictionary, ref

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations

from unlearnkit_torch import TorchModel
from unlearnkit_torch.direct import Together, calls, in_one
from unlearnkit_torch.learner import TorchLearner

ROWS = torch.linspace(-1, 1, 12).reshape(4, 3)


class Own(nn.Module):
    """A module of the user's own."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.ReLU())

    def forward(self, x):
        return self.inner(x) + 1


class Louder(nn.Linear):
    """A layer that is almost one of torch's."""

    def forward(self, x):
        return 2 * super().forward(x)


class Backwards(nn.Sequential):
    """A sequence that is none."""

    def forward(self, x):
        for part in reversed(self):
            x = part(x)
        return x


def hooked(before):
    layer = nn.Linear(3, 3)
    if before:
        layer.register_forward_pre_hook(lambda _, given: (given[0] + 1,))
    else:
        layer.register_forward_hook(lambda _, __, answer: answer * 3)
    return layer


def replaced():
    layer = nn.Linear(3, 3)
    layer.forward = lambda x: x - 7
    return nn.Sequential(layer, nn.Tanh())


def hooked_sequence():
    sequence = nn.Sequential(nn.Linear(3, 3))
    sequence.register_forward_hook(lambda _, __, answer: answer * 3)
    return nn.Sequential(sequence, nn.Tanh())


def twice():
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.Tanh(), layer)


class Doubled(Own):
    """A module that is called in a way of its own."""

    def __call__(self, x):
        return 2 * super().__call__(x)


class Inside(Own):
    """The same one level below."""

    def _call_impl(self, x):
        return 2 * super()._call_impl(x)


def own(**changes):
    module = Own()
    vars(module).update(changes)
    return module


def compiled_linear():
    layer = nn.Linear(3, 2)
    layer._compiled_call_impl = lambda x: x - 7
    return layer


def own_hooked():
    module = Own()
    module.register_forward_hook(lambda _, __, answer: answer * 3)
    return module


def own_hooked_inside():
    module = Own()
    module.inner[0].register_forward_pre_hook(lambda _, given: (given[0] + 1,))
    return module


class Parts(nn.Module):
    """A module with parts of many kinds, which asks what they are."""

    def __init__(self, **parts):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.again = self.first
        self.rest = nn.ModuleList([nn.Sequential(nn.Linear(3, 3), nn.Tanh()), nn.BatchNorm1d(3)])
        self.none = None
        self.register_module("left_out", None)
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x):
        assert type(self.first) is nn.Linear
        assert self.again is self.first
        assert self.left_out is None
        x = self.first(x)
        for part in self.rest:
            x = part(x)
        return x


class Attentive(Parts):
    """A module with parts that look into their own parts."""

    def __init__(self):
        layer = nn.TransformerEncoderLayer(3, 1, 5, batch_first=True)
        encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        super().__init__(attention=nn.MultiheadAttention(3, 1), encoder=encoder, memory=nn.LSTM(3, 2))

    def forward(self, x):
        x = super().forward(x)[:, None]
        x = self.encoder(self.attention(x, x, x)[0])
        return self.memory(x)[0][:, 0]


class Functional(Parts):
    """A module that has a part answer with other weights."""

    def forward(self, x):
        other = {name: 2 * value for name, value in self.first.named_parameters()}
        return super().forward(x) + torch.func.functional_call(self.first, other, (x,))


class Slotted(Parts):
    """A module with something outside its attributes."""

    __slots__ = ("bias",)

    def __init__(self):
        super().__init__()
        self.bias = 3.0

    def forward(self, x):
        return super().forward(x) + self.bias


class Asking(Parts):
    """A module that looks up attributes in a way of its own."""

    kept: dict[int, float] = {}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.kept[id(self)] = 5.0

    def __getattr__(self, name):
        return self.kept[id(self)] if name == "more" else super().__getattr__(name)

    def forward(self, x):
        return super().forward(x) + self.more


class Ending(Parts):
    """A module that does something when it is no longer there."""

    ended: list[int] = []  # noqa: RUF012

    def __del__(self):
        self.ended.append(1)


class Noting(Parts):
    """A module that a part of it tells what it has answered."""

    def __init__(self):
        super().__init__()
        self.first.register_forward_hook(self.note)

    def note(self, _, __, answer):
        self.noted = answer

    def forward(self, x):
        return super().forward(x) + self.noted


class Bound(Parts):
    """A module that keeps a method of its own."""

    def __init__(self):
        super().__init__()
        self.prepare = self.note

    def note(self, x):
        self.noted = x

    def forward(self, x):
        self.prepare(x)
        return super().forward(x) + self.noted


class Listing(Parts):
    """A module that keeps its parts in a list besides."""

    def __init__(self):
        super().__init__()
        self.all = [self.first]

    def forward(self, x):
        self.all[0].shift = x.sum()
        return super().forward(x) + self.first.shift


class Changing(Parts):
    """A module that puts a hook on a part, for one answer."""

    def forward(self, x):
        handle = self.first.register_forward_hook(lambda _, __, answer: answer + x.sum())
        try:
            return super().forward(x)
        finally:
            handle.remove()


class Replacing(Parts):
    """A module that gives a part other weights for good."""

    def forward(self, x):
        weight = self.first.weight
        del self.first.weight
        self.first.weight = weight.detach().clone()
        return super().forward(x)


class Sender(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x):
        self.sent = self.linear(x)
        return self.sent


class Receiver(nn.Module):
    def __init__(self, sender):
        super().__init__()
        self.sender = sender

    def forward(self, x):
        return x + self.sender.sent


def sender_and_receiver():
    sender = Sender()
    return nn.Sequential(sender, nn.Tanh(), Receiver(sender))


class Normed(Parts):
    """A module with a part whose weights are computed."""

    def __init__(self):
        super().__init__(normed=parametrizations.weight_norm(nn.Linear(3, 2)))

    def forward(self, x):
        return self.normed(super().forward(x))


def parts_compiled():
    module = Parts()
    module.rest[0][0]._compiled_call_impl = lambda x: x - 7
    return module


def parts_hooked():
    module = Parts()
    module.rest[0][0].register_forward_hook(lambda _, __, answer: answer * 3)
    return module


MODULES = {
    "parts": (Parts, 1),
    "parts, one hooked": (parts_hooked, 1),
    "parts, one compiled": (parts_compiled, 1),
    "parts that look into their own": (Attentive, 1),
    "a part with other weights": (Functional, 1),
    "slots": (Slotted, 1),
    "attributes of its own": (Asking, 1),
    "something to do at the end": (Ending, 1),
    "a part with a parametrization": (Normed, 1),
    "a part that tells it something": (Noting, 1),
    "a method that it keeps": (Bound, 1),
    "parts in a list": (Listing, 1),
    "a hook for one answer": (Changing, 1),
    "weights replaced": (Replacing, 1),
    "a part of two members": (sender_and_receiver, 3),
    "net": (lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 2, bias=False)), 4),
    "nested": (lambda: nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)), nn.BatchNorm1d(4)), 3),
    "empty": (nn.Sequential, 0),
    "one layer twice": (twice, 3),
    "replaced": (replaced, 2),
    "linear": (lambda: nn.Linear(3, 2), 1),
    "own": (Own, 1),
    "own, hooked": (own_hooked, 1),
    "own, hooked inside": (own_hooked_inside, 1),
    "own, called otherwise": (Doubled, 1),
    "own, called otherwise inside": (Inside, 1),
    "own, replaced": (lambda: own(forward=lambda x: x - 7), 1),
    "own, its call replaced": (lambda: own(_call_impl=lambda x: x - 7), 1),
    "own, compiled": (lambda: own(_compiled_call_impl=lambda x: x - 7), 1),
    "linear, compiled": (lambda: nn.Sequential(compiled_linear()), 1),
    "own inside": (lambda: nn.Sequential(nn.Identity(), Own(), nn.Flatten()), 3),
    "subclass": (lambda: nn.Sequential(Louder(3, 2)), 1),
    "sequence of its own": (lambda: Backwards(nn.Tanh(), nn.Linear(3, 3)), 1),
    "hook": (lambda: nn.Sequential(hooked(before=False)), 1),
    "hook before": (lambda: nn.Sequential(hooked(before=True)), 1),
    "hooked sequence": (hooked_sequence, 2),
    "weight norm": (lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 2)), nn.Tanh()), 2),
}


@pytest.mark.parametrize("name", MODULES)
def test_the_calls_answer_as_the_module_does(name):
    make, number = MODULES[name]
    torch.manual_seed(0)
    module = make().eval()
    # What an answer leaves in the module must not be what the next one is made of.
    module(ROWS.flip(0))
    found = calls(module)
    answer = ROWS
    for call in found:
        answer = call(answer)
    assert torch.equal(answer, module(ROWS))
    assert torch.equal(in_one(found)(ROWS), answer)
    assert len(found) == number


def test_the_module_itself_stays_as_it_is():
    module = Parts().eval()
    before = [dict(vars(part)) for part in module.modules()]
    (call,) = calls(module)
    assert call.__self__ is not module
    call(ROWS)
    assert [dict(vars(part)) for part in module.modules()] == before


def test_a_part_of_two_members_is_one_for_both():
    module = sender_and_receiver().eval()
    assert torch.equal(in_one(calls(module))(ROWS), module(ROWS))


def test_weights_that_an_answer_replaces_stay_in_the_module():
    module = Replacing().eval()
    (call,) = calls(module)
    call(ROWS)
    assert "first.weight" in module.state_dict()


def test_hooks_that_a_part_gets_later_are_called():
    module = Parts().eval()
    (call,) = calls(module)
    plain = call(ROWS)
    module.first.register_forward_hook(lambda _, __, answer: answer * 3)
    assert not torch.equal(call(ROWS), plain)
    assert torch.equal(call(ROWS), module(ROWS))


def test_nothing_is_kept_alive():
    """Weights that were replaced are gone at once, not when Python next looks for cycles."""
    module = Parts().eval()
    weight = ref(module.first.weight)
    found = calls(module)
    found[0](ROWS)
    gc.disable()
    try:
        del module
        assert weight() is not None
        del found
        assert weight() is None
    finally:
        gc.enable()


def test_weights_that_change_in_place_change_for_both():
    module = Parts().eval()
    (call,) = calls(module)
    with torch.no_grad():
        module.first.weight.mul_(2)
    assert torch.equal(call(ROWS), module(ROWS))


class Remembering(Parts):
    """A module that keeps what it has made for rows of one number, and for how many it was."""

    def __init__(self, *, buffered):
        super().__init__()
        self.n, self.kept = 0, []
        self.register_buffer("shift", torch.zeros(1))
        self.alias = self.shift
        self.buffered = buffered

    def forward(self, x):
        assert self.alias is self.shift
        if len(x) != self.n:
            self.n, self.kept[:] = len(x), [len(x)]
            self.shift.fill_(len(x))
        return super().forward(x) + (self.shift if self.buffered else self.kept[0])


@pytest.mark.parametrize("buffered", [False, True])
def test_what_a_module_keeps_for_itself_is_not_half_shared(buffered):
    module, fresh = (Remembering(buffered=buffered).eval() for _ in range(2))
    fresh.load_state_dict(module.state_dict())
    (call,) = calls(module)
    assert call.__self__ is not module
    for rows in (ROWS[:1], ROWS[:1], ROWS):
        assert torch.equal(call(rows), fresh(rows))
        module(ROWS)


def test_parts_are_called_without_what_is_around_them(monkeypatch):
    module = Parts().eval()
    (call,) = calls(module)
    monkeypatch.setattr(nn.Module, "_call_impl", None)
    assert call(ROWS).shape == (4, 3)
    with pytest.raises(TypeError):
        module(ROWS)


def test_a_module_with_an_end_has_one():
    Ending.ended.clear()
    module = Ending().eval()
    found = calls(module)
    del module, found
    gc.collect()
    assert len(Ending.ended) == 1


def test_hooks_for_every_module_are_called(drive, blobs):
    X, y, labels = blobs
    learner = TorchLearner(TorchModel(nn.Linear, n_features_as="in_features", n_outputs_as="out_features", epochs=1))
    states = [drive(learner, X, y, 1, classes=labels, seed=seed)[1] for seed in range(3)]
    together = learner.joined(states)
    with learner.sharing(X[:2]) as rows:
        plain = np.stack(list(together(rows)))
        handle = register_module_forward_hook(lambda _, __, answer: answer * 0)
        try:
            assert np.allclose(np.stack(list(together(rows))), 1 / 3)
        finally:
            handle.remove()
        assert np.stack(list(together(rows))).tobytes() == plain.tobytes()


class Registered(Parts):
    """A module that is known elsewhere."""

    known = WeakKeyDictionary()  # noqa: RUF012

    def __init__(self, otherwise):
        super().__init__()
        self.known[self] = 1.0
        self.otherwise = otherwise

    def forward(self, x):
        return super().forward(x) + (self.known[self] if self.otherwise is None else self.known.get(self, 2.0))


@pytest.mark.parametrize("otherwise", [None, 2.0], ids=["an error", "another answer"])
def test_a_module_that_can_be_told_from_what_stands_for_it_is_asked_itself(otherwise):
    modules = [Registered(otherwise).eval(), Parts().eval()]
    together = Together(modules)
    with torch.inference_mode():
        for rows in (ROWS, ROWS.flip(0)):
            expected = [module(rows) for module in modules]
            assert all(map(torch.equal, together(rows.clone()), expected))


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1]])
def test_answers_that_lie_in_memory_in_another_way_are_compared(rows, monkeypatch):
    class Column(Parts):
        def forward(self, x):
            return super().forward(x)[:, 0]

    together = Together([Column().eval()])
    with torch.inference_mode():
        (expected,) = together(rows.clone())
        monkeypatch.setattr(nn.Module, "_call_impl", None)
        (found,) = together(rows.clone())
    assert torch.equal(found, expected)


def test_a_difference_that_was_seen_once_counts():
    module = Parts().eval()
    together = Together([module])
    with torch.inference_mode():
        together._direct = [lambda rows: rows]
        together(ROWS.clone())
        together._checked(ROWS.clone())
        assert torch.equal(together(ROWS.clone())[0], module(ROWS))


def test_what_stands_for_modules_is_asked_once_it_has_answered_like_them(monkeypatch):
    modules = [Parts().eval() for _ in range(3)]
    together = Together(modules)
    with torch.inference_mode():
        expected = [module(ROWS) for module in modules]
        together(ROWS.clone())
        with monkeypatch.context() as patch:
            patch.setattr(nn.Module, "_call_impl", None)
            found = together(ROWS.clone())
    assert all(map(torch.equal, found, expected))
