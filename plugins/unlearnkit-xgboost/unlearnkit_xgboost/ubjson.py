"""The subset of Universal Binary JSON that XGBoost writes, read with bounds and written canonically.

XGBoost's own reader believes the sizes that it finds. This one allocates nothing that the bytes do not already
hold, so it stands between stored bytes and the C++ parser, and lets a model be taken apart and put together.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from unlearnkit.errors import StateError
from unlearnkit.typing import AnyArray

MAX_DEPTH = 32
_NUMBERS = {k: struct.Struct(">" + c) for k, c in zip("iUIlLdD", "bBhiqfd", strict=True)}
_SIZES = {kind: code.size for kind, code in _NUMBERS.items()}
_SIZE = _NUMBERS["L"].unpack_from
_DTYPES = {"i": "i1", "U": "u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
_END, _LONG, _TYPED, _SIZED = map(ord, "}L$#")
_CONSTANTS = {"Z": None, "T": True, "F": False}
# XGBoost gives a number that just fits one byte two, and so on: with its limits, its bytes come back as they were.
_INTEGERS = (("i", (1 << 7) - 1), ("I", (1 << 15) - 1), ("l", (1 << 31) - 1), ("L", 1 << 63))


# Not frozen: a model has some thousands, and they would take three times as long to make.
@dataclass(slots=True)
class Packed:
    """An array of numbers as its bytes, big-endian."""

    kind: str
    data: bytes

    def __len__(self) -> int:
        return len(self.data) // _SIZES[self.kind]

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
        end = self.at + n
        if end > len(self.data):
            raise nonsense("a size is larger than the bytes")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def number(self, kind: str) -> Any:
        code = _NUMBERS[kind]
        self.at += code.size
        return code.unpack_from(self.data, self.at - code.size)[0]

    def length(self) -> int:
        # XGBoost writes every size so. In one way only: what a key looks like can then be searched for.
        if self.data[self.at] != _LONG:
            raise nonsense("a size of another kind")
        n: int = _SIZE(self.data, self.at + 1)[0]
        self.at += 9
        if n < 0:
            raise nonsense("a size is no count")
        return n

    def text(self) -> str:
        return self.sized(1).decode()

    def sized(self, width: int) -> bytes:
        """As many bytes as a count that stands in front of them says, times `width`."""
        n = self.length() * width
        start = self.at
        self.at = end = start + n
        if end > len(self.data):
            raise nonsense("a size is larger than the bytes")
        return self.data[start:end]

    def object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        data = self.data
        while data[self.at] != _END:
            key = self.text()
            if key in found:
                raise nonsense("a key appears twice")
            # Most of what there is are arrays of numbers.
            packed = depth < MAX_DEPTH and data.startswith(b"[$", self.at)
            found[key] = self.packed() if packed else self.value(depth + 1)
        self.at += 1
        return found

    def array(self, depth: int) -> Packed | list[Any]:
        if self.data[self.at] == _TYPED:
            self.at -= 1
            return self.packed()
        if self.marker() != "#":
            raise nonsense("an array has no size")
        n = self.length()
        if n > len(self.data) - self.at:
            raise nonsense("a size is larger than the bytes")
        return [self.value(depth + 1) for _ in range(n)]

    def packed(self) -> Packed:
        kind, size = chr(self.data[self.at + 2]), self.data[self.at + 3]
        if size != _SIZED:
            raise nonsense("an array has no size")
        self.at += 4
        return Packed(kind, self.sized(_SIZES[kind]))


def _write(value: Any, out: list[bytes]) -> None:
    kind = type(value)
    if kind is Packed:
        out += (_typed(value.kind), _count(len(value)), value.data)
    elif kind is dict:
        out.append(b"{")
        for key, item in value.items():
            out.append(key_bytes(key))
            _write(item, out)
        out.append(b"}")
    elif kind is list:
        out += (b"[#", _count(len(value)))
        for item in value:
            _write(item, out)
    else:
        out.append(_scalar(value))


def _count(n: int) -> bytes:
    return b"L" + _NUMBERS["L"].pack(n)


def _text(text: str) -> bytes:
    data = text.encode()
    return _count(len(data)) + data


@lru_cache(maxsize=256)
def key_bytes(text: str) -> bytes:
    """As `_text`: there are few keys, each in every tree."""
    return _text(text)


@lru_cache
def _typed(kind: str) -> bytes:
    return f"[${kind}#".encode()


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
