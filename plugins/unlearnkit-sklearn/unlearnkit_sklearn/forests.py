"""Forests and bagging: members know nothing of each other, so a step grows some of its own on the prefix."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from unlearnkit.learner import Batch, Step
from unlearnkit_sklearn import trees
from unlearnkit_sklearn.archives import broken
from unlearnkit_sklearn.base import sequential, weights_of
from unlearnkit_sklearn.grown import Grown, GrownLearner


class ForestLearner(GrownLearner):
    """RandomForest and ExtraTrees, classifier and regressor."""

    def train(self, state: Grown | None, batch: Batch, step: Step) -> Grown:
        """Grow the step's share of ``n_estimators`` on the prefix."""
        count = step.units(self.model.n_estimators)
        if count == 0 and state is not None:
            return state
        ensemble = self.prepared(batch, step).set_params(n_estimators=max(count, 1), warm_start=False)
        with sequential():
            ensemble.fit(batch.X, batch.y, **weights_of(batch))
        return self.added(state, ensemble, self.take(ensemble))

    def take(self, ensemble: Any) -> Any:
        """Take the members out of a fitted ensemble."""
        members = ensemble.estimators_
        del ensemble.estimators_
        return members

    def pack(self, content: Any) -> bytes:
        """Trees by their nodes."""
        return trees.pack_trees(content, self.storage.dump)

    def unpack(self, data: bytes) -> Any:
        """The trees behind `pack`."""
        return trees.unpack_trees(data, self.storage.load)

    def join(self, ensemble: Any, contents: Sequence[Any]) -> Any:
        """A forest of all trees; their order is that of the steps."""
        ensemble.estimators_ = list(chain.from_iterable(contents))
        ensemble.n_estimators = len(ensemble.estimators_)
        return ensemble


class BaggingLearner(ForestLearner):
    """BaggingClassifier and BaggingRegressor, over any estimator."""

    def take(self, ensemble: Any) -> Any:
        """The estimators and the features that each was given."""
        members = {"estimators": ensemble.estimators_, "features": ensemble.estimators_features_}
        del ensemble.estimators_, ensemble.estimators_features_
        return members

    def pack(self, content: Any) -> bytes:
        """Estimators of any kind."""
        return self.storage.dump(content)

    def unpack(self, data: bytes) -> Any:
        """The estimators behind `pack`."""
        content = self.storage.load(data)
        if not isinstance(content, dict) or set(content) != {"estimators", "features"}:
            raise broken("holds no bagged estimators")
        return content

    def join(self, ensemble: Any, contents: Sequence[Any]) -> Any:
        """All estimators, with their features."""
        ensemble.estimators_features_ = [f for content in contents for f in content["features"]]
        return super().join(ensemble, [content["estimators"] for content in contents])
