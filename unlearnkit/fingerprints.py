"""Fingerprints: one digest over the parameters of a model and the code that they name.

Two models with equal fingerprints train alike; a changed parameter or a changed user function gives another one.
"""

from __future__ import annotations

import hashlib
import inspect
import site
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np

from unlearnkit.errors import ParameterError

NEUTRAL = frozenset({"verbose", "n_jobs"})
MAX_DEPTH = 100
"""Levels of parameters within parameters, far above what any model has."""
_LIBRARY_PATHS = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), *site.getsitepackages()})


def fingerprint(model: object, *, neutral: Iterable[str] = NEUTRAL) -> str:
    """A hex digest over all parameters of `model`, and over the code of user functions and classes among them.

    Parameters
    ----------
    model : object
        Anything with ``get_params``; nested models, containers, arrays, functions and classes are followed.
    neutral : iterable of str
        Parameters that never change a result, left out at every depth.

    Raises
    ------
    ParameterError
        For a live random generator (it changes with use), or a value with no stable description.

    Examples
    --------
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> fingerprint(DecisionTreeClassifier()) == fingerprint(DecisionTreeClassifier(max_depth=2))
    False
    """
    digest = hashlib.sha256()
    for token in _describe(model, _Walk(frozenset(neutral), lambda code, _: code_identity(code)), "model"):
        digest.update(len(token).to_bytes(8, "big") + token)
    return digest.hexdigest()


def refuse_unimportable(model: object) -> None:
    """Raise for functions and classes that no other process can name: what a store is to be trained on by.

    Looked for in all parameters of `model`, also inside partial functions, closures and the steps of pipelines.

    Raises
    ------
    ParameterError
        Says where there is a lambda, or a function or class that was defined inside a function.
    """
    for _ in _describe(model, _Walk(NEUTRAL, _importable), "model"):
        pass


def _importable(code: Callable[..., Any] | type, where: str) -> bytes:
    name = code.__qualname__
    if "<" not in name:
        return name.encode()
    if name.endswith("<lambda>"):
        what = "a lambda, which has no importable name"
    else:
        what = f"{name.rpartition('.')[2]!r}, which was defined inside a function and has no importable name"
    raise ParameterError(
        f"{where} is {what}, so a stored model could not be told from another; nothing was written. Give a function "
        "or class defined at the top of a module."
    )


def code_identity(code: Callable[..., Any] | type) -> bytes:
    """The importable name of a function or class and, for code of the user's own, a digest of its source.

    Library code goes by its name: the version is part of the recorded environment. A class of the user's own stands
    for its bases too, as far as they are the user's; what a function calls by name is not followed.
    """
    name = f"{code.__module__}:{code.__qualname__}"
    return name.encode() if is_library(code.__module__) else f"{name}:{_source_digest(code)}".encode()


@lru_cache(maxsize=1024)
def is_library(module: str | None) -> bool:
    """Whether a module is installed, and none of the user's own."""
    if module is None or module in sys.builtin_module_names:
        return True
    path = getattr(sys.modules.get(module), "__file__", None)
    # A launcher in the library, such as that of pytest or a notebook, is no reason to call __main__ library code.
    return path is not None and module != "__main__" and path.startswith(_LIBRARY_PATHS)


def _source_digest(code: Callable[..., Any] | type) -> str:
    # What a class inherits from other classes of the user's own is part of what it does.
    own = [c for c in code.__mro__ if not is_library(c.__module__)] if isinstance(code, type) else [code]
    return hashlib.sha256(b"".join(map(_source, own))).hexdigest()


def _source(code: Callable[..., Any] | type) -> bytes:
    # All code that was executed from a string bears one name, so what is found under it may be other code.
    nameless = isinstance(code, types.FunctionType) and code.__code__.co_filename == "<string>"
    try:
        return b"".join(_compiled(code)) if nameless else inspect.getsource(code).encode()
    except (OSError, TypeError):
        # Typed at a prompt: no source to be had, so the compiled code stands for it.
        return b"".join(_compiled(code))


def _compiled(code: object) -> Iterator[bytes]:
    if isinstance(code, types.FunctionType):
        yield from _compiled(code.__code__)
    elif isinstance(code, types.CodeType):
        yield code.co_code
        yield repr([c for c in code.co_consts if not isinstance(c, types.CodeType)]).encode()
        yield repr(code.co_names).encode()
        for inner in code.co_consts:
            yield from _compiled(inner)
    elif isinstance(code, type):
        for name, member in sorted(vars(code).items()):
            if isinstance(member, types.FunctionType):
                yield name.encode()
                yield from _compiled(member)


@dataclass(frozen=True)
class _Walk:
    """What one walk over parameters needs to know at each of them.

    Attributes
    ----------
    neutral : frozenset of str
        Parameters that are left out.
    identify : callable
        ``identify(code, where) -> bytes``, for each function and class.
    path : set of int
        The ids of the values that the present one is part of.
    """

    neutral: frozenset[str]
    identify: Callable[[Any, str], bytes]
    path: set[int] = field(default_factory=set)


def _describe(value: object, walk: _Walk, where: str) -> Iterator[bytes]:
    if id(value) in walk.path or len(walk.path) > MAX_DEPTH:
        msg = (
            f"{where[:200]} is part of itself, or more than {MAX_DEPTH} levels deep, which has no stable description. "
            "Give plain values instead; nothing was changed."
        )
        raise ParameterError(msg)
    walk.path.add(id(value))
    yield from _describe_value(value, walk, where)
    walk.path.discard(id(value))


def _describe_value(  # noqa: C901, PLR0912 - one branch for each kind of value
    value: object, walk: _Walk, where: str
) -> Iterator[bytes]:
    kind = type(value)
    if value is None or kind in (bool, int, float, complex, str, bytes):
        yield f"{kind.__name__}:{value!r}".encode()
    elif isinstance(value, np.generic):
        # A numpy scalar means what the Python number means: a grid search hands over either.
        yield from _describe(value.item(), walk, where)
    elif isinstance(value, np.ndarray):
        yield f"array:{value.dtype.str}:{value.shape}".encode()
        if value.dtype.hasobject:
            yield from _describe(value.tolist(), walk, where)
        else:
            yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, np.dtype):
        yield f"dtype:{value.str}".encode()
    elif isinstance(value, np.random.RandomState | np.random.Generator | np.random.BitGenerator):
        msg = f"{where} is a live random generator, which changes with use. Give an int; nothing was changed."
        raise ParameterError(msg)
    elif isinstance(value, Mapping):
        yield b"mapping"
        # Sorted: a dict of parameters means the same in any order.
        for key in sorted(value, key=repr):
            yield from _describe(key, walk, where)
            yield from _describe(value[key], walk, f"{where}[{key!r}]")
        yield b"end"
    elif isinstance(value, list | tuple):
        yield b"sequence"
        for i, item in enumerate(value):
            yield from _describe(item, walk, f"{where}[{i}]")
        yield b"end"
    elif isinstance(value, set | frozenset):
        yield b"set"
        for item in sorted(value, key=repr):
            yield from _describe(item, walk, where)
        yield b"end"
    elif isinstance(value, partial):
        yield b"partial"
        for item in (value.func, value.args, value.keywords):
            yield from _describe(item, walk, where)
    elif isinstance(value, types.MethodType):
        yield b"method"
        yield from _describe(value.__func__, walk, where)
        yield from _describe(value.__self__, walk, where)
    elif isinstance(value, types.FunctionType | types.BuiltinFunctionType | type | np.ufunc):
        yield from _describe_code(value, walk, where)
    else:
        yield from _describe_object(value, walk, where)


def _describe_code(value: Any, walk: _Walk, where: str) -> Iterator[bytes]:
    if isinstance(value, np.ufunc):
        yield f"ufunc:{value.__name__}".encode()
        return
    yield b"code:" + walk.identify(value, where)
    owner = getattr(value, "__self__", None)
    if isinstance(value, types.BuiltinFunctionType) and not isinstance(owner, types.ModuleType):
        yield from _describe(owner, walk, f"{where} (its object)")
    cells = getattr(value, "__closure__", None) or ()
    for cell in cells:
        yield from _describe(cell.cell_contents, walk, f"{where} (closure)")
    if isinstance(value, types.FunctionType):
        yield from _describe([value.__defaults__, value.__kwdefaults__], walk, f"{where} (defaults)")


def _values(value: object, where: str) -> Any:
    try:
        return np.asarray(value)
    except (RuntimeError, TypeError, ValueError) as error:
        msg = f"{where} is a {type(value).__name__} whose values cannot be read. Give an array; nothing was changed."
        raise ParameterError(msg) from error


def _describe_object(value: Any, walk: _Walk, where: str) -> Iterator[bytes]:
    """An estimator by its parameters, a plain object by its attributes."""
    if hasattr(value, "get_params"):
        state = value.get_params(deep=False)
    elif hasattr(value, "__array__"):
        # A tensor, a Series: its attributes do not show its values.
        state = {"values": _values(value, where)}
    elif isinstance(getattr(value, "__dict__", None), dict):
        state = vars(value)
    else:
        msg = (
            f"{where} is a {type(value).__name__}, which has no parameters to identify it by. "
            "Give a class, a function or plain values instead; nothing was changed."
        )
        raise ParameterError(msg)
    yield b"object:" + walk.identify(type(value), where)
    for name in sorted(state):
        if name not in walk.neutral:
            yield name.encode()
            yield from _describe(state[name], walk, f"{where}.{name}")
    yield b"end"
