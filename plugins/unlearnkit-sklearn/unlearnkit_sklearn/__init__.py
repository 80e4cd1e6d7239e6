"""scikit-learn estimators and pipelines as unlearnkit learners."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from unlearnkit.adapters import Adapter, Resolve, hookimpl
from unlearnkit.learner import Learner

__all__ = ["unlearnkit_adapters"]


def _wrap(model: Any, resolve: Resolve) -> Learner[Any]:
    # Late, so that listing the plugins costs no import of scikit-learn.
    from unlearnkit_sklearn.adapter import wrap

    return wrap(model, resolve)


@hookimpl
def unlearnkit_adapters() -> Iterable[Adapter]:
    """The adapter of everything that derives from ``BaseEstimator`` and that no other plugin claims."""
    return [Adapter("sklearn", ("sklearn.base:BaseEstimator",), _wrap)]
