"""Records in blobs: read when needed, a cell at a time, and rewritten without what was removed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Self

import numpy as np

from unlearnkit.blobs import Blobs, MemoryBlobs, get_parts
from unlearnkit.blocks import broken
from unlearnkit.cells import (
    MANIFEST,
    ROWS,
    join_cells,
    no_records,
    pack_cell,
    unpack_cell,
    unpack_rows,
    without_features,
)
from unlearnkit.data import ShardRecords, SliceFacts, Sought
from unlearnkit.ledger import Cell
from unlearnkit.memory import give_back
from unlearnkit.records import (
    CLASSES,
    Place,
    Records,
    Removed,
    Support,
    active_targets,
    counts_of,
    first_slice,
    joined,
    missing_entries,
    places_of,
    support_of,
)
from unlearnkit.schema import Schema
from unlearnkit.typing import AnyArray, BoolArray, FloatArray

_MAX_REMEMBERED = 50_000
"""Records whose addresses and targets, some ninety bytes each, may stay in memory."""
_NO_FACTS = SliceFacts(0, hashlib.sha256().hexdigest(), frozenset())


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
        self._supports: dict[int, Support] = {}
        # Whoever looks for records takes most of them out then.
        self._last_match: tuple[frozenset[bytes], dict[Place, BoolArray]] | None = None

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

    @cached_property
    def _gone(self) -> Sought:
        return Sought.of(self._pending)

    def shard(self, shard: int) -> ShardRecords:
        """The records of one shard, all of them read.

        Raises
        ------
        StateError
            If a blob is missing or damaged.
        """
        cells = self._of(shard)
        return join_cells(map(self._read, cells), self._schema, sum(cell.n_records for cell in cells))

    def ready(self, shard: int) -> Callable[[], ShardRecords]:
        """The records of one shard to train on, which the call gives whatever is purged meanwhile."""
        cells = self._of(shard)
        n = sum(cell.n_records for cell in cells)
        # What is not trained on is almost as much as the rows.
        found = join_cells((self._read(cell).to_train() for cell in cells), self._schema, n)
        # What reading took, almost as much again, would add to what training takes.
        give_back(n)
        return lambda: found

    def rows(self, shard: int) -> ShardRecords:
        """The records of one shard without their features: X has no columns."""
        return join_cells([self._rows(cell) for cell in self._of(shard)], without_features(self._schema))

    def facts(self, shard: int) -> tuple[SliceFacts, ...]:
        """What the plan needs to know of each slice of a shard."""
        found = {cell.slice: SliceFacts(cell.n, cell.digest, frozenset(cell.classes)) for cell in self._of(shard)}
        return tuple(found.get(r, _NO_FACTS) for r in range(self._n_slices))

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
        matching = self._matching(addresses, shards)
        return set[bytes]().union(*(self._rows(cell).keys(rows) for cell, rows in matching if rows.any()))

    def _matching(self, addresses: Collection[bytes], shards: Iterable[int]) -> list[tuple[Cell, BoolArray]]:
        """Which records of each cell of these shards are at these addresses."""
        wanted, cells = frozenset(addresses), [cell for shard in sorted(set(shards)) for cell in self._of(shard)]
        last = self._last_match
        if last is None or last[0] != wanted:
            self._last_match = last = wanted, {}
        known, sought = last[1], None
        for cell in cells:
            if (cell.shard, cell.slice) not in known:
                sought = sought or Sought.of(wanted)
                known[cell.shard, cell.slice] = self._rows(cell).matching(sought)
        return [(cell, known[cell.shard, cell.slice]) for cell in cells]

    def without(self, addresses: Collection[bytes], shards: Iterable[int]) -> tuple[Self, Removed]:
        """The records but for those at these addresses in these shards, and what that took out.

        The cells that had some become stale: `rewritten` gives their new parts.
        """
        changed: list[Cell] = []
        first: dict[int, int] = {}
        gone: set[bytes] = set()
        for cell, matching in self._matching(addresses, shards):
            if matching.any():
                rows = self._rows(cell)
                gone |= rows.keys(matching)
                rest = rows.without(matching)
                changed.append(self._stale(cell, rest))
                self._remember(changed[-1], rest)
                if first_slice(rows, matching) is not None:
                    first.setdefault(cell.shard, cell.slice)
        left = self._with(changed, self._pending | gone)
        return left, Removed(self.n_records - left.n_records, first, frozenset(gone))

    def support(self) -> Support:
        """The categories and class labels that some record has; of stale cells, the categories that any had."""
        for shard in range(self._n_shards):
            if shard not in self._supports:
                self._supports[shard] = joined(
                    {number: frozenset(codes) for number, codes in cell.support} for cell in self._of(shard)
                )
        return joined(self._supports.values())

    def unsupported(self, schema: Schema) -> tuple[str, ...]:
        """Categories and class labels of the schema that no record has any more, to read."""
        return missing_entries(self.support(), schema)

    def cell(self, shard: int, slice: int) -> ShardRecords:  # noqa: A002 - the word of the field
        """All that is stored of the records of one cell.

        Raises
        ------
        StateError
            If a blob is missing or damaged.
        """
        cell = self._cells.get((shard, slice))
        return self._stored(cell) if cell is not None and cell.n_records else self._no_records()

    def rewritten(self) -> Iterator[tuple[Cell, dict[str, bytes]]]:
        """Each stale cell as it should be, with its new parts: the caller fills in the names of their blobs.

        Raises
        ------
        StateError
            If the rows that remain are not those that the cell promises.
        """
        for place in sorted(self._cells):
            if self._cells[place].stale:
                yield self.packed(*place, self.cell(*place))

    def copies(self) -> Iterator[tuple[Cell, dict[str, bytes]]]:
        """Each cell with its parts as they are, for blobs elsewhere."""
        for place in sorted(self._cells):
            cell = self._cells[place]
            yield replace(cell, parts=()), {n: self._blobs.get(blob) for n, blob in cell.parts if n != MANIFEST}

    def with_cells(self, cells: Iterable[Cell]) -> Self:
        """The records with these cells, which were written anew, in place of those of the same places."""
        return self._with(cells, self._pending)

    def moved(self, cells: Iterable[Cell], pending: Collection[bytes]) -> Self:
        """The records as a ledger describes them that has changed meanwhile."""
        moved = type(self)(self._blobs, cells, self._schema, self._n_shards, self._n_slices, pending=pending)
        return self._hand_on(moved)

    # -- how a cell is stored ------------------------------------------------------------------------------------

    def describe(self, shard: int, slice: int, records: ShardRecords) -> Cell:  # noqa: A002 - the word of the field
        """What the ledger is to know of a cell of these records, but for the names of its blobs."""
        return describe(shard, slice, records, self._schema)

    def packed(self, shard: int, slice: int, records: ShardRecords) -> tuple[Cell, dict[str, bytes]]:  # noqa: A002
        """A cell of these records, and its parts."""
        return self.describe(shard, slice, records), pack_cell(records, self._schema)

    def unpacked(self, parts: Mapping[str, bytes]) -> ShardRecords:
        """What is stored of the records whose parts these are.

        Raises
        ------
        StateError
            If they are not the parts of a cell.
        """
        return unpack_cell(parts, self._schema)

    def keeping(self, records: Records) -> Iterator[tuple[Cell, dict[str, bytes]]]:
        """Every cell of other records as it is stored here, one at a time; a cell without records has no parts."""
        for shard in range(records.n_shards):
            yield from self.cells_of(shard, records.shard(shard), records.n_slices)

    def cells_of(self, shard: int, records: ShardRecords, n_slices: int) -> Iterator[tuple[Cell, dict[str, bytes]]]:
        """Every cell of the records of a shard as it is stored here; a cell without records has no parts."""
        for r in range(n_slices):
            yield self.packed(shard, r, records.of_slice(r))

    def _unpacked_rows(self, part: bytes) -> ShardRecords:
        return unpack_rows(part, self._schema)

    def _no_records(self) -> ShardRecords:
        return no_records(self._schema)

    def _stored(self, cell: Cell) -> ShardRecords:
        return self._read(cell)

    # -- cells ---------------------------------------------------------------------------------------------------

    def _with(self, changed: Iterable[Cell], pending: frozenset[bytes]) -> Self:
        cells = self._cells | {(cell.shard, cell.slice): cell for cell in changed}
        left = self.moved(cells.values(), pending)
        left._looked_at = self._looked_at  # noqa: SLF001 - its own
        return left

    def _hand_on(self, other: Self) -> Self:
        """The other records with what is known here of shards whose cells they have as well."""
        cells = other._cells
        changed = {place[0] for place in cells.keys() ^ self._cells.keys()}
        changed |= {place[0] for place, cell in cells.items() if self._cells.get(place) is not cell}
        other._supports = {s: found for s, found in self._supports.items() if s not in changed}
        return other

    def _of(self, shard: int) -> list[Cell]:
        """The cells of a shard that have records, by slice."""
        places = [(shard, r) for r in range(self._n_slices)]
        return [self._cells[place] for place in places if place in self._cells and self._cells[place].n_records]

    def _stale(self, cell: Cell, left: ShardRecords) -> Cell:
        """The cell with the facts of the rows that are left of it; of the features no new facts are known yet."""
        now = self.describe(cell.shard, cell.slice, left)
        features = [entry for entry in cell.support if entry[0] != CLASSES]
        return replace(now, parts=cell.parts, support=tuple(sorted([*features, *now.support])), stale=True)

    def _rows(self, cell: Cell) -> ShardRecords:
        """The records of a cell that were not removed, without their features."""
        known, rows = self._looked_at.get((cell.shard, cell.slice), (None, None))
        if rows is None or known != cell:
            rows = self._left(cell, self._unpacked_rows(self._blobs.get(_names(cell)[ROWS])))
            self._remember(cell, rows)
        return rows

    def _remember(self, cell: Cell, rows: ShardRecords) -> None:
        place = (cell.shard, cell.slice)
        self._looked_at.pop(place, None)
        size = len(rows) + sum(len(r) for _, r in self._looked_at.values())
        # The oldest go first; those of one shard always stay, whatever its size.
        for other in [other for other in self._looked_at if other[0] != cell.shard]:
            if size <= _MAX_REMEMBERED:
                break
            size -= len(self._looked_at.pop(other)[1])
        self._looked_at[place] = (cell, rows)

    def _read(self, cell: Cell) -> ShardRecords:
        parts = get_parts(self._blobs, ((n, blob) for n, blob in _names(cell).items() if n != MANIFEST))
        return self._left(cell, self.unpacked(parts))

    def _left(self, cell: Cell, records: ShardRecords) -> ShardRecords:
        """The records that were not removed: exactly those that the cell promises."""
        if cell.stale:
            records = records.without(records.matching(self._gone))
        facts = records.facts_of(np.s_[: records.n_active], classification=self._schema.classes is not None)
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
    facts = records.facts_of(np.s_[: records.n_active], classification=classification)
    support = support_of(counts_of(records, classification=classification))
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
    return StoredRecords(MemoryBlobs(), (), schema, records.n_shards, records.n_slices).keeping(records)
