"""Losses: how many scores a row has, where they start, and what they mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, logit, softmax

from unlearnkit.errors import CapabilityError
from unlearnkit.learner import Batch
from unlearnkit.typing import AnyArray, FloatArray, Task

_CLASSES = frozenset({"MultiClass", "MultiClassOneVsAll"})
_LOSSES = {
    "classification": _CLASSES | {"Logloss", "CrossEntropy"},
    "regression": frozenset(
        {
            *("RMSE", "MAE", "Quantile", "LogLinQuantile", "Poisson", "MAPE", "Lq", "Huber", "Expectile", "Tweedie"),
            *("LogCosh", "MultiRMSE"),
        }
    ),
}
_EXPONENTIAL = frozenset({"Poisson", "Tweedie"})
SEVERAL_TARGETS = "MultiRMSE"
VOTES = "MultiClassOneVsAll"
_TINY = 1e-9
_TWO = 2


def checked_loss(loss: Any, task: Task) -> str:
    """The name of the loss without its parameters; empty for CatBoost's default.

    Raises
    ------
    CapabilityError
        For a function of the user's own, or a loss that does not give what the task must predict.
    """
    if loss is None:
        return ""
    name = str(loss).partition(":")[0]
    if not isinstance(loss, str) or name not in _LOSSES[task]:
        raise CapabilityError(
            f"loss_function {name if isinstance(loss, str) else type(loss).__name__!r} cannot be kept for "
            f"{task} while forgetting stays exact; nothing was changed. Use one of {', '.join(sorted(_LOSSES[task]))}."
        )
    return name


def n_scores(loss: str, batch: Batch) -> int:
    """The scores of a row: one, or one for each class or target."""
    if batch.classes is None:
        return batch.y.shape[1] if batch.y.ndim > 1 else 1
    return len(batch.classes) if loss in _CLASSES or (not loss and len(batch.classes) > _TWO) else 1


def prior(loss: str, batch: Batch) -> list[float]:
    """The scores that say what is most likely of a row of which nothing is known."""
    if batch.classes is None:
        mean = np.average(batch.y, axis=0, weights=batch.sample_weight)
        scores: AnyArray = np.log(np.maximum(mean, _TINY)) if loss in _EXPONENTIAL else mean
        return [float(score) for score in np.atleast_1d(scores)]
    counts = np.bincount(batch.y, weights=batch.sample_weight, minlength=len(batch.classes))
    shares = counts / counts.sum()
    if n_scores(loss, batch) == 1:
        return [float(logit(shares[1]))]
    return [float(score) for score in (logit(shares) if loss == VOTES else np.log(shares))]


def predicted(loss: str, task: Task, scores: FloatArray) -> FloatArray:
    """What scores of shape (n, s) mean: probabilities or votes of shape (n, k), or values.

    Scores of one class against all others do not sum to one: they vote.
    """
    if task == "regression":
        values = np.exp(scores) if loss in _EXPONENTIAL else scores
        return values[:, 0] if values.shape[1] == 1 else values
    if loss == VOTES:
        votes: FloatArray = np.eye(scores.shape[1])[scores.argmax(axis=1)]
        return votes
    if scores.shape[1] > 1:
        probabilities: FloatArray = softmax(scores, axis=1)
        return probabilities
    positive = expit(scores[:, 0])
    return np.column_stack([1.0 - positive, positive])
