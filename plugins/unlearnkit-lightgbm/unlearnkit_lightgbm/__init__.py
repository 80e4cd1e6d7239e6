"""Exact forgetting for LightGBM models: the plugin of unlearnkit that wraps `LGBMClassifier` and `LGBMRegressor`."""

from __future__ import annotations

from typing import Any

from unlearnkit.adapters import Adapter, Resolve, hookimpl
from unlearnkit.learner import Learner

__all__ = ["unlearnkit_adapters"]

_ABILITIES = (
    *("classification", "regression", "resumable", "probabilities", "sample_weight", "missing_values"),
    *("sparse", "frames", "categorical"),
)


def _wrap(model: Any, resolve: Resolve) -> Learner[Any]:  # noqa: ARG001
    from unlearnkit_lightgbm.learner import LightGBMLearner

    return LightGBMLearner.of(model)


@hookimpl
def unlearnkit_adapters() -> tuple[Adapter, ...]:
    """Declare the adapter ``"lightgbm"``."""
    native_types = ("lightgbm.sklearn:LGBMModel",)
    return (Adapter("lightgbm", native_types, _wrap, library=("lightgbm",), abilities=_ABILITIES),)
