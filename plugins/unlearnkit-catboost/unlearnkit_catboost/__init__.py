"""Exact forgetting for CatBoost models: the plugin that unlearnkit finds by its entry point."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from unlearnkit.adapters import Adapter, Resolve, hookimpl
from unlearnkit.learner import Learner

__all__ = ["unlearnkit_adapters"]


@hookimpl
def unlearnkit_adapters() -> Iterable[Adapter]:
    """The one adapter of this plugin."""
    return [Adapter(name="catboost", native_types=("catboost.core:CatBoost",), wrap=_wrap, library=("catboost",))]


def _wrap(model: Any, resolve: Resolve) -> Learner[Any]:  # noqa: ARG001
    from unlearnkit_catboost.learner import CatBoostLearner

    return CatBoostLearner.of(model)
