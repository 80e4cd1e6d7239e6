"""Parts of a model that come with what they learned elsewhere, and are not refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from unlearnkit.carried import components, is_fitted, parameter_leaks
from unlearnkit.learner import Leak

# Arrays that somebody has computed: nobody writes them by hand, as they do priors, knots or steps of a grid.
LEARNED = frozenset(
    {
        "code_init",
        "covariance_prior",
        "dict_init",
        "dictionary",
        "init",
        "inv_kw_args",
        "kw_args",
        "mean_prior",
        "means_init",
        "metric_params",
        "precisions_init",
        "w_init",
    }
)


def leaks(model: Any, where: str = "estimator") -> tuple[Leak, ...]:
    """All leaks of a model, which stays as it is.

    Examples
    --------
    >>> from sklearn.decomposition import SparseCoder
    >>> import numpy as np
    >>> [leak.part for leak in leaks(SparseCoder(np.eye(3)))]
    ['estimator.dictionary']
    """
    return tuple(_leaks(model, where))


def inner_leaks(inner: tuple[Leak, ...], index: int, name: str) -> tuple[Leak, ...]:
    """The leaks of the last step of a pipeline, whose learner calls it the estimator."""
    place = f"estimator.steps[{index}] {name!r}"
    return tuple(replace(leak, part=place + leak.part.removeprefix("estimator")) for leak in inner)


def _leaks(model: Any, where: str) -> Iterator[Leak]:
    for place, part in components(model, where):
        if _survives_clone(part):
            name = type(part).__name__
            yield Leak(
                place,
                f"a clone of this {name} keeps what it has learned, so that no shard fits one of its own",
                f"let clone give an unfitted {name}: leave out its __sklearn_clone__",
            )
        yield from parameter_leaks(part, place, LEARNED)


def _survives_clone(part: Any) -> bool:
    """Whether every shard would be handed this very object, or one that is fitted already."""
    from sklearn.base import BaseEstimator, clone

    own = getattr(type(part), "__sklearn_clone__", None)
    if own is None or own is BaseEstimator.__sklearn_clone__:
        return False
    copy = clone(part)
    return copy is part or is_fitted(copy)
