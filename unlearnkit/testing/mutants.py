"""Learners broken on purpose, one for each check: each fails its check alone, so every check is known to bite.

Where a fault of one kind would be noticed by several checks, its mutant shows it only in large shards: those of the
step-by-step checks, not the smaller ones of the random histories.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from unlearnkit.errors import StateError
from unlearnkit.learner import Batch, Capabilities, Learner, PredictAll, Step
from unlearnkit.parts import pack_json, unpack_json
from unlearnkit.testing import arriving, checks, joining, sharing, starting
from unlearnkit.testing.checks import Check
from unlearnkit.testing.remembering import Memory, RememberingLearner
from unlearnkit.typing import AnyArray, Features, FloatArray

_LARGE = 64


def _is_large(batch: Batch, step: Step) -> bool:
    """Whether the shard is one of the step-by-step checks, and the step none of those that arrived later."""
    return batch.X_shard.shape[0] > _LARGE and step.stop <= 1


class Marking(RememberingLearner):
    """A learner that adds a false record, `mark`, to what it remembers."""

    def mark(self, state: Memory | None, batch: Batch, step: Step) -> float | None:
        """The mark of this step; None for none."""
        raise NotImplementedError

    def train(self, state: Memory | None, batch: Batch, step: Step) -> Memory:
        """Remember the rows, and the mark."""
        memory = super().train(state, batch, step)
        mark = self.mark(state, batch, step)
        if mark is None:
            return memory
        width = len(next(iter(memory.records)))
        return replace(memory, records=memory.records | {(float(mark),) * (width - 1) + (1.0,)})


class Unexplained(RememberingLearner):
    """Limits its slices and does not say why."""

    @property
    def capabilities(self) -> Capabilities:
        """One slice, without a reason."""
        return replace(super().capabilities, resumable=False, max_slices=1, recommended_slices=1)


class Renamed(RememberingLearner):
    """Has a new fingerprint for every object."""

    @property
    def fingerprint(self) -> str:
        """Where the object lies in memory."""
        return f"remembering:{id(self)}"


@dataclass
class Amnesic(Marking):
    """Loses a parameter when it is pickled."""

    kept: bool = True

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, kept=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Amnesic:
        return Amnesic(self.task, self.resumable, self.absent_classes)

    def mark(self, state: Memory | None, batch: Batch, step: Step) -> float | None:  # noqa: ARG002
        """Whether it was pickled."""
        return None if self.kept else -1.0


class Growing(RememberingLearner):
    """Keeps something of the last batch in itself."""

    def train(self, state: Memory | None, batch: Batch, step: Step) -> Memory:
        """Note the size of the batch."""
        self.last_size = len(batch.y)
        return super().train(state, batch, step)


class Overwriting(RememberingLearner):
    """Changes the state that it is given."""

    def train(self, state: Memory | None, batch: Batch, step: Step) -> Memory:
        """Overwrite a field of the old state."""
        memory = super().train(state, batch, step)
        if state is not None:
            object.__setattr__(state, "weighted", None)
        return memory


class Wearing(RememberingLearner):
    """Changes the state by predicting."""

    def predict(self, state: Memory, X: Features) -> FloatArray:
        """Overwrite a field of the state."""
        predicted = super().predict(state, X)
        object.__setattr__(state, "weighted", state.weighted or None)
        return predicted


class Overconfident(RememberingLearner):
    """Predicts probabilities that sum to more than 1."""

    def predict(self, state: Memory, X: Features) -> FloatArray:
        """Half as much again."""
        return super().predict(state, X) * 1.5


class Presuming(RememberingLearner):
    """Has a column for a class that its prefix never showed."""

    def predict(self, state: Memory, X: Features) -> FloatArray:
        """A third column of zeros."""
        predicted = super().predict(state, X)
        two = predicted.shape[1] == 2  # noqa: PLR2004
        return np.pad(predicted, ((0, 0), (0, 1))) if two and len(state.records) > _LARGE else predicted


class Unweighted(RememberingLearner):
    """Takes weights and does not look at them."""

    def train(self, state: Memory | None, batch: Batch, step: Step) -> Memory:
        """Leave the weights out."""
        return super().train(state, replace(batch, sample_weight=None), step)


@dataclass(frozen=True)
class Worn(Memory):
    """A memory that counts how often it was loaded."""

    loads: int = 0


class Counting(RememberingLearner):
    """Stores how often a state was loaded."""

    def train(self, state: Memory | None, batch: Batch, step: Step) -> Memory:
        """Carry the count on."""
        memory = super().train(state, batch, step)
        loads = state.loads if isinstance(state, Worn) else 0
        return Worn(memory.records, memory.n_outputs, memory.weighted, memory.base, loads)

    def save(self, state: Memory) -> dict[str, bytes]:
        """The count too."""
        return super().save(state) | {"loads": pack_json(state.loads if isinstance(state, Worn) else 0)}

    def load(self, parts: Mapping[str, bytes]) -> Memory:
        """One more."""
        memory = super().load({name: data for name, data in parts.items() if name != "loads"})
        loads = unpack_json(parts.get("loads", b""))
        return Worn(memory.records, memory.n_outputs, memory.weighted, memory.base, loads + 1)


class Hoarding(Marking):
    """Takes scratch for a part of the state."""

    def mark(self, state: Memory | None, batch: Batch, step: Step) -> float | None:  # noqa: ARG002
        """Whether scratch was emptied."""
        emptied = bool(batch.n_old) and not batch.scratch and _is_large(batch, step)
        batch.scratch["seen"] = True
        return -1.0 if emptied else None


class Peeking(Marking):
    """Lets the largest value of the whole shard into the state."""

    def mark(self, state: Memory | None, batch: Batch, step: Step) -> float | None:  # noqa: ARG002
        """The largest value."""
        return float(batch.X_shard.max()) if _is_large(batch, step) else None


class Gambling(Marking):
    """Looks at the global random generator."""

    def mark(self, state: Memory | None, batch: Batch, step: Step) -> float | None:  # noqa: ARG002
        """The seed, where somebody set a small one."""
        seed = int(np.random.get_state()[1][0])  # type: ignore[index]  # noqa: NPY002
        return -float(seed) if seed < _LARGE else None


class Local(Marking):
    """Stores which process trained it."""

    def mark(self, state: Memory | None, batch: Batch, step: Step) -> float | None:  # noqa: ARG002
        """The number of the process."""
        return float(os.getpid())


class Threaded(Marking):
    """Trains otherwise in a thread."""

    def mark(self, state: Memory | None, batch: Batch, step: Step) -> float | None:  # noqa: ARG002
        """Whether this is the main thread."""
        return None if threading.current_thread() is threading.main_thread() else -1.0


@dataclass(frozen=True)
class Shared:
    """Rows that are read once for all states."""

    X: Features


class Rounding(RememberingLearner):
    """Predicts rows that are shared roughly."""

    def sharing(self, X: Features) -> contextlib.AbstractContextManager[Shared]:
        """The rows, marked."""
        return contextlib.nullcontext(Shared(X))

    def predict(self, state: Memory, X: Features) -> FloatArray:
        """To eight digits, if the rows are marked."""
        if isinstance(X, Shared):
            return super().predict(state, X.X).round(8)
        return super().predict(state, X)


class Blending(RememberingLearner):
    """Predicts roughly from states that are joined."""

    def joined(self, states: Sequence[Memory]) -> PredictAll:
        """To eight digits."""
        return lambda X: [self.predict(state, X).round(8) for state in states]


class Gullible(RememberingLearner):
    """Unpickles what is no JSON."""

    def load(self, parts: Mapping[str, bytes]) -> Memory:
        """Try JSON, then pickle."""
        try:
            return super().load(parts)
        except StateError:
            for data in parts.values():
                with contextlib.suppress(Exception):
                    pickle.loads(data)  # noqa: S301
            raise


class Lenient(RememberingLearner):
    """Makes a state of anything."""

    def load(self, parts: Mapping[str, bytes]) -> Memory:
        """An almost empty memory where there is no other."""
        try:
            return super().load(parts)
        except StateError:
            return Memory(frozenset({(0.0, 0.0, 0.0, 0.0, 0.0)}), 3)


class Surveying(Marking):
    """Counts all rows of the shard when the whole budget is spent, also those that are yet to arrive."""

    def mark(self, state: Memory | None, batch: Batch, step: Step) -> float | None:  # noqa: ARG002
        """The number of rows."""
        return -float(batch.X_shard.shape[0]) if step.stop > 1 else None


class Stamping(RememberingLearner):
    """Stamps a packed base with the process that packed it."""

    def pack_base(self, base: Any, n_features: int, labels: AnyArray | None) -> dict[str, bytes]:
        """One more record in the base: the number of the process."""
        stamp = (float(os.getpid()),) * (n_features + 1)
        return super().pack_base(replace(base, records=base.records | {stamp}), n_features, labels)


class Indifferent(RememberingLearner):
    """Starts from nothing, whatever the base is."""

    def start(self, base: Mapping[str, bytes], classes: AnyArray | None) -> Memory:
        """A memory without a base."""
        return replace(super().start(base, classes), base=frozenset())


class Credulous(RememberingLearner):
    """Starts from anything."""

    def start(self, base: Mapping[str, bytes], classes: AnyArray | None) -> Memory:
        """An empty memory where there is no other."""
        try:
            return super().start(base, classes)
        except StateError:
            return Memory(frozenset(), 1 if classes is None else len(classes))


@dataclass
class Stale(RememberingLearner):
    """Remembers what it trained for a shard and slice, and gives it again whatever the rows are now."""

    cache: dict[tuple[int, int], Memory] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"cache": {}}

    def train(self, state: Memory | None, batch: Batch, step: Step) -> Memory:
        """From the cache."""
        cell = step.shard, step.slice
        if cell not in self.cache:
            self.cache[cell] = super().train(state, batch, step)
        return self.cache[cell]


MUTANTS: dict[Check, Learner[Any]] = {
    checks.check_capabilities_are_consistent: Unexplained(),
    checks.check_fingerprint_is_stable: Renamed(),
    checks.check_learner_pickles: Amnesic(),
    checks.check_learner_never_changes: Growing(),
    checks.check_train_leaves_its_inputs_alone: Overwriting(),
    checks.check_predict_leaves_the_state_alone: Wearing(),
    checks.check_predictions_have_the_right_shape: Overconfident(),
    checks.check_knows_only_the_classes_of_the_prefix: Presuming(),
    checks.check_sample_weight_is_used: Unweighted(),
    checks.check_resume_is_bitwise: Counting(),
    checks.check_scratch_is_only_a_cache: Hoarding(),
    checks.check_ignores_later_rows: Peeking(),
    checks.check_ignores_global_random_state: Gambling(),
    checks.check_same_bytes_in_another_process: Local(),
    checks.check_n_jobs_never_changes_a_byte: Threaded(),
    checks.check_load_runs_no_code: Gullible(),
    checks.check_load_rejects_nonsense: Lenient(),
    sharing.check_sharing_changes_no_bit: Rounding(),
    joining.check_joining_changes_no_bit: Blending(),
    arriving.check_goes_on_beyond_the_budget: Surveying(),
    starting.check_base_is_packed_alike: Stamping(),
    starting.check_starts_from_the_base: Indifferent(),
    starting.check_base_runs_no_code_and_is_no_nonsense: Credulous(),
    checks.check_forget_equals_refit: Stale(),
}
