"""``unlearnkit verify``."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from unlearnkit.cli.given import Rows, columns_of, loader_of, remaining, rows_of
from unlearnkit.cli.options import (
    Drop,
    IdColumn,
    Jobs,
    ModelName,
    Probability,
    RowsPath,
    Settings,
    StorePath,
    Target,
    WeightColumn,
    optional,
)
from unlearnkit.cli.output import DONE, FINDING, Json, finish, on_terminal, readable
from unlearnkit.errors import ParameterError
from unlearnkit.receipts import VerifyReport
from unlearnkit.store import Store
from unlearnkit.words import count

_SHOWN = 20


def verify(
    *,
    store: StorePath,
    shards: Annotated[str | None, typer.Option(metavar="N,N,...", help="Check these shards only.")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Check so many shards, drawn at random.")] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rebuild from these records instead of the store's own.")
    ] = None,
    target: Target = None,
    id_column: IdColumn = None,
    weight_column: WeightColumn = None,
    drop: Drop = None,
    probability: Probability = None,
    rows_path: RowsPath = None,
    model: ModelName = None,
    settings: Settings = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Rebuild the model in an empty store and compare every state; exit code 1 if one differs or is missing."""
    with readable():
        from unlearnkit.estimators import load

        named = {"target": target, "id": id_column, "weight": weight_column, "drop": drop, "probability": probability}
        if data is None and any(named.values()):
            raise ParameterError("Without --data FILE there is no use for names of its columns; nothing was done.")
        opened = Store.at(store)
        load_rows = loader_of(rows_path, opened)
        chosen = _chosen(opened.settings()["n_shards"], shards, sample)
        rows, left_out = None, 0
        if data is not None:
            columns = columns_of(opened, **named)
            rows, left_out = remaining(rows_of(data, columns), opened)
        sisa = load(opened, estimator=optional(model, settings), refresh_s=0)
        sisa.set_params(n_jobs=jobs, verbose=int(on_terminal()))
        report = _report(sisa, rows, chosen, load_rows)
        changed = {} if report.same_environment else _changed(opened)
    facts = {
        "exact": report.exact,
        "steps": report.n_steps,
        "shards": report.shards,
        "differing": report.differing,
        "due": report.due,
        "forgotten_rows": report.forgotten_rows,
        "same_environment": report.same_environment,
        "changed": changed,
        "rows_left_out": left_out,
        "digest": report.digest,
        "rebuilt_digest": report.rebuilt_digest,
    }
    lines = [*_left_out(left_out), *_lines(report, changed)]
    finish(facts, lines, as_json=as_json, code=DONE if report.exact else FINDING)


def _report(sisa: Any, rows: Rows | None, shards: list[int] | None, load_rows: Any) -> VerifyReport:
    report: VerifyReport
    if rows is None:
        report = sisa.verify(shards=shards, load_rows=load_rows)
    else:
        report = sisa.verify(
            rows.X, rows.y, rows.weight, ids=rows.ids, erasure_probability=rows.probability, shards=shards
        )
    return report


def _chosen(n_shards: int, shards: str | None, sample: int | None) -> list[int] | None:
    if shards is not None and sample is not None:
        raise ParameterError("--shards and --sample both choose what to check; nothing was done. Give one of them.")
    if sample is not None:
        return sorted(secrets.SystemRandom().sample(range(n_shards), min(sample, n_shards)))
    if shards is None:
        return None
    named = [text.strip() for text in shards.split(",")]
    wrong = [text for text in named if not (text.isascii() and text.isdigit() and int(text) < n_shards)]
    if wrong:
        raise ParameterError(f"--shards {shards} is not a list of shards from 0 to {n_shards - 1}; nothing was done.")
    return [int(text) for text in named]


def _changed(store: Store) -> dict[str, tuple[str, str]]:
    from unlearnkit.overview import overview

    return overview(store).changed


def _left_out(n: int) -> list[str]:
    return [f"Left out: {count(n, 'row')} of ids that the store has forgotten."] if n else []


def _lines(report: VerifyReport, changed: dict[str, tuple[str, str]]) -> list[str]:
    """The outcome, and what to do about it."""
    which = "" if report.shards is None else f" of shards {', '.join(map(str, report.shards))}"
    steps = f"{count(report.n_steps, 'state')}{which}"
    environment = _environment(changed) if not report.same_environment else []
    if report.exact:
        digest = [] if report.shards is not None else [f"Digest {report.digest}"]
        return [f"Exact: {steps} rebuilt, every byte is the same.", *digest, *environment]
    lines = [f"NOT EXACT: {steps} compared."]
    if report.due:
        lines.append(f"Not trained: {_places(report.due)}. Train them: unlearnkit repair")
    if report.differing:
        lines.append(
            f"Different: {_places(report.differing)}. If they are damaged, this puts it right: unlearnkit fsck --repair"
        )
    if report.forgotten_rows:
        lines.append(
            f"Forgotten ids that have rows in the store: {report.forgotten_rows:,}. See where: unlearnkit fsck"
        )
    return lines + environment


def _environment(changed: dict[str, tuple[str, str]]) -> list[str]:
    named = ", ".join(f"{name} {before}, here {here}" for name, (before, here) in changed.items())
    also = f" ({named})" if named else ""
    text = f"The environment is another than the states were made in{also}: a difference need not be a fault."
    return [f"{text} Verify where they were made to know."]


def _places(places: tuple[tuple[int, int], ...]) -> str:
    named = ", ".join(f"shard {shard} slice {r}" for shard, r in places[:_SHOWN])
    return named + (f" and {len(places) - _SHOWN:,} more" if len(places) > _SHOWN else "")
