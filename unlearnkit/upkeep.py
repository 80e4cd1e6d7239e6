"""Upkeep: what the life of a model leaves behind that makes it dearer or weaker, though nothing about it is wrong.

Pure functions of what the plan knows of each slice: they cost nothing, and every reader of a ledger can call them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MOST_ARRIVED = 10
"""Arrived slices that no model is blamed for.

Each is a step of its own, with a state of its own, and is trained again when a record before it goes. As many as the
slices of the fit double that cost; but a model of one slice to which records come must not be told off each time.
"""
SMALLEST_SHARE = 0.5
"""The share of the records it was built with below which a shard is called shrunken.

Its constituent counts as much in the mean as those of full shards, and half the shards would have given each as much.
"""
_SHOWN = 10


def arrived(n_slices: int, counts: Sequence[int]) -> int:
    """How many slices of a shard arrived later and are not empty.

    Parameters
    ----------
    n_slices : int
        Of the partition.
    counts : sequence of int
        The records of positive weight in each slice of the shard, in their order.

    Examples
    --------
    >>> arrived(2, [1, 1, 1, 0, 1])
    2
    """
    return sum(n > 0 for n in counts[n_slices:])


def findings(n_slices: int, built: Sequence[int], counts: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """What somebody should see to, in plain sentences; nothing for most models.

    Parameters
    ----------
    n_slices : int
        Of the partition.
    built : sequence of int
        The records of positive weight that each shard had when the model was built last; empty if nobody knows.
    counts : sequence of sequence of int
        Those that each slice of each shard has now.

    Examples
    --------
    >>> findings(1, [2, 4], [[1, 1], [1]])
    ('Shrunken: shard 1 has fewer than half of the records that it was built with. Fit anew, with fewer shards.',)
    """
    return (*_piled_up(n_slices, counts), *_shrunken(built, counts))


def _piled_up(n_slices: int, counts: Sequence[Sequence[int]]) -> Iterable[str]:
    limit = max(n_slices, MOST_ARRIVED)
    piled = [shard for shard, slices in enumerate(counts) if arrived(n_slices, slices) > limit]
    if piled:
        have = "has" if len(piled) == 1 else "have"
        yield (
            f"Piled up: {_named(piled)} {have} more than {limit} slices that arrived later, and forgetting an old "
            "record trains each of them again. Put their records where a fit would: consolidate()"
        )


def _shrunken(built: Sequence[int], counts: Sequence[Sequence[int]]) -> Iterable[str]:
    left = [sum(slices) for slices in counts]
    # Of a model that an older version built nobody knows how many there were.
    small = [shard for shard, before in enumerate(built[: len(left)]) if left[shard] < SMALLEST_SHARE * before]
    if small:
        have, it = ("has", "it was") if len(small) == 1 else ("have", "they were")
        yield (
            f"Shrunken: {_named(small)} {have} fewer than half of the records that {it} built with. Fit anew, with "
            "fewer shards."
        )


def _named(shards: Sequence[int]) -> str:
    shown = ", ".join(map(str, shards[:_SHOWN])) + (", ..." if len(shards) > _SHOWN else "")
    return f"shard{'' if len(shards) == 1 else 's'} {shown}"
