"""Keyed hashes of ids and rows, many at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from unlearnkit.typing import AnyArray, ByteArray

KEY_BYTES = 32
_BLOCK_BYTES = 1 << 18


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
    keyed = hashlib.blake2b(key=key, person=tag, digest_size=size)
    hashes = []
    for item in items:
        # A copy has the key worked in already: half the time of starting anew.
        hasher = keyed.copy()
        hasher.update(item)
        hashes.append(hasher.digest())
    return np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(-1, size)


def listed(hashes: ByteArray) -> list[bytes]:
    """The rows of an array (n, size) of bytes, one after the other.

    Examples
    --------
    >>> listed(np.frombuffer(b"forget", dtype=np.uint8).reshape(2, 3))
    [b'for', b'get']
    """
    rows: list[bytes] = np.ascontiguousarray(hashes).view(f"V{hashes.shape[1]}")[:, 0].tolist()
    return rows


def row_key(secret: bytes) -> bytes:
    """The 32 bytes that stand in front of every row that `hash_rows` hashes."""
    return bytes.fromhex(chain("unlearnkit:row", secret))


def hash_rows(rows: AnyArray) -> ByteArray:
    """SHA-256 of each row of an array (n, ...) without padding, as an array (n, 32).

    Keyed if the rows begin with a key: they are all of one length, so the hash of one says nothing about another. Of
    the hashes in the standard library this is the fastest where the processor has instructions for it.
    """
    width = rows.itemsize * int(np.prod(rows.shape[1:]))
    flat = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).reshape(-1, width)
    # Some at a time: each becomes bytes of its own.
    step = max(1, _BLOCK_BYTES // max(1, width))
    blocks = (listed(flat[start : start + step]) for start in range(0, len(flat), step))
    joined = b"".join([hashlib.sha256(row).digest() for block in blocks for row in block])
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, 32)


def chain(*fields: bytes | str | int) -> str:
    """SHA-256 over the fields, each with its length in front, as hex.

    Examples
    --------
    >>> chain("ab", "c") == chain("a", "bc")
    False
    """
    return chain_framed(framed(*fields))


def chain_framed(*fields: bytes) -> str:
    """As `chain`, over fields that were `framed` before.

    Examples
    --------
    >>> chain_framed(framed("ab", 7), framed("c")) == chain("ab", 7, "c")
    True
    """
    return hashlib.sha256(b"".join(fields)).hexdigest()


def framed(*fields: bytes | str | int) -> bytes:
    """The fields one after the other, each with its length in front: what `chain` hashes.

    Examples
    --------
    >>> framed("ab", 7)[8:10]
    b'ab'
    """
    data: list[bytes] = []
    for value in fields:
        item = value if isinstance(value, bytes) else str(value).encode()
        data += (len(item).to_bytes(8, "big"), item)
    return b"".join(data)
