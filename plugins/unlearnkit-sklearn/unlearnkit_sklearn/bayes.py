"""Naive Bayes: sums over rows, so that a step adds the rows of its slice and is done."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from unlearnkit.learner import Batch, Step
from unlearnkit.typing import Features, FloatArray
from unlearnkit_sklearn.base import SklearnLearner, codes_of_batch, sequential, weights_of


class BayesLearner(SklearnLearner):
    """MultinomialNB, BernoulliNB and ComplementNB."""

    def train(self, state: Any, batch: Batch, step: Step) -> Any:
        """Add the rows of the new slice to the counts."""
        model = self.prepared(batch, step) if state is None else copy.deepcopy(state)
        with sequential():
            self._add(model, batch, whole=state is None and step.whole)
        return model

    def _add(self, model: Any, batch: Batch, *, whole: bool) -> None:
        if whole:
            # As the bare model: the products of `partial_fit` are laid out otherwise, and may round otherwise.
            model.fit(batch.X, batch.y, **weights_of(batch))
            return
        new = slice(batch.n_old, None)
        model.partial_fit(batch.X[new], batch.y[new], classes=codes_of_batch(batch), **weights_of(batch, batch.n_old))


class GaussianLearner(BayesLearner):
    """GaussianNB, with the smoothing taken from the whole prefix.

    Its ``partial_fit`` takes ``var_smoothing`` of the variance of the last rows alone. So the state keeps the plain
    variances in ``var_`` and the smoothing beside them, in ``epsilon_``; they are added to predict.
    """

    def _add(self, model: Any, batch: Batch, *, whole: bool) -> None:
        model.set_params(var_smoothing=0.0)
        super()._add(model, batch, whole=whole)
        model.epsilon_ = self.model.var_smoothing * np.var(batch.X, axis=0).max()

    def answer(self, model: Any, X: Features) -> FloatArray:
        """Predict with smoothed variances."""
        smoothed = copy.copy(model)
        smoothed.var_ = model.var_ + model.epsilon_
        return super().answer(smoothed, X)


class CategoricalLearner(BayesLearner):
    """CategoricalNB, for which a category that the shard never saw counts as seen zero times."""

    def answer(self, model: Any, X: Features) -> FloatArray:
        """Predict with one more category for each feature, which stands for all unseen ones."""
        padded = copy.copy(model)
        tables = zip(model.feature_log_prob_, model.category_count_, strict=True)
        padded.feature_log_prob_ = [np.hstack([table, _unseen(model, counts)]) for table, counts in tables]
        return super().answer(padded, np.minimum(X, model.n_categories_))


def _unseen(model: Any, counts: FloatArray) -> FloatArray:
    """The logarithm of the smoothed frequency, in each class, of a category that was never counted."""
    alpha = np.maximum(model.alpha, 1e-10)
    frequency: FloatArray = alpha / (counts + alpha).sum(axis=1, keepdims=True)
    return np.log(frequency)
