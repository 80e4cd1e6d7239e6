"""The partition: which shard and slice a record belongs to, from nothing but its own id.

A cell is read off a keyed hash, so removing one record moves no other, and nobody without the secret can aim
requests at one shard. The order of the rows of a file plays no part. Where ids come with a probability of erasure,
that decides too: see `unlearnkit.bands`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from unlearnkit import ids as id_types
from unlearnkit.bands import ERASURES, PEOPLE, Bands, one_for_each, prior_of
from unlearnkit.errors import DataError, ParameterError, UnknownRecordError
from unlearnkit.hashing import KEY_BYTES, chain, hash_items
from unlearnkit.typing import AnyArray, ByteArray, FloatArray, IntArray

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
        return Partition(n_shards, n_slices, _secret(self.secret, random_state))


@dataclass(frozen=True)
class BandedPartition:
    """Place records by how likely they are to be erased, and by a keyed hash of their id.

    The value of the option ``partition=`` for fits with ``erasure_probability``. The likeliest to leave are in the last
    slices of each shard, which are the cheapest to train again.

    Parameters
    ----------
    prior : mapping of float to float
        For each probability the share of records that has it. It must be public knowledge, not counted from the
        records: it is kept with the model, and forgetting leaves it as it is.
    secret : bytes or None
        As for `HashPartition`.
    shards : {"erasures", "people"}
        "erasures" sorts people into shards, by the paper's Algorithm 1: each shard has equally many expected erasures,
        those who hardly ever ask share few large ones. It bounds what is expected of each shard. Without slices it
        saves no retraining on average: a large shard is as likely to be hit as a small one, and costs more.
        "people" makes shards alike in size and spreads everybody over all; only the slices are in order. With several
        slices this saves the most: `benchmarks/bands.py` has the figures.

    References
    ----------
    Bourtoule et al., "Machine Unlearning", IEEE S&P 2021, section VIII and Algorithm 1.

    Examples
    --------
    >>> BandedPartition({3e-6: 0.7717, 6e-6: 0.1282, 3e-5: 0.1001})
    BandedPartition(prior={3e-06: 0.7717, 6e-06: 0.1282, 3e-05: 0.1001}, shards='erasures')
    """

    prior: Mapping[float, float]
    secret: bytes | None = field(default=None, repr=False)
    shards: str = ERASURES

    @classmethod
    def from_sample(
        cls, sample: Sequence[float] | FloatArray, n_bands: int = 10, shards: str = ERASURES
    ) -> BandedPartition:
        """The partition for a public sample of probabilities, in bands of equally many people.

        Raises
        ------
        ParameterError
            If the sample has no value, or one that is not in (0, 1].

        Examples
        --------
        >>> BandedPartition.from_sample([0.1, 0.1, 0.1, 0.4], n_bands=2)
        BandedPartition(prior={0.1: 0.75, 0.4: 0.25}, shards='erasures')
        """
        return cls(prior_of(sample, n_bands), shards=shards)

    def bind(self, n_shards: int, n_slices: int, random_state: int | None) -> Partition:
        """The partition into `n_shards` x `n_slices` cells.

        Raises
        ------
        ParameterError
            If the prior makes no sense, or the secret is not 16 to 64 bytes.
        """
        return Partition(n_shards, n_slices, _secret(self.secret, random_state), Bands.of(self.prior, self.shards))


Placing: TypeAlias = HashPartition | BandedPartition


def _secret(given: Any, random_state: int | None) -> bytes:
    if given is None:
        drawn = secrets.token_bytes(KEY_BYTES)
        given = drawn if random_state is None else bytes.fromhex(chain("unlearnkit:secret", random_state))
    if not isinstance(given, bytes) or not ID_BYTES <= len(given) <= 2 * KEY_BYTES:
        raise ParameterError("The partition secret must be 16 to 64 bytes; nothing was changed.")
    return given


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
    bands : Bands or None
        Where the probability of erasure decides too.
    id_type : str or None
        The type of the ids that `locate` takes; None where the content of a record places it.
    lookup : callable or None
        Of a fitted model: shard and slice of the first record of each of these ids, None where it has none.
    """

    n_shards: int
    n_slices: int
    secret: bytes = field(repr=False)
    bands: Bands | None = None
    id_type: str | None = id_types.INT
    lookup: Callable[[list[bytes]], list[tuple[int, int] | None]] | None = field(
        default=None, repr=False, compare=False
    )

    @property
    def option(self) -> Placing:
        """The value of the option ``partition=`` that binds to this."""
        if self.bands is None:
            return HashPartition(self.secret)
        return BandedPartition(self.bands.prior, self.secret, self.bands.shards)

    @property
    def secret_id(self) -> str:
        """A name of the secret that gives nothing of it away: 8 hex digits."""
        return chain("unlearnkit:partition-id", self.secret)[:8]

    def place(self, items: Sequence[bytes], probability: FloatArray | None = None) -> Placement:
        """The cells of ids given as bytes, with bands also of their probabilities.

        Raises
        ------
        DataError
            If equal ids have several probabilities, or there are bands and no probabilities.
        """
        if probability is not None:
            unique = list(dict.fromkeys(items))
            places = _places(items, unique)
            probability = one_for_each(probability, places, len(unique))[places]
        # One long hash per id; its words are independent of each other, so each use has a word of its own.
        hashes = hash_items(items, self.secret, _TAG, 8 * _WORDS)
        words = hashes.view(">u8").astype(np.uint64).reshape(-1, _WORDS)
        shard, slice_ = self._cells(words, probability)
        return Placement(shard=shard, slice=slice_, rid=np.ascontiguousarray(hashes[:, 16:32]), u=_uniform(words[:, 4]))

    def _cells(self, words: AnyArray, probability: FloatArray | None) -> tuple[IntArray, IntArray]:
        shard = (words[:, 0] % self.n_shards).astype(np.int64)
        if self.bands is None:
            return shard, (words[:, 1] % self.n_slices).astype(np.int64)
        if probability is None:
            raise DataError(
                "partition=BandedPartition(...) needs erasure_probability, one value per id; nothing was changed."
            )
        if self.bands.shards == PEOPLE:
            return shard, self.bands.slices(probability, _uniform(words[:, 1]), self.n_slices)
        return self.bands.cells(probability, _uniform(words[:, 0]), self.n_shards, self.n_slices)

    def identify(self, items: Sequence[bytes]) -> ByteArray:
        """The keyed hashes that stand for ids, shape (n, 16): `Placement.rid`."""
        hashes = hash_items(items, self.secret, _TAG, 8 * _WORDS)
        return np.ascontiguousarray(hashes[:, 16:32])

    def search(self, items: Sequence[bytes]) -> tuple[ByteArray, list[int]]:
        """As `identify`, and the shards where the records of these ids may be.

        Those are all of them, where people are sorted into shards.
        """
        if self.bands is not None and self.bands.shards == ERASURES:
            return self.identify(items), list(range(self.n_shards))
        place = replace(self, bands=None).place(items)
        return place.rid, np.unique(place.shard).tolist()

    def handles(self, items: Sequence[bytes]) -> ByteArray:
        """The keyed hashes by which records without ids are addressed, shape (n, 16)."""
        return hash_items(items, self.secret, _HANDLE_TAG, ID_BYTES)

    def locate(self, ids: Any) -> list[tuple[int, int]]:
        """The (shard, slice) of each of the given ids.

        Of an id that the model has records of, it is the first slice that holds one; of another, where `fit` would put
        its records.

        Raises
        ------
        UnknownRecordError
            If an id is not of the type of the model's ids; if the model has no record of an id, and ids alone place
            none: it was fitted without, or with bands.

        Examples
        --------
        >>> Partition(3, 2, b"sixteen bytes or more").locate([4711])
        [(2, 1)]
        """
        kind = self.id_type
        if kind is None:
            raise UnknownRecordError(
                "The model was fitted without ids: the content of a record places it, so no id can tell where it is."
            )
        items = [id_types.coerce_request([i], kind)[0] for i in id_types.as_list(ids)]
        found = [None] * len(items) if self.lookup is None else self.lookup(items)
        if None in found and self.bands is not None:
            raise UnknownRecordError(
                f"{found.count(None)} ids have no record, and with bands no id alone tells where it belongs."
            )
        return [self._home(item) if cell is None else cell for item, cell in zip(items, found, strict=True)]

    def _home(self, item: bytes) -> tuple[int, int]:
        place = self.place([item])
        return int(place.shard[0]), int(place.slice[0])


def _uniform(words: AnyArray) -> FloatArray:
    """Uniform in [0, 1) from words of 64 random bits."""
    return np.asarray((words >> np.uint64(11)) * 2.0**-53)


def _places(items: Sequence[bytes], unique: Sequence[bytes]) -> IntArray:
    """Where each item stands among the unique ones."""
    index = {item: place for place, item in enumerate(unique)}
    return np.fromiter((index[item] for item in items), np.int64, len(items))
