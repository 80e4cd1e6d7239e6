"""What is read off a CatBoost estimator once, when it is wrapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unlearnkit.errors import UnsupportedModelError
from unlearnkit.learner import Capabilities
from unlearnkit.typing import Task
from unlearnkit_catboost.losses import SEVERAL_TARGETS, VOTES, checked_loss
from unlearnkit_catboost.parameters import DEFAULT_ITERATIONS, canonical, why_whole

if TYPE_CHECKING:
    from catboost import CatBoost

RECOMMENDED_SLICES = 5
_OWN_METHODS = ("fit", "predict", "predict_proba", "_fit", "_predict")


@dataclass(frozen=True)
class Settings:
    """A model's parameters under CatBoost's own names, without those that change nothing.

    Attributes
    ----------
    task : {"classification", "regression"}
    parameters : dict
    loss : str
        The name of the loss, or nothing for CatBoost's choice.
    threads : int
        For predictions; never changes a bit.
    """

    task: Task
    parameters: dict[str, Any]
    loss: str
    threads: int

    @property
    def iterations(self) -> int:
        """The trees (of each class) of the whole model."""
        return int(self.parameters.get("iterations", DEFAULT_ITERATIONS))

    @property
    def seed(self) -> int | None:
        """The model's own seed."""
        return self.parameters.get("random_seed")

    @property
    def cat_features(self) -> tuple[str | int, ...]:
        """Columns that are categories though their dtype does not say so."""
        return tuple(self.parameters.get("cat_features", ()))

    @property
    def why_whole(self) -> str:
        """Why the model has one slice only, or nothing."""
        if self.loss == SEVERAL_TARGETS:
            return "CatBoost does not train on from scores for several targets"
        return why_whole(self.parameters)

    @property
    def capabilities(self) -> Capabilities:
        """What a learner for this model can do."""
        whole, rounds = self.why_whole, self.iterations
        return Capabilities(
            task=self.task,
            resumable=not whole,
            max_slices=1 if whole else rounds,
            why_limited=whole or f"each slice needs one of the {rounds} trees",
            recommended_slices=1 if whole else min(RECOMMENDED_SLICES, rounds),
            probabilities=self.task == "classification" and self.loss != VOTES,
            sample_weight=True,
            missing_values=True,
            sparse=True,
            multi_output=self.loss == SEVERAL_TARGETS,
            frames=True,
            categorical=True,
            unseen_categories="kept",
            parallel="threads",
        )

    def native(self, parameters: Mapping[str, Any]) -> CatBoost:
        """A native model with these parameters."""
        from catboost import CatBoostClassifier, CatBoostRegressor

        kind = CatBoostClassifier if self.task == "classification" else CatBoostRegressor
        # Categories are named by the pool.
        return kind(**{name: value for name, value in parameters.items() if name != "cat_features"})


def read(model: CatBoost) -> Settings:
    """The settings of an estimator, which stays as it is.

    Raises
    ------
    UnsupportedModelError
        For a ranker, a bare ``CatBoost``, or a subclass that trains or predicts in its own way.
    CapabilityError
        For a parameter that could not keep its meaning.
    """
    task, given = _task(model), model.get_params()
    parameters = canonical(given)
    threads = given.get("thread_count")
    return Settings(
        task, parameters, checked_loss(parameters.get("loss_function"), task), -1 if threads is None else threads
    )


def _task(model: CatBoost) -> Task:
    from catboost import CatBoostClassifier, CatBoostRegressor

    kinds: tuple[tuple[type, Task], ...] = (
        (CatBoostClassifier, "classification"),
        (CatBoostRegressor, "regression"),
    )
    for kind, task in kinds:
        if isinstance(model, kind):
            own = [n for n in _OWN_METHODS if getattr(type(model), n, None) is not getattr(kind, n, None)]
            if own:
                raise _unsupported(model, f"has a {own[0]} of its own, which would not be called")
            return task
    raise _unsupported(model, "is neither a CatBoostClassifier nor a CatBoostRegressor")


def _unsupported(model: object, reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{type(model).__qualname__} {reason}; nothing was changed. Pass a CatBoostClassifier or a CatBoostRegressor."
    )
