"""Training the trees of one step, on the scores of those before it."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from unlearnkit.errors import ParameterError
from unlearnkit.learner import Batch, Step
from unlearnkit.typing import AnyArray, FloatArray
from unlearnkit_catboost.matrix import Matrix
from unlearnkit_catboost.settings import Settings

if TYPE_CHECKING:
    from catboost import CatBoost

# What CatBoost says of rows that no tree can tell apart.
_NOTHING_TO_LEARN = (
    "All features are either constant or ignored",
    "All train targets are equal",
    "Too few sampling units",
)


class Share:
    """Stops after so many trees.

    A step is trained as the start of a model with all of them: a learning rate that CatBoost chooses by their number
    is then that of the whole model.
    """

    def __init__(self, trees: int) -> None:
        self.trees = trees

    def after_iteration(self, info: SimpleNamespace) -> bool:
        """Whether to go on; called by CatBoost."""
        done: int = info.iteration
        return done < self.trees


def boosted(settings: Settings, batch: Batch, step: Step, X: Matrix, scores: FloatArray | None) -> CatBoost | None:
    """The trees of this step, or None where there is nothing to tell the rows apart by."""
    from catboost import CatBoostError

    share = step.units(settings.iterations)
    model = settings.native(_parameters(settings, batch, step, share, first=scores is None))
    pool = X.pool(label=batch.y, weight=batch.sample_weight, baseline=scores)
    try:
        model.fit(pool, callbacks=None if step.whole else [Share(share)])
    except CatBoostError as error:
        if any(text in str(error) for text in _NOTHING_TO_LEARN):
            return None
        raise
    return model


def _parameters(settings: Settings, batch: Batch, step: Step, share: int, *, first: bool) -> dict[str, Any]:
    changed: dict[str, Any] = {
        "iterations": max(settings.iterations, share),
        "random_seed": step.seeded(settings.seed),
        "thread_count": 1,
        "logging_level": "Silent",
        "allow_writing_files": False,
    }
    if not first:
        changed["boost_from_average"] = False
    weights = settings.parameters.get("class_weights")
    if isinstance(weights, Mapping) and batch.classes is not None:
        changed["class_weights"] = _by_code(weights, batch.classes)
    return settings.parameters | changed


def _by_code(weights: Mapping[Any, float], classes: AnyArray) -> list[float]:
    missing = [label for label in classes.tolist() if label not in weights]
    if missing:
        raise ParameterError(
            f"class_weights gives no weight for {len(missing)} of the classes; nothing was changed. "
            "Give one for each label."
        )
    return [float(weights[label]) for label in classes.tolist()]
