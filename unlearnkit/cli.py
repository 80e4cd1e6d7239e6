"""The command line."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from unlearnkit.errors import ParameterError, UnlearnKitError

if TYPE_CHECKING:
    from unlearnkit.demo import Case, Line

PIPED_WIDTH = 120

app = typer.Typer(
    name="unlearnkit",
    help="Exact machine unlearning for the models you already use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


class TaskName(StrEnum):
    """What a target asks for."""

    classification = "classification"
    regression = "regression"


@app.callback()
def _root() -> None:
    """Exact machine unlearning for the models you already use."""


@app.command()
def demo(
    *,
    data: Annotated[
        Path | None, typer.Option(help="A CSV file with a header line, instead of the bundled data.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="The column of the file to predict.")] = None,
    id_column: Annotated[str | None, typer.Option(help="The column that says whose row it is.")] = None,
    task: Annotated[TaskName | None, typer.Option(help="What the target is; guessed if not given.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Use at most so many rows of the file.")] = 20_000,
    only: Annotated[str | None, typer.Option(help="Only models with this text in their name.")] = None,
    as_json: Json = False,
) -> None:
    """Train, forget, repair, and compare with a refit: all frameworks, on real data."""
    from unlearnkit.demo import BUNDLED, cases_for, read_csv, table

    with _readable_errors():
        _check_options(data, target=target, id_column=id_column, task=task)
        cases: Sequence[Case] = BUNDLED
        notes: Sequence[str] = ()
        if data is not None and target is not None:
            read = read_csv(data, target, id_column, task=None if task is None else task.value, max_rows=rows)
            cases, notes = cases_for(read.data), read.notes
        start = time.perf_counter()
        lines = _run(_chosen(cases, only))
    seconds = time.perf_counter() - start
    if as_json:
        print(table.as_json(lines, notes, seconds))  # noqa: T201
    else:
        _print(*notes, table.table(lines, _console().width), table.verdict(lines, seconds))
    raise typer.Exit(0 if table.all_exact(lines) else 1)


def _check_options(data: Path | None, **of_file: Any) -> None:
    if data is None:
        given = [f"--{name.replace('_', '-')}" for name, value in of_file.items() if value is not None]
        if given:
            raise ParameterError(f"Without --data FILE.csv there is no use for {', '.join(given)}; nothing was done.")
    elif of_file["target"] is None:
        raise ParameterError("--data needs --target COLUMN, the column to predict; nothing was done.")


def _chosen(cases: Sequence[Case], only: str | None) -> tuple[Case, ...]:
    chosen = tuple(case for case in cases if only is None or only.lower() in case.model.lower())
    if not chosen:
        names = ", ".join(case.model for case in cases)
        raise ParameterError(f"No model has {only!r} in its name; nothing was done. There are: {names}")
    return chosen


def _run(cases: Sequence[Case]) -> list[Line]:
    """Run the cases behind a bar on standard error."""
    from unlearnkit.demo import run

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:30}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    lines = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=len(cases))
        for line in run(cases, lambda name: bar.update(task, description=name)):
            lines.append(line)
            bar.advance(task)
    return lines


@app.command()
def plugins(*, as_json: Json = False) -> None:
    """The installed plugins: what they wrap, and which of them failed to import."""
    from unlearnkit.adapters import plugins as installed

    found = installed()
    claims = {adapter.name: list(adapter.native_types) for adapter in found.adapters}
    if as_json:
        print(json.dumps({"adapters": claims, "broken": found.broken}, indent=1))  # noqa: T201
    else:
        _print(_plugin_table(claims), *(f"{name} failed to import: {why}" for name, why in found.broken.items()))
    raise typer.Exit(1 if found.broken else 0)


def _plugin_table(claims: dict[str, list[str]]) -> Table:
    grid = Table("Adapter", "Wraps what derives from", box=None, pad_edge=False)
    for name, types in sorted(claims.items()):
        grid.add_row(name, "\n".join(t.replace(":", ".") for t in types))
    return grid


def _console() -> Console:
    """A terminal as wide as it is, or a pipe as wide as the table."""
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)


def _print(*parts: Any) -> None:
    console = _console()
    for part in parts:
        console.print(part, markup=False)


@contextmanager
def _readable_errors() -> Iterator[None]:
    """An error of ours is one line on standard error, and exit code 2."""
    try:
        yield
    except UnlearnKitError as error:
        message = " ".join(str(error).split())
        print(f"unlearnkit: {message}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(2) from error


def main() -> None:
    """The console script."""
    app()
