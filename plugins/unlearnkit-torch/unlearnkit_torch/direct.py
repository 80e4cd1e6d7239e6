"""Modules called without what ``torch.nn.Module`` does in Python around each of torch's own layers.

Of one row that takes longer than the layers themselves. A module of the user's own calls its layers as ever.
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
    return [module.forward]


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
