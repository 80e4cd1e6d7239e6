"""Ids: one type per model, and the one byte string that stands for each id.

Raw ids are never kept. What is kept are keyed hashes of these bytes.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearnkit.errors import DataError, UnknownRecordError
from unlearnkit.typing import AnyArray, Selection
from unlearnkit.words import count

INT, STR, UUID, BYTES = "int", "str", "uuid", "bytes"

_ENCODE: dict[str, Callable[[Any], bytes]] = {
    INT: lambda value: b"i%d" % value,
    STR: lambda value: b"s" + value.encode("utf-8", "surrogatepass"),
    UUID: lambda value: b"u" + value.bytes,
    BYTES: lambda value: b"b" + value,
}

_NATIVE: dict[type, str] = {int: INT, str: STR, uuid.UUID: UUID, bytes: BYTES}
_CHUNK = 1 << 16


def as_list(ids: Any) -> list[Any]:
    """The ids as a list of Python values, from a scalar, a list, an array, a Series, an Index or a set.

    Examples
    --------
    >>> as_list(4711), as_list({"a"}), as_list(np.array([1, 2]))
    ([4711], ['a'], [1, 2])
    """
    values = _sequence(ids)
    return _some(values, slice(None)) if isinstance(values, np.ndarray) else list(values)


def _sequence(ids: Any) -> Sequence[Any] | AnyArray:
    """The ids one after the other, in the array that they are in or else in a sequence."""
    if isinstance(ids, str | bytes | uuid.UUID) or not isinstance(ids, Iterable):
        return [ids]
    if not isinstance(ids, np.ndarray | np.generic) and not hasattr(ids, "to_numpy"):
        return ids if isinstance(ids, list | tuple | range) else list(ids)
    values = np.asarray(ids)
    if values.ndim > 1:
        raise DataError(f"ids must be one-dimensional, got shape {values.shape}; nothing was changed.")
    return values if values.ndim else [values.item()]


def _some(values: Sequence[Any] | AnyArray, rows: Selection) -> list[Any]:
    """Those of these rows as a list of Python values."""
    if not isinstance(values, np.ndarray):
        return list(values[rows]) if isinstance(rows, slice) else [values[i] for i in rows.tolist()]
    part = values[rows]
    # Python values of these would be plain floats and ints: what was rounded, or a date, could no longer be told.
    return list(part) if part.dtype.kind in "fmM" else list(part.tolist())


@dataclass(frozen=True, slots=True)
class IdColumn:
    """The ids of some rows, all of one type, which become bytes when they are asked for.

    Attributes
    ----------
    values : sequence or ndarray of shape (n,)
        As they were given.
    kind : str
    """

    values: Sequence[Any] | AnyArray
    kind: str

    def __len__(self) -> int:
        return len(self.values)

    def encoded(self, rows: Selection) -> list[bytes]:
        """The bytes of the ids of these rows.

        Examples
        --------
        >>> IdColumn([7, 8, 9], "int").encoded(np.array([2, 0]))
        [b'i9', b'i7']
        """
        return encode_as(_some(self.values, rows), self.kind)


def checked_ids(ids: Any, n: int) -> IdColumn:
    """The ids of `n` records, looked through once; as bytes all of them would take more memory than most records.

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
    """
    values = _sequence(ids)
    if len(values) != n:
        raise DataError(f"Got {len(values)} ids for {n} rows; nothing was changed. Give one id for each row.")
    if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
        return IdColumn(values, INT)
    missing, kinds, names = 0, set[str | None](), set[str]()
    for start in range(0, n, _CHUNK):
        part = _some(values, slice(start, start + _CHUNK))
        types = set(map(type, part))
        names |= {found.__name__ for found in types}
        if types <= _NATIVE.keys():
            kinds |= {_NATIVE[found] for found in types}
        else:
            missing += sum(map(is_missing, part))
            kinds |= {_kind(value) for value in part}
    if missing:
        raise DataError(
            f"{missing} of {n} ids are None or NaN; nothing was changed. A row that nobody can name cannot be "
            "forgotten: give each row an id, or leave ids out to address rows by their position."
        )
    if len(kinds) > 1 or None in kinds:
        raise DataError(
            f"ids must be all int, all str, all UUID or all bytes, got {', '.join(sorted(names))}; nothing was changed."
        )
    kind = kinds.pop() if kinds else INT
    assert kind is not None
    return IdColumn(values, kind)


def encode_ids(ids: Any, n: int) -> tuple[list[bytes], str]:
    """The bytes and the common type of the ids of `n` records; see `checked_ids`.

    Examples
    --------
    >>> encode_ids(["a", "b"], 2)
    ([b'sa', b'sb'], 'str')
    """
    column = checked_ids(ids, n)
    return column.encoded(slice(None)), column.kind


def encode_as(values: list[Any], kind: str) -> list[bytes]:
    """The bytes of values that are known to be of this kind."""
    if kind == INT:
        return [b"i%d" % int(value) for value in values]
    if kind == STR:
        with suppress(UnicodeEncodeError):
            # Twice as fast where no text has half a character of UTF-16 in it, and the same bytes.
            return [b"s" + value.encode() for value in values]
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
    if {_NATIVE.get(found) for found in map(type, values)} == {kind}:
        return list(dict.fromkeys(encode_as(values, kind)))
    coerced = [_coerce(value, kind) for value in values]
    wrong = [type(value).__name__ for value, encoded in zip(values, coerced, strict=True) if encoded is None]
    if wrong:
        raise UnknownRecordError(
            f"{count(len(wrong), 'id')} of {len(values)} given cannot be of the type of this model's ids, {kind} "
            f"(got {', '.join(sorted(set(wrong)))}); nothing was changed."
        )
    return list(dict.fromkeys(encoded for encoded in coerced if encoded is not None))


def encode_like(ids: Any, kind: str) -> list[bytes | None]:
    """The bytes of the ids of some rows, each converted to this type where nothing is lost; None where it cannot be.

    Examples
    --------
    >>> encode_like(["4711", 7, "x"], "int")
    [b'i4711', b'i7', None]
    """
    values = as_list(ids)
    if {_NATIVE.get(found) for found in map(type, values)} == {kind}:
        return list(encode_as(values, kind))
    return [_coerce(value, kind) for value in values]


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
