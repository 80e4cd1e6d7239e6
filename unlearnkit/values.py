"""The plain values of a stored model that JSON lacks: bytes, numbers that are none, arrays, and what numpy names."""

from __future__ import annotations

import base64
import math
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from unlearnkit.errors import StateError
from unlearnkit.typing import AnyArray

MAX_VALUES = 1_000_000
"""The most values that the description of a model may have."""

FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
"""The floats that JSON has no text for."""

# Of fixed layout, without padding, without objects.
_DTYPE = re.compile(r"[<>|=](b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,9}|[mM]8(\[\w{1,20}\])?)")
_WHAT_NOW = "no code was run. Pass load(path, estimator=...), or restore the store from a backup."


def malformed(why: str, cause: BaseException | None = None) -> NoReturn:
    """Raise `StateError`."""
    raise StateError(f"The stored description of the model is damaged: {why}; {_WHAT_NOW}") from cause


def a(kind: type, value: Any) -> Any:
    """`value`, if it is of this very type."""
    if type(value) is not kind:
        malformed(f"a {type(value).__name__} stands for a {kind.__name__}")
    return value


def text_of(data: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(data).decode("ascii")


def data_of(text: Any) -> bytes:
    """The bytes behind a text."""
    return base64.b64decode(a(str, text), validate=True)


def dtype_text(dtype: np.dtype[Any]) -> str | None:
    """The text of a dtype, None if it is not a plain one."""
    plain = dtype.str == "|O" or (_DTYPE.fullmatch(dtype.str) and dtype.itemsize)
    return dtype.str if plain else None


def dtype_of(text: Any) -> np.dtype[Any]:
    """The dtype behind a text."""
    if text != "|O" and not _DTYPE.fullmatch(a(str, text)):
        malformed(f"there is no dtype {text[:40]!r}")
    dtype: np.dtype[Any] = np.dtype(text)
    return dtype


def array_of(content: Any, items: Callable[[Any], list[Any]]) -> AnyArray:
    """The array of a dtype and shape, with its bytes or, if it holds objects, with what `items` makes of its items."""
    shape, dtype = tuple(a(int, n) for n in a(list, content["shape"])), dtype_of(content["dtype"])
    # In Python's numbers, which do not overflow, and before memory is taken.
    size = math.prod(shape)
    if min(shape, default=0) < 0 or (not size and math.prod(filter(None, shape)) > MAX_VALUES):
        malformed("an array has no possible shape")
    if dtype.hasobject:
        return _objects(items(content["items"]), size).reshape(shape)
    data = data_of(content["bytes"])
    if size * dtype.itemsize != len(data):
        malformed("an array is not of its shape")
    if dtype.kind == "U" and np.frombuffer(data, f"{dtype.str[0]}u4").max(initial=0) > sys.maxunicode:
        # numpy would make strings of them that Python cannot hold.
        malformed("an array has characters that are none")
    return np.frombuffer(data, dtype).reshape(shape).copy()


def _objects(items: list[Any], size: int) -> AnyArray:
    if size != len(items):
        malformed("an array is not of its shape")
    array = np.empty(size, dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array


def ufunc_of(name: Any) -> np.ufunc:
    """The ufunc that numpy has under this name."""
    # Not by getattr: asked for other names, numpy imports modules.
    found = vars(np).get(a(str, name))
    if not isinstance(found, np.ufunc):
        malformed(f"there is no ufunc {name[:40]!r}")
    return found


def scalar_type_of(name: Any) -> type[np.generic]:
    """The scalar type that numpy has under this name."""
    found = vars(np).get(a(str, name))
    if not isinstance(found, type) or not issubclass(found, np.generic):
        malformed(f"there is no scalar type {name[:40]!r}")
    return found
