"""A learner that does nothing but remember, so that leakage is an assertion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unlearnkit.errors import ParameterError, StateError
from unlearnkit.learner import Batch, Capabilities, Step
from unlearnkit.parts import pack_json, unpack_json
from unlearnkit.typing import AnyArray, Features, FloatArray, Task


def dense(X: Features) -> AnyArray:
    """The values of X as one array."""
    values: AnyArray = X.toarray() if hasattr(X, "toarray") else np.asarray(X)
    return values


@dataclass(frozen=True)
class Memory:
    """What a `RememberingLearner` has seen.

    Attributes
    ----------
    records : frozenset of tuple
        The rows seen: features, target and, in a model with weights, the weight.
    n_outputs : int
        Columns to predict.
    weighted : bool
        Whether the last number of a record is its weight.
    base : frozenset of tuple
        Features and targets of the records of the base that training started from.
    """

    records: frozenset[tuple[float, ...]]
    n_outputs: int
    weighted: bool = False
    base: frozenset[tuple[float, ...]] = frozenset()


@dataclass
class RememberingLearner:
    """A learner whose state is the set of records that it saw.

    Parameters
    ----------
    task : {"classification", "regression"}
    resumable, absent_classes : bool
        What it declares.

    Attributes
    ----------
    trained : list of Step
        The steps that it was called for, in order. Kept in this process only.

    Examples
    --------
    >>> import numpy as np
    >>> from unlearnkit.testing import RememberingLearner, ensemble
    >>> learner = RememberingLearner()
    >>> X, y = np.arange(40.0).reshape(-1, 1), np.arange(40) % 2
    >>> model = ensemble(learner, n_shards=2, n_slices=2).fit(X, y, ids=range(40))
    >>> _ = model.forget(7)
    >>> any((7.0, 1.0) in memory.records for memory in model.constituents)
    False
    """

    task: Task = "classification"
    resumable: bool = True
    absent_classes: bool = False
    trained: list[Step] = field(default_factory=list, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"trained": []}

    @property
    def capabilities(self) -> Capabilities:
        """As declared."""
        return Capabilities(
            task=self.task,
            resumable=self.resumable,
            max_slices=None if self.resumable else 1,
            why_limited="" if self.resumable else "it was told not to be resumable",
            recommended_slices=3 if self.resumable else 1,
            probabilities=True,
            sample_weight=True,
            missing_values=True,
            sparse=True,
            absent_classes=self.absent_classes,
            parallel="threads",
        )

    @property
    def fingerprint(self) -> str:
        """Its parameters in words."""
        return f"remembering:{self.task}:{self.resumable}:{self.absent_classes}"

    def train(self, state: Memory | None, batch: Batch, step: Step) -> Memory:
        """Remember the new rows too."""
        self.trained.append(step)
        seen = frozenset() if state is None else state.records
        X = dense(batch.X)
        weighted = batch.sample_weight is not None
        columns: list[Any] = [X, batch.y, batch.sample_weight] if weighted else [X, batch.y]
        rows = np.column_stack(columns)[batch.n_old :]
        n_outputs = 1 if batch.classes is None else len(batch.classes)
        base = frozenset() if state is None else state.base
        return Memory(seen | {tuple(row) for row in rows.tolist()}, n_outputs, weighted, base)

    def predict(self, state: Memory, X: Features) -> FloatArray:
        """Something that depends on every record: frequencies of the classes, or the mean of the targets."""
        records = np.array(sorted(state.records | _as_heavy(state.base, weighted=state.weighted)))
        weight = records[:, -1] if state.weighted else np.ones(len(records))
        targets = records[:, -2] if state.weighted else records[:, -1]
        if self.task == "regression":
            return np.full(X.shape[0], np.average(targets, weights=weight))
        frequencies = np.bincount(targets.astype(np.int64), weights=weight, minlength=state.n_outputs) / weight.sum()
        return np.tile(frequencies, (X.shape[0], 1))

    def save(self, state: Memory) -> dict[str, bytes]:
        """The records, sorted."""
        base = {"base": pack_json(sorted(state.base))} if state.base else {}
        shape = pack_json([state.n_outputs, state.weighted])
        return {"records": pack_json(sorted(state.records)), "shape": shape} | base

    def load(self, parts: Mapping[str, bytes]) -> Memory:
        """The records."""
        if set(parts) - {"base"} != {"records", "shape"}:
            raise StateError(f"Expected the parts records and shape, got {sorted(parts)}; nothing was changed.")
        match unpack_json(parts["shape"]):
            case [int(n_outputs), bool(weighted)]:
                base = _records(parts["base"]) if "base" in parts else frozenset()
                return Memory(_records(parts["records"]), n_outputs, weighted, base)
        raise StateError("The stored shape is none; nothing was changed.")

    def pack_base(self, base: Any, n_features: int, labels: AnyArray | None) -> dict[str, bytes]:
        """The records of a `Memory`, sorted, without their weights.

        Raises
        ------
        ParameterError
            If it is no memory of such records.
        """
        if not isinstance(base, Memory) or any(
            len(record) != n_features + 1 + base.weighted for record in base.records
        ):
            raise ParameterError(f"base is no Memory of records with {n_features} features; nothing was changed.")
        if self.task == "classification" and base.n_outputs != len(labels if labels is not None else ()):
            raise ParameterError(f"base remembers {base.n_outputs} classes, not those of y; nothing was changed.")
        return {"records": pack_json(sorted(record[: n_features + 1] for record in base.records))}

    def start(self, base: Mapping[str, bytes], classes: AnyArray | None) -> Memory:
        """Remember the base, and no record yet."""
        if set(base) != {"records"}:
            raise StateError(f"Expected the part records, got {sorted(base)}; nothing was changed.")
        k = 1 if classes is None else len(classes)
        records = _records(base["records"])
        known = records if classes is None else frozenset(record for record in records if record[-1] < k)
        return Memory(frozenset(), k, base=known)


def _records(data: bytes) -> frozenset[tuple[float, ...]]:
    records: Any = unpack_json(data)
    if not isinstance(records, list) or not all(isinstance(record, list) for record in records):
        raise StateError("The stored records are not a list; nothing was changed.")
    return frozenset(tuple(record) for record in records)


def _as_heavy(base: frozenset[tuple[float, ...]], *, weighted: bool) -> frozenset[tuple[float, ...]]:
    """The records of the base beside others: of weight 1 where those have weights."""
    return frozenset((*record, 1.0) for record in base) if weighted else base
