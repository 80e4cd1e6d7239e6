"""One slice: whatever has no way to learn on is fitted anew on all rows of its shard."""

from __future__ import annotations

from typing import Any

from unlearnkit.learner import Batch, Step
from unlearnkit_sklearn.base import SklearnLearner, sequential, weights_of


class WholeLearner(SklearnLearner):
    """Any classifier or regressor, by ``fit`` alone."""

    def train(self, state: Any, batch: Batch, step: Step) -> Any:  # noqa: ARG002
        """Fit a clone on all rows, whatever was before."""
        model = self.prepared(batch, step)
        with sequential():
            model.fit(batch.X, batch.y, **weights_of(batch))
            # Fewer rows than neighbours can be fitted, and then not be asked: better to know it now.
            self.answer(model, batch.X.iloc[:1] if hasattr(batch.X, "iloc") else batch.X[:1])
        return model
