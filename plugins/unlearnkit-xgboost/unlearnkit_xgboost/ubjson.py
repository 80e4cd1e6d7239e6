"""The subset of Universal Binary JSON that XGBoost writes, read with bounds and written canonically.

XGBoost's own reader believes the sizes that it finds. This one allocates nothing that the bytes do not already
hold, so it stands between stored bytes and the C++ parser, and lets a model be taken apart and put together.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearnkit.errors import StateError
from unlearnkit.typing import AnyArray

MAX_DEPTH = 32
_NUMBERS = {k: struct.Struct(">" + c) for k, c in zip("iUIlLdD", "bBhiqfd", strict=True)}
_DTYPES = {"i": "i1", "U": "u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
_END, _LONG = ord("}"), ord("L")
_CONSTANTS = {"Z": None, "T": True, "F": False}
# XGBoost gives a number that just fits one byte two, and so on: with its limits, its bytes come back as they were.
_INTEGERS = (("i", (1 << 7) - 1), ("I", (1 << 15) - 1), ("l", (1 << 31) - 1), ("L", 1 << 63))


@dataclass(frozen=True, slots=True)
class Packed:
    """An array of numbers as its bytes, big-endian."""

    kind: str
    data: bytes

    def __len__(self) -> int:
        return len(self.data) // _NUMBERS[self.kind].size

    def numbers(self) -> AnyArray:
        """The numbers, as a view."""
        return np.frombuffer(self.data, _DTYPES[self.kind])


@dataclass(frozen=True, slots=True)
class Single:
    """A float of four bytes, kept apart so that it is written as it was read."""

    data: bytes


def nonsense(what: str) -> StateError:
    """The error for bytes that are no XGBoost model."""
    return StateError(
        f"A stored part is not an XGBoost model ({what}); nothing in it was used. Rebuild the state from its records."
    )


def read(data: bytes) -> Any:
    """The document in `data`: dicts, lists, str, int, float, None, bool, `Packed` and `Single`.

    Raises
    ------
    StateError
        If the bytes are not one such document, or claim to hold more than they do.
    """
    reader = _Reader(data)
    try:
        document = reader.value(0)
    except (IndexError, struct.error, UnicodeDecodeError, KeyError) as error:
        raise nonsense("the bytes end early or mean nothing") from error
    if reader.at != len(data):
        raise nonsense("bytes are left over")
    return document


def write(document: Any) -> bytes:
    """The canonical bytes of a document that `read` gives: equal documents give equal bytes."""
    out: list[bytes] = []
    _write(document, out)
    return b"".join(out)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise nonsense("too deep")
        kind = self.marker()
        if kind == "[":
            return self.array(depth)
        if kind == "{":
            return self.object(depth)
        if kind == "S":
            return self.text()
        if kind == "d":
            return Single(self.take(4))
        return _CONSTANTS[kind] if kind in _CONSTANTS else self.number(kind)

    def marker(self) -> str:
        self.at += 1
        return chr(self.data[self.at - 1])

    def take(self, n: int) -> bytes:
        if n > len(self.data) - self.at:
            raise nonsense("a size is larger than the bytes")
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, kind: str) -> Any:
        code = _NUMBERS[kind]
        self.at += code.size
        return code.unpack_from(self.data, self.at - code.size)[0]

    def length(self) -> int:
        n: int
        # XGBoost writes every size so: the way around saves a third of the time.
        if self.data[self.at] == _LONG:
            n = _NUMBERS["L"].unpack_from(self.data, self.at + 1)[0]
            self.at += 9
        else:
            n = self.number(self.marker())
        if type(n) is not int or n < 0:
            raise nonsense("a size is no count")
        return n

    def text(self) -> str:
        return self.take(self.length()).decode()

    def object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self.data[self.at] != _END:
            key = self.text()
            if key in found:
                raise nonsense("a key appears twice")
            found[key] = self.value(depth + 1)
        self.at += 1
        return found

    def array(self, depth: int) -> Packed | list[Any]:
        kind = ""
        first = self.marker()
        if first == "$":
            kind, first = self.marker(), self.marker()
        if first != "#":
            raise nonsense("an array has no size")
        n = self.length()
        if kind:
            return Packed(kind, self.take(n * _NUMBERS[kind].size))
        if n > len(self.data) - self.at:
            raise nonsense("a size is larger than the bytes")
        return [self.value(depth + 1) for _ in range(n)]


def _write(value: Any, out: list[bytes]) -> None:
    kind = type(value)
    if kind is dict:
        out.append(b"{")
        for key, item in value.items():
            out.append(_text(key))
            _write(item, out)
        out.append(b"}")
    elif kind is list:
        out.append(b"[#" + _count(len(value)))
        for item in value:
            _write(item, out)
    elif kind is Packed:
        out.append(b"[$" + value.kind.encode() + b"#" + _count(len(value)))
        out.append(value.data)
    else:
        out.append(_scalar(value))


def _count(n: int) -> bytes:
    return b"L" + _NUMBERS["L"].pack(n)


def _text(text: str) -> bytes:
    data = text.encode()
    return _count(len(data)) + data


def _scalar(value: str | float | Single | None) -> bytes:
    match value:
        case None:
            return b"Z"
        case bool():
            return b"T" if value else b"F"
        case str():
            return b"S" + _text(value)
        case Single(data):
            return b"d" + data
        case int():
            kind = next(kind for kind, limit in _INTEGERS if -limit <= value < limit)
            return kind.encode() + _NUMBERS[kind].pack(value)
        case _:
            return b"D" + _NUMBERS["D"].pack(value)
