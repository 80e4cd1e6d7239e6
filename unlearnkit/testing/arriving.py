"""The check of what happens when records arrive after the whole budget was spent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unlearnkit.plan import PlannedStep
from unlearnkit.testing.probes import elsewhere, same
from unlearnkit.testing.subject import Shard, Subject, one_shard, train_last
from unlearnkit.typing import Parts

_ARRIVALS = 2


def check_goes_on_beyond_the_budget(subject: Subject) -> None:
    """Slices that arrive later are trained: from stored bytes, or from None, with the bytes of a training in one go.

    A learner that is resumable goes on from states that had the whole budget, in one slice or in several; any other
    starts anew for each slice.
    """
    for n_slices in {1, subject.n_slices}:
        shard = one_shard(subject, n_slices=n_slices, arrivals=_ARRIVALS)
        states = _all_states(shard)
        arrived = [i for i, (step, _) in enumerate(states) if step.slice >= n_slices]
        assert len(arrived) == _ARRIVALS, "too few rows to show anything"
        for i in arrived:
            step, parts = states[i]
            before = None if step.parent is None else states[i - 1][1]
            assert not same(parts, before or {}), f"the records that arrived in slice {step.slice} changed nothing"
            alone = _as_it_was(shard, subject, step)
            assert same(_trained(alone, step, before), parts), (
                f"slice {step.slice} has other bytes when it is trained as it arrives, after {n_slices} slices"
            )


def _trained(shard: Shard, step: PlannedStep, before: Parts | None) -> Parts:
    if shard.learner.capabilities.resumable:
        return shard.train(step, before, {})
    trained: Parts = elsewhere(train_last, replace(shard, steps=(step,)))
    return trained


def _all_states(shard: Shard) -> list[tuple[PlannedStep, Parts]]:
    try:
        return list(shard.states())
    except Exception as error:
        message = f"a slice that arrived after the whole budget raised {type(error).__name__}: {error}"
        raise AssertionError(message) from error


def _as_it_was(shard: Shard, subject: Subject, step: PlannedStep) -> Shard:
    """The shard when the slice of this step was the last, for a learner that knows nothing of it."""
    return replace(shard.with_records(shard.records.take(np.arange(step.n), step.n)), learner=subject.make())
