"""Containers: tables and columns of other libraries as what the core knows, numpy arrays and pandas frames.

Where other libraries keep strings as codes, the vocabulary is the values that occur, sorted: it must not depend on
the order of the rows, nor on what else a process has read.
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np

from unlearnkit.errors import DataError, DataTypeError
from unlearnkit.foreign import is_column, is_of, read, type_of
from unlearnkit.typing import AnyArray
from unlearnkit.validation import is_frame

_WITHOUT_ROWS = {
    ("polars", "LazyFrame"): ".collect()",
    ("pyarrow", "RecordBatchReader"): ".read_all()",
    ("pyarrow", "Dataset"): ".to_table()",
}
_FLOATS = ("torch.float16", "torch.float32", "torch.float64")


def native(X: Any) -> Any:
    """Features as what the core knows: foreign frames as pandas frames, tensors as arrays, all else as it is.

    Parameters
    ----------
    X : array-like, sparse matrix, tensor or frame
        A polars DataFrame or pyarrow Table gets positions for its index. Strings that are kept as codes become
        categories in sorted order; those of an Enum or an ordered dictionary keep theirs, and are ordered.

    Raises
    ------
    DataTypeError
        If it holds no rows yet, or a column that is neither numbers, strings, categories nor dates.
    DataError
        If it takes pandas, which is not installed.

    Examples
    --------
    >>> native([[1, 2]])
    [[1, 2]]
    >>> import pyarrow as pa
    >>> native(pa.table({"n": [1, None], "s": ["b", "a"]})).dtypes.astype(str).tolist()
    ['Int64', 'object']
    """
    if type(X) is np.ndarray:
        return X
    refuse_without_rows(X)
    if _is_tensor(X):
        return _from_tensor(X)
    if isinstance(X, list | tuple) and X and _is_tensor(X[0]):
        return np.asarray([_from_tensor(row) if _is_tensor(row) else row for row in X])
    if _is_foreign_frame(X):
        return _to_pandas(X)
    return _array(X) if is_column(X) else X


def column(values: Any) -> Any:
    """Targets, weights or ids as what the core knows: arrays where they come as columns or tensors of other libraries.

    Missing values are None in an array of objects, but NaN among floats: no id is rounded because one is missing.

    Examples
    --------
    >>> import pyarrow as pa
    >>> column(pa.array([2**60 + 1, None])).tolist()
    [1152921504606846977, None]
    """
    refuse_without_rows(values)
    if _is_foreign_frame(values):
        return native(values).to_numpy()
    if hasattr(values, "__array__") and not isinstance(values, np.generic | Iterable):
        return np.asarray(values)
    return native(values)


def take_ids(X: Any, ids: Any) -> tuple[Any, Any]:
    """The features and the ids, where `ids` names a column of `X`: taken out of it. Else both as they are.

    Parameters
    ----------
    X : array-like or frame
        Of pandas, polars or pyarrow where `ids` is a label.
    ids : label, array-like or None

    Raises
    ------
    DataError
        If `ids` is a label and X has no such column, or no columns at all. The message does not repeat the label: it
        may be an id.

    Examples
    --------
    >>> import pandas as pd
    >>> X, ids = take_ids(pd.DataFrame({"customer": [7, 8], "age": [30, 40]}), "customer")
    >>> X.columns.tolist(), ids.tolist()
    (['age'], [7, 8])
    """
    names = _names(X)
    if not _is_label(ids, names):
        return X, ids
    refuse_without_rows(X)
    what = f"ids is a single {type(ids).__name__}, which names a column of a frame"
    if names is None:
        raise DataError(
            f"{what}, but X is a {type(X).__name__}; nothing was changed. Give one id for each row, or a frame."
        )
    if names.count(ids) != 1:
        raise DataError(f"{what}, but {_why_not(X, names, ids)}; nothing was changed.")
    return _taken(X, names.index(ids))


def refuse_without_rows(X: Any) -> None:
    """Raise `DataTypeError` for a query or a stream, whose rows are yet to be made."""
    for (library, name), method in _WITHOUT_ROWS.items():
        if is_of(X, library, name):
            raise DataTypeError(f"A {library} {name} holds no rows yet; nothing was changed. Give {method} of it.")


# -- recognised ------------------------------------------------------------------------------------------------------


def _is_tensor(value: Any) -> bool:
    return is_of(value, "torch", "Tensor")


def _is_foreign_frame(value: Any) -> bool:
    return is_of(value, "polars", "DataFrame") or is_of(value, "pyarrow", "Table", "RecordBatch")


def _is_label(ids: Any, names: list[Any] | None) -> bool:
    if isinstance(ids, str | bytes):
        return True
    if isinstance(ids, tuple):
        # Several ids, unless this very tuple is the label of a column.
        return names is not None and any(type(name) is tuple and name == ids for name in names)
    if ids is None or (hasattr(ids, "__array__") and not isinstance(ids, np.generic)):
        return False
    return isinstance(ids, Hashable) and not isinstance(ids, Iterable)


def _names(X: Any) -> list[Any] | None:
    """The labels of the columns, None if X is no frame."""
    if is_frame(X) or is_of(X, "polars", "DataFrame"):
        return list(X.columns)
    return list(X.schema.names) if _is_foreign_frame(X) else None


def _why_not(X: Any, names: list[Any], label: Any) -> str:
    if label in names:
        return "X has several columns of that name. Rename them"
    if is_frame(X) and label in X.index.names:
        return "it is the name of the index of X. Give ids=X.index, or X.reset_index()"
    near = difflib.get_close_matches(str(label), map(str, names))
    return f"X has no such column. Near it are {near}" if near else "X has no such column, nor one of a similar name"


def _taken(X: Any, place: int) -> tuple[Any, Any]:
    rest = [i for i in range(len(_names(X) or ())) if i != place]
    if is_frame(X):
        return X.iloc[:, rest], X.iloc[:, place]
    if is_of(X, "polars", "DataFrame"):
        return X.drop(X.columns[place]), column(X.to_series(place))
    return X.select(rest), column(X.column(place))


# -- read ------------------------------------------------------------------------------------------------------------


def _from_tensor(tensor: Any) -> AnyArray:
    """The values of a tensor wherever it is; in a float format that numpy lacks, as float32, which holds them all."""
    try:
        plain = tensor.detach().cpu().resolve_conj().resolve_neg()
        numpy_has_it = not plain.is_floating_point() or str(plain.dtype) in _FLOATS
        array: AnyArray = (plain if numpy_has_it else plain.float()).numpy()
    except (TypeError, RuntimeError) as error:
        raise DataTypeError(f"A tensor does not convert to an array: {error} Nothing was changed.") from error
    return array


def _to_pandas(X: Any) -> Any:
    names, n = _names(X) or [], X.shape[0]
    if len(set(names)) < len(names):
        raise DataError("X has columns of the same name; nothing was changed. Rename them.")
    index = [name for name in names if name.startswith("__index_level_")]
    if index:
        raise DataError(
            f"Column {index[0]!r} of X is the index of a pandas frame, not a feature; nothing was changed. Leave it "
            "out: preserve_index=False."
        )
    pandas = _pandas(type(X).__name__)
    columns = {name: _series(X[name], name, pandas) for name in names}
    return pandas.DataFrame(columns, index=pandas.RangeIndex(n))


def _pandas(kind: str) -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise DataError(
            f"A {kind} is read by pandas, which is not installed; nothing was changed. pip install 'unlearnkit[pandas]'"
        ) from error
    return pd


def _series(foreign: Any, name: str, pandas: Any) -> Any:
    kind, values, missing, vocabulary = read(foreign)
    if kind == "other":
        raise DataTypeError(
            f"Column {name!r} is of type {type_of(foreign)}, which is neither numbers, strings, categories nor dates "
            "without time zone; nothing was changed. Convert it, or leave it out."
        )
    if kind == "nullable":
        masked = pandas.arrays.BooleanArray if values.dtype.kind == "b" else pandas.arrays.IntegerArray
        return pandas.Series(masked(values.copy(), missing), name=name)
    if kind == "category":
        ordered = vocabulary is not None
        categories = vocabulary if ordered else sorted({value for value in values if value is not None})
        return pandas.Series(pandas.Categorical(values, categories, ordered=ordered), name=name)
    return pandas.Series(values, name=name, dtype=object if kind == "texts" else None)


def _array(foreign: Any) -> AnyArray:
    """A column of another library as an array."""
    kind, values, missing, _ = read(foreign)
    if kind == "nullable":
        values = values.astype(object)
        values[missing] = None
    return values
