"""Rates: what the timed steps of trials say of steps, requests and states of any size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unlearnkit.trials import Trial
from unlearnkit.typing import FloatArray


@dataclass(frozen=True, slots=True)
class Rates:
    """What steps, requests and states take, for one number of slices.

    Attributes
    ----------
    per_step, per_record : float
        Seconds of any step, and of a presentation.
    per_row : float
        Seconds for each row of a shard at the first of its steps in a repair, such as for binning them.
    per_call, per_call_row : float
        Seconds beside training of a request, and for each row of the shard.
    bytes_per_shard, bytes_per_row : float
        Of the states.
    """

    per_step: float
    per_record: float
    per_row: float
    per_call: float
    per_call_row: float
    bytes_per_shard: float
    bytes_per_row: float


def rates(trials: Sequence[Trial]) -> Rates:
    """The rates that explain these trials best, which have one number of slices and different shards."""
    steps = np.concatenate([trial.steps for trial in trials])
    if (steps[:, 3] > 0).all():
        # With one slice every step is the first, and its presentations are the rows of its shard.
        steps[:, 3] = 0
    return Rates(
        *_fitted(steps),
        *_fitted(np.concatenate([trial.calls for trial in trials])),
        *_fitted(np.concatenate([trial.states for trial in trials])),
    )


def _fitted(table: FloatArray) -> tuple[float, ...]:
    """Coefficients, none negative, of the columns after the first that give the first with the least relative error.

    Relative, since small shards are in it as well as large ones. Rows with equal columns are their median: a step that
    the machine has interrupted says nothing.
    """
    from scipy.optimize import nnls

    table = _medians(table)
    table = table[table[:, 0] > 0]
    if not len(table):
        return tuple(0.0 for _ in table.T[1:])
    relative = table[:, 1:] / table[:, :1]
    # Columns of very different size would not be told from rounding.
    scale = np.where(relative.max(axis=0) > 0, relative.max(axis=0), 1.0)
    found, _ = nnls(relative / scale, np.ones(len(relative)))
    coefficients: list[float] = (found / scale).tolist()
    return tuple(coefficients)


def _medians(table: FloatArray) -> FloatArray:
    """One row for each group of about equal columns: within a tenth of each other."""
    groups: dict[tuple[float, ...], list[FloatArray]] = defaultdict(list)
    for row in table:
        groups[tuple(np.round(10 * np.log(np.maximum(row[1:], 0.1))))].append(row)
    return np.array([np.median(rows, axis=0) for rows in groups.values()]).reshape(-1, table.shape[1])
