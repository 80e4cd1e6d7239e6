"""How a model finds its learner: plugins declare adapters, the most derived claim wins.

A plugin is a distribution with an entry point in the group ``unlearnkit`` that names a module with hook
implementations, marked by `hookimpl`. First-party plugins come in by the same door.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import pluggy

from unlearnkit.errors import (
    AdapterConflictError,
    AdapterError,
    MissingPluginError,
    ParameterError,
    UnlearnKitError,
    UnsupportedModelError,
)
from unlearnkit.learner import Capabilities, Learner

if TYPE_CHECKING:
    from unlearnkit.receipts import Receipt

PROJECT = "unlearnkit"
FIRST_PARTY = {
    "sklearn": "sklearn",
    "lightgbm": "lightgbm",
    "xgboost": "xgboost",
    "torch": "torch",
    "skorch": "torch",
    "catboost": "catboost",
}
_FLAGS = {field.name for field in fields(Capabilities) if field.type == "bool"} - {"stores_training_rows"}
ABILITIES = frozenset({"classification", "regression"} | _FLAGS)
"""The words for what learners can do: the tasks, and the attributes of `Capabilities` that are true or false."""

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
    abilities : tuple of str
        What its learners can do at best, for ``unlearnkit plugins`` and nothing else: ``"classification"``,
        ``"regression"``, and attributes of `Capabilities` that are true or false, such as ``"missing_values"``. A
        model's own parameters may take some of it away.
    """

    name: str
    native_types: tuple[str, ...]
    wrap: Callable[[Any, Resolve], Learner[Any]]
    library: tuple[str, ...] = ()
    abilities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # A lone text would do for a tuple of texts in many places, and mean another thing.
        for field in ("native_types", "library", "abilities"):
            value: Any = getattr(self, field)
            if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
                raise TypeError(f"{field} must be a tuple of str, not {value!r}")
        name, wrap = cast("Any", self.name), cast("Any", self.wrap)
        if not isinstance(name, str) or not callable(wrap):
            raise TypeError("an Adapter needs a name and a callable wrap")
        misspelt = [claim for claim in self.native_types if not all(claim.partition(":"))]
        if misspelt:
            raise ValueError(f"native_types must be written as 'module:qualname', not {misspelt[0]!r}")
        unknown = sorted(set(self.abilities) - set(ABILITIES))
        if unknown:
            raise ValueError(f"unknown abilities {', '.join(unknown)}; known are {', '.join(sorted(ABILITIES))}")


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


@dataclass(frozen=True, slots=True)
class Installed:
    """An entry point in the group ``unlearnkit``, and what came of it.

    Attributes
    ----------
    name, module : str
        Of the entry point, and what it names.
    distribution, version : str or None
        Where it comes from.
    adapters, hooks : tuple
        What it declares, and the names of the hooks that it implements.
    problem : str
        Why it cannot be used; empty if it can.
    """

    name: str
    module: str
    distribution: str | None = None
    version: str | None = None
    adapters: tuple[Adapter, ...] = ()
    hooks: tuple[str, ...] = ()
    problem: str = ""


class Plugins:
    """The installed plugins, those that failed to import, and the adapters that they declare.

    Parameters
    ----------
    entry_points : iterable of importlib.metadata.EntryPoint or None
        Where to look; None means what is installed.

    Attributes
    ----------
    installed : list of Installed
    """

    def __init__(self, entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> None:
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(HookSpecs)
        found = importlib.metadata.entry_points(group=PROJECT) if entry_points is None else entry_points
        self.installed: list[Installed] = []
        for entry_point in found:
            self._load(entry_point)

    @property
    def adapters(self) -> list[Adapter]:
        """The adapters of all plugins that can be used."""
        return [adapter for plugin in self.installed for adapter in plugin.adapters]

    @property
    def broken(self) -> dict[str, str]:
        """The plugins that cannot be used, with the reason."""
        return {plugin.name: plugin.problem for plugin in self.installed if plugin.problem}

    @property
    def conflicts(self) -> dict[str, list[str]]:
        """The types that several adapters claim, with the names of these."""
        claims = defaultdict(list)
        for adapter in self.adapters:
            for type_name in adapter.native_types:
                claims[type_name].append(adapter.name)
        return {type_name: sorted(names) for type_name, names in sorted(claims.items()) if len(names) > 1}

    def _load(self, entry_point: importlib.metadata.EntryPoint) -> None:
        dist = getattr(entry_point, "dist", None)
        source = () if dist is None else (dist.name, dist.version)
        found = Installed(entry_point.name, getattr(entry_point, "value", ""), *source)
        plugin = None
        # A plugin is foreign code: whatever it raises, the others must go on working.
        try:
            module = entry_point.load()
            if self.manager.is_registered(module):
                return
            self.manager.register(module, name=entry_point.name)
            plugin = module
            self.manager.check_pending()
            found = replace(found, adapters=self._declared(plugin), hooks=self._implemented(plugin))
        except (Exception, SystemExit) as error:  # noqa: BLE001
            if plugin is not None:
                self.manager.unregister(plugin)
            found = replace(found, problem=_problem(error))
        self.installed.append(found)

    def _declared(self, plugin: object) -> tuple[Adapter, ...]:
        others = [other for other in self.manager.get_plugins() if other is not plugin]
        answers = self.manager.subset_hook_caller("unlearnkit_adapters", others)()
        adapters = [adapter for answer in answers for adapter in answer]
        wrong = [type(a).__name__ for a in adapters if not isinstance(a, Adapter)]
        if wrong:
            raise TypeError(f"unlearnkit_adapters gave {', '.join(wrong)} where Adapter was expected")
        return tuple(adapters)

    def _implemented(self, plugin: object) -> tuple[str, ...]:
        return tuple(sorted(caller.name for caller in self.manager.get_hookcallers(plugin) or ()))

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
        AdapterError
            The adapter fails, or gives something that is no learner.
        """
        return _wrapped(self._choose(model, adapter), model, self.resolve)

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
        if _home(claimed) is not None:
            # A booster has mixins of scikit-learn before its own base.
            homes.discard("sklearn")
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
            "Pass a scikit-learn, LightGBM, XGBoost, CatBoost, torch or skorch model, or write an adapter for it."
        )


def _wrapped(adapter: Adapter, model: object, resolve: Resolve) -> Learner[Any]:
    """What the adapter makes of the model, which must be a learner: foreign code may fail, and say anything."""
    what = f"The adapter {adapter.name!r} failed to wrap a {type(model).__qualname__}"
    try:
        learner: Any = adapter.wrap(model, resolve)
        fits = isinstance(learner, Learner) and isinstance(learner.capabilities, Capabilities)
    except UnlearnKitError:
        raise
    except ImportError as error:
        raise MissingPluginError(f"{what}: {_problem(error)}; nothing was changed. Install what it needs.") from error
    except Exception as error:
        raise AdapterError(
            f"{what}: {_problem(error)}; nothing was changed. This is a fault of its plugin: tell its author."
        ) from error
    if not fits:
        raise AdapterError(
            f"{what}: it gave a {type(learner).__qualname__}, which is no Learner with Capabilities; nothing was "
            "changed. This is a fault of its plugin: tell its author."
        )
    return cast("Learner[Any]", learner)


def _problem(error: BaseException) -> str:
    """An error of a plugin on one line, with what it may come from."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    foreign_names = isinstance(error, ImportError) and str(error.name).partition(".")[0] == PROJECT
    if foreign_names or isinstance(error, TypeError | pluggy.PluginValidationError):
        from unlearnkit import __version__

        return f"{text} (is it made for another version of unlearnkit than {__version__}?)"
    return text


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
