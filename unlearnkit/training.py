"""Training: run the steps of one shard, each from a state decoded from its stored bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearnkit.data import ShardRecords, first_rows
from unlearnkit.errors import ParameterError, StateError, TrainingError
from unlearnkit.learner import Batch, Learner, Warm
from unlearnkit.parts import pack_json, unpack_json
from unlearnkit.plan import PlannedStep
from unlearnkit.threads import one_thread
from unlearnkit.typing import AnyArray, IntArray, Parts

CONSTANT = "constant"


@dataclass(frozen=True, slots=True)
class ShardTask:
    """The training of one shard from its first missing step on. It travels to worker processes.

    Attributes
    ----------
    learner : Learner
    records : ShardRecords
    steps : tuple of PlannedStep
        The missing steps.
    parent : dict or None
        The stored parts that the first of them trains on from.
    labels : ndarray or None
        The class labels of the schema.
    base : dict or None
        The parts of the model that every start is from.
    """

    learner: Learner[Any]
    records: ShardRecords
    steps: tuple[PlannedStep, ...]
    parent: Parts | None
    labels: AnyArray | None
    base: Parts | None = None


@dataclass(frozen=True, slots=True)
class TrainedStep:
    """The stored form of a trained state, and the seconds that it took.

    Attributes
    ----------
    step : PlannedStep
    parts : dict
        Empty where they need not be brought back: the state is not to be kept, or it is written already.
    seconds : float
    written : tuple of (str, str)
        Part and blob names of a state that a worker has put into the blobs itself.
    """

    step: PlannedStep
    parts: Parts
    seconds: float
    written: tuple[tuple[str, str], ...] = ()


def train_shard(task: ShardTask) -> Iterator[TrainedStep]:
    """Train the steps of a task one after the other.

    Raises
    ------
    TrainingError
        If the framework fails in a step; the steps before it have been yielded.
    """
    parts = task.parent
    scratch: dict[str, Any] = {}
    with one_thread():
        for planned in task.steps:
            began = time.perf_counter()
            if planned.constant:
                assert planned.classes is not None
                parts = save_constant(planned.classes[0])
            else:
                if planned.parent is None:
                    parts, scratch = None, {}
                parts = _train_step(task, planned, parts, scratch)
            yield TrainedStep(planned, parts, time.perf_counter() - began)


def _train_step(task: ShardTask, planned: PlannedStep, parts: Parts | None, scratch: dict[str, Any]) -> Parts:
    learner = task.learner
    # Decoded from bytes in the first fit too: a state in memory may differ from the one that a repair will load.
    batch = make_batch(task.records, planned, task.labels, scratch)
    try:
        state = _start(learner, task.base, batch.classes) if parts is None else learner.load(parts)
        return learner.save(learner.train(state, batch, planned.step))
    except (ParameterError, StateError, MemoryError):
        raise
    except Exception as error:
        raise TrainingError(
            f"Shard {planned.shard} could not be trained at slice {planned.slice} "
            f"({planned.n} rows): {type(error).__name__}: {error}",
            planned.shard,
            planned.slice,
            type(error).__name__,
        ) from error


def _start(learner: Learner[Any], base: Parts | None, classes: AnyArray | None) -> Any:
    if base is None:
        return None
    assert isinstance(learner, Warm)
    return learner.load(learner.save(learner.start(base, classes)))


def make_batch(records: ShardRecords, planned: PlannedStep, labels: AnyArray | None, scratch: dict[str, Any]) -> Batch:
    """What the learner gets for a step: the prefix as views of the shard's records."""
    n = planned.n
    classes = None if labels is None or planned.classes is None else labels[list(planned.classes)]
    return Batch(
        X=first_rows(records.X, n),
        y=prefix_codes(records.y[:n], planned.classes),
        sample_weight=None if records.weight is None else records.weight[:n],
        n_old=planned.n_old,
        classes=classes,
        u=records.u[:n],
        X_shard=first_rows(records.X, records.n_active),
        scratch=scratch,
    )


def prefix_codes(y: AnyArray, classes: tuple[int, ...] | None) -> AnyArray:
    """Codes of the schema as codes 0..k-1 of the classes of a prefix."""
    if classes is None or classes == tuple(range(len(classes))):
        return y
    codes: IntArray = np.searchsorted(np.asarray(classes), y)
    return codes


def save_constant(code: int) -> Parts:
    """The state of a prefix with one class."""
    return {CONSTANT: pack_json(code)}


def load_constant(parts: Mapping[str, bytes]) -> int:
    """The class code of a constant state.

    Raises
    ------
    StateError
        If the parts are not one.
    """
    code = unpack_json(parts[CONSTANT]) if set(parts) == {CONSTANT} else None
    if not isinstance(code, int):
        raise StateError("A stored constant is not a class code; nothing was changed. Rebuild it from the records.")
    return code
