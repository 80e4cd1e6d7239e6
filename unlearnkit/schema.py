"""The schema: what is public knowledge about the data, frozen at the first fit and kept through every forget.

Feature names, dtypes, category vocabularies and class labels are shared by all shards. If they were taken from the
remaining rows, forgetting one row could change what every shard sees.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from unlearnkit import vocabulary
from unlearnkit.errors import DataError, DataTypeError, SchemaError, StateError
from unlearnkit.frames import (
    Column,
    infer_column,
    numeric_values,
    refuse_columns,
    refuse_missing,
    refuse_unseen,
    typed,
    wrong_columns,
)
from unlearnkit.hashing import chain
from unlearnkit.learner import Capabilities
from unlearnkit.typing import AnyArray, Features, IntArray
from unlearnkit.validation import (
    as_declared,
    canonical_csr,
    checked_array,
    checked_labels,
    checked_values,
    is_frame,
    is_ready,
    is_sparse,
    plain_dtype,
)

if TYPE_CHECKING:
    import pandas as pd

_DTYPE = re.compile(r"[<>|=](b1|[iu][1248]|f[248]|[SU]\d{1,9}|[mM]8(\[\w{1,20}\])?)")
_MAX_LABEL_BYTES = 2**28
_NO_SCHEMA = "The text is no schema; nothing was executed. Restore the store from a backup."


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
        columns = [
            [vocabulary.name_to_json(c.name), c.kind, c.dtype, list(map(vocabulary.to_json, c.categories)), c.ordered]
            for c in self.columns
        ]
        plain = {
            "container": self.container,
            "shape": self.shape,
            "dtype": self.dtype,
            "columns": columns,
            "feature_names": self.feature_names,
            "classes": None if self.classes is None else list(map(vocabulary.to_json, self.classes)),
            "class_dtype": self.class_dtype,
            "n_outputs": self.n_outputs,
            "weighted": self.weighted,
            "id_type": self.id_type,
            "explicit_ids": self.explicit_ids,
        }
        return json.dumps(plain, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """The schema that `to_json` wrote; nothing in the text is executed or imported.

        Raises
        ------
        StateError
            If the text is no schema, or one with values that cannot be read back: categories or column names of a
            type of the user's own.
        """
        try:
            plain = json.loads(text)
            schema = cls(**{name: _READ[name](value) for name, value in plain.items()})
            same = json.loads(schema.to_json()) == plain and schema._is_sound()
        except StateError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
            raise StateError(_NO_SCHEMA) from error
        if not same:
            raise StateError(_NO_SCHEMA)
        return schema

    def _is_sound(self) -> bool:
        """Whether dtypes and sizes make sense, looked at before arrays are made by them."""
        dtypes = [self.dtype] if self.container != "frame" else [c.dtype for c in self.columns if c.kind == "number"]
        dtypes += [] if self.classes is None else [self.class_dtype]
        if not all(map(_DTYPE.fullmatch, dtypes)) or min(self.shape, default=0) < 0:
            return False
        if self.classes is None:
            return True
        fits = np.dtype(self.class_dtype).itemsize * len(self.classes) <= _MAX_LABEL_BYTES
        return fits and self.labels is not None and tuple(self.labels.tolist()) == self.classes

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the schema, part of every key."""
        return chain("schema", self.to_json())

    @cached_property
    def labels(self) -> AnyArray | None:
        """The class labels as an array (k,), None for regression."""
        return None if self.classes is None else np.array(self.classes, dtype=self.class_dtype)

    @cached_property
    def _dtype(self) -> np.dtype[Any]:
        return np.dtype(self.dtype)

    @property
    def n_features(self) -> int:
        """Features per row; the first axis of a row of more than one."""
        return self.shape[0]

    def features(self, X: Any, capabilities: Capabilities, name: str, *, exact: bool = True) -> Features:
        """`X` in the container and dtypes of the schema.

        Parameters
        ----------
        X : array-like, sparse matrix or DataFrame
        capabilities : Capabilities
            Whether missing values, sparse rows and the like are welcome.
        name : str
            What the messages call the model.
        exact : bool
            Records have to be of the declared dtypes. Rows to predict may also hold fractions where the schema says
            whole numbers: they stay floats.

        Raises
        ------
        DataError
            If the rows cannot be used.
        SchemaError
            If they do not fit.
        """
        if self.container == "array" and is_ready(X, self.shape, self._dtype, nan=capabilities.missing_values):
            return X
        if is_frame(X):
            return self._from_frame(X, capabilities, name, exact=exact)
        if self.container == "frame":
            raise SchemaError(
                f"{name} was fitted with a DataFrame and needs its columns; got {type(X).__name__}. Nothing was "
                "changed."
            )
        checked = as_declared(X, capabilities, name, self._dtype, exact=exact)
        if checked.shape[1:] != self.shape:
            raise SchemaError(
                f"X has {checked.shape[1]} features, but {name} is expecting {self.n_features} features as input"
                if len(self.shape) == 1
                else f"X has rows of shape {checked.shape[1:]}, but {name} is expecting {self.shape}."
            )
        if is_sparse(checked) and self.container == "array":
            raise SchemaError(f"{name} was fitted with dense rows, got a sparse matrix. Nothing was changed.")
        return canonical_csr(checked) if self.container == "csr" else checked

    def _from_frame(self, X: pd.DataFrame, capabilities: Capabilities, name: str, *, exact: bool) -> Features:
        if self.container == "frame":
            unseen = "missing" if exact else capabilities.unseen_categories
            frame = self._columns_of(X, exact=exact, unseen=unseen)
            refuse_missing(frame, capabilities, name)
            return frame
        if self.feature_names is not None and tuple(X.columns) != self.feature_names:
            raise SchemaError(wrong_columns(name, self.feature_names, list(X.columns)))
        return self.features(numeric_values(X, name), capabilities, name, exact=exact)

    def _columns_of(self, X: pd.DataFrame, *, exact: bool = True, unseen: str = "missing") -> pd.DataFrame:
        import pandas as pd

        wanted = [c.name for c in self.columns]
        if list(X.columns) != wanted:
            raise SchemaError(wrong_columns("the model", wanted, list(X.columns)))
        if unseen == "refused":
            refuse_unseen(X, self.columns)
        keep = unseen == "kept"
        return pd.DataFrame({c.name: typed(X[c.name], c, exact=exact, keep=keep) for c in self.columns}, index=X.index)

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
    X: Any,
    y: Any,
    capabilities: Capabilities,
    name: str,
    *,
    weighted: bool,
    id_type: str,
    explicit_ids: bool,
    classes: Any = None,
) -> Schema:
    """The schema of the first data; `classes` are labels that it is to know besides those in `y`.

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
        if classes is not None:
            labels = np.unique(checked_labels(classes, len(classes)))
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
    # The values are looked at when they are taken under this schema.
    checked = checked_array(X, capabilities, name, dtype="numeric", finite=False)
    container = "csr" if is_sparse(checked) else "array"
    return {"container": container, "shape": tuple(checked.shape[1:]), "dtype": plain_dtype(checked.dtype).str}


def _infer_frame(X: pd.DataFrame, capabilities: Capabilities, name: str) -> dict[str, Any]:
    if len(set(X.columns)) < len(X.columns):
        raise DataError("X has columns of the same name; nothing was changed. Rename them.")
    columns = tuple(infer_column(X[label], label) for label in X.columns)
    strings = {isinstance(c, str) for c in X.columns}
    if len(strings) > 1:
        raise DataTypeError(
            "Feature names are only supported if all input features have string names, but X has names of several "
            "types; nothing was changed. Convert them: X.columns = X.columns.astype(str)"
        )
    names = tuple(X.columns) if strings == {True} else None
    if capabilities.frames:
        if not capabilities.categorical:
            refuse_columns([c for c in columns if c.kind != "number"], name)
        frame = Schema("frame", (X.shape[1],), columns=columns)._columns_of(X)  # noqa: SLF001
        refuse_missing(frame, capabilities, name)
        return {"container": "frame", "shape": (X.shape[1],), "columns": columns, "feature_names": names}
    refuse_columns([c for c in columns if c.kind != "number"], name)
    return _infer_array(numeric_values(X, name), capabilities, name) | {"feature_names": names}


def _of(*kinds: type) -> Callable[[Any], Any]:
    # The very types: True is no 1 here.
    return lambda value: _if(type(value) in kinds, value)


def _one_of(*choices: str) -> Callable[[Any], Any]:
    return lambda value: _if(value in choices, value)


def _if(fits: bool, value: Any) -> Any:  # noqa: FBT001
    if not fits:
        raise StateError(_NO_SCHEMA)
    return value


def _tuple_of(read: Callable[[Any], Any], *others: None) -> Callable[[Any], Any]:
    return lambda value: value if value is None and others else tuple(map(read, _of(list)(value)))


def _column(value: Any) -> Column:
    name, kind, dtype, categories, ordered = value
    return Column(
        vocabulary.name_from_json(name),
        _one_of("number", "category", "text")(kind),
        _of(str)(dtype),
        _tuple_of(vocabulary.from_json)(categories),
        _of(bool)(ordered),
    )


_READ: dict[str, Callable[[Any], Any]] = {
    "container": _one_of("array", "csr", "frame"),
    "shape": _tuple_of(_of(int)),
    "dtype": _of(str),
    "columns": _tuple_of(_column),
    "feature_names": _tuple_of(_of(str), None),
    "classes": _tuple_of(vocabulary.from_json, None),
    "class_dtype": _of(str),
    "n_outputs": _of(int, type(None)),
    "weighted": _of(bool),
    "id_type": _one_of("int", "str", "uuid", "bytes"),
    "explicit_ids": _of(bool),
}
