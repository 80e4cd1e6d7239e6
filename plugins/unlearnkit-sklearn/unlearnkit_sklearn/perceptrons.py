"""Multi-layer perceptrons: the moments of the optimizer, its clock and its schedule are part of the estimator."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from unlearnkit.learner import Batch, Step
from unlearnkit_sklearn.epochs import EpochLearner


class PerceptronsLearner(EpochLearner):
    """MLPClassifier and MLPRegressor."""

    def _resumed(self, model: Any, fresh: Any) -> Any:
        # Losses over another prefix do not compare.
        model._no_improvement_count, model.best_loss_ = 0, np.inf  # noqa: SLF001
        return super()._resumed(model, fresh)

    def _epochs(self, model: Any, batch: Batch, step: Step) -> Any:
        # The estimator would cut a batch that is larger than the prefix by itself, with a warning each epoch.
        if model.batch_size != "auto":
            model.set_params(batch_size=min(model.batch_size, len(batch.y)))
        return super()._epochs(model, batch, step)

    def rows_of(self, model: Any, batch: Batch, part: Fraction) -> int:
        """Whole minibatches, so that none is smaller than an epoch would have it."""
        n = len(batch.y)
        size = min(200, n) if model.batch_size == "auto" else model.batch_size
        return min(math.floor(part * math.ceil(n / size)) * size, n)

    def stopping(self, model: Any, batch: Batch) -> Callable[[], bool]:  # noqa: ARG002
        """Ask the count that ``partial_fit`` keeps; an adaptive rate has set it back when it went on."""
        return lambda: model._no_improvement_count > model.n_iter_no_change  # noqa: SLF001
