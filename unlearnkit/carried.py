"""What the parameters of a model carry into every training: fitted models, weights, rows, computed arrays.

A learner trains a clone of the user's model, and a clone is unfitted. But functions, partial functions and plain
objects are copied as they are, and what they hold then comes from records that no shard answers for.
"""

from __future__ import annotations

import dis
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from unlearnkit.fingerprints import MAX_DEPTH, is_library
from unlearnkit.learner import Leak

# The user's own figures about the classes, whatever they are written in.
_CONSTANTS = frozenset({"class_prior", "class_weight", "priors"})
_CONTAINERS = (list, tuple, set, frozenset)
_PLAIN = (type(None), bool, int, float, complex, str, bytes, range, slice, np.generic, np.dtype, types.ModuleType)


def is_estimator(value: object) -> bool:
    """Whether `value` is an estimator and no class."""
    return callable(getattr(value, "get_params", None)) and not isinstance(value, type)


def needs_fit(model: Any) -> bool:
    """Whether an estimator learns anything when it is fitted, as its tags tell."""
    return not hasattr(model, "__sklearn_tags__") or bool(model.__sklearn_tags__().requires_fit)


def is_fitted(model: Any) -> bool:
    """Whether an estimator has learned something."""
    if hasattr(model, "__sklearn_is_fitted__"):
        return needs_fit(model) and bool(model.__sklearn_is_fitted__())
    return any(name.endswith("_") and not name.startswith("__") for name in getattr(model, "__dict__", ()))


def children(model: Any, where: str) -> Iterator[tuple[str, str, Any]]:
    """The estimators among the parameters of a model: the parameter, the place as the user would write it, and they.

    Examples
    --------
    >>> from sklearn.pipeline import Pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> pipeline = Pipeline([("scale", StandardScaler()), ("rest", "passthrough")])
    >>> list(children(pipeline, "model"))
    [('steps', "model.steps[0] 'scale'", StandardScaler())]
    """
    for name, value in sorted(model.get_params(deep=False).items()):
        for place, child in _estimators(value, f"{where}.{name}"):
            yield name, place, child


def _estimators(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    if is_estimator(value):
        yield where, value
    elif isinstance(value, Mapping):
        for key in value:
            yield from _estimators(value[key], f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _estimators(*_named(item, f"{where}[{i}]"))


def _named(item: Any, where: str) -> tuple[Any, str]:
    """An item of a list of steps under its own name, too."""
    if isinstance(item, tuple) and len(item) > 1 and isinstance(item[0], str) and is_estimator(item[1]):
        return item[1], f"{where} {item[0]!r}"
    return item, where


def components(model: Any, where: str) -> Iterator[tuple[str, Any]]:
    """A model and all estimators inside it, each with its place as the user would write it."""
    yield where, model
    for _, place, child in children(model, where):
        yield from components(child, place)


def parameter_leaks(model: Any, where: str, learned: Iterable[str] = ()) -> Iterator[Leak]:
    """What the parameters of one estimator carry; the estimators among them are left to `components`.

    Parameters
    ----------
    model : estimator
        Anything with ``get_params``.
    where : str
        Its place as the user would write it.
    learned : iterable of str
        Parameters in which an array is the outcome of a computation, not a constant. Those of a class of the user's
        own all are.

    Examples
    --------
    >>> from sklearn.preprocessing import FunctionTransformer, StandardScaler
    >>> scaler = StandardScaler().fit([[0.0], [1.0]])
    >>> [leak.part for leak in parameter_leaks(FunctionTransformer(scaler.transform), "estimator")]
    ['estimator.func']
    """
    names = frozenset(learned)
    for name, value in sorted(model.get_params(deep=False).items()):
        arrays = name in names or (name not in _CONSTANTS and not is_library(type(model).__module__))
        yield from value_leaks(value, f"{where}.{name}", arrays=arrays)


def value_leaks(value: Any, where: str, *, arrays: bool = False) -> Iterator[Leak]:
    """What the value of one parameter carries; estimators that a clone reaches in it are left out.

    Parameters
    ----------
    value : object
    where : str
        Its place as the user would write it.
    arrays : bool
        Whether arrays are told of outside functions and objects, too.
    """
    return _Walk(arrays).parameter(value, where)


@dataclass
class _Walk:
    """One walk through the value of a parameter.

    Attributes
    ----------
    arrays : bool
        Whether arrays are told of outside functions and objects.
    seen : dict
        Values that were looked at, by their ids.
    """

    arrays: bool
    seen: dict[int, Any] = field(default_factory=dict)

    def parameter(self, value: Any, where: str) -> Iterator[Leak]:
        """A value as far as a clone reaches into it: estimators there come back unfitted."""
        if is_estimator(value):
            return
        if isinstance(value, Mapping):
            for key in value:
                yield from self.parameter(value[key], f"{where}[{key!r}]")
        elif isinstance(value, _CONTAINERS):
            for i, item in enumerate(value):
                yield from self.parameter(item, f"{where}[{i}]")
        elif self.arrays or not _is_array(value):
            yield from self.held(value, where)

    def held(self, value: Any, where: str, depth: int = 0) -> Iterator[Leak]:
        """A value that comes along as it is."""
        if isinstance(value, _PLAIN) or id(value) in self.seen or depth > MAX_DEPTH:
            return
        self.seen[id(value)] = value
        leak = _told(value, where)
        if leak is not None:
            yield leak
            return
        for place, inside in _inside(value, where):
            yield from self.held(inside, place, depth + 1)


def _told(value: Any, where: str) -> Leak | None:  # noqa: PLR0911 - one branch for each kind of value
    """The leak that a value is by itself."""
    name = type(value).__name__
    if isinstance(value, type | types.FunctionType | types.MethodType | partial):
        return None
    if is_estimator(value):
        return fitted(where, name) if is_fitted(value) else None
    if callable(getattr(value, "state_dict", None)):
        return weights(where, f"the weights of a {name}")
    if _is_array(value):
        return computed(where, name)
    if callable(getattr(value, "predict", None)):
        return weights(where, f"a {name}")
    if hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, (*_CONTAINERS, Mapping)):
        return rows(where, name)
    return None


def _is_array(value: object) -> bool:
    """Whether it is an array, a frame, a tensor or a sparse matrix."""
    return not isinstance(value, type) and (hasattr(value, "__array__") or hasattr(value, "toarray"))


def fitted(where: str, name: str) -> Leak:
    """The leak of a model that was fitted before."""
    return Leak(
        where,
        f"it holds a {name} that was fitted before, on records that no shard answers for",
        f"make an unfitted {name} a part of the estimator, so that each shard fits its own",
    )


def weights(where: str, what: str) -> Leak:
    """The leak of what was trained elsewhere and is the beginning here."""
    return Leak(
        where,
        f"it brings {what} from a training before or elsewhere",
        "let training begin anew, or, if that training saw public data alone, give its model as base=",
    )


def computed(where: str, name: str) -> Leak:
    """The leak of numbers that may have been computed from records."""
    return Leak(
        where,
        f"it holds numbers ({name}) from outside, and what was computed from records still tells of them",
        "let each shard compute them, such as in the fit of a transformer inside the estimator, or write them as a "
        "plain list if no record went into them",
    )


def rows(where: str, name: str) -> Leak:
    """The leak of rows that come along."""
    return Leak(
        where,
        f"it holds a {name} with rows of its own, which training would look at whatever is forgotten",
        "leave it out, or have rows held out inside each shard",
    )


def _inside(  # noqa: PLR0911 - one branch for each kind of value
    value: Any, where: str
) -> Iterable[tuple[str, Any]]:
    """What a value is made of, under its places."""
    if isinstance(value, Mapping):
        return [(f"{where}[{key!r}]", value[key]) for key in value]
    if isinstance(value, _CONTAINERS):
        return [(f"{where}[{i}]", item) for i, item in enumerate(value)]
    if isinstance(value, partial):
        named = [(f"{where} (its argument {name!r})", item) for name, item in value.keywords.items()]
        return [(where, value.func), *((f"{where} (its arguments)", item) for item in value.args), *named]
    if isinstance(value, types.MethodType):
        return [(where, value.__self__), (where, value.__func__)]
    if isinstance(value, types.FunctionType):
        return _of_function(value, where)
    if isinstance(value, type):
        own = {} if is_library(value.__module__) else vars(value)
        return [(f"{where} ({name})", item) for name, item in own.items() if isinstance(item, types.FunctionType)]
    if is_estimator(value):
        return [(f"{where}.{name}", item) for name, item in value.get_params(deep=False).items()]
    return [(f"{where}.{name}", item) for name, item in (getattr(value, "__dict__", None) or {}).items()]


def _of_function(function: types.FunctionType, where: str) -> Iterator[tuple[str, Any]]:
    """What a function of the user's own holds, and what it calls by name."""
    if is_library(function.__module__):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        # A name that is bound later, such as that of a function in itself, has an empty cell.
        for content in _contents(cell):
            yield f"{where} (its variable {name!r})", content
    for name, default in _defaults(function).items():
        yield f"{where} (its default {name!r})", default
    for name in sorted(_globals(function.__code__) & function.__globals__.keys()):
        yield f"{where} (the global {name!r})", function.__globals__[name]


def _defaults(function: types.FunctionType) -> dict[str, Any]:
    given = function.__defaults__ or ()
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return {**dict(zip(reversed(names), reversed(given), strict=False)), **(function.__kwdefaults__ or {})}


def _contents(cell: types.CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:
        return []


def _globals(code: types.CodeType) -> set[str]:
    # By instruction: the names of a code object are those of attributes, too.
    names = {str(i.argval) for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    inner = [_globals(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return names.union(*inner)
