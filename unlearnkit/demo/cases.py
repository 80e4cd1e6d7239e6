"""What the demonstration shows: a list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from unlearnkit.demo import data, models
from unlearnkit.demo.data import Data


@dataclass(frozen=True)
class Case:
    """One line to be: a model for some data.

    Attributes
    ----------
    model : str
        What the table calls it.
    extra : str
        The extra of unlearnkit that brings what it needs.
    needs : tuple of str
        The modules that must be importable.
    build : callable
        ``build(data) -> model``; the only place where its framework is imported.
    load : callable
        ``load() -> Data``.
    n_slices : int or "auto"
    n_shards : int
    """

    model: str
    extra: str
    needs: tuple[str, ...]
    build: Callable[[Data], Any]
    load: Callable[[], Data]
    n_slices: int | str = "auto"
    n_shards: int = 5


_SKLEARN = ("unlearnkit_sklearn",)
_LIGHTGBM = ("lightgbm", "unlearnkit_lightgbm")
_XGBOOST = ("xgboost", "unlearnkit_xgboost")
_TORCH = ("torch", "unlearnkit_torch")
_PANDAS = ("pandas",)

BUNDLED = (
    Case("RandomForestClassifier", "sklearn", _SKLEARN, models.random_forest, data.digits),
    Case("scaler + MLPClassifier", "sklearn", _SKLEARN, models.multilayer_perceptron, data.digits),
    Case("encoder + LogisticRegression", "sklearn,pandas", _SKLEARN + _PANDAS, models.linear, data.breast_cancer_frame),
    Case("GradientBoostingRegressor", "sklearn", _SKLEARN, models.gradient_boosting, data.diabetes),
    Case("LGBMClassifier", "lightgbm", _LIGHTGBM, models.lightgbm, data.digits),
    Case("LGBMRegressor, categories", "lightgbm,pandas", _LIGHTGBM + _PANDAS, models.lightgbm, data.diabetes_frame),
    Case("XGBClassifier", "xgboost", _XGBOOST, models.xgboost, data.breast_cancer),
    Case("XGBRegressor", "xgboost", _XGBOOST, models.xgboost, data.diabetes),
    Case("TorchModel", "torch", _TORCH, models.torch_model, data.digits),
    Case("skorch NeuralNetClassifier", "torch", (*_TORCH, "skorch"), models.skorch_net, data.digits),
)


def cases_for(rows: Data) -> tuple[Case, ...]:
    """The models that take any frame of numbers and categories, for this one."""
    case = partial(Case, load=lambda: rows)
    linear = "LogisticRegression" if rows.task == "classification" else "Ridge"
    return (
        case(f"encoder + {linear}", "sklearn", _SKLEARN, models.linear),
        case("LightGBM", "lightgbm", _LIGHTGBM, models.lightgbm),
        case("XGBoost", "xgboost", _XGBOOST, models.xgboost),
        case("encoder + TorchModel", "sklearn,torch", _SKLEARN + _TORCH, models.encoded_torch),
    )
