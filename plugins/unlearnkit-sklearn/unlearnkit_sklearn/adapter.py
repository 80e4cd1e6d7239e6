"""Which learner a scikit-learn model gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from unlearnkit.adapters import Resolve
from unlearnkit.errors import CapabilityError, UnsupportedModelError
from unlearnkit.learner import Capabilities, Learner
from unlearnkit_sklearn.base import SklearnLearner
from unlearnkit_sklearn.bayes import BayesLearner, CategoricalLearner, GaussianLearner
from unlearnkit_sklearn.boosting import BoostingLearner
from unlearnkit_sklearn.forests import BaggingLearner, ForestLearner
from unlearnkit_sklearn.linear import LinearLearner
from unlearnkit_sklearn.params import is_estimator
from unlearnkit_sklearn.perceptrons import PerceptronsLearner
from unlearnkit_sklearn.pipelines import wrap_pipeline
from unlearnkit_sklearn.refusals import refuse_inexact
from unlearnkit_sklearn.tags import capabilities
from unlearnkit_sklearn.whole import WholeLearner

ONLY_FIT = "it can only be fitted anew, not trained on"
REBINNED = "a warm start bins the rows anew and reads the old trees by the new bins"
EXPLODES = "trees that go on from a small first slice meet gradients that they cannot hold back"


@dataclass(frozen=True)
class Kind:
    """A learner that can take more than one slice, and when it cannot.

    Attributes
    ----------
    learner : type
    obstacle : callable
        The reason why these parameters allow one slice only; empty if they do not.
    sized : bool
        Whether each step needs one of ``n_estimators``.
    slices : int
        The recommended number.
    parallel : {"threads", "processes"}
    """

    learner: type[SklearnLearner]
    obstacle: Callable[[Any], str] = lambda _: ""
    sized: bool = False
    slices: int = 5
    parallel: Any = "processes"


def _linear_obstacle(model: Any) -> str:
    return "early_stopping=True holds rows out, which only fit does" if model.early_stopping else ""


def _perceptron_obstacle(model: Any) -> str:
    if model.solver == "lbfgs":
        return "solver='lbfgs' trains on all rows at once"
    return _linear_obstacle(model)


def _forest_obstacle(model: Any) -> str:
    return "oob_score needs all trees to be grown on the same rows" if model.oob_score else ""


def _boosting_obstacle(model: Any) -> str:
    return "n_iter_no_change holds rows out, which would be others in each step" if model.n_iter_no_change else ""


LINEAR = Kind(LinearLearner, _linear_obstacle)
PERCEPTRONS = Kind(PerceptronsLearner, _perceptron_obstacle)
BAYES = Kind(BayesLearner)
FOREST = Kind(ForestLearner, _forest_obstacle, sized=True, parallel="threads")
BAGGING = Kind(BaggingLearner, _forest_obstacle, sized=True)

KINDS = {
    "sklearn.linear_model._stochastic_gradient.SGDClassifier": LINEAR,
    "sklearn.linear_model._stochastic_gradient.SGDRegressor": LINEAR,
    "sklearn.linear_model._perceptron.Perceptron": LINEAR,
    "sklearn.linear_model._passive_aggressive.PassiveAggressiveClassifier": LINEAR,
    "sklearn.linear_model._passive_aggressive.PassiveAggressiveRegressor": LINEAR,
    "sklearn.neural_network._multilayer_perceptron.MLPClassifier": PERCEPTRONS,
    "sklearn.neural_network._multilayer_perceptron.MLPRegressor": PERCEPTRONS,
    "sklearn.naive_bayes.GaussianNB": Kind(GaussianLearner),
    "sklearn.naive_bayes.CategoricalNB": Kind(CategoricalLearner),
    "sklearn.naive_bayes.MultinomialNB": BAYES,
    "sklearn.naive_bayes.BernoulliNB": BAYES,
    "sklearn.naive_bayes.ComplementNB": BAYES,
    "sklearn.ensemble._forest.RandomForestClassifier": FOREST,
    "sklearn.ensemble._forest.RandomForestRegressor": FOREST,
    "sklearn.ensemble._forest.ExtraTreesClassifier": FOREST,
    "sklearn.ensemble._forest.ExtraTreesRegressor": FOREST,
    "sklearn.ensemble._bagging.BaggingClassifier": BAGGING,
    "sklearn.ensemble._bagging.BaggingRegressor": BAGGING,
    "sklearn.ensemble._gb.GradientBoostingRegressor": Kind(BoostingLearner, _boosting_obstacle, sized=True),
}


def wrap(model: Any, resolve: Resolve) -> Learner[Any]:
    """The learner for a scikit-learn estimator.

    Raises
    ------
    UnsupportedModelError
        If it is no classifier and no regressor.
    CapabilityError
        If a parameter could not keep its meaning.
    """
    from sklearn.base import is_classifier, is_regressor
    from sklearn.pipeline import Pipeline

    if is_estimator(model):
        if type(model) is Pipeline:
            refuse_inexact(model, last=model.steps[-1][0])
            return wrap_pipeline(model, resolve)
        refuse_inexact(model)
        if is_classifier(model) or is_regressor(model):
            _refuse_multi_output(model)
            return _wrap_predictor(model)
    name = model.__name__ if isinstance(model, type) else type(model).__name__
    raise UnsupportedModelError(
        f"{name} is not an instance of a classifier or regressor of scikit-learn; nothing was changed. "
        "Give an unfitted estimator, or a pipeline that ends with one."
    )


def _refuse_multi_output(model: Any) -> None:
    from sklearn.base import is_classifier
    from sklearn.utils import get_tags

    if is_classifier(model) and not get_tags(model).target_tags.single_output:
        raise CapabilityError(
            f"{type(model).__name__} classifies several targets at once, which unlearnkit does not. "
            "Nothing was changed. Wrap one classifier for each target."
        )


def _wrap_predictor(model: Any) -> Learner[Any]:
    # By the exact type: what a subclass overrides is unknown, so it is only ever fitted.
    kind = KINDS.get(f"{type(model).__module__}.{type(model).__qualname__}")
    base = capabilities(model)
    if kind is None:
        return WholeLearner(model, replace(base, max_slices=1, why_limited=why_whole(model)))
    obstacle = kind.obstacle(model)
    if obstacle:
        return kind.learner(model, replace(base, max_slices=1, why_limited=obstacle, parallel=kind.parallel))
    return kind.learner(model, _sliced(base, kind, model))


def _sliced(base: Capabilities, kind: Kind, model: Any) -> Capabilities:
    limit = model.n_estimators if kind.sized else None
    return replace(
        base,
        resumable=True,
        max_slices=limit,
        why_limited="each slice needs one of n_estimators" if kind.sized else "",
        recommended_slices=kind.slices if limit is None else min(kind.slices, limit),
        parallel=kind.parallel,
    )


def why_whole(model: Any) -> str:
    """Why a model has one slice."""
    name = type(model).__name__
    if name.startswith("HistGradientBoosting"):
        return REBINNED
    return EXPLODES if name == "GradientBoostingClassifier" else ONLY_FIT
