"""The schema: what is public knowledge about the data, frozen at the first fit and kept through every forget.

Feature names, dtypes, category vocabularies and class labels are shared by all shards. If they were taken from the
remaining rows, forgetting one row could change what every shard sees.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from unlearnkit.errors import DataError, DataTypeError, SchemaError
from unlearnkit.frames import Column, infer_column, numeric_values, refuse_columns, refuse_missing, typed, wrong_columns
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
    is_sparse,
    plain_dtype,
)

if TYPE_CHECKING:
    import pandas as pd


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
        if is_frame(X):
            return self._from_frame(X, capabilities, name, exact=exact)
        if self.container == "frame":
            raise SchemaError(
                f"{name} was fitted with a DataFrame and needs its columns; got {type(X).__name__}. Nothing was "
                "changed."
            )
        checked = as_declared(X, capabilities, name, np.dtype(self.dtype), exact=exact)
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
            frame = self._columns_of(X, exact=exact)
            refuse_missing(frame, capabilities, name)
            return frame
        if self.feature_names is None:
            return self.features(X.to_numpy(), capabilities, name, exact=exact)
        missing = [c for c in self.feature_names if c not in X.columns]
        if missing or X.shape[1] != len(self.feature_names):
            raise SchemaError(wrong_columns(name, self.feature_names, list(X.columns)))
        return self.features(numeric_values(X, name), capabilities, name, exact=exact)

    def _columns_of(self, X: pd.DataFrame, *, exact: bool = True) -> pd.DataFrame:
        import pandas as pd

        wanted = [c.name for c in self.columns]
        if list(X.columns) != wanted:
            raise SchemaError(wrong_columns("the model", wanted, list(X.columns)))
        return pd.DataFrame({c.name: typed(X[c.name], c, exact=exact) for c in self.columns}, index=X.index)

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


def _tagged(value: Any) -> list[str]:
    return [type(value).__name__, repr(value) if isinstance(value, int | float | str | bool) else str(value)]
