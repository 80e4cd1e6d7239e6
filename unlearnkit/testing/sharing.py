"""The check of learners that read rows once for many states: it passes for those that cannot."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from unlearnkit.learner import Sharing
from unlearnkit.testing.probes import bits_of, shape_of
from unlearnkit.testing.subject import Shard, Subject, one_shard, pick
from unlearnkit.typing import Features


def check_sharing_changes_no_bit(subject: Subject) -> None:
    """Rows that are read once for all states give the predictions of rows read anew, in any thread, and stay as is."""
    shard = one_shard(subject)
    learner = shard.learner
    if not isinstance(learner, Sharing):
        return
    states = [learner.load(parts) for _, parts in shard.states()]
    for X in (pick(shard.records.X, np.arange(1)), shard.records.X):
        before, alone = shape_of(X), _bits(shard, states, X)
        with learner.sharing(X) as rows:
            assert _bits(shard, states, rows) == alone, "the rows that are shared are predicted otherwise"
            with ThreadPoolExecutor(1) as pool:
                found = pool.submit(_bits, shard, states, rows).result()
            assert found == alone, "the rows that are shared are predicted otherwise in another thread"
            assert _bits(shard, states, rows) == alone, "the rows that are shared changed by being predicted"
        assert _bits(shard, states, X) == alone, "what was held for rows that are shared was not let go"
        assert shape_of(X) == before, "sharing changed the rows"


def _bits(shard: Shard, states: list[Any], rows: Features) -> list[tuple[Any, ...]]:
    return bits_of(shard.learner.predict(state, rows) for state in states)
