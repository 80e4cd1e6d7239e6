"""The environment of a training: what else decides the bits, recorded with every checkpoint but part of no key."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterator
from functools import lru_cache

from unlearnkit.hashing import chain

_ALWAYS = ("numpy", "scipy", "scikit-learn")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}


def environment(model: object = None, learner: object = None) -> dict[str, str]:
    """Versions of Python, of the numerical libraries and of the frameworks of `model`, and the processor.

    Parameters
    ----------
    model : object
        The wrapped model: the packages of its classes count, and of those inside it.
    learner : object
        The plugin that its class comes from counts, with what that plugin requires.

    Examples
    --------
    >>> sorted(environment())[:3]
    ['cpu', 'numpy', 'python']
    """
    found = {"python": platform.python_version(), "cpu": _processor()}
    frameworks = {_DISTRIBUTIONS.get(name, name) for name in _frameworks(model, depth=3)}
    frameworks |= _required(type(learner).__module__.partition(".")[0])
    for name in sorted({*_ALWAYS, *frameworks}):
        version = _version(name)
        if version is not None:
            found[name] = version
    return found


def environment_now(recorded: dict[str, str]) -> dict[str, str]:
    """The same facts as in a recorded environment, as they are in this process."""
    here = environment()
    return {name: here.get(name) or _version(name) or "not installed" for name in recorded}


def environment_digest(found: dict[str, str]) -> str:
    """One digest of an environment."""
    return chain("environment", *(f"{name}={found[name]}" for name in sorted(found)))


@lru_cache(maxsize=1)
def _processor() -> str:
    """The machine and the instruction sets that numerical libraries choose their kernels by."""
    from numpy._core._multiarray_umath import (  # type: ignore[import-not-found]  # numpy's own, without stubs
        __cpu_features__ as features,
    )

    return f"{platform.machine()}:{sys.byteorder}:{chain(*sorted(k for k, v in features.items() if v))[:12]}"


def _frameworks(model: object, depth: int) -> Iterator[str]:
    """The top-level packages of the classes of a model and of the models inside it."""
    for cls in type(model).__mro__:
        package = cls.__module__.partition(".")[0]
        if package not in sys.stdlib_module_names and package != "__main__":
            yield package
    params = getattr(model, "get_params", None)
    if depth and callable(params) and not isinstance(model, type):
        for value in params(deep=True).values():
            yield from _frameworks(value, depth - 1)


@lru_cache(maxsize=256)
def _required(package: str) -> frozenset[str]:
    """A plugin's distribution and those that it requires: their versions decide the bits too."""
    if package in ("builtins", "__main__", "unlearnkit"):
        return frozenset()
    try:
        required = importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        return frozenset()
    names = {match[0].lower() for text in required if "extra ==" not in text and (match := _NAME.match(text))}
    return frozenset({package.replace("_", "-"), *names} - {"unlearnkit"})


@lru_cache(maxsize=256)
def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
