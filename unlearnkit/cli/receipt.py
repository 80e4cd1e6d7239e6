"""``unlearnkit receipt show | verify | export``."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.table import Table

from unlearnkit.cli.given import STDIN, text_of
from unlearnkit.cli.options import StorePath
from unlearnkit.cli.output import DONE, FINDING, Json, finish, moment, readable
from unlearnkit.errors import DataError, ParameterError, StateError, UnknownRecordError
from unlearnkit.store import Store
from unlearnkit.words import count

if TYPE_CHECKING:
    from unlearnkit.ledger import Request


def show(
    *, store: StorePath, sequence: Annotated[int, typer.Argument(metavar="SEQ", min=1)], as_json: Json = False
) -> None:
    """What is known of one request, by its number."""
    with readable():
        from unlearnkit.receipts import Receipt

        request = _request(Store.at(store), sequence)
        facts = {"state": request.state} | asdict(Receipt.of(request))
    finish(facts, [_table(facts)], as_json=as_json)


def _request(store: Store, sequence: int) -> Request:
    store.settings()
    try:
        return store.ledger.request(sequence)
    except LookupError:
        raise ParameterError(f"There is no request {sequence} in this store; nothing was done.") from None


def _table(facts: dict[str, Any]) -> Table:
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts.items():
        grid.add_row(name.replace("_", " "), _cell(name, value))
    return grid


def _cell(name: str, value: Any) -> str:
    if name.endswith("_at"):
        return moment(value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {one}" for key, one in value.items()) or "-"
    if isinstance(value, Collection) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "-"
    return "-" if value in (None, "") else str(value)


def verify(
    *,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Signed statements, one on each line; - for standard input.")
    ],
    key: Annotated[Path, typer.Option(metavar="PUB", help="The public key or keys, as in keys/signing.pub.")],
    expect: Annotated[
        str | None,
        typer.Option(
            metavar="N|DIGEST", help="How many statements there are at least, or the SHA-256 of one that must be there."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check signed statements by the public key alone; exit code 1 if anything is not as it was issued."""
    with readable():
        from unlearnkit.statements import verify_file

        text, keys = text_of(file), text_of(key)
        expected = int(expect) if expect is not None and expect.isascii() and expect.isdigit() else expect
        try:
            findings = verify_file(text, keys, expected)
        except StateError as error:
            # Of the keys that were given: a statement that is not sound is a finding.
            raise ParameterError(str(error)) from error
    n = len(text.splitlines())
    good = f"{count(n, 'statement')}, every signature holds" + (" and none is missing between them." if n > 1 else ".")
    finish(
        {"sound": not findings, "statements": n, "findings": findings},
        findings or [good],
        as_json=as_json,
        code=FINDING if findings else DONE,
    )


def export(
    *,
    store: StorePath,
    sequences: Annotated[
        list[int] | None, typer.Argument(metavar="[SEQ]...", min=1, help="Of these requests; default: of all.")
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The version for this data subject; - reads the id from standard input."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE")] = None,
    as_json: Json = False,
) -> None:
    """Signed statements, one on each line, for `receipt verify`; with --subject what to tell a data subject."""
    with readable():
        opened = Store.at(store)
        opened.settings()
        chosen = [_request(opened, sequence).sequence for sequence in sequences or ()]
        if subject is None:
            envelopes = _envelopes(opened, chosen)
            facts: dict[str, Any] = {"statements": [json.loads(envelope) for envelope in envelopes]}
            text = "".join(f"{envelope}\n" for envelope in envelopes)
        else:
            from unlearnkit.subjects import subject_text

            versions = _versions(opened, _subject(subject), chosen)
            facts, text = {"requests": versions}, "\n".join(map(subject_text, versions))
        if output is not None:
            _write(output, text)
    if output is not None:
        finish(facts, [f"Written to {output}"], as_json=as_json)
    _print(facts, text, as_json=as_json)


def _envelopes(store: Store, sequences: Sequence[int]) -> list[str]:
    """The statements about these requests, or all."""
    from unlearnkit.statements import read

    envelopes = list(store.ledger.statements())
    if not sequences:
        return envelopes
    keys, wanted = store.secrets.public_keys, {*sequences}
    found = [e for e in envelopes if read(e, keys)["predicate"]["request"]["sequence"] in wanted]
    if not found:
        raise ParameterError(
            f"Nothing is signed yet about {'this request' if len(wanted) == 1 else 'these requests'}; nothing was "
            "done. It is once they are purged: unlearnkit repair"
        )
    return found


def _subject(given: str) -> str:
    if given != STDIN:
        return given
    lines = [line for line in sys.stdin.read().splitlines() if line.strip()]
    if len(lines) != 1:
        raise ParameterError(f"Standard input has {len(lines)} lines with an id; nothing was done. Give one id.")
    return lines[0]


def _versions(store: Store, subject: str, sequences: Sequence[int]) -> list[dict[str, Any]]:
    """What the subject is told of each request that removed records of theirs."""
    from unlearnkit.subjects import subject_version

    addresses = store.addresses(store.settings())
    (address,) = addresses.items([subject])
    (own,) = addresses.pseudonyms([bytes.fromhex(address)])
    requests = [r for r in store.ledger.requests() if not sequences or r.sequence in sequences]
    waiting = [r.sequence for r in requests if address in r.items]
    if waiting:
        raise ParameterError(
            f"A request for this id is recorded ({_list(waiting)}), but not carried out yet; nothing was done. Carry "
            "it out first: unlearnkit repair"
        )
    removed = [request.sequence for request in requests if not request.pseudonyms.isdisjoint(own)]
    if not removed:
        raise UnknownRecordError(
            "No request" + (" of these" if sequences else "") + " has removed records of this id; nothing was done."
        )
    keys = store.secrets.public_keys
    return [subject_version(_envelopes(store, [sequence]), keys, own) for sequence in removed]


def _list(sequences: Iterable[int]) -> str:
    return ", ".join(map(str, sequences))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} could not be written ({error.strerror}).") from error


def _print(facts: dict[str, Any], text: str, *, as_json: bool) -> NoReturn:
    # Not through rich, which would fold the lines.
    print(json.dumps(facts, indent=1) if as_json else text, end="\n" if as_json else "")  # noqa: T201
    raise typer.Exit(DONE)
