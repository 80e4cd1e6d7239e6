"""What cannot keep its meaning, refused by the name of the parameter before anything is trained."""

from __future__ import annotations

from typing import Any

from unlearnkit.errors import CapabilityError
from unlearnkit_sklearn.params import components, last_name

# Only their own plugins hold them to one thread and store them.
FOREIGN = frozenset({"catboost", "lightgbm", "skorch", "torch", "unlearnkit_torch", "xgboost"})
SEMI_SUPERVISED = frozenset({"SelfTrainingClassifier", "LabelPropagation", "LabelSpreading"})


def refuse_inexact(model: Any, last: str | None = None) -> None:
    """Raise for parts that have seen rows before, that keep rows elsewhere, or that mean rows by their position.

    Parameters
    ----------
    model : estimator
    last : str or None
        The step of a pipeline that another learner will look at.

    Raises
    ------
    CapabilityError
        Names the parameter.
    """
    for path, component in components(model):
        if last is not None and f"{path}__".startswith(f"{last}__"):
            continue
        _refuse_foreign(path, component)
        prefix = f"{path}__" if path else ""
        _refuse_frozen(path or "estimator", component)
        for name, value in component.get_params(deep=False).items():
            _refuse_value(prefix + name, value)
        if type(component).__name__.endswith("SearchCV") and getattr(component, "refit", True) is False:
            raise _error(f"{prefix}refit=False", "leaves the search without a model to predict with", "Set it to True")
        if type(component).__name__ in SEMI_SUPERVISED:
            raise _error(
                f"{path or type(component).__name__}",
                "marks unlabelled rows by the target -1, which would count as a class here",
                "Fit on the labelled rows with a supervised classifier",
            )


def _refuse_foreign(path: str, component: Any) -> None:
    if type(component).__module__.partition(".")[0] in FOREIGN:
        raise _error(
            f"{path or 'estimator'} is a {type(component).__name__} inside a scikit-learn model, which",
            "can be held to the same bits by its own plugin alone",
            "Give it as the model itself, or as the last step of a pipeline",
        )


def _refuse_frozen(path: str, component: Any) -> None:
    if type(component).__name__ == "FrozenEstimator":
        raise _error(path, "is a FrozenEstimator, which was fitted on all rows", "Give the unfitted estimator")


def _refuse_value(path: str, value: Any) -> None:
    name = last_name(path)
    if (name == "prefit" and value is True) or (name == "cv" and isinstance(value, str) and value == "prefit"):
        raise _error(f"{path}={value!r}", "keeps a part that was fitted on all rows", "Let it be fitted with the rest")
    if name == "memory" and value is not None:
        raise _error(path, "keeps fitted parts in a cache, out of reach of forgetting", "Set it to None")
    if isinstance(value, str) and value == "precomputed":
        raise _error(f"{path}='precomputed'", "makes columns of rows", "Let the model compute the kernel or distance")
    if name == "transform_input" and value is not None:
        raise _error(path, "routes metadata that unlearnkit does not pass on", "Set it to None")


def _error(what: str, why: str, instead: str) -> CapabilityError:
    return CapabilityError(f"{what} {why}; forgetting would not be exact. Nothing was changed. {instead}.")
