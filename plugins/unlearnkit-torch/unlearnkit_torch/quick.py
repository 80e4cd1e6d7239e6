"""Modules that are asked for one row at a time: what they look up at every call is put where Python looks first.

``torch.nn.Module`` keeps parameters and children in dictionaries of its own, and finds them by a method in Python. In a
small network that takes as long as the layers do.
"""

from __future__ import annotations

from typing import Any

from torch import nn

_KEPT = ("_parameters", "_modules")


class Followed(dict[str, Any]):
    """Parameters or children of a module, which are its attributes too until one of them is replaced or taken out.

    So code that swaps them here, as ``torch.func.functional_call`` does, finds what it has put in.

    Parameters
    ----------
    owner : Module
    members : dict
        By their names.
    """

    def __init__(self, owner: nn.Module, members: dict[str, Any]) -> None:
        super().__init__(members)
        self.owner = owner
        # What the class has of that name comes first, as it did before.
        owner.__dict__.update({name: value for name, value in members.items() if not hasattr(type(owner), name)})

    def __reduce__(self) -> tuple[Any, ...]:
        # By default the members would be put in before there is an owner.
        return Followed, (self.owner, dict(self))

    def __setitem__(self, name: str, value: Any) -> None:
        """Put one in, to be found here alone."""
        super().__setitem__(name, value)
        self.owner.__dict__.pop(name, None)

    def __delitem__(self, name: str) -> None:
        """Take one out."""
        super().__delitem__(name)
        self.owner.__dict__.pop(name, None)

    def pop(self, name: str, *default: Any) -> Any:
        """Take one out and give it."""
        self.owner.__dict__.pop(name, None)
        return super().pop(name, *default)


def quicken(module: nn.Module) -> nn.Module:
    """The same module, which looks up its parameters and children in less time and does all else as before.

    Examples
    --------
    >>> import torch
    >>> layer = quicken(torch.nn.Linear(2, 1))
    >>> "weight" in vars(layer), layer.weight is layer.get_parameter("weight")
    (True, True)
    """
    for part in module.modules():
        # Where lookups have another meaning they stay as they are.
        if type(part).__getattr__ is nn.Module.__getattr__ and type(part).__getattribute__ is object.__getattribute__:
            for kept in _KEPT:
                members = part.__dict__[kept]
                if type(members) is dict:
                    part.__dict__[kept] = Followed(part, members)
    return module
