"""``unlearnkit add``, ``unlearnkit rectify`` and ``unlearnkit consolidate``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from unlearnkit.cli.fit import as_it_stands
from unlearnkit.cli.forget import is_done, repaired, told
from unlearnkit.cli.given import Columns, Rows, columns_of, features_of, loader_of, rows_of
from unlearnkit.cli.options import (
    Drop,
    Forgotten,
    IdColumn,
    Jobs,
    ModelName,
    OfForgotten,
    Probability,
    RowsPath,
    Settings,
    StorePath,
    Target,
    WeightColumn,
    optional,
)
from unlearnkit.cli.output import DONE, UNFINISHED, Json, finish, on_terminal, readable, say
from unlearnkit.errors import EnvironmentChangedError, RowsDifferError, TrainingError
from unlearnkit.receipts import Receipt
from unlearnkit.store import Store
from unlearnkit.words import count

Data = Annotated[Path, typer.Option(metavar="FILE", help="The records: CSV with a header line, or Parquet.")]


def add(
    *,
    store: StorePath,
    data: Data,
    target: Target = None,
    id_column: IdColumn = None,
    weight_column: WeightColumn = None,
    drop: Drop = None,
    probability: Probability = None,
    forgotten: OfForgotten = Forgotten.raise_,
    rows: RowsPath = None,
    model: ModelName = None,
    settings: Settings = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Add the records of a file: a new last slice of their shards. Columns are those of the fit if not named."""
    start = time.perf_counter()
    with readable():
        opened = Store.at(store)
        named = {"target": target, "id": id_column, "weight": weight_column, "probability": probability}
        new, load_rows = _rows(data, columns_of(opened, **named), drop), loader_of(rows, opened)
        sisa = _loaded(opened, optional(model, settings), jobs)
        X, before = features_of(sisa, new.X, data), _records(opened)
        options = {"ids": new.ids, "erasure_probability": new.probability, "forgotten": forgotten.value}
        try:
            sisa.partial_fit(X, new.y, sample_weight=new.weight, load_rows=load_rows, **options)
        except (EnvironmentChangedError, RowsDifferError, TrainingError) as error:
            say(f"The records are kept, but the model could not be trained on them: {error}")
        facts = as_it_stands(store, opened, sisa) | {"added": _records(opened) - before, "seconds": _since(start)}
    finish(facts, _lines(facts), as_json=as_json, code=UNFINISHED if facts["degraded_shards"] else DONE)


def rectify(
    *,
    store: StorePath,
    data: Data,
    target: Target = None,
    id_column: IdColumn = None,
    weight_column: WeightColumn = None,
    drop: Drop = None,
    no_repair: Annotated[
        bool, typer.Option("--no-repair", help="Replace the records, and leave the training to `unlearnkit repair`.")
    ] = False,
    rows: RowsPath = None,
    model: ModelName = None,
    settings: Settings = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Replace all records of the ids in a file by those in it. Columns are those of the fit if not named."""
    with readable():
        opened, estimator = Store.at(store), optional(model, settings)
        named = {"target": target, "id": id_column, "weight": weight_column}
        # Where an id belongs is known already.
        new = _rows(data, replace(columns_of(opened, **named), probability=None), drop)
        load_rows = loader_of(rows, opened)
        sisa = _loaded(opened, estimator, jobs)
        X = features_of(sisa, new.X, data)
        sequence = sisa.rectify(X, new.y, new.weight, ids=new.ids, repair=False).request_id
        if not no_repair:
            repaired(opened, estimator, jobs, "The records are replaced", load_rows)
        receipt = Receipt.of(opened.ledger.request(sequence))
    done = is_done(receipt, repair=not no_repair)
    finish({"requests": [receipt]}, told(receipt), as_json=as_json, code=DONE if done else UNFINISHED)


def consolidate(
    *,
    store: StorePath,
    refresh_schema: Annotated[
        bool, typer.Option("--refresh-schema", help="Also drop categories and classes that no record has any more.")
    ] = False,
    rows: RowsPath = None,
    model: ModelName = None,
    settings: Settings = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Rebuild into the slices that a fit would use, records that were added later with the others."""
    start = time.perf_counter()
    with readable():
        opened = Store.at(store)
        load_rows = loader_of(rows, opened)
        sisa = _loaded(opened, optional(model, settings), jobs)
        sisa.consolidate(refresh_schema=refresh_schema, load_rows=load_rows)
        facts = as_it_stands(store, opened, sisa) | {"seconds": _since(start)}
    finish(facts, _lines(facts), as_json=as_json, code=UNFINISHED if facts["degraded_shards"] else DONE)


def _rows(data: Path, columns: Columns, drop: Sequence[str] | None) -> Rows:
    """The records of a file, which need not have the columns that were left out at the fit."""
    return rows_of(data, replace(columns, drop=tuple(drop or ())))


def _loaded(store: Store, estimator: Any, jobs: int | None) -> Any:
    from unlearnkit.estimators import load

    return load(store, estimator=estimator, refresh_s=0).set_params(n_jobs=jobs, verbose=int(on_terminal()))


def _records(store: Store) -> int:
    return sum(cell.n_records for cell in store.ledger.cells())


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 3)


def _lines(facts: dict[str, Any]) -> list[str]:
    what = f"{count(facts['added'], 'record')} added" if "added" in facts else "Consolidated"
    degraded = ", ".join(map(str, facts["degraded_shards"]))
    now = f"{count(facts['records'], 'record')} and {count(facts['steps'], 'step')}"
    return [
        f"{what}; the model has {now}, in {facts['seconds']:.1f} s.",
        *([f"Not trained on all of their records: shards {degraded}. See: unlearnkit status"] if degraded else []),
        f"Digest {facts['digest']}",
    ]
