"""Functions and classes of the wrapped model, under names that mean nothing outside it.

A stored state refers to them by such names as ``log1p#0``: what they are called, and their place in the model. They are
looked up in the model that the learner was made from, never imported: code comes from the user, not from the bytes.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from unlearnkit_sklearn.params import is_estimator

_codes: ContextVar[Mapping[str, Any] | None] = ContextVar("codes", default=None)
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, type)


def __getattr__(name: str) -> Any:
    codes = _codes.get()
    if codes is None or name not in codes:
        raise AttributeError(f"No user code named {name!r} belongs to the model that is being read.")
    return codes[name]


@contextmanager
def known(codes: Mapping[str, Any]) -> Iterator[None]:
    """Let the names of `codes` be found while a state is read."""
    token = _codes.set(codes)
    try:
        yield
    finally:
        _codes.reset(token)


def codes_of(model: Any) -> dict[str, Any]:
    """Every function and class that the parameters of `model` hold, and the classes of the objects among them.

    Examples
    --------
    >>> from sklearn.preprocessing import FunctionTransformer
    >>> abs in codes_of(FunctionTransformer(abs)).values()
    True
    """
    found: dict[int, Any] = {}
    for code in _walk(model, set()):
        found.setdefault(id(code), code)
    return {f"{code.__name__}#{i}": code for i, code in enumerate(found.values())}


def _walk(value: Any, seen: set[int]) -> Iterator[Any]:
    if isinstance(value, _PLAIN) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, _FUNCTIONS) or _is_function(value):
        yield value
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            yield from _walk(value[key], seen)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _walk(item, seen)
    else:
        yield from _walk_object(value, seen)


def _is_function(value: Any) -> bool:
    """Ufuncs and the like: callables with a name of their own, of no Python class."""
    return callable(value) and hasattr(value, "__name__") and not is_estimator(value)


def _walk_object(value: Any, seen: set[int]) -> Iterator[Any]:
    if type(value).__module__ not in {"builtins", "numpy"}:
        yield type(value)
    if is_estimator(value):
        inside = value.get_params(deep=False)
    else:
        inside = getattr(value, "__dict__", None) or _partial(value)
    for name in sorted(inside):
        yield from _walk(inside[name], seen)


def _partial(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in ("func", "args", "keywords") if hasattr(value, name)}
