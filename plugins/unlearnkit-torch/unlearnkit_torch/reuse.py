"""One module for all steps of a shard: building is dear, and the weights come from the stored state anyway.

A module may remember more than its ``state_dict`` shows, and then a step that trains on in it would differ from the
same step after a crash. So it is used again only if all else in it can be seen to be as it was when it was built.
"""

from __future__ import annotations

import types
from collections import OrderedDict
from collections.abc import Hashable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from operator import is_
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn

from unlearnkit_torch.weights import Weights, copied

_KEY = "unlearnkit_torch.module"
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.Size, torch.dtype, torch.device)
# Where a module may load and give its ``state_dict`` in a way of its own.
_LOADING = (
    *("load_state_dict", "_load_from_state_dict", "state_dict", "_save_to_state_dict"),
    *("set_extra_state", "get_extra_state"),
)
_HOOKS = (
    *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
    *("_state_dict_pre_hooks", "_state_dict_hooks"),
)
_CONTAINERS = (dict, OrderedDict, list, set)


class _Unseen(Exception):  # noqa: N818 - not an error: the answer is no
    """Something in a module whose changes could not be seen."""


@dataclass(frozen=True, slots=True)
class Spare:
    """A module to train in, what it was built for, and what was in it then (None: that cannot be told).

    Attributes
    ----------
    named : mapping of str to Tensor or None
        The tensors of its ``state_dict``, where to load one is to copy into them and nothing else.
    tried : bool
        Whether it has trained on a batch.
    lent : weak reference to Weights or None
        The state that the last step has left, as long as somebody has it: its tensors are those of the module.
    """

    module: nn.Module
    purpose: Hashable
    inside: Inside | None
    named: Mapping[str, Tensor] | None = None
    tried: bool = False
    lent: ReferenceType[Weights] | None = None

    @classmethod
    def of(cls, module: nn.Module, purpose: Hashable) -> Spare:
        """A module that was just built."""
        return cls(module, purpose, look(module), _named(module))

    def load(self, weights: Mapping[str, Any]) -> None:
        """Load a ``state_dict`` into the module, as its ``load_state_dict`` does."""
        named = self.named
        if named is None or {n: t.shape for n, t in named.items()} != {n: t.shape for n, t in weights.items()}:
            self.module.load_state_dict(copied(weights))
            return
        # Without what it does around that, which takes longer than the copies of a small module.
        with torch.no_grad():
            for name, tensor in named.items():
                tensor.copy_(weights[name])

    def take_back(self) -> None:
        """See that nobody has the tensors of the module any more: whoever does gets copies."""
        weights = None if self.lent is None else self.lent()
        if weights is not None:
            weights.keep()


def left(scratch: MutableMapping[str, Any], purpose: Hashable) -> Spare | None:
    """The module that the step before has left, if it is for this purpose."""
    spare: Spare | None = scratch.pop(_KEY, None)
    if spare is None or spare.purpose != purpose:
        return None
    spare.take_back()
    return spare


def leave(scratch: MutableMapping[str, Any], spare: Spare) -> Weights:
    """The weights of a module that has trained, which is left for the next step if that can train there."""
    if spare.inside is None or not spare.inside.is_unchanged():
        return Weights(spare.module.eval())
    # Most are written to their parts and gone before the module trains on, so they are not copied yet.
    weights = Weights(None, spare.module.state_dict() if spare.named is None else _read_only(spare.named))
    scratch[_KEY] = replace(spare, lent=ref(weights))
    return weights


def _read_only(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in named.items()}


def _named(module: nn.Module) -> Mapping[str, Tensor] | None:
    """The tensors of the ``state_dict`` by name; None if to load it takes more than copies."""
    plain = all(
        getattr(type(part), name).__module__.startswith("torch.nn.") for part in module.modules() for name in _LOADING
    )
    hooked = any(vars(part).get(name) for part in module.modules() for name in _HOOKS)
    if hooked or not plain:
        return None
    found: Mapping[str, Any] = module.state_dict(keep_vars=True)
    own = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    return dict(found) if {id(tensor) for tensor in found.values()} <= own else None


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


def is_closed(module: nn.Module) -> bool:
    """Whether a module is seen to have its parts where ``children`` says alone, and nothing else that knows them.

    False, too, where something cannot be looked into.

    Examples
    --------
    >>> module = nn.Sequential(nn.Linear(2, 1))
    >>> is_closed(module)
    True
    >>> module.last = [module[0]]
    >>> is_closed(module)
    False
    """
    tensors = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    try:
        for part in module.modules():
            _look({name: value for name, value in vars(part).items() if name != "_modules"}, Inside(), tensors)
    except (_Unseen, RecursionError):
        return False
    return True


def _look(value: Any, inside: Inside, known: set[int]) -> None:
    kind = type(value)
    if kind in _PLAIN or isinstance(value, type | types.BuiltinFunctionType) or id(value) in known:
        return
    if kind is types.FunctionType and value.__closure__ is None:
        # All that it holds itself.
        value = (value.__defaults__, value.__kwdefaults__)
        kind = tuple
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
