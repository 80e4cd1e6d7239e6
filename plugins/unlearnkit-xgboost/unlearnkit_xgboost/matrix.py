"""Training data as XGBoost wants it: binned by the edges of one prefix, with the margin that is carried on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from unlearnkit.learner import Batch
from unlearnkit.typing import AnyArray, Features, FloatArray
from unlearnkit_xgboost.training import has_edges

if TYPE_CHECKING:
    from xgboost import DMatrix, QuantileDMatrix, XGBModel

    from unlearnkit_xgboost.model import Model


def training_matrix(model: XGBModel, batch: Batch, margin: FloatArray | None, n_edges: int) -> DMatrix:
    """The prefix, binned by the edges of its first `n_edges` rows where the tree method uses bins."""
    from xgboost import DMatrix, QuantileDMatrix

    facts = _reading(model) | {"label": batch.y, "weight": batch.sample_weight, "base_margin": margin}
    if not has_edges(model):
        return DMatrix(batch.X, **facts)
    X = _first(_rows(batch), len(batch.y))
    if n_edges == len(batch.y) and not _vocabularies(batch.X):
        matrix = QuantileDMatrix(X, max_bin=model.max_bin, **facts)
        batch.scratch["edges"] = (n_edges, matrix)
        return matrix
    return QuantileDMatrix(X, max_bin=model.max_bin, ref=_edges(model, batch, n_edges), **facts)


def carried_margin(state: Model, batch: Batch, missing: float) -> FloatArray:
    """What the trees so far say of the prefix.

    The whole shard is walked, so that the next step has only the newest trees left to read and to walk. Each leaf is
    added to the sum in the order of training: walked at once or by and by, the bits are the same.
    """
    shared, steps = state.parts["model"], state.steps
    n = batch.X_shard.shape[0]
    known, trees, margin = batch.scratch.get("margin", (None, (), None))
    if known != (shared, n) or steps[: len(trees)] != trees:
        trees, margin = (), None
    newest = state.since(len(trees))
    if margin is None or newest.num_boosted_rounds():
        margin = newest.inplace_predict(_rows(batch), predict_type="margin", missing=missing, base_margin=margin)
    batch.scratch["margin"] = ((shared, n), steps, margin)
    prefix: FloatArray = margin[: len(batch.y)]
    return prefix


def _rows(batch: Batch) -> Features:
    """The rows of the shard as the numbers that XGBoost makes of them, which it would do anew for every step."""
    X = batch.X_shard
    if not isinstance(X, np.ndarray) or X.dtype == np.float32:
        return X
    rows: AnyArray | None = batch.scratch.get("rows")
    if rows is None or len(rows) != len(X):
        # What is beyond these numbers XGBoost refuses itself.
        with np.errstate(over="ignore"):
            rows = batch.scratch["rows"] = X.astype(np.float32)
    return rows


def _first(X: Features, n: int) -> Any:
    return X.iloc[:n] if hasattr(X, "iloc") else X[:n]


def _reading(model: XGBModel) -> dict[str, Any]:
    """How the model reads features."""
    return {
        "missing": model.missing,
        "feature_types": model.feature_types,
        "feature_weights": model.feature_weights,
        "enable_categorical": model.enable_categorical,
        "nthread": 1,
    }


def _edges(model: XGBModel, batch: Batch, n_edges: int) -> QuantileDMatrix:
    n, edges = batch.scratch.get("edges", (0, None))
    if edges is None or n != n_edges:
        edges = _bin(model, batch, n_edges)
        batch.scratch["edges"] = (n_edges, edges)
    return cast("QuantileDMatrix", edges)


def _bin(model: XGBModel, batch: Batch, n: int) -> QuantileDMatrix:
    from xgboost import QuantileDMatrix

    vocabularies = _vocabularies(batch.X)
    weight = None if batch.sample_weight is None else batch.sample_weight[:n]
    if not vocabularies:
        return QuantileDMatrix(_first(_rows(batch), n), max_bin=model.max_bin, weight=weight, **_reading(model))
    codes = _with_all_categories(_first(batch.X, n), vocabularies)
    if weight is not None:
        weight = np.append(weight, np.ones(len(codes) - n))
    types = ["c" if i in vocabularies else "q" for i in range(codes.shape[1])]
    reading = _reading(model) | {"feature_types": types, "enable_categorical": True}
    return QuantileDMatrix(codes, max_bin=model.max_bin, weight=weight, **reading)


def _vocabularies(X: Features) -> dict[int, int]:
    """The sizes of the vocabularies of categorical columns, by position."""
    if not hasattr(X, "dtypes") or not hasattr(X, "iloc"):
        return {}
    return {i: len(dtype.categories) for i, dtype in enumerate(X.dtypes) if hasattr(dtype, "categories")}


def _with_all_categories(X: Features, vocabularies: dict[int, int]) -> FloatArray:
    """The columns as codes, with rows below that show each category once and nothing else.

    XGBoost makes bins only up to the largest code that it meets, and puts later ones into the last bin unasked.
    """
    n = len(X)
    codes = np.full((n + max(vocabularies.values()), X.shape[1]), np.nan)
    for i in range(X.shape[1]):
        column = X.iloc[:, i]
        if i in vocabularies:
            known = column.cat.codes.to_numpy()
            codes[:n, i] = np.where(known < 0, np.nan, known)
            codes[n : n + vocabularies[i], i] = np.arange(vocabularies[i])
        else:
            codes[:n, i] = column.to_numpy(dtype=float, na_value=np.nan)
    return codes
