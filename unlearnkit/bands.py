"""Bands: which shards and slices take the records that are likeliest to be erased.

Bourtoule et al. 2021, section VIII: people differ in how likely they are to ask, so put those who do together and spare
the other shards. Their Algorithm 1 sorts all records by probability and fills a shard until the expected erasures in it
reach a bound. That moves records when others leave. Here the sorted line of people is a public prior instead, and a
record finds its place on it by its own probability and a keyed hash of its own id: nobody else's leaving moves it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from unlearnkit.errors import DataError, ParameterError
from unlearnkit.typing import FloatArray, IntArray

ERASURES, PEOPLE = "erasures", "people"


@dataclass(frozen=True)
class Bands:
    """A prior: how many people have which probability of asking for erasure.

    Attributes
    ----------
    probabilities : tuple of float
        In (0, 1], ascending.
    shares : tuple of float
        The share of records that has each; they sum to 1.
    shards : {"erasures", "people"}
        Whether shards are cut along the line where equally many erasures are expected, or all of them hold people from
        everywhere on it.
    """

    probabilities: tuple[float, ...]
    shares: tuple[float, ...]
    shards: str = ERASURES

    @classmethod
    def of(cls, prior: Mapping[float, float], shards: str = ERASURES) -> Bands:
        """The bands of a prior, whose shares need not sum to 1.

        Raises
        ------
        ParameterError
            If it is empty, a probability is not in (0, 1], or a share is not positive; if there is no such way to
            make shards.

        Examples
        --------
        >>> Bands.of({0.5: 1, 0.1: 3})
        Bands(probabilities=(0.1, 0.5), shares=(0.75, 0.25), shards='erasures')
        """
        if shards not in (ERASURES, PEOPLE):
            raise ParameterError(f'shards={shards!r} is neither "erasures" nor "people"; nothing was changed.')
        wrong = "The prior must map probabilities in (0, 1] to positive shares of the records; nothing was changed."
        try:
            pairs = sorted((float(p), float(share)) for p, share in prior.items())
        except (AttributeError, TypeError, ValueError) as error:
            raise ParameterError(wrong) from error
        if not pairs or not all(0 < p <= 1 and 0 < share < float("inf") for p, share in pairs):
            raise ParameterError(wrong)
        total = sum(share for _, share in pairs)
        # What sums to 1 but for rounding stays: written down and read back, it is to be the same.
        total = 1.0 if math.isclose(total, 1) else total
        return cls(tuple(p for p, _ in pairs), tuple(share / total for _, share in pairs), shards)

    @property
    def prior(self) -> dict[float, float]:
        """The prior that they are of."""
        return dict(zip(self.probabilities, self.shares, strict=True))

    @cached_property
    def _line(self) -> tuple[FloatArray, FloatArray]:
        """The line of people, the least likely first: shares of expected erasures, and of people, before each band."""
        p, shares = np.array(self.probabilities), np.array(self.shares)
        erasures = np.concatenate([[0.0], np.cumsum(p * shares)])
        people = np.concatenate([[0.0], np.cumsum(shares)])
        return erasures / erasures[-1], people / people[-1]

    def _band(self, probability: FloatArray) -> IntArray:
        return np.minimum(np.searchsorted(self.probabilities, probability), len(self.probabilities) - 1)

    def slices(self, probability: FloatArray, uniform: FloatArray, n_slices: int) -> IntArray:
        """The slice of each record where a shard holds people from the whole line: equally many to a slice, in order.

        Examples
        --------
        >>> Bands.of({0.1: 0.5, 0.9: 0.5}).slices(np.array([0.1, 0.9]), np.array([0.9, 0.0]), 4).tolist()
        [1, 2]
        """
        _, people = self._line
        band = self._band(probability)
        place = people[band] + uniform * (people[band + 1] - people[band])
        return np.minimum((place * n_slices).astype(np.int64), n_slices - 1)

    def cells(
        self, probability: FloatArray, uniform: FloatArray, n_shards: int, n_slices: int
    ) -> tuple[IntArray, IntArray]:
        """Shard and slice of each record where shards are cut along the line.

        Shards are cut where equally many erasures are expected, as Algorithm 1 does for a bound of all expected
        erasures over `n_shards`; the slices of a shard where it has equally many people.

        Parameters
        ----------
        probability : ndarray of shape (n,)
            A record belongs to the first band whose probability is not below its own, or to the last.
        uniform : ndarray of shape (n,)
            In [0, 1), from a keyed hash: where in its band the record stands.
        n_shards, n_slices : int

        Examples
        --------
        >>> shard, slice_ = Bands.of({0.1: 0.9, 0.9: 0.1}).cells(np.array([0.1, 0.9]), np.array([0.0, 0.99]), 2, 3)
        >>> shard.tolist(), slice_.tolist()
        ([0, 1], [0, 2])
        """
        erasures, people = self._line
        band = self._band(probability)
        place = erasures[band] + uniform * (erasures[band + 1] - erasures[band])
        shard = np.minimum((place * n_shards).astype(np.int64), n_shards - 1)
        cuts = np.interp(np.arange(n_shards + 1) / n_shards, erasures, people)
        within = (np.interp(place, erasures, people) - cuts[shard]) / (cuts[shard + 1] - cuts[shard])
        return shard, np.clip((within * n_slices).astype(np.int64), 0, n_slices - 1)


def checked_probability(given: Any, n: int) -> FloatArray:
    """Probabilities of shape (n,), one for all or one for each record.

    Raises
    ------
    DataError
        If there are not n, or one is not in [0, 1].
    """
    try:
        probability = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"erasure_probability does not convert to numbers: {error}; nothing was changed.") from error
    probability = np.full(n, probability) if probability.ndim == 0 else probability
    if probability.shape != (n,):
        raise DataError(f"erasure_probability has shape {probability.shape}, expected {(n,)}; nothing was changed.")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise DataError("erasure_probability must be in [0, 1] for every row; nothing was changed.")
    return probability


def one_for_each(probability: FloatArray, places: IntArray, n: int) -> FloatArray:
    """The probability of each of n ids, from those of their rows.

    Parameters
    ----------
    probability : ndarray of shape (rows,)
    places : sequence of int
        Which id each row is of.
    n : int

    Raises
    ------
    DataError
        If rows of one id have several.
    """
    own = np.empty(n)
    own[places] = probability
    if (own[places] != probability).any():
        several = len(np.unique(np.asarray(places)[own[places] != probability]))
        raise DataError(
            f"{several} ids have rows of several erasure probabilities, which would put them into several shards; "
            "nothing was changed. Give one value per id: it is the person who asks."
        )
    return own


def prior_of(sample: Sequence[float] | FloatArray, n_bands: int) -> dict[float, float]:
    """A prior from a public sample of probabilities: bands of equally many people.

    Raises
    ------
    ParameterError
        If the sample is empty, or has a value that is not in (0, 1].

    Examples
    --------
    >>> prior_of([0.1, 0.1, 0.1, 0.4], 2)
    {0.1: 0.75, 0.4: 0.25}
    """
    values = np.sort(np.asarray(sample, dtype=np.float64).ravel())
    if not len(values) or not ((values > 0) & (values <= 1)).all():
        raise ParameterError("The sample must have probabilities in (0, 1]; nothing was changed.")
    edges = np.unique(np.quantile(values, np.arange(1, n_bands + 1) / n_bands, method="inverted_cdf"))
    counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges))
    return {float(edge): float(count) / len(values) for edge, count in zip(edges, counts, strict=True)}
