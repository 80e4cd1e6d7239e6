"""Weights, rows and numbers that a torch model or a skorch net brings along, and that are not refused."""

from __future__ import annotations

import dis
import types
from collections.abc import Iterator, Mapping
from typing import Any

from unlearnkit.carried import components, parameter_leaks, weights
from unlearnkit.learner import Leak

# How weights from elsewhere get into a module while it is built.
_LOADERS = frozenset({"from_pretrained", "load_state_dict", "load_state_dict_from_url"})
_CHOICES = ("pretrained", "weights")


def torch_leaks(model: Any) -> Iterator[Leak]:
    """The leaks of a `TorchModel`."""
    yield from parameter_leaks(model, "estimator", learned=["module_params"])
    yield from _pretrained(model.module, model.module_params or {}, "estimator.module", "estimator.module_params[{!r}]")


def skorch_leaks(net: Any) -> Iterator[Leak]:
    """The leaks of a skorch net and of its callbacks."""
    for place, part in components(net, "estimator"):
        named = [name for name in part.get_params(deep=False) if name.startswith("module__")]
        yield from parameter_leaks(part, place, learned=named)
    params = net.get_params_for("module")
    yield from _pretrained(net.module, params, "estimator.module", "estimator.module__{}")


def _pretrained(module: Any, params: Mapping[str, Any], where: str, place: str) -> Iterator[Leak]:
    build = module if isinstance(module, types.FunctionType) else getattr(module, "__init__", None)
    for name in sorted(_called(build) & _LOADERS):
        yield weights(f"{where} (its call of {name})", "weights")
    for name in _CHOICES:
        # Arrays under such a name are told of as what they are.
        if isinstance(params.get(name), str) or params.get(name) is True:
            yield weights(place.format(name), "weights")


def _called(function: Any) -> set[str]:
    code = getattr(function, "__code__", None)
    if code is None:
        return set()
    return {str(i.argval) for i in dis.get_instructions(code) if i.opname.startswith("LOAD_")}
