"""``unlearnkit plugins``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table

from unlearnkit.cli.output import DONE, FINDING, Json, finish, readable

if TYPE_CHECKING:
    from unlearnkit.adapters import Adapter, Installed

_HOOK = "unlearnkit_"


def plugins(*, as_json: Json = False) -> None:
    """The installed plugins: what they wrap, and what is wrong with them; exit code 1 if anything is."""
    from unlearnkit.adapters import plugins as installed

    with readable():
        found = installed()
    conflicts = found.conflicts
    findings = [*map(_broken, (p for p in found.installed if p.problem)), *map(_conflict, conflicts.items())]
    finish(
        {"plugins": [_facts(p) for p in found.installed], "conflicts": conflicts, "findings": findings},
        [_table(found.installed), *findings],
        as_json=as_json,
        code=FINDING if findings else DONE,
    )


def _facts(plugin: Installed) -> dict[str, Any]:
    # How to wrap is no fact of a plugin's to be read.
    adapters = [{k: v for k, v in asdict(a).items() if k != "wrap"} for a in plugin.adapters]
    return asdict(plugin) | {"adapters": adapters, "problem": plugin.problem or None}


def _broken(plugin: Installed) -> str:
    return f"{plugin.name}{_source(plugin, ' ({})')} cannot be used: {plugin.problem}"


def _conflict(conflict: tuple[str, list[str]]) -> str:
    type_name, names = conflict
    return (
        f"{_dotted(type_name)} is claimed by the adapters {', '.join(names)}: "
        'choose one with adapter="name", or uninstall the other'
    )


def _source(plugin: Installed, form: str) -> str:
    """The distribution with its version, where there is one."""
    return "" if plugin.distribution is None else form.format(f"{plugin.distribution} {plugin.version}")


def _table(installed: list[Installed]) -> Table:
    # A type cut short would be none.
    types = Column("Wraps what derives from", no_wrap=True)
    grid = Table("Adapter", "Plugin", types, "At best", box=None, pad_edge=False)
    for plugin in sorted(installed, key=lambda plugin: plugin.name):
        source = _source(plugin, "{}") or plugin.module or plugin.name
        for adapter in plugin.adapters:
            claimed = "\n".join(map(_dotted, adapter.native_types))
            grid.add_row(adapter.name, source, claimed, _abilities(adapter))
        if not plugin.adapters and not plugin.problem:
            grid.add_row("-", source, "nothing: it observes", ", ".join(_observed(plugin)))
    return grid


def _abilities(adapter: Adapter) -> str:
    return ", ".join(word.replace("_", " ") for word in adapter.abilities) or "it does not say"


def _observed(plugin: Installed) -> list[str]:
    return [hook.removeprefix(_HOOK).replace("_", " ") for hook in plugin.hooks]


def _dotted(type_name: str) -> str:
    return type_name.replace(":", ".")
