"""Safe byte forms for the parts of a state: JSON and npy, nothing that can execute."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import numpy as np

from unlearnkit.errors import StateError
from unlearnkit.typing import AnyArray


def pack_json(value: Any) -> bytes:
    """`value` as canonical JSON: equal values give equal bytes.

    Examples
    --------
    >>> pack_json({"b": 1, "a": [0.1, None]})
    b'{"a":[0.1,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def unpack_json(data: bytes) -> Any:
    """The value behind `pack_json`.

    Raises
    ------
    StateError
        If the bytes are not JSON.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        msg = "A stored part is not JSON; the model was left as it is. Rebuild the state from its records."
        raise StateError(msg) from error


def pack_array(array: AnyArray) -> bytes:
    """`array` as npy, C-contiguous and without pickle.

    Raises
    ------
    StateError
        If the array holds Python objects.
    """
    if array.dtype.hasobject:
        msg = f"An array of dtype {array.dtype} cannot be stored without pickle; nothing was stored."
        raise StateError(msg)
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)
    return buffer.getvalue()


def unpack_array(data: bytes) -> AnyArray:
    """The array behind `pack_array`.

    Raises
    ------
    StateError
        If the bytes are not an npy file, hold Python objects, or are not as many as their header says.
    """
    try:
        return view_array(data).copy()
    except BrokenArrayError as error:
        raise StateError(
            f"A stored part is not a plain array: {error}; the model was left as it is. Rebuild the state from its "
            "records."
        ) from error


class BrokenArrayError(Exception):
    """Says what is wrong with bytes that are no npy file; `unpack_array` and others put it in their own words."""


def view_array(data: bytes, dtype: np.dtype[Any] | None = None) -> AnyArray:
    """A view of the bytes of an npy file, which has to be as long as its header says, and of this dtype if given.

    No number in the header decides how much memory is taken.

    Raises
    ------
    BrokenArrayError
        If it is not.
    """
    shape, found, start = _array_header(data)
    if found.hasobject or not found.itemsize or (dtype is not None and found != dtype):
        raise BrokenArrayError(f"an array has the dtype {found}" + ("" if dtype is None else f", not {dtype}"))
    # A truth value passes for a number in the header.
    sizes_fit = all(type(size) is int and 0 <= size <= len(data) for size in shape)
    if not sizes_fit or math.prod(shape) * found.itemsize != len(data) - start:
        raise BrokenArrayError(f"an array file of shape {shape} has {len(data) - start} bytes of values")
    values: AnyArray = np.frombuffer(data, found, math.prod(shape), start).reshape(shape)
    if found.kind == "b" and (values.view(np.uint8) > 1).any():
        raise BrokenArrayError("a truth value is neither 0 nor 1")
    return values


def _array_header(data: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype and where the values begin."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        shape, fortran, found = np.lib.format.read_array_header_1_0(stream)
    except Exception as error:
        # All of it: numpy lets through what ast, tokenize and struct raise.
        raise BrokenArrayError("it is not an array file") from error
    if version != (1, 0) or fortran:
        raise BrokenArrayError("it is an array file of a version or order that is not written")
    return shape, found, stream.tell()
