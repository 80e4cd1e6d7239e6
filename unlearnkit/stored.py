"""Records in blobs: read when needed, a cell at a time, and rewritten without what was removed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

import numpy as np

from unlearnkit.blobs import Blobs
from unlearnkit.blocks import broken
from unlearnkit.cells import MANIFEST, ROWS, join_cells, no_records, pack_cell, unpack_cell, unpack_rows
from unlearnkit.data import ShardRecords, SliceFacts
from unlearnkit.ledger import Cell
from unlearnkit.records import (
    CLASSES,
    Place,
    Records,
    Removed,
    Support,
    active_targets,
    first_slice,
    joined,
    missing_entries,
    places_of,
    support_of,
)
from unlearnkit.schema import Schema
from unlearnkit.typing import AnyArray, FloatArray

_MAX_REMEMBERED = 1_000_000
"""Records whose addresses and targets, some hundred bytes each, may stay in memory."""


class StoredRecords:
    """Records in blobs, of which only the facts are kept in memory.

    Between `without` and the purge the blobs still hold what was removed. No method returns it.

    Parameters
    ----------
    blobs : Blobs
    cells : iterable of Cell
        A shard and slice without one has no records.
    schema : Schema
    n_shards, n_slices : int
        Cells of later slices are of records that arrived later.
    pending : collection of bytes
        The addresses that were removed and that stale cells still hold.
    """

    def __init__(
        self,
        blobs: Blobs,
        cells: Iterable[Cell],
        schema: Schema,
        n_shards: int,
        n_slices: int,
        *,
        pending: Collection[bytes] = frozenset(),
    ) -> None:
        self._blobs = blobs
        self._cells = {(cell.shard, cell.slice): cell for cell in cells}
        self._schema = schema
        self._n_shards = n_shards
        self._n_slices = max([n_slices, *(r + 1 for _, r in self._cells)])
        self._pending = frozenset(pending)
        # Requests that are carried out together look at the same cells again and again.
        self._looked_at: dict[tuple[int, int], tuple[Cell, ShardRecords]] = {}

    @property
    def n_shards(self) -> int:
        """The number of shards."""
        return self._n_shards

    @property
    def n_slices(self) -> int:
        """The number of slices of each shard, those that arrived later included."""
        return self._n_slices

    @property
    def n_records(self) -> int:
        """All records, whatever their weight."""
        return sum(cell.n_records for cell in self._cells.values())

    @property
    def cells(self) -> dict[tuple[int, int], Cell]:
        """What the ledger is to know of each cell, by shard and slice."""
        return dict(self._cells)

    @property
    def pending(self) -> frozenset[bytes]:
        """The addresses that were removed and that stale cells still hold."""
        return self._pending

    def shard(self, shard: int) -> ShardRecords:
        """The records of one shard, all of them read.

        Raises
        ------
        StateError
            If a blob is missing or damaged.
        """
        return join_cells([self._read(cell) for cell in self._of(shard)], self._schema)

    def facts(self, shard: int) -> tuple[SliceFacts, ...]:
        """What the plan needs to know of each slice of a shard."""
        found = {cell.slice: SliceFacts(cell.n, cell.digest, frozenset(cell.classes)) for cell in self._of(shard)}
        none = no_records(self._schema).facts_between(0, 0, classification=self._schema.classes is not None)
        return tuple(found.get(r, none) for r in range(self._n_slices))

    def targets(self, shard: int) -> tuple[AnyArray, FloatArray | None]:
        """Targets and weights of a shard's rows of positive weight."""
        cells = [active_targets(self._rows(cell)) for cell in self._of(shard)]
        if not cells:
            return active_targets(no_records(self._schema))
        weights = [weight for _, weight in cells if weight is not None]
        return np.concatenate([y for y, _ in cells]), np.concatenate(weights) if weights else None

    def addresses(self, shard: int) -> set[bytes]:
        """The addresses of all records of a shard."""
        found: set[bytes] = set()
        for cell in self._of(shard):
            rows = self._rows(cell)
            found |= rows.keys(np.ones(len(rows), dtype=bool))
        return found

    def places(self, addresses: Collection[bytes], shards: Iterable[int]) -> dict[bytes, list[Place]]:
        """The cells of these shards that hold records of each of these addresses, in order of slices, then shards."""
        return places_of(((s, self._rows(cell)) for s in shards for cell in self._of(s)), addresses)

    def found(self, addresses: Collection[bytes], shards: Iterable[int]) -> set[bytes]:
        """Those of these addresses that have records in these shards."""
        wanted = set(addresses)
        found: set[bytes] = set()
        for shard in set(shards):
            for cell in self._of(shard):
                rows = self._rows(cell)
                found |= rows.keys(rows.matching(wanted))
        return found

    def without(self, addresses: Collection[bytes], shards: Iterable[int]) -> tuple[StoredRecords, Removed]:
        """The records but for those at these addresses in these shards, and what that took out.

        The cells that had some become stale: `rewritten` gives their new parts.
        """
        wanted = set(addresses)
        changed: list[Cell] = []
        first: dict[int, int] = {}
        gone: set[bytes] = set()
        for cell in [cell for shard in sorted(set(shards)) for cell in self._of(shard)]:
            rows = self._rows(cell)
            matching = rows.matching(wanted)
            if matching.any():
                gone |= rows.keys(matching)
                rest = rows.without(matching)
                changed.append(self._stale(cell, rest))
                self._remember(changed[-1], rest)
                if first_slice(rows, matching) is not None:
                    first.setdefault(cell.shard, cell.slice)
        left = self._with(changed, self._pending | gone)
        touched = frozenset(cell.shard for cell in changed)
        return left, Removed(self.n_records - left.n_records, first, touched)

    def support(self) -> Support:
        """The categories and class labels that some record has; of stale cells, the categories that any had."""
        return joined(
            {number: frozenset(codes) for number, codes in cell.support}
            for cell in self._cells.values()
            if cell.n_records
        )

    def unsupported(self, schema: Schema) -> tuple[str, ...]:
        """Categories and class labels of the schema that no record has any more, to read."""
        return missing_entries(self.support(), schema)

    def cell(self, shard: int, slice: int) -> ShardRecords:  # noqa: A002 - the word of the field
        """The records of one cell, all of them read.

        Raises
        ------
        StateError
            If a blob is missing or damaged.
        """
        cell = self._cells.get((shard, slice))
        return self._read(cell) if cell is not None and cell.n_records else no_records(self._schema)

    def rewritten(self) -> Iterator[tuple[Cell, dict[str, bytes]]]:
        """Each stale cell as it should be, with its new parts: the caller fills in the names of their blobs.

        Raises
        ------
        StateError
            If the rows that remain are not those that the cell promises.
        """
        for place in sorted(self._cells):
            cell = self._cells[place]
            if cell.stale:
                records = self._read(cell) if cell.n_records else no_records(self._schema)
                yield describe(cell.shard, cell.slice, records, self._schema), pack_cell(records, self._schema)

    def with_cells(self, cells: Iterable[Cell]) -> StoredRecords:
        """The records with these cells, which were written anew, in place of those of the same places."""
        return self._with(cells, self._pending)

    def moved(self, cells: Iterable[Cell], pending: Collection[bytes]) -> StoredRecords:
        """The records as a ledger describes them that has changed meanwhile."""
        return StoredRecords(self._blobs, cells, self._schema, self._n_shards, self._n_slices, pending=pending)

    def _with(self, changed: Iterable[Cell], pending: frozenset[bytes]) -> StoredRecords:
        cells = {**self._cells, **{(cell.shard, cell.slice): cell for cell in changed}}
        left = StoredRecords(self._blobs, cells.values(), self._schema, self._n_shards, self._n_slices, pending=pending)
        left._looked_at = self._looked_at
        return left

    def _of(self, shard: int) -> list[Cell]:
        """The cells of a shard that have records, by slice."""
        places = [(shard, r) for r in range(self._n_slices)]
        return [self._cells[place] for place in places if place in self._cells and self._cells[place].n_records]

    def _stale(self, cell: Cell, left: ShardRecords) -> Cell:
        """The cell with the facts of the rows that are left of it; of the features no new facts are known yet."""
        now = describe(cell.shard, cell.slice, left, self._schema)
        features = [entry for entry in cell.support if entry[0] != CLASSES]
        return replace(now, parts=cell.parts, support=tuple(sorted([*features, *now.support])), stale=True)

    def _rows(self, cell: Cell) -> ShardRecords:
        """The records of a cell that were not removed, without their features."""
        known, rows = self._looked_at.get((cell.shard, cell.slice), (None, None))
        if rows is None or known != cell:
            rows = self._left(cell, unpack_rows(self._blobs.get(_names(cell)[ROWS]), self._schema))
            self._remember(cell, rows)
        return rows

    def _remember(self, cell: Cell, rows: ShardRecords) -> None:
        if sum(len(r) for _, r in self._looked_at.values()) > _MAX_REMEMBERED:
            self._looked_at.clear()
        self._looked_at[cell.shard, cell.slice] = (cell, rows)

    def _read(self, cell: Cell) -> ShardRecords:
        parts = {name: self._blobs.get(blob) for name, blob in _names(cell).items() if name != MANIFEST}
        return self._left(cell, unpack_cell(parts, self._schema))

    def _left(self, cell: Cell, records: ShardRecords) -> ShardRecords:
        """The records that were not removed: exactly those that the cell promises."""
        if cell.stale:
            records = records.without(records.matching(set(self._pending)))
        facts = records.facts_between(0, records.n_active, classification=self._schema.classes is not None)
        found = (len(records), facts.n, facts.digest, facts.classes)
        promised = (cell.n_records, cell.n, cell.digest, frozenset(cell.classes))
        if found != promised or (records.slice != cell.slice).any():
            raise broken(f"shard {cell.shard}, slice {cell.slice} does not hold the records that the ledger knows")
        return records


def _names(cell: Cell) -> dict[str, str]:
    names = dict(cell.parts)
    if ROWS not in names:
        raise broken(f"the ledger knows no blob with the rows of shard {cell.shard}, slice {cell.slice}")
    return names


def describe(shard: int, slice: int, records: ShardRecords, schema: Schema) -> Cell:  # noqa: A002 - the word of the field
    """What the ledger is to know of a cell of these records, but for the names of its blobs."""
    classification = schema.classes is not None
    facts = records.facts_between(0, records.n_active, classification=classification)
    support = support_of(records, classification=classification)
    return Cell(
        shard=shard,
        slice=slice,
        n=facts.n,
        n_records=len(records),
        digest=facts.digest,
        classes=tuple(sorted(facts.classes)),
        support=tuple((number, tuple(sorted(codes))) for number, codes in sorted(support.items())),
    )


def pack_records(records: Records, schema: Schema) -> Iterator[tuple[Cell, dict[str, bytes]]]:
    """Every cell of records in memory with its parts, one at a time; a cell without records has none.

    The caller stores the parts and fills in the names of their blobs.
    """
    for shard in range(records.n_shards):
        rows = records.shard(shard)
        for r in range(records.n_slices):
            mine = np.flatnonzero(rows.slice == r)
            cell = rows.take(mine, int((mine < rows.n_active).sum()))
            yield describe(shard, r, cell, schema), pack_cell(cell, schema)
