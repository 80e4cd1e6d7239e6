"""Write the reference of the command line from the commands themselves.

python docs/tools/commands.py docs/reference/commands.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from unlearnkit.cli import app
from unlearnkit.cli.output import EXIT_CODES

HEAD = """# Commands

Every command with its arguments and options, as the commands themselves tell of them (`unlearnkit COMMAND --help`).
What they are for, with examples: [the command line](../command-line.md). This page is written by
`docs/tools/commands.py`.
"""
EXIT_CODES_HEAD = "## Exit codes of all commands"


def commands(group: Any = None, path: str = "unlearnkit") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its name in full."""
    for name, command in sorted((group or typer.main.get_command(app)).commands.items()):
        if getattr(command, "commands", None):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def entry(parameter: Any) -> str:
    """One line of a table for one argument or option."""
    return f"| {spelled(parameter)} | {_default(parameter)} | {_cell(parameter.help or '')} |"


def spelled(parameter: Any) -> str:
    """An argument or option as it is typed."""
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}{'...' if parameter.nargs == -1 else ''}`"
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} `{_cell(_value(parameter))}`"


def _value(parameter: Any) -> str:
    # As the typer of constraints.txt keeps it.
    kind = parameter.type_descriptor
    if kind.choices:
        return " or ".join(choice.value for choice in kind.choices)
    return parameter.metavar or {int: "INTEGER", float: "NUMBER"}.get(kind.annotation, "TEXT")


def page() -> str:
    """The whole page."""
    return "\n".join(
        [HEAD, *(_section(*found) for found in commands()), EXIT_CODES_HEAD, "", _sentence(EXIT_CODES), ""]
    )


def _section(name: str, command: Any) -> str:
    lines = [f"## {name}", "", _what(command), "", "| | default | |", "|---|---|---|"]
    return "\n".join([*lines, *(entry(p) for p in command.params if not p.hidden), ""])


def _what(command: Any) -> str:
    return _sentence(command.help.partition("Exit codes:")[0])


def _sentence(text: str) -> str:
    return " ".join(text.split())


def _default(parameter: Any) -> str:
    if parameter.required:
        return "needed"
    if parameter.default in (None, False, (), []) or parameter.is_flag:
        return ""
    return f"`{getattr(parameter.default, 'value', parameter.default)}`"


def _cell(text: str) -> str:
    return _sentence(text).replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
