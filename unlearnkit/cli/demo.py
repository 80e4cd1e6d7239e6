"""``unlearnkit demo``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from unlearnkit.cli.output import DONE, FINDING, Json, page, readable, show
from unlearnkit.errors import ParameterError

if TYPE_CHECKING:
    from unlearnkit.demo import Case, Line


class TaskName(StrEnum):
    """What a target asks for."""

    classification = "classification"
    regression = "regression"


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

    with readable():
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
        show(*notes, table.table(lines, page().width), table.verdict(lines, seconds))
    raise typer.Exit(DONE if table.all_exact(lines) else FINDING)


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
