"""The cost equations: what requests for erasure cost a model of S shards and R slices, before there is one.

Who asks is drawn uniformly, and records lie in shards and slices by chance, N / (S R) in each on average. Costs are
counted in presentations: rows shown to a model in training, per epoch of the wrapped model. Training an unsharded,
unsliced model on N rows is N of them.

References
----------
Bourtoule et al., "Machine Unlearning", IEEE Symposium on Security and Privacy, 2021, section V. The expectations for a
batch that meets shards and slices are exact, where the paper bounds or simulates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def sequential_records(n_records: int, n_shards: int, n_requests: float) -> float:
    """Records retrained by requests that are handled one after the other, with shards of one slice.

    Each trains what is left of its shard: ``(N/S + 1/(2S) - 1) K - K^2 / (2S)``.

    Parameters
    ----------
    n_records, n_shards : int
    n_requests : float

    Returns
    -------
    float

    Examples
    --------
    >>> round(sequential_records(10_000, 20, 8), 1)
    3990.6
    """
    n, s, k = n_records, n_shards, n_requests
    return (n / s + 1 / (2 * s) - 1) * k - k**2 / (2 * s)


def batch_records(n_records: int, n_shards: int, n_requests: float) -> float:
    """Records retrained by one batch of requests, with shards of one slice: ``N (1 - (1 - 1/S)^K) - K``.

    Examples
    --------
    >>> round(batch_records(10_000, 20, 8), 1)
    3357.8
    """
    return n_records * _hit(1 / n_shards, n_requests) - n_requests


def request_presentations(n_records: int, n_shards: int, n_slices: int, epochs: float = 1) -> float:
    """Presentations of one request, with slices: ``e N/S (2/3 + 1/(3R))``.

    Slices save at most a third of it on average, and (R - 1) / (R + 1) where the last slice is hit.

    Examples
    --------
    >>> request_presentations(10_000, 20, 1), round(request_presentations(10_000, 20, 50), 1)
    (500.0, 336.7)
    """
    return epochs * n_records / n_shards * (2 / 3 + 1 / (3 * n_slices))


def retrained_chances(n_shards: int, n_slices: int, n_requests: float) -> list[float]:
    """How likely the step of each slice of a shard is trained again: when a request hits it or a slice before it.

    Returns
    -------
    list of float
        From slice 0 to slice R - 1.

    Examples
    --------
    >>> [round(chance, 3) for chance in retrained_chances(n_shards=2, n_slices=2, n_requests=1)]
    [0.25, 0.5]
    """
    cells = n_shards * n_slices
    return [_hit((r + 1) / cells, n_requests) for r in range(n_slices)]


def batch_share(n_shards: int, n_slices: int, n_requests: float) -> float:
    """Presentations of one batch of requests, as a share of a full build: shards and slices, exact expectation.

    Step r shows the first r + 1 of R equal slices for 2 / (R + 1) epochs. The few records that go are not subtracted.

    Examples
    --------
    >>> round(1 / batch_share(20, 50, 8), 2), round(1 / batch_share(20, 1, 8), 2)
    (4.23, 2.97)
    """
    chances = retrained_chances(n_shards, n_slices, n_requests)
    whole = n_slices * (n_slices + 1) / 2
    return sum(chance * (r + 1) for r, chance in enumerate(chances)) / whole


def batch_presentations(n_records: int, n_shards: int, n_slices: int, n_requests: float) -> float:
    """Presentations of one batch of requests, which leaves N - K records to train on.

    Examples
    --------
    >>> round(batch_presentations(10_000, 20, 1, 8), 1), round(batch_presentations(10_000, 20, 50, 8), 1)
    (3363.1, 2361.8)
    """
    return (n_records - n_requests) * batch_share(n_shards, n_slices, n_requests)


def batch_steps(n_shards: int, n_slices: int, n_requests: float, n_ids: int | None = None) -> float:
    """Steps retrained by one batch of requests.

    Parameters
    ----------
    n_shards, n_slices : int
    n_requests : float
        Different ids.
    n_ids : int or None
        All ids. A slice that nobody is left in has no step; None: there is always somebody.

    Examples
    --------
    >>> round(batch_steps(5, 10, 1), 6), round(batch_steps(5, 10, 1, n_ids=100), 2)
    (5.5, 4.76)
    """
    steps = n_shards * sum(retrained_chances(n_shards, n_slices, n_requests))
    if n_ids is None:
        return steps
    # Where those who stay are does not depend on where those who go were.
    return steps * _hit(1 / (n_shards * n_slices), n_ids - n_requests)


def states_stored(n_shards: int, n_slices: int, checkpoint_every: int = 1) -> int:
    """The states that are stored: of every so-manieth slice, and of the last.

    Examples
    --------
    >>> states_stored(20, 50), states_stored(20, 10, checkpoint_every=4)
    (1000, 60)
    """
    return n_shards * -(-n_slices // checkpoint_every)


def chance_all_abstain(n_shards: int, n_slices: int, n_requests: int) -> float:
    """How likely nothing can be predicted between isolate and repair, after so many requests at once.

    A shard abstains when its first slice is hit. How many first slices are hit is followed request by request: a sum
    of positive terms, where inclusion and exclusion would cancel.

    Examples
    --------
    >>> chance_all_abstain(1, 1, 1), chance_all_abstain(2, 1, 2)
    (1.0, 0.5)
    >>> round(chance_all_abstain(5, 1, 20), 4), round(chance_all_abstain(5, 10, 20), 6)
    (0.9427, 0.002812)
    """
    if n_requests < n_shards:
        return 0.0
    each = 1 / (n_shards * n_slices)
    chances: Sequence[float] = [1.0, *[0.0] * n_shards]
    for _ in range(n_requests):
        chances = [
            chances[hit] * (1 - (n_shards - hit) * each)
            + (chances[hit - 1] * (n_shards - hit + 1) * each if hit else 0.0)
            for hit in range(n_shards + 1)
        ]
    return chances[n_shards]


def _hit(share: float, n_requests: float) -> float:
    """How likely at least one of these requests falls into a part that has this share of all records."""
    return 1 - math.pow(1 - share, n_requests)
