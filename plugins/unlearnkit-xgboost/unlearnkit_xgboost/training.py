"""The two ways in which a native booster comes to be: fitted at once, or grown on a margin."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from sklearn.base import clone

from unlearnkit.learner import RENEW_EDGES_AT, Batch, Step
from unlearnkit.typing import AnyArray, BoolArray, FloatArray

if TYPE_CHECKING:
    from xgboost import Booster, DMatrix, XGBModel

HELD_OUT = 0.1
# Bins until the edges are renewed, where XGBoost's default of 256 stands.
COARSE = 64


def for_step(model: XGBModel, batch: Batch, step: Step) -> XGBModel:
    """A clone of the model with the seed, the classes and the number of bins of this step, on one thread."""
    seed = cast("int | None", model.random_state)
    changed: dict[str, Any] = {"n_jobs": 1, "random_state": step.seeded(seed)}
    # Finding a split goes through all bins, however few the rows: edges that are soon renewed make do with fewer.
    if model.max_bin is None and has_edges(model) and step.stop < RENEW_EDGES_AT:
        changed["max_bin"] = COARSE
    if "nthread" in model.get_params():
        changed["nthread"] = 1
    if batch.classes is not None and str(model.objective).startswith("multi:"):
        changed["num_class"] = len(batch.classes)
    native: XGBModel = clone(model).set_params(**changed)
    return native


def has_edges(model: XGBModel) -> bool:
    """Whether the tree method bins rows once, by edges that are taken before."""
    return model.tree_method in (None, "auto", "hist")


def fitted(native: XGBModel, batch: Batch) -> Booster:
    """What the bare model trains; with early stopping, cut after its best round."""
    held_out = None if native.early_stopping_rounds is None else _held_out(batch)
    if held_out is None or not held_out.any():
        native.set_params(early_stopping_rounds=None)
        native.fit(batch.X, batch.y, sample_weight=batch.sample_weight, verbose=False)
        return native.get_booster()
    X, y, weight = _rows(batch, ~held_out)
    X_out, y_out, weight_out = _rows(batch, held_out)
    weights_out = None if weight_out is None else [weight_out]
    native.fit(X, y, sample_weight=weight, eval_set=[(X_out, y_out)], sample_weight_eval_set=weights_out, verbose=False)
    booster: Booster = native.get_booster()
    return booster[: booster.best_iteration + 1]


def grown(native: XGBModel, batch: Batch, matrix: DMatrix, rounds: int) -> Booster:
    """A booster of `rounds` more rounds on the margin that the matrix carries."""
    import xgboost

    objective = _native_objective(native.objective) if callable(native.objective) else None
    booster: Booster = xgboost.train(_booster_params(native, batch), matrix, rounds, obj=objective)
    return booster


def _booster_params(native: XGBModel, batch: Batch) -> dict[str, Any]:
    """The parameters as `fit` of the native model hands them on."""
    params: dict[str, Any] = native.get_xgb_params()
    # Nothing is evaluated, and a list with functions in it is no parameter.
    params.pop("eval_metric", None)
    n_classes = None if batch.classes is None else len(batch.classes)
    params["objective"] = objective_of(native, n_classes)
    if n_classes is not None and n_classes > 2:  # noqa: PLR2004
        params["num_class"] = n_classes
    return params


def objective_of(model: XGBModel, n_classes: int | None) -> str:
    """The objective that the native booster has for this number of classes; None: regression."""
    if n_classes is not None and n_classes > 2:  # noqa: PLR2004
        return "multi:softmax" if model.objective == "multi:softmax" else "multi:softprob"
    if callable(model.objective):
        return "reg:squarederror" if n_classes is None else "binary:logistic"
    return str(model.get_xgb_params()["objective"])


def _native_objective(function: Callable[..., Any]) -> Callable[[FloatArray, DMatrix], Any]:
    """The user's ``f(y_true, margin)`` in the form that the booster calls."""

    def inner(margin: FloatArray, matrix: DMatrix) -> Any:
        weight = matrix.get_weight()
        return function(matrix.get_label(), margin, **({"sample_weight": weight} if weight.size else {}))

    return inner


def _held_out(batch: Batch) -> BoolArray:
    """Which rows early stopping watches: chosen by their own ids, but never all of a class, nor all."""
    out: BoolArray = batch.u < HELD_OUT
    if batch.classes is not None:
        out = out & np.isin(batch.y, batch.y[~out])
    return out & (not out.all())


def _rows(batch: Batch, chosen: BoolArray) -> tuple[Any, AnyArray, FloatArray | None]:
    X = batch.X.loc[chosen] if hasattr(batch.X, "loc") else batch.X[chosen]
    return X, batch.y[chosen], None if batch.sample_weight is None else batch.sample_weight[chosen]
