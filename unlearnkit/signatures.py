"""Signatures: a method takes `sample_weight` only where the wrapped model does.

scikit-learn's tools ask the signature of ``fit`` whether a model takes weights, and do without them where it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from types import MethodType
from typing import Any, Protocol, TypeVar, cast

Method = TypeVar("Method", bound=Callable[..., Any])
WEIGHT = "sample_weight"


class Decorator(Protocol):
    """What gives back a method of the type that it is given."""

    def __call__(self, method: Method, /) -> Method:
        """Give it back."""
        ...


def weights_if(takes: Callable[[Any], bool]) -> Decorator:
    """Leave `sample_weight` out of the signature of a method of those objects of which `takes` says no.

    What is passed all the same reaches the method, which knows best how to refuse it.

    Examples
    --------
    >>> class Model:
    ...     @weights_if(lambda model: False)
    ...     def fit(self, X, sample_weight=None):
    ...         return self
    >>> list(signature(Model().fit).parameters), list(signature(Model.fit).parameters)
    (['X'], ['self', 'X', 'sample_weight'])
    """

    def narrow(method: Method) -> Method:
        return cast("Method", _Narrowed(method, takes))

    return narrow


class _Narrowed:
    """A method that looks for each object as it is for it."""

    def __init__(self, method: Callable[..., Any], takes: Callable[[Any], bool]) -> None:
        self.method = method
        self.takes = takes
        self.__doc__ = method.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> Callable[..., Any]:
        if instance is None:
            # Metadata routing reads the signature of the class.
            return self.method
        bound = MethodType(self.method, instance)
        return bound if self.takes(instance) else _without_weight(bound)


def _without_weight(bound: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(bound)
    def narrowed(*args: Any, **options: Any) -> Any:
        return bound(*args, **options)

    shown = signature(bound)
    kept = [parameter for name, parameter in shown.parameters.items() if name != WEIGHT]
    narrowed.__signature__ = shown.replace(parameters=kept)  # type: ignore[attr-defined]
    return narrowed
