"""One module for all steps of a shard: building is dear, and the weights come from the stored state anyway.

A module may remember more than its ``state_dict`` shows, and then a step that trains on in it would differ from the
same step after a crash. So it is used again only if all else in it can be seen to be as it was when it was built.
"""

from __future__ import annotations

import types
from collections import OrderedDict
from collections.abc import Hashable, MutableMapping
from dataclasses import dataclass, field
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

_KEY = "unlearnkit_torch.module"
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.Size, torch.dtype, torch.device)
_CONTAINERS = (dict, OrderedDict, list, set)


class _Unseen(Exception):  # noqa: N818 - not an error: the answer is no
    """Something in a module whose changes could not be seen."""


@dataclass(frozen=True, slots=True)
class Spare:
    """A module to train in, what it was built for, and what was in it then (None: that cannot be told).

    Attributes
    ----------
    tried : bool
        Whether it has trained on a batch.
    """

    module: nn.Module
    purpose: Hashable
    inside: Inside | None
    tried: bool = False

    @classmethod
    def of(cls, module: nn.Module, purpose: Hashable) -> Spare:
        """A module that was just built."""
        return cls(module, purpose, look(module))


def left(scratch: MutableMapping[str, Any], purpose: Hashable) -> Spare | None:
    """The module that the step before has left, if it is for this purpose."""
    spare: Spare | None = scratch.pop(_KEY, None)
    return spare if spare is not None and spare.purpose == purpose else None


def leave(scratch: MutableMapping[str, Any], spare: Spare) -> bool:
    """Leave the module for the next step if it can train there; it must then not be used for anything else."""
    if spare.inside is None or not spare.inside.is_unchanged():
        return False
    scratch[_KEY] = spare
    return True


@dataclass(frozen=True, slots=True)
class Inside:
    """All that a module holds beside the values of the tensors in its ``state_dict``.

    Attributes
    ----------
    filled : list of (container, list)
        Attributes and containers in them, and the objects that were in each: what cannot change itself, or is here too.
    empty : list of container
        Those that held nothing, such as the hooks.
    tensors : list of (Tensor, bool, torch.Size, torch.dtype)
        Those of the ``state_dict``, and what has to stay of each.
    """

    filled: list[tuple[Any, list[Any]]] = field(default_factory=list)
    empty: list[Any] = field(default_factory=list)
    tensors: list[tuple[Tensor, bool, torch.Size, torch.dtype]] = field(default_factory=list)

    def is_unchanged(self) -> bool:
        """Whether it all is as it was."""
        return (
            not any(self.empty)
            and all(_same(_objects(container), before) for container, before in self.filled)
            and all(
                _is_bare(t) and t.requires_grad == grad and t.shape == s and t.dtype == d
                for t, grad, s, d in self.tensors
            )
        )


def look(module: nn.Module) -> Inside | None:
    """What is inside a module now; None if something in it could change unseen.

    Examples
    --------
    >>> module = nn.Linear(2, 1)
    >>> inside = look(module)
    >>> inside.is_unchanged()
    True
    >>> module.calls = 1
    >>> inside.is_unchanged()
    False
    """
    inside = Inside()
    parts = list(module.modules())
    tensors: list[Tensor] = [*module.parameters(), *module.buffers()]
    known = {id(each) for each in (*parts, *tensors)}
    try:
        for part in parts:
            if part._non_persistent_buffers_set:  # noqa: SLF001
                return None
            _look(vars(part), inside, known)
    except (_Unseen, RecursionError):
        return None
    if not all(map(_is_bare, tensors)):
        return None
    inside.tensors.extend((tensor, tensor.requires_grad, tensor.shape, tensor.dtype) for tensor in tensors)
    return inside


def _look(value: Any, inside: Inside, known: set[int]) -> None:
    kind = type(value)
    if kind in _PLAIN or isinstance(value, type | types.BuiltinFunctionType) or id(value) in known:
        return
    if kind is types.FunctionType and value.__closure__ is None:
        return
    if kind is tuple:
        objects = list(value)
    elif kind in _CONTAINERS:
        objects = _objects(value)
        if objects:
            inside.filled.append((value, objects))
        else:
            inside.empty.append(value)
    else:
        raise _Unseen
    for item in objects:
        _look(item, inside, known)


def _objects(container: Any) -> list[Any]:
    return [*container, *container.values()] if isinstance(container, dict) else list(container)


def _same(now: list[Any], before: list[Any]) -> bool:
    return len(now) == len(before) and all(map(is_, now, before))


def _is_bare(tensor: Tensor) -> bool:
    """Whether it is its values alone: no gradient, no hook, no attribute that somebody put there."""
    return tensor.grad is None and not tensor._backward_hooks and not vars(tensor)  # noqa: SLF001
