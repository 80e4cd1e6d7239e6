"""The partition: which shard and slice a record belongs to, from nothing but its own id.

A cell is read off a keyed hash, so removing one record moves no other, and nobody without the secret can aim
requests at one shard. The order of the rows of a file plays no part.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unlearnkit import ids as id_types
from unlearnkit.errors import ParameterError, UnknownRecordError
from unlearnkit.hashing import KEY_BYTES, chain, hash_items
from unlearnkit.typing import ByteArray, FloatArray, IntArray

_TAG = b"unlearnkit:cell"
_HANDLE_TAG = b"unlearnkit:hndl"
_WORDS = 5
ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class HashPartition:
    """Place records by a keyed hash of their id. The value of the option ``partition=``.

    Parameters
    ----------
    secret : bytes or None
        16 to 64 bytes. None: it follows from an int ``random_state`` (reproducible, and then no secret), or is
        drawn from the operating system.

    Examples
    --------
    >>> HashPartition(secret=b"sixteen bytes or more")
    HashPartition()
    """

    secret: bytes | None = field(default=None, repr=False)

    def bind(self, n_shards: int, n_slices: int, random_state: int | None) -> Partition:
        """The partition into `n_shards` x `n_slices` cells.

        Raises
        ------
        ParameterError
            If the secret is not 16 to 64 bytes.
        """
        secret: Any = self.secret
        if secret is None:
            drawn = secrets.token_bytes(KEY_BYTES)
            secret = drawn if random_state is None else bytes.fromhex(chain("unlearnkit:secret", random_state))
        if not isinstance(secret, bytes) or not ID_BYTES <= len(secret) <= 2 * KEY_BYTES:
            raise ParameterError("The partition secret must be 16 to 64 bytes; nothing was changed.")
        return Partition(n_shards, n_slices, secret)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where n records belong.

    Attributes
    ----------
    shard, slice : ndarray of shape (n,)
    rid : ndarray of shape (n, 16)
        The keyed hash that stands for the id: what sorts the records of a slice, and finds them again.
    u : ndarray of shape (n,)
        Uniform in [0, 1), independent of the others.
    """

    shard: IntArray
    slice: IntArray
    rid: ByteArray
    u: FloatArray

    def take(self, rows: IntArray) -> Placement:
        """The placement of these rows, in this order."""
        return Placement(self.shard[rows], self.slice[rows], self.rid[rows], self.u[rows])


@dataclass(frozen=True, slots=True)
class Partition:
    """A function from ids to cells; ``partition_`` of a fitted model.

    Attributes
    ----------
    n_shards, n_slices : int
    secret : bytes
        Keep it as you would keep the data: it tells where a record is.
    id_type : str or None
        The type of the ids that `locate` takes; None where the content of a record places it.
    """

    n_shards: int
    n_slices: int
    secret: bytes = field(repr=False)
    id_type: str | None = id_types.INT

    @property
    def secret_id(self) -> str:
        """A name of the secret that gives nothing of it away: 8 hex digits."""
        return chain("unlearnkit:partition-id", self.secret)[:8]

    def place(self, items: Sequence[bytes]) -> Placement:
        """The cells of ids given as bytes. Equal ids are hashed once."""
        unique = list(dict.fromkeys(items))
        # One long hash per id; its words are independent of each other, so each use has a word of its own.
        hashes = hash_items(unique, self.secret, _TAG, 8 * _WORDS)
        words = hashes.view(">u8").astype(np.uint64).reshape(-1, _WORDS)
        placement = Placement(
            shard=(words[:, 0] % self.n_shards).astype(np.int64),
            slice=(words[:, 1] % self.n_slices).astype(np.int64),
            rid=np.ascontiguousarray(hashes[:, 16:32]),
            u=(words[:, 4] >> np.uint64(11)) * 2.0**-53,
        )
        return placement if len(unique) == len(items) else placement.take(_places(items, unique))

    def handles(self, items: Sequence[bytes]) -> ByteArray:
        """The keyed hashes by which records without ids are addressed, shape (n, 16)."""
        return hash_items(items, self.secret, _HANDLE_TAG, ID_BYTES)

    def locate(self, ids: Any) -> list[tuple[int, int]]:
        """The (shard, slice) of each of the given ids, whether or not the model has records of them.

        Raises
        ------
        UnknownRecordError
            If an id is not of the type of the model's ids, or the model was fitted without ids.

        Examples
        --------
        >>> Partition(3, 2, b"sixteen bytes or more").locate([4711])
        [(2, 1)]
        """
        if self.id_type is None:
            raise UnknownRecordError(
                "The model was fitted without ids: the content of a record places it, so no id can tell where it is."
            )
        place = self.place([id_types.coerce_request([i], self.id_type)[0] for i in id_types.as_list(ids)])
        return list(zip(place.shard.tolist(), place.slice.tolist(), strict=True))


def _places(items: Sequence[bytes], unique: Sequence[bytes]) -> IntArray:
    """Where each item stands among the unique ones."""
    index = {item: place for place, item in enumerate(unique)}
    return np.fromiter((index[item] for item in items), np.int64, len(items))
