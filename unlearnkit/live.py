"""The model as it stands: records, plan and states of a store, and the snapshot that predictions are made from.

In a store several processes share all of it through the ledger, and each takes over what the others have changed. What
changes it is in `unlearnkit.ensemble`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from copy import copy
from dataclasses import replace
from typing import Any

from unlearnkit.build import Build, Builder
from unlearnkit.config import Blueprint, Config, PackedBase
from unlearnkit.editing import alike
from unlearnkit.environment import environment_now
from unlearnkit.erasure import Eraser, estimate
from unlearnkit.errors import (
    CodeNeededError,
    DataError,
    ParameterError,
    StateError,
    StoreInUseError,
    UnlearnKitError,
)
from unlearnkit.external import Reading, rows_needed
from unlearnkit.figures import ShardRow
from unlearnkit.founding import stored_blueprint
from unlearnkit.hashing import listed
from unlearnkit.ingest import Ingested, ingest
from unlearnkit.learner import Learner
from unlearnkit.ledger import Checkpoint
from unlearnkit.loading import LoadRows
from unlearnkit.overview import shard_rows
from unlearnkit.partition import HashPartition, Partition
from unlearnkit.plan import Context, Plan, missing, numbered
from unlearnkit.progress import progress
from unlearnkit.receipts import Estimate, Receipt, VerifyReport
from unlearnkit.records import MemoryRecords, Place
from unlearnkit.schema import Schema
from unlearnkit.serving import Snapshot, snapshot_of
from unlearnkit.store import UNTRAINABLE, Store
from unlearnkit.typing import AnyArray, Features, FloatArray
from unlearnkit.verification import Digests, compare, rebuilt

_ATTEMPTS = 5


class LiveModel:
    """A model that is served, looked at and verified.

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
    Predictions read one immutable snapshot and never wait.
    """

    schema: Schema
    partition: Partition
    _context: Context
    _build: Build
    _snapshot: Snapshot

    def __init__(
        self, learner: Learner[Any] | UnlearnKitError, config: Config, store: Store | None = None, refresh_s: float = 1
    ) -> None:
        self._learner = learner
        self.config = config
        self.store = Store() if store is None else store
        self.refresh_s = refresh_s
        self._epoch = -1
        self._looked = -float("inf")
        self._swap = threading.RLock()
        self._told: frozenset[str] = frozenset()
        self._digests = Digests()

    def __getstate__(self) -> dict[str, Any]:
        if self.store.durable:
            # The partition has a secret in it, which is read from its own place again.
            left_out = {"_swap", "_digests", "_snapshot", "_build", "partition"}
            config = replace(self.config, partition=HashPartition(), base=None)
            state = {k: v for k, v in vars(self).items() if k not in left_out}
            return state | {"config": config, "_looked": -float("inf")}
        # Records and states must be of one moment, though a request may come before they are written out.
        with self.store.at_rest():
            # What is in the store of records whose rows are elsewhere is read from it again.
            left_out = {"_swap", "_snapshot"} | ({"_build"} if self.config.is_external else set())
            return {k: v for k, v in vars(self).items() if k not in left_out} | {"store": copy(self.store)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({"_digests": Digests()} | state, _swap=threading.RLock())
        self.config = replace(self.config, environment=environment_now(self.config.environment))
        if self.store.durable:
            self._epoch = -1
            self._adopt(stored_blueprint(self.store, self.config))
            self._sync()
            return
        if self.config.is_external and hasattr(self, "_context"):
            self._build = self.store_build()
        if hasattr(self, "_build"):
            # States travel as their stored bytes, and are decoded from them here as everywhere.
            self._serve()

    @property
    def learner(self) -> Learner[Any]:
        """What trains and predicts.

        Raises
        ------
        CodeNeededError
            If the store was opened without the code that it takes.
        """
        if isinstance(self._learner, UnlearnKitError):
            raise CodeNeededError(f"{self._learner} Until then: status, forget and isolate work.") from self._learner
        return self._learner

    def _adopt(self, known: Blueprint) -> None:
        self.config, self.schema, self.partition = known.config, known.schema, known.partition
        self._context = known.context

    @property
    def blueprint(self) -> Blueprint:
        """What the model is built to."""
        return Blueprint(self.config, self.schema, self.partition, self._context)

    @property
    def _builder(self) -> Builder:
        config = self.config
        labels = self.schema.labels
        return Builder(self.learner, labels, config.environment_digest, config.n_jobs, config.environment)

    @property
    def _eraser(self) -> Eraser:
        return Eraser(self.store, self.blueprint, self._digests)

    @property
    def _untrainable(self) -> dict[int, str]:
        """Shards that could not be trained, and why."""
        return {int(shard): why for shard, why in self.store.ledger.note(UNTRAINABLE, {}).items()}

    @property
    def packed_base(self) -> PackedBase | None:
        """The base model that training starts from, as it is stored."""
        key = self._build.plan.base
        return None if key is None else PackedBase(self.store.parts(key))

    # -- keep up -------------------------------------------------------------------------------------------------

    def store_build(self) -> Build:
        """The build that the ledger describes."""
        return Build.of(self._context, self.store.records(self.blueprint))

    def refresh(self) -> None:
        """Take over what other processes have changed, if it was last looked at more than `refresh_s` ago."""
        if self.store.durable and time.monotonic() - self._looked >= self.refresh_s:
            self._sync()

    def _sync(self) -> None:
        """Take over what other processes have changed."""
        if not self.store.durable:
            return
        for attempt in range(_ATTEMPTS):
            with self._swap:
                looked, epoch = time.monotonic(), self.store.ledger.epoch
                if epoch != self._epoch:
                    try:
                        if not self.store.is_as_at(self._epoch):
                            self._follow_schema()
                            self._build = self.store_build()
                        self._serve()
                    except StateError:
                        # What was read may have been purged while it was read.
                        if attempt + 1 == _ATTEMPTS or self.store.ledger.epoch == epoch:
                            raise
                        continue
                self._epoch, self._looked = epoch, looked
                return

    def _follow_schema(self) -> None:
        """Take over the schema, if another process has refreshed it."""
        if self._epoch >= 0 and self.store.settings()["schema"] != self.schema.to_json():
            self._adopt(stored_blueprint(self.store, self.config))

    def _serve(self) -> None:
        """Swap in a snapshot of what is stored of the build.

        Raises
        ------
        StateError
            If a stored state is damaged. Its shard abstains; what it served before is swapped out all the same.
        """
        if isinstance(self._learner, UnlearnKitError):
            return
        with self._swap:
            self._snapshot, damaged = snapshot_of(
                self._learner, self.blueprint, self.store, self._build, getattr(self, "_snapshot", None)
            )
        if damaged is not None:
            raise damaged

    def _hold(self, build: Build) -> None:
        """Go on from this build, which is that of the ledger now, whatever another thread was just reading."""
        with self._swap:
            self._build, self._epoch = build, self.store.ledger.epoch

    # -- take in -------------------------------------------------------------------------------------------------

    def _ingest(self, X: Any, y: Any, sample_weight: Any, ids: Any, **options: Any) -> Ingested:
        config = self.config
        return ingest(
            X,
            y,
            sample_weight,
            ids,
            schema=getattr(self, "schema", config.schema),
            partition=config.partition.bind(config.n_shards, config.n_slices, config.random_state)
            if not hasattr(self, "partition")
            else self.partition,
            capabilities=self.learner.capabilities,
            name=config.name,
            **options,
        )

    def _reader(self, load_rows: LoadRows | None, *, needed: bool) -> Reading:
        """Where rows are read from that the model does not keep.

        Raises
        ------
        RowsNeededError
            If they are needed, and nobody says where they are.
        ParameterError
            If the model keeps its rows.
        """
        if load_rows is not None and not self.config.is_external:
            raise ParameterError(
                "load_rows= is for models with data='external', and this one keeps its rows; nothing was changed. "
                "Leave it out."
            )
        if needed and load_rows is None and self.config.is_external:
            raise rows_needed("Nothing was changed.")
        return Reading(load_rows)

    def _records(self, ingested: Ingested) -> MemoryRecords:
        classification = ingested.schema.classes is not None
        return MemoryRecords(ingested.records, self.config.n_slices, classification=classification)

    # -- look ----------------------------------------------------------------------------------------------------

    def receipt(self, sequence: int) -> Receipt:
        """The receipt of a request as it stands now."""
        return Receipt.of(self.store.ledger.request(sequence))

    def receipts(self) -> tuple[Receipt, ...]:
        """The receipts of all requests, oldest first."""
        return tuple(Receipt.of(request) for request in self.store.ledger.requests())

    def answers(self, X: Any) -> tuple[FloatArray, AnyArray | None]:
        """Aggregated predictions of rows as they come, and the class labels of the columns, all of one moment."""
        self.learner  # noqa: B018 - without it nothing is served
        return self._snapshot.answers(X, self.config.name, self.config.n_jobs)

    def predict(self, X: Features) -> FloatArray:
        """Aggregated predictions of canonical features, from the snapshot as it is now."""
        return self._snapshot.predict(X, self.config.n_jobs)

    def features(self, X: Any) -> Features:
        """Rows to predict, as the model takes them."""
        return self.schema.features(X, self.learner.capabilities, self.config.name, exact=False)

    def locate(self, items: list[bytes]) -> list[tuple[int, int] | None]:
        """Shard and slice of the first record of each id given as bytes; None where there is none."""
        self._sync()
        records = self._build.records
        hashes, shards = self.partition.search(items)
        addresses = listed(hashes)
        places = records.places(addresses, shards)
        return [self._numbered(places[address][0]) if address in places else None for address in addresses]

    def _numbered(self, place: Place) -> tuple[int, int]:
        shard, r = place
        facts = self._build.records.facts(shard)
        return shard, numbered(facts, r, self.config.n_slices)

    @property
    def snapshot(self) -> Snapshot:
        """What predictions are made from now."""
        return self._snapshot

    @property
    def plan(self) -> Plan:
        """The steps that the model consists of now."""
        return self._build.plan

    @property
    def constituents(self) -> list[Any]:
        """The decoded state of each shard; None where it abstains, the class code where it is constant."""
        return self._snapshot.states

    @property
    def degraded_shards(self) -> tuple[int, ...]:
        """Shards with steps that are not trained (again)."""
        self._sync()
        stored = self.store.checkpoints()
        return tuple(s for s, steps in enumerate(self._build.plan.shards) if missing(steps, stored))

    @property
    def layout(self) -> tuple[ShardRow, ...]:
        """The records of each slice of each shard that have a positive weight, and which steps are not trained."""
        self._sync()
        return shard_rows(self._build.plan, self.config.n_slices, self.store.checkpoints(), self._untrainable)

    @property
    def model_digest(self) -> str:
        """SHA-256 over schema, aggregation and the digests of all stored parts: not over keys or requests."""
        self._sync()
        return self._eraser.digest(self._build.plan, self.store.checkpoints())

    def estimate(self, ids: Any) -> Estimate:
        """What forgetting these ids would cost; see `SISAClassifier.estimate`."""
        with self.store.at_rest():
            self._sync()
            removal = self._eraser.remove(self._build, self._eraser.request(self._build, ids))
            return estimate(self._context, self._build.plan, removal, self.store.checkpoints(), self._untrainable)

    def _damaged(self, stored: Mapping[str, Checkpoint]) -> set[str]:
        return {key for key, checkpoint in stored.items() if not self.store.is_whole(checkpoint)}

    def verify(
        self,
        X: Any = None,
        y: Any = None,
        sample_weight: Any = None,
        *,
        ids: Any = None,
        probability: Any = None,
        shards: Collection[int] | None = None,
        load_rows: LoadRows | None = None,
    ) -> VerifyReport:
        """Rebuild in an empty store and compare every state; see `SISAClassifier.verify`."""
        if X is None and not (y is None and sample_weight is None and ids is None):
            raise DataError("verify() got y, sample_weight or ids without X; nothing was checked.")
        reading = self._reader(load_rows, needed=X is None)
        with self.store.at_rest():
            # A request that comes in while it rebuilds must not look like a fault.
            self._sync()
            own, stored = self._build, self.store.checkpoints()
            damaged = self._damaged(stored)
            forgotten = self._eraser.forgotten_in(own.records)
        records = reading.of(own.records)
        if X is not None:
            records = self._records(self._ingest(X, y, sample_weight, ids, probability=probability))
            records = alike(records, own.records)
        chosen = None if shards is None else tuple(sorted(set(shards)))
        plan = Build.of(self._context, records).plan.of_shards(chosen)
        with progress("Verifying", plan.n_steps, shown=self.config.verbose > 0) as advance:
            try:
                base = None if plan.base is None else self.store.parts(plan.base)
                theirs = rebuilt(self._builder, Build(records, plan), base, advance)
            except StateError as error:
                if self.store.ledger.keys() == own.plan.keys:
                    raise
                raise StoreInUseError(
                    "A request changed the store while it was verified; nothing is wrong with it. Verify again."
                ) from error
        report = compare(self.blueprint, own.plan.of_shards(chosen), stored, damaged, theirs)
        return replace(report, exact=report.exact and not forgotten, forgotten_rows=forgotten, shards=chosen)
