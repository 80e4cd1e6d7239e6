"""The weights of a stored state: a module is made of them only where one is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Layout: TypeAlias = tuple[tuple[str, torch.Size, torch.dtype], ...]
"""Names, shapes and dtypes of all tensors of a ``state_dict``."""


@dataclass(slots=True, weakref_slot=True, eq=False)
class Weights:
    """A module in eval mode, or the tensors that one can be made of; one of the two is None.

    Training goes on in a module of its own, so a state that is only trained on never needs this one.
    """

    module: nn.Module | None
    tensors: Mapping[str, Any] | None = None

    def state_dict(self) -> Mapping[str, Any]:
        """The tensors by name; only to be read."""
        tensors = self.tensors
        if tensors is not None:
            return tensors
        assert self.module is not None
        return self.module.state_dict()

    def made(self, make: Callable[[Mapping[str, Any]], nn.Module]) -> nn.Module:
        """The module, made now if it is not there yet; threads that meet here make equal ones."""
        tensors = self.tensors
        if tensors is not None:
            self.module = make(tensors)
            self.tensors = None
        assert self.module is not None
        return self.module

    def keep(self) -> None:
        """Take copies of the tensors, before a module that they are lent by trains on."""
        tensors = self.tensors
        if tensors is not None:
            self.tensors = copied(tensors)


def copied(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """A ``state_dict`` for whoever may write to it."""
    return {name: value.clone() if isinstance(value, Tensor) else value for name, value in tensors.items()}


def layout(tensors: Mapping[str, Any]) -> Layout | None:
    """The layout of a ``state_dict``; None if it holds more than tensors.

    Examples
    --------
    >>> layout({"bias": torch.zeros(2)})
    (('bias', torch.Size([2]), torch.float32),)
    """
    if not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        return None
    return tuple(sorted((name, tensor.shape, tensor.dtype) for name, tensor in tensors.items()))
