"""Restoring: lost blocks of data come back from older ones, or from the caller's records, without what was forgotten.

A folder of blobs from an old backup beside the current ledger has blocks that the ledger does not know, and lacks
some that it does. Of the old ones only those rows are taken that the ledger still promises, before anything is
predicted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from unlearnkit.addresses import Addresses
from unlearnkit.blobs import Blobs
from unlearnkit.cells import MANIFEST, read_manifest
from unlearnkit.config import Blueprint
from unlearnkit.data import ShardRecords, content_hashes
from unlearnkit.errors import StateError
from unlearnkit.hashing import listed
from unlearnkit.ledger import ISOLATED, Cell, Change
from unlearnkit.records import Place
from unlearnkit.store import Store
from unlearnkit.typing import BoolArray

Packed: TypeAlias = tuple[Cell, dict[str, bytes]]
"""A cell of the ledger, and the parts that hold its rows."""


def restore(store: Store, blueprint: Blueprint) -> int:
    """Fill the cells whose blobs are missing from other blobs that are there; says how many there were.

    Only under the writer's lock, and before orphans are swept: they are what it has to go by.

    Raises
    ------
    StateError
        If a cell cannot be filled. Nothing was changed.
    """
    present = set(store.blobs.names())
    lost = [cell for cell in store.ledger.cells() if cell.n_records and not _names_of(cell) <= present]
    if not lost:
        return 0
    restorer = Restorer(store, blueprint)
    filled = restorer.from_blobs(lost)
    left = [cell for cell in lost if (cell.shard, cell.slice) not in filled]
    if left:
        where = ", ".join(f"shard {cell.shard} slice {cell.slice}" for cell in left[:10])
        raise StateError(
            f"The stored records of {len(left)} cells are missing ({where}), and no blob beside them holds these "
            "records as the ledger knows them. Nothing was changed. Bring the blobs back from a backup, or give the "
            "original records: unlearnkit fsck --repair --data"
        )
    restorer.keep(filled.values())
    return len(filled)


class Restorer:
    """What it takes to tell whether some rows, without the forgotten ones, are those that a cell promises.

    Parameters
    ----------
    store : Store
    blueprint : Blueprint
    """

    def __init__(self, store: Store, blueprint: Blueprint) -> None:
        self._store = store
        self._blueprint = blueprint
        self._own = blueprint.records(store.blobs)
        ledger, schema = store.ledger, blueprint.schema
        self._addresses = Addresses(blueprint.partition, store.secrets, schema.id_type, schema.explicit_ids)
        self._tombstones = frozenset(ledger.tombstones())
        # A tombstone that was lifted because its time was over leaves the rows forgotten all the same.
        ever = self._tombstones.union(*(request.pseudonyms for request in ledger.requests()))
        self._forgotten = (self._tombstones,) if ever == self._tombstones else (self._tombstones, ever)
        self.pending = frozenset(bytes.fromhex(a) for request in ledger.requests(ISOLATED) for a in request.items)

    def from_blobs(self, cells: Collection[Cell]) -> dict[Place, Packed]:
        """The cells, of these, that some whole blobs hold."""
        wanted = {(cell.shard, cell.slice): cell for cell in cells}
        filled: dict[Place, Packed] = {}
        store = self._store
        others = sorted(set(store.blobs.names()) - store.ledger.references())
        for place, parts in (*_own(cells), *self.manifests(others)):
            if place in wanted and place not in filled:
                records = self.records(parts)
                packed = None if records is None else self.fitting(wanted[place], records)
                if packed is not None:
                    filled[place] = packed
        return filled

    def manifests(self, names: Iterable[str]) -> Iterator[tuple[Place, dict[str, str]]]:
        """The places and parts of all cells whose manifests are among these blobs."""
        for name in names:
            data = _whole(self._store.blobs, name)
            manifest = None if data is None else read_manifest(data)
            if manifest is not None:
                shard, slice_, parts = manifest
                yield (shard, slice_), parts | {MANIFEST: name}

    def records(self, parts: Mapping[str, str]) -> ShardRecords | None:
        """The records in these blobs; None if one is missing or damaged, or they do not belong together."""
        schema, secret = self._blueprint.schema, self._blueprint.partition.secret
        found = {part: _whole(self._store.blobs, name) for part, name in parts.items() if part != MANIFEST}
        try:
            whole = {part: data for part, data in found.items() if data is not None}
            records = self._own.unpacked(whole) if len(whole) == len(found) else None
        except StateError:
            return None
        if records is None or not len(records):
            return None
        if self._blueprint.config.is_external:
            # There are no features to be compared with the digests.
            return records
        return records if (content_hashes(records.X, records.y, schema, secret) == records.content).all() else None

    def fitting(self, cell: Cell, records: ShardRecords) -> Packed | None:
        """The cell with these records, but for the forgotten ones, if those are what it promises; else None."""
        for forgotten in self._forgotten:
            rest = records.without(self.matching(records, forgotten, self.pending))
            found = self._own.describe(cell.shard, cell.slice, rest)
            # Of a stale cell the ledger does not know which categories it still has.
            support = cell.support if cell.stale else found.support
            if replace(found, parts=cell.parts, support=support, stale=cell.stale) == cell:
                return cell, self._own.packed(cell.shard, cell.slice, rest)[1]
        return None

    def without_forgotten(self, records: ShardRecords) -> ShardRecords:
        """The records but for those of tombstones."""
        return records.without(self.matching(records, self._tombstones))

    def matching(
        self, records: ShardRecords, pseudonyms: Collection[str], addresses: Collection[bytes] = ()
    ) -> BoolArray:
        """Which rows have one of these pseudonyms, under any key, or one of these addresses."""
        own = listed(records.rid if records.handle is None else records.handle)
        named = self._addresses.pseudonyms(own) if pseudonyms else [()] * len(own)
        pairs = zip(own, named, strict=True)
        found = [address in addresses or any(name in pseudonyms for name in names) for address, names in pairs]
        return np.array(found, dtype=bool)

    def keep(self, filled: Iterable[Packed]) -> None:
        """Put the blobs of cells in their places; the ledger changes only where they have other names than before."""
        packed = list(filled)
        cells = self._store.put_cells(packed)
        changed = tuple(new for new, (old, _) in zip(cells, packed, strict=True) if new != old)
        if changed:
            self._store.apply(Change(cells=changed))


def _names_of(cell: Cell) -> set[str]:
    return {name for _, name in cell.parts}


def _own(cells: Iterable[Cell]) -> Iterator[tuple[Place, dict[str, str]]]:
    """What the ledger knows: the manifest alone may be lost."""
    for cell in cells:
        yield (cell.shard, cell.slice), dict(cell.parts)


def _whole(blobs: Blobs, name: str) -> bytes | None:
    """The bytes of this name, if they are there and what it says."""
    try:
        return blobs.get(name)
    except StateError:
        return None
