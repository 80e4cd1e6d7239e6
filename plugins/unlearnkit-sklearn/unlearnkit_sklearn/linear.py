"""Linear models by stochastic gradient descent: their weights, averages and step count are the whole state."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from unlearnkit.learner import Batch
from unlearnkit.typing import AnyArray, FloatArray
from unlearnkit_sklearn.epochs import EpochLearner

SMALLEST_RATE = 1e-6
PASSIVE = frozenset({"pa1", "pa2"})


class LinearLearner(EpochLearner):
    """SGDClassifier, SGDRegressor, Perceptron and the passive-aggressive models."""

    def _resumed(self, model: Any, fresh: Any) -> Any:
        params = fresh.get_params(deep=False)
        if _rate(model) == "adaptive":
            # What the rate has come down to is part of the state.
            del params["eta0"]
        return model.set_params(**params)

    def rows_of(self, model: Any, batch: Batch, part: Fraction) -> int:  # noqa: ARG002
        """Single rows: each is an update of its own."""
        return math.floor(part * len(batch.y))

    def stopping(self, model: Any, batch: Batch) -> Callable[[], bool]:
        """The rule of ``fit``, which ``partial_fit`` lacks."""
        return StoppingRule(model, batch)


class StoppingRule:
    """Stop, or lower an adaptive rate, when the objective over the prefix has stopped falling.

    It is evaluated after each epoch; ``fit`` sums it up while the weights still move, so that the two stop at about
    the same epoch, not at the same one.
    """

    def __init__(self, model: Any, batch: Batch) -> None:
        self.model = model
        self.batch = batch
        self.best = math.inf
        self.idle = 0

    def __call__(self) -> bool:
        """Whether the epoch that has just ended was the last."""
        model = self.model
        if model.tol is None:
            return False
        value = objective(model, self.batch)
        self.idle = self.idle + 1 if value > self.best - model.tol else 0
        self.best = min(self.best, value)
        return self.idle >= model.n_iter_no_change and not self._lower_rate()

    def _lower_rate(self) -> bool:
        model = self.model
        if _rate(model) != "adaptive" or model.eta0 <= SMALLEST_RATE:
            return False
        model.set_params(eta0=model.eta0 / 5)
        self.idle = 0
        return True


def _rate(model: Any) -> str:
    # A Perceptron takes no learning_rate, but has one.
    return str(getattr(model, "learning_rate", "constant"))


def objective(model: Any, batch: Batch) -> float:
    """Mean loss over the rows plus the penalty, summed over the one-against-all problems of a classifier."""
    if hasattr(model, "classes_"):
        decision = model.decision_function(batch.X).reshape(len(batch.y), -1)
        target = _signs(batch.y, decision.shape[1])
    else:
        decision, target = model.predict(batch.X)[:, np.newaxis], batch.y[:, np.newaxis]
    return float(np.mean(_loss(model, target, decision), axis=0).sum() + _penalty(model))


def _signs(y: AnyArray, columns: int) -> AnyArray:
    """The targets -1 and 1 of one problem for two classes, of one for each class for more."""
    positive = np.arange(columns) if columns > 1 else np.ones(1, dtype=int)
    return np.where(y[:, np.newaxis] == positive, 1.0, -1.0)


def _penalty(model: Any) -> Any:
    if model.penalty is None or _rate(model) in PASSIVE:
        return 0.0
    l1_ratio = {"l2": 0.0, "l1": 1.0}.get(model.penalty, model.l1_ratio)
    squares, sizes = float(np.square(model.coef_).sum()), float(np.abs(model.coef_).sum())
    return float(model.alpha) * ((1 - l1_ratio) * 0.5 * squares + l1_ratio * sizes)


def _loss(model: Any, target: AnyArray, decision: FloatArray) -> FloatArray:
    """The loss of each row, by the names and formulas of ``sklearn.linear_model.SGDClassifier``."""
    margin, miss = target * decision, np.abs(target - decision)
    epsilon = getattr(model, "epsilon", 0.0)
    formulas: dict[str, Callable[[], FloatArray]] = {
        "hinge": lambda: np.maximum(0, 1 - margin),
        "perceptron": lambda: np.maximum(0, -margin),
        "squared_hinge": lambda: np.square(np.maximum(0, 1 - margin)),
        "log_loss": lambda: np.logaddexp(0, -margin),
        "modified_huber": lambda: np.where(margin < -1, -4 * margin, np.square(np.maximum(0, 1 - margin))),
        "squared_error": lambda: 0.5 * np.square(miss),
        "huber": lambda: np.where(miss <= epsilon, 0.5 * np.square(miss), epsilon * (miss - 0.5 * epsilon)),
        "epsilon_insensitive": lambda: np.maximum(0, miss - epsilon),
        "squared_epsilon_insensitive": lambda: np.square(np.maximum(0, miss - epsilon)),
    }
    loss: FloatArray = formulas[model.loss]()
    return loss
