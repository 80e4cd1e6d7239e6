"""The command line: its commands, and the console script."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from unlearnkit.cli import receipt
from unlearnkit.cli.add import add, consolidate, rectify
from unlearnkit.cli.bundle import export
from unlearnkit.cli.demo import demo
from unlearnkit.cli.fit import fit
from unlearnkit.cli.forget import forget, repair
from unlearnkit.cli.fsck import fsck
from unlearnkit.cli.output import BAD_INPUT, DONE, EXIT_CODES, FAULT, INTERRUPTED, say
from unlearnkit.cli.plan import plan
from unlearnkit.cli.plugins import plugins
from unlearnkit.cli.predict import predict
from unlearnkit.cli.report import report
from unlearnkit.cli.status import status
from unlearnkit.cli.verify import verify

# typer has a copy of click in some versions, and needs click in others: this name is there in all.
_UsageError: Any = typer.BadParameter.__mro__[1]

_GIVEN = re.compile(r": '.*' is not", re.DOTALL)


class Commands(TyperGroup):
    """Commands whose usage errors are one line, as all errors are."""

    def main(self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **extra: Any) -> Any:  # type: ignore[override]
        """Run the command that the arguments name, and exit."""
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        try:
            code = super().main(args, standalone_mode=False, **extra)
        except typer.Abort:
            sys.exit(INTERRUPTED)
        except _UsageError as error:
            command = "unlearnkit" if error.ctx is None else error.ctx.command_path
            # Some end in a question, which command was meant, and click puts a full stop after that too.
            what = _without_values(error.format_message()).removesuffix(".")
            say(f"{what}{'' if what.endswith('?') else '.'} Nothing was changed. For help: {command} --help")
            sys.exit(BAD_INPUT)
        if code == INTERRUPTED:
            say("Interrupted. What was recorded is safe; the same call, or unlearnkit repair, goes on.")
        sys.exit(code or DONE)


def _without_values(message: str) -> str:
    """A usage error that repeats no argument: it may be an id."""
    if "extra argument" in message:
        return "There are arguments that this command does not take."
    return _GIVEN.sub(": what was given is not", message)


def _root(context: typer.Context) -> None:
    """Exact machine unlearning for the models you already use."""
    if context.invoked_subcommand is None:
        print(context.get_help())  # noqa: T201
        raise typer.Exit(BAD_INPUT)


def _receipt_root(context: typer.Context) -> None:
    """Receipts of erasure requests: show, verify without the store, export."""
    _root(context)


_EPILOG = " ".join(EXIT_CODES.split())


def _with(group: typer.Typer, *commands: Callable[..., None]) -> None:
    for command in commands:
        group.command(epilog=_EPILOG)(command)


app = typer.Typer(name="unlearnkit", cls=Commands, epilog=_EPILOG, add_completion=False, pretty_exceptions_enable=False)
app.callback(invoke_without_command=True)(_root)
_with(
    app,
    fit,
    predict,
    forget,
    repair,
    rectify,
    add,
    consolidate,
    export,
    verify,
    fsck,
    status,
    report,
    plan,
    plugins,
    demo,
)

_receipts = typer.Typer(epilog=_EPILOG)
_receipts.callback(invoke_without_command=True)(_receipt_root)
_with(_receipts, receipt.show, receipt.verify, receipt.export)
app.add_typer(_receipts, name="receipt")


def main() -> None:
    """The console script."""
    try:
        app()
    except Exception:  # noqa: BLE001 - whatever it is, it must not look like a finding
        traceback.print_exc()
        say("This is a fault in unlearnkit or in a plugin, not in your input; please report it with the lines above.")
        sys.exit(FAULT)
