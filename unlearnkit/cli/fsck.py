"""``unlearnkit fsck``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unlearnkit.cli.given import Columns, columns_of, rows_of
from unlearnkit.cli.options import Drop, IdColumn, ModelName, Settings, StorePath, Target, WeightColumn, optional
from unlearnkit.cli.output import DONE, FINDING, Json, finish, readable, spoken
from unlearnkit.errors import ParameterError
from unlearnkit.store import Store

if TYPE_CHECKING:
    from unlearnkit.fsck import Finding


def fsck(
    *,
    store: StorePath,
    repair: Annotated[bool, typer.Option("--repair", help="Put right what can be put right.")] = False,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The original records, to bring damaged data back from.")
    ] = None,
    target: Target = None,
    id_column: IdColumn = None,
    weight_column: WeightColumn = None,
    drop: Drop = None,
    model: ModelName = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Check blobs, ledger, receipts, secrets and file modes; exit code 1 if something is wrong."""
    with readable():
        from unlearnkit import fsck as checks

        given = [name for name in (data, target, id_column, weight_column, *(drop or ())) if name is not None]
        if given and not (repair and data is not None):
            raise ParameterError("--data FILE and the names of its columns go with --repair; nothing was done.")
        opened, estimator = Store.at(store), optional(model, settings)
        if repair:
            named = {"target": target, "id": id_column, "weight": weight_column, "drop": drop}
            columns = columns_of(opened, **named) if data is not None else Columns()
            rows = None if data is None else rows_of(data, columns)
            # The rows of forgotten ids are left out there.
            original = None if rows is None else checks.Data(rows.X, rows.y, rows.weight, rows.ids)
            findings = checks.heal(opened, opener=_opener(estimator), data=original)
        else:
            findings = checks.check(opened)
    open_ = [finding for finding in findings if not finding.healed]
    finish(
        {"clean": not findings, "findings": findings},
        _lines(findings),
        as_json=as_json,
        code=FINDING if open_ else DONE,
    )


def _opener(estimator: Any) -> Any:
    """Opens a store with the framework of its model, which trains what is missing."""

    def opened(store: Store) -> object:
        from unlearnkit.estimators import load

        return load(store, estimator=estimator, refresh_s=0)

    return opened


def _lines(findings: tuple[Finding, ...]) -> list[str]:
    if not findings:
        return ["Nothing is wrong."]
    lines = [f"healed  {finding.place}: {finding.what}" for finding in findings if finding.healed]
    remedies: dict[str, list[str]] = {}
    for finding in findings:
        if not finding.healed:
            remedies.setdefault(finding.remedy, []).append(f"WRONG   {finding.place}: {finding.what}")
    for remedy, wrong in remedies.items():
        lines += [*wrong, f"        {spoken(remedy)}"]
    return lines
