"""Modules called without what ``torch.nn.Module`` does in Python around each of them.

Of one row that takes as long as what the layers compute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, TypeAlias
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import module as hooks

from unlearnkit_torch.reuse import is_closed

Call: TypeAlias = Callable[[Tensor], Tensor]

# What every module has besides its tensors, hooks for one.
_SHARED = vars(nn.Module()).keys() - {"_parameters", "_buffers"}
_ACCESS = ("__getattribute__", "__getattr__", "__setattr__", "__delattr__", "__new__", "__eq__", "__hash__")
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
    return _calls(module, _lights(module))


def _calls(module: nn.Module, lights: Mapping[nn.Module, nn.Module]) -> list[Call]:
    if _is_called_otherwise(module):
        return [module]
    # Not what is derived from these: it may have another forward.
    if isinstance(module, nn.Sequential) and type(module) is nn.Sequential:
        return [call for part in module for call in _calls(part, lights)]
    if isinstance(module, nn.Linear) and type(module) is nn.Linear:
        return [partial(functional.linear, weight=module.weight, bias=module.bias)]
    return [lights.get(module, module).forward]


def _lights(module: nn.Module) -> dict[nn.Module, nn.Module]:
    """The parts of a module once more, over the same parameters, by those that they stand for, which stay as they are.

    A light part calls others by their ``forward``. There are none if a part could be seen to know that it is not the
    module's own; what is not seen, `Together` checks.
    """
    parts = list(module.modules())
    if any(_is_called_otherwise(part) or not _is_copied_plainly(type(part)) for part in parts) or not is_closed(module):
        return {}
    lights: dict[nn.Module, nn.Module] = {part: object.__new__(type(part)) for part in parts}
    known: dict[int, Any] = {id(parameter): parameter for parameter in module.parameters()}
    for part, light in lights.items():
        own = vars(part)
        # What a forward notes, for one in a buffer, must be all of it the light part's own, or all of it the module's.
        held = deepcopy({name: value for name, value in own.items() if name not in _SHARED}, known)
        children = {name: None if child is None else lights[child] for name, child in own["_modules"].items()}
        # In the place of what torch.compile makes: ``copy`` and pickle leave it behind.
        vars(light).update(own | held | {"_modules": children, "_compiled_call_impl": _forward_of(light, own)})
    return lights


def _forward_of(light: nn.Module, own: Mapping[str, Any]) -> Callable[..., Any]:
    """What calls the ``forward`` of a part of something, without keeping it alive, unless it has hooks by then."""
    part, before, after = ref(light), own["_forward_pre_hooks"], own["_forward_hooks"]

    def call(*args: Any, **kwargs: Any) -> Any:
        here: Any = part()
        if before or after or hooks._global_forward_hooks or hooks._global_forward_pre_hooks:  # noqa: SLF001
            return here._call_impl(*args, **kwargs)  # noqa: SLF001
        return here.forward(*args, **kwargs)

    return call


def _is_copied_plainly(kind: type[nn.Module]) -> bool:
    """Whether a module of this class is what its attributes say, and to have two of them does no harm."""
    plain = all(getattr(kind, name) is getattr(nn.Module, name) for name in _ACCESS)
    # Replicas for other devices would call what stands for the first.
    ends = hasattr(kind, "__del__") or issubclass(kind, nn.DataParallel)
    return plain and kind.__basicsize__ == nn.Module.__basicsize__ and not ends


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


class Together:
    """Several modules, and what each answers to the same rows.

    Parameters
    ----------
    modules : sequence of Module
        In eval mode.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._modules = modules
        self._direct: Sequence[Call] = [in_one(calls(module)) for module in modules]
        self._is_checked = False

    def __call__(self, rows: Tensor) -> list[Tensor]:
        """What each answers to rows that it may write into: they are as they were once all have answered."""
        if all_are_hooked():
            return outputs(self._modules, rows)
        return outputs(self._direct, rows) if self._is_checked else self._checked(rows)

    def _checked(self, rows: Tensor) -> list[Tensor]:
        """The first time both ways, as the user's own code may tell one from the other in ways not thought of."""
        answers = outputs(self._modules, rows)
        kept = [answer.clone() for answer in answers]
        try:
            alike = all(map(_same_bits, kept, outputs(self._direct, rows.clone())))
        except Exception:  # noqa: BLE001 - the modules themselves have answered
            alike = False
        if not alike:
            # For good, whatever another thread sees that may be here, too.
            self._direct = self._modules
        self._is_checked = True
        return kept


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and bool(torch.equal(_bits(one), _bits(other)))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format).view(torch.uint8)


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
