"""What is kept of an XGBoost model, what has one slice only, and what is refused."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any

from unlearnkit.carried import parameter_leaks
from unlearnkit.errors import CapabilityError, UnsupportedModelError
from unlearnkit.learner import Capabilities

if TYPE_CHECKING:
    from xgboost import XGBModel

RECOMMENDED_SLICES = 5
# Objectives of classifiers whose output is a probability; a custom one ends in the sigmoid or softmax of these.
PROBABILITIES = ("binary:logistic", "reg:logistic", "multi:softprob", "multi:softmax")
_OWN_METHODS = ("fit", "predict", "predict_proba", "get_xgb_params", "get_num_boosting_rounds")


def check_supported(model: XGBModel) -> None:
    """Raise unless the model can be trained so that forgetting stays exact.

    Raises
    ------
    UnsupportedModelError
        For rankers, distributed models, and subclasses that train or predict in their own way.
    CapabilityError
        For a parameter that cannot keep its meaning.
    """
    from xgboost import XGBClassifier, XGBRanker, XGBRegressor

    if isinstance(model, XGBRanker) or not isinstance(model, XGBClassifier | XGBRegressor):
        raise UnsupportedModelError(
            f"{type(model).__name__} is neither an XGBClassifier nor an XGBRegressor; nothing was changed. "
            "Rankers and distributed models are not wrapped."
        )
    foreign = [kind for kind in type(model).__mro__ if not kind.__module__.startswith(("xgboost.", "sklearn."))]
    own = [name for name in _OWN_METHODS if any(name in vars(kind) for kind in foreign)]
    if own:
        raise UnsupportedModelError(
            f"{type(model).__name__} has a {own[0]} of its own, which would not be called; nothing was changed. "
            "Write an adapter for it, or wrap the XGBoost class."
        )
    _check_parameters(model.get_params(), vars(model)["random_state"])


def _check_parameters(params: dict[str, Any], random_state: object) -> None:
    if random_state is not None and not isinstance(random_state, numbers.Integral):
        raise _refused("random_state", "a live generator changes with use", "Give an int")
    if params.get("callbacks"):
        raise _refused("callbacks", "they keep state between steps that is not stored", "Leave it out")
    if params.get("device") not in (None, "cpu"):
        raise _refused("device", "bits are only promised on the CPU", 'Use "cpu"')
    if "seed" in params:
        raise _refused("seed", "each step has its own seed, mixed with random_state", "Use random_state")
    if params.get("process_type") not in (None, "default"):
        raise _refused("process_type", "updating trees that are there would rewrite earlier steps", "Leave it out")
    objective = params.get("objective")
    if isinstance(objective, str) and objective.startswith(("rank:", "survival:aft")):
        raise _refused("objective", f"{objective} needs more than one target per row", "Use another objective")


def _refused(name: str, why: str, instead: str) -> CapabilityError:
    return CapabilityError(
        f"{name} cannot be kept while forgetting stays exact: {why}. {instead}; nothing was changed."
    )


def capabilities(model: XGBModel) -> Capabilities:
    """What a learner for this model can do."""
    from xgboost import XGBClassifier

    classifies = isinstance(model, XGBClassifier)
    why_single = _why_single(model)
    rounds = model.get_num_boosting_rounds()
    max_slices = 1 if why_single else max(1, rounds)
    objective = model.objective
    return Capabilities(
        task="classification" if classifies else "regression",
        resumable=not why_single,
        max_slices=max_slices,
        why_limited=why_single or f"each slice needs one of the {rounds} boosting rounds",
        recommended_slices=min(RECOMMENDED_SLICES, max_slices),
        probabilities=classifies and (callable(objective) or objective in PROBABILITIES),
        sample_weight=True,
        missing_values=True,
        sparse=True,
        multi_output=not classifies,
        frames=model.enable_categorical or _names_features(model),
        categorical=model.enable_categorical,
        unseen_categories="refused",
        parallel="threads",
        leaks=tuple(parameter_leaks(model, "estimator", learned=_learned(model))),
    )


def _learned(model: XGBModel) -> set[str]:
    """Parameters whose arrays are no constants; those that XGBoost does not know by name may be anything."""
    return {"feature_weights", *(getattr(model, "kwargs", None) or ())}


def _why_single(model: XGBModel) -> str:
    """Why the model has one slice only, or nothing."""
    from xgboost import XGBRFClassifier, XGBRFRegressor

    params = model.get_params()
    reasons = {
        "a random forest of XGBoost is a single boosting round": isinstance(model, XGBRFClassifier | XGBRFRegressor),
        "dart rescales the trees of earlier steps": params["booster"] == "dart",
        "a linear booster has no trees to add": params["booster"] == "gblinear",
        "early_stopping_rounds ends the training of the whole model": params["early_stopping_rounds"] is not None,
        "an updater of one's own may change trees of earlier steps": params.get("updater") is not None,
        "feature_types names categories without their vocabulary, which a later slice may extend": (
            "c" in (params["feature_types"] or ())
        ),
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def _names_features(model: XGBModel) -> bool:
    """Whether constraints call columns by their names, so that a frame must stay a frame."""
    groups = model.interaction_constraints
    named = isinstance(groups, list | tuple) and any(isinstance(name, str) for group in groups for name in group)
    return isinstance(model.monotone_constraints, dict) or named
