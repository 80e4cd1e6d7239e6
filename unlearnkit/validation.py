"""Validation: what an array, a label or a target has to be, with the errors of this package.

scikit-learn's own checks do it. They are imported when data is first checked: a store is opened without.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from unlearnkit.errors import DataError, DataTypeError, SchemaError
from unlearnkit.ids import is_missing
from unlearnkit.learner import Capabilities
from unlearnkit.typing import AnyArray

if TYPE_CHECKING:
    import scipy.sparse as sp

_FEW_VALUES = 10_000


def is_sparse(X: Any) -> bool:
    """Whether X is a sparse matrix or array, without importing scipy."""
    scipy_sparse = sys.modules.get("scipy.sparse")
    return scipy_sparse is not None and bool(scipy_sparse.issparse(X))


def is_frame(X: Any) -> bool:
    """Whether X is a pandas DataFrame, without importing pandas."""
    kind = type(X)
    return any(c.__name__ == "DataFrame" and c.__module__.partition(".")[0] == "pandas" for c in kind.__mro__)


def plain_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """In the byte order of the processor, and of 64 bits at most: a longer float has bytes that nothing defines."""
    return (
        np.dtype(np.float64)
        if dtype.kind == "f" and dtype.itemsize > np.dtype("f8").itemsize
        else dtype.newbyteorder("=")
    )


def canonical_csr(X: Any) -> sp.csr_matrix:
    """CSR with sorted indices and no duplicates, in index arrays of 32 bits where they fit."""
    import scipy.sparse as sp

    csr = sp.csr_matrix(X)
    if csr.indices.dtype != np.int32 and max(*csr.shape, csr.nnz) <= np.iinfo(np.int32).max:
        parts = (csr.indices.astype(np.int32), csr.indptr.astype(np.int32))
        csr = sp.csr_matrix((csr.data, *parts), shape=csr.shape)
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    return csr


def checked_array(X: Any, capabilities: Capabilities, name: str, dtype: Any, *, finite: bool = True) -> Any:
    """X validated as scikit-learn does, with the errors of this package; without `finite` whatever the values."""
    from sklearn.utils import check_array

    allowed: Any = "allow-nan" if capabilities.missing_values else True
    try:
        checked = check_array(
            X,
            accept_sparse="csr" if capabilities.sparse else False,
            dtype=dtype,
            order="C",
            ensure_all_finite=allowed if finite else False,
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


def is_ready(X: Any, shape: tuple[int, ...], declared: np.dtype[Any], *, nan: bool) -> bool:
    """Whether X is an array that `as_declared` would return as it is; False where that takes long to say.

    Its checks take longer than a prediction of one row does.
    """
    if type(X) is not np.ndarray or X.dtype != declared or declared.kind != "f" or X.shape[1:] != shape:
        return False
    if X.size == 0 or not X.flags.c_contiguous:
        return False
    if X.size <= _FEW_VALUES:
        # The sum of the squares is finite only if all are, and takes less than half the time of looking at each.
        if math.isfinite(np.vdot(X, X)):
            return True
        return bool(np.isfinite(X).all()) or (nan and not np.isinf(X).any())
    # One value that is not finite makes the sum so; a sum that is not finite may be of finite values.
    with np.errstate(all="ignore"):
        return bool(np.isfinite(X.sum()))


def as_declared(X: Any, capabilities: Capabilities, name: str, declared: np.dtype[Any], *, exact: bool) -> Any:
    """X validated, in the declared dtype; unless `exact`, as floats where that would lose something.

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
        if not exact:
            return checked.astype(np.float64)
        raise SchemaError(
            f"X has values that do not convert to {declared}, its dtype in the schema of {name}; nothing was changed. "
            "Fit a new model on X.astype(float)."
        )
    return converted


def checked_labels(y: Any, n: int) -> AnyArray:
    """Class labels of shape (n,).

    Raises
    ------
    DataError
        If there are not n, one is missing, or they are not the labels of one classification target.
    """
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import column_or_1d

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
    from sklearn.utils import check_array
    from sklearn.utils.validation import column_or_1d

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
