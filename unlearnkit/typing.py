"""The type aliases of the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.floating[Any]]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
ByteArray: TypeAlias = NDArray[np.uint8]
AnyArray: TypeAlias = NDArray[Any]

Selection: TypeAlias = slice | IntArray
"""Some rows: those in between, or those of these numbers."""
Features: TypeAlias = Any
"""A C-contiguous array (n, ...), a canonical ``scipy.sparse.csr_matrix`` or a ``pandas.DataFrame``."""

Parts: TypeAlias = Mapping[str, bytes]
"""A state as it is stored: named byte strings."""

Task: TypeAlias = Literal["classification", "regression"]

Aggregate: TypeAlias = Callable[[FloatArray, BoolArray], FloatArray]
"""``f(predictions (S, n, ...), present (S,)) -> (n, ...)``; the rows of absent shards are zero."""
