"""Serving: an immutable snapshot of all constituents, swapped in one assignment."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import joblib
import numpy as np

from unlearnkit.aggregation import Aggregation
from unlearnkit.blobs import get_parts
from unlearnkit.build import Build
from unlearnkit.config import Blueprint
from unlearnkit.errors import DataError, NoConstituentError, StateError
from unlearnkit.joining import FEW_ROWS, Joint
from unlearnkit.learner import Learner, PredictAll, Sharing, is_able
from unlearnkit.ledger import Checkpoint
from unlearnkit.plan import PlannedStep, standing
from unlearnkit.records import Records
from unlearnkit.schema import Schema
from unlearnkit.store import Store
from unlearnkit.threads import side_by_side
from unlearnkit.training import load_constant
from unlearnkit.typing import AnyArray, Features, FloatArray

# Fewer rows are first tried without other threads: some models are done with them before one is made.
MANY_ROWS = 5_000
POOL_S = 0.01


@dataclass(frozen=True, slots=True)
class Constituent:
    """The model of one shard: the decoded state of the longest step that is stored.

    Attributes
    ----------
    step : PlannedStep
    state : object
        The learner's state; None for a constant.
    constant : int or None
        The class code of a constant.
    checkpoint : Checkpoint or None
        Where the state is from.
    """

    step: PlannedStep
    state: Any
    constant: int | None
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Snapshot:
    """All that a prediction reads.

    Attributes
    ----------
    learner : Learner
    aggregation : Aggregation
    n_classes : int or None
    constituents : tuple of Constituent or None
        One for each shard; None abstains.
    prior : ndarray or None
        What to predict for every row when all abstain; None: raise.
    schema : Schema
        What the states were trained under. Rows to predict are read by it, though the model may have another by now.
    joint : Joint
        The constituents in one piece, for few rows.
    """

    learner: Learner[Any]
    aggregation: Aggregation
    n_classes: int | None
    constituents: tuple[Constituent | None, ...]
    prior: FloatArray | None
    schema: Schema
    joint: Joint = field(default_factory=Joint, compare=False, repr=False)

    @cached_property
    def all_abstain(self) -> bool:
        """Whether there is no constituent."""
        return all(c is None for c in self.constituents)

    @cached_property
    def _trained(self) -> list[Any]:
        return [c.state for c in self.constituents if c is not None and c.constant is None]

    @cached_property
    def _are_plain(self) -> bool:
        """Whether what the constituents predict needs neither completing nor placing."""
        return all(map(self._is_plain, self.constituents))

    @property
    def states(self) -> list[Any]:
        """The decoded state of each shard; None where it abstains, the class code where it is constant."""
        return [None if c is None else (c.state if c.constant is None else c.constant) for c in self.constituents]

    def answers(self, X: Any, name: str, n_jobs: int | None = None) -> tuple[FloatArray, AnyArray | None]:
        """Aggregated predictions of rows as they come, and the class labels of the columns; None for regression.

        Raises
        ------
        DataError
            If the rows do not fit the schema, or there are none.
        NoConstituentError
            If every shard abstains and there is no prior.
        """
        features = self.schema.features(X, self.learner.capabilities, name, exact=False)
        if features.shape[0] == 0:
            # As the bare models say, each in its own place: some frameworks fail on no rows.
            raise DataError(f"Found array with 0 sample(s) (shape={features.shape}) while a minimum of 1 is required.")
        return self.predict(features, n_jobs), self.schema.labels

    def predict(self, X: Features, n_jobs: int | None = None) -> FloatArray:
        """Aggregated probabilities or votes of shape (n, k), or values of shape (n,) or (n, m).

        Raises
        ------
        NoConstituentError
            If every shard abstains and there is no prior.
        """
        if self.all_abstain:
            return self._predict_prior(X.shape[0])
        n = X.shape[0]
        together = self._in_one_piece() if n <= FEW_ROWS else None
        # Asked before a learner may hold joblib to one thread.
        jobs = 1 if together is not None else joblib.effective_n_jobs(n_jobs)
        with self._shared(X) as rows:
            found = self._of_each(rows, n, jobs) if together is None else self._of_all(together(rows), n)
            if not self.aggregation.is_own:
                return self.aggregation(found)
            found = list(found)
        # What a learner holds for its predictions is not for the user's function.
        return self.aggregation(found)

    def _shared(self, X: Features) -> AbstractContextManager[Any]:
        learner: Any = self.learner
        kind: Any = type(learner)
        return learner.sharing(X) if is_able(kind, Sharing) else nullcontext(X)

    def _of_each(self, rows: Any, n: int, jobs: int) -> Iterable[FloatArray | None]:
        """The prediction of each shard, each asked for itself; None where it abstains."""
        predictions = self._predictions(rows, n, jobs)
        return (None if c is None else next(predictions) for c in self.constituents)

    def _predictions(self, rows: Any, n: int, jobs: int) -> Iterator[FloatArray]:
        """The prediction of each constituent in turn: from this thread, and from others where they are worth it.

        Which of them it is changes no bit.
        """
        due = deque(c for c in self.constituents if c is not None)
        began = time.monotonic()
        while due and (jobs == 1 or (n < MANY_ROWS and time.monotonic() - began < POOL_S)):
            yield self._predict_one(due.popleft(), rows, n)
        if due:
            yield from side_by_side(lambda c: self._predict_one(c, rows, n), due, jobs)

    def _in_one_piece(self) -> PredictAll | None:
        """What predicts from all constituents that are trained; None as long as each is to be asked for itself."""
        return self.joint.asked(self.learner, self._trained) if self._trained else None

    def _of_all(self, predicted: Iterable[FloatArray], n: int) -> Iterable[FloatArray | None]:
        """The same, from the predictions of the constituents that are trained, in order."""
        if isinstance(predicted, np.ndarray) and self._are_plain:
            return predicted
        found = iter(predicted)
        return (
            None if c is None else self._certain(c, n) if c.constant is not None else self._placed(next(found), c)
            for c in self.constituents
        )

    def _is_plain(self, constituent: Constituent | None) -> bool:
        """Whether a prediction of the constituent is one of the model as it is."""
        if constituent is None or constituent.constant is not None:
            return False
        classes = constituent.step.classes
        return classes is None or len(classes) == self.n_classes

    def _predict_prior(self, n: int) -> FloatArray:
        if self.prior is None:
            raise NoConstituentError(
                "Every shard abstains: no constituent is free of what was forgotten. The model was left as it is. "
                'Call repair() to train the missing steps, or set when_isolated="prior".'
            )
        return np.tile(self.prior, (n,) + (1,) * self.prior.ndim)

    def _predict_one(self, constituent: Constituent, rows: Any, n: int) -> FloatArray:
        if constituent.constant is not None:
            return self._certain(constituent, n)
        return self._placed(self.learner.predict(constituent.state, rows), constituent)

    def _certain(self, constituent: Constituent, n: int) -> FloatArray:
        assert self.n_classes is not None
        certain = np.zeros((n, self.n_classes))
        certain[:, constituent.constant] = 1
        return certain

    def _placed(self, predicted: FloatArray, constituent: Constituent) -> FloatArray:
        """The columns of the classes that the shard knows, where the schema has them."""
        if self.n_classes is None:
            return predicted
        classes = constituent.step.classes
        assert classes is not None
        if len(classes) == self.n_classes:
            return predicted
        full = np.zeros((predicted.shape[0], self.n_classes), dtype=predicted.dtype)
        full[:, list(classes)] = predicted
        return full


def snapshot_of(
    learner: Learner[Any], blueprint: Blueprint, store: Store, build: Build, old: Snapshot | None
) -> tuple[Snapshot, StateError | None]:
    """What is stored of a build, decoded: constituents that did not change go on.

    Returns
    -------
    snapshot : Snapshot
    damaged : StateError or None
        If a stored state is damaged, of which the shard abstains.
    """
    stored, damaged = store.checkpoints(), None
    serving = old.constituents if old is not None else (None,) * len(build.plan.shards)
    constituents: list[Constituent | None] = []
    for steps, now_serving in zip(build.plan.shards, serving, strict=True):
        try:
            constituents.append(open_constituent(learner, store, steps, stored, now_serving))
        except StateError as error:
            constituents.append(None)
            damaged = error
    config = blueprint.config
    n_classes = blueprint.context.n_classes
    snapshot = Snapshot(learner, config.aggregation, n_classes, tuple(constituents), None, blueprint.schema)
    if snapshot.all_abstain and config.when_isolated == "prior":
        snapshot = replace(snapshot, prior=_prior(build.records, n_classes))
    return snapshot, damaged


def _prior(records: Records, n_classes: int | None) -> FloatArray | None:
    """Class frequencies, or the mean of the targets, of the remaining records."""
    pairs = [records.targets(shard) for shard in range(records.n_shards)]
    y = np.concatenate([targets for targets, _ in pairs])
    if not len(y):
        return None
    weight = np.concatenate([np.ones(len(targets)) if w is None else w for targets, w in pairs])
    if n_classes is None:
        return np.asarray(np.average(y, axis=0, weights=weight))
    frequencies = np.bincount(y, weights=weight, minlength=n_classes)
    return np.asarray(frequencies / frequencies.sum())


def open_constituent(
    learner: Learner[Any],
    store: Store,
    steps: tuple[PlannedStep, ...],
    stored: Mapping[str, Checkpoint],
    old: Constituent | None,
) -> Constituent | None:
    """The constituent of a shard: the longest of its planned steps that is stored, decoded; None if there is none.

    Parameters
    ----------
    learner : Learner
    store : Store
    steps : tuple of PlannedStep
        Of the shard.
    stored : mapping of str to Checkpoint
        What there is, by key.
    old : Constituent or None
        What serves now: if it is of the same bytes, it goes on.
    """
    last = standing(steps, stored)
    if last is None:
        return None
    checkpoint = stored[last.key]
    if old is not None and old.checkpoint == checkpoint:
        return old if old.step == last else replace(old, step=last)
    parts = get_parts(store.blobs, checkpoint.parts)
    if last.constant:
        return Constituent(last, None, load_constant(parts), checkpoint)
    return Constituent(last, learner.load(parts), None, checkpoint)
