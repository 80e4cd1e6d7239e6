"""Frames: columns with a declared kind, dtype and vocabulary."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from unlearnkit.errors import DataError, DataTypeError, SchemaError
from unlearnkit.learner import Capabilities
from unlearnkit.typing import AnyArray
from unlearnkit.validation import plain_dtype

if TYPE_CHECKING:
    import pandas as pd

MAX_VOCABULARY = 1024
"""A column of more distinct strings is free text: its values are rows, not public knowledge."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a frame.

    Attributes
    ----------
    name : hashable
    kind : {"number", "category", "text"}
    dtype : str
        The numpy dtype of a number.
    categories : tuple
        The vocabulary of a category, also where the values came as strings.
    ordered : bool
    """

    name: Hashable
    kind: Literal["number", "category", "text"]
    dtype: str = ""
    categories: tuple[Any, ...] = ()
    ordered: bool = False


def infer_column(column: pd.Series, label: Hashable) -> Column:
    """What a column of the first data is declared as.

    Raises
    ------
    DataTypeError
        If it holds neither numbers nor strings.
    """
    import pandas as pd

    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return Column(label, "category", "", tuple(dtype.categories.tolist()), bool(dtype.ordered))
    if pd.api.types.is_numeric_dtype(dtype) or dtype.kind in "mM":
        number = _number_dtype(column)
        if number.kind not in "biufmM":
            raise DataTypeError(
                f"Column {label!r} has dtype {dtype}, which is neither a plain number nor a date without time zone; "
                "nothing was changed. Convert it, or leave it out."
            )
        return Column(label, "number", number.str)
    present = column.dropna()
    if not all(isinstance(value, str) for value in present):
        raise DataTypeError(
            f"Column {label!r} holds objects that are neither numbers nor strings; nothing was changed. Convert it: "
            "argument must be a string or a number."
        )
    values = pd.unique(present)
    if len(values) > MAX_VOCABULARY:
        return Column(label, "text")
    return Column(label, "category", "", tuple(sorted(values)))


def _number_dtype(column: pd.Series) -> np.dtype[Any]:
    """The numpy dtype of a numeric column; a nullable one becomes float where it has missing values."""
    dtype = column.dtype
    if isinstance(dtype, np.dtype):
        return plain_dtype(dtype)
    if dtype.kind in "mM":
        return np.dtype(object)
    return np.dtype(np.float64 if column.isna().any() else getattr(dtype, "numpy_dtype", np.float64))


def typed(column: pd.Series, declared: Column, *, exact: bool) -> Any:
    """The column with the declared dtype, or unless `exact` as floats where that would lose something.

    The vocabulary is the schema's; a value outside it is missing.

    Raises
    ------
    SchemaError
        If it does not convert.
    """
    import pandas as pd

    if declared.kind == "category":
        dtype = pd.CategoricalDtype(list(declared.categories), ordered=declared.ordered)
        if isinstance(column.dtype, pd.CategoricalDtype):
            # Not skipped for an equal dtype: pandas calls vocabularies equal that differ in order, codes do not.
            return column.cat.set_categories(dtype.categories, ordered=declared.ordered)
        known = column.astype(object).where(column.isin(declared.categories) & column.notna())
        return known.astype(dtype)
    if declared.kind == "text":
        return column.astype(object).where(column.notna(), None)
    wrong = (
        f"Column {declared.name!r} does not convert to {declared.dtype}, its dtype in the schema; nothing was changed."
    )
    try:
        if not exact and np.dtype(declared.dtype).kind in "biu":
            return _numbers(column, declared)
        if isinstance(column.dtype, np.dtype):
            target: Any = declared.dtype
            typed: Any = column.astype(target)
        else:
            typed = pd.Series(column.to_numpy(dtype=declared.dtype, na_value=np.nan), index=column.index)
    except (ValueError, TypeError) as error:
        raise SchemaError(wrong) from error
    if typed.dtype.kind in "biu" and (typed != column).any():
        raise SchemaError(wrong)
    return typed


def unknown_categories(X: pd.DataFrame, columns: Iterable[Column]) -> dict[Hashable, int]:
    """The number of rows of each category column whose value is not in its vocabulary."""
    counts = {
        c.name: int((X[c.name].notna() & ~X[c.name].isin(c.categories)).sum())
        for c in columns
        if c.kind == "category" and c.name in X.columns
    }
    return {name: count for name, count in counts.items() if count}


def numeric_values(X: pd.DataFrame, name: str) -> AnyArray:
    """The values of a frame of numbers as one array.

    Raises
    ------
    DataError
        If a column is not numeric.
    """
    columns = [infer_column(X[label], label) for label in X.columns]
    refuse_columns([c for c in columns if c.kind != "number" or np.dtype(c.dtype).kind in "mM"], name)
    common = np.result_type(*[np.dtype(c.dtype) for c in columns]) if columns else np.dtype(np.float64)
    missing: Any = np.nan if common.kind == "f" else None
    values: AnyArray = X.to_numpy(dtype=common, na_value=missing)
    return values


def refuse_missing(frame: pd.DataFrame, capabilities: Capabilities, name: str) -> None:
    """Raise `DataError` for infinities, and for missing values where the model does not take them."""
    numbers = frame.select_dtypes(include="number")
    infinite = [c for c in numbers.columns if numbers[c].dtype.kind == "f" and np.isinf(numbers[c].to_numpy()).any()]
    if infinite:
        raise DataError(f"X contains infinity in column {infinite[0]!r}; nothing was changed.")
    if capabilities.missing_values:
        return
    missing = [c for c in frame.columns if frame[c].isna().any()]
    if missing:
        raise DataError(
            f"Input X contains NaN in column {missing[0]!r} and {len(missing) - 1} others; {name} does not accept "
            "missing values. Nothing was changed. Impute them in a Pipeline, or choose a model that takes them."
        )


def refuse_columns(columns: list[Column], name: str) -> None:
    """Raise `DataError` for columns that a model of numbers cannot take."""
    if columns:
        kind = "date" if columns[0].kind == "number" else columns[0].kind
        raise DataError(
            f"could not convert string to float: column {columns[0].name!r} is of kind {kind}, and {name} "
            "takes numbers only. Nothing was changed. Encode it in a Pipeline, or choose a model that takes categories."
        )


def wrong_columns(name: str, wanted: Any, got: list[Any]) -> str:
    """The message for a frame whose columns are not those of the schema."""
    extra = [c for c in got if c not in wanted]
    missing = [c for c in wanted if c not in got]
    detail = f"unexpected {extra}, missing {missing}" if extra or missing else "the same names in another order"
    return f"The feature names should match those that were passed during fit of {name}: {detail}. Nothing was changed."


def _numbers(column: pd.Series, declared: Column) -> Any:
    """Values of the declared dtype if they all are, else floats."""
    import pandas as pd

    values = pd.Series(column.to_numpy(dtype=np.float64, na_value=np.nan), index=column.index)
    target: Any = declared.dtype
    whole = values.notna().all() and (values == values.astype(target)).all()
    return column.astype(target) if whole else values
