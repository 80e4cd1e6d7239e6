"""Joining: few rows are predicted from all constituents in one call, by learners that can.

For one row the calls into a framework take longer than its trees or layers do, so twenty of them cost most of what a
prediction costs. To put the constituents together takes as long as some tens of predictions, so it waits for those.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from typing import Any

from unlearnkit.learner import Joining, Learner, PredictAll, is_able

# Rows of a prediction above which a call into a framework is no more than some percent of it.
FEW_ROWS = 64
# Predictions after which it pays: they have taken about as long.
WORTH_IT = 30


class Joint:
    """The constituents of one snapshot in one piece, from when few rows were asked of it often enough."""

    def __init__(self) -> None:
        self._asked = 0
        self._predict: PredictAll | None = None
        self._joining = threading.Lock()

    def asked(self, learner: Learner[Any], states: Sequence[Any]) -> PredictAll | None:
        """What predicts from all of these states, the same at every call; None as long as each is to be asked."""
        # Whoever comes while another thread joins them does without.
        if self._asked < WORTH_IT and is_able(type(learner), Joining) and self._joining.acquire(blocking=False):
            try:
                self._asked += 1
                if self._asked == WORTH_IT:
                    self._predict = _joined(learner, states)
            finally:
                self._joining.release()
        return self._predict


def _joined(learner: Any, states: Sequence[Any]) -> PredictAll | None:
    try:
        found: PredictAll | None = learner.joined(states)
    except Exception as error:  # noqa: BLE001
        warnings.warn(
            f"The constituents could not be joined ({type(error).__name__}: {error}), so each of them is asked for "
            "itself as before. Predictions are the same, and those of few rows take longer than they might.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return found
