"""Modules that look up what they have in less time: whatever is done to one, it answers as it would have before."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from unlearnkit_torch.quick import Followed, quicken

ROWS = torch.linspace(-1, 1, 15).reshape(5, 3)


class Own(nn.Module):
    """A parameter, children and a buffer of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([0.5, 2.0, -1.0]))
        self.first = nn.Linear(3, 4, bias=False)
        self.rest = nn.ModuleList([nn.BatchNorm1d(4), nn.Linear(4, 2)])
        self.register_buffer("shift", torch.ones(3))

    def forward(self, x):
        x = self.first(x * self.scale + self.shift)
        for layer in self.rest:
            x = layer(x)
        return x


class Functional(nn.Module):
    """Calls its layer with other weights than it has."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        own = self.layer(x)
        twice = {name: 2 * value for name, value in self.layer.named_parameters()}
        return own + torch.func.functional_call(self.layer, twice, (x,)) + self.layer(x)


class Named(nn.Module):
    """Its class has something of the name of a parameter."""

    weight = "of the class"

    def __init__(self):
        super().__init__()
        self._parameters["weight"] = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x * len(self.weight)


class Deaf(nn.Module):
    """Finds its attributes in its own way."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def __getattr__(self, name):
        found = super().__getattr__(name)
        return (lambda x: found(x) + 1) if name == "layer" else found

    def forward(self, x):
        return self.layer(x)


MODULES = [
    lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 2)),
    Own,
    Functional,
    Named,
    Deaf,
    lambda: parametrizations.weight_norm(nn.Linear(3, 2)),
    lambda: nn.MultiheadAttention(3, 1),
]


def made(make):
    torch.manual_seed(0)
    return make().eval()


def answers(module):
    found = module(ROWS, ROWS, ROWS)[0] if isinstance(module, nn.MultiheadAttention) else module(ROWS)
    return found.detach().numpy().tobytes()


@pytest.mark.parametrize("make", MODULES)
def test_a_module_answers_as_before(make):
    plain, quick = made(make), quicken(made(make))
    for _ in range(2):
        assert answers(quick) == answers(plain)
    assert list(quick.state_dict()) == list(plain.state_dict())
    assert repr(quick) == repr(plain)
    assert answers(quicken(quick)) == answers(plain)


def test_what_it_has_is_found_at_once():
    module = quicken(made(Own))
    assert {"scale", "first", "rest"} <= vars(module).keys()
    assert "shift" not in vars(module)
    assert {"weight", "bias"} <= vars(module.rest[1]).keys()
    assert "layer" not in vars(quicken(made(Deaf)))
    assert "weight" not in vars(quicken(made(Named)))


def replace_parameter(module):
    module.scale = nn.Parameter(torch.zeros(3))


def replace_child(module):
    module.first = nn.Linear(3, 4)
    nn.init.ones_(module.first.weight)
    nn.init.zeros_(module.first.bias)


def replace_inside(module):
    module._parameters["scale"] = nn.Parameter(torch.ones(3))


def take_out_and_put_in(module):
    found = module._modules.pop("first")
    assert not hasattr(module, "first")
    module.first = nn.Sequential(found, nn.Tanh())


def delete(module):
    del module.scale
    assert not hasattr(module, "scale")
    module.scale = 3.0


def convert(module):
    module.half().float()


def assign(module):
    state = {name: torch.ones_like(value) for name, value in module.state_dict().items()}
    module.load_state_dict(state, assign=True)


@pytest.mark.parametrize(
    "change", [replace_parameter, replace_child, replace_inside, take_out_and_put_in, delete, convert, assign]
)
@pytest.mark.parametrize("through", [lambda module: module, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_whatever_is_changed_is_changed(change, through):
    plain, quick = through(made(Own)), through(quicken(made(Own)))
    before = answers(quick)
    change(plain)
    change(quick)
    assert answers(quick) == answers(plain) != before


def test_a_copy_is_apart():
    module = quicken(made(Own))
    other, before = copy.deepcopy(module), answers(module)
    assert isinstance(vars(other)["_parameters"], Followed)
    replace_parameter(other)
    with torch.no_grad():
        other.first.weight.zero_()
    assert answers(module) == before != answers(other)
