"""The learner for XGBoost's scikit-learn models: each step grows its own trees on the margin of those before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax
from sklearn.base import clone

from unlearnkit.fingerprints import NEUTRAL, fingerprint
from unlearnkit.learner import Batch, Capabilities, PredictAll, Step
from unlearnkit.typing import AnyArray, Features, FloatArray
from unlearnkit_xgboost import joint, rows, warm
from unlearnkit_xgboost.limits import capabilities, check_supported
from unlearnkit_xgboost.matrix import carried_margin, training_matrix
from unlearnkit_xgboost.model import MODEL, Model, check_names, split, step_parts
from unlearnkit_xgboost.training import fitted, for_step, grown

if TYPE_CHECKING:
    from xgboost import Booster, XGBModel

# To be counted up when the same parameters would lead to other trees.
_SCHEME = "xgboost-3"
_NEUTRAL = NEUTRAL | {"verbosity", "nthread", "importance_type", "validate_parameters"}


def learner_for(model: XGBModel) -> XGBoostLearner:
    """The learner for an XGBClassifier or XGBRegressor, which stays as it is."""
    check_supported(model)
    return XGBoostLearner(clone(model), capabilities(model), f"{_SCHEME}:{fingerprint(model, neutral=_NEUTRAL)}")


@dataclass(frozen=True)
class XGBoostLearner:
    """Trains, predicts, saves and loads for one configuration.

    Attributes
    ----------
    model : xgboost.XGBModel
        The native model, unfitted.
    capabilities : Capabilities
    fingerprint : str
    """

    model: XGBModel
    capabilities: Capabilities
    fingerprint: str

    def train(self, state: Model | None, batch: Batch, step: Step) -> Model:
        """Grow the trees of this step on the margin of those in `state`."""
        native = for_step(self.model, batch, step)
        if not self.capabilities.resumable:
            return self._model({MODEL: _raw(fitted(native, batch))})
        if state is None:
            return self._first(native, batch, step)
        # A state that has seen no row is a base.
        first = batch.n_old == 0
        n_edges = len(batch.y) if first or step.renews_edges else state.n_edges
        margin = carried_margin(state, batch, native.missing)
        shared, trees = split(_raw(self._grown(native, batch, step, margin, n_edges)))
        own = {MODEL: warm.with_intercept(shared, state.parts[MODEL])} if first else {}
        return self._model(state.parts | own | step_parts(len(state.steps), trees, n_edges))

    def _first(self, native: XGBModel, batch: Batch, step: Step) -> Model:
        n_edges = len(batch.y)
        booster = fitted(native, batch) if step.whole else self._grown(native, batch, step, None, n_edges)
        shared, trees = split(_raw(booster))
        return self._model({MODEL: shared} | step_parts(0, trees, n_edges))

    def _grown(self, native: XGBModel, batch: Batch, step: Step, margin: FloatArray | None, n_edges: int) -> Booster:
        matrix = training_matrix(native, batch, margin, n_edges)
        return grown(native, batch, matrix, step.units(native.get_num_boosting_rounds()))

    def sharing(self, X: Features) -> AbstractContextManager[Any]:
        """The rows as XGBoost's own matrix, where each booster would else read them anew at a price."""
        return rows.shared(self.model, X)

    def predict(self, state: Model, X: Features) -> FloatArray:
        """Probabilities or votes of shape (n, k), or values, as the native model gives them."""
        if self.capabilities.task == "regression":
            return self._output(state, X)
        if self.model.objective == "multi:softmax":
            probabilities: FloatArray = softmax(self._output(state, X, margin=True), axis=1)
            return probabilities
        output = self._output(state, X)
        if not self.capabilities.probabilities:
            return _votes(output)
        return output if output.ndim > 1 else _both(output)

    def joined(self, states: Sequence[Model]) -> PredictAll | None:
        """One booster with a target for each state; see `unlearnkit_xgboost.joint`."""
        classifies = self.capabilities.task == "classification"
        booster = joint.of(states) if self.capabilities.probabilities or not classifies else None
        if booster is None:
            return None
        output = partial(rows.output, booster, missing=self.model.missing, margin=False)
        answer = _both if classifies else np.asarray
        return lambda X: answer(output(X).T)

    def _output(self, state: Model, X: Features, *, margin: bool = False) -> FloatArray:
        if self.model.booster == "gblinear":
            return self._linear_output(state, X, margin=margin)
        return rows.output(state.booster, X, self.model.missing, margin=margin)

    def _linear_output(self, state: Model, X: Features, *, margin: bool) -> FloatArray:
        """From a booster of its own: XGBoost promises safety between threads for trees alone."""
        from xgboost import DMatrix

        booster = Model(state.parts, 1).booster
        matrix = DMatrix(X, missing=self.model.missing, enable_categorical=self.model.enable_categorical, nthread=1)
        output: FloatArray = booster.predict(matrix, output_margin=margin)
        return output

    def save(self, state: Model) -> dict[str, bytes]:
        """The parts of the state."""
        return dict(state.parts)

    def load(self, parts: Mapping[str, bytes]) -> Model:
        """The state behind the parts, whose content is checked when it is first used.

        Raises
        ------
        StateError
            If parts are missing or too many, or the bin edges come from nowhere.
        """
        check_names(parts)
        return self._model(parts)

    def pack_base(self, base: Any, n_features: int, labels: AnyArray | None) -> dict[str, bytes]:
        """The trees and intercepts of a fitted XGBoost estimator or Booster; see `unlearnkit_xgboost.warm`."""
        why_not = "" if self.capabilities.resumable else self.capabilities.why_limited
        return warm.pack(base, self.model, why_not, n_features, labels)

    def start(self, base: Mapping[str, bytes], classes: AnyArray | None) -> Model:
        """The trees and intercepts of the base that speak of these classes, as if a step had trained them."""
        return self.load(warm.start(base, self.model, classes))

    def _model(self, parts: Mapping[str, bytes]) -> Model:
        return Model(dict(parts), self.model.n_jobs)


def _raw(booster: Booster) -> bytes:
    return bytes(booster.save_raw("ubj"))


def _both(positive: FloatArray) -> FloatArray:
    """The probabilities of two classes, as the last axis, from those of the second."""
    probabilities = np.empty((*positive.shape, 2), dtype=positive.dtype)
    np.subtract(1.0, positive, out=probabilities[..., 0])
    probabilities[..., 1] = positive
    return probabilities


def _votes(output: FloatArray) -> FloatArray:
    """One-hot rows for the class that the native model names."""
    chosen = output.argmax(axis=1) if output.ndim > 1 else (output > 0.5).astype(int)  # noqa: PLR2004
    votes: FloatArray = np.eye(output.shape[1] if output.ndim > 1 else 2)[chosen]
    return votes
