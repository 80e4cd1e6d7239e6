"""``unlearnkit forget`` and ``unlearnkit repair``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from unlearnkit.cli.given import loader_of, requested
from unlearnkit.cli.options import (
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
from unlearnkit.cli.output import DONE, UNFINISHED, Json, finish, on_terminal, readable, say
from unlearnkit.errors import ParameterError, RowsDifferError, RowsNeededError, UnlearnKitError
from unlearnkit.receipts import Receipt
from unlearnkit.statements import RECTIFICATION
from unlearnkit.store import Store
from unlearnkit.words import count

_CUT_SHORT = "A training that was cut short"


class Missing(StrEnum):
    """What to do about ids that no record has."""

    raise_ = "raise"
    ignore = "ignore"


def forget(
    *,
    store: StorePath,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[IDS]...", help="The ids; - reads them from standard input.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The ids, one on each line; or a table with --id-column.")
    ] = None,
    id_column: Annotated[str | None, typer.Option(metavar="COLUMN", help="Where in a table the ids are.")] = None,
    separately: Annotated[
        bool, typer.Option("--separately", help="One request, with a receipt of its own, for each id.")
    ] = False,
    missing: Annotated[Missing | None, typer.Option(help="About ids that no record has; default: refuse.")] = None,
    no_repair: Annotated[
        bool, typer.Option("--no-repair", help="Forget, and leave the training to `unlearnkit repair`.")
    ] = False,
    record_only: Annotated[
        bool, typer.Option("--record-only", help="Only record the request; whoever opens the store next forgets.")
    ] = False,
    model: ModelName = None,
    settings: Settings = None,
    rows: RowsPath = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Forget all records of these ids, exactly, and train what is missing then."""
    repair = not (no_repair or record_only)
    with readable():
        if record_only and missing is not None:
            raise ParameterError(
                "--record-only does not look for the records, so --missing has no meaning with it; nothing was changed."
            )
        wanted = requested(ids, file, id_column)
        # What could be wrong with it should be found before anything is forgotten.
        estimator = optional(model, settings)
        opened = Store.at(store)
        load_rows = loader_of(rows, opened)
        groups = [[one] for one in dict.fromkeys(wanted)] if separately else [wanted]
        policy = (missing or Missing.raise_).value
        sequences = opened.submit(groups) if record_only else _erased(opened, groups, policy)
        if repair:
            repaired(opened, estimator, jobs, "The records are forgotten", load_rows)
        receipts = [Receipt.of(opened.ledger.request(sequence)) for sequence in sequences]
    done = record_only or all(is_done(receipt, repair=repair) for receipt in receipts)
    finish(
        {"requests": receipts},
        [line for receipt in receipts for line in told(receipt, recorded=record_only)],
        as_json=as_json,
        code=DONE if done else UNFINISHED,
    )


def _erased(store: Store, groups: Sequence[list[Any]], missing: str) -> tuple[int, ...]:
    """Forget without the framework of the model, which may not even be installed here."""
    from unlearnkit.ensemble import SisaEnsemble

    ensemble = SisaEnsemble.without_learner(store)
    if len(groups) == 1:
        return (ensemble.forget(groups[0], repair=False, missing=missing).request_id,)
    if missing == Missing.raise_:
        # Refuses what no record has, before the first of many requests is recorded.
        ensemble.estimate([one for group in groups for one in group])
    sequences = store.submit(groups)
    ensemble.open()
    return sequences


def repaired(store: Store, estimator: Any, jobs: int | None, done: str, load_rows: Any = None) -> None:
    """Train what is missing. What is done by now is not undone by what goes wrong here."""
    from unlearnkit.estimators import load

    # What stands in the way of an earlier training is told once, by the error.
    warnings.filterwarnings("ignore", message=_CUT_SHORT)
    try:
        sisa = load(store, estimator=estimator, refresh_s=0)
        sisa.set_params(n_jobs=jobs, verbose=int(on_terminal())).repair(load_rows=load_rows)
    except UnlearnKitError as error:
        say(f"{done}, but the model could not be trained again: {error}")


def is_done(receipt: Receipt, *, repair: bool) -> bool:
    """Whether all that was asked for is done."""
    if receipt.rejected:
        return True
    return (receipt.repaired_at if repair else receipt.purged_at) is not None


def told(receipt: Receipt, *, recorded: bool = False) -> list[str]:
    """What became of a request, for people."""
    name = f"Request {receipt.request_id}"
    if receipt.rejected:
        return [f"{name}: nothing was done, because {receipt.rejected}."]
    if recorded or receipt.isolated_at is None:
        return [f"{name}: {count(receipt.n_ids, 'id')} recorded, due by {receipt.due_at:%Y-%m-%d}."]
    what = "replaced" if receipt.kind == RECTIFICATION else "forgotten"
    gone = f"{name}: {count(receipt.n_records, 'record')} of {count(receipt.n_ids, 'id')} {what}"
    if receipt.already_forgotten:
        gone += f", {receipt.already_forgotten:,} forgotten before"
    if receipt.skipped:
        gone += f", {len(receipt.skipped):,} unknown"
    lines = [f"{gone}; {count(receipt.states_destroyed, 'state')} destroyed in {count(len(receipt.shards), 'shard')}."]
    if receipt.purged_at is None:
        lines.append("  Purge is not complete; the next call goes on with it.")
    elif receipt.repaired_at is None:
        lines.append("  Repair is due: unlearnkit repair")
    else:
        lines.append(f"  Repaired: {receipt.steps_retrained:,} of {receipt.steps_total:,} steps trained again.")
    lines += [f"  Shard {shard} stays isolated: {why}" for shard, why in receipt.untrainable_shards.items()]
    return lines


def repair(
    *,
    store: StorePath,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Rebuild shards whose states are damaged, or made by other library versions."),
    ] = False,
    rows: RowsPath = None,
    target: Target = None,
    id_column: IdColumn = None,
    weight_column: WeightColumn = None,
    probability: Probability = None,
    model: ModelName = None,
    settings: Settings = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Carry out all recorded requests, and train the steps that are missing."""
    with readable():
        from unlearnkit.estimators import load

        named = {"target": target, "id": id_column, "weight": weight_column, "probability": probability}
        if rows is None and any(named.values()):
            raise ParameterError("Without --rows PATH there is no use for names of its columns; nothing was done.")
        warnings.filterwarnings("ignore", message=_CUT_SHORT)
        opened = Store.at(store)
        load_rows = loader_of(rows, opened, **named)
        sisa = load(opened, estimator=optional(model, settings), refresh_s=0)
        sisa.set_params(n_jobs=jobs, verbose=int(on_terminal()))
        receipts = _repaired(sisa, rebuild=rebuild, load_rows=load_rows)
        degraded = list(sisa.degraded_shards_)
    finish(
        {"requests": receipts, "degraded_shards": degraded},
        [line for receipt in receipts for line in told(receipt)] or ([] if degraded else ["Nothing was due."]),
        as_json=as_json,
        code=UNFINISHED if degraded else DONE,
    )


def _repaired(sisa: Any, **options: Any) -> Sequence[Receipt]:
    """What was due; without the right rows it stays due."""
    try:
        receipts: Sequence[Receipt] = sisa.repair(**options)
    except (RowsDifferError, RowsNeededError) as error:
        say(str(error))
        return ()
    return receipts
