"""Epoch learners: ``fit`` when all comes at once, otherwise epochs by ``partial_fit`` with the optimizer kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from unlearnkit.learner import Batch, Step
from unlearnkit.typing import AnyArray
from unlearnkit_sklearn.base import SklearnLearner, codes_of_batch, sequential, weights_of
from unlearnkit_sklearn.params import mixed


class EpochLearner(SklearnLearner):
    """Base of the learners that go over the rows again and again."""

    def train(self, state: Any, batch: Batch, step: Step) -> Any:
        """Train for the step's share of ``max_iter`` epochs over the prefix, or until the loss stops falling."""
        fresh = self.prepared(batch, step)
        self._balance(fresh, batch)
        with sequential():
            if state is None and step.whole:
                return fresh.fit(batch.X, batch.y, **weights_of(batch))
            model = fresh if state is None else self._resumed(copy.deepcopy(state), fresh)
            return self._epochs(model, batch, step)

    def _balance(self, model: Any, batch: Batch) -> None:
        """Do for ``partial_fit`` what ``fit`` does with balanced class weights."""
        from sklearn.utils import compute_class_weight

        if getattr(model, "class_weight", None) == "balanced":
            weights = compute_class_weight("balanced", classes=codes_of_batch(batch), y=batch.y)
            model.set_params(class_weight=dict(enumerate(weights.tolist())))

    def _resumed(self, model: Any, fresh: Any) -> Any:
        """`model` with the parameters of this step."""
        return model.set_params(**fresh.get_params(deep=False))

    def _epochs(self, model: Any, batch: Batch, step: Step) -> Any:
        seed = model.random_state
        epochs = step.epochs * self.model.max_iter
        converged = self.stopping(model, batch)
        for epoch in range(math.floor(epochs)):
            model.set_params(random_state=mixed(seed, epoch))
            self._pass(model, batch, None)
            if converged():
                return model
        self._last_pass(model, batch, epochs % 1, mixed(seed, math.floor(epochs)))
        return model

    def _last_pass(self, model: Any, batch: Batch, part: Fraction, seed: int) -> None:
        """The fraction of an epoch that is left, over as many rows in the order of a shuffle."""
        count = self.rows_of(model, batch, part)
        if count:
            rows = np.arange(len(batch.y))
            order = np.random.RandomState(seed).permutation(rows) if model.shuffle else rows
            model.set_params(random_state=seed)
            self._pass(model, batch, np.sort(order[:count]))

    def _pass(self, model: Any, batch: Batch, rows: AnyArray | None) -> None:
        weights = weights_of(batch)
        X, y = batch.X, batch.y
        if rows is not None:
            X, y, weights = X[rows], y[rows], {name: w[rows] for name, w in weights.items()}
        classes = {"classes": codes_of_batch(batch)} if self.is_classifier else {}
        model.partial_fit(X, y, **classes, **weights)

    def rows_of(self, model: Any, batch: Batch, part: Fraction) -> int:
        """The number of rows that make up this part of an epoch."""
        raise NotImplementedError

    def stopping(self, model: Any, batch: Batch) -> Callable[[], bool]:
        """What to ask after each epoch of a step: whether the estimator's own rule would end the training."""
        raise NotImplementedError
