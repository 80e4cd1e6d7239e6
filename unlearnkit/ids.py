"""Ids: one type per model, and the one byte string that stands for each id.

Raw ids are never kept. What is kept are keyed hashes of these bytes.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from unlearnkit.errors import DataError, UnknownRecordError

INT, STR, UUID, BYTES = "int", "str", "uuid", "bytes"

_ENCODE: dict[str, Callable[[Any], bytes]] = {
    INT: lambda value: b"i%d" % value,
    STR: lambda value: b"s" + value.encode("utf-8", "surrogatepass"),
    UUID: lambda value: b"u" + value.bytes,
    BYTES: lambda value: b"b" + value,
}


def as_list(ids: Any) -> list[Any]:
    """The ids as a list of Python values, from a scalar, a list, an array, a Series, an Index or a set.

    Examples
    --------
    >>> as_list(4711), as_list({"a"}), as_list(np.array([1, 2]))
    ([4711], ['a'], [1, 2])
    """
    if isinstance(ids, str | bytes | uuid.UUID) or not isinstance(ids, Iterable):
        return [ids]
    if isinstance(ids, np.ndarray | np.generic) or hasattr(ids, "to_numpy"):
        values = np.asarray(ids)
        if values.ndim == 0:
            return [values.item()]
        if values.ndim != 1:
            raise DataError(f"ids must be one-dimensional, got shape {values.shape}; nothing was changed.")
        # Python values of these would be plain floats and ints: what was rounded, or a date, could no longer be told.
        return list(values) if values.dtype.kind in "fmM" else list(values.tolist())
    return list(ids)


def encode_ids(ids: Any, n: int) -> tuple[list[bytes], str]:
    """The bytes and the common type of the ids of `n` records.

    Parameters
    ----------
    ids : array-like of shape (n,)
        int, str, UUID or bytes, all of one type.
    n : int
        The records that they belong to.

    Raises
    ------
    DataError
        If there are not n of them, one is None or NaN, or they are not of one such type.

    Examples
    --------
    >>> encode_ids(["a", "b"], 2)
    ([b'sa', b'sb'], 'str')
    """
    values = as_list(ids)
    if len(values) == n and isinstance(ids, np.ndarray) and ids.dtype.kind in "iu":
        return encode_as(values, INT), INT
    if len(values) != n:
        raise DataError(f"Got {len(values)} ids for {n} rows; nothing was changed. Give one id for each row.")
    missing = sum(1 for value in values if is_missing(value))
    if missing:
        raise DataError(
            f"{missing} of {n} ids are None or NaN; nothing was changed. A row that nobody can name cannot be "
            "forgotten: give each row an id, or leave ids out to address rows by their position."
        )
    kinds = {_kind(value) for value in values}
    if len(kinds) > 1 or None in kinds:
        names = ", ".join(sorted({type(value).__name__ for value in values}))
        raise DataError(f"ids must be all int, all str, all UUID or all bytes, got {names}; nothing was changed.")
    kind = kinds.pop() if kinds else INT
    assert kind is not None
    return encode_as(values, kind), kind


def encode_as(values: list[Any], kind: str) -> list[bytes]:
    """The bytes of values that are known to be of this kind."""
    if kind == INT:
        return [b"i%d" % int(value) for value in values]
    encode = _ENCODE[kind]
    return [encode(value) for value in values]


def coerce_request(ids: Any, kind: str) -> list[bytes]:
    """The bytes of requested ids, each converted to the model's type where nothing is lost, duplicates dropped.

    Raises
    ------
    UnknownRecordError
        If an id is missing or cannot be of that type. The message does not repeat the id.

    Examples
    --------
    >>> coerce_request(["4711", 4711], "int")
    [b'i4711']
    """
    values = as_list(ids)
    coerced = [_coerce(value, kind) for value in values]
    wrong = [type(value).__name__ for value, encoded in zip(values, coerced, strict=True) if encoded is None]
    if wrong:
        raise UnknownRecordError(
            f"{len(wrong)} of {len(values)} ids are not of the type of this model's ids, {kind} "
            f"(got {', '.join(sorted(set(wrong)))}); nothing was changed."
        )
    return list(dict.fromkeys(encoded for encoded in coerced if encoded is not None))


def _coerce(value: Any, kind: str) -> bytes | None:
    if is_missing(value) or isinstance(value, bool | np.bool_):
        return None
    own = _kind(value)
    if own == kind:
        return encode_as([value], kind)[0]
    try:
        converted = _convert(value, kind)
    except (ValueError, TypeError, AttributeError):
        return None
    return None if converted is None else _ENCODE[kind](converted)


def _convert(value: Any, kind: str) -> Any:
    """`value` as this kind if the way back leads to the same value, else None."""
    if kind == INT and isinstance(value, str):
        number = int(value)
        return number if str(number) == value.strip() else None
    if kind == STR and _kind(value) in (INT, UUID):
        return str(int(value)) if _kind(value) == INT else str(value)
    if kind == UUID and isinstance(value, str):
        return uuid.UUID(value)
    return None


def _kind(value: Any) -> str | None:
    if isinstance(value, bool | np.bool_):
        return None
    if isinstance(value, int | np.integer):
        return INT
    if isinstance(value, float | np.floating) and _is_exact_int(value):
        # A column of ints that once held a missing value comes as floats.
        return INT
    if isinstance(value, str):
        return STR
    if isinstance(value, uuid.UUID):
        return UUID
    return BYTES if isinstance(value, bytes) else None


def _is_exact_int(value: Any) -> bool:
    """Whether a float is a whole number that no other whole number was rounded to."""
    return abs(value) < 2 ** (np.finfo(type(value)).nmant + 1) and float(value).is_integer()


def is_missing(value: Any) -> bool:
    """Whether it is None, NaN or one of the missing values of pandas."""
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return True
    return type(value).__name__ in ("NAType", "NaTType")
