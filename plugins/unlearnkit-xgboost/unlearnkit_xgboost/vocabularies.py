"""Whether the category vocabularies in stored bytes agree with themselves: XGBoost looks into them by position."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from unlearnkit_xgboost.ubjson import Packed, nonsense


def check_vocabularies(cats: Any, n_features: int) -> None:
    """Raise StateError unless ``cats``, as `ubjson.read` gives it, orders the categories that it lists."""
    if not cats["enc"]:
        return
    sizes = [_size(column) for column in cats["enc"]]
    ends = cats["feature_segments"].numbers().tolist()
    order = cats["sorted_idx"].numbers()
    if len(sizes) != n_features or ends != [0, *np.cumsum(sizes).tolist()] or len(order) != ends[-1]:
        raise nonsense("its categories are miscounted")
    for start, end in pairwise(ends):
        if not np.array_equal(np.sort(order[start:end]), np.arange(end - start)):
            raise nonsense("its categories are out of order")


def _size(column: dict[str, Any]) -> int:
    """The number of categories of one column: strings joined, with offsets, or numbers."""
    values: Packed = column["values"]
    if "offsets" not in column:
        return len(values.numbers())
    offsets = column["offsets"].numbers().astype(np.int64)
    if len(offsets) == 0:
        return 0
    if offsets[0] != 0 or (np.diff(offsets) < 0).any() or offsets[-1] != len(values.data) or values.kind != "i":
        raise nonsense("its categories overlap")
    return len(offsets) - 1
