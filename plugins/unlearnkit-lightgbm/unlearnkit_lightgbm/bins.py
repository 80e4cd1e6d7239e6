"""Bin edges alone: a reference Dataset that holds no rows, for others to be binned by.

LightGBM bins every row of a Dataset that edges are taken from. Where those rows are binned again as part of a larger
Dataset, that is work for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightgbm
import numpy as np

from unlearnkit.typing import AnyArray
from unlearnkit_lightgbm.matrix import Matrix

# What LightGBM takes for zero, and leaves out of a sample.
ZERO = float(np.float32(1e-35))


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
    columns = _columns(matrix.values[:n] if len(chosen) == n else matrix.values[chosen])
    kept = [np.flatnonzero(~(np.abs(column) <= ZERO)).astype(np.int32) for column in columns]
    sample = [_sorted(column[rows]) for column, rows in zip(columns, kept, strict=True)]
    reference._init_from_sample(sample, kept, len(chosen), n)  # noqa: SLF001
    reference.categorical_feature, reference.pandas_categorical = categories or "auto", None
    return reference.set_feature_name(matrix.names)


def _sorted(column: AnyArray) -> AnyArray:
    """Sorted, as LightGBM would sort it, several times as slowly; with missing values it has a way of its own."""
    return column if np.isnan(column).any() else np.sort(column)


def _columns(rows: AnyArray) -> AnyArray:
    """The numbers that LightGBM would read, column by column."""
    read = rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float32)
    return np.ascontiguousarray(read.T, dtype=np.float64)
