"""Gradient boosting for regression: a step goes on with more trees, on the prefix, from where the last one ended."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from unlearnkit.learner import Batch, Step
from unlearnkit_sklearn import trees
from unlearnkit_sklearn.base import sequential, weights_of
from unlearnkit_sklearn.grown import Grown, GrownLearner


class BoostingLearner(GrownLearner):
    """GradientBoostingRegressor."""

    def train(self, state: Grown | None, batch: Batch, step: Step) -> Grown:
        """Add the step's share of ``n_estimators``."""
        count = step.units(self.model.n_estimators)
        if count == 0 and state is not None:
            return state
        fresh = self.prepared(batch, step)
        model = fresh if state is None else self._resumed(state, fresh)
        before = 0 if state is None else model.n_estimators
        model.set_params(n_estimators=before + max(count, 1), warm_start=True)
        with sequential():
            model.fit(batch.X, batch.y, **weights_of(batch))
        new = list(model.estimators_[before:, 0])
        del model.estimators_
        # With early stopping there may be fewer than asked for.
        return self.added(state, model.set_params(n_estimators=before + len(new), warm_start=False), new)

    def _resumed(self, state: Grown, fresh: Any) -> Any:
        """A private copy of the model, with the seed of this step: a live generator cannot be told apart by steps."""
        model = self.join(copy.deepcopy(state.header), [members.content for members in state.members])
        n_estimators = model.n_estimators
        model.set_params(**fresh.get_params(deep=False)).set_params(n_estimators=n_estimators)
        model._rng = np.random.RandomState(fresh.random_state)  # noqa: SLF001
        return model

    def pack(self, content: Any) -> bytes:
        """Trees by their nodes."""
        return trees.pack_trees(content, self.storage.dump)

    def unpack(self, data: bytes) -> Any:
        """The trees behind `pack`."""
        return trees.unpack_trees(data, self.storage.load)

    def join(self, ensemble: Any, contents: Sequence[Any]) -> Any:
        """The model with all its trees, in their order."""
        members = list(chain.from_iterable(contents))
        ensemble.estimators_ = np.empty((len(members), 1), dtype=object)
        ensemble.estimators_[:, 0] = members
        ensemble.n_estimators = len(members)
        return ensemble
