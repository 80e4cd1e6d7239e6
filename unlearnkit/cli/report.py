"""``unlearnkit report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unlearnkit.cli.output import DONE, FINDING, Json, finish, readable
from unlearnkit.files import sync_folder, write_new
from unlearnkit.store import Store
from unlearnkit.words import count


def report(
    *,
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The folder that the model lives in.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where the page goes, in place of an older one.")
    ] = Path("report.html"),
    as_json: Json = False,
) -> None:
    """What a store holds and what was done in it, as one page to look at; exit code 1 if something needs attention."""
    with readable():
        from unlearnkit.report import facts_of, page

        facts = facts_of(Store.at(store))
        write_new(output, page(facts).encode())
        sync_folder(output.parent)
    findings = list(facts.findings)
    told = {"file": str(output), "at": facts.at, "digest": facts.digest, "requests": len(facts.requests)}
    told |= {"deadlines": facts.timeliness, "statements": facts.proof.n_statements, "findings": findings}
    line = f"{output}: {count(len(facts.requests), 'request')}, {count(facts.proof.n_statements, 'signed statement')}"
    finish(told, [line, *findings], as_json=as_json, code=FINDING if findings else DONE)
