"""The orchestrator: a SISA ensemble over any learner, whatever the framework.

::

    fit          records in  -> plan -> build
    partial_fit  more records, in a slice of their own
    rectify      other records in the place of some
    consolidate  the same records in other slices
    forget       records out -> plan -> isolate (swap the snapshot, destroy states) -> build what is missing
    open         whatever a process that died has left undone

Everything but ``build`` only edits the records and the plan. In a store, several processes share both through its
ledger: before a process changes anything it takes over what the others have changed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np

from unlearnkit.build import Build
from unlearnkit.config import Blueprint, PackedBase
from unlearnkit.crowding import warn_of
from unlearnkit.data import ShardRecords
from unlearnkit.editing import Editor
from unlearnkit.errors import (
    CapabilityError,
    CodeNeededError,
    DataError,
    EnvironmentChangedError,
    RowsDifferError,
    StoreInUseError,
    TrainingError,
    UnlearnKitError,
)
from unlearnkit.external import Reading
from unlearnkit.forgetting import WISH, ForgettingModel, notify_done
from unlearnkit.founding import RAISE, Founding, bare_config, keep_whole, stored_blueprint
from unlearnkit.ingest import Arrival
from unlearnkit.leakage import warn
from unlearnkit.learner import Warm
from unlearnkit.ledger import ISOLATED, PURGED, Request
from unlearnkit.loading import LoadRows
from unlearnkit.plan import NO_BASE, Plan
from unlearnkit.receipts import Receipt
from unlearnkit.recovery import recover
from unlearnkit.restoring import restore
from unlearnkit.store import POSITIONS, TRAINING, Store
from unlearnkit.typing import AnyArray


class SisaEnsemble(ForgettingModel):
    """A SISA model over one learner, in memory or in a store.

    Parameters
    ----------
    learner : Learner or UnlearnKitError
        The error says why there is none: then the model forgets, but cannot be trained or asked.
    config : Config
    store : Store or None
        None: in memory.
    refresh_s : float
        How often, at most, to look whether another process has changed the store.

    Notes
    -----
    Predictions read one immutable snapshot and never wait. `forget` may be called while `repair` trains: what
    was trained for a plan that is no longer current is dropped.
    """

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        ids: Any = None,
        probability: Any = None,
        forgotten: str = RAISE,
        classes: Any = None,
    ) -> SisaEnsemble:
        """Build the model; the arguments are those of the estimators. `classes` are all labels there will be.

        Raises
        ------
        DataError, SchemaError, CapabilityError, StoreInUseError
            Before anything is trained.
        TrainingError
            If a shard cannot be trained; on a fixed schema it is left out instead, with a warning.
        """
        founding = Founding(self.store, self.config, forgotten)
        known = founding.known(self.learner.fingerprint)
        self.config = founding.config
        if known is not None:
            self.schema, self.partition = known.schema, known.partition
        # Into a new store the rows go a shard at a time, so that there is no second copy of all of them.
        lean = self.store.durable and known is None and not self.config.is_external
        ingested = self._ingest(X, y, sample_weight, ids, probability=probability, classes=classes, lean=lean)
        self.schema, self.partition = ingested.schema, ingested.partition
        base = self._packed_base()
        self.config = replace(self.config, base=base)
        digest = NO_BASE if base is None else base.digest
        blueprint = Blueprint.of(self.config, self.schema, self.partition, self.learner, digest)
        if known is not None and known.context != blueprint.context:
            raise StoreInUseError(
                f"{self.store!r} holds another model: its base differs. Nothing was changed. Pass the one that it was "
                "fitted with, or use another path."
            )
        self._context = blueprint.context
        warn(self.learner.capabilities.leaks, stacklevel=4)
        if not lean:
            warn_of(ingested.records, self.schema, self.config.n_shards * self.config.n_slices)
        records = ingested.given if lean else self._records(ingested)
        # Where the rows stay elsewhere they are at hand now, and the records that are kept have none.
        given = {s: (rows,) for s, rows in enumerate(ingested.records)} if self.config.is_external else {}
        with founding.kept(blueprint, records) as build:
            self._build = build
            self._erase()
            failures = self._train("Training", self._build, reading=Reading(given=given))
            if failures and self.config.schema is None:
                raise next(iter(failures.values()))
            with self.store.at_rest():
                self._note_untrainable(failures, frozenset())
                self._serve()
                # On a used store, requests may have waited for these steps.
                finished = self._finish()
                self._settled()
                # The first request would otherwise wait for it.
                self._eraser.digest(self._build.plan, self.store.checkpoints())
        notify_done(finished)
        self._warn(failures)
        return self

    def _packed_base(self) -> PackedBase | None:
        """The base model as the learner packs it.

        Raises
        ------
        CapabilityError
            If the wrapped model cannot start from one.
        ParameterError
            If no training can start from this one.
        """
        base, learner = self.config.base, self.learner
        if base is None or isinstance(base, PackedBase):
            return base
        if not isinstance(learner, Warm):
            raise CapabilityError(
                f"{self.config.name} cannot start from a base model; nothing was changed. Leave base= out."
            )
        return PackedBase(learner.pack_base(base, self.schema.n_features, self.schema.labels))

    # -- open ----------------------------------------------------------------------------------------------------

    @classmethod
    def without_learner(cls, store: Store) -> SisaEnsemble:
        """Open a store to record, isolate and purge requests, without importing the framework of its model."""
        missing = CodeNeededError("The store was opened without its model; nothing was changed. Open it by load().")
        return cls(missing, bare_config(store.settings()), store, refresh_s=0).open()

    def open(self) -> SisaEnsemble:
        """Open a fitted store, and finish what is under way in it and nobody is at.

        Raises
        ------
        StoreError
            If there is none, or it cannot be read.
        StateError
            If something in it is damaged.
        """
        self._adopt(stored_blueprint(self.store, self.config))
        with self.store.at_rest():
            restore(self.store, self.blueprint)
            self._build = self.store_build()
            recover(self.store, self._build.plan.keys)
            self._erase()
        self.store.note_refresh(self.refresh_s)
        # Where the rows are elsewhere, it waits for who can tell where: repair(load_rows=).
        if self._left_undone() and not self.config.is_external and not isinstance(self._learner, UnlearnKitError):
            # If another process is at it, it is not undone.
            with suppress(StoreInUseError):
                self._resume()
        return self

    def _left_undone(self) -> bool:
        """Whether a training was under way, or about to begin."""
        purged = self.store.ledger.requests(PURGED)
        return bool(self.store.ledger.note(TRAINING)) or any(r.facts.get(WISH) for r in purged)

    def _resume(self) -> None:
        """Finish a training that was under way."""
        try:
            self._warn(self._repair(without=frozenset(self._untrainable), wait=False))
        except EnvironmentChangedError as error:
            # It still forgets and predicts, and whether to rebuild is for its user to say.
            warnings.warn(f"A training that was cut short cannot go on: {error}", RuntimeWarning, stacklevel=4)

    def move(self, store: Store) -> None:
        """Write the model, which is in memory, into a store, and go on there.

        Raises
        ------
        StoreInUseError
            If there is one already.
        """
        with self.store.at_rest():
            self._build = keep_whole(store, self.blueprint, self._build, self.store)
            self.store = store
            self._epoch = store.ledger.epoch
            self._serve()

    # -- edit ----------------------------------------------------------------------------------------------------

    @property
    def _editor(self) -> Editor:
        return Editor(self.store, self.blueprint)

    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        ids: Any = None,
        probability: Any = None,
        forgotten: str = RAISE,
        load_rows: LoadRows | None = None,
    ) -> None:
        """Add records as a new last slice of their shards; see `SISAClassifier.partial_fit`."""
        self.learner  # noqa: B018 - without it there is nothing to train with
        self._reader(load_rows, needed=True)
        edited = None
        while edited is None:
            # Read before the lock is held, and the data are looked at without it.
            arrival, schema = self._arrival(), self.schema
            new = self._ingest(X, y, sample_weight, ids, probability=probability, arrival=arrival).records
            with self.store.at_rest():
                self._sync()
                self._erase()
                if (arrival, schema) == (self._arrival(), self.schema):
                    edited = self._editor.arrived(self._build, new, forgotten)
                    if edited is None:
                        break
                    self.store.apply(edited.change)
                    self._hold(edited.build)
        reading = Reading(load_rows, {shard: (rows,) for shard, rows in enumerate(new)})
        try:
            self._warn(self._repair(reading=reading))
        except (EnvironmentChangedError, RowsDifferError) as error:
            raise type(error)(f"The records were added, and are not learned yet. {error}") from error
        self._warn_of_upkeep()

    def _arrival(self) -> Arrival:
        self._sync()
        return Arrival(self._build.records.n_slices, self.store.ledger.note(POSITIONS, 0))

    def rectify(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        ids: Any,
        repair: bool = True,
        load_rows: LoadRows | None = None,
    ) -> Receipt:
        """Replace all rows of some ids; see `SISAClassifier.rectify`."""
        if not self.schema.explicit_ids:
            raise DataError("The model was fitted without ids, so no row says whose it is; nothing was changed.")
        self._reader(load_rows, needed=repair)
        done = None
        while done is None:
            done = self._rectified(X, y, sample_weight, ids, repair=repair)
        sequence, come = done
        if repair and self.receipt(sequence).repaired_at is None:
            reading = Reading(load_rows, come)
            self._repair_at_once(reading, "The records are replaced, and the model is not repaired yet")
        self._warn_of_upkeep()
        return self.receipt(sequence)

    def _rectified(
        self, X: Any, y: Any, sample_weight: Any, ids: Any, *, repair: bool
    ) -> tuple[int, Mapping[int, tuple[ShardRecords, ...]]] | None:
        """Do it up to the repair; None if the schema was refreshed meanwhile: then the rows mean something else.

        Gives the sequence of the request, and the new records by the shards that they are in.
        """
        self._sync()
        schema = self.schema
        # Where an id belongs is read off its old rows.
        probability = None if self.partition.bands is None else 0.0
        new = self._ingest(X, y, sample_weight, ids, probability=probability).records
        n_ids = sum(len(np.unique(records.rid, axis=0)) for records in new)
        with self.store.at_rest():
            self._sync()
            if schema != self.schema:
                return None
            self._erase()
            edited = self._editor.rectified(self._build, new, n_ids)
            change = edited.change
            change = replace(
                change, submitted=tuple(replace(r, facts=r.facts | {WISH: repair}) for r in change.submitted)
            )
            self.store.apply(change)
            sequence = max(request.sequence for request in self.store.ledger.requests(ISOLATED))
            self._hold(edited.build)
            # Only once it is swapped out is it isolated here.
            self._serve()
            self._erase()
        return sequence, edited.come

    def consolidate(self, *, refresh_schema: bool = False, load_rows: LoadRows | None = None) -> None:
        """Rebuild into the slices that a fit would use; see `SISAClassifier.consolidate`."""
        self.learner  # noqa: B018 - without it there is nothing to train with
        reading = self._reader(load_rows, needed=True)
        with self.store.locks.repairer(wait=True):
            finished = None
            while finished is None:
                finished = self._consolidated(reading, refresh_schema=refresh_schema)
        notify_done(finished)

    def _consolidated(self, reading: Reading, *, refresh_schema: bool) -> list[Request] | None:
        """Do it beside the model that serves, and swap; None if a request has come in meanwhile: then it is void."""
        with ExitStack() as beside:
            with self.store.at_rest():
                self.catch_up()
                old = self._build
                readable = replace(old, records=reading.of(old.records))
                editor, edited = self._editor.consolidated(readable, refresh_schema=refresh_schema)
                both = beside.enter_context(self._planned_beside(old.plan, edited.build.plan))
            failures = self._train_anew(edited.build, editor.blueprint.schema.labels)
            with self.store.at_rest():
                # Rows without weight come and go, and the keys stay as they are.
                if self.store.ledger.keys() != both or not editor.has_still(old.records, self._build.records):
                    return None
                edited = editor.written(edited, old.records)
                self.store.apply(edited.change)
                self._adopt(editor.blueprint)
                self._hold(edited.build)
                self._note_untrainable(failures, frozenset())
                self._serve()
                self.store.sweep()
                finished = self._finish(self.plan.differing(old.plan))
                self._settled()
                self._epoch = self.store.ledger.epoch
        self._warn(failures)
        return finished

    def _train_anew(self, build: Build, labels: AnyArray | None) -> dict[int, TrainingError]:
        """Train what another plan misses; what another environment has made is no start for what comes after it."""
        stored = self.store.checkpoints()
        foreign = (steps for steps in build.plan.shards if self._is_foreign(steps, stored))
        anew = frozenset(step.key for steps in foreign for step in steps)
        return self._train("Consolidating", build, builder=replace(self._builder, labels=labels), anew=anew)

    @contextmanager
    def _planned_beside(self, old: Plan, new: Plan) -> Iterator[frozenset[str]]:
        """Keep the states of both plans; of the old one alone again, if this comes to nothing."""
        both = old.keys | new.keys
        self.store.replan(both)
        try:
            yield both
        except BaseException:
            with self.store.at_rest():
                if self.store.ledger.keys() == both:
                    self.store.replan(old.keys)
            raise
