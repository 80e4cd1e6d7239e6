"""Editing: records that arrive, are put right, or go back to the slices that a fit would use. Nothing here trains.

Like erasure, all of it is a change of records and plan in one ledger transaction; what the new plan lacks is then
built. What is left of any history equals, to the last bit, the same history without the forgotten records.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from unlearnkit.build import Build
from unlearnkit.cells import bare, join_cells, no_records, without_features
from unlearnkit.config import Blueprint
from unlearnkit.data import ShardRecords, Sought, as_bytes, in_order
from unlearnkit.erasure import Eraser
from unlearnkit.errors import DataError, UnknownRecordError
from unlearnkit.external import ExternalRecords
from unlearnkit.founding import DROP, built_of, check_rule, forgotten_among
from unlearnkit.hashing import listed
from unlearnkit.ledger import ISOLATED, Cell, Change, Request
from unlearnkit.plan import plan_shard
from unlearnkit.records import MemoryRecords, Place, Records, Removed
from unlearnkit.refreshing import recoded, supported
from unlearnkit.schema import Schema
from unlearnkit.statements import RECTIFICATION
from unlearnkit.store import BUILT, POSITIONS, SETTINGS, TRAINING, UNTRAINABLE, Store
from unlearnkit.stored import StoredRecords, describe


@dataclass(frozen=True, slots=True)
class Edited:
    """A build with other records, and what a ledger has to be told of it.

    Attributes
    ----------
    build : Build
    change : Change
    come : mapping of int to tuple of ShardRecords
        The records that took the place of others, by the shards that they are in now.
    """

    build: Build
    change: Change
    come: Mapping[int, tuple[ShardRecords, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Editor:
    """Edits the records of the model of a store; only under its writer's lock.

    Attributes
    ----------
    store : Store
    blueprint : Blueprint
    """

    store: Store
    blueprint: Blueprint

    # -- arrive --------------------------------------------------------------------------------------------------

    def arrived(self, build: Build, new: tuple[ShardRecords, ...], forgotten: str) -> Edited | None:
        """The build with new records as the last slice of their shards; None if they are that slice already.

        They are if a call with the same records was cut short after it had kept them: then it goes on.

        Raises
        ------
        ForgottenRecordError
            If there are rows of forgotten ids, and `forgotten` is "raise".
        DataError
            If a handle was used before.
        """
        new, lifted = self._admitted(new, forgotten)
        schema, notes = self.blueprint.schema, self.store.ledger.notes()
        going_on = notes.get(TRAINING) and self._is_last(build.records, new)
        if going_on or not any(map(len, new)):
            return None
        if not schema.explicit_ids:
            self._refuse_used(build.records, new)
        place = build.records.n_slices
        edited, cells = self._with({(shard, place): records for shard, records in enumerate(new)}, build)
        notes = {
            POSITIONS: notes.get(POSITIONS, 0) + sum(map(len, new)),
            UNTRAINABLE: {s: why for s, why in notes.get(UNTRAINABLE, {}).items() if not len(new[int(s)])},
        }
        notes[TRAINING] = True
        return Edited(edited, Change(keys=edited.plan.keys, cells=cells, notes=notes, lifted=lifted))

    def _admitted(
        self, new: tuple[ShardRecords, ...], forgotten: str
    ) -> tuple[tuple[ShardRecords, ...], frozenset[str]]:
        """The records but for those to drop, and the tombstones to lift."""
        check_rule(forgotten)
        records = MemoryRecords(new, 1, classification=self.blueprint.schema.classes is not None)
        hits = forgotten_among(self.store, records, self.blueprint, forgotten)
        if hits and forgotten == DROP:
            left, _ = records.without(hits, range(records.n_shards))
            return tuple(map(left.shard, range(left.n_shards))), frozenset()
        return new, frozenset(name for names in hits.values() for name in names)

    def _is_last(self, records: Records, new: tuple[ShardRecords, ...]) -> bool:
        last, schema = records.n_slices - 1, self.blueprint.schema
        if last < self.blueprint.config.n_slices:
            return False
        known = [describe(shard, last, records.cell(shard, last), schema) for shard in range(records.n_shards)]
        own = [describe(shard, last, rows, schema) for shard, rows in enumerate(new)]
        return [(c.n_records, c.digest) for c in known] == [(c.n_records, c.digest) for c in own]

    def _refuse_used(self, records: Records, new: tuple[ShardRecords, ...]) -> None:
        shards = range(records.n_shards)
        fresh = MemoryRecords(new, 1, classification=self.blueprint.schema.classes is not None)
        own = set().union(*map(fresh.addresses, shards))
        used = len(records.found(own, shards)) + len(Eraser(self.store, self.blueprint).forgotten_among(own))
        if used:
            raise DataError(
                f"{used} rows have an index label that names an earlier row of this model, so a request could not tell "
                "them apart; nothing was changed. Give the rows a new index, or fit with ids=."
            )

    # -- put right -----------------------------------------------------------------------------------------------

    def rectified(self, build: Build, new: tuple[ShardRecords, ...], n_ids: int) -> Edited:
        """The build in which all rows of some ids are the new ones, each where its id had its first row.

        Raises
        ------
        UnknownRecordError
            If an id has no record to replace.
        """
        eraser = Eraser(self.store, self.blueprint)
        fresh = MemoryRecords(new, 1, classification=self.blueprint.schema.classes is not None)
        addresses = sorted(set().union(*map(fresh.addresses, range(fresh.n_shards))))
        if not addresses:
            raise DataError("There are no rows to put in the place of others; nothing was changed.")
        bands = self.blueprint.partition.bands
        # Where they belong was read off a probability that the id does not tell.
        shards = range(build.records.n_shards) if bands is not None else _shards_of(new)
        places = build.records.places(addresses, shards)
        if len(places) < n_ids:
            gone = len(eraser.forgotten_among(set(addresses) - places.keys()))
            raise UnknownRecordError(
                f"{n_ids - len(places)} of {n_ids} ids have no record to replace ({gone} of them were forgotten); "
                "nothing was changed. Add records of new ids with partial_fit."
            )
        _, removed = build.records.without(addresses, shards)
        come = _by_place(new, {address: cells[0] for address, cells in places.items()})
        touched = {place for cells in places.values() for place in cells}
        changed = {place: self._replaced(build.records, place, addresses, come.get(place, ())) for place in touched}
        edited, cells = self._with(changed, build)
        active = [place for place, records in come.items() if any(part.n_active for part in records)]
        first = dict(removed.first)
        for shard, r in active:
            first[shard] = min(first.get(shard, r), r)
        removed = replace(removed, first=first)
        request = self._rectification(build, edited, cells, removed, addresses)
        untrainable = self.store.ledger.note(UNTRAINABLE, {})
        again = {shard for shard, _ in changed}
        notes = {UNTRAINABLE: {s: why for s, why in untrainable.items() if int(s) not in again}}
        change = Change(keys=edited.plan.keys, cells=cells, submitted=(request,), notes=notes)
        by_shard: dict[int, tuple[ShardRecords, ...]] = {}
        for (shard, _), records in come.items():
            by_shard[shard] = (*by_shard.get(shard, ()), *records)
        return Edited(edited, change, by_shard)

    def _replaced(
        self, records: Records, place: Place, gone: Collection[bytes], come: Iterable[ShardRecords]
    ) -> ShardRecords:
        cell = records.cell(*place)
        rest = cell.without(cell.matching(Sought.of(gone)))
        homes = dict(zip(listed(cell.rid), cell.home.tolist(), strict=True))
        # With bands the id alone does not tell where it belongs: its old rows do.
        come = [replace(c, home=np.array([homes[rid.tobytes()] for rid in c.rid], dtype=np.int64)) for c in come]
        schema = self.blueprint.schema
        if isinstance(records, ExternalRecords):
            # Of rows that are elsewhere there are no features to put beside the new ones.
            come, schema = list(map(bare, come)), without_features(schema)
        return _ordered([rest, *come], schema)

    def _rectification(
        self, build: Build, edited: Build, cells: tuple[Cell, ...], removed: Removed, addresses: list[bytes]
    ) -> Request:
        """The request that this is, isolated from the start: it has no records to look for."""
        stored, schema, eraser = self.store.checkpoints(), self.blueprint.schema, Eraser(self.store, self.blueprint)
        digest = eraser.digest(build.plan, stored)
        before = build.records.unsupported(schema)
        named = eraser.addresses.pseudonyms(addresses)
        old = {(c.shard, c.slice): c for c in self.store.ledger.cells()}
        request = self.store.request({}, kind=RECTIFICATION)
        facts = eraser.facts(build.plan, edited.plan, removed, stored, digest) | {
            "n_ids": len(addresses),
            "already_forgotten": 0,
            "skipped": [],
            "blocks_destroyed": sum(len(old[c.shard, c.slice].parts) for c in cells if (c.shard, c.slice) in old),
            "unsupported": [e for e in edited.records.unsupported(schema) if e not in before],
        }
        names = frozenset(own[0] for own in named)
        return replace(request, state=ISOLATED, pseudonyms=names, facts=request.facts | facts)

    # -- consolidate ---------------------------------------------------------------------------------------------

    def consolidated(self, build: Build, *, refresh_schema: bool) -> tuple[Editor, Edited]:
        """The build in which every record is in the slice where a fit would put it, and who edits it from then on.

        Nothing is written. The records are in memory.
        """
        shards = [build.records.shard(shard) for shard in range(build.records.n_shards)]
        blueprint = self.blueprint
        if refresh_schema:
            whole = MemoryRecords(shards, build.records.n_slices, classification=blueprint.schema.classes is not None)
            schema = supported(blueprint.schema, whole.support())
            context = replace(blueprint.context, schema_digest=schema.digest, n_classes=_n_classes(schema))
            shards = list(recoded(shards, blueprint.schema, schema, blueprint.partition))
            blueprint = replace(blueprint, schema=schema, context=context)
        homes = [in_order(replace(records, slice=records.home), np.arange(len(records))) for records in shards]
        records = MemoryRecords(homes, blueprint.config.n_slices, classification=blueprint.schema.classes is not None)
        notes = {SETTINGS: blueprint.settings()} if self.store.durable else {}
        edited = Build.of(blueprint.context, records)
        return Editor(self.store, blueprint), Edited(edited, Change(keys=edited.plan.keys, notes=notes))

    def has_still(self, old: Records, now: Records) -> bool:
        """Whether the records are what they were; `now` tells in memory, the ledger in a store."""
        if isinstance(old, StoredRecords):
            return {(cell.shard, cell.slice): cell for cell in self.store.ledger.cells()} == old.cells
        return now is old

    def written(self, edited: Edited, old: Records) -> Edited:
        """The same build with its records where they belong: in a store, in new cells in place of all old ones."""
        change = replace(edited.change, notes={**edited.change.notes, BUILT: built_of(edited.build.records)})
        records = edited.build.records
        if not isinstance(old, StoredRecords):
            return Edited(edited.build, change)
        places = [(shard, r) for r in range(old.n_slices) for shard in range(records.n_shards)]
        cells = self._put((place, self._packed(records, place)) for place in places)
        fresh = self.blueprint.records(self.store.blobs, cells)
        return Edited(Build(fresh, edited.build.plan), replace(change, cells=cells))

    def _packed(self, records: Records, place: Place) -> ShardRecords:
        return records.cell(*place) if place[1] < records.n_slices else no_records(self.blueprint.schema)

    # -- cells ---------------------------------------------------------------------------------------------------

    def _with(self, changed: Mapping[Place, ShardRecords], build: Build) -> tuple[Build, tuple[Cell, ...]]:
        """The build with these records in place of those of the same cells, and what a ledger is to know of them."""
        old, context = build.records, self.blueprint.context
        cells: tuple[Cell, ...] = ()
        records: Records
        if isinstance(old, StoredRecords):
            cells = self._put(changed.items())
            records = old.with_cells(cells)
        else:
            assert isinstance(old, MemoryRecords)
            records = self._in_memory(changed, old)
        touched = {shard for shard, _ in changed}
        plan = build.plan.with_shards({s: plan_shard(context, s, records.facts(s)) for s in touched})
        return Build(records, plan), cells

    def _put(self, cells: Iterable[tuple[Place, ShardRecords]]) -> tuple[Cell, ...]:
        own = self.blueprint.records(self.store.blobs)
        return self.store.put_cells(own.packed(*place, rows) for place, rows in cells)

    def _in_memory(self, changed: Mapping[Place, ShardRecords], old: MemoryRecords) -> MemoryRecords:
        shards: dict[int, ShardRecords] = {}
        for (shard, r), rows in changed.items():
            known = shards[shard] if shard in shards else old.shard(shard)
            shards[shard] = _ordered([known.without(known.slice == r), rows], self.blueprint.schema)
        n_slices = max([old.n_slices, *(r + 1 for _, r in changed)])
        return old.with_shards(shards, n_slices)


def _ordered(cells: Sequence[ShardRecords], schema: Schema) -> ShardRecords:
    joined = join_cells(cells, schema)
    return in_order(joined, np.arange(len(joined)))


def _shards_of(new: tuple[ShardRecords, ...]) -> list[int]:
    return [shard for shard, records in enumerate(new) if len(records)]


def _n_classes(schema: Schema) -> int | None:
    return None if schema.classes is None else len(schema.classes)


def _by_place(new: tuple[ShardRecords, ...], places: Mapping[bytes, Place]) -> dict[Place, list[ShardRecords]]:
    """The new records by the place of the first old row of their id."""
    found: dict[Place, list[ShardRecords]] = {}
    for records in new:
        targets = np.array([places[rid.tobytes()] for rid in records.rid], dtype=np.int64).reshape(-1, 2)
        for target in np.unique(targets, axis=0):
            rows = np.flatnonzero((targets == target).all(axis=1))
            mine = records.take(rows, int((rows < records.n_active).sum()))
            place = (int(target[0]), int(target[1]))
            found.setdefault(place, []).append(replace(mine, slice=np.full(len(mine), place[1], dtype=np.int64)))
    return found


def alike(given: MemoryRecords, own: Records) -> MemoryRecords:
    """The given records in the slices where the model has the same ones.

    Who brings all records of a model with a history cannot know where they came to lie.
    """
    if own.n_slices == given.n_slices:
        return given
    shards = {shard: _placed_alike(given.shard(shard), own.rows(shard)) for shard in range(given.n_shards)}
    return given.with_shards(shards, own.n_slices)


def _placed_alike(given: ShardRecords, own: ShardRecords) -> ShardRecords:
    known: dict[bytes, list[int]] = {}
    for row, r in zip(_identities(own), own.slice.tolist(), strict=True):
        known.setdefault(row, []).append(r)
    # What the model does not have stays where a fit would put it, and is found to differ.
    slices = [known[row].pop(0) if known.get(row) else home for row, home in _homes(given)]
    return in_order(replace(given, slice=np.array(slices, dtype=np.int64)), np.arange(len(given)))


def _homes(records: ShardRecords) -> Iterable[tuple[bytes, int]]:
    return zip(_identities(records), records.home.tolist(), strict=True)


def _identities(records: ShardRecords) -> list[bytes]:
    weight = np.ones(len(records)) if records.weight is None else records.weight
    rows = np.concatenate([records.rid, records.content, as_bytes(weight)], axis=1)
    return listed(rows)
