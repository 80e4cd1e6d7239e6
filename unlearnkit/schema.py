"""The schema: what is public knowledge about the data, frozen at the first fit and kept through every forget.

Feature names, dtypes, category vocabularies and class labels are shared by all shards. If they were taken from the
remaining rows, forgetting one row could change what every shard sees.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_array
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from unlearnkit.errors import DataError, DataTypeError, SchemaError
from unlearnkit.hashing import chain
from unlearnkit.ids import is_missing
from unlearnkit.learner import Capabilities
from unlearnkit.typing import AnyArray, Features, IntArray

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


@dataclass(frozen=True)
class Schema:
    """What the model knows about its data besides the records.

    Attributes
    ----------
    container : {"array", "csr", "frame"}
    shape : tuple of int
        The shape of one row; (n_features,) but for images and the like.
    dtype : str
        Of an array or CSR matrix.
    columns : tuple of Column
        Of a frame.
    feature_names : tuple of str or None
        Where the first data had them.
    classes : tuple or None
        The labels, sorted; None for regression.
    class_dtype : str
    n_outputs : int or None
        The width of the targets of a regression; None for targets of shape (n,).
    weighted : bool
        Whether the records carry sample weights.
    id_type : str
        int, str, uuid or bytes.
    explicit_ids : bool
        Whether ids were given; else `id_type` is that of the handles: positions, or the labels of a unique index.
    """

    container: Literal["array", "csr", "frame"]
    shape: tuple[int, ...]
    dtype: str = ""
    columns: tuple[Column, ...] = ()
    feature_names: tuple[str, ...] | None = None
    classes: tuple[Any, ...] | None = None
    class_dtype: str = ""
    n_outputs: int | None = None
    weighted: bool = False
    id_type: str = "int"
    explicit_ids: bool = False

    def to_json(self) -> str:
        """The schema as JSON, for people to read and for the digest."""
        columns = [[repr(c.name), c.kind, c.dtype, [_tagged(v) for v in c.categories], c.ordered] for c in self.columns]
        plain = {
            "container": self.container,
            "shape": self.shape,
            "dtype": self.dtype,
            "columns": columns,
            "feature_names": self.feature_names,
            "classes": None if self.classes is None else [_tagged(v) for v in self.classes],
            "class_dtype": self.class_dtype,
            "n_outputs": self.n_outputs,
            "weighted": self.weighted,
            "id_type": self.id_type,
            "explicit_ids": self.explicit_ids,
        }
        return json.dumps(plain, sort_keys=True)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the schema, part of every key."""
        return chain("schema", self.to_json())

    @cached_property
    def labels(self) -> AnyArray | None:
        """The class labels as an array (k,), None for regression."""
        return None if self.classes is None else np.array(self.classes, dtype=self.class_dtype)

    @property
    def n_features(self) -> int:
        """Features per row; the first axis of a row of more than one."""
        return self.shape[0]

    def features(self, X: Any, capabilities: Capabilities, name: str) -> Features:
        """`X` in the container and dtypes of the schema.

        Parameters
        ----------
        X : array-like, sparse matrix or DataFrame
        capabilities : Capabilities
            Whether missing values, sparse rows and the like are welcome.
        name : str
            What the messages call the model.

        Raises
        ------
        DataError
            If the rows cannot be used.
        SchemaError
            If they do not fit.
        """
        if is_frame(X):
            return self._from_frame(X, capabilities, name)
        if self.container == "frame":
            raise SchemaError(
                f"{name} was fitted with a DataFrame and needs its columns; got {type(X).__name__}. Nothing was "
                "changed."
            )
        checked = _as_declared(X, capabilities, name, np.dtype(self.dtype))
        if checked.shape[1:] != self.shape:
            raise SchemaError(
                f"X has {checked.shape[1]} features, but {name} is expecting {self.n_features} features as input"
                if len(self.shape) == 1
                else f"X has rows of shape {checked.shape[1:]}, but {name} is expecting {self.shape}."
            )
        if is_sparse(checked) and self.container == "array":
            raise SchemaError(f"{name} was fitted with dense rows, got a sparse matrix. Nothing was changed.")
        return canonical_csr(checked) if self.container == "csr" else checked

    def _from_frame(self, X: pd.DataFrame, capabilities: Capabilities, name: str) -> Features:
        if self.container == "frame":
            frame = self._columns_of(X)
            _refuse_missing(frame, capabilities, name)
            return frame
        if self.feature_names is None:
            return self.features(X.to_numpy(), capabilities, name)
        missing = [c for c in self.feature_names if c not in X.columns]
        if missing or X.shape[1] != len(self.feature_names):
            raise SchemaError(_wrong_columns(name, self.feature_names, list(X.columns)))
        return self.features(numeric_values(X, name), capabilities, name)

    def _columns_of(self, X: pd.DataFrame) -> pd.DataFrame:
        import pandas as pd

        wanted = [c.name for c in self.columns]
        if list(X.columns) != wanted:
            raise SchemaError(_wrong_columns("the model", wanted, list(X.columns)))
        return pd.DataFrame({c.name: _typed(X[c.name], c) for c in self.columns}, index=X.index)

    def codes(self, y: AnyArray) -> IntArray:
        """The class codes of labels that are known to the schema.

        Raises
        ------
        SchemaError
            If a label is not.
        """
        assert self.labels is not None
        if not len(y):
            return np.empty(0, dtype=np.int64)
        lookup = {label: code for code, label in enumerate(self.labels.tolist())}
        uniques, inverse = np.unique(y, return_inverse=True)
        codes = [lookup.get(label, -1) for label in uniques.tolist()]
        if min(codes) < 0:
            raise SchemaError(
                f"y has {codes.count(-1)} labels that are not among the {len(lookup)} classes of the schema; nothing "
                "was changed. Fit a new model if there are new classes."
            )
        return np.asarray(codes, dtype=np.int64)[inverse]

    def targets(self, y: Any, n: int) -> AnyArray:
        """`y` as int64 codes (n,) or float64 values (n,) or (n, m).

        Raises
        ------
        DataError
            If there are not n targets, one is missing, or they are of the wrong kind.
        SchemaError
            If they do not fit.
        """
        if self.classes is not None:
            return self.codes(checked_labels(y, n))
        values = checked_values(y, n)
        if (values.shape[1] if values.ndim == 2 else None) != self.n_outputs:  # noqa: PLR2004
            raise SchemaError(f"y has shape {values.shape}, the schema has n_outputs={self.n_outputs}.")
        return values


def infer_schema(
    X: Any, y: Any, capabilities: Capabilities, name: str, *, weighted: bool, id_type: str, explicit_ids: bool
) -> Schema:
    """The schema of the first data.

    Raises
    ------
    DataError
        If the data cannot be used by a model with these capabilities.
    """
    fields = _infer_frame(X, capabilities, name) if is_frame(X) else _infer_array(X, capabilities, name)
    n = X.shape[0] if hasattr(X, "shape") else len(X)
    if n == 0:
        raise DataError(
            f"Found array with 0 sample(s) (shape={getattr(X, 'shape', (0,))}) while a minimum of 1 is required."
        )
    if capabilities.task == "classification":
        labels = np.unique(checked_labels(y, n))
        if len(labels) < 2:  # noqa: PLR2004
            raise DataError(
                f"{name} needs samples of at least 2 classes, but y contains one class only: nothing was changed."
            )
        fields |= {"classes": tuple(labels.tolist()), "class_dtype": labels.dtype.str}
    else:
        values = checked_values(y, n)
        if values.ndim == 2:  # noqa: PLR2004
            if not capabilities.multi_output:
                raise DataError(f"{name} takes one target per row, got y of shape {values.shape}; nothing was changed.")
            fields["n_outputs"] = values.shape[1]
    return Schema(**fields, weighted=weighted, id_type=id_type, explicit_ids=explicit_ids)


def _infer_array(X: Any, capabilities: Capabilities, name: str) -> dict[str, Any]:
    checked = checked_array(X, capabilities, name, dtype="numeric")
    container = "csr" if is_sparse(checked) else "array"
    return {"container": container, "shape": tuple(checked.shape[1:]), "dtype": _plain_dtype(checked.dtype).str}


def _infer_frame(X: pd.DataFrame, capabilities: Capabilities, name: str) -> dict[str, Any]:
    if len(set(X.columns)) < len(X.columns):
        raise DataError("X has columns of the same name; nothing was changed. Rename them.")
    columns = tuple(_infer_column(X[label], label) for label in X.columns)
    strings = {isinstance(c, str) for c in X.columns}
    if len(strings) > 1:
        raise DataTypeError(
            "Feature names are only supported if all input features have string names, but X has names of several "
            "types; nothing was changed. Convert them: X.columns = X.columns.astype(str)"
        )
    names = tuple(X.columns) if strings == {True} else None
    if capabilities.frames:
        if not capabilities.categorical:
            _refuse_columns([c for c in columns if c.kind != "number"], name)
        frame = Schema("frame", (X.shape[1],), columns=columns)._columns_of(X)  # noqa: SLF001
        _refuse_missing(frame, capabilities, name)
        return {"container": "frame", "shape": (X.shape[1],), "columns": columns, "feature_names": names}
    _refuse_columns([c for c in columns if c.kind != "number"], name)
    return _infer_array(numeric_values(X, name), capabilities, name) | {"feature_names": names}


def _infer_column(column: pd.Series, label: Hashable) -> Column:
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
        return _plain_dtype(dtype)
    if dtype.kind in "mM":
        return np.dtype(object)
    return np.dtype(np.float64 if column.isna().any() else getattr(dtype, "numpy_dtype", np.float64))


def _typed(column: pd.Series, declared: Column) -> Any:
    """The column with the declared dtype; the vocabulary is the schema's, a value outside it is missing."""
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


def unknown_categories(X: pd.DataFrame, schema: Schema) -> dict[Hashable, int]:
    """The number of rows of each category column whose value is not in the schema's vocabulary."""
    counts = {
        c.name: int((X[c.name].notna() & ~X[c.name].isin(c.categories)).sum())
        for c in schema.columns
        if c.kind == "category" and c.name in X.columns
    }
    return {name: count for name, count in counts.items() if count}


def is_sparse(X: Any) -> bool:
    """Whether X is a sparse matrix or array."""
    return bool(sp.issparse(X))


def is_frame(X: Any) -> bool:
    """Whether X is a pandas DataFrame, without importing pandas."""
    kind = type(X)
    return any(c.__name__ == "DataFrame" and c.__module__.partition(".")[0] == "pandas" for c in kind.__mro__)


def numeric_values(X: pd.DataFrame, name: str) -> AnyArray:
    """The values of a frame of numbers as one array.

    Raises
    ------
    DataError
        If a column is not numeric.
    """
    columns = [_infer_column(X[label], label) for label in X.columns]
    _refuse_columns([c for c in columns if c.kind != "number" or np.dtype(c.dtype).kind in "mM"], name)
    common = np.result_type(*[np.dtype(c.dtype) for c in columns]) if columns else np.dtype(np.float64)
    missing: Any = np.nan if common.kind == "f" else None
    values: AnyArray = X.to_numpy(dtype=common, na_value=missing)
    return values


def canonical_csr(X: Any) -> sp.csr_matrix:
    """CSR with sorted indices and no duplicates, in index arrays of 32 bits where they fit."""
    csr = sp.csr_matrix(X)
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    return csr


def _plain_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """In the byte order of the processor, and of 64 bits at most: a longer float has bytes that nothing defines."""
    return (
        np.dtype(np.float64)
        if dtype.kind == "f" and dtype.itemsize > np.dtype("f8").itemsize
        else dtype.newbyteorder("=")
    )


def _as_declared(X: Any, capabilities: Capabilities, name: str, declared: np.dtype[Any]) -> Any:
    """X validated, in the declared dtype.

    Raises
    ------
    SchemaError
        If the schema says whole numbers or truth values and X has others: 1.5 must not pass for 1.
    """
    if declared.kind == "f":
        return checked_array(X, capabilities, name, dtype=declared)
    checked = checked_array(X, capabilities, name, dtype="numeric")
    if checked.dtype == declared:
        return checked
    with np.errstate(invalid="ignore"):
        converted = checked.astype(declared)
    before, after = (checked.data, converted.data) if is_sparse(checked) else (checked, converted)
    if (before != after).any():
        raise SchemaError(
            f"X has values that do not convert to {declared}, its dtype in the schema of {name}; nothing was changed. "
            "Fit a new model on X.astype(float)."
        )
    return converted


def checked_array(X: Any, capabilities: Capabilities, name: str, dtype: Any) -> Any:
    """X validated as scikit-learn does, with the errors of this package."""
    finite: Any = "allow-nan" if capabilities.missing_values else True
    try:
        checked = check_array(
            X,
            accept_sparse="csr" if capabilities.sparse else False,
            dtype=dtype,
            order="C",
            ensure_all_finite=finite,
            ensure_min_samples=0,
            allow_nd=capabilities.any_shape,
            estimator=name,
            input_name="X",
        )
    except TypeError as error:
        raise DataTypeError(f"{error}\nNothing was changed.") from error
    except ValueError as error:
        raise DataError(f"{error}\nNothing was changed.") from error
    if checked.dtype.kind not in "biuf":
        raise DataError(f"X has dtype {checked.dtype}; {name} takes numbers. Nothing was changed.")
    return checked


def checked_labels(y: Any, n: int) -> AnyArray:
    """Class labels of shape (n,).

    Raises
    ------
    DataError
        If there are not n, one is missing, or they are not the labels of one classification target.
    """
    labels = _array_of(y, n)
    if labels.ndim > 1 and labels.shape[1] > 1:
        raise DataError(
            f"y has shape {labels.shape}: multi-output classification is not supported; nothing was changed. "
            "Fit one model for each output."
        )
    if labels.dtype.kind == "O" and any(is_missing(value) for value in labels.ravel()):
        raise DataError("y contains missing labels (None or NaN); nothing was changed.")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        what = "NaN" if np.isnan(labels).any() else "infinity"
        raise DataError(f"Input y contains {what}; nothing was changed.")
    try:
        flat: AnyArray = column_or_1d(labels, warn=True)
        if len(flat):
            check_classification_targets(flat)
    except ValueError as error:
        raise DataError(f"{error}\nNothing was changed.") from error
    return np.array(flat.tolist()) if flat.dtype.kind == "O" and len(flat) else flat


def checked_values(y: Any, n: int) -> AnyArray:
    """Finite float64 targets of shape (n,) or (n, m)."""
    values = _array_of(y, n)
    if 0 in values.shape[1:]:
        raise DataError(f"y has shape {values.shape}, which holds no target; nothing was changed.")
    if values.ndim == 2 and values.shape[1] == 1:  # noqa: PLR2004
        values = column_or_1d(values, warn=True)
    try:
        values = check_array(values, dtype=np.float64, ensure_2d=False, ensure_min_samples=0, input_name="y")
    except (ValueError, TypeError) as error:
        raise DataError(f"{error}\nNothing was changed.") from error
    return np.ascontiguousarray(values) + 0.0


def _array_of(y: Any, n: int) -> AnyArray:
    if y is None:
        raise DataError("requires y to be passed, but the target y is None; nothing was changed.")
    if is_sparse(y):
        raise DataTypeError("y is a sparse matrix; give a dense array. Nothing was changed.")
    array = np.asarray(y)
    if array.dtype.kind == "T":
        # Strings of variable width: the schema names a dtype by characters alone.
        array = array.astype(object)
    if array.ndim == 0 or len(array) != n:
        length = "no length" if array.ndim == 0 else f"{len(array)}"
        raise DataError(f"Found input variables with inconsistent numbers of samples: X {n}, y {length}.")
    if not isinstance(y, np.ndarray) and array.dtype.kind not in "biufOUS":
        array = array.astype(object)
    return array


def _refuse_missing(frame: pd.DataFrame, capabilities: Capabilities, name: str) -> None:
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


def _refuse_columns(columns: list[Column], name: str) -> None:
    if columns:
        kind = "date" if columns[0].kind == "number" else columns[0].kind
        raise DataError(
            f"could not convert string to float: column {columns[0].name!r} is of kind {kind}, and {name} "
            "takes numbers only. Nothing was changed. Encode it in a Pipeline, or choose a model that takes categories."
        )


def _wrong_columns(name: str, wanted: Any, got: list[Any]) -> str:
    extra = [c for c in got if c not in wanted]
    missing = [c for c in wanted if c not in got]
    detail = f"unexpected {extra}, missing {missing}" if extra or missing else "the same names in another order"
    return f"The feature names should match those that were passed during fit of {name}: {detail}. Nothing was changed."


def _tagged(value: Any) -> list[str]:
    return [type(value).__name__, repr(value) if isinstance(value, int | float | str | bool) else str(value)]
