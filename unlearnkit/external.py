"""External records: the rows stay where they are, and the store keeps keyed digests of them.

To plan, isolate and purge takes no row. To train does: then a loader of the user's gives the rows of a shard and slice,
and those of them are trained on whose digests the store has. Whatever else it gives trains nothing, and if one of the
records is not among them, nothing is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from unlearnkit.blobs import Blobs
from unlearnkit.blocks import broken, join_features
from unlearnkit.cells import (
    MANIFEST,
    ROWS,
    bare,
    join_cells,
    no_records,
    pack_digests,
    unpack_digests,
    without_features,
)
from unlearnkit.data import ShardRecords, take_rows
from unlearnkit.errors import RowsDifferError, RowsNeededError
from unlearnkit.ledger import Cell
from unlearnkit.loading import Block, LoadRows, as_keys, digested, identities, rows_of
from unlearnkit.partition import Partition
from unlearnkit.records import Records
from unlearnkit.schema import Schema
from unlearnkit.stored import StoredRecords, describe
from unlearnkit.typing import AnyArray, Features, IntArray

STORED, EXTERNAL = "stored", "external"


@dataclass(frozen=True, slots=True)
class Reading:
    """Where rows that a store does not keep come from while a model trains.

    Attributes
    ----------
    load_rows : callable or None
    given : mapping of int to tuple of ShardRecords
        Those at hand, by shard: the loader need not have them yet.
    """

    load_rows: LoadRows | None = None
    given: Mapping[int, tuple[ShardRecords, ...]] = field(default_factory=dict, repr=False)

    def of(self, records: Records) -> Records:
        """The records, read from here if the store does not keep them."""
        return records.reading(self) if isinstance(records, ExternalRecords) else records

    def of_shards(self, shards: Collection[int]) -> Reading:
        """As much of it as records of these shards may take."""
        return Reading(self.load_rows, {shard: rows for shard, rows in self.given.items() if shard in shards})


NOWHERE_ELSE = Reading()
"""For models that keep their rows."""


class ExternalRecords(StoredRecords):
    """Records of which blobs hold the digests, and that are read from elsewhere to train on.

    Parameters
    ----------
    blobs : Blobs
    cells : iterable of Cell
    schema : Schema
    n_shards, n_slices : int
    partition : Partition
    reading : Reading
        Where the rows come from. Without any all but `shard` works.
    pending : collection of bytes
    """

    def __init__(
        self,
        blobs: Blobs,
        cells: Iterable[Cell],
        schema: Schema,
        n_shards: int,
        n_slices: int,
        *,
        partition: Partition,
        reading: Reading | None = None,
        pending: Collection[bytes] = frozenset(),
    ) -> None:
        super().__init__(blobs, cells, schema, n_shards, n_slices, pending=pending)
        self._partition = partition
        self._reading = Reading() if reading is None else reading

    def reading(self, reading: Reading) -> Self:
        """The same records, read from here."""
        twin = self.moved(self.cells.values(), self.pending)
        twin._reading = reading  # noqa: SLF001 - its own
        return twin

    def moved(self, cells: Iterable[Cell], pending: Collection[bytes]) -> Self:
        """The records as a ledger describes them that has changed meanwhile."""
        cells = tuple(cells)
        moved = type(self)(
            self._blobs,
            cells,
            self._schema,
            self._n_shards,
            self._n_slices,
            partition=self._partition,
            reading=self._reading.of_shards({cell.shard for cell in cells}),
            pending=pending,
        )
        return self._hand_on(moved)

    def shard(self, shard: int) -> ShardRecords:
        """The records of one shard, read from where they are.

        Raises
        ------
        RowsNeededError
            If nobody has said where that is.
        RowsDifferError
            If one of them is not there as it was.
        """
        return self.ready(shard)()

    def ready(self, shard: int) -> Callable[[], ShardRecords]:
        """The records of one shard, which the call reads from where they are."""
        cells = [(cell, self._rows(cell)) for cell in self._of(shard)]
        return lambda: self._read_rows(shard, cells)

    def _read_rows(self, shard: int, cells: list[tuple[Cell, ShardRecords]]) -> ShardRecords:
        rows = join_cells([rows for _, rows in cells], without_features(self._schema))
        for given in self._reading.given.get(shard, ()):
            if len(given) == len(rows) and (identities(given) == identities(rows)).all():
                return replace(rows, X=given.X, y=given.y)
        return join_cells([self._loaded(cell, rows) for cell, rows in cells], self._schema)

    def describe(self, shard: int, slice: int, records: ShardRecords) -> Cell:  # noqa: A002 - the word of the field
        """What the ledger is to know of a cell of these records: nothing of its features."""
        return describe(shard, slice, bare(records), without_features(self._schema))

    def packed(self, shard: int, slice: int, records: ShardRecords) -> tuple[Cell, dict[str, bytes]]:  # noqa: A002
        """A cell of these records, and its part: digests."""
        return self.describe(shard, slice, records), pack_digests(records, self._schema, self._partition.secret)

    def unpacked(self, parts: Mapping[str, bytes]) -> ShardRecords:
        """The records whose digests these are, without features.

        Raises
        ------
        StateError
            If they are not the parts of a cell.
        """
        if not parts:
            return self._no_records()
        if parts.keys() - {MANIFEST} != {ROWS}:
            raise broken("it has other parts than digests")
        return self._unpacked_rows(parts[ROWS])

    def _unpacked_rows(self, part: bytes) -> ShardRecords:
        return unpack_digests(part, self._schema, self._partition.secret)

    def _no_records(self) -> ShardRecords:
        return no_records(without_features(self._schema))

    def _stored(self, cell: Cell) -> ShardRecords:
        return self._rows(cell)

    # -- rows from elsewhere -------------------------------------------------------------------------------------

    def _loaded(self, cell: Cell, rows: ShardRecords) -> ShardRecords:
        found = _Search(rows)
        for block in self._blocks(cell, rows):
            found.take_from(block)
            if not found.missing:
                return found.filled(self._schema)
        raise RowsDifferError(
            f"{found.missing} of the {len(rows)} records of shard {cell.shard}, slice {cell.slice} are not among the "
            "rows that were given: they have other values, targets or weights than the store has digests of, or are "
            "left out. Nothing was trained on them. Give the rows as they were when they were added, or say what "
            "changed: rectify() puts records right, forget() takes them out."
        )

    def _blocks(self, cell: Cell, rows: ShardRecords) -> Iterator[Block]:
        """The rows that may be some of these, as far as they have to be looked at."""
        for given in self._reading.given.get(cell.shard, ()):
            yield Block(given.X, given.y, identities(given))
        load = self._reading.load_rows
        if load is None:
            raise rows_needed("Nothing was trained.")
        found = digested(rows_of(load, cell.shard, cell.slice), rows, self._schema, self._partition)
        if found is not None:
            yield found


def rows_needed(what: str) -> RowsNeededError:
    """The error for what takes rows, and was not told where they are."""
    return RowsNeededError(
        "The rows of this model are kept elsewhere (data='external'), and training takes them. "
        f"{what} Pass load_rows=, a function from shard and slice to their rows; unlearnkit.parquet.ParquetRows is one "
        "for Parquet files."
    )


# -- search -----------------------------------------------------------------------------------------------------------


class _Search:
    """The search for the features and targets of some records."""

    def __init__(self, rows: ShardRecords) -> None:
        self._rows = rows
        self._open: dict[bytes, list[int]] = {}
        for place, identity in enumerate(as_keys(identities(rows))):
            self._open.setdefault(identity, []).append(place)
        self.missing = len(rows)
        """How many are not found yet."""
        self._found: list[tuple[IntArray, Features, AnyArray]] = []

    def take_from(self, block: Block) -> None:
        """Take those that are in a block; each of its rows stands for one record."""
        pairs = [
            (places.pop(), row)
            for row, identity in enumerate(as_keys(block.identities))
            if (places := self._open.get(identity))
        ]
        if pairs:
            places_of, rows = np.array(sorted(pairs), dtype=np.int64).T
            self._found.append((places_of, take_rows(block.X, rows, normalise=True), block.y[rows]))
            self.missing -= len(pairs)

    def filled(self, schema: Schema) -> ShardRecords:
        """The records with what was found."""
        if len(self._found) == 1:
            _, X, y = self._found[0]
            return replace(self._rows, X=X, y=y)
        order = np.argsort(np.concatenate([places for places, _, _ in self._found]))
        X = take_rows(join_features([X for _, X, _ in self._found], schema), order)
        return replace(self._rows, X=X, y=np.concatenate([y for _, _, y in self._found])[order])
