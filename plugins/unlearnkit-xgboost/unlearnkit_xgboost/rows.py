"""Rows to predict from many boosters: read once, where reading them takes longer than a copy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unlearnkit.threads import one_thread
from unlearnkit.typing import Features, FloatArray

if TYPE_CHECKING:
    from xgboost import Booster, DMatrix, XGBModel

FEW_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows as XGBoost's own matrix."""

    native: DMatrix


def shared(model: XGBModel, X: Features) -> AbstractContextManager[Any]:
    """Few rows, and the columns of any frame, as XGBoost's own matrix; more rows of an array where they lie.

    Few rows are predicted by one thread, unless the user has asked for more: waking the others takes longer.
    """
    if model.booster not in (None, "gbtree"):
        # dart adds up a matrix in another order than rows in their place, and gblinear makes its own.
        return nullcontext(X)
    if X.shape[0] <= FEW_ROWS:
        return _few(model, X)
    return nullcontext(_matrix(model, X, model.n_jobs) if hasattr(X, "iloc") else X)


@contextmanager
def _few(model: XGBModel, X: Features) -> Iterator[Any]:
    with one_thread():
        yield _matrix(model, X, 1)


def _matrix(model: XGBModel, X: Features, nthread: int | None) -> Any:
    from xgboost import DMatrix
    from xgboost.core import XGBoostError

    try:
        return Matrix(DMatrix(X, missing=model.missing, enable_categorical=True, nthread=nthread))
    except XGBoostError:
        # Of values beyond float32 it makes no matrix; boosters read them all the same, or say themselves what is wrong.
        return X


def output(booster: Booster, rows: Any, missing: float, *, margin: bool) -> FloatArray:
    """What the booster says of rows that are shared, or of features as they came; the bits are the same."""
    found: FloatArray
    if isinstance(rows, Matrix):
        found = booster.predict(rows.native, output_margin=margin)
    else:
        found = booster.inplace_predict(rows, predict_type="margin" if margin else "value", missing=missing)
    return found
