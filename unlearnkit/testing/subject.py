"""What a check is run on: a model, rows that suit it, and ways to train it step by step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from unlearnkit.adapters import resolve
from unlearnkit.aggregation import choose
from unlearnkit.config import Config
from unlearnkit.data import ShardRecords
from unlearnkit.ensemble import SisaEnsemble
from unlearnkit.ingest import ingest
from unlearnkit.learner import Learner
from unlearnkit.partition import HashPartition
from unlearnkit.plan import Context, PlannedStep, plan_shard
from unlearnkit.schema import Schema
from unlearnkit.threads import one_thread
from unlearnkit.training import make_batch
from unlearnkit.typing import Parts

SECRET = b"the secret of the conformance kit"
LONG, SHORT = 90, 60
"""Rows in the one shard of step-by-step checks, and in all shards of a random history."""

_LABELS = np.array(["a", "b", "c"])


@dataclass(frozen=True)
class Subject:
    """A model under test.

    Attributes
    ----------
    name : str
    make : callable
        Gives a fresh learner.
    original : object
        The native model, or the learner itself.
    X, y : array-like
        Rows that suit the model.
    base : object or None
        For a learner that can start warm: a model to start from. None: the model fitted on some of the rows.
    """

    name: str
    make: Callable[[], Learner[Any]]
    original: Any
    X: Any
    y: Any
    base: Any = None

    @classmethod
    def of(cls, model: Any, X: Any = None, y: Any = None, *, name: str | None = None, base: Any = None) -> Subject:
        """A subject from a native model or a learner.

        Parameters
        ----------
        model : object
            A model that an installed plugin wraps, a `Learner`, or a Subject, which is returned as it is.
        X, y : array-like or None
            At least 90 rows that suit it; None means four non-negative numbers per row, with three classes or a
            positive target.
        name : str or None
            What test ids call it.
        base : object or None
            For a learner that can start warm: what a user would pass as ``base=``. None means the native model, or
            the learner's state, after training on some of the rows.
        """
        if isinstance(model, Subject):
            return model
        own = isinstance(model, Learner)
        make: Callable[[], Learner[Any]] = (lambda: copy.deepcopy(model)) if own else (lambda: resolve(model))
        if X is None:
            X, y = default_rows(make().capabilities.task)
        return cls(name or type(model).__name__, make, model, X, y, base)

    @property
    def n_slices(self) -> int:
        """Three slices, or as many as the learner can have."""
        capabilities = self.make().capabilities
        return min(3, capabilities.max_slices or 3) if capabilities.resumable else 1

    def rows(self, n: int, seed: int) -> tuple[Any, Any]:
        """`n` of the rows at most, drawn by `seed`; rows of every class among them."""
        size = len(self.y)
        chosen = np.random.default_rng(seed).permutation(size)[: min(n, size)]
        if self.make().capabilities.task == "classification":
            _, first = np.unique(np.asarray(self.y), return_index=True)
            chosen = np.unique(np.concatenate([first, chosen]))
        return pick(self.X, chosen), np.asarray(self.y)[chosen]

    def base_model(self) -> Any:
        """A model to start from, as a user would have it."""
        if self.base is not None:
            return self.base
        X, y = self.rows(SHORT, seed=3)
        if isinstance(self.original, Learner):
            shard = one_shard(self, n_slices=1, X=X, y=y)
            return shard.learner.load(shard.last())
        try:
            return copy.deepcopy(self.original).fit(X, y)
        except Exception as error:
            message = f"the model cannot be fitted on its own rows to be a base: pass base= to Subject.of ({error})"
            raise AssertionError(message) from error

    def ensemble(self, n_shards: int, n_slices: int, *, schema: Schema | None = None, n_jobs: int = 1) -> SisaEnsemble:
        """An unfitted ensemble over a fresh learner."""
        return ensemble(self.make(), n_shards=n_shards, n_slices=n_slices, schema=schema, n_jobs=n_jobs, name=self.name)


def ensemble(
    learner: Learner[Any],
    *,
    n_shards: int = 2,
    n_slices: int = 1,
    schema: Schema | None = None,
    n_jobs: int | None = None,
    name: str = "learner",
) -> SisaEnsemble:
    """An unfitted ensemble over a learner, with fixed seed and secret, without plugins.

    Parameters
    ----------
    learner : Learner
    n_shards, n_slices : int
    schema : Schema or None
    n_jobs : int or None
    name : str
        What messages call it.
    """
    return SisaEnsemble(
        learner,
        Config(
            name=name,
            n_shards=n_shards,
            n_slices=n_slices,
            aggregation=choose("auto", learner.capabilities),
            partition=HashPartition(SECRET),
            schema=schema,
            when_isolated="prior",
            seed=7,
            random_state=7,
            n_jobs=n_jobs,
        ),
    )


@dataclass(frozen=True)
class Shard:
    """One shard with its plan, to train step by step.

    Attributes
    ----------
    learner : Learner
    records : ShardRecords
    steps : tuple of PlannedStep
        Without those that the core holds itself.
    schema : Schema
    """

    learner: Learner[Any]
    records: ShardRecords
    steps: tuple[PlannedStep, ...]
    schema: Schema

    def states(self, *, keep_scratch: bool = True) -> Iterator[tuple[PlannedStep, Parts]]:
        """Train all steps, each from the decoded parts of the one before; the parts after each."""
        parts: Parts | None = None
        scratch: dict[str, Any] = {}
        for step in self.steps:
            if step.parent is None or not keep_scratch:
                scratch = {}
            parts = self.train(step, None if step.parent is None else parts, scratch)
            yield step, parts

    def train(self, step: PlannedStep, parts: Parts | None, scratch: dict[str, Any]) -> Parts:
        """The parts after one step from the given parts."""
        state = None if parts is None else self.learner.load(parts)
        with one_thread():
            return self.learner.save(self.learner.train(state, self.batch(step, scratch), step.step))

    def batch(self, step: PlannedStep, scratch: dict[str, Any]) -> Any:
        """What the learner gets for a step."""
        return make_batch(self.records, step, self.schema.labels, scratch)

    def last(self) -> Parts:
        """The parts after the last step."""
        return list(self.states())[-1][1]

    def with_records(self, records: ShardRecords) -> Shard:
        """The same steps over other records."""
        return replace(self, records=records)


def one_shard(
    subject: Subject,
    *,
    n_slices: int | None = None,
    arrivals: int = 0,
    X: Any = None,
    y: Any = None,
    sample_weight: Any = None,
) -> Shard:
    """All rows of a subject (or the given ones) in one shard, some of them in slices that arrived later."""
    learner = subject.make()
    capabilities = learner.capabilities
    count = n_slices or subject.n_slices
    if X is None:
        X, y = subject.rows(LONG, seed=0)
    ingested = ingest(
        X,
        y,
        sample_weight,
        range(len(y)),
        schema=None,
        partition=HashPartition(SECRET).bind(1, count + arrivals, None),
        capabilities=capabilities,
        name=subject.name,
    )
    records, schema = ingested.records[0], ingested.schema
    context = Context(
        fingerprint=learner.fingerprint,
        seed=7,
        n_slices=count,
        schema_digest=schema.digest,
        n_classes=None if schema.classes is None else len(schema.classes),
        resumable=capabilities.resumable,
        absent_classes=capabilities.absent_classes,
    )
    steps = plan_shard(context, 0, records.facts(count + arrivals, classification=schema.classes is not None))
    return Shard(learner, records, tuple(s for s in steps if not s.constant), schema)


def train_last(shard: Shard) -> Parts:
    """The parts after the last step, as a function that another process can find."""
    return shard.last()


def default_rows(task: str) -> tuple[Any, Any]:
    """120 rows of four non-negative numbers, with a label of three or a positive target."""
    rng = np.random.default_rng(42)
    X = np.abs(rng.normal(size=(120, 4)))
    signal = X[:, 0] + 0.5 * X[:, 1] + 0.2 * rng.normal(size=len(X))
    if task == "regression":
        return X, np.exp(signal)
    return X, _LABELS[np.digitize(signal, np.quantile(signal, [float(Fraction(1, 3)), float(Fraction(2, 3))]))]


def pick(X: Any, rows: Any) -> Any:
    """These rows of an array, a sparse matrix or a frame."""
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]
