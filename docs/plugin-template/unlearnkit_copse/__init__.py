"""Exact forgetting for copse models: the plugin that unlearnkit finds by its entry point."""

from __future__ import annotations

from typing import Any

from unlearnkit import Adapter, hookimpl

ABILITIES = ("classification", "resumable", "probabilities", "sample_weight")


@hookimpl
def unlearnkit_adapters() -> list[Adapter]:
    """The one adapter of this plugin."""
    return [Adapter("copse", ("copse:CopseClassifier",), _wrap, library=("copse",), abilities=ABILITIES)]


def _wrap(model: Any, resolve: Any) -> Any:  # noqa: ARG001
    from unlearnkit_copse.learner import CopseLearner

    return CopseLearner.of(model)
