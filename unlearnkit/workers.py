"""Workers: who trains the shards, here or wherever joblib sends them.

A worker in another process, perhaps on another machine, reads its rows from the store, trains, puts its states into the
blobs and sends back their names; what is recorded in the ledger is for the caller to say. Without a store the rows
travel to it and the states back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from unlearnkit.blobs import Blobs, get_parts, put_parts
from unlearnkit.environment import environment_now
from unlearnkit.errors import EnvironmentChangedError, StateError, TrainingError
from unlearnkit.learner import Learner
from unlearnkit.ledger import Checkpoint
from unlearnkit.plan import PlannedStep
from unlearnkit.stored import StoredRecords
from unlearnkit.training import ShardTask, TrainedStep, train_shard
from unlearnkit.typing import AnyArray, Parts

Result: TypeAlias = "TrainedStep | TrainingError | StateError"
"""A step, or why a shard could not be trained to its end: a state error if what it was to read is not there."""


@dataclass(frozen=True, slots=True)
class RemoteTask:
    """The training of one shard by who reads its rows and states from the store.

    Attributes
    ----------
    learner : Learner
    records : StoredRecords
        Of the shard, not read yet.
    steps : tuple of PlannedStep
        The missing steps.
    parent, base : Checkpoint or None
        The states that the first of them, and those that start anew, train on from.
    labels : ndarray or None
        The class labels of the schema.
    blobs : Blobs
    """

    learner: Learner[Any]
    records: StoredRecords
    steps: tuple[PlannedStep, ...]
    parent: Checkpoint | None
    labels: AnyArray | None
    base: Checkpoint | None
    blobs: Blobs

    def read(self) -> ShardTask:
        """The task with all that it takes.

        Raises
        ------
        StateError
            If something is not there any more, or damaged.
        """
        records = self.records.shard(self.steps[0].shard)
        return ShardTask(
            self.learner, records, self.steps, self._parts(self.parent), self.labels, self._parts(self.base)
        )

    def _parts(self, checkpoint: Checkpoint | None) -> Parts | None:
        return None if checkpoint is None else get_parts(self.blobs, checkpoint.parts)


@dataclass(frozen=True, slots=True)
class Workers:
    """Those who train shards side by side.

    Attributes
    ----------
    n_jobs : int or None
        As joblib understands it.
    prefer : {"threads", "processes"}
        What the learner takes best. The backend that ``joblib.parallel_config`` sets counts for more.
    environment : mapping of str to str
        What theirs must be. Empty: they are not asked.
    """

    n_jobs: int | None
    prefer: str
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many there are."""
        # Late: who only counts and compares steps trains none.
        import joblib

        with joblib.parallel_config(prefer=self.prefer):
            return int(joblib.effective_n_jobs(self.n_jobs))

    @property
    def are_elsewhere(self) -> bool:
        """Whether they have no memory in common with the caller."""
        return not getattr(self._backend, "supports_sharedmem", False)

    @property
    def are_far(self) -> bool:
        """Whether they may be on other machines: joblib's own backends start processes on this one."""
        return self.are_elsewhere and type(self._backend).__module__ != "joblib._parallel_backends"

    @property
    def _backend(self) -> Any:
        from joblib.parallel import get_active_backend

        backend, _ = get_active_backend(prefer=self.prefer)
        return backend

    def run(self, tasks: Iterable[ShardTask | RemoteTask]) -> Iterator[Result]:
        """Carry out tasks, in any order; they are taken one by one, as workers become free.

        Raises
        ------
        concurrent.futures.BrokenExecutor
            If a worker was killed. What others had not brought back yet is lost.
        """
        import joblib

        # Memory maps are off: they would leave rows in temporary files that no purge knows of.
        parallel = joblib.Parallel(
            n_jobs=self.n_jobs, prefer=self.prefer, max_nbytes=None, return_as="generator_unordered"
        )
        call = joblib.delayed(run_task)
        for results in parallel(call(task, self.environment) for task in tasks):
            yield from results


def run_here(task: ShardTask) -> Iterator[Result]:
    """Carry out a task in this thread, step by step."""
    try:
        yield from train_shard(task)
    except TrainingError as error:
        yield error


def run_task(task: ShardTask | RemoteTask, environment: Mapping[str, str]) -> list[Result]:
    """Carry out a whole task: what a worker does, and sends back.

    Raises
    ------
    EnvironmentChangedError
        If this worker has not the libraries or the processor of the caller.
    """
    _check_environment(environment)
    try:
        whole = task.read() if isinstance(task, RemoteTask) else task
    except StateError as error:
        return [StateError(f"{error} (A worker was to read it: it has to reach the blobs of the store.)")]
    return [_brought_back(result, task) for result in run_here(whole)]


def _brought_back(result: Result, task: ShardTask | RemoteTask) -> Result:
    """As much of a result as has to travel."""
    if not isinstance(result, TrainedStep):
        return result
    if not result.step.kept:
        return replace(result, parts={})
    if isinstance(task, RemoteTask):
        return replace(result, parts={}, written=put_parts(task.blobs, result.parts))
    return result


def _check_environment(expected: Mapping[str, str]) -> None:
    here = environment_now(dict(expected))
    differing = sorted(name for name, version in expected.items() if here[name] != version)
    if differing:
        raise EnvironmentChangedError(
            f"A worker has another environment than the process that builds: it differs in {', '.join(differing)}. The "
            "model would equal no retrain; what was trained before is kept. Install the same versions on workers of "
            "one kind of processor, and call fit or repair again."
        )
