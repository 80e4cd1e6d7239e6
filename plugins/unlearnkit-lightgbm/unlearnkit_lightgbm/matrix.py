"""Features as LightGBM takes them: numbers only, with the columns that are categories named apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import sparse

from unlearnkit.errors import DataTypeError
from unlearnkit.typing import AnyArray, Features

if TYPE_CHECKING:
    import pandas as pd

_NATIVE = (np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True, slots=True)
class Matrix:
    """Numbers, with the names of their columns ("auto": none) and the positions of categories among them."""

    values: Any
    names: list[str] | Literal["auto"] = "auto"
    categories: tuple[int, ...] = ()


def encode(X: Features) -> Matrix:
    """Make a frame's categories their codes, by the vocabulary of its dtypes; leave arrays as they are.

    LightGBM would store the vocabulary in the model and shift codes by it; here the schema has frozen it already.
    Like LightGBM, take an ordered category for a number.
    """
    if isinstance(X, sparse.csr_matrix):
        return Matrix(X if X.dtype.kind == "f" else X.astype(np.float64))
    if isinstance(X, np.ndarray):
        return Matrix(X)
    columns = [X.iloc[:, i] for i in range(X.shape[1])]
    _require_numbers(columns)
    unordered = tuple(i for i, column in enumerate(columns) if _is_category(column) and not column.cat.ordered)
    return Matrix(_numbers(columns), [str(name) for name in X.columns], unordered)


def numbers(X: Features) -> Any:
    """The rows to predict in a form that LightGBM reads where it lies."""
    values = X if isinstance(X, np.ndarray) else encode(X).values  # noqa: PD011 - a Matrix is no frame
    # Of others it would make a copy of this kind for each booster.
    native = not isinstance(values, np.ndarray) or values.dtype in _NATIVE
    return values if native else values.astype(np.float32)


def _numbers(columns: list[pd.Series]) -> AnyArray:
    narrow = all(column.dtype == np.float32 for column in columns)
    values = np.empty((len(columns[0]), len(columns)), dtype=np.float32 if narrow else np.float64)
    for i, column in enumerate(columns):
        values[:, i] = _codes(column) if _is_category(column) else column.to_numpy(dtype=values.dtype, na_value=np.nan)
    return values


def _codes(column: pd.Series) -> AnyArray:
    codes = column.cat.codes.to_numpy(dtype=np.float64)
    return np.where(codes < 0, np.nan, codes)


def _is_category(column: pd.Series) -> bool:
    return hasattr(column, "cat")


def _require_numbers(columns: list[pd.Series]) -> None:
    bad = [str(column.name) for column in columns if not _is_category(column) and column.dtype.kind not in "biuf"]
    if bad:
        msg = (
            f"LightGBM takes numbers and categories, and the columns {bad} are neither; nothing was changed. "
            "Encode them in a pipeline, or give them the category dtype."
        )
        raise DataTypeError(msg)
