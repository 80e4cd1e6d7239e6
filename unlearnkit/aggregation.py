"""Aggregation: how the predictions of the shards become one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from unlearnkit.errors import ParameterError
from unlearnkit.fingerprints import fingerprint
from unlearnkit.learner import Capabilities
from unlearnkit.typing import Aggregate, FloatArray

MEAN, VOTE, AUTO = "mean", "vote", "auto"


@dataclass(frozen=True, slots=True)
class Aggregation:
    """One way to aggregate.

    Attributes
    ----------
    rule : {"mean", "vote"} or callable
    identity : str
        What stands for it in the digest of a model.
    """

    rule: str | Aggregate
    identity: str

    @property
    def is_own(self) -> bool:
        """Whether it is a function of the user's own."""
        return callable(self.rule)

    def __call__(self, predictions: Iterable[FloatArray | None]) -> FloatArray:
        """Aggregate the predictions of the shards in order; None for one that abstains. One at least is there.

        An array (S, n, ...) of them is what a learner gives that predicts from all in one call.
        """
        if not callable(self.rule):
            if self.rule == MEAN and isinstance(predictions, np.ndarray):
                return _mean_of_array(predictions)
            return _mean(one_hot(p) if self.rule == VOTE else p for p in predictions if p is not None)
        given = list(predictions)
        present = np.array([p is not None for p in given])
        some = next(p for p in given if p is not None)
        result = np.asarray(self.rule(np.stack([np.zeros_like(some) if p is None else p for p in given]), present))
        if result.shape != some.shape:
            raise ParameterError(
                f"The aggregation function returned shape {result.shape} where {some.shape} was expected."
            )
        return result


def choose(aggregation: str | Aggregate, capabilities: Capabilities) -> Aggregation:
    """The aggregation for the option ``aggregation=``.

    Raises
    ------
    ParameterError
        If the option is none of "auto", "mean", "vote" or a function, or does not fit the task.
    """
    classifier = capabilities.task == "classification"
    if callable(aggregation):
        return Aggregation(aggregation, "function:" + fingerprint(aggregation))
    if aggregation == AUTO:
        aggregation = MEAN if capabilities.probabilities or not classifier else VOTE
    if aggregation not in (MEAN, VOTE):
        raise ParameterError(
            f'aggregation={aggregation!r} is not "auto", "mean", "vote" or a function; nothing was changed.'
        )
    if aggregation == VOTE and not classifier:
        raise ParameterError('aggregation="vote" is for classifiers; nothing was changed. Use "mean".')
    return Aggregation(aggregation, aggregation)


def one_hot(probabilities: FloatArray) -> FloatArray:
    """The vote of each row: 1 for its likeliest class (the first of equals), 0 for the others."""
    votes = np.zeros_like(probabilities)
    votes[np.arange(len(votes)), probabilities.argmax(axis=1)] = 1
    return votes


def _mean(predictions: Iterable[FloatArray]) -> FloatArray:
    """The plain mean in order of shards: constituents weigh equally, an abstaining one not at all."""
    total: FloatArray | None = None
    count = 0
    for prediction in predictions:
        count += 1
        if total is None:
            total = np.array(prediction, dtype=np.float64)
        else:
            total += prediction
    assert total is not None
    total /= count
    return total


def _mean_of_array(predictions: FloatArray) -> FloatArray:
    """The same of an array, in which none abstains."""
    # One after the other: a sum would add up some of them apart where there is one number of each.
    mean: FloatArray = np.add.accumulate(predictions, axis=0, dtype=np.float64)[-1]
    mean /= len(predictions)
    return mean
