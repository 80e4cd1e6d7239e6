"""All records of a model as one value, which says the same for ever: in memory, or in blobs that are read when needed.

Forgetting makes a new value without the rows. Both kinds do the same, so nothing above knows which one it has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

import numpy as np

from unlearnkit.data import ShardRecords, SliceFacts, Sought
from unlearnkit.schema import Schema
from unlearnkit.typing import AnyArray, BoolArray, FloatArray, IntArray, Selection
from unlearnkit.validation import is_frame

CLASSES = -1
"""Stands for the class labels where columns have numbers."""

Place: TypeAlias = tuple[int, int]
"""Shard and slice."""

Support: TypeAlias = Mapping[int, frozenset[int]]
"""For each category column, by its number, the codes that some record has; for `CLASSES` the class codes."""

Counts: TypeAlias = Mapping[int, IntArray]
"""For the same columns, how many records have each code."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What `Records.without` took out.

    Attributes
    ----------
    n_records : int
    first : dict of int to int
        For each shard that lost a row of positive weight, the first slice that did: what was trained from there on
        is void.
    addresses : frozenset of bytes
        Of the rows.
    """

    n_records: int
    first: dict[int, int]
    addresses: frozenset[bytes]


class Records(Protocol):
    """All records of a model. Every implementation passes the same suite of tests.

    An address is the keyed hash (16 bytes) of an id, or of a handle where the records have no ids.
    """

    @property
    def n_shards(self) -> int:
        """The number of shards."""
        ...

    @property
    def n_slices(self) -> int:
        """The number of slices of each shard, those that arrived later included."""
        ...

    @property
    def n_records(self) -> int:
        """All records, whatever their weight."""
        ...

    def shard(self, shard: int) -> ShardRecords:
        """The records of one shard."""
        ...

    def rows(self, shard: int) -> ShardRecords:
        """The records of one shard, which need not have their features."""
        ...

    def facts(self, shard: int) -> tuple[SliceFacts, ...]:
        """What the plan needs to know of each slice of a shard."""
        ...

    def targets(self, shard: int) -> tuple[AnyArray, FloatArray | None]:
        """Targets and weights of a shard's rows of positive weight."""
        ...

    def cell(self, shard: int, slice: int) -> ShardRecords:  # noqa: A002 - the word of the field
        """What is kept of the records of one slice of a shard."""
        ...

    def addresses(self, shard: int) -> set[bytes]:
        """The addresses of all records of a shard."""
        ...

    def places(self, addresses: Collection[bytes], shards: Iterable[int]) -> dict[bytes, list[Place]]:
        """The cells of these shards that hold records of each of these addresses, in order of slices, then shards."""
        ...

    def found(self, addresses: Collection[bytes], shards: Iterable[int]) -> set[bytes]:
        """Those of these addresses that have records in these shards."""
        ...

    def without(self, addresses: Collection[bytes], shards: Iterable[int]) -> tuple[Records, Removed]:
        """The records but for those at these addresses in these shards, and what that took out."""
        ...

    def support(self) -> Support:
        """The categories and class labels that some record has, whatever its weight."""
        ...

    def unsupported(self, schema: Schema) -> tuple[str, ...]:
        """Categories and class labels of the schema that no record has any more, to read."""
        ...


@dataclass(frozen=True, slots=True)
class _Remaining:
    """The rows of a shard that are left, not copied yet: to copy a shard takes longer than all else that isolates it.

    Attributes
    ----------
    records : ShardRecords
        All rows, those that were taken out included.
    gone : ndarray of shape (n,)
        Which of them were.
    """

    records: ShardRecords
    gone: BoolArray

    def __len__(self) -> int:
        return len(self.gone) - int(self.gone.sum())

    def copied(self) -> ShardRecords:
        """The rows that are left; nothing of the others is in the result."""
        return self.records.without(self.gone)


class MemoryRecords:
    """Records in memory.

    What is taken out of a shard by `without` is held until the shard is read, or `rewrite` lets go of all.

    Parameters
    ----------
    shards : sequence of ShardRecords
    n_slices : int
    classification : bool
        Whether the targets are class codes.
    """

    def __init__(self, shards: Sequence[ShardRecords], n_slices: int, *, classification: bool) -> None:
        self._shards: list[ShardRecords | _Remaining] = list(shards)
        self._n_slices = n_slices
        self._classification = classification
        # Read often, and dear at the size of a model; they follow from the records, which do not change.
        self._facts: dict[int, tuple[SliceFacts, ...]] = {}
        self._counts: dict[int, Counts] = {}
        self._support: Support | None = None
        # Whoever looks for records takes most of them out then.
        self._last_match: tuple[frozenset[bytes], dict[int, BoolArray]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A pickle holds nothing that was taken out, even if something went wrong before it was let go of.
        self.rewrite()
        return vars(self) | {"_last_match": None}

    @property
    def n_shards(self) -> int:
        """The number of shards."""
        return len(self._shards)

    @property
    def n_slices(self) -> int:
        """The number of slices of each shard, those that arrived later included."""
        return self._n_slices

    @property
    def n_records(self) -> int:
        """All records, whatever their weight."""
        return sum(map(len, self._shards))

    @property
    def classification(self) -> bool:
        """Whether the targets are class codes."""
        return self._classification

    def shard(self, shard: int) -> ShardRecords:
        """The records of one shard."""
        held = self._shards[shard]
        if isinstance(held, _Remaining):
            # Should two threads do it at once, both come to the same.
            held = self._shards[shard] = held.copied()
        return held

    def rows(self, shard: int) -> ShardRecords:
        """The records of one shard."""
        return self.shard(shard)

    def rewrite(self) -> None:
        """Let go of what `without` has taken out."""
        for shard in range(self.n_shards):
            self.shard(shard)

    def facts(self, shard: int) -> tuple[SliceFacts, ...]:
        """What the plan needs to know of each slice of a shard."""
        if shard not in self._facts:
            records = self.shard(shard)
            self._facts[shard] = records.facts(self._n_slices, classification=self._classification)
        return self._facts[shard]

    def targets(self, shard: int) -> tuple[AnyArray, FloatArray | None]:
        """Targets and weights of a shard's rows of positive weight."""
        return active_targets(self.shard(shard))

    def cell(self, shard: int, slice: int) -> ShardRecords:  # noqa: A002 - the word of the field
        """The records of one slice of a shard."""
        records = self.shard(shard)
        rows = np.flatnonzero(records.slice == slice)
        return records.take(rows, int((rows < records.n_active).sum()))

    def places(self, addresses: Collection[bytes], shards: Iterable[int]) -> dict[bytes, list[Place]]:
        """The cells of these shards that hold records of each of these addresses, in order of slices, then shards."""
        return places_of(((shard, self.shard(shard)) for shard in shards), addresses)

    def addresses(self, shard: int) -> set[bytes]:
        """The addresses of all records of a shard."""
        records = self.shard(shard)
        return records.keys(np.ones(len(records), dtype=bool))

    def found(self, addresses: Collection[bytes], shards: Iterable[int]) -> set[bytes]:
        """Those of these addresses that have records in these shards."""
        matching = self._matching(addresses, shards)
        return set[bytes]().union(*(self.shard(shard).keys(rows) for shard, rows in matching.items()))

    def _matching(self, addresses: Collection[bytes], shards: Iterable[int]) -> dict[int, BoolArray]:
        """Which rows of each of these shards are at these addresses."""
        wanted, asked = frozenset(addresses), sorted(set(shards))
        last = self._last_match
        if last is None or last[0] != wanted or last[1].keys() != set(asked):
            sought = Sought.of(wanted)
            last = wanted, {shard: self.shard(shard).matching(sought) for shard in asked}
            self._last_match = last
        return last[1]

    def without(self, addresses: Collection[bytes], shards: Iterable[int]) -> tuple[MemoryRecords, Removed]:
        """The records but for those at these addresses in these shards, and what that took out."""
        matching = self._matching(addresses, shards)
        old = {shard: self.shard(shard) for shard in matching}
        gone = {shard: rows for shard, rows in matching.items() if rows.any()}
        first = {shard: first_slice(old[shard], rows) for shard, rows in gone.items()}
        removed = Removed(
            n_records=sum(int(rows.sum()) for rows in gone.values()),
            first={shard: r for shard, r in first.items() if r is not None},
            addresses=frozenset[bytes]().union(*(old[shard].keys(rows) for shard, rows in gone.items())),
        )
        left = self._with({s: _Remaining(old[s], rows) for s, rows in gone.items()}, self._n_slices)
        facts = {s: self._facts_without(s, rows) for s, rows in gone.items() if s in self._facts}
        left._facts |= facts  # noqa: SLF001 - its own
        left._counts |= {s: self._counts_without(s, rows) for s, rows in gone.items() if s in self._counts}  # noqa: SLF001
        return left, removed

    def _facts_without(self, shard: int, gone: BoolArray) -> tuple[SliceFacts, ...]:
        """The facts of a shard but for these rows: those of other slices stay as they are known."""
        records = self.shard(shard)
        changed = set(records.slice[gone].tolist())
        return tuple(
            records.facts_of(a + np.flatnonzero(~gone[a:b]), classification=self._classification)
            if r in changed
            else self._facts[shard][r]
            for r, (a, b) in enumerate(pairwise(records.bounds(self._n_slices)))
        )

    def _counts_without(self, shard: int, gone: BoolArray) -> Counts:
        """The counts of a shard but for these rows, which alone are looked at."""
        left = {number: counts.copy() for number, counts in self._counts[shard].items()}
        lost = counts_of(self.shard(shard), np.flatnonzero(gone), classification=self._classification)
        for number, counts in lost.items():
            left[number][: len(counts)] -= counts
        return left

    def with_shards(self, changed: Mapping[int, ShardRecords], n_slices: int) -> MemoryRecords:
        """The records with these in place of those of the same shards."""
        return self._with(changed, n_slices)

    def _with(self, changed: Mapping[int, ShardRecords | _Remaining], n_slices: int) -> MemoryRecords:
        touched = changed.keys() if n_slices == self._n_slices else set(range(self.n_shards))
        records = MemoryRecords((), n_slices, classification=self._classification)
        records._shards = [changed.get(shard, held) for shard, held in enumerate(self._shards)]
        records._facts = {shard: facts for shard, facts in self._facts.items() if shard not in touched}
        records._counts = {shard: found for shard, found in self._counts.items() if shard not in touched}
        return records

    def support(self) -> Support:
        """The categories and class labels that some record has, whatever its weight."""
        for shard in range(self.n_shards):
            if shard not in self._counts:
                self._counts[shard] = counts_of(self.shard(shard), classification=self._classification)
        if self._support is None:
            self._support = support_of(added(self._counts.values()))
        return self._support

    def unsupported(self, schema: Schema) -> tuple[str, ...]:
        """Categories and class labels of the schema that no record has any more, to read."""
        return missing_entries(self.support(), schema)


def places_of(shards: Iterable[tuple[int, ShardRecords]], addresses: Collection[bytes]) -> dict[bytes, list[Place]]:
    """The cells that hold records of each of these addresses, in order of slices, then shards."""
    sought = Sought.of(addresses)
    found: dict[bytes, set[tuple[int, int]]] = {}
    for shard, records in shards:
        rows = records.matching(sought)
        own = records.rid if records.handle is None else records.handle
        for key, r in zip(own[rows], records.slice[rows].tolist(), strict=True):
            found.setdefault(key.tobytes(), set()).add((r, shard))
    return {address: [(shard, r) for r, shard in sorted(cells)] for address, cells in found.items()}


def active_targets(records: ShardRecords) -> tuple[AnyArray, FloatArray | None]:
    """Targets and weights of the rows of positive weight."""
    n = records.n_active
    return records.y[:n], None if records.weight is None else records.weight[:n]


def first_slice(records: ShardRecords, rows: BoolArray) -> int | None:
    """The first slice in which one of these rows has a positive weight."""
    active = np.flatnonzero(rows[: records.n_active])
    return int(records.slice[active].min()) if len(active) else None


def counts_of(records: ShardRecords, rows: Selection = slice(None), *, classification: bool) -> Counts:
    """How many of these rows have each category and class label."""
    codes = {number: column.cat.codes.to_numpy()[rows] for number, column in _category_columns(records)}
    if classification:
        codes[CLASSES] = records.y[rows]
    # A missing value has the code -1.
    return {number: np.bincount(found[found >= 0]) for number, found in codes.items()}


def added(counts: Iterable[Counts]) -> Counts:
    """The counts of several groups of records together."""
    total: dict[int, IntArray] = {}
    for each in counts:
        for number, few in each.items():
            known = total.get(number, few[:0])
            short, long = sorted((known, few), key=len)
            total[number] = long.copy()
            total[number][: len(short)] += short
    return total


def support_of(counts: Counts) -> Support:
    """The categories and class labels that occur.

    Examples
    --------
    >>> support_of({0: np.array([2, 0, 1]), CLASSES: np.array([], dtype=int)})
    {0: frozenset({0, 2})}
    """
    known = {number: frozenset(np.flatnonzero(found).tolist()) for number, found in counts.items()}
    return {number: found for number, found in known.items() if found}


def _category_columns(records: ShardRecords) -> list[tuple[int, Any]]:
    if not is_frame(records.X):
        return []
    import pandas as pd

    columns = [(number, records.X.iloc[:, number]) for number in range(records.X.shape[1])]
    return [(number, column) for number, column in columns if isinstance(column.dtype, pd.CategoricalDtype)]


def joined(supports: Iterable[Support]) -> Support:
    """What is in any of them."""
    union: dict[int, frozenset[int]] = {}
    for support in supports:
        for number, codes in support.items():
            union[number] = union.get(number, frozenset()) | codes
    return union


def missing_entries(support: Support, schema: Schema) -> tuple[str, ...]:
    """Categories and class labels of the schema that the support lacks.

    Examples
    --------
    >>> schema = Schema("array", (2,), "<f8", classes=("gold", "silver"), class_dtype="<U6")
    >>> missing_entries({CLASSES: frozenset({1})}, schema)
    ("class 'gold'",)
    """
    entries = [
        f"column {column.name!r}: category {category!r}"
        for number, column in enumerate(schema.columns)
        for code, category in enumerate(column.categories)
        if code not in support.get(number, frozenset())
    ]
    labels = [label for code, label in enumerate(schema.classes or ()) if code not in support.get(CLASSES, frozenset())]
    return (*entries, *(f"class {label!r}" for label in labels))
