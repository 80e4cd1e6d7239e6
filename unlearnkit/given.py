"""Given rows: what a fit was given, of which one shard at a time is put in canonical order.

The caller holds all rows already. Who wants them shard by shard, as a store does, need not hold a second copy of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from unlearnkit.data import ShardRecords, content_hashes, order_by_content, order_by_id, take_hashed, take_rows
from unlearnkit.errors import DataError
from unlearnkit.hashing import listed
from unlearnkit.ids import IdColumn
from unlearnkit.partition import Partition, Placement
from unlearnkit.schema import Schema
from unlearnkit.typing import AnyArray, ByteArray, Features, FloatArray, IntArray

_CHUNK = 1 << 16


@dataclass(frozen=True)
class GivenRows:
    """Rows that are checked, in the order in which they came.

    Attributes
    ----------
    schema : Schema
    partition : Partition
    X : array, CSR matrix or DataFrame with n rows
    y : ndarray of shape (n,) or (n, m)
        Class labels, or the targets of a regression.
    weight : ndarray of shape (n,) or None
    names : IdColumn
        Ids, or what addresses records without ids.
    probability : ndarray of shape (n,) or None
    place : int or None
        The slice where they arrive; None: where the partition places each.
    lean : bool
        Hash the ids of a shard again when it is asked for, instead of keeping the hashes of all.
    """

    schema: Schema
    partition: Partition
    X: Features
    y: AnyArray
    weight: FloatArray | None
    names: IdColumn
    probability: FloatArray | None = None
    place: int | None = None
    lean: bool = False

    @property
    def n_shards(self) -> int:
        """The number of shards."""
        return self.partition.n_shards

    @property
    def n_slices(self) -> int:
        """The number of slices of each shard."""
        return self.partition.n_slices

    @property
    def n_records(self) -> int:
        """All records, whatever their weight."""
        return len(self.names)

    def __iter__(self) -> Iterator[ShardRecords]:
        return map(self.shard, range(self.n_shards))

    def sort(self) -> None:
        """Find out which rows are of which shard, once.

        Raises
        ------
        DataError
            If the rows of an id have several probabilities, or there are bands and no probabilities.
        """
        self._sorted  # noqa: B018 - kept from here on

    def shard(self, shard: int) -> ShardRecords:
        """The records of one shard in canonical order.

        Raises
        ------
        DataError
            If the rows have changed since they were placed.
        """
        sorted_out = self._sorted
        rows = sorted_out.order[sorted_out.bounds[shard] : sorted_out.bounds[shard + 1]]
        place, content = self._placed(rows) if sorted_out.placed is None else sorted_out.at(rows)
        if (place.shard != shard).any():
            raise DataError("X, y or ids were changed while they were read; no model was made. Call fit again.")
        slices = place.slice if self.place is None else np.full(len(rows), self.place)
        weight = None if self.weight is None else self.weight[rows]
        order, tied = order_by_id(place.rid, slices, weight)
        if tied:
            content = self._content(rows) if content is None else content
            order = order_by_content(place.rid, content, slices, weight)
        rows, place = rows[order], place.take(order)
        y = self._targets(rows)
        if content is None:
            X, content = take_hashed(self.X, rows, y, self.schema, self.partition.secret)
        else:
            X, content = take_rows(self.X, rows, normalise=True), content[order]
        return ShardRecords(
            X=X,
            y=y,
            weight=None if weight is None else weight[order],
            slice=slices[order],
            home=place.slice,
            rid=place.rid,
            content=content,
            u=place.u,
            handle=None if self.schema.explicit_ids else self.partition.handles(self.names.encoded(rows)),
            n_active=len(rows) if weight is None else int((weight > 0).sum()),
        )

    @cached_property
    def _sorted(self) -> _Sorted:
        """Which rows are of which shard."""
        n = self.n_records
        # Narrow numbers are sorted by their bytes, and take little memory.
        shard = np.empty(n, dtype=np.min_scalar_type(self.n_shards))
        kept = []
        # With bands, rows of one id are held against each other.
        step = _CHUNK if self.probability is None else max(n, 1)
        for start in range(0, n, step):
            rows = np.arange(start, min(start + step, n))
            placed = self._placed(rows)
            shard[rows] = placed[0].shard
            if not self.lean:
                kept.append(placed)
        return _Sorted.of(shard, self.n_shards, kept)

    def _placed(self, rows: IntArray) -> tuple[Placement, ByteArray | None]:
        """Where these rows belong, and the hashes of their content where it is what places them."""
        content = None if self.schema.explicit_ids else self._content(rows)
        # Without ids the content places a record, so that its position plays no part.
        items = self.names.encoded(rows) if content is None else listed(content)
        probability = None if self.probability is None else self.probability[rows]
        return self.partition.place(items, probability), content

    def _content(self, rows: IntArray) -> ByteArray:
        X, y = take_rows(self.X, rows), self._targets(rows)
        return content_hashes(X, y, self.schema, self.partition.secret)

    def _targets(self, rows: IntArray) -> AnyArray:
        return self.y[rows] if self.schema.classes is None else self.schema.codes(self.y[rows])


@dataclass(frozen=True, slots=True)
class _Sorted:
    """The rows of each shard, and what was found out about all rows when they were placed, if it is kept."""

    order: IntArray
    bounds: list[int]
    placed: Placement | None = None
    content: ByteArray | None = None

    @classmethod
    def of(cls, shard: IntArray, n_shards: int, kept: list[tuple[Placement, ByteArray | None]]) -> _Sorted:
        bounds = [0, *np.cumsum(np.bincount(shard, minlength=n_shards)).tolist()]
        order = np.argsort(shard, kind="stable").astype(np.min_scalar_type(len(shard)))
        if not kept:
            return cls(order, bounds)
        fields = ("shard", "slice", "rid", "u")
        place = Placement(**{name: np.concatenate([getattr(p, name) for p, _ in kept]) for name in fields})
        contents = [content for _, content in kept if content is not None]
        return cls(order, bounds, place, np.concatenate(contents) if contents else None)

    def at(self, rows: IntArray) -> tuple[Placement, ByteArray | None]:
        """What is kept of these rows."""
        assert self.placed is not None
        return self.placed.take(rows), None if self.content is None else self.content[rows]
