"""The orchestrator: a SISA ensemble over any learner, whatever the framework.

::

    fit     records in  -> plan -> build
    forget  records out -> plan -> isolate (swap the snapshot, destroy states) -> build what is missing

Everything but ``build`` only edits the records and the plan.
"""

from __future__ import annotations

import secrets
import threading
import warnings
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np

from unlearnkit.adapters import plugins
from unlearnkit.build import Build, Builder
from unlearnkit.config import Config
from unlearnkit.environment import environment_now
from unlearnkit.erasure import Eraser, Removal
from unlearnkit.errors import DataError, StateError, TrainingError
from unlearnkit.hashing import KEY_BYTES
from unlearnkit.ingest import Ingested, ingest
from unlearnkit.learner import Learner
from unlearnkit.ledger import Request
from unlearnkit.partition import Partition
from unlearnkit.plan import Context, Plan, PlannedStep, plan_all
from unlearnkit.progress import progress
from unlearnkit.receipts import Estimate, Receipt, VerifyReport, now
from unlearnkit.schema import Schema
from unlearnkit.serving import Snapshot, open_constituent
from unlearnkit.store import StateStore
from unlearnkit.training import TrainedStep
from unlearnkit.typing import Features, FloatArray
from unlearnkit.verification import compare, model_digest, states_of


class SisaEnsemble:
    """A SISA model over one learner, in memory.

    Parameters
    ----------
    learner : Learner
    config : Config

    Notes
    -----
    Predictions read one immutable snapshot and never wait. `forget` may be called while `repair` trains: what
    was trained for a plan that is no longer current is dropped.
    """

    def __init__(self, learner: Learner[Any], config: Config) -> None:
        self.learner = learner
        self.config = config
        self.store = StateStore()
        self._pseudonym_key = secrets.token_bytes(KEY_BYTES)
        self._locks()
        self.schema: Schema
        self.partition: Partition
        self._build: Build
        self._snapshot: Snapshot
        # Reasons, not the errors: their tracebacks would keep rows alive that a later request removes.
        self._untrainable: dict[int, str] = {}
        self._retrained: dict[int, int] = {}
        self._rebuilt: tuple[int, ...] = ()

    def _locks(self) -> None:
        self._lock = threading.RLock()
        self._repair_lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            kept = {k: v for k, v in vars(self).items() if k not in ("_lock", "_repair_lock", "_snapshot")}
            # Records and states must be of one moment, though a request may come before they are written out.
            return kept | {k: copy(kept[k]) for k in ("store", "_untrainable", "_retrained")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.config = replace(self.config, environment=environment_now(self.config.environment))
        self._locks()
        if not hasattr(self, "_build"):
            return
        # States travel as their stored bytes, and are decoded from them here as everywhere.
        self._serve(range(self.config.n_shards))

    # -- fit -----------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, ids: Any = None) -> SisaEnsemble:
        """Build the model; the arguments are those of the estimators.

        Raises
        ------
        DataError, SchemaError, CapabilityError
            Before anything is trained.
        TrainingError
            If a shard cannot be trained; on a fixed schema it is left out instead, with a warning.
        """
        ingested = self._ingest(X, y, sample_weight, ids)
        self.schema, self.partition = ingested.schema, ingested.partition
        self._build = Build(ingested.records, plan_all(self._context, ingested.records))
        self.store.replan(self._build.plan.keys)
        failures = self._train("Training", self._build)
        if failures and self.config.schema is None:
            raise next(iter(failures.values()))
        self._leave_out(failures)
        self._serve(range(self.config.n_shards))
        return self

    def _ingest(self, X: Any, y: Any, sample_weight: Any, ids: Any) -> Ingested:
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
        )

    @property
    def _context(self) -> Context:
        capabilities = self.learner.capabilities
        return Context(
            fingerprint=self.learner.fingerprint,
            seed=self.config.seed,
            n_slices=self.config.n_slices,
            schema_digest=self.schema.digest,
            n_classes=None if self.schema.classes is None else len(self.schema.classes),
            resumable=capabilities.resumable,
            absent_classes=capabilities.absent_classes,
        )

    @property
    def _builder(self) -> Builder:
        return Builder(self.learner, self.schema.labels, self.config.environment_digest, self.config.n_jobs)

    @property
    def _eraser(self) -> Eraser:
        return Eraser(self.partition, self.schema, self._context, self.store.ledger, self._pseudonym_key)

    def _train(self, label: str, build: Build, without: frozenset[int] = frozenset()) -> dict[int, TrainingError]:
        """Train what a build misses; states of steps that leave the plan meanwhile are dropped."""
        missing = sum(len(self.store.missing(steps)) for steps in build.plan.shards)
        with progress(label, missing, shown=self.config.verbose > 0) as advance:

            def on_step(trained: TrainedStep, kept: bool) -> None:  # noqa: FBT001
                advance(1)
                if kept:
                    self._count(trained.step)
                    _notify("unlearnkit_step_trained", step=trained.step, seconds=trained.seconds)

            return self._builder.build(build, self.store, on_step, without)

    def _count(self, step: PlannedStep) -> None:
        for request in self.store.ledger.requests():
            first = request.facts["shards"].get(str(step.shard))
            if request.repaired_at is None and first is not None and step.slice >= first:
                self._retrained[request.sequence] = self._retrained.get(request.sequence, 0) + 1

    def _leave_out(self, failures: Mapping[int, TrainingError]) -> None:
        self._untrainable.update({shard: _reason(error) for shard, error in failures.items()})
        for shard, error in failures.items():
            warnings.warn(
                f"Shard {shard} cannot be trained on the records that are left and stays isolated: {error}",
                RuntimeWarning,
                stacklevel=4,
            )

    def _serve(self, shards: Any) -> None:
        """Swap in a snapshot with these shards opened anew from the store.

        Raises
        ------
        StateError
            If a stored state is damaged. Its shard abstains; what it served before is swapped out all the same.
        """
        damaged: StateError | None = None
        with self._lock:
            plan = self._build.plan
            old = getattr(self, "_snapshot", None)
            constituents = list(old.constituents) if old is not None else [None] * self.config.n_shards
            for shard in shards:
                constituents[shard] = None
                try:
                    constituents[shard] = open_constituent(self.learner, self.store, plan.shards[shard])
                except StateError as error:
                    damaged = error
            snapshot = Snapshot(
                self.learner,
                self.config.aggregation,
                None if self.schema.classes is None else len(self.schema.classes),
                tuple(constituents),
                None,
            )
            self._snapshot = replace(snapshot, prior=self._prior()) if snapshot.all_abstain else snapshot
        if damaged is not None:
            raise damaged

    def _prior(self) -> FloatArray | None:
        """Class frequencies, or the mean of the targets, of the remaining records."""
        if self.config.when_isolated != "prior":
            return None
        active = [r for r in self._build.records if r.n_active]
        if not active:
            return None
        y = np.concatenate([r.y[: r.n_active] for r in active])
        weight = np.concatenate([np.ones(r.n_active) if r.weight is None else r.weight[: r.n_active] for r in active])
        if self.schema.classes is None:
            return np.asarray(np.average(y, axis=0, weights=weight))
        frequencies = np.bincount(y, weights=weight, minlength=len(self.schema.classes))
        return np.asarray(frequencies / frequencies.sum())

    # -- forget --------------------------------------------------------------------------------------------------

    def forget(self, ids: Any, *, repair: bool = True, missing: str = "raise") -> Receipt:
        """Forget all records of these ids; see `SISAClassifier.forget`."""
        with self._lock:
            removal = self._eraser.removal(self._build, ids, missing)
            receipt = self._isolate(removal)
        if receipt.repaired_at is not None:
            _notify("unlearnkit_request_done", receipt=receipt)
        elif repair:
            self._leave_out(self._repair(without=frozenset(self._untrainable)))
        return self.receipt(receipt.request_id)

    def _isolate(self, removal: Removal) -> Receipt:
        """Phase 1: from here on nothing served or stored was influenced by the records."""
        before = self.model_digest
        plan = removal.build.plan
        sequence = len(self.store.ledger.requests()) + 1
        destroyed = sum(key in self.store for key in self._build.plan.keys - plan.keys)
        receipt = Receipt(
            request_id=sequence,
            n_ids=removal.n_ids,
            n_records=removal.n_records,
            already_forgotten=removal.already,
            skipped=removal.skipped,
            shards=removal.first_slices,
            steps_total=len(plan.keys),
            states_destroyed=destroyed,
            digest_before=before,
            isolated_at=now(),
        )
        self.store.replan(plan.keys, Request(sequence, removal.pseudonyms, receipt.facts()))
        self._build = removal.build
        for shard in removal.first_slices:
            self._untrainable.pop(shard, None)
        self._serve(removal.first_slices)
        # Only now is it true.
        self.store.ledger.update(sequence, {"isolated_at": now().isoformat()}, None)
        self._finish()
        return self.receipt(sequence)

    def receipt(self, sequence: int) -> Receipt:
        """The receipt of a request as it stands now."""
        return Receipt.of(self.store.ledger.requests()[sequence - 1])

    # -- repair --------------------------------------------------------------------------------------------------

    def repair(self, *, rebuild: bool = False) -> tuple[Receipt, ...]:
        """Train what is missing; see `SISAClassifier.repair`."""
        due = [r.sequence for r in self.store.ledger.requests() if r.repaired_at is None]
        if rebuild:
            self._discard_unusable_states()
        failures = self._repair()
        if failures:
            raise next(iter(failures.values()))
        return tuple(self.receipt(sequence) for sequence in due)

    def _repair(self, without: frozenset[int] = frozenset()) -> dict[int, TrainingError]:
        """Train what is missing, except in shards known to be untrainable, and close the requests that were due."""
        with self._repair_lock:
            finished = None
            # A request that comes in while steps are trained changes the build: then there is more to do.
            while finished is None:
                build = self._build
                try:
                    failures = self._train("Repairing", build, without & self._untrainable.keys())
                except BaseException:
                    # What was trained before the interruption serves.
                    self._serve(range(self.config.n_shards))
                    raise
                finished = self._close(build, failures, without)
        for receipt in finished:
            _notify("unlearnkit_request_done", receipt=receipt)
        return failures

    def _close(
        self, build: Build, failures: Mapping[int, TrainingError], without: frozenset[int]
    ) -> list[Receipt] | None:
        """Serve what was trained and close the requests that are done; None if the build is no longer current."""
        with self._lock:
            if build is not self._build:
                return None
            left = {shard: reason for shard, reason in self._untrainable.items() if shard in without}
            self._untrainable = left | {shard: _reason(error) for shard, error in failures.items()}
            self._serve(range(self.config.n_shards))
            finished = self._finish()
            self._rebuilt = ()
            return finished

    def _discard_unusable_states(self) -> None:
        """Drop all states of shards that have a damaged one, or would train on from another environment's."""
        with self._lock:
            plan = self._build.plan
            stale = {s for s, steps in enumerate(plan.shards) if self._is_foreign(steps) or self._is_damaged(steps)}
            if stale:
                self.store.replan(Plan(tuple(() if s in stale else p for s, p in enumerate(plan.shards))).keys)
                self.store.replan(plan.keys)
                self._rebuilt = tuple(sorted(stale))

    def _is_foreign(self, steps: tuple[PlannedStep, ...]) -> bool:
        current = self.config.environment_digest
        stored = (c for step in steps if (c := self.store.ledger.checkpoint(step.key)) is not None)
        return bool(self.store.missing(steps)) and any(c.environment != current for c in stored)

    def _is_damaged(self, steps: tuple[PlannedStep, ...]) -> bool:
        return any(step.key in self.store and not self.store.is_whole(step.key) for step in steps)

    def _finish(self) -> list[Receipt]:
        """Close the requests whose shards are whole again."""
        degraded = set(self.degraded_shards)
        finished = []
        for request in self.store.ledger.requests():
            shards = {int(shard) for shard in request.facts["shards"]}
            if request.repaired_at is None:
                facts: dict[str, Any] = {"steps_retrained": self._retrained.get(request.sequence, 0)}
                waiting = degraded & shards
                facts["untrainable_shards"] = {
                    str(s): self._untrainable[s] for s in sorted(waiting) if s in self._untrainable
                }
                facts["rebuilt_shards"] = [s for s in self._rebuilt if s in shards]
                done = not waiting
                if done:
                    facts["digest_after"] = self.model_digest
                    self._retrained.pop(request.sequence, None)
                updated = self.store.ledger.update(request.sequence, facts, now().isoformat() if done else None)
                if done:
                    finished.append(Receipt.of(updated))
        return finished

    # -- look ----------------------------------------------------------------------------------------------------

    def predict(self, X: Features) -> FloatArray:
        """Aggregated predictions of canonical features, from the snapshot as it is now."""
        return self._snapshot.predict(X, self.config.n_jobs)

    def features(self, X: Any) -> Features:
        """Rows to predict, as the model takes them."""
        return self.schema.features(X, self.learner.capabilities, self.config.name, exact=False)

    @property
    def constituents(self) -> list[Any]:
        """The decoded state of each shard; None where it abstains, the class code where it is constant."""
        return [
            None if c is None else (c.state if c.constant is None else c.constant) for c in self._snapshot.constituents
        ]

    @property
    def degraded_shards(self) -> tuple[int, ...]:
        """Shards with steps that are not trained (again)."""
        return tuple(s for s, steps in enumerate(self._build.plan.shards) if self.store.missing(steps))

    @property
    def model_digest(self) -> str:
        """SHA-256 over schema, aggregation and the digests of all stored parts: not over keys or requests."""
        return model_digest(self.config, self.schema, states_of(self._build.plan, self.store))

    def estimate(self, ids: Any) -> Estimate:
        """What forgetting these ids would cost; see `SISAClassifier.estimate`."""
        with self._lock:
            removal = self._eraser.removal(self._build, ids, "raise")
        plan = removal.build.plan
        hopeless = self._untrainable.keys() - removal.first_slices.keys()
        trainable = (shard for s, shard in enumerate(plan.shards) if s not in hopeless)
        steps = [s for shard in trainable for s in self.store.missing(shard)]
        abstaining = tuple(s for s, shard in enumerate(plan.shards) if not shard or shard[0].key not in self.store)
        total = sum(s.step.epochs * s.n for s in plan)
        return Estimate(
            n_records=removal.n_records,
            shards=removal.first_slices,
            n_steps=len(steps),
            steps_total=len(plan.keys),
            cost_share=float(sum(s.step.epochs * s.n for s in steps) / total) if total else 0.0,
            abstaining_shards=abstaining,
            chance_all_abstain=float(len(abstaining) == self.config.n_shards),
        )

    def verify(self, X: Any = None, y: Any = None, sample_weight: Any = None, *, ids: Any = None) -> VerifyReport:
        """Rebuild in an empty store and compare every state; see `SISAClassifier.verify`."""
        if X is None and not (y is None and sample_weight is None and ids is None):
            raise DataError("verify() got y, sample_weight or ids without X; nothing was checked.")
        with self._lock:
            # A request that comes in while it rebuilds must not look like a fault.
            own, store = self._build, copy(self.store)
        other = own
        if X is not None:
            records = self._ingest(X, y, sample_weight, ids).records
            other = Build(records, plan_all(self._context, records))
        rebuilt = StateStore()
        rebuilt.replan(other.plan.keys)
        with progress("Verifying", len(other.plan.keys), shown=self.config.verbose > 0) as advance:
            self._builder.build(other, rebuilt, lambda *_: advance(1))
        return compare(self.config, self.schema, own.plan, store, states_of(other.plan, rebuilt))


def _reason(error: TrainingError) -> str:
    """Why a shard cannot be trained, without the framework's own words: they may quote a value."""
    return f"{error.cause} in the step of slice {error.slice}"


def _notify(hook: str, **facts: Any) -> None:
    """Tell the observers. They come after all is durable, and cannot change a result."""
    try:
        getattr(plugins().manager.hook, hook)(**facts)
    except Exception as error:  # noqa: BLE001
        warnings.warn(f"A plugin failed in {hook}: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=3)
