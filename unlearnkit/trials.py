"""Trials: choices of shards and slices tried out on a subsample, and what their timed steps say of all rows."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from sklearn.base import clone

from unlearnkit.adapters import hookimpl, plugins
from unlearnkit.containers import column
from unlearnkit.errors import DataError, DataWarning, ParameterError, TrainingError, UnlearnKitError
from unlearnkit.fitted import native_data
from unlearnkit.ids import as_list, checked_ids
from unlearnkit.plan import PlannedStep
from unlearnkit.progress import progress
from unlearnkit.typing import AnyArray, FloatArray, IntArray

Choice: TypeAlias = tuple[int, int]
"""Numbers of shards and slices."""

WHOLE: Choice = (1, 1)
_IDS_PER_SLICE = 2
_RESCORE = "Give another scoring=, or leave it out."
_REQUESTS = 3
"""Requests that are timed on each model that is fitted."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows to try on, and whose they are.

    Attributes
    ----------
    X, y, weight
    ids : ndarray of shape (n,)
        Codes 0..k-1 of the ids: nobody is named.
    """

    X: Any
    y: AnyArray
    weight: AnyArray | None
    ids: IntArray

    def take(self, rows: AnyArray) -> Sample:
        """Some of the rows."""
        X = self.X.iloc[rows] if hasattr(self.X, "iloc") else self.X[rows]
        return Sample(X, self.y[rows], None if self.weight is None else self.weight[rows], self.ids[rows])

    @property
    def weights(self) -> dict[str, AnyArray]:
        """The weights as an argument, if there are any."""
        return {} if self.weight is None else {"sample_weight": self.weight}


def sample_of(X: Any, y: Any, sample_weight: Any, ids: Any) -> Sample:
    """All rows, by codes of their ids."""
    X, y, weight, ids = native_data(X, y, sample_weight, ids)
    features = X.tocsr() if hasattr(X, "tocsr") else X if hasattr(X, "iloc") else np.asarray(X)
    target = np.asarray(y)
    n = features.shape[0] if features.ndim else 0
    of_weights = None if weight is None else np.asarray(weight)
    if len(np.atleast_1d(target)) != n or not n or (of_weights is not None and of_weights.shape != (n,)):
        raise DataError(
            f"X, y and sample_weight do not have the same number of rows, or none ({n:,}); nothing was tried."
        )
    return Sample(features, target, of_weights, np.arange(n) if ids is None else _codes(ids, n))


def _codes(ids: Any, n: int) -> IntArray:
    checked_ids(ids, n)
    known: dict[Any, int] = {}
    return np.array([known.setdefault(one, len(known)) for one in as_list(column(ids))], dtype=np.int64)


def subsample(whole: Sample, n_rows: int, rng: np.random.Generator) -> Sample:
    """About so many rows: those of ids that are drawn, all rows of each."""
    if len(whole.y) <= n_rows:
        return whole
    order = rng.permutation(int(whole.ids.max()) + 1)
    counts = np.cumsum(np.bincount(whole.ids)[order])
    drawn = order[: max(int(np.searchsorted(counts, n_rows, side="right")), 1)]
    some = whole.take(np.flatnonzero(np.isin(whole.ids, drawn)))
    return Sample(some.X, some.y, some.weight, np.unique(some.ids, return_inverse=True)[1])


@dataclass(frozen=True, slots=True)
class Trial:
    """What one choice came to in one fold.

    Attributes
    ----------
    score : float
    steps : ndarray of shape (k, 4)
        Of each step: seconds, 1, its presentations, and the rows of its shard if it was the first of a task.
    calls : ndarray of shape (m, 3)
        Of each request: seconds beside training, 1, and the rows of its shard.
    states : ndarray of shape (S, 3)
        Of each shard: bytes of its states, 1, and its rows.
    """

    score: float
    steps: FloatArray
    calls: FloatArray
    states: FloatArray


@dataclass(slots=True)
class Watch:
    """An observer of the steps that one thread trains."""

    thread: int = field(default_factory=threading.get_ident)
    seen: list[tuple[PlannedStep, float]] = field(default_factory=list)

    @hookimpl
    def unlearnkit_step_trained(self, step: PlannedStep, seconds: float) -> None:
        """Keep a step of this thread."""
        if threading.get_ident() == self.thread:
            self.seen.append((step, seconds))


@contextmanager
def watching() -> Iterator[Watch]:
    """Observe the steps that are trained meanwhile."""
    watch, manager = Watch(), plugins().manager
    manager.register(watch)
    try:
        yield watch
    finally:
        manager.unregister(watch)


@contextmanager
def of_a_sample() -> Iterator[None]:
    """Keep still about data: what a subsample is too small for says nothing of all rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def fold_of(labels: AnyArray | None, ids: IntArray, n_folds: int, rng: np.random.Generator) -> IntArray:
    """The fold of each row: all rows of an id in one, and each class alike in all, by the first row of an id."""
    _, first = np.unique(ids, return_index=True)
    classes = np.zeros(len(first)) if labels is None else np.unique(labels, return_inverse=True)[1][first]
    folds = np.empty(len(first), dtype=np.int64)
    folds[np.lexsort((rng.random(len(first)), classes))] = np.arange(len(first)) % n_folds
    return folds[ids]


def attempt(model: Any, train: Sample, test: Sample, scorer: Any, rng: np.random.Generator) -> Trial | str:
    """Fit, score, and handle some requests; or say why a shard cannot be trained.

    Parameters
    ----------
    model : SISAClassifier or SISARegressor
        Unfitted, with its numbers of shards and slices.
    train, test : Sample
    scorer : callable
    rng : Generator
        Draws who asks.
    """
    sisa = clone(model)
    with watching() as watch, of_a_sample():
        try:
            sisa.fit(train.X, train.y, ids=train.ids, **train.weights)
        except TrainingError as error:
            return str(error)
        if sisa.degraded_shards_:
            return f"shard {sisa.degraded_shards_[0]} cannot be trained on so few rows"
        rows = _rows_of_shards(watch.seen, sisa.n_shards)
        # Shards of one class hold some bytes and no state of the model: they would stand for the others.
        plan = sisa._ensemble.plan  # noqa: SLF001
        kept = [s for s, steps in enumerate(plan.shards) if rows[s] and not steps[-1].constant]
        states = np.array([(_bytes(sisa, s), 1, rows[s]) for s in kept])
        score = _score(scorer, sisa, test)
        calls = _requests(sisa, train.ids, watch, rows, rng)
        return Trial(score, _timed(watch.seen, rows), np.reshape(calls, (-1, 3)), np.reshape(states, (-1, 3)))


def _score(scorer: Any, sisa: Any, test: Sample) -> float:
    try:
        score = float(scorer(sisa, test.X, test.y, **test.weights))
    except UnlearnKitError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise ParameterError(
            f"The model cannot be scored as asked ({error}); nothing was changed. {_RESCORE}"
        ) from error
    if not math.isfinite(score):
        raise ParameterError(f"A score on rows held out is {score}; nothing was changed. {_RESCORE}")
    return score


def _requests(
    sisa: Any, ids: IntArray, watch: Watch, rows: dict[int, int], rng: np.random.Generator
) -> list[tuple[float, float, float]]:
    """What requests take beside training."""
    calls = []
    asking = rng.permutation(np.unique(ids))[:_REQUESTS]
    for one in asking[: len(np.unique(ids)) // 2].tolist():
        before, began = len(watch.seen), time.perf_counter()
        receipt = sisa.forget(one)
        trained = sum(taken for _, taken in watch.seen[before:])
        (shard,) = receipt.shards
        calls.append((max(time.perf_counter() - began - trained, 0.0), 1.0, float(rows[shard])))
    return calls


def _rows_of_shards(seen: Sequence[tuple[PlannedStep, float]], n_shards: int) -> dict[int, int]:
    return {s: max((step.n for step, _ in seen if step.shard == s), default=0) for s in range(n_shards)}


def _timed(seen: Sequence[tuple[PlannedStep, float]], rows: dict[int, int]) -> FloatArray:
    """A row for each step that a learner trained. Steps of a task follow each other, from its first slice on."""
    found, last = [], None
    for step, seconds in seen:
        first = last is None or (step.shard != last.shard or step.slice <= last.slice)
        if not step.constant:
            found.append((seconds, 1.0, presentations(step), float(rows[step.shard]) if first else 0.0))
        last = step
    return np.reshape(np.array(found, dtype=np.float64), (-1, 4))


def presentations(step: PlannedStep) -> float:
    """Rows that a step shows, per epoch of the wrapped model."""
    return float(step.step.epochs * step.n)


def _bytes(sisa: Any, shard: int) -> int:
    """Of all states of a shard; what they share is stored once."""
    store = sisa._ensemble.store  # noqa: SLF001
    names = {name for c in store.checkpoints().values() if c.shard == shard for _, name in c.parts}
    return sum(len(store.blobs.get(name)) for name in names)


@dataclass(frozen=True, slots=True)
class Course:
    """What all choices are tried on.

    Attributes
    ----------
    sisa : SISAClassifier or SISARegressor
    some : Sample
    folds : ndarray of shape (n,)
        The fold that each row is held out in.
    scorer : callable
    rng : Generator
    """

    sisa: Any
    some: Sample
    folds: IntArray
    scorer: Any
    rng: np.random.Generator

    @property
    def n_folds(self) -> int:
        """The number of folds."""
        return int(self.folds.max()) + 1

    def run(self, choices: Sequence[Choice], *, shown: bool) -> tuple[dict[Choice, list[Trial]], dict[Choice, str]]:
        """The trials of each choice and of the model without shards, and why others have none."""
        trials: dict[Choice, list[Trial]] = {}
        left_out: dict[Choice, str] = {}
        with progress("Trying", self.n_folds * len({*choices, WHOLE}), shown=shown) as advance:
            for choice in dict.fromkeys([WHOLE, *choices]):
                found = self._all_folds(choice)
                if isinstance(found, str):
                    left_out[choice] = found
                else:
                    trials[choice] = found
                advance(self.n_folds)
        if WHOLE not in trials:
            raise DataError(
                f"The model without shards could not be trained on the subsample: {left_out[WHOLE]}. Nothing was "
                "changed. Give more rows=, or fewer folds by cv=."
            )
        return trials, left_out

    def _all_folds(self, choice: Choice) -> list[Trial] | str:
        found: list[Trial] = []
        for fold in range(self.n_folds):
            trial = self._one_fold(choice, fold)
            if isinstance(trial, str):
                return trial
            found.append(trial)
        return found

    def _one_fold(self, choice: Choice, fold: int) -> Trial | str:
        n_shards, n_slices = choice
        train, test = (self.some.take(np.flatnonzero(part)) for part in (self.folds != fold, self.folds == fold))
        n_ids = len(np.unique(train.ids))
        if choice != WHOLE and n_ids < _IDS_PER_SLICE * n_shards * n_slices:
            return f"{n_ids:,} ids are too few for {n_shards * n_slices:,} slices"
        seed = int(self.rng.integers(2**31))
        model = clone(self.sisa).set_params(n_shards=n_shards, n_slices=n_slices, random_state=seed)
        return attempt(model, train, test, self.scorer, self.rng)
