"""The parameters of a LightGBM estimator: which of them keep their meaning, and what becomes of them in a step."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearnkit.errors import ParameterError
from unlearnkit.learner import RENEW_EDGES_AT, Step
from unlearnkit.typing import FloatArray, Task
from unlearnkit_lightgbm.parameters import (
    LOG_LOSS,
    MULTICLASS,
    PROBABILITIES,
    SEEDS,
    STOPPING,
    VALUES,
    WHOLE_ONLY,
    canonical,
    refusal,
)

# Rows expected in a bag: each is drawn by itself, so fewer could be none.
SMALLEST_BAG = 16
# Holds leaves as well as max_delta_step=1, which makes finding a split a sixth dearer. More costs accuracy where shards
# are small and classes many.
GUARD = 0.3
COARSE = 63


@dataclass(frozen=True)
class Settings:
    """What an estimator asks for, in LightGBM's own names.

    Attributes
    ----------
    task : {"classification", "regression"}
    rounds : int
        The trees of the whole budget (times the number of classes, where there are more than two).
    objective : str, callable or None
        As given; None means that it follows from the task and the classes.
    seed : int or None
    class_weight : mapping, "balanced" or None
        By label, not by code.
    categories : tuple of int or str
        Columns named as categories by parameter, by position or name.
    params, stopping : mapping
        All others, and those of early stopping when it is on.
    """

    task: Task
    rounds: int
    objective: str | Callable[..., Any] | None
    seed: int | None
    class_weight: Mapping[Any, float] | str | None
    categories: tuple[int | str, ...]
    params: Mapping[str, Any]
    stopping: Mapping[str, Any]

    @property
    def whole_only(self) -> str:
        """Why the budget cannot be sliced, or an empty string."""
        if self.params.get("boosting") in ("rf", "random_forest"):
            return "boosting='rf' averages its trees and cannot be continued"
        costly = sorted(WHOLE_ONLY & self.params.keys())
        return f"{costly[0]} charges for a feature once in a whole model" if costly else ""

    def binning(self, step: Step, seed: int) -> dict[str, Any]:
        """The parameters of a Dataset, single-threaded and deterministic whatever was asked for."""
        layout = {} if _truth(self.params.get("force_col_wise")) else {"force_row_wise": True}
        fixed = {"deterministic": True, "num_threads": 1, "seed": seed}
        # A feature that the few rows of a first slice cannot split may split the many of a later one.
        filtered = {} if step.whole else {"feature_pre_filter": False}
        # Finding a split goes through all bins, however few the rows: edges that are soon renewed make do with fewer.
        coarse = {"max_bin": COARSE} if step.stop < RENEW_EDGES_AT else {}
        return {"verbosity": -1, **filtered, **coarse, **self.params, **layout, **fixed}

    def training(self, step: Step, n_classes: int | None, *, goes_on: bool = False) -> dict[str, Any]:
        """The parameters of a step's booster. Each step draws its own bags: its seeds are not those of the last."""
        params = self.binning(step, step.seeded(self.seed))
        params |= {name: step.seeded(params[name]) for name in SEEDS & params.keys()}
        params |= self.outputs(n_classes)
        # A sure checkpoint has hessians near zero on new rows, so unbounded leaves blow up from one slice to the next.
        if params["objective"] in LOG_LOSS and (goes_on or not step.whole) and not self._bounds_leaves:
            params["lambda_l2"] = GUARD
        return params

    @property
    def _bounds_leaves(self) -> bool:
        return "max_delta_step" in self.params or float(self.params.get("lambda_l2", 0)) > 0

    def outputs(self, n_classes: int | None) -> dict[str, Any]:
        """The objective, and the number of raw scores where there are several."""
        several = n_classes is not None and self.is_multiclass(n_classes)
        return {"objective": self._objective(n_classes)} | ({"num_class": n_classes} if several else {})

    def is_multiclass(self, n_classes: int) -> bool:
        """Whether each class has a raw score of its own."""
        return n_classes > 2 or self._objective(n_classes) in MULTICLASS  # noqa: PLR2004

    def bagging(self, step: Step, n_rows: int) -> dict[str, int]:
        """What to change about bags where a step has few rows: LightGBM fails on an empty one, so there are none."""
        names = ("bagging_fraction", "pos_bagging_fraction", "neg_bagging_fraction")
        share = min(float(self.params.get(name, 1.0)) for name in names)
        return {"bagging_freq": 0} if not step.whole and n_rows * share < SMALLEST_BAG else {}

    def _objective(self, n_classes: int | None) -> Any:
        if callable(self.objective):
            return CustomObjective(self.objective)
        default = "regression" if n_classes is None else "binary" if n_classes == 2 else "multiclass"  # noqa: PLR2004
        return self.objective or default


@dataclass(frozen=True)
class CustomObjective:
    """A function of the scikit-learn interface, ``f(y, scores[, weight]) -> gradient, hessian``, for the native one."""

    function: Callable[..., Any]

    def __call__(self, scores: FloatArray, dataset: Any) -> Any:
        """Gradient and hessian at these raw scores."""
        arguments = (dataset.get_label(), scores, dataset.get_weight())
        return self.function(*arguments[: len(inspect.signature(self.function).parameters)])


def read(model: Any, task: Task) -> Settings:
    """The settings of an unfitted or fitted estimator, which stays as it is.

    Raises
    ------
    CapabilityError
        For a parameter that could not keep its meaning; the message names it.
    """
    given = deepcopy(model.get_params(deep=False))
    trees, loss, weight = (given.pop(name) for name in ("n_estimators", "objective", "class_weight"))
    given.pop("importance_type")
    params = canonical(given)
    _check_classes(params, weight, task)
    objective = params.pop("objective", loss)
    _check_objective(objective, task)
    _check_stopping(params)
    stopping = {name: params.pop(name) for name in sorted(STOPPING & params.keys())}
    return Settings(
        task=task,
        rounds=_rounds(params.pop("num_iterations", trees)),
        objective=objective,
        seed=_seed(params.pop("seed", None)),
        class_weight=dict(weight) if isinstance(weight, Mapping) else weight,
        categories=_categories(params.pop("categorical_feature", ())),
        params={name: value for name, value in params.items() if name != "num_class"},
        stopping=stopping if stopping.get("early_stopping_round", 0) > 0 else {},
    )


def _check_classes(params: Mapping[str, Any], class_weight: Any, task: Task) -> None:
    named = [name for name in ("class_weight", "num_class") if {**params, "class_weight": class_weight}.get(name)]
    if task == "regression" and named:
        raise refusal(named[0], "a regression target has no classes")


def _check_objective(objective: Any, task: Task) -> None:
    if callable(objective):
        if task == "classification":
            raise refusal("objective", "with a function of your own LightGBM gives scores, and no probabilities")
        if len(inspect.signature(objective).parameters) not in (2, 3):
            raise refusal("objective", "it must take (y, scores) or (y, scores, weight)")
    elif objective is not None and objective not in (PROBABILITIES if task == "classification" else VALUES):
        raise refusal("objective", f"{objective!r} does not give what a {task} model must predict")


def _check_stopping(params: Mapping[str, Any]) -> None:
    if params.get("early_stopping_round", 0) > 0 and params.get("boosting") == "dart":
        raise refusal("early_stopping_round", "boosting='dart' changes old trees, so LightGBM never stops it early")


def _rounds(value: Any) -> int:
    if not isinstance(value, int | np.integer) or value < 1:
        msg = f"n_estimators must be a positive whole number, not {value!r}; nothing was changed."
        raise ParameterError(msg)
    return int(value)


def _seed(value: Any) -> int | None:
    if value is not None and (not isinstance(value, int | np.integer) or isinstance(value, bool)):
        raise refusal("random_state", "a generator changes with use; give an int or None")
    return None if value is None else int(value)


def _categories(value: Any) -> tuple[int | str, ...]:
    if isinstance(value, str):
        parts = value.removeprefix("name:").split(",") if value not in ("", "auto") else []
        return tuple(parts) if value.startswith("name:") else tuple(map(int, parts))
    return (int(value),) if isinstance(value, int) else tuple(int(v) if isinstance(v, np.integer) else v for v in value)


def _truth(value: Any) -> bool:
    return str(value).lower() in ("true", "1", "+")
