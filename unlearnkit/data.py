"""Records: the rows of a model, kept per shard in canonical order.

A shard's rows are sorted so that the rows of slices 0..r are its first rows: every prefix is a view. The order
inside a slice comes from keyed hashes alone, so the model is a function of the set of its records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from unlearnkit.errors import DataError
from unlearnkit.hashing import hash_items, hash_rows, listed, row_key
from unlearnkit.schema import Schema
from unlearnkit.typing import AnyArray, BoolArray, ByteArray, Features, FloatArray, IntArray, Selection
from unlearnkit.validation import is_frame, is_sparse

if TYPE_CHECKING:
    import scipy.sparse as sp

_TAG = b"unlearnkit:row"
CONTENT_BYTES = 32
_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class SliceFacts:
    """What the plan needs to know of one slice: counts and digests, no rows.

    Attributes
    ----------
    n : int
        Rows of positive weight.
    digest : str
        Over their keyed ids, features, targets and weights, in canonical order.
    classes : frozenset of int
        The codes among them.
    """

    n: int
    digest: str
    classes: frozenset[int]


@dataclass(frozen=True, slots=True)
class Sought:
    """Keyed hashes (16 bytes) to look for, made ready once for all shards.

    Attributes
    ----------
    keys : frozenset of bytes
    near : ndarray of shape (65536,)
        Whether any begins with these two bytes, read as a number.
    words : ndarray of shape (n, 2)
        Each as two numbers, sorted by the first.
    """

    keys: frozenset[bytes]
    near: BoolArray
    words: AnyArray

    @classmethod
    def of(cls, keys: Iterable[bytes]) -> Sought:
        """Those of `keys`."""
        keys = frozenset(keys)
        words = np.frombuffer(b"".join(keys), dtype=np.uint64).reshape(-1, 2)
        near = np.zeros(1 << 16, dtype=bool)
        near[words.view(np.uint16)[:, 0]] = True
        return cls(keys, near, words[np.argsort(words[:, 0])])

    def among(self, hashes: ByteArray) -> BoolArray:
        """Which of these hashes, one a row, are sought."""
        hashes = np.ascontiguousarray(hashes)
        found = self.near[hashes.view(np.uint16)[:, 0]]
        rows = np.flatnonzero(found)
        own = hashes[rows].view(np.uint64)
        places = np.searchsorted(self.words[:, 0], own[:, 0])
        alike = self.words[np.minimum(places, len(self.words) - 1)] == own
        found[rows] = alike.all(axis=1)
        # One that begins like a key may be another that begins so, too.
        doubtful = np.flatnonzero(alike[:, 0] & ~alike[:, 1])
        found[rows[doubtful]] = [key in self.keys for key in listed(hashes[rows[doubtful]])]
        return found


@dataclass(frozen=True)
class ShardRecords:
    """The records of one shard: first those of positive weight, by slice, then those of weight zero.

    Attributes
    ----------
    X : array, CSR matrix or DataFrame with n rows
    y : ndarray of shape (n,) or (n, m)
    weight : ndarray of shape (n,) or None
    slice : ndarray of shape (n,)
        Where each record is: slices after those of the partition hold what arrived later.
    home : ndarray of shape (n,)
        The slice where the partition places it.
    rid : ndarray of shape (n, 16)
        The keyed hash of each record's id.
    content : ndarray of shape (n, 32)
        The keyed hash of each record's features and target.
    u : ndarray of shape (n,)
    handle : ndarray of shape (n, 16) or None
        The keyed hash by which a record without an id is addressed.
    n_active : int
        The rows of positive weight.
    """

    X: Features
    y: AnyArray
    weight: FloatArray | None
    slice: IntArray
    home: IntArray
    rid: ByteArray
    content: ByteArray
    u: FloatArray
    handle: ByteArray | None
    n_active: int

    def __len__(self) -> int:
        return len(self.slice)

    def bounds(self, n_slices: int) -> list[int]:
        """The number of active rows before each slice, and in all: n_slices + 1 numbers."""
        bounds: list[int] = np.searchsorted(self.slice[: self.n_active], np.arange(n_slices + 1)).tolist()
        return bounds

    def facts(self, n_slices: int, *, classification: bool) -> tuple[SliceFacts, ...]:
        """The facts of each slice."""
        bounds = self.bounds(n_slices)
        return tuple(self.facts_of(slice(a, b), classification=classification) for a, b in pairwise(bounds))

    def facts_of(self, rows: Selection, *, classification: bool) -> SliceFacts:
        """The facts of these rows, which are of one slice and all have a positive weight."""
        rid = self.rid[rows]
        weight = np.ones(len(rid)) if self.weight is None else self.weight[rows]
        joined = np.concatenate([rid, self.content[rows], as_bytes(weight)], axis=1).reshape(-1)
        digest = hashlib.sha256(joined.data).hexdigest()
        classes = _distinct(self.y[rows]) if classification else frozenset()
        return SliceFacts(len(rid), digest, classes)

    def of_slice(self, r: int) -> ShardRecords:
        """The records of one slice, which may be views of these."""
        if self.n_active == len(self):
            start, stop = np.searchsorted(self.slice, [r, r + 1]).tolist()
            return self._between(start, stop)
        rows = np.flatnonzero(self.slice == r)
        return self.take(rows, int((rows < self.n_active).sum()))

    def _between(self, start: int, stop: int) -> ShardRecords:
        if is_frame(self.X) or is_sparse(self.X):
            return self.take(np.arange(start, stop), stop - start)
        rows = slice(start, stop)
        return replace(
            self,
            X=self.X[rows],
            y=self.y[rows],
            weight=None if self.weight is None else self.weight[rows],
            slice=self.slice[rows],
            home=self.home[rows],
            rid=self.rid[rows],
            content=self.content[rows],
            u=self.u[rows],
            handle=None if self.handle is None else self.handle[rows],
            n_active=stop - start,
        )

    def matching(self, sought: Sought) -> BoolArray:
        """Which rows are addressed by these keyed hashes of ids (or of handles, where the shard has them)."""
        own = self.rid if self.handle is None else self.handle
        return sought.among(own) if len(self) and sought.keys else np.zeros(len(self), dtype=bool)

    def keys(self, rows: BoolArray) -> set[bytes]:
        """The keyed hashes that address these rows."""
        own = self.rid if self.handle is None else self.handle
        return set(listed(own[rows]))

    def without(self, rows: BoolArray) -> ShardRecords:
        """The records but for these rows; nothing of them is left in the result."""
        keep = np.flatnonzero(~rows)
        return self.take(keep, int((keep < self.n_active).sum()))

    def to_train(self) -> ShardRecords:
        """The records as far as training looks at them: without what finds, sorts and checks them."""
        none = np.empty((len(self), 0), dtype=np.uint8)
        small: Any = np.zeros(len(self), dtype=np.int8)
        return replace(self, rid=none, content=none, handle=None, slice=small, home=small)

    def take(self, rows: IntArray, n_active: int, *, normalise: bool = False) -> ShardRecords:
        """These rows in this order, copied, and normalised for the first time if so asked."""
        return replace(
            self,
            X=take_rows(self.X, rows, normalise=normalise),
            y=self.y[rows],
            weight=None if self.weight is None else self.weight[rows],
            slice=self.slice[rows],
            home=self.home[rows],
            rid=self.rid[rows],
            content=self.content[rows],
            u=self.u[rows],
            handle=None if self.handle is None else self.handle[rows],
            n_active=n_active,
        )


def _distinct(y: AnyArray) -> frozenset[int]:
    # Class codes are small: to count each is faster than to look for the distinct ones.
    found = np.flatnonzero(np.bincount(y)) if y.dtype.kind == "i" else np.unique(y)
    return frozenset(found.tolist())


def split_shards(records: ShardRecords, shard: IntArray, n_shards: int) -> tuple[ShardRecords, ...]:
    """The records of each shard in canonical order, from all records in any order."""
    by_shard = np.argsort(shard, kind="stable")
    bounds = np.searchsorted(shard[by_shard], np.arange(n_shards + 1))
    return tuple(
        in_order(records, by_shard[a:b]) for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
    )


def in_order(records: ShardRecords, rows: IntArray) -> ShardRecords:
    """These rows, which are all of one shard, in canonical order."""
    weight = None if records.weight is None else records.weight[rows]
    order, tied = order_by_id(records.rid[rows], records.slice[rows], weight)
    if tied:
        order = order_by_content(records.rid[rows], records.content[rows], records.slice[rows], weight)
    n_active = len(rows) if weight is None else int((weight > 0).sum())
    return records.take(rows[order], n_active, normalise=True)


def order_by_id(rid: ByteArray, slices: IntArray, weight: FloatArray | None) -> tuple[IntArray, bool]:
    """The canonical order of rows of one shard, and whether there are several of one id: then their content counts.

    Parameters
    ----------
    rid : ndarray of shape (n, 16)
    slices : ndarray of shape (n,)
    weight : ndarray of shape (n,) or None
    """
    words = _words(rid)
    order = np.argsort(words[:, 0])
    sorted_words = words[order, 0]
    if (sorted_words[1:] == sorted_words[:-1]).any():
        order = np.lexsort(_keys(words, slices, weight))
        return order, _has_ties(words[order])
    # Keyed hashes that differ do so in their first half, and to sort by that alone takes a third of the time.
    for key in _keys_before_ids(slices, weight):
        order = order[np.argsort(key[order], kind="stable")]
    return order, False


def order_by_content(rid: ByteArray, content: ByteArray, slices: IntArray, weight: FloatArray | None) -> IntArray:
    """The canonical order of rows of one shard of which several may be of one id.

    Their content decides, then their weight.
    """
    own = () if weight is None else (weight,)
    order: IntArray = np.lexsort([*own, *_words(content).T[::-1], *_keys(_words(rid), slices, weight)])
    return order


def _keys(words: AnyArray, slices: IntArray, weight: FloatArray | None) -> list[AnyArray]:
    """The sort keys, the last of which counts most."""
    return [words[:, 1], words[:, 0], *_keys_before_ids(slices, weight)]


def _keys_before_ids(slices: IntArray, weight: FloatArray | None) -> list[AnyArray]:
    return [slices] if weight is None else [slices, weight <= 0]


def _has_ties(words: AnyArray) -> bool:
    return len(words) > 1 and bool((words[1:] == words[:-1]).all(axis=1).any())


def _words(hashes: ByteArray) -> AnyArray:
    return np.ascontiguousarray(hashes).view(">u8").astype(np.uint64).reshape(len(hashes), hashes.shape[1] // 8)


def content_hashes(X: Features, y: AnyArray, schema: Schema, secret: bytes) -> ByteArray:
    """The keyed hash of each row's canonical features and target, shape (n, 32)."""
    targets = as_bytes(y)
    if is_sparse(X):
        return hash_items(_sparse_rows(X, targets), secret, _TAG, CONTENT_BYTES)
    if is_frame(X):
        key = np.frombuffer(row_key(secret), dtype=np.uint8)
        columns = [_column_bytes(X, column, secret) for column in schema.columns]
        return hash_rows(np.concatenate([np.tile(key, (len(X), 1)), *columns, targets], axis=1))
    return _array_hashes(_chunks(X), X, targets, secret)


def take_hashed(X: Features, rows: IntArray, y: AnyArray, schema: Schema, secret: bytes) -> tuple[Features, ByteArray]:
    """These rows of X as `take_rows` normalises them, and their `content_hashes`; `y` are the targets of these rows.

    An array is gone through once for both.
    """
    if is_frame(X) or is_sparse(X):
        taken = take_rows(X, rows, normalise=True)
        return taken, content_hashes(taken, y, schema, secret)
    taken = np.empty((len(rows), *X.shape[1:]), dtype=X.dtype)
    return taken, _array_hashes(_taken(X, rows, taken), taken, as_bytes(y), secret)


def _array_hashes(chunks: Iterable[AnyArray], X: AnyArray, targets: ByteArray, secret: bytes) -> ByteArray:
    """Row by row: the key, the normalised features, the target. The chunks are those of X, one after the other."""
    key = np.frombuffer(row_key(secret), dtype=np.uint8)
    layout = np.dtype([("key", "u1", key.shape), ("X", X.dtype, X.shape[1:]), ("y", "u1", targets.shape[1:])])
    buffer = np.zeros(min(_rows_per_chunk(X), len(X)), dtype=layout)
    buffer["key"] = key
    hashes = np.empty((len(X), CONTENT_BYTES), dtype=np.uint8)
    start = 0
    for chunk in chunks:
        here = slice(start, start + len(chunk))
        rows = buffer[: len(chunk)]
        rows["X"], rows["y"] = chunk, targets[here]
        hashes[here] = hash_rows(rows)
        start = here.stop
    return hashes


def _chunks(X: AnyArray) -> Iterator[AnyArray]:
    """Some rows at a time, copied and normalised."""
    step = _rows_per_chunk(X)
    return (normalised(X[start : start + step].copy()) for start in range(0, len(X), step))


def _taken(X: AnyArray, rows: IntArray, taken: AnyArray) -> Iterator[AnyArray]:
    """Some of these rows of X at a time, normalised, as they come to lie in `taken`."""
    step = _rows_per_chunk(X)
    for start in range(0, len(rows), step):
        chunk = taken[start : start + step]
        np.take(X, rows[start : start + step], axis=0, out=chunk, mode="clip")
        yield normalised(chunk)


def _sparse_rows(X: sp.csr_matrix, targets: ByteArray) -> Iterator[bytes]:
    indices = X.indices.astype(np.int32, copy=False)
    data = normalised(X.data.copy())
    pointers = X.indptr.tolist()
    for row, (a, b) in enumerate(pairwise(pointers)):
        yield indices[a:b].tobytes() + data[a:b].tobytes() + targets[row].tobytes()


def _column_bytes(X: Any, column: Any, secret: bytes) -> ByteArray:
    values = X[column.name]
    if column.kind == "category":
        return as_bytes(values.cat.codes.to_numpy().astype(np.int32))
    if column.kind == "text":
        known = [b"" if v is None else b"t" + str(v).encode("utf-8", "surrogatepass") for v in values]
        return hash_items(known, secret, b"unlearnkit:text", CONTENT_BYTES)
    numbers = values.to_numpy()
    return as_bytes(normalised(numbers.copy()))


def as_bytes(array: AnyArray) -> ByteArray:
    """The rows of an array as a byte matrix (n, width)."""
    contiguous = np.ascontiguousarray(array)
    width = contiguous.itemsize * int(np.prod(contiguous.shape[1:]))
    return contiguous.reshape(-1).view(np.uint8).reshape(len(contiguous), width)


def normalised(X: Features) -> Features:
    """X with one zero and one NaN, changed in place where it is an array of our own.

    Equal records must have equal bytes: -0.0 becomes 0.0, and NaN of any payload the one NaN.
    """
    if is_sparse(X):
        normalised(X.data)
    elif is_frame(X):
        return _normalised_frame(X)
    elif X.dtype.kind == "f":
        np.add(X, 0, out=X)
        # The minimum of numbers with a NaN among them is NaN, and faster to find than every NaN.
        if X.size and np.isnan(X.min()):
            X[np.isnan(X)] = np.nan
    return X


def _normalised_frame(X: Any) -> Any:
    for name in X.columns:
        if getattr(X[name].dtype, "kind", "") == "f":
            X[name] = normalised(X[name].to_numpy().copy())
    return X


def take_rows(X: Features, rows: IntArray, *, normalise: bool = False) -> Features:
    """These rows of X in this order, copied, and `normalised` if so asked."""
    if is_frame(X) or is_sparse(X):
        taken = X.iloc[rows].reset_index(drop=True) if is_frame(X) else X[rows]
        return normalised(taken) if normalise else taken
    if not normalise:
        return np.ascontiguousarray(X[rows])
    taken = np.empty((len(rows), *X.shape[1:]), dtype=X.dtype)
    for _ in _taken(X, rows, taken):
        pass
    return taken


def _rows_per_chunk(X: AnyArray) -> int:
    """Rows that stay in the processor's cache while several things are done to them."""
    return max(1, _CHUNK_BYTES // max(1, X.itemsize * int(np.prod(X.shape[1:]))))


def first_rows(X: Features, n: int) -> Features:
    """The first n rows of X, without a copy where the container allows it."""
    if n == X.shape[0]:
        return X
    return X.iloc[:n] if is_frame(X) else X[:n]


def handles_of(X: Any, n: int) -> tuple[Sequence[Any], bool]:
    """How records without ids are addressed: by the labels of a unique index, else by position.

    Returns
    -------
    handles : sequence of length n
    positions : bool
        Whether they are positions.
    """
    if is_frame(X):
        import pandas as pd

        index = X.index
        if isinstance(index, pd.MultiIndex) and index.is_unique:
            raise _no_handle("tuples")
        if not isinstance(index, pd.RangeIndex) and index.is_unique and not index.hasnans:
            if index.dtype.kind in "mM":
                raise _no_handle("dates or times")
            return index.tolist(), False
    return range(n), True


def _no_handle(kind: str) -> DataError:
    """Positions in their place would be a trap: a label that looks like a position would name another row."""
    return DataError(
        f"The labels of the index of X are {kind}, which cannot name a row to forget; nothing was changed. Give ids=, "
        "or address rows by their position: X.reset_index(drop=True)"
    )
