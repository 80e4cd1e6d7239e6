"""``unlearnkit plan``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from unlearnkit.cli.given import Columns, rows_of
from unlearnkit.cli.options import Drop, IdColumn, Settings, WeightColumn, built
from unlearnkit.cli.output import Json, finish, on_terminal, readable
from unlearnkit.errors import ParameterError
from unlearnkit.sharding import ShardingPlan, table_row

_SHARDS = "1,2,5,10,20,50"
_SUBSAMPLE = 20_000


def plan(
    *,
    model: Annotated[
        str, typer.Option(metavar="MODULE:CLASS", help="The model to wrap, such as lightgbm:LGBMClassifier.")
    ],
    data: Annotated[Path, typer.Option(metavar="FILE", help="The records: CSV with a header line, or Parquet.")],
    target: Annotated[str, typer.Option(metavar="COLUMN", help="The column to predict.")],
    requests_per_month: Annotated[float, typer.Option(help="Ids that are to be forgotten in 30 days, as expected.")],
    deadline: Annotated[float, typer.Option(metavar="DAYS", help="How long repair may wait for more requests.")],
    max_accuracy_loss: Annotated[
        float, typer.Option(help="What may be lost against the model without shards, in units of the score.")
    ],
    settings: Settings = None,
    id_column: IdColumn = None,
    weight_column: WeightColumn = None,
    drop: Drop = None,
    shards: Annotated[str, typer.Option(metavar="N,N,...", help="The numbers of shards to try.")] = _SHARDS,
    slices: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="The numbers of slices to try; default: what the model can.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-validation.")] = 3,
    scoring: Annotated[
        str | None, typer.Option(help="What accuracy is, as scikit-learn names it; default: the model's own.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Try on so many rows, drawn at random.")] = _SUBSAMPLE,
    seed: Annotated[int | None, typer.Option(min=0, help="Draw the same rows and folds again.")] = None,
    chart: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw accuracy against cost: a name in .png or .svg.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Recommend numbers of shards and slices, by accuracy and the cost of requests; nothing is stored."""
    with readable():
        n_shards, n_slices = _numbers("shards", shards), None if slices is None else _numbers("slices", slices)
        estimator = built(model, settings or ())
        given = rows_of(data, Columns(target, id_column, weight_column, None, tuple(drop or ())))
        from unlearnkit.planner import plan_sharding

        found = plan_sharding(
            estimator,
            given.X,
            given.y,
            given.weight,
            ids=given.ids,
            requests_per_month=requests_per_month,
            deadline=deadline,
            max_accuracy_loss=max_accuracy_loss,
            n_shards=n_shards,
            n_slices=n_slices,
            cv=folds,
            scoring=scoring,
            rows=rows,
            random_state=seed,
            verbose=int(on_terminal()),
        )
        if chart is not None:
            found.plot(chart)
    facts = json.loads(found.to_json()) | {"chart": None if chart is None else str(chart)}
    finish(facts, _lines(found, chart), as_json=as_json)


def _numbers(name: str, text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise ParameterError(f"--{name} {text} is not a list of numbers from 1 on, such as 1,5,10; nothing was tried.")
    return [int(part) for part in parts]


def _lines(found: ShardingPlan, chart: Path | None) -> list[Table | str]:
    measured = (
        f"Measured on {found.rows_measured:,} of {found.n_records:,} rows; accuracy is {found.scoring}. At size: what "
        "is lost with shards as large as they will be, but fewer. Steps, records and time are of one request."
    )
    left_out = [f"Not tried: {choice} ({why})" for choice, why in found.left_out.items()]
    drawn = [] if chart is None else [f"Chart  {chart}"]
    fitted = f"unlearnkit fit ... --shards {found.n_shards} --slices {found.n_slices}"
    return [_table(found), measured, *left_out, "", found.reason, f"Fit    {fitted}", *drawn]


def _table(found: ShardingPlan) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ["", *table_row(found.chosen)]:
        grid.add_column(name, justify="right")
    for candidate in found.candidates:
        grid.add_row("->" if candidate == found.chosen else "", *table_row(candidate).values())
    return grid
