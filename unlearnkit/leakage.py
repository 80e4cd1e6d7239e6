"""Leak guards: what sees records before or after the shards do, so that forgetting in the shards does not reach it.

A learner knows of the leaks inside the wrapped model (`unlearnkit.learner.Leak`), and `fit` warns of them.
`check_pipeline` looks at what the user has built around a SISA estimator.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from unlearnkit.carried import children, components, fitted, is_estimator, needs_fit, parameter_leaks, value_leaks
from unlearnkit.errors import LeakageWarning, ParameterError
from unlearnkit.fingerprints import is_library
from unlearnkit.learner import Leak

# They train what they hold on all the rows that they are given, and learn nothing else.
_TRANSPARENT = frozenset(
    {
        "Pipeline",
        "ColumnTransformer",
        "FeatureUnion",
        "FixedThresholdClassifier",
        "FrozenEstimator",
        "MultiOutputClassifier",
        "MultiOutputRegressor",
        "OneVsRestClassifier",
        "TransformedTargetRegressor",
        "VotingClassifier",
        "VotingRegressor",
    }
)
_CONTAINERS = ("steps", "transformers", "transformer_list")
_SEARCHES = ("param_grid", "param_distributions", "search_spaces")


def warn(leaks: Iterable[Leak], stacklevel: int = 2) -> None:
    """Issue a `LeakageWarning` for each leak.

    Parameters
    ----------
    leaks : iterable of Leak
    stacklevel : int
        1 is the caller of this function, 2 whoever called that.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn([Leak("estimator.steps[0] 'scale'", "it was fitted before", "fit it inside")])
    >>> print(caught[0].message)
    estimator.steps[0] 'scale': it was fitted before. Forgetting a record does not reach what this part has of it, so \
the model is not what training without the record gives. Fit it inside.
    """
    for leak in leaks:
        text = (
            f"{leak.part}: {leak.why}. Forgetting a record does not reach what this part has of it, so the model is "
            f"not what training without the record gives. {leak.remedy[:1].upper()}{leak.remedy[1:]}."
        )
        warnings.warn(text, LeakageWarning, stacklevel=stacklevel + 1)


def check_pipeline(model: Any) -> tuple[Leak, ...]:
    """What around a SISA estimator, or inside it, learns from records that forgetting will not reach.

    Looks at parameters only: nothing is fitted or changed. It cannot see what was done to the data before, nor what a
    function reads from files or from attributes of modules.

    Parameters
    ----------
    model : estimator
        A pipeline, search, ensemble or other model with a `SISAClassifier` or `SISARegressor` somewhere inside,
        fitted or not; or one of these itself.

    Returns
    -------
    tuple of Leak
        One for each part; empty if nothing was found.

    Raises
    ------
    ParameterError
        If there is no SISA estimator in it.
    UnlearnKitError
        If a wrapped model cannot be wrapped at all, as `fit` would say.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from unlearnkit import SISAClassifier
    >>> [leak.part for leak in check_pipeline(make_pipeline(StandardScaler(), SISAClassifier(LogisticRegression())))]
    ["model.steps[0] 'standardscaler'"]
    >>> check_pipeline(SISAClassifier(make_pipeline(StandardScaler(), LogisticRegression())))
    ()
    """
    if not is_estimator(model) or not _holds_sisa(model):
        raise ParameterError(
            f"There is no SISAClassifier or SISARegressor in this {type(model).__name__}; nothing was looked at. "
            "Wrap the model that learns: SISAClassifier(model), or unlearnkit.wrap(model)."
        )
    return tuple(_around(model, "model"))


def _around(model: Any, where: str) -> Iterator[Leak]:
    """The leaks of a model that holds a SISA estimator, or is one."""
    if _is_sisa(model):
        yield from _own(model, where)
        return
    yield from _by_itself(model, where)
    yield from parameter_leaks(model, where)
    sisa = _first_sisa(model)
    for parameter, place, child in children(model, where):
        if parameter in _SEARCHES and _goes_inside(model, place.removeprefix(f"{where}.{parameter}")):
            continue
        if _holds_sisa(child):
            yield from _around(child, place)
        elif parameter == "estimator":
            # What the candidates of a search take their places in; of its own, it stays unfitted.
            steps = [(inside, step) for _, inside, step in children(child, place) if not hasattr(step, "predict")]
            for inside, step in steps:
                yield from _beside(step, inside, _Wish(sisa, step))
        elif parameter != "final_estimator":
            yield from _beside(child, place, _Wish(sisa, child))


def _own(sisa: Any, where: str) -> Iterator[Leak]:
    """What the learner of a SISA estimator knows of, and what its rule of aggregation carries."""
    for leak in sisa._learner().capabilities.leaks:  # noqa: SLF001
        yield replace(leak, part=f"{where}.{leak.part}")
    yield from value_leaks(sisa.aggregation, f"{where}.aggregation")


def _by_itself(model: Any, where: str) -> Iterator[Leak]:
    """What a model around a SISA estimator learns or keeps, its parts left aside."""
    yield from _cache(model, where)
    name, wish = type(model).__name__, _Wish(_first_sisa(model), model)
    if any(hasattr(model, grid) for grid in _SEARCHES):
        yield Leak(
            where,
            f"{name} chooses parameters by all records, and the choice stays when one of them is forgotten",
            f"search anew after forgetting, or inside each shard: {wish.sisa}({name}({wish.inner}(...), ...))",
        )
    elif _has_kind(model, "CalibratedClassifierCV", "TunedThresholdClassifierCV"):
        what = "calibration" if _has_kind(model, "CalibratedClassifierCV") else "threshold"
        yield Leak(
            where,
            f"{name} fits a {what} to predictions for all records, outside the shards",
            f"put it inside: {wish.sisa}({name}({wish.inner}(...)))",
        )
    elif hasattr(model, "final_estimator"):
        if model.final_estimator is not None and _holds_sisa(model.final_estimator):
            return
        yield Leak(
            f"{where}.final_estimator",
            "it is trained on predictions for all records, outside the shards",
            f"put the stack inside: {wish.sisa}({name}([...]))",
        )
    elif not _has_kind(model, *_TRANSPARENT) and not hasattr(model, "steps"):
        yield Leak(
            where,
            f"{name} may train its parts on rows or weights that depend on all records, or learn from what they "
            "predict",
            f"put it inside: {wish.sisa}({name}({wish.inner}(...)))",
        )


class _Wish:
    """The words of a remedy: how it is written with a part inside the shards.

    Parameters
    ----------
    sisa : SISAClassifier or SISARegressor
    part : estimator
    """

    def __init__(self, sisa: Any, part: Any) -> None:
        self.sisa = type(sisa).__name__
        self.inner = type(sisa._model()).__name__  # noqa: SLF001
        self.part = type(part).__name__

    def piped(self) -> str:
        """With the part as a step before the model."""
        if self.inner == "Pipeline":
            return f"make {self.part}(...) a step of the pipeline in {self.sisa}(Pipeline([...]))"
        return f"fit it inside each shard: {self.sisa}(make_pipeline({self.part}(...), {self.inner}(...)))"


def _beside(part: Any, where: str, wish: _Wish) -> Iterator[Leak]:
    """The leaks of a part without a SISA estimator, which sees all the rows that the shards will see."""
    yield from _cache(part, where)
    if any(hasattr(part, name) for name in _CONTAINERS) and not hasattr(part, "predict"):
        yield from parameter_leaks(part, where)
        for _, place, child in children(part, where):
            yield from _beside(child, place, wish)
    elif hasattr(part, "fit_resample"):
        yield Leak(
            where,
            f"{type(part).__name__} draws or makes rows by looking at all records, under ids of none",
            f"leave it out, and weigh the classes by class_weight of the {wish.inner}, or rows by sample_weight",
        )
    elif not _learns_nothing(part):
        yield _learner_outside(part, where, wish)
    else:
        yield from parameter_leaks(part, where, learned={"kw_args", "inv_kw_args"})


def _learner_outside(part: Any, where: str, wish: _Wish) -> Leak:
    name = type(part).__name__
    if _has_kind(part, "FrozenEstimator"):
        return fitted(where, type(part.estimator).__name__)
    why = f"{name} is fitted on all records at once, outside the shards"
    if hasattr(part, "predict") and not hasattr(part, "transform"):
        return Leak(where, why, f"wrap it too: {wish.sisa}({name}(...))")
    if where.endswith(".transformer"):
        inside = f"{wish.sisa}(TransformedTargetRegressor({wish.inner}(...), transformer={name}(...)))"
        return Leak(where, why, f"transform the target inside each shard: {inside}")
    tag = "" if is_library(type(part).__module__) else "; or give it the tag requires_fit=False if it learns nothing"
    return Leak(where, why, wish.piped() + tag)


def _learns_nothing(part: Any) -> bool:
    """Whether fitting it leaves nothing of the rows: by its tags, or by parameters that say all beforehand."""
    if not needs_fit(part) or _has_kind(part, "PolynomialFeatures"):
        return True
    given = part.get_params(deep=False)
    if _has_kind(part, "OneHotEncoder", "OrdinalEncoder"):
        counted = any(given.get(name) is not None for name in ("drop", "min_frequency", "max_categories"))
        return not isinstance(given["categories"], str) and not counted
    return type(part).__name__ == "CountVectorizer" and given["vocabulary"] is not None


def _cache(model: Any, where: str) -> Iterator[Leak]:
    if getattr(model, "memory", None) is not None:
        yield Leak(
            f"{where}.memory",
            "the cache keeps rows and fitted parts in files, where forgetting does not look",
            "set memory=None, and delete the folder",
        )


def _goes_inside(search: Any, place: str) -> bool:
    """Whether a candidate at this place of a grid takes a place inside the SISA estimator."""
    key = place.split("'")[1]
    inner = {"": search.estimator, **search.estimator.get_params(deep=True)}
    prefixes = ["__".join(key.split("__")[:i]) for i in range(key.count("__") + 1)]
    return any(_is_sisa(inner.get(prefix)) for prefix in prefixes)


def _has_kind(model: Any, *names: str) -> bool:
    """Whether it is of one of these classes of scikit-learn, or derives from one."""
    own = [cls for cls in type(model).__mro__ if cls.__module__.partition(".")[0] == "sklearn"]
    return any(cls.__qualname__ in names for cls in own)


def _is_sisa(value: Any) -> bool:
    # By name: the estimators stand floors above.
    return any(f"{cls.__module__}:{cls.__qualname__}" == "unlearnkit.base:SISAModel" for cls in type(value).__mro__)


def _first_sisa(model: Any) -> Any:
    return next(part for _, part in components(model, "model") if _is_sisa(part))


def _holds_sisa(model: Any) -> bool:
    return any(_is_sisa(part) for _, part in components(model, "model"))
