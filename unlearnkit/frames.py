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
    # A truth value of Arrow is not numeric to pandas.
    if pd.api.types.is_numeric_dtype(dtype) or dtype.kind in "bmM":
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
    """The numpy dtype of a column of numbers or dates; where it cannot say that a value is missing, a float."""
    dtype: Any = column.dtype
    if isinstance(dtype, np.dtype):
        return plain_dtype(dtype)
    if dtype.kind in "mM":
        return _date_dtype(dtype)
    # Of nullable, Arrow and sparse columns.
    inner = getattr(dtype, "numpy_dtype", getattr(dtype, "subtype", np.dtype(np.float64)))
    if inner.kind not in "biuf" or (inner.kind != "f" and column.isna().any()):
        return np.dtype(np.float64)
    return plain_dtype(inner)


def _date_dtype(dtype: Any) -> np.dtype[Any]:
    """The numpy dtype of dates or durations in Arrow; object where they have a time zone."""
    arrow = getattr(dtype, "pyarrow_dtype", None)
    if arrow is None or getattr(arrow, "tz", None) is not None:
        return np.dtype(object)
    # A date alone has the unit that pandas gives it elsewhere.
    return np.dtype("M8[s]") if str(arrow).startswith("date") else np.dtype(dtype.numpy_dtype)


def typed(column: pd.Series, declared: Column, *, exact: bool, keep: bool = False) -> Any:
    """The column with the declared dtype, or unless `exact` as floats where that would lose something.

    The vocabulary is the schema's; a value outside it is missing, or if so asked one more category behind it.

    Raises
    ------
    SchemaError
        If it does not convert.
    """
    try:
        if declared.kind == "category":
            return _categories(column, declared, keep=keep)
        if declared.kind == "text":
            return _texts(column, declared)
        if np.dtype(declared.dtype).kind in "mM":
            return _dates(column, declared, exact=exact)
        return _numbers(column, declared, exact=exact)
    except SchemaError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise _does_not_convert(declared) from error


def _does_not_convert(declared: Column, why: str = "") -> SchemaError:
    return SchemaError(
        f"Column {declared.name!r} does not convert to {declared.dtype or declared.kind}, its dtype in the schema"
        f"{why}; nothing was changed."
    )


def _categories(column: pd.Series, declared: Column, *, keep: bool) -> Any:
    import pandas as pd

    unseen = _unseen(column, declared).unique().tolist() if keep else []
    vocabulary = (*declared.categories, *unseen)
    dtype = pd.CategoricalDtype(list(vocabulary), ordered=declared.ordered)
    if isinstance(column.dtype, pd.CategoricalDtype):
        # Not skipped for an equal dtype: pandas calls vocabularies equal that differ in order, codes do not.
        return column.cat.set_categories(dtype.categories, ordered=declared.ordered)
    known = pd.Index(vocabulary, dtype=object, tupleize_cols=False)
    codes = known.get_indexer(pd.Index(column, dtype=object, tupleize_cols=False))
    return pd.Series(pd.Categorical.from_codes(codes, dtype=dtype), index=column.index, name=column.name)


def _texts(column: pd.Series, declared: Column) -> Any:
    texts = column.astype(object).where(column.notna(), None)
    if not all(text is None or isinstance(text, str) for text in texts):
        raise _does_not_convert(declared, ": not all of its values are strings")
    return texts


def _dates(column: pd.Series, declared: Column, *, exact: bool) -> Any:
    """Dates of the declared unit, or unless `exact` of their own where it is finer."""
    if column.dtype.kind in "biuf":
        raise _does_not_convert(declared)
    target: Any = declared.dtype
    if column.dtype.kind not in "mM":
        return column.astype(target)
    own: Any = _number_dtype(column)
    plain = column.astype(own)
    dates = plain.astype(target)
    if ((dates != plain) & plain.notna()).any():
        if exact:
            raise _does_not_convert(declared, ", which is coarser")
        return plain
    return dates


def _numbers(column: pd.Series, declared: Column, *, exact: bool) -> Any:
    """Numbers of the declared dtype, or unless `exact` floats where it cannot hold them all."""
    if column.dtype.kind in "mM":
        raise _does_not_convert(declared)
    if np.dtype(declared.dtype).kind not in "biu":
        # What is too large becomes infinity, which is refused later.
        with np.errstate(over="ignore"):
            return _as_numpy(column, declared.dtype)
    if exact:
        return _whole_numbers(column, declared)
    floats = _as_numpy(column, "<f8")
    with np.errstate(invalid="ignore"):
        whole = floats.to_numpy().astype(declared.dtype)
    return _as_numpy(column, declared.dtype) if (floats.to_numpy() == whole).all() else floats


def _whole_numbers(column: pd.Series, declared: Column) -> Any:
    if column.isna().any():
        raise _does_not_convert(declared, ", which has no missing values")
    numbers = _as_numpy(column, declared.dtype)
    if (numbers != column).any():
        raise _does_not_convert(declared)
    return numbers


def _as_numpy(column: pd.Series, dtype: Any) -> Any:
    import pandas as pd

    if isinstance(column.dtype, np.dtype):
        return column.astype(dtype)
    # A sparse column of whole numbers takes no other value for what it does not miss.
    missing: dict[str, Any] = {"na_value": np.nan} if column.isna().any() else {}
    return pd.Series(column.to_numpy(dtype=dtype, **missing), index=column.index, name=column.name)


def unknown_categories(X: pd.DataFrame, columns: Iterable[Column]) -> dict[Hashable, int]:
    """The number of rows of each category column whose value is not in its vocabulary."""
    counts = {c.name: len(_unseen(X[c.name], c)) for c in columns if c.kind == "category" and c.name in X.columns}
    return {name: count for name, count in counts.items() if count}


def _unseen(column: pd.Series, declared: Column) -> pd.Series:
    """The values that are not in the vocabulary."""
    return column[column.notna() & ~column.isin(declared.categories)]


def refuse_unseen(X: pd.DataFrame, columns: Iterable[Column]) -> None:
    """Raise `SchemaError` if a row has a category that is not in its vocabulary."""
    unknown = unknown_categories(X, columns)
    if unknown:
        column, count = next(iter(unknown.items()))
        raise SchemaError(
            f"{count} rows have a value in column {column!r} that is not in the schema's vocabulary; nothing was "
            "changed. Fit a new model if there are new categories."
        )


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
