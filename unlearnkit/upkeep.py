"""Upkeep: what the life of a model leaves behind that makes it dearer or weaker, though nothing about it is wrong.

Pure functions of what the plan knows of each slice: they cost nothing, and every reader of a ledger can call them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unlearnkit.data import SliceFacts

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


def arrived(n_slices: int, facts: Sequence[SliceFacts]) -> int:
    """How many slices of a shard arrived later and are not empty.

    Parameters
    ----------
    n_slices : int
        Of the partition.
    facts : sequence of SliceFacts
        Of all slices of the shard, in their order.

    Examples
    --------
    >>> one, none = SliceFacts(1, "", frozenset()), SliceFacts(0, "", frozenset())
    >>> arrived(2, [one, one, one, none, one])
    2
    """
    return sum(one.n > 0 for one in facts[n_slices:])


def findings(n_slices: int, built: Sequence[int], facts_by_shard: Iterable[Sequence[SliceFacts]]) -> tuple[str, ...]:
    """What somebody should see to, in plain sentences; nothing for most models.

    Parameters
    ----------
    n_slices : int
        Of the partition.
    built : sequence of int
        The records of positive weight that each shard had when the model was built last; empty if nobody knows.
    facts_by_shard : iterable of sequence of SliceFacts
        Of all slices of each shard, in their order.

    Examples
    --------
    >>> one = SliceFacts(1, "", frozenset())
    >>> findings(1, [2, 4], [[one] * 2, [one]])
    ('Shrunken: shard 1 has fewer than half of the records that it was built with. Fit anew, with fewer shards.',)
    """
    facts = [tuple(slices) for slices in facts_by_shard]
    return (*_piled_up(n_slices, facts), *_shrunken(built, facts))


def _piled_up(n_slices: int, facts: Sequence[Sequence[SliceFacts]]) -> Iterable[str]:
    limit = max(n_slices, MOST_ARRIVED)
    piled = [shard for shard, slices in enumerate(facts) if arrived(n_slices, slices) > limit]
    if piled:
        have = "has" if len(piled) == 1 else "have"
        yield (
            f"Piled up: {_named(piled)} {have} more than {limit} slices that arrived later, and forgetting an old "
            "record trains each of them again. Put their records where a fit would: consolidate()"
        )


def _shrunken(built: Sequence[int], facts: Sequence[Sequence[SliceFacts]]) -> Iterable[str]:
    left = [sum(one.n for one in slices) for slices in facts]
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
