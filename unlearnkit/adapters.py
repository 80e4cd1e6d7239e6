"""How a model finds its learner: plugins declare adapters, the most derived claim wins.

A plugin is a distribution with an entry point in the group ``unlearnkit`` that names a module with hook
implementations, marked by `hookimpl`. First-party plugins come in by the same door.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import pluggy

from unlearnkit.errors import AdapterConflictError, MissingPluginError, ParameterError, UnsupportedModelError
from unlearnkit.learner import Learner

if TYPE_CHECKING:
    from unlearnkit.receipts import Receipt

PROJECT = "unlearnkit"
FIRST_PARTY = {"sklearn": "sklearn", "lightgbm": "lightgbm", "xgboost": "xgboost", "torch": "torch", "skorch": "torch"}

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Resolve: TypeAlias = Callable[[Any], Learner[Any]]


@dataclass(frozen=True, slots=True)
class Adapter:
    """A plugin's declaration that it can wrap models of some types. Pure data: it imports no framework.

    Attributes
    ----------
    name : str
        What ``adapter="name"`` calls it.
    native_types : tuple of str
        The claimed types, as ``module:qualname``. A model belongs to the adapter that claims the most derived
        class of its MRO.
    wrap : callable
        ``wrap(model, resolve) -> Learner``; `resolve` gives the learner of a model inside the model, such as
        the last step of a pipeline. Must not change the model.
    library : tuple of str
        The public modules of the wrapped library whose classes a stored model may name, such as
        ``("lightgbm",)``: the allow-list of `unlearnkit.load`. No other module is ever imported for a stored model,
        of these only what they export is taken, and only classes with ``get_params`` and ``set_params`` are called.
        So leave out modules with such classes that act on the disk or the network when they are made. Without it
        the model is given as ``load(path, estimator=...)``.
    """

    name: str
    native_types: tuple[str, ...]
    wrap: Callable[[Any, Resolve], Learner[Any]]
    library: tuple[str, ...] = ()


class HookSpecs:
    """The hooks that a plugin may implement."""

    @hookspec
    def unlearnkit_adapters(self) -> Iterable[Adapter]:
        """Give the adapters of this plugin."""
        return ()

    @hookspec
    def unlearnkit_step_trained(self, step: Any, seconds: float) -> None:
        """Observe that the state of a `PlannedStep` is stored, `seconds` after its training began."""

    @hookspec
    def unlearnkit_request_done(self, receipt: Receipt) -> None:
        """Observe that an erasure request is complete: the receipt as `forget` returns it."""


class Plugins:
    """The installed plugins, those that failed to import, and the adapters that they declare.

    Parameters
    ----------
    entry_points : iterable of importlib.metadata.EntryPoint or None
        Where to look; None means what is installed.
    """

    def __init__(self, entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> None:
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(HookSpecs)
        self.broken: dict[str, str] = {}
        found = importlib.metadata.entry_points(group=PROJECT) if entry_points is None else entry_points
        self.adapters: list[Adapter] = []
        for entry_point in found:
            self._load(entry_point)

    def _load(self, entry_point: importlib.metadata.EntryPoint) -> None:
        # A plugin is foreign code: whatever it raises, the others must go on working.
        plugin = None
        try:
            module = entry_point.load()
            if self.manager.is_registered(module):
                return
            self.manager.register(module, name=entry_point.name)
            plugin = module
            self.manager.check_pending()
            self.adapters += self._declared(plugin)
        except Exception as error:  # noqa: BLE001
            if plugin is not None:
                self.manager.unregister(plugin)
            self.broken[entry_point.name] = f"{type(error).__name__}: {error}"

    def _declared(self, plugin: object) -> list[Adapter]:
        others = [other for other in self.manager.get_plugins() if other is not plugin]
        answers = self.manager.subset_hook_caller("unlearnkit_adapters", others)()
        adapters = [adapter for answer in answers for adapter in answer]
        wrong = [type(a).__name__ for a in adapters if not isinstance(a, Adapter)]
        if wrong:
            raise TypeError(f"unlearnkit_adapters gave {', '.join(wrong)} where Adapter was expected")
        return adapters

    def resolve(self, model: object, adapter: str | None = None) -> Learner[Any]:
        """The learner for `model`.

        Parameters
        ----------
        model : object
            The native model, fitted or not; it is never changed.
        adapter : str or None
            Take this adapter, whatever the others claim.

        Raises
        ------
        UnsupportedModelError
            No installed plugin claims a class of the model.
        MissingPluginError
            The plugin for it is not installed or failed to import.
        AdapterConflictError
            Several adapters claim the same class.
        """
        return self._choose(model, adapter).wrap(model, self.resolve)

    def _choose(self, model: object, name: str | None) -> Adapter:
        if name is not None:
            return self._named(name)
        names = [f"{c.__module__}:{c.__qualname__}" for c in type(model).__mro__]
        for type_name in names:
            claims = [a for a in self.adapters if _claims(a, type_name)]
            if len(claims) > 1:
                msg = (
                    f"{type_name} is claimed by the adapters {', '.join(sorted(a.name for a in claims))}; "
                    'nothing was changed. Choose one with adapter="name", or uninstall the other.'
                )
                raise AdapterConflictError(msg)
            if claims:
                return self._unless_better_missing(claims[0], names, type_name)
        raise self._no_adapter(names)

    def _named(self, name: str) -> Adapter:
        found = [adapter for adapter in self.adapters if adapter.name == name]
        if len(found) > 1:
            msg = f"There are {len(found)} adapters named {name!r}; nothing was changed. Uninstall all but one."
            raise AdapterConflictError(msg)
        if found:
            return found[0]
        known = ", ".join(sorted(a.name for a in self.adapters)) or "none"
        msg = f"There is no adapter named {name!r} (installed: {known}); nothing was changed."
        raise ParameterError(msg)

    def _unless_better_missing(self, adapter: Adapter, names: list[str], claimed: str) -> Adapter:
        """A booster is a scikit-learn estimator too: without its own plugin it must not pass for one."""
        installed = {a.name for a in self.adapters}
        homes = {_home(name) for name in names[: names.index(claimed)]} - {None, _home(claimed)}
        if homes <= installed:
            return adapter
        raise self._no_adapter(names)

    def _no_adapter(self, names: list[str]) -> UnsupportedModelError | MissingPluginError:
        home = next(filter(None, map(_home, names)), None)
        if home in self.broken:
            return MissingPluginError(
                f"The plugin unlearnkit-{home}, which wraps {names[0]}, failed to import ({self.broken[home]}); "
                f"nothing was changed. Reinstall it: pip install --force-reinstall unlearnkit-{home}"
            )
        if home is not None:
            return MissingPluginError(
                f"{names[0]} needs the plugin unlearnkit-{home}, which is not installed; nothing was changed. "
                f"Install it: pip install 'unlearnkit[{home}]'"
            )
        broken = f" These plugins failed to import: {', '.join(sorted(self.broken))}." if self.broken else ""
        return UnsupportedModelError(
            f"No installed plugin wraps {names[0]}; nothing was changed.{broken} "
            "Pass a scikit-learn, LightGBM, XGBoost, torch or skorch model, or write an adapter for it."
        )


def _home(type_name: str) -> str | None:
    """The first-party adapter for the framework that a type belongs to."""
    return FIRST_PARTY.get(type_name.partition(":")[0].partition(".")[0])


def _claims(adapter: Adapter, type_name: str) -> bool:
    return type_name in adapter.native_types


@lru_cache(maxsize=1)
def plugins() -> Plugins:
    """The plugins of this process, loaded at the first call."""
    return Plugins()


def notify(hook: str, **facts: Any) -> None:
    """Tell the observers. They come after all is durable, and cannot change a result."""
    try:
        getattr(plugins().manager.hook, hook)(**facts)
    except Exception as error:  # noqa: BLE001
        warnings.warn(f"A plugin failed in {hook}: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=4)


def resolve(model: object, adapter: str | None = None) -> Learner[Any]:
    """The learner for `model`, from the installed plugins; see `Plugins.resolve`."""
    return plugins().resolve(model, adapter)
