"""Parameters at every depth of an estimator: seeds, threads and copies set so that a step is a pure function."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from typing import Any

from unlearnkit.learner import Step
from unlearnkit.typing import AnyArray

GRIDS = frozenset({"param_grid", "param_distributions"})
COPIES = frozenset({"copy", "copy_X", "copy_X_train"})


def last_name(path: str) -> str:
    """The parameter at the end of a nested name.

    Examples
    --------
    >>> last_name("pipeline__ridge__alpha")
    'alpha'
    """
    return path.rpartition("__")[2]


def is_estimator(value: object) -> bool:
    """Whether `value` is an estimator and no class."""
    return hasattr(value, "get_params") and not isinstance(value, type)


def components(model: Any) -> Iterator[tuple[str, Any]]:
    """The estimator itself and all estimators among its parameters, with their nested names."""
    yield "", model
    params = model.get_params(deep=True)
    for path in sorted(params):
        if is_estimator(params[path]):
            yield path, params[path]
        elif last_name(path) in GRIDS:
            for candidate in _candidates(params[path]):
                yield path, candidate


def _candidates(grid: Any) -> Iterator[Any]:
    """The estimators that a search tries in place of a part."""
    if is_estimator(grid):
        for _, component in components(grid):
            yield component
    elif isinstance(grid, dict):
        for key in sorted(grid):
            yield from _candidates(grid[key])
    elif isinstance(grid, list | tuple):
        for value in grid:
            yield from _candidates(value)


def mixed(seed: int, name: object) -> int:
    """A seed below 2**31 for one of the things that draw from `seed`."""
    text = f"{seed}:{name}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") % 2**31


def pin(model: Any, step: Step, y: AnyArray) -> None:
    """Set what would leave the result of a training open: seeds, threads, and writing into the given rows.

    Parameters
    ----------
    model : estimator
        Changed in place.
    step : Step
        For its seed.
    y : ndarray
        The targets of the prefix.
    """
    params = model.get_params(deep=True)
    changes = {path: new for path in sorted(params) if (new := _pinned(path, params[path], step)) is not params[path]}
    model.set_params(**changes)
    for path, component in components(model):
        if type(component).__name__ == "TargetEncoder":
            _seed_folds(path, component, step, y)


def _seed_folds(path: str, encoder: Any, step: Step, y: AnyArray) -> None:
    """Since scikit-learn 1.9 the encoder's own folds come from numpy's global generator."""
    from sklearn.model_selection import KFold, StratifiedKFold
    from sklearn.utils.multiclass import type_of_target

    own = (getattr(encoder, "shuffle", ""), encoder.get_params().get("random_state"))
    if isinstance(encoder.cv, int) and own == ("deprecated", "deprecated"):
        kind = type_of_target(y) if encoder.target_type == "auto" else encoder.target_type
        folds = KFold if kind == "continuous" else StratifiedKFold
        encoder.set_params(cv=folds(encoder.cv, shuffle=True, random_state=_seed(f"{path}__cv", None, step)))


def _pinned(path: str, value: Any, step: Step) -> Any:
    name = last_name(path)
    if name == "random_state" and (value is None or isinstance(value, int)):
        return _seed(path, value, step)
    if name == "n_jobs":
        # None, not 1: some estimators warn of any other value; the sequential backend around the call means 1.
        return None
    if name in COPIES and value is False:
        return True
    if name in GRIDS:
        return _pinned_grid(value, step)
    return _pinned_splitter(path, value, step)


def _seed(path: str, value: int | None, step: Step) -> int:
    seed = step.seeded(value)
    return seed if path == "random_state" else mixed(seed, path)


def _pinned_splitter(path: str, value: Any, step: Step) -> Any:
    """Seed a cross-validation splitter (no estimator), which would draw from numpy's global generator."""
    if is_estimator(value) or not getattr(value, "shuffle", True) or getattr(value, "random_state", "") is not None:
        return value
    seeded = copy.copy(value)
    seeded.random_state = _seed(path, None, step)
    return seeded


def _pinned_grid(value: Any, step: Step) -> Any:
    if is_estimator(value):
        # A candidate of a search, which takes the place of a part. Its own seeds are all that it brings along.
        pinned = copy.deepcopy(value)
        params = pinned.get_params(deep=True)
        return pinned.set_params(**{path: _pinned(path, params[path], step) for path in sorted(params)})
    if isinstance(value, dict):
        return {key: _pinned_grid(item, step) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_pinned_grid(item, step) for item in value)
    return value
