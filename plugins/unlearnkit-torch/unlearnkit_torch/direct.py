"""Modules of torch's own layers, called without what ``torch.nn.Module`` does in Python around each of them.

Of one row that takes longer than the layers themselves. Code of the user's own is called as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import module as hooks

Call: TypeAlias = Callable[[Tensor], Tensor]

_TORCH = "torch.nn.modules."


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
    if not type(module).__module__.startswith(_TORCH) or _is_hooked(module):
        return [module]
    # Not what is derived from these: it may have another forward.
    if isinstance(module, nn.Sequential) and type(module) is nn.Sequential:
        return [call for part in module for call in calls(part)]
    if isinstance(module, nn.Linear) and type(module) is nn.Linear:
        return [partial(functional.linear, weight=module.weight, bias=module.bias)]
    return [module.forward]


def _is_hooked(module: nn.Module) -> bool:
    """Whether something else is to be called than the layer, or something besides it."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))  # noqa: SLF001


def all_are_hooked() -> bool:
    """Whether there are hooks now that every module has to call."""
    return bool(hooks._global_forward_hooks or hooks._global_forward_pre_hooks)  # noqa: SLF001


def outputs(modules: Sequence[Sequence[Call]], rows: Tensor) -> list[Tensor]:
    """What each module, given by its `calls`, answers to rows that it may write into: those that do not share them."""
    if rows.device.type == "cpu":
        shared = rows.clone()
        content = shared.numpy()
        before, answers = content.tobytes(), []
        for module in modules:
            # A tensor of its own, whose shape it may change.
            answers.append(_answered(module, shared.detach()))
            if content.tobytes() != before:
                break
        else:
            return answers
    return [_answered(module, rows.clone()) for module in modules]


def _answered(module: Sequence[Call], rows: Tensor) -> Tensor:
    for call in module:
        rows = call(rows)
    return rows
