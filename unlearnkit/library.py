"""Which classes a stored model may name: those that the modules of an adapter's library export.

The modules are imported by the names in the adapter. A name from a store chooses among their classes, no more.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable

from unlearnkit.errors import CodeNeededError, ParameterError
from unlearnkit.fingerprints import fingerprint

BUILTINS: dict[str, type] = {c.__name__: c for c in (bool, bytes, complex, float, int, object, str)}
"""The types of Python that a parameter may be."""

_CACHE = re.compile(r"(.*__)?memory", re.DOTALL)


def name_of(cls: type) -> str:
    """What a stored model calls the class: ``module:qualname``."""
    return f"{cls.__module__}:{cls.__qualname__}"


def exported(name: str, library: Iterable[str]) -> type | None:
    """The class of this name, if a module of the library exports it.

    Raises
    ------
    CodeNeededError
        If the module of the library cannot be imported.
    """
    module_name, _, qualname = name.partition(":")
    for listed in library:
        if module_name == listed or module_name.startswith(f"{listed}."):
            found = _public(_imported(listed, name), qualname)
            if isinstance(found, type) and name_of(found) == name:
                return found
    return None


def _imported(listed: str, name: str) -> object:
    try:
        return importlib.import_module(listed)
    except ImportError as error:
        raise CodeNeededError(
            f"The stored model needs {name[:120]}, and {listed} cannot be imported ({error}); no code of the store was "
            "run. Install the library."
        ) from error


def _public(module: object, name: str) -> object:
    # Without asking the module for a name that it does not list: its __getattr__ may import what is asked for.
    if name in getattr(module, "__all__", ()):
        return getattr(module, name, None)
    return None if name.startswith("_") or hasattr(module, "__all__") else vars(module).get(name)


def is_estimator(cls: type) -> bool:
    """Whether it can be described by its parameters."""
    # Both: LightGBM's Dataset, which reads files, has the first.
    return all(callable(getattr(cls, name, None)) for name in ("get_params", "set_params"))


def is_cache(parameter: object, value: object) -> bool:
    """Whether this parameter names a folder of objects that joblib would read by pickle.

    A stored name of such a folder would be as good as stored code.
    """
    return value is not None and isinstance(parameter, str) and _CACHE.fullmatch(parameter) is not None


def is_default(cls: type, parameter: str, value: object) -> bool:
    """Whether the class gives the parameter this value by itself."""
    for base in cls.__mro__:
        parameters = inspect.signature(vars(base)["__init__"]).parameters if "__init__" in vars(base) else {}
        if parameter in parameters:
            default = parameters[parameter].default
            return default is value or (default is not inspect.Parameter.empty and _alike(default, value))
    return False


def _alike(one: object, other: object) -> bool:
    # Not by ==, which most objects do not have; a clone of a model has copies of its parameters.
    try:
        return type(one) is type(other) and fingerprint(one) == fingerprint(other)
    except ParameterError:
        return False
