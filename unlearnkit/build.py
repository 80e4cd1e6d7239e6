"""The one function that trains: build what the plan names and the store lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import joblib

from unlearnkit.data import ShardRecords
from unlearnkit.errors import EnvironmentChangedError, TrainingError
from unlearnkit.learner import Learner
from unlearnkit.plan import Plan, PlannedStep
from unlearnkit.store import StateStore
from unlearnkit.threads import one_thread
from unlearnkit.training import ShardTask, TrainedStep, run_task, train_shard
from unlearnkit.typing import AnyArray


@dataclass(frozen=True, slots=True)
class Build:
    """Records and the plan that follows from them; replaced as one.

    Attributes
    ----------
    records : tuple of ShardRecords
    plan : Plan
    """

    records: tuple[ShardRecords, ...]
    plan: Plan


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
    """

    learner: Learner[Any]
    labels: AnyArray | None
    environment: str
    n_jobs: int | None

    def build(
        self,
        build: Build,
        store: StateStore,
        on_step: Callable[[TrainedStep, bool], None],
        without: frozenset[int] = frozenset(),
    ) -> dict[int, TrainingError]:
        """Train the missing steps and keep each under its key.

        Parameters
        ----------
        build : Build
        store : StateStore
        on_step : callable
            Called with each trained step and whether it was kept, after it is durable.
        without : frozenset of int
            Shards to leave alone.

        Returns
        -------
        dict of int to TrainingError
            The shards that could not be trained to their end.

        Raises
        ------
        EnvironmentChangedError
            If a step would go on from a state of another environment. Nothing was trained.
        """
        with store.at_rest():
            tasks = [
                self._task(build.records[shard], missing, store)
                for shard, steps in enumerate(build.plan.shards)
                if shard not in without and (missing := store.missing(steps))
            ]
        failures: dict[int, TrainingError] = {}
        # Around all: OpenBLAS may ignore a limit that another thread lifts than the one that set it.
        with one_thread():
            for result in self._run(tasks):
                if isinstance(result, TrainingError):
                    assert result.shard is not None
                    failures[result.shard] = result
                else:
                    on_step(result, store.save(result.step, result.parts, self.environment))
        return failures

    def _task(
        self,
        records: ShardRecords,
        missing: tuple[PlannedStep, ...],
        store: StateStore,
    ) -> ShardTask:
        parent = missing[0].parent
        if parent is not None:
            checkpoint = store.ledger.checkpoint(parent)
            if checkpoint is not None and checkpoint.environment != self.environment:
                raise EnvironmentChangedError(
                    f"Shard {missing[0].shard} would train on from a state that other library versions or another "
                    "processor have made, and the result would equal no retrain. What was forgotten stays forgotten; "
                    "nothing was trained. Go back to that environment, or call repair(rebuild=True)."
                )
        return ShardTask(self.learner, records, missing, None if parent is None else store.parts(parent), self.labels)

    def _run(self, tasks: list[ShardTask]) -> Iterator[TrainedStep | TrainingError]:
        if len(tasks) <= 1 or joblib.effective_n_jobs(self.n_jobs) == 1:
            for task in tasks:
                yield from _run_here(task)
            return
        # Memory maps are off: they would leave rows in temporary files that no purge knows of.
        parallel = joblib.Parallel(
            n_jobs=self.n_jobs,
            prefer=self.learner.capabilities.parallel,
            max_nbytes=None,
            return_as="generator_unordered",
        )
        for trained, error in parallel(joblib.delayed(run_task)(task) for task in tasks):
            yield from trained
            if error is not None:
                yield error


def _run_here(task: ShardTask) -> Iterator[TrainedStep | TrainingError]:
    try:
        yield from train_shard(task)
    except TrainingError as error:
        yield error
