"""Modules called without what ``torch.nn.Module`` does in Python around each of them.

Of one row that takes as long as what the layers compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import module as hooks

Call: TypeAlias = Callable[[Tensor], Tensor]

_ACCESS = ("__getattribute__", "__getattr__", "__setattr__", "__delattr__", "__new__")
# What of a module is called before, after or instead of its ``forward``.
_BESIDES = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks", "_compiled_call_impl")


def calls(module: nn.Module) -> list[Call]:
    """What to call one after the other for what a module in eval mode answers, as long as nothing in it changes.

    Examples
    --------
    >>> import torch
    >>> module = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    >>> answer = torch.ones(1, 2)
    >>> for call in calls(module):
    ...     answer = call(answer)
    >>> bool((answer == module(torch.ones(1, 2))).all())
    True
    """
    if _is_called_otherwise(module):
        return [module]
    # Not what is derived from these: it may have another forward.
    if isinstance(module, nn.Sequential) and type(module) is nn.Sequential:
        return [call for part in module for call in calls(part)]
    if isinstance(module, nn.Linear) and type(module) is nn.Linear:
        return [partial(functional.linear, weight=module.weight, bias=module.bias)]
    return [_light(module, {}).forward]


def _light(module: nn.Module, known: dict[int, nn.Module]) -> nn.Module:
    """The module once more, over the same tensors, its parts called by their ``forward``; itself if it cannot be.

    Who puts a hook on the module itself, or on a part of it, has it called there as ever.
    """
    if id(module) in known:
        return known[id(module)]
    kind = type(module)
    if _is_called_otherwise(module) or not _is_copied_plainly(kind):
        return module
    light: nn.Module = object.__new__(kind)
    known[id(module)] = light
    parts = {name: None if part is None else _light(part, known) for name, part in vars(module)["_modules"].items()}
    # What torch.compile would have called, which a module that is copied or pickled leaves behind.
    vars(light).update(vars(module) | {"_modules": parts, "_compiled_call_impl": light.forward})
    return light


def _is_copied_plainly(kind: type[nn.Module]) -> bool:
    """Whether a module of this class is what its attributes say, and to have two of them does no harm."""
    plain = all(getattr(kind, name) is getattr(nn.Module, name) for name in _ACCESS)
    return plain and kind.__basicsize__ == nn.Module.__basicsize__ and not hasattr(kind, "__del__")


def _is_called_otherwise(module: nn.Module) -> bool:
    """Whether to call the module is something else than to call the ``forward`` of its class."""
    kind = type(module)
    return (
        any(getattr(module, name) for name in _BESIDES)
        or any(getattr(kind, name) is not getattr(nn.Module, name) for name in ("__call__", "_call_impl"))
        or not vars(module).keys().isdisjoint(("forward", "_call_impl"))
    )


def all_are_hooked() -> bool:
    """Whether there are hooks now that every module has to call."""
    return bool(hooks._global_forward_hooks or hooks._global_forward_pre_hooks)  # noqa: SLF001


def in_one(module: Sequence[Call]) -> Call:
    """These calls, one after the other, as one."""
    return module[0] if len(module) == 1 else partial(_answered, module)


def _answered(module: Sequence[Call], rows: Tensor) -> Tensor:
    for call in module:
        rows = call(rows)
    return rows


def outputs(modules: Sequence[Call], rows: Tensor) -> list[Tensor]:
    """What each module answers to rows that it may write into: modules that do so share none.

    Nobody else may read the rows meanwhile: they are as they were once all have answered.
    """
    if rows.device.type == "cpu":
        answers, twin, content = [], rows.detach, rows.numpy().tobytes
        before = content()
        for module in modules:
            # A tensor of its own, whose shape it may change.
            answers.append(module(twin()))
            if content() != before:
                rows.copy_(torch.frombuffer(bytearray(before), dtype=rows.dtype).reshape(rows.shape))
                break
        else:
            return answers
    return [module(rows.clone()) for module in modules]
