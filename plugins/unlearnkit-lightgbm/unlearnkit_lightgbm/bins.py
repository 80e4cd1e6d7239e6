"""Bin edges alone: a reference Dataset that holds no rows, for others to be binned by.

LightGBM bins every row of a Dataset that edges are taken from. Where those rows are binned again as part of a larger
Dataset, that is work for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import lightgbm
import numpy as np

from unlearnkit.memory import empty
from unlearnkit.typing import AnyArray
from unlearnkit_lightgbm.matrix import Matrix

# What LightGBM takes for zero, and leaves out of a sample.
ZERO = float(np.float32(1e-35))
# Columns: fewer of a row than are in one line of the cache would be read again and again.
_AT_ONCE = 16


class _Edges(lightgbm.Dataset):
    """A Dataset made with all of its parameters: LightGBM would leave out the seed and the number of threads."""

    def get_params(self) -> dict[str, Any]:
        return super().get_params() if self._handle else dict(self.params or {})


def are_enough(values: Any, params: Mapping[str, Any]) -> bool:
    """Whether edges can be had alone: not from sparse rows, and linear trees need the rows themselves."""
    return isinstance(values, np.ndarray) and str(params.get("linear_tree", False)).lower() not in ("true", "1", "+")


def edges_alone(matrix: Matrix, n: int, categories: list[Any], params: Mapping[str, Any]) -> lightgbm.Dataset:
    """The edges that a Dataset of the first `n` rows would have, in a Dataset for use as a reference only."""
    names = [] if matrix.names == "auto" else list(matrix.names)
    places = sorted({names.index(c) if isinstance(c, str) else c for c in categories})
    nothing: Any = None
    reference = _Edges(nothing, params={**params, **({"categorical_column": places} if places else {})})
    # The public ways to a Dataset all go on to its rows.
    chosen = reference._create_sample_indices(total_nrow=n)  # noqa: SLF001
    sample, kept = _sample(matrix.values[:n] if len(chosen) == n else matrix.values[chosen])
    reference._init_from_sample(sample, kept, len(chosen), n)  # noqa: SLF001
    reference.categorical_feature, reference.pandas_categorical = categories or "auto", None
    return reference.set_feature_name(matrix.names)


def _sample(rows: AnyArray) -> tuple[list[AnyArray], list[AnyArray]]:
    """Of each column the numbers that LightGBM would read, and which rows they are of."""
    sample, kept = [], []
    everything = np.arange(len(rows), dtype=np.int32)
    for column in _columns(rows):
        found = ~(np.abs(column) <= ZERO)
        full = bool(found.all())
        sample.append(_sorted(column if full else column[found]))
        # Most columns have no zero: one array says it for all of them.
        kept.append(everything if full else np.flatnonzero(found).astype(np.int32))
    return sample, kept


def _sorted(column: AnyArray) -> AnyArray:
    """Sorted in place, as LightGBM would sort it, several times as slowly; with missing values it has its own way."""
    if not np.isnan(column).any():
        column.sort()
    return column


def _columns(rows: AnyArray) -> Iterator[AnyArray]:
    """The numbers of each column as LightGBM reads them, to be changed: some at a time, all would be twice the rows."""
    read = rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float32)
    for i in range(0, read.shape[1], _AT_ONCE):
        some = read[:, i : i + _AT_ONCE].T
        # A copy even where a column lies like this already. In the heap so large a one would leave a hole that is not
        # given back before the end of the step.
        columns = empty(some.shape, np.dtype(np.float64))
        columns[:] = some
        yield from columns
