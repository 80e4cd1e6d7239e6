"""Exact forgetting for XGBoost models: the plugin that unlearnkit finds by its entry point."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from unlearnkit.adapters import Adapter, Resolve, hookimpl
from unlearnkit.learner import Learner

__all__ = ["unlearnkit_adapters"]

_ABILITIES = (
    *("classification", "regression", "resumable", "probabilities", "sample_weight", "missing_values"),
    *("sparse", "multi_output", "frames", "categorical"),
)


@hookimpl
def unlearnkit_adapters() -> Iterable[Adapter]:
    """The one adapter of this plugin."""
    native_types = ("xgboost.sklearn:XGBModel",)
    return [Adapter("xgboost", native_types, _wrap, library=("xgboost",), abilities=_ABILITIES)]


def _wrap(model: Any, resolve: Resolve) -> Learner[Any]:  # noqa: ARG001
    from unlearnkit_xgboost.learner import learner_for

    return learner_for(model)
