"""The one function that trains: build what the plan names and the store lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from unlearnkit.errors import EnvironmentChangedError, StateError, TrainingError
from unlearnkit.learner import Learner
from unlearnkit.ledger import Checkpoint
from unlearnkit.plan import Context, Plan, PlannedStep, missing, plan_all
from unlearnkit.records import Records
from unlearnkit.store import Store
from unlearnkit.threads import one_thread
from unlearnkit.training import ShardTask, TrainedStep, run_task, train_shard
from unlearnkit.typing import AnyArray, Parts


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
    """

    learner: Learner[Any]
    labels: AnyArray | None
    environment: str
    n_jobs: int | None

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
            If a step would go on from a state of another environment. Nothing was trained.
        """
        stored = {key: c for key, c in store.checkpoints().items() if key not in anew}
        due = [m for s, steps in enumerate(build.plan.shards) if s not in without and (m := missing(steps, stored))]
        for steps in due:
            self._refuse_foreign(steps[0], stored)
        failures: dict[int, TrainingError] = {}
        # Around all: OpenBLAS may ignore a limit that another thread lifts than the one that set it.
        with one_thread():
            for result in self._run(self._tasks(build, due, store), len(due)):
                if isinstance(result, TrainingError):
                    assert result.shard is not None
                    failures[result.shard] = result
                else:
                    on_step(result, store.save(result.step, result.parts, self.environment))
        return failures

    def _refuse_foreign(self, step: PlannedStep, stored: Mapping[str, Checkpoint]) -> None:
        parent = None if step.parent is None else stored.get(step.parent)
        if parent is not None and parent.environment != self.environment:
            raise EnvironmentChangedError(
                f"Shard {step.shard} would train on from a state that other library versions or another "
                "processor have made, and the result would equal no retrain. What was forgotten stays forgotten; "
                "nothing was trained. Go back to that environment, or call repair(rebuild=True)."
            )

    def _tasks(self, build: Build, due: list[tuple[PlannedStep, ...]], store: Store) -> Iterator[ShardTask]:
        """The tasks, each with its rows only once its turn has come: they may lie on disk."""
        for steps in due:
            with store.at_rest():
                # A request that came in meanwhile has changed the plan, and the rows may be gone.
                if not store.ledger.keys() >= {step.key for step in steps}:
                    continue
                parent = None if steps[0].parent is None else store.parts(steps[0].parent)
                records = store.shard(build.records, steps[0].shard)
                base = _base_of(build.plan, steps, store)
            yield ShardTask(self.learner, records, steps, parent, self.labels, base)

    def _run(self, tasks: Iterator[ShardTask], n_tasks: int) -> Iterator[TrainedStep | TrainingError]:
        # Late: who only counts and compares steps trains none.
        import joblib

        if n_tasks <= 1 or joblib.effective_n_jobs(self.n_jobs) == 1:
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


def _base_of(plan: Plan, steps: tuple[PlannedStep, ...], store: Store) -> Parts | None:
    """The parts of the base model, if one of these steps starts from it.

    Raises
    ------
    StateError
        If the store has lost them.
    """
    if plan.base is None or all(step.constant or step.parent is not None for step in steps):
        return None
    if plan.base not in store:
        raise StateError(
            "The base model that training starts from is not in the store any more; nothing was trained. Bring its "
            "blobs back from a backup, or call fit again with the same records and base=."
        )
    return store.parts(plan.base)


def _run_here(task: ShardTask) -> Iterator[TrainedStep | TrainingError]:
    try:
        yield from train_shard(task)
    except TrainingError as error:
        yield error
