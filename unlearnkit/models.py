"""Models as plain JSON: the classes of installed libraries by name, the parameters by value.

So a stored model is built again without pickle, and without importing anything by a name found in the store: modules
are imported by the names that the installed adapters list (`unlearnkit.adapters.Adapter.library`), and the store may
only choose among the classes that these modules export.

Values stand for themselves where JSON has them, everything else is a dict of one item, ``{"tuple": [...]}``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from unlearnkit import values
from unlearnkit.adapters import Adapter, plugins
from unlearnkit.errors import CodeNeededError, StateError
from unlearnkit.fingerprints import MAX_DEPTH
from unlearnkit.library import BUILTINS, exported, is_cache, is_default, is_estimator, name_of
from unlearnkit.typing import AnyArray
from unlearnkit.values import MAX_VALUES, a, malformed


def describe(model: object, adapters: Iterable[Adapter] | None = None) -> dict[str, Any] | None:
    """The model as plain JSON, or None if it has something that `restore` could not give back.

    That is the user's own code, functions, live objects, and what no adapter lists. A function or object that is the
    default of its parameter is left out. A fitted model is described by its parameters only.

    Parameters
    ----------
    model : object
    adapters : iterable of Adapter or None
        Whose classes may be named; None means the installed ones.
    """
    writer = _Writer(_known(adapters))
    try:
        written: dict[str, Any] = writer.estimator(model)
    except _UndescribableError:
        return None
    return written


def restore(description: object, adapters: Iterable[Adapter] | None = None) -> Any:
    """The unfitted model behind a description.

    Only classes that the adapters' modules export are looked up, and only those with ``get_params`` and
    ``set_params`` are called, with parameters that these know.

    Parameters
    ----------
    description : object
        As `describe` wrote it, after JSON.
    adapters : iterable of Adapter or None
        Whose classes may be named; None means the installed ones.

    Raises
    ------
    CodeNeededError
        If a class is in no installed adapter's library.
    StateError
        If this is not the description of a model.
    """
    reader = _Reader(_known(adapters))
    tag, content = reader.tagged(description)
    if tag != "estimator":
        malformed(f"it begins with {tag[:40]!r}")
    try:
        return reader.estimator(content)
    except (CodeNeededError, StateError):
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError, RecursionError) as error:
        malformed(type(error).__name__, error)


def _known(adapters: Iterable[Adapter] | None) -> tuple[Adapter, ...]:
    return tuple(plugins().adapters if adapters is None else adapters)


# -- writing ---------------------------------------------------------------------------------------------------------


class _UndescribableError(Exception):
    """Something in the model is not to be described."""


@dataclass
class _Writer:
    """Turns values into JSON.

    Attributes
    ----------
    adapters : tuple of Adapter
    library : tuple of str
        That of the estimator whose parameters are being written: what else may be named in them.
    depth, count : int
        How deep it is now, how many values there were.
    """

    adapters: tuple[Adapter, ...]
    library: tuple[str, ...] = ()
    depth: int = 0
    count: int = 0

    def estimator(self, model: Any) -> dict[str, Any]:
        cls, outer = type(model), self.library
        self.library = next(
            (known.library for known in self.adapters if exported(name_of(cls), known.library) is cls), ()
        )
        try:
            if not self.library or not is_estimator(cls):
                raise _UndescribableError
            parameters = dict(self._parameters(cls, model.get_params(deep=False)))
        finally:
            self.library = outer
        return {"estimator": {"class": name_of(cls), "parameters": parameters}}

    def _parameters(self, cls: type, parameters: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        for name in sorted(parameters):
            try:
                _refuse_cache(name, parameters[name])
                yield name, self.value(parameters[name])
            except _UndescribableError:
                if not is_default(cls, name, parameters[name]):
                    raise

    def value(self, value: Any) -> Any:  # noqa: PLR0911 - one branch for each kind of value
        self.count += 1
        if self.depth >= MAX_DEPTH or self.count > MAX_VALUES:
            raise _UndescribableError
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": str(value)}
        if kind is bytes:
            return {"bytes": values.text_of(value)}
        self.depth += 1
        try:
            if kind is list:
                return [self.value(item) for item in value]
            if kind is tuple:
                return {"tuple": [self.value(item) for item in value]}
            if kind in (set, frozenset):
                # Sorted: the same set gives the same text.
                return {kind.__name__: [self.value(item) for item in sorted(value, key=repr)]}
            if kind is dict:
                return {"dict": [self._item(*item) for item in value.items()]}
            return self._special(value, kind)
        finally:
            self.depth -= 1

    def _item(self, key: Any, value: Any) -> list[Any]:
        _refuse_cache(key, value)
        return [self.value(key), self.value(value)]

    def _special(self, value: Any, kind: type) -> Any:
        if isinstance(value, type):
            return self._class(value)
        if kind is np.ndarray:
            return {"array": self._array(value)}
        if isinstance(value, np.generic):
            return {"scalar": self._array(np.asarray(value))}
        if isinstance(value, np.dtype):
            return {"dtype": self._dtype(value)}
        if isinstance(value, np.ufunc):
            return {"ufunc": self._numpy_name(value, value.__name__)}
        return self.estimator(value)

    def _class(self, cls: type) -> dict[str, str]:
        if BUILTINS.get(cls.__name__) is cls:
            return {"builtin": cls.__name__}
        if issubclass(cls, np.generic):
            return {"numpy": self._numpy_name(cls, cls.__name__)}
        if exported(name_of(cls), self.library) is not cls:
            raise _UndescribableError
        return {"class": name_of(cls)}

    def _numpy_name(self, value: object, name: str) -> str:
        if vars(np).get(name) is not value:
            raise _UndescribableError
        return name

    def _array(self, array: AnyArray) -> dict[str, Any]:
        frame = {"dtype": self._dtype(array.dtype), "shape": list(array.shape)}
        if array.dtype.hasobject:
            return frame | {"items": [self.value(item) for item in array.ravel().tolist()]}
        return frame | {"bytes": values.text_of(np.ascontiguousarray(array).tobytes())}

    def _dtype(self, dtype: np.dtype[Any]) -> str:
        text = values.dtype_text(dtype)
        if text is None:
            raise _UndescribableError
        return text


def _refuse_cache(name: object, value: object) -> None:
    if is_cache(name, value):
        raise _UndescribableError


# -- reading ---------------------------------------------------------------------------------------------------------


@dataclass
class _Reader:
    """Turns JSON into values; the attributes are those of `_Writer`."""

    adapters: tuple[Adapter, ...]
    library: tuple[str, ...] = ()
    depth: int = 0
    count: int = 0

    def tagged(self, written: object) -> tuple[str, Any]:
        """The one item of a dict."""
        if not isinstance(written, dict) or len(written) != 1:
            malformed("a value has no tag")
        ((tag, content),) = written.items()
        return str(tag), content

    def estimator(self, content: Any) -> Any:
        name, written = content["class"], content["parameters"]
        outer = self.library
        cls, self.library = self._find(a(str, name))
        if not is_estimator(cls):
            raise CodeNeededError(
                f"{name[:120]} is no estimator: it lacks get_params and set_params. No code was run. Pass "
                "load(path, estimator=...)."
            )
        parameters = {key: self._parameter(key, value) for key, value in a(dict, written).items()}
        self.library = outer
        return _made(cls, parameters)

    def _find(self, name: str) -> tuple[type, tuple[str, ...]]:
        for adapter in self.adapters:
            if cls := exported(name, adapter.library):
                return cls, adapter.library
        raise _code_needed(name)

    def _parameter(self, name: str, written: Any) -> Any:
        if not name.isidentifier() or name.startswith("__"):
            malformed(f"{name[:80]!r} is no name of a parameter")
        return self._beside(name, self.value(written))

    def _beside(self, name: Any, value: Any) -> Any:
        if is_cache(name, value):
            raise CodeNeededError(
                f"The stored model names a folder of cached objects ({name[:80]}), which are not safe to read; no code "
                "was run. Pass load(path, estimator=...)."
            )
        return value

    def value(self, written: Any) -> Any:
        self.count += 1
        if self.depth >= MAX_DEPTH or self.count > MAX_VALUES:
            malformed(f"it has more than {MAX_DEPTH} levels or {MAX_VALUES} values")
        if written is None or type(written) in (bool, int, float, str):
            return written
        self.depth += 1
        try:
            if type(written) is list:
                return [self.value(item) for item in written]
            tag, content = self.tagged(written)
            if tag not in _READERS:
                malformed(f"there is no kind of value {tag[:40]!r}")
            return _READERS[tag](self, content)
        finally:
            self.depth -= 1

    def items(self, content: Any) -> list[Any]:
        return [self.value(item) for item in a(list, content)]

    def mapping(self, content: Any) -> dict[Any, Any]:
        pairs = [(self.value(key), self.value(value)) for key, value in a(list, content)]
        return {key: self._beside(key, value) for key, value in pairs}

    def named(self, content: Any) -> type:
        """A class that is a parameter itself; it is not called here."""
        return exported(a(str, content), self.library) or _raise(_code_needed(content))

    def array(self, content: Any) -> AnyArray:
        return values.array_of(content, self.items)

    def scalar(self, content: Any) -> Any:
        return self.array({**content, "shape": []})[()]


def _raise(error: Exception) -> NoReturn:
    raise error


def _code_needed(name: str) -> CodeNeededError:
    return CodeNeededError(
        f"The stored model needs {name[:120]}, which no installed plugin lists as a class of its library; no code was "
        "run. Install the plugin, or pass load(path, estimator=...)."
    )


def _made(cls: type, parameters: dict[str, Any]) -> Any:
    try:
        model = cls(**parameters)
        unknown = sorted(parameters.keys() - model.get_params(deep=False).keys())
    except Exception as error:  # noqa: BLE001 - whatever a constructor of a library raises on nonsense
        malformed(f"{cls.__name__} refuses its parameters ({error})", error)
    if unknown:
        malformed(f"{cls.__name__} has no parameter {unknown[0][:80]!r}")
    return model


_READERS: dict[str, Callable[[_Reader, Any], Any]] = {
    "estimator": _Reader.estimator,
    "tuple": lambda reader, content: tuple(reader.items(content)),
    "set": lambda reader, content: set(reader.items(content)),
    "frozenset": lambda reader, content: frozenset(reader.items(content)),
    "dict": _Reader.mapping,
    "class": _Reader.named,
    "array": _Reader.array,
    "scalar": _Reader.scalar,
    "float": lambda _, content: values.FLOATS[content],
    "bytes": lambda _, content: values.data_of(content),
    "dtype": lambda _, content: values.dtype_of(content),
    "ufunc": lambda _, content: values.ufunc_of(content),
    "numpy": lambda _, content: values.scalar_type_of(content),
    "builtin": lambda _, content: BUILTINS[content],
}
