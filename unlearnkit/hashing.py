"""Keyed hashes of ids and rows, many at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from unlearnkit.typing import ByteArray

KEY_BYTES = 32


def hash_items(items: Iterable[bytes | memoryview], key: bytes, tag: bytes, size: int) -> ByteArray:
    """Keyed BLAKE2b of each item, as an array (n, size) of bytes.

    Parameters
    ----------
    items : iterable of bytes-like
    key : bytes
        At most 64 bytes; without it nobody can compute, or aim at, a hash.
    tag : bytes
        At most 16 bytes that keep the uses of one key apart.
    size : int
        Bytes per hash, at most 64.
    """
    blake2b = hashlib.blake2b
    joined = b"".join([blake2b(item, key=key, person=tag, digest_size=size).digest() for item in items])
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, size)


def hash_rows(rows: ByteArray, key: bytes, tag: bytes, size: int) -> ByteArray:
    """Keyed BLAKE2b of each row of a byte matrix (n, width), as an array (n, size)."""
    width = rows.shape[1]
    if rows.size == 0:
        return hash_items([b""] * len(rows), key, tag, size)
    view = np.ascontiguousarray(rows).data.cast("B")
    return hash_items((view[i : i + width] for i in range(0, len(view), width)), key, tag, size)


def chain(*fields: bytes | str | int) -> str:
    """SHA-256 over the fields, each with its length in front, as hex.

    Examples
    --------
    >>> chain("ab", "c") == chain("a", "bc")
    False
    """
    digest = hashlib.sha256()
    for value in fields:
        data = value if isinstance(value, bytes) else str(value).encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()
