"""What a model can do, read from its scikit-learn tags and from what this adapter knows of the classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, TypeAlias

from unlearnkit.learner import Capabilities
from unlearnkit_sklearn.leaks import leaks
from unlearnkit_sklearn.params import components
from unlearnkit_sklearn.vocabulary import ENCODERS

Unseen: TypeAlias = Literal["missing", "kept", "refused"]

WHOLE_FRAMES = frozenset({"ColumnTransformer", "Pipeline", "FeatureUnion"})
# They read columns of category dtype, or are handed them by name.
CATEGORICAL = frozenset(
    {
        "ColumnTransformer",
        "FunctionTransformer",
        "HistGradientBoostingClassifier",
        "HistGradientBoostingRegressor",
        "OneHotEncoder",
        "OrdinalEncoder",
        "TargetEncoder",
    }
)
# Nothing is missing behind them.
FILLING = frozenset({"FeatureUnion", "FunctionTransformer", "OneHotEncoder", "TargetEncoder"})
ROW_KEEPERS = ("sklearn.svm._classes", "sklearn.neighbors", "sklearn.gaussian_process", "sklearn.kernel_ridge")
NO_ROWS = frozenset({"NearestCentroid", "LinearSVC", "LinearSVR", "NeighborhoodComponentsAnalysis"})


def capabilities(model: Any) -> Capabilities:
    """The capabilities of a model with one slice."""
    from sklearn.base import is_classifier
    from sklearn.utils import get_tags

    tags = get_tags(model)
    classifies = is_classifier(model)
    return Capabilities(
        task="classification" if classifies else "regression",
        probabilities=classifies and hasattr(model, "predict_proba"),
        sample_weight=takes_weights(model),
        missing_values=_takes_missing(model),
        sparse=bool(tags.input_tags.sparse),
        multi_output=not classifies and bool(tags.target_tags.multi_output),
        frames=any(_wants_frames(part) for _, part in components(model)),
        categorical=any(_is_categorical(part) for _, part in components(model)),
        unseen_categories=_unseen([part for _, part in components(model)], otherwise="missing"),
        stores_training_rows=any(_keeps_rows(part) for _, part in components(model)),
        leaks=leaks(model),
    )


def takes_weights(model: Any) -> bool:
    """Whether ``fit`` takes sample weights, here or, for a search, in what it searches over."""
    from sklearn.utils.validation import has_fit_parameter

    if type(model).__name__.endswith("SearchCV"):
        return takes_weights(model.estimator)
    return bool(has_fit_parameter(model, "sample_weight"))


def pipeline_capabilities(transformers: Any, inner: Capabilities) -> Capabilities:
    """The capabilities of `inner` behind a pipeline of transformers."""
    from sklearn.utils import get_tags

    steps = [step for _, step in transformers.steps if step is not None and step != "passthrough"]
    parts = [part for step in steps for _, part in components(step)]
    return replace(
        inner,
        frames=True,
        any_shape=False,
        sparse=get_tags(steps[0]).input_tags.sparse if steps else inner.sparse,
        missing_values=_passes_missing(steps, last=inner.missing_values),
        categorical=inner.categorical or any(_is_categorical(part) for part in parts),
        unseen_categories=_unseen(parts, otherwise=inner.unseen_categories),
        multi_output=inner.multi_output,
        stores_training_rows=inner.stores_training_rows or any(_keeps_rows(part) for part in parts),
    )


def _unseen(parts: list[Any], *, otherwise: Unseen) -> Unseen:
    """What becomes of categories that are new in rows to predict: encoders know best, each in its own way."""
    encoders = [part for part in parts if type(part).__name__ in ENCODERS]
    if encoders and all(encoder.handle_unknown == "error" for encoder in encoders):
        return "refused"
    return "kept" if any(_is_categorical(part) and not _is_model(part) for part in parts) else otherwise


def _is_model(part: Any) -> bool:
    return hasattr(part, "predict")


def _takes_missing(model: Any) -> bool:
    from sklearn.utils import get_tags

    kind = type(model).__name__
    if kind == "Pipeline":
        steps = [step for _, step in model.steps if step is not None and step != "passthrough"]
        return _passes_missing(steps[:-1], last=_takes_missing(steps[-1])) if steps else False
    if kind == "ColumnTransformer":
        return any(hasattr(t, "get_params") and _takes_missing(t) for _, t, _ in model.transformers)
    if kind.endswith("SearchCV"):
        return _takes_missing(model.estimator)
    return bool(get_tags(model).input_tags.allow_nan) or _is_user_code(model)


def _passes_missing(steps: list[Any], *, last: bool) -> bool:
    """Whether each step takes missing values, up to one that leaves none."""
    for step in steps:
        if not _takes_missing(step) and type(step).__name__ not in {"FeatureUnion", "FunctionTransformer"}:
            return False
        if _fills(step):
            return True
    return last


def _fills(step: Any) -> bool:
    """Whether nothing is missing behind a step, or nobody knows."""
    if type(step).__name__ == "ColumnTransformer":
        return any(_fills(part) for _, part, _ in step.transformers if hasattr(part, "get_params"))
    if type(step).__name__ == "Pipeline":
        return any(_fills(part) for _, part in step.steps if hasattr(part, "get_params"))
    if type(step).__name__ == "OrdinalEncoder":
        # By default a missing value stays one.
        return bool(step.encoded_missing_value == step.encoded_missing_value)
    return type(step).__name__ in FILLING or type(step).__module__.startswith("sklearn.impute") or _is_user_code(step)


def _is_user_code(model: Any) -> bool:
    return not type(model).__module__.startswith("sklearn.")


def _wants_frames(part: Any) -> bool:
    return type(part).__name__ in WHOLE_FRAMES | CATEGORICAL


def _is_categorical(part: Any) -> bool:
    return type(part).__name__ in CATEGORICAL or (_is_user_code(part) and hasattr(part, "transform"))


def _keeps_rows(part: Any) -> bool:
    return type(part).__module__.startswith(ROW_KEEPERS) and type(part).__name__ not in NO_ROWS
