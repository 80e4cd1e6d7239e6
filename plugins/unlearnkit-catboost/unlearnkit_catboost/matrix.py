"""Features as CatBoost takes them: numbers, and categories as text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from unlearnkit.errors import DataTypeError, ParameterError
from unlearnkit.typing import AnyArray, Features

if TYPE_CHECKING:
    import pandas as pd
    from catboost import Pool

MISSING = "\x00"


@dataclass(frozen=True, slots=True)
class Matrix:
    """Features with the positions of the categories among them.

    Attributes
    ----------
    values : ndarray, CSR matrix or DataFrame
    names : list of str or None
    categories : list of int
    """

    values: Any
    names: list[str] | None
    categories: list[int]

    def head(self, n: int) -> Matrix:
        """The first `n` rows."""
        first = self.values.iloc[:n] if hasattr(self.values, "iloc") else self.values[:n]
        return Matrix(first, self.names, self.categories)

    def pool(self, **columns: Any) -> Pool:
        """A pool of CatBoost's, with targets and weights if they are given."""
        from catboost import Pool

        # CatBoost knows no difference between no categories and an empty list, but refuses one for sparse features.
        categories = self.categories or None
        return Pool(self.values, cat_features=categories, feature_names=self.names, thread_count=1, **columns)


def encode(X: Features, cat_features: Iterable[str | int] = ()) -> Matrix:
    """Make categories text, by the labels of their vocabulary; a missing one is a category like any other.

    Parameters
    ----------
    X : ndarray, CSR matrix or DataFrame
    cat_features : iterable of str or int
        Names or positions of further columns that are categories: of whole numbers or text.
    """
    names = [str(name) for name in X.columns] if hasattr(X, "columns") else None
    chosen = set(_positions(cat_features, names, X.shape[1]))
    if names is None and not chosen:
        return Matrix(X if X.dtype.kind == "f" else X.astype(np.float64), None, [])
    if sparse.issparse(X):
        raise DataTypeError("cat_features cannot be columns of a sparse matrix; nothing was changed. Give a DataFrame.")
    return _frame(X, names, chosen)


def _frame(X: Any, names: list[str] | None, chosen: set[int]) -> Matrix:
    import pandas as pd

    columns = [X.iloc[:, i] if names is not None else pd.Series(X[:, i]) for i in range(X.shape[1])]
    categories = sorted(chosen | {i for i, column in enumerate(columns) if _is_category(column)})
    encoded: dict[int, Any] = {
        i: _text(column) if i in categories else _numbers(column) for i, column in enumerate(columns)
    }
    if not categories:
        return Matrix(np.column_stack(list(encoded.values())), names, [])
    frame = pd.DataFrame(encoded)
    frame.columns = pd.Index(names if names is not None else [str(i) for i in encoded])
    return Matrix(frame, None, categories)


def _positions(cat_features: Iterable[str | int], names: list[str] | None, n: int) -> Iterable[int]:
    for feature in cat_features:
        if isinstance(feature, str):
            if names is None or feature not in names:
                raise ParameterError(f"cat_features names {feature!r}, which is no column; nothing was changed.")
            yield names.index(feature)
        elif -n <= feature < n:
            yield int(feature) % n
        else:
            raise ParameterError(f"cat_features names column {feature} of {n}; nothing was changed.")


def _is_category(column: pd.Series) -> bool:
    return hasattr(column, "cat") or column.dtype.kind in "OUT" or str(column.dtype) in ("str", "string")


def _text(column: pd.Series) -> pd.Categorical:
    import pandas as pd

    if column.dtype.kind == "f":
        raise DataTypeError(
            f"cat_features names column {column.name!r}, whose values are fractions; nothing was changed. "
            "Make it whole numbers, text or a category."
        )
    known = column if hasattr(column, "cat") else column.astype("category")
    texts = [str(label) for label in known.cat.categories]
    # Labels that read alike are one category, as CatBoost would have it.
    unique, place = np.unique(np.array([*texts, MISSING], dtype=object), return_inverse=True)
    text: pd.Categorical = pd.Categorical.from_codes(place[known.cat.codes.to_numpy()], pd.Index(unique))
    return text


def _numbers(column: pd.Series) -> AnyArray:
    if column.dtype.kind in "mM":
        raise DataTypeError(
            f"Column {column.name!r} holds dates, which CatBoost does not take; nothing was changed. "
            "Convert it to numbers, or leave it out."
        )
    return column.to_numpy(dtype=np.float64, na_value=np.nan)
