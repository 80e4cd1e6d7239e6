"""Healing: what can be made again of a damaged store is made again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unlearnkit import inspection, surroundings
from unlearnkit.cells import no_records
from unlearnkit.config import Blueprint
from unlearnkit.data import ShardRecords
from unlearnkit.errors import StateError, StoreError
from unlearnkit.files import sweep_temporary, translated
from unlearnkit.findings import Finding
from unlearnkit.folder import DirectoryBlobs
from unlearnkit.ingest import ingest
from unlearnkit.inspection import damaged, plan_of
from unlearnkit.keys import PUBLIC_FILE, Keys
from unlearnkit.ledger import Cell, Change
from unlearnkit.loading import takes_all
from unlearnkit.plan import Plan
from unlearnkit.records import Place
from unlearnkit.recovery import recover
from unlearnkit.restoring import Packed, Restorer
from unlearnkit.sealed import META
from unlearnkit.signing import key_id
from unlearnkit.sql import SqlLedger
from unlearnkit.store import TRAINING, Store

_OWNER_ONLY = 0o600
# States whose rows are lost are trained again.
_DUE = {TRAINING: True}


@dataclass(frozen=True, slots=True)
class Data:
    """The caller's records, as given to ``fit``.

    Attributes
    ----------
    X, y, sample_weight, ids
        Rows of ids that were forgotten since are left out, whether or not they are among them.
    """

    X: Any
    y: Any
    sample_weight: Any = None
    ids: Any = None


class Healer:
    """One healing of a store, under its writer's lock.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._given: Mapping[Place, ShardRecords] = {}

    def heal(self, findings: Iterable[Finding], data: Data | None) -> None:
        """Put right what can be put right.

        Parameters
        ----------
        findings : iterable of Finding
            What is wrong.
        data : Data or None
            The original records.

        Raises
        ------
        DataError
            If the data cannot be used. Nothing was changed.
        """
        store = self._store
        blueprint = inspection.blueprint_of(store, or_none=True)
        if blueprint is not None and data is not None:
            self._given = _by_place(data, blueprint)
        self._tidy()
        lost = [finding for finding in findings if finding.kind == "secret" and finding.place != PUBLIC_FILE]
        # With a wrong secret everything would look foreign.
        if blueprint is None or lost or list(surroundings.secrets(store)):
            return
        try:
            self._blueprint = blueprint
            self._heal_facts()
            self._restorer = Restorer(store, blueprint)
            self._heal_ledger()
            self._heal_blobs()
        except StateError:
            # What nobody can make again is damaged. It was left as it was, and the next check finds it again.
            return

    def _tidy(self) -> None:
        store = self._store
        for path in surroundings.loose(store):
            with translated("protect", path):
                path.chmod(_OWNER_ONLY)
        if isinstance(store.blobs, DirectoryBlobs):
            store.blobs.sweep()
        if store.ledger_file is not None:
            sweep_temporary(store.ledger_file.parent)
        if isinstance(store.secrets, Keys):
            store.secrets.sweep()
            self._publish(store.secrets)

    def _publish(self, keys: Keys) -> None:
        """Make ``signing.pub`` again, if the signing key is the one that signed last, so is not what was changed."""
        try:
            own, envelopes = key_id(keys.signing_key.public_key()), self._store.ledger.statements()
        except (StateError, StoreError):
            return
        if not envelopes or _names(envelopes[-1], own):
            keys.publish_again(lambda name: any(_names(envelope, name) for envelope in envelopes))

    # -- ledger --------------------------------------------------------------------------------------------------

    def _heal_facts(self) -> None:
        """Count the rows of the ledger again, where the count is damaged and no cell is missing."""
        ledger = self._store.ledger
        if isinstance(ledger, SqlLedger) and META in ledger.check():
            config, known = self._blueprint.config, ledger.remains().cells
            if len(known) == config.n_shards * _n_slices(config.n_slices, known):
                ledger.discard_damaged(_DUE)

    def _heal_ledger(self) -> None:
        """Derive plan and cells again, where rows of them are damaged."""
        store, ledger = self._store, self._store.ledger
        wrong = ledger.check() if isinstance(ledger, SqlLedger) else []
        if not isinstance(ledger, SqlLedger) or not wrong:
            return
        remains = ledger.remains()
        known = {(cell.shard, cell.slice) for cell in remains.cells}
        config = self._blueprint.config
        stored = (place for place, _ in self._restorer.manifests(store.blobs.names()))
        slices = range(max([_n_slices(config.n_slices, remains.cells), *(r + 1 for _, r in stored)]))
        places = [(s, r) for s in range(config.n_shards) for r in slices]
        derived = [self._derived(place) for place in places if place not in known]
        keys = plan_of(self._blueprint, [*remains.cells, *(cell for cell, _ in derived)], store.blobs).keys
        if derived and not remains.agree(keys):
            raise StateError("What is left of the ledger does not fit the data; nothing was changed.")
        # Only now: a cell that is dropped without another in its place would not be missed.
        ledger.discard_damaged(_DUE)
        cells = store.put_cells((cell, parts) for cell, parts in derived if parts)
        cells += tuple(cell for cell, parts in derived if not parts)
        store.apply(Change(keys=keys, cells=cells))
        present = ledger.checkpoints()
        for checkpoint in remains.checkpoints:
            if checkpoint.key in keys and checkpoint.key not in present and store.is_whole(checkpoint):
                ledger.commit(checkpoint)

    def _derived(self, place: Place) -> tuple[Cell, dict[str, bytes]]:
        """The cell of a place that the ledger has lost, and its parts if they have to be written.

        Raises
        ------
        StateError
            If blobs of several such cells are there.
        """
        names = list(self._store.blobs.names())
        found: dict[str, tuple[Cell, dict[str, bytes]]] = {}
        for other, parts in self._restorer.manifests(names):
            records = self._restorer.records(parts) if other == place else None
            if records is not None:
                cell, packed = self._as_stored(place, records, parts)
                # Before and after a purge the same records remain: what has no forgotten rows in it is preferred.
                if cell.digest not in found or not packed:
                    found[cell.digest] = cell, packed
        if len(found) > 1:
            raise StateError(f"Several cells of shard {place[0]}, slice {place[1]} are stored; nothing was changed.")
        return next(iter(found.values()), None) or self._from_data(place)

    def _as_stored(self, place: Place, records: ShardRecords, parts: dict[str, str]) -> tuple[Cell, dict[str, bytes]]:
        own = self._blueprint.records(self._store.blobs)
        rest = self._restorer.without_forgotten(records)
        whole = replace(own.describe(*place, records), parts=tuple(sorted(parts.items())))
        if len(rest) == len(records):
            return whole, {}
        pending = self._restorer.matching(records, (), self._restorer.pending)
        if len(rest) < len(records) - pending.sum() or not pending.any():
            return own.packed(*place, rest)
        left, _ = own.moved([whole], ()).without(self._restorer.pending, [place[0]])
        return left.cells[place], {}

    def _from_data(self, place: Place) -> tuple[Cell, dict[str, bytes]]:
        """The cell as the caller's records have it; without them, one that was empty, as far as the blobs say."""
        given = self._given.get(place)
        rest = no_records(self._blueprint.schema) if given is None else self._restorer.without_forgotten(given)
        return self._blueprint.records(self._store.blobs).packed(*place, rest)

    # -- blobs ---------------------------------------------------------------------------------------------------

    def _heal_blobs(self) -> None:
        """Bring damaged cells back, and drop damaged states: then they are missing, and are trained again."""
        store, ledger = self._store, self._store.ledger
        cells = ledger.cells()
        names = {name for cell in cells for _, name in cell.parts}
        bad = damaged(store.blobs, ledger.references() & set(store.blobs.names()))
        lost = self._lost(cells, bad)
        filled = self._restorer.from_blobs(lost)
        for cell in lost:
            place = (cell.shard, cell.slice)
            given = self._given.get(place)
            if place not in filled and given is not None:
                packed = self._restorer.fitting(cell, given)
                filled |= {} if packed is None else {place: packed}
        self._keep(filled.values(), bad)
        if len(filled) < len(lost):
            # Nothing is swept that might yet bring the others back.
            return
        store.blobs.delete(bad - names)
        plan = plan_of(self._blueprint, ledger.cells(), store.blobs)
        self._drop_foreign(plan)
        recover(store, plan.keys)

    def _lost(self, cells: Iterable[Cell], bad: set[str]) -> list[Cell]:
        store, present = self._store, set(self._store.blobs.names())
        places = {finding.place for finding in inspection.holders(cells, {}, present, bad)}
        wrong = inspection.records(self._blueprint, store, places)
        places |= {finding.place for finding in wrong if finding.kind == "cell"}
        return [cell for cell in cells if inspection.place_of(cell) in places]

    def _keep(self, filled: Iterable[Packed], bad: set[str]) -> None:
        packed = list(filled)
        self._store.blobs.delete(bad & {name for cell, _ in packed for _, name in cell.parts})
        self._restorer.keep(packed)

    def _drop_foreign(self, plan: Plan) -> None:
        """Drop states that are of no step of the plan, whatever their keys say."""
        steps = {step.key: (step.shard, step.slice, step.parent) for step in plan}
        stored = self._store.ledger.checkpoints()
        found = {key: (c.shard, c.slice, c.parent) for key, c in stored.items() if key != plan.base}
        foreign = {key for key, place in found.items() if steps.get(key) != place}
        if foreign:
            self._store.apply(Change(keys=plan.keys - foreign, notes={TRAINING: True}))


def _n_slices(n_slices: int, cells: Iterable[Cell]) -> int:
    """The slices of each shard: those of the partition, and those that arrived later."""
    return max([n_slices, *(cell.slice + 1 for cell in cells)])


def _names(envelope: str, key: str) -> bool:
    """Whether an envelope says that this key has signed it."""
    return f'"keyid":"{key}"' in envelope


def _by_place(data: Data, blueprint: Blueprint) -> dict[Place, ShardRecords]:
    """The caller's records by shard and slice."""
    schema, config = blueprint.schema, blueprint.config
    # Whether they are the same is seen by their digests.
    found = ingest(
        data.X,
        data.y,
        data.sample_weight,
        data.ids,
        schema=schema,
        partition=blueprint.partition,
        capabilities=takes_all(schema),
        name=config.name,
    )
    places: dict[Place, ShardRecords] = {}
    for shard, records in enumerate(found.records):
        for r in range(config.n_slices):
            mine = np.flatnonzero(records.slice == r)
            places[shard, r] = records.take(mine, int((mine < records.n_active).sum()))
    return places
