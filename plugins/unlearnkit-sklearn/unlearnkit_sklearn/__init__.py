"""scikit-learn estimators and pipelines as unlearnkit learners."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from unlearnkit.adapters import Adapter, Resolve, hookimpl
from unlearnkit.learner import Learner

__all__ = ["unlearnkit_adapters"]

ABILITIES = (
    *("classification", "regression", "resumable", "probabilities", "sample_weight", "missing_values"),
    *("sparse", "multi_output", "frames", "categorical"),
)
# Not sklearn.frozen: what it holds was fitted before, and a description has parameters only.
LIBRARY = (
    "sklearn.calibration",
    "sklearn.cluster",
    "sklearn.compose",
    "sklearn.covariance",
    "sklearn.cross_decomposition",
    "sklearn.decomposition",
    "sklearn.discriminant_analysis",
    "sklearn.dummy",
    "sklearn.ensemble",
    "sklearn.feature_extraction",
    "sklearn.feature_extraction.text",
    "sklearn.feature_selection",
    "sklearn.gaussian_process",
    "sklearn.gaussian_process.kernels",
    "sklearn.impute",
    "sklearn.isotonic",
    "sklearn.kernel_approximation",
    "sklearn.kernel_ridge",
    "sklearn.linear_model",
    "sklearn.manifold",
    "sklearn.mixture",
    "sklearn.model_selection",
    "sklearn.multiclass",
    "sklearn.multioutput",
    "sklearn.naive_bayes",
    "sklearn.neighbors",
    "sklearn.neural_network",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "sklearn.random_projection",
    "sklearn.semi_supervised",
    "sklearn.svm",
    "sklearn.tree",
)


def _wrap(model: Any, resolve: Resolve) -> Learner[Any]:
    # Late, so that listing the plugins costs no import of scikit-learn.
    from unlearnkit_sklearn.adapter import wrap

    return wrap(model, resolve)


@hookimpl
def unlearnkit_adapters() -> Iterable[Adapter]:
    """The adapter of everything that derives from ``BaseEstimator`` and that no other plugin claims."""
    return [Adapter("sklearn", ("sklearn.base:BaseEstimator",), _wrap, LIBRARY, ABILITIES)]
