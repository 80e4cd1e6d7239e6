"""The one function that trains: build what the plan names and the store lacks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field
from typing import Any

from unlearnkit.errors import EnvironmentChangedError, StateError, TrainingError, WorkerLostError
from unlearnkit.learner import Learner
from unlearnkit.ledger import Checkpoint
from unlearnkit.plan import Context, Plan, PlannedStep, missing, plan_all
from unlearnkit.records import Records
from unlearnkit.store import Store
from unlearnkit.stored import StoredRecords
from unlearnkit.threads import one_thread
from unlearnkit.training import ShardTask, TrainedStep
from unlearnkit.typing import AnyArray
from unlearnkit.workers import RemoteTask, Result, Workers, run_here

_ATTEMPTS = 3
"""How often in a row workers may be lost without a shard getting done."""


@dataclass(frozen=True, slots=True)
class Build:
    """Records and the plan that follows from them; replaced as one.

    Attributes
    ----------
    records : Records
    plan : Plan
    """

    records: Records
    plan: Plan

    @classmethod
    def of(cls, context: Context, records: Records) -> Build:
        """The build of these records."""
        return cls(records, plan_all(context, map(records.facts, range(records.n_shards))))


@dataclass(frozen=True, slots=True)
class Builder:
    """How steps are trained.

    Attributes
    ----------
    learner : Learner
    labels : ndarray or None
        The class labels of the schema.
    environment : str
        Digest of the environment that trains now.
    n_jobs : int or None
        Shards side by side, as joblib understands it; it never changes a byte.
    environment_facts : mapping of str to str
        What the environment is, which workers elsewhere must have too. Empty: they are not asked.
    """

    learner: Learner[Any]
    labels: AnyArray | None
    environment: str
    n_jobs: int | None
    environment_facts: Mapping[str, str] = field(default_factory=dict)

    def build(
        self,
        build: Build,
        store: Store,
        on_step: Callable[[TrainedStep, bool], None],
        without: frozenset[int] = frozenset(),
        anew: frozenset[str] = frozenset(),
    ) -> dict[int, TrainingError]:
        """Train the missing steps and keep each under its key.

        Parameters
        ----------
        build : Build
        store : Store
        on_step : callable
            Called with each trained step and whether it was kept, after it is durable.
        without : frozenset of int
            Shards to leave alone.
        anew : frozenset of str
            Keys of steps to train though they are stored.

        Returns
        -------
        dict of int to TrainingError
            The shards that could not be trained to their end.

        Raises
        ------
        EnvironmentChangedError
            If a step would go on from a state of another environment: nothing was trained then. Or if a worker has
            another.
        WorkerLostError
            If worker processes are killed again and again.
        """
        due = self._due(build, store, without, anew)
        stored = {key: c for key, c in store.checkpoints().items() if key not in anew}
        for steps in due.values():
            self._refuse_foreign(steps[0], stored)
        failures: dict[int, TrainingError] = {}
        done: set[str] = set()

        def tell(trained: TrainedStep, kept: bool) -> None:  # noqa: FBT001
            done.add(trained.step.key)
            on_step(trained, kept)

        lost, interrupted = 0, None
        while due:
            interrupted = self._build_once(build, store, due, tell, failures, again=interrupted is not None)
            left = self._due(build, store, without | failures.keys(), anew - done)
            left = {s: steps for s, steps in left.items() if s in due and _is_planned(steps, store)}
            lost = lost + 1 if len(left) == len(due) else 0
            if left and lost == _ATTEMPTS:
                raise interrupted or _given_up(left)
            due = left
        return failures

    def _due(
        self, build: Build, store: Store, without: Collection[int], anew: frozenset[str]
    ) -> dict[int, tuple[PlannedStep, ...]]:
        """The steps to train, by shard."""
        stored = store.checkpoints().keys() - anew
        shards = ((s, missing(steps, stored)) for s, steps in enumerate(build.plan.shards) if s not in without)
        return {s: steps for s, steps in shards if steps}

    def _build_once(
        self,
        build: Build,
        store: Store,
        due: Mapping[int, tuple[PlannedStep, ...]],
        on_step: Callable[[TrainedStep, bool], None],
        failures: dict[int, TrainingError],
        *,
        again: bool,
    ) -> Exception | None:
        """Train these steps, as far as it goes; says what stood in the way of a worker, if anything did."""
        interrupted: Exception | None = None
        # Around all: OpenBLAS may ignore a limit that another thread lifts than the one that set it.
        with one_thread():
            try:
                for result in self._run(build, due, store, again=again):
                    if isinstance(result, TrainingError):
                        assert result.shard is not None
                        failures[result.shard] = result
                    elif isinstance(result, StateError):
                        interrupted = result
                    else:
                        on_step(result, result.step.kept and self._keep(result, store))
            except BrokenExecutor as error:
                interrupted = _worker_lost(error)
        return interrupted

    def _keep(self, trained: TrainedStep, store: Store) -> bool:
        if not trained.written:
            return store.save(trained.step, trained.parts, self.environment)
        try:
            return store.commit(trained.step, trained.written, self.environment)
        except StateError:
            # Swept meanwhile by who could not know of it: the step is still missing, and trained again.
            return False

    def _refuse_foreign(self, step: PlannedStep, stored: Mapping[str, Checkpoint]) -> None:
        parent = None if step.parent is None else stored.get(step.parent)
        if parent is not None and parent.environment != self.environment:
            raise EnvironmentChangedError(
                f"Shard {step.shard} would train on from a state that other library versions or another "
                "processor have made, and the result would equal no retrain. What was forgotten stays forgotten; "
                "nothing was trained. Go back to that environment, or call repair(rebuild=True)."
            )

    def _run(
        self, build: Build, due: Mapping[int, tuple[PlannedStep, ...]], store: Store, *, again: bool
    ) -> Iterator[Result]:
        workers = Workers(self.n_jobs, self.learner.capabilities.parallel, self.environment_facts)
        # What has killed a worker must not get at this process.
        together = workers.count > 1 and (len(due) > 1 or again or workers.are_far)
        make = self._remote_task if together and workers.are_elsewhere and store.durable else self._task
        # Each is made only once its turn has come: its rows may lie on disk.
        tasks = (task for steps in due.values() if (task := make(build, steps, store)) is not None)
        if together:
            yield from workers.run(tasks)
        else:
            for task in tasks:
                assert isinstance(task, ShardTask)
                yield from run_here(task)

    def _task(self, build: Build, steps: tuple[PlannedStep, ...], store: Store) -> ShardTask | None:
        """The task of these steps; None if they are not planned any more.

        A request that came in meanwhile has changed the plan then, and the rows may be gone.
        """
        with store.at_rest():
            if not _is_planned(steps, store):
                return None
            parent = None if steps[0].parent is None else store.parts(steps[0].parent)
            base = store.parts(key) if (key := _base_of(build.plan, steps, store)) else None
            records = store.ready(build.records, steps[0].shard)
        # Rows that are kept elsewhere are read while requests may come in: it may take long.
        return ShardTask(self.learner, records(), steps, parent, self.labels, base)

    def _remote_task(self, build: Build, steps: tuple[PlannedStep, ...], store: Store) -> RemoteTask | None:
        """The same for a worker that reads rows and states itself."""
        assert isinstance(build.records, StoredRecords)
        with store.at_rest():
            if not _is_planned(steps, store):
                return None
            parent = None if steps[0].parent is None else store.ledger.checkpoint(steps[0].parent)
            base = store.ledger.checkpoint(key) if (key := _base_of(build.plan, steps, store)) else None
            records = store.located(build.records, steps[0].shard)
        return RemoteTask(self.learner, records, steps, parent, self.labels, base, store.blobs)


def _is_planned(steps: tuple[PlannedStep, ...], store: Store) -> bool:
    return store.ledger.keys() >= {step.key for step in steps}


def _base_of(plan: Plan, steps: tuple[PlannedStep, ...], store: Store) -> str | None:
    """The key of the base model, if one of these steps starts from it.

    Raises
    ------
    StateError
        If the store has lost it.
    """
    if plan.base is None or all(step.constant or step.parent is not None for step in steps):
        return None
    if plan.base not in store:
        raise StateError(
            "The base model that training starts from is not in the store any more; nothing was trained. Bring its "
            "blobs back from a backup, or call fit again with the same records and base=."
        )
    return plan.base


def _worker_lost(error: BrokenExecutor) -> WorkerLostError:
    lost = WorkerLostError(
        f"A worker process was killed {_ATTEMPTS} times in a row while it trained, most often for want of memory. What "
        "was trained is kept and nothing else was changed. Lower n_jobs, or use more shards, and call fit or repair "
        "again."
    )
    lost.__cause__ = error
    return lost


def _given_up(left: Collection[int]) -> StateError:
    return StateError(
        f"New states of shard {min(left)} were swept away {_ATTEMPTS} times before they were recorded; what was "
        "trained before is kept. See that no other process sweeps the store all the time, and call repair()."
    )
