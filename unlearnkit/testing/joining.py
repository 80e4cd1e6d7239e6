"""The check of learners that predict from many states in one call: it passes for those that cannot."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np

from unlearnkit.learner import Joining, Sharing
from unlearnkit.testing.probes import bits_of, shape_of
from unlearnkit.testing.subject import Subject, one_shard, pick


def check_joining_changes_no_bit(subject: Subject) -> None:
    """States that are joined give the predictions that each gives by itself, in any thread, and stay as they were."""
    shard = one_shard(subject)
    learner = shard.learner
    if not isinstance(learner, Joining):
        return
    states = [learner.load(parts) for _, parts in shard.states()]
    for X in (pick(shard.records.X, np.arange(1)), shard.records.X):
        before, alone = shape_of(X), bits_of(learner.predict(state, X) for state in states)
        together = learner.joined(states)
        if together is None:
            return
        with learner.sharing(X) if isinstance(learner, Sharing) else nullcontext(X) as rows:
            assert bits_of(together(rows)) == alone, "states that are joined predict otherwise"
            with ThreadPoolExecutor(1) as pool:
                found = pool.submit(lambda: bits_of(together(rows))).result()  # noqa: B023 - done before the next turn
            assert found == alone, "states that are joined predict otherwise in another thread"
            assert bits_of(together(rows)) == alone, "states that are joined changed by predicting"
        assert bits_of(learner.predict(state, X) for state in states) == alone, "a state changed by being joined"
        assert shape_of(X) == before, "a prediction changed the rows"
