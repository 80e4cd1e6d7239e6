"""Forgetting: records out, isolated and purged at once; what is missing then is trained.

``repair`` trains for whatever has made a plan: a request, an arrival, a fit that was cut short.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from unlearnkit import upkeep
from unlearnkit.adapters import notify
from unlearnkit.build import Build, Builder
from unlearnkit.errors import (
    DataWarning,
    RowsDifferError,
    TrainingError,
)
from unlearnkit.external import NOWHERE_ELSE, Reading
from unlearnkit.ledger import UNFINISHED, Change, Checkpoint, Request
from unlearnkit.live import LiveModel
from unlearnkit.loading import LoadRows
from unlearnkit.memory import give_back
from unlearnkit.plan import Plan, PlannedStep, missing
from unlearnkit.progress import progress
from unlearnkit.receipts import Receipt
from unlearnkit.store import BUILT, REBUILT, TRAINING, UNTRAINABLE
from unlearnkit.training import TrainedStep


class ForgettingModel(LiveModel):
    """A model that forgets and is repaired.

    Notes
    -----
    `forget` may be called while `repair` trains: what was trained for a plan that is no longer current is dropped.
    """

    def forget(
        self, ids: Any, *, repair: bool = True, missing: str = "raise", load_rows: LoadRows | None = None
    ) -> Receipt:
        """Forget all records of these ids; see `SISAClassifier.forget`."""
        reading = self._reader(load_rows, needed=repair)
        with self.store.at_rest():
            self._sync()
            request = self._eraser.request(self._build, ids, missing)
            # That it is to be repaired at once must outlive this process, as the request does.
            request = replace(request, facts=request.facts | {WISH: repair})
            (sequence,) = self.store.ledger.submit([request])
            self._erase()
        if repair and self.receipt(sequence).repaired_at is None:
            self._repair_at_once(reading, "The records are forgotten, and the model is not repaired yet")
        self._warn_of_upkeep()
        return self.receipt(sequence)

    def catch_up(self) -> None:
        """Take over what other processes have changed, and carry out all requests that were recorded."""
        with self.store.at_rest():
            self._sync()
            self._erase()

    def _erase(self) -> None:
        """Isolate and purge all that was received: from here on nothing served or stored was influenced by it."""
        with self.store.at_rest():
            eraser = self._eraser
            build, changed = eraser.isolate(self._build)
            self._hold(build)
            if changed or not hasattr(self, "_snapshot"):
                # Only once it is swapped out is it isolated here.
                self._serve()
            self._hold(eraser.purge(build))
            finished = self._finish()
        notify_done(finished)

    def _finish(self, rebuilt: Iterable[int] = ()) -> list[Request]:
        return self._eraser.finish(self._build.plan, {*self.store.ledger.note(REBUILT, []), *rebuilt})

    # -- repair --------------------------------------------------------------------------------------------------

    def repair(self, *, rebuild: bool = False, load_rows: LoadRows | None = None) -> tuple[Receipt, ...]:
        """Train what is missing; see `SISAClassifier.repair`."""
        self.learner  # noqa: B018 - without it there is nothing to repair with
        reading = self._reader(load_rows, needed=rebuild)
        with self.store.at_rest():
            self._sync()
            self._erase()
            due = [request.sequence for request in self.store.ledger.requests(*UNFINISHED)]
            if rebuild:
                self._discard_unusable_states()
        failures = self._repair(reading=reading)
        if failures:
            raise next(iter(failures.values()))
        return tuple(self.receipt(sequence) for sequence in due)

    def _repair_at_once(self, reading: Reading, done: str) -> None:
        """Train what a change of the records has made due; `done` says what an error does not undo."""
        try:
            self._warn(self._repair(without=frozenset(self._untrainable), reading=reading))
        except RowsDifferError as error:
            raise RowsDifferError(f"{done}. {error}") from error

    def _repair(
        self, without: frozenset[int] = frozenset(), *, wait: bool = True, reading: Reading = NOWHERE_ELSE
    ) -> dict[int, TrainingError]:
        """Train what is missing, except in shards known to be untrainable, and close the requests that were due."""
        with self.store.locks.repairer(wait=wait):
            finished = None
            # A request that comes in while steps are trained changes the build: then there is more to do.
            while finished is None:
                with self.store.at_rest():
                    self._sync()
                    build = self._build
                    if self.store.ledger.keys() != build.plan.keys:
                        # A process that died had planned something beside it: by the lock nobody is at it any more.
                        self.store.replan(build.plan.keys)
                # What the request took, and the repair before it, would add to what training takes.
                give_back(build.records.n_records // build.records.n_shards)
                try:
                    failures = self._train("Repairing", build, without & self._untrainable.keys(), reading=reading)
                except BaseException:
                    # What was trained before the interruption serves.
                    self._serve()
                    raise
                finished = self._close(build, failures, without)
        notify_done(finished)
        return failures

    def _close(
        self, build: Build, failures: Mapping[int, TrainingError], without: frozenset[int]
    ) -> list[Request] | None:
        """Serve what was trained and close the requests that are done; None if the build is no longer current."""
        with self.store.at_rest():
            if self.store.ledger.keys() != build.plan.keys:
                return None
            self._sync()
            self._note_untrainable(failures, without)
            self._serve()
            finished = self._finish()
            if self.store.ledger.note(REBUILT):
                self.store.apply(Change(notes={REBUILT: []}))
            self._settled()
            self._epoch = self.store.ledger.epoch
            return finished

    def _discard_unusable_states(self) -> None:
        """Drop all states of shards that have a damaged one, or would train on from another environment's."""
        plan, stored = self._build.plan, self.store.checkpoints()
        damaged = self._damaged(stored)
        stale = {
            s
            for s, steps in enumerate(plan.shards)
            if self._is_foreign(steps, stored) or any(step.key in damaged for step in steps)
        }
        if stale:
            self.store.apply(Change(notes={REBUILT: sorted(stale)}))
            self.store.drop(step.key for shard in stale for step in plan.shards[shard])

    def _is_foreign(self, steps: tuple[PlannedStep, ...], stored: Mapping[str, Checkpoint]) -> bool:
        current = self.config.environment_digest
        found = (stored[step.key] for step in steps if step.key in stored)
        return bool(missing(steps, stored)) and any(checkpoint.environment != current for checkpoint in found)

    # -- train ---------------------------------------------------------------------------------------------------

    def _train(
        self,
        label: str,
        build: Build,
        without: Collection[int] = (),
        builder: Builder | None = None,
        anew: frozenset[str] = frozenset(),
        *,
        reading: Reading = NOWHERE_ELSE,
    ) -> dict[int, TrainingError]:
        """Train what a build misses; states of steps that leave the plan meanwhile are dropped."""
        build = replace(build, records=reading.of(build.records))
        stored = self.store.checkpoints().keys() - anew
        due = sum(len(missing(steps, stored)) for s, steps in enumerate(build.plan.shards) if s not in without)
        if due and self.store.durable:
            self.store.begin_training(self.config.environment_digest, self.config.environment)
        with progress(label, due, shown=self.config.verbose > 0) as advance:

            def on_step(trained: TrainedStep, kept: bool) -> None:  # noqa: FBT001
                advance(1)
                if kept:
                    notify("unlearnkit_step_trained", step=trained.step, seconds=trained.seconds)

            own = builder or self._builder
            failures = own.build(build, self.store, on_step, frozenset(without), anew) if due else {}
        self._drop_passing(build.plan)
        return failures

    def _drop_passing(self, plan: Plan) -> None:
        """Destroy states that training went on from, and that are not to be kept."""
        passing = {step.key for step in plan if not step.kept}
        found = passing & self.store.checkpoints().keys() if passing else set()
        if found:
            self.store.drop(found)

    def _warn(self, failures: Mapping[int, TrainingError]) -> None:
        for shard, error in failures.items():
            warnings.warn(
                f"Shard {shard} cannot be trained on the records that are left and stays isolated: {error}",
                RuntimeWarning,
                stacklevel=4,
            )

    def _warn_of_upkeep(self) -> None:
        """Warn of what has piled up or shrunken, once of each."""
        n_slices = self.config.n_slices
        found = upkeep.findings(n_slices, self.store.ledger.note(BUILT, ()), self.plan.counts(n_slices))
        for finding in found:
            if finding not in self._told:
                warnings.warn(finding, DataWarning, stacklevel=4)
        self._told = frozenset(found)

    def _note_untrainable(self, failures: Mapping[int, TrainingError], kept: Collection[int]) -> None:
        # Reasons, not the errors: their tracebacks would keep rows alive that a later request removes.
        known = self._untrainable
        found = {s: why for s, why in known.items() if s in kept} | {s: _reason(e) for s, e in failures.items()}
        if found != known:
            self.store.apply(Change(notes={UNTRAINABLE: {str(shard): why for shard, why in found.items()}}))

    def _settled(self) -> None:
        """Note that no training is under way."""
        if self.store.ledger.note(TRAINING):
            self.store.apply(Change(notes={TRAINING: False}))


WISH = "repair"
"""The fact of a request that says whether `forget` was to repair at once."""


def _reason(error: TrainingError) -> str:
    """Why a shard cannot be trained, without the framework's own words: they may quote a value."""
    return f"{error.cause} in the step of slice {error.slice}"


def notify_done(finished: list[Request]) -> None:
    """Tell the observers of these requests."""
    for request in finished:
        notify("unlearnkit_request_done", receipt=Receipt.of(request))
