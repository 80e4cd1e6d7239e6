"""Founding: what a fit finds in its store, and what it keeps there before it trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from unlearnkit.addresses import Addresses
from unlearnkit.aggregation import MEAN, Aggregation
from unlearnkit.attesting import naming, signed
from unlearnkit.bands import Bands
from unlearnkit.build import Build
from unlearnkit.config import Blueprint, Config, PackedBase
from unlearnkit.crowding import Census
from unlearnkit.errors import (
    DataWarning,
    ForgottenRecordError,
    KeyMissingError,
    ParameterError,
    SchemaError,
    StateError,
    StoreError,
    StoreInUseError,
)
from unlearnkit.external import STORED
from unlearnkit.given import GivenRows
from unlearnkit.keys import MemoryKeys
from unlearnkit.ledger import PURGED, REPAIRED, Cell, Change, Checkpoint, Request
from unlearnkit.plan import FORMAT, Context
from unlearnkit.records import MemoryRecords, Records
from unlearnkit.recovery import recover
from unlearnkit.schema import Schema
from unlearnkit.store import AUDIT, BUILT, ENVIRONMENT, POSITIONS, SETTINGS, TRAINING, UNTRAINABLE, Store
from unlearnkit.stored import StoredRecords

RAISE, DROP, READMIT = "raise", "drop", "readmit"


def bare_config(settings: Mapping[str, Any]) -> Config:
    """As much of the configuration as it takes to forget, where the learner is not at hand."""
    return Config(
        name=settings["name"],
        n_shards=settings["n_shards"],
        n_slices=settings["n_slices"],
        aggregation=Aggregation(MEAN, settings["aggregation"]),
        estimator=settings["estimator"],
    )


def stored_blueprint(store: Store, config: Config) -> Blueprint:
    """What the model of a store is built to.

    Raises
    ------
    StoreError
        If there is none, or another version of unlearnkit has made it.
    KeyMissingError
        If its partition secret is nowhere.
    """
    settings = store.settings()
    if settings["format"] != FORMAT:
        raise StoreError(
            f"The store is of format {settings['format']}, and this version of unlearnkit knows format {FORMAT}. "
            "Nothing was changed. Use the version that made it."
        )
    schema = Schema.from_json(settings["schema"])
    partition = store.partition(settings, schema.id_type if schema.explicit_ids else None)
    names = ("name", "n_shards", "n_slices", "when_isolated", "seed", "random_state")
    context = Context(**settings["context"])
    config = replace(
        config,
        **{name: settings[name] for name in names},
        schema=schema,
        partition=partition.option,
        checkpoint_every=context.checkpoint_every,
        data=settings.get("data", STORED),
    )
    return Blueprint(config, schema, partition, context)


class Founding:
    """A fit into a store, its first or one that goes on with it.

    Parameters
    ----------
    store : Store
    config : Config
    forgotten : {"raise", "drop", "readmit"}
        What to do about rows of ids that the store has forgotten.
    """

    def __init__(self, store: Store, config: Config, forgotten: str) -> None:
        check_rule(forgotten)
        self._store = store
        self._forgotten = forgotten
        self._used = store.durable and store.exists and store.ledger.note(SETTINGS) is not None
        self.config = config if not store.durable else self._with_secret(config)

    def _with_secret(self, config: Config) -> Config:
        """The configuration with the partition secret of the store, if it has one already."""
        try:
            secret = self._store.secrets.partition
        except KeyMissingError:
            if self._used:
                raise
            return config
        given = config.partition.bind(config.n_shards, config.n_slices, config.random_state).secret
        drawn = config.partition.secret is None and config.random_state is None
        if not drawn and given != secret:
            raise StoreInUseError(
                f"{self._store!r} has another partition secret than partition= or random_state= ask for; nothing was "
                "changed. Leave both out to go on with the secret of the store, or use another path."
            )
        return replace(config, partition=replace(config.partition, secret=secret))

    def known(self, fingerprint: str) -> Blueprint | None:
        """The blueprint of the model that is there, if it can be gone on with; None: this is the first fit.

        Raises
        ------
        StoreInUseError
            If another model is there.
        """
        if not self._used:
            return None
        given, known = self.config, stored_blueprint(self._store, self.config)
        pairs = {
            "the model or its parameters": (fingerprint, known.context.fingerprint),
            "n_shards": (given.n_shards, known.config.n_shards),
            "n_slices": (given.n_slices, known.config.n_slices),
            "aggregation": (given.aggregation.identity, self._store.settings()["aggregation"]),
            "partition": (_bands(given), known.partition.bands),
            "when_isolated": (given.when_isolated, known.config.when_isolated),
            "checkpoint_every": (given.checkpoint_every, known.config.checkpoint_every),
            "data": (given.data, known.config.data),
            "random_state": (
                known.config.seed if given.random_state is None else given.random_state,
                known.config.seed,
            ),
            "schema": (known.schema if given.schema is None else given.schema, known.schema),
        }
        differing = [name for name, (mine, stored) in pairs.items() if mine != stored]
        if differing:
            raise self._in_use(f"it differs in {', '.join(differing)}")
        # Left out at the next fit still means: as it was.
        mine = {"n_jobs": given.n_jobs, "verbose": given.verbose, "schema": given.schema, "base": given.base}
        self.config = replace(known.config, **mine)
        return known

    def _in_use(self, why: str) -> StoreInUseError:
        return StoreInUseError(
            f"{self._store!r} holds another model: {why}. Nothing was changed. A store is for one model and its life: "
            "use another path, or store=None while you search for parameters."
        )

    @contextmanager
    def kept(self, blueprint: Blueprint, records: MemoryRecords | GivenRows) -> Iterator[Build]:
        """The build to train, whose records are in the store from here on; nobody else trains there meanwhile.

        Parameters
        ----------
        blueprint : Blueprint
        records : MemoryRecords or GivenRows
            Rows as they were given, for the first fit into a store: each shard is put in order and written in its turn.

        Raises
        ------
        ForgottenRecordError
            If the data has rows of forgotten ids, and `forgotten` is "raise".
        StoreInUseError
            If the store holds other records, or another process is at work in it.
        """
        store = self._store
        if not store.durable:
            assert isinstance(records, MemoryRecords)
            build = Build.of(blueprint.context, records)
            known = self._base_checkpoint(blueprint)
            notes = {POSITIONS: records.n_records, BUILT: built_of(records)}
            cells = self._put(blueprint, records) if self.config.is_external else ()
            store.apply(Change(keys=build.plan.keys, cells=cells, checkpoints=known, notes=notes))
            yield Build(store.records(blueprint), build.plan) if cells else build
            return
        refuse_unwritable(blueprint.schema)
        store.create(blueprint.partition.secret)
        with store.locks.repairer(wait=False):
            with store.at_rest():
                if (store.ledger.note(SETTINGS) is not None) != self._used:
                    raise self._in_use("another process has just fitted it")
                if isinstance(records, MemoryRecords):
                    build = self._keep(blueprint, records)
                else:
                    build = self._first(blueprint, records)
            yield build

    def _first(self, blueprint: Blueprint, given: GivenRows) -> Build:
        """The first build of a store, whose rows go there a shard at a time."""
        store = self._store
        empty = blueprint.records(store.blobs)
        census = Census(blueprint.schema, given.n_shards * given.n_slices)
        cells: list[Cell] = []
        for shard, rows in enumerate(given):
            census.count(rows)
            cells += store.put_cells(empty.cells_of(shard, rows, given.n_slices))
        kept = empty.with_cells(cells)
        try:
            census.warn(map(kept.rows, range(given.n_shards)), stacklevel=7)
        except DataWarning:
            # Where warnings are errors. Nothing refers to the blobs yet.
            store.sweep()
            raise
        build = Build.of(blueprint.context, kept)
        self._commit(blueprint, build, tuple(cells), given.n_records)
        return build

    def _keep(self, blueprint: Blueprint, records: MemoryRecords) -> Build:
        store = self._store
        hits = forgotten_among(store, records, blueprint, self._forgotten)
        remaining, _ = records.without(hits, range(records.n_shards)) if hits else (records, None)
        if self._used:
            if not _same(store.ledger.cells(), remaining):
                raise self._in_use("its records are not those given (partial_fit adds some, rectify corrects them)")
            if not hits or self._forgotten == DROP:
                build = Build.of(blueprint.context, store.records(blueprint))
                # As an opening would: what the plan lacks would be trained, and dropped.
                recover(store, build.plan.keys)
                if build.plan.base is not None and build.plan.base not in store:
                    store.apply(Change(keys=build.plan.keys, checkpoints=self._base_checkpoint(blueprint)))
                return build
        kept = records if self._forgotten == READMIT else remaining
        cells = self._put(blueprint, kept)
        build = Build.of(blueprint.context, kept)
        self._commit(blueprint, build, cells, records.n_records, hits)
        # From here on the rows are read from the store, as they will be by every other process.
        return Build(store.records(blueprint), build.plan)

    def _commit(
        self,
        blueprint: Blueprint,
        build: Build,
        cells: tuple[Cell, ...],
        n_given: int,
        hits: Mapping[bytes, tuple[str, ...]] = MappingProxyType({}),
    ) -> None:
        """Make records whose cells are written those of the store."""
        store = self._store
        notes: dict[str, Any] = {} if self._used else {SETTINGS: blueprint.settings()} | store.policy_note
        notes |= {POSITIONS: n_given, BUILT: built_of(build.records)}
        # Not only once it begins: whoever opens the store after a crash in between has to train it.
        notes[TRAINING] = True
        lifted = frozenset(name for names in hits.values() for name in names)
        known = self._base_checkpoint(blueprint)
        store.apply(Change(keys=build.plan.keys, cells=cells, notes=notes, lifted=lifted, checkpoints=known))
        store.sweep()

    def _put(self, blueprint: Blueprint, records: MemoryRecords) -> tuple[Cell, ...]:
        return self._store.put_cells(blueprint.records(self._store.blobs).keeping(records))

    def _base_checkpoint(self, blueprint: Blueprint) -> tuple[Checkpoint, ...]:
        config, key = blueprint.config, blueprint.context.base
        if not isinstance(config.base, PackedBase):
            return ()
        return (self._store.put_base(key, config.base.parts, config.environment_digest),)


def check_rule(forgotten: str) -> None:
    """Raise `ParameterError` for what is no answer to rows of forgotten ids."""
    if forgotten not in (RAISE, DROP, READMIT):
        raise ParameterError(f'forgotten={forgotten!r} is none of "raise", "drop" and "readmit"; nothing was changed.')


def forgotten_among(
    store: Store, records: MemoryRecords, blueprint: Blueprint, forgotten: str
) -> dict[bytes, tuple[str, ...]]:
    """The addresses of records whose id is a tombstone, and their pseudonyms; of handles none is.

    Raises
    ------
    ForgottenRecordError
        If there is one, and `forgotten` is "raise".
    """
    schema, tombstones = blueprint.schema, store.ledger.tombstones()
    if not tombstones or not schema.explicit_ids:
        return {}
    addresses = Addresses(blueprint.partition, store.secrets, schema.id_type, schema.explicit_ids)
    own = [address for shard in range(records.n_shards) for address in records.addresses(shard)]
    named = zip(own, addresses.pseudonyms(own), strict=True)
    hits = {address: names for address, names in named if any(name in tombstones for name in names)}
    if hits and forgotten == RAISE:
        raise ForgottenRecordError(
            f"{len(hits)} ids in the data were forgotten by this model; nothing was changed. Leave their rows out, or "
            'pass forgotten="drop" to have them left out, or "readmit" if they may be learned again.'
        )
    return hits


def built_of(records: Records) -> list[int]:
    """How many records each shard has, to be compared with later."""
    return [sum(facts.n for facts in records.facts(shard)) for shard in range(records.n_shards)]


def refuse_unwritable(schema: Schema) -> None:
    """Raise `SchemaError` for a schema that could not be read back."""
    try:
        same = Schema.from_json(schema.to_json()) == schema
    except StateError:
        same = False
    if not same:
        raise SchemaError(
            "The data have categories, labels or column names of a type that cannot be written down; nothing was "
            "written. Turn them into strings or numbers, or keep the model in memory."
        )


def _bands(config: Config) -> Bands | None:
    return config.partition.bind(config.n_shards, config.n_slices, config.random_state).bands


def _same(cells: tuple[Cell, ...], records: MemoryRecords) -> bool:
    """Whether what is stored of the data is what these records are."""
    facts = [records.facts(shard) for shard in range(records.n_shards)]
    given = {(s, r): (cell.n, cell.digest) for s, slices in enumerate(facts) for r, cell in enumerate(slices)}
    # Of what arrived later and was forgotten, or consolidated, an empty cell is left.
    cells = tuple(cell for cell in cells if cell.n_records or (cell.shard, cell.slice) in given)
    stored = {(cell.shard, cell.slice): (cell.n, cell.digest) for cell in cells}
    return given == stored and sum(cell.n_records for cell in cells) == records.n_records


def _signed_now(
    store: Store, requests: Iterable[Request]
) -> tuple[tuple[Request, ...], tuple[str, ...], dict[str, Any]]:
    """Requests that were carried out in memory, with the statements that they would have had in the store."""
    facts = {
        "purge_check": "The model was in memory when the records were removed: nothing was stored of them.",
        "copies": list(store.declared.copies),
    }
    known = {request.sequence: replace(request, facts=facts | request.facts) for request in requests}
    purged = [request for request in known.values() if request.state in (PURGED, REPAIRED)]
    first, notes = signed(store, purged, "purged")
    purged = list(naming(purged, first))
    second, later = signed(store, [request for request in purged if request.state == REPAIRED], "repaired", after=notes)
    return tuple((known | {r.sequence: r for r in purged}).values()), first + second, notes | later


def keep_whole(store: Store, blueprint: Blueprint, build: Build, source: Store) -> Build:
    """Keep a model that is in memory: its records, states, requests and secrets.

    Returns
    -------
    Build
        Whose records are read from the store.

    Raises
    ------
    StoreInUseError
        If there is a store already.
    """
    if store.exists and store.ledger.note(SETTINGS) is not None:
        raise StoreInUseError(f"{store!r} is there already; nothing was written. Give a path that is not.")
    assert isinstance(source.secrets, MemoryKeys)
    refuse_unwritable(blueprint.schema)
    store.create(blueprint.partition.secret, source.secrets)
    config = blueprint.config
    with store.at_rest():
        # The settings come last, with all that cannot be written twice: until then there is no model, and whatever a
        # crash has left is written over when this is tried again.
        store.apply(Change(keys=build.plan.keys))
        for checkpoint in source.ledger.checkpoints().values():
            store.blobs.put(source.blobs.get(name) for _, name in checkpoint.parts)
            store.ledger.commit(checkpoint)
        own = build.records
        packed = own.copies() if isinstance(own, StoredRecords) else blueprint.records(store.blobs).keeping(own)
        cells = store.put_cells(packed)
        requests, statements, chain = _signed_now(store, source.ledger.requests())
        notes = {
            SETTINGS: blueprint.settings(),
            TRAINING: bool(source.ledger.note(TRAINING)),
            **{name: source.ledger.note(name) for name in (POSITIONS, BUILT)},
            **{name: noted for name, noted in source.ledger.notes().items() if name.startswith(AUDIT)},
            UNTRAINABLE: source.ledger.note(UNTRAINABLE, {}),
            ENVIRONMENT + config.environment_digest: config.environment,
        }
        store.apply(
            Change(
                cells=cells,
                requests=requests,
                tombstones=source.ledger.tombstones(),
                statements=statements,
                notes=notes | chain | store.policy_note,
            )
        )
        store.sweep()
    return Build(store.records(blueprint), build.plan)
