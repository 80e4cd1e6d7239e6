"""Safe byte forms for the parts of a state: JSON and npy, nothing that can execute."""

from __future__ import annotations

import io
import json
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
        If the bytes are not an npy file, or hold Python objects.
    """
    try:
        array: Any = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:
        # All of it: numpy lets through what zipfile, ast and tokenize raise.
        msg = "A stored part is not a plain array; the model was left as it is. Rebuild the state from its records."
        raise StateError(msg) from error
    if not isinstance(array, np.ndarray):
        msg = "A stored part is an archive where an array was expected; the model was left as it is."
        raise StateError(msg)
    plain: AnyArray = array
    return plain
