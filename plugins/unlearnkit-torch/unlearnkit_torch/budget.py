"""How much a step trains, in whole batches, and when the schedule of the learning rate moves on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from unlearnkit.learner import Step

Bounds = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Work:
    """The batches of one step.

    Attributes
    ----------
    batches : tuple of (int, int)
        First and last (exclusive) place of each batch in a shuffled pass over the prefix.
    passes : int
        Whole passes.
    rest : int
        Batches of one more, unfinished pass.
    owed : Fraction
        Rows that rounding to whole batches left for the next step; negative if too many were shown.
    """

    batches: tuple[Bounds, ...]
    passes: int
    rest: int
    owed: Fraction

    @property
    def total(self) -> int:
        """The number of batches in the step."""
        return self.passes * len(self.batches) + self.rest


def split(n: int, batch_size: int, smallest: int = 1) -> tuple[Bounds, ...]:
    """The batches of a pass over `n` rows; a last one of fewer than `smallest` rows joins the one before.

    Examples
    --------
    >>> split(9, 4, smallest=2)
    ((0, 4), (4, 9))
    """
    if n < smallest:
        return ()
    starts = list(range(0, n, batch_size))
    if len(starts) > 1 and n - starts[-1] < smallest:
        starts.pop()
    return tuple(zip(starts, [*starts[1:], n], strict=True))


def plan(batches: tuple[Bounds, ...], epochs: Fraction, owed: Fraction) -> Work:
    """Whole batches that come closest to `epochs` passes over the rows and the rows `owed` from before.

    Examples
    --------
    >>> work = plan(split(10, 4), Fraction(3, 2), Fraction(0))
    >>> work.passes, work.rest, work.owed
    (1, 1, Fraction(1, 1))
    """
    n = batches[-1][1] if batches else 0
    wanted = epochs * n + owed
    if n == 0 or wanted <= 0:
        return Work(batches, 0, 0, wanted)
    passes = floor(wanted / n)
    left = wanted - passes * n
    below = min(floor(left / batches[0][1]), len(batches) - 1)
    rest = min(below, below + 1, key=lambda count: abs(_rows(batches, count) - left))
    owed = left - _rows(batches, rest)
    whole, rest = divmod(rest, len(batches))
    return Work(batches, passes + whole, rest, owed)


def _rows(batches: tuple[Bounds, ...], count: int) -> int:
    return batches[count - 1][1] if count else 0


def advance(step: Step, epochs: int) -> Fraction:
    """How far a step moves the schedule, in epochs over the whole shard.

    A prefix of share ``stop`` of the rows counts for that share of an epoch, so that all steps together come to
    exactly `epochs`, however many slices there are. With slices that arrived later the prefix is the whole shard.
    """
    return epochs * step.epochs * min(step.stop, Fraction(1))


def ticks(position: Fraction, length: Fraction, per_epoch: int, batches: int) -> Iterator[int]:
    """How often the schedule moves on after each batch of a step that goes from `position` on for `length`."""
    over = position.denominator * length.denominator * max(batches, 1)
    start = position.numerator * length.denominator * max(batches, 1) * per_epoch
    stride = length.numerator * position.denominator * per_epoch
    before = start // over
    for batch in range(1, batches + 1):
        after = (start + stride * batch) // over
        yield after - before
        before = after


def missed_ticks(position: Fraction, length: Fraction, per_epoch: int) -> int:
    """The ticks of a step that has no batch at all."""
    return floor((position + length) * per_epoch) - floor(position * per_epoch)
