"""``unlearnkit status``."""

from __future__ import annotations

from dataclasses import asdict

from rich.table import Table

from unlearnkit.cli.options import StorePath
from unlearnkit.cli.output import DONE, FINDING, Json, count, finish, moment, readable
from unlearnkit.overview import OpenRequest, Overview, overview
from unlearnkit.store import Store

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024
_SHOWN = 50


def status(*, store: StorePath, as_json: Json = False) -> None:
    """What is in a store and what is open in it; exit code 1 if a deadline is missed or something is lost."""
    with readable():
        found = overview(Store.at(store))
    findings = _findings(found)
    facts = asdict(found) | {"store": str(store), "overdue": found.overdue, "findings": findings}
    finish(
        facts,
        [f"{store}: {found.model} ({found.task})", _table(found), *_open(found.open), *findings],
        as_json=as_json,
        code=FINDING if findings else DONE,
    )


def _findings(found: Overview) -> list[str]:
    findings = []
    if found.overdue:
        named = ", ".join(map(str, found.overdue[:_SHOWN]))
        findings.append(f"Overdue: {named}. Carry them out: unlearnkit repair")
    if found.missing_blobs:
        findings.append(f"Missing: {count(found.missing_blobs, 'blob')}. See what is lost: unlearnkit fsck")
    return findings


def _table(found: Overview) -> Table:
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in _rows(found).items():
        grid.add_row(name, text)
    return grid


def _rows(found: Overview) -> dict[str, str]:
    sizes = found.sizes
    size = f"data {_size(sizes.data)}, states {_size(sizes.states)}"
    size += "" if sizes.ledger is None else f", ledger {_size(sizes.ledger)}"
    size += f", unreferenced {_size(sizes.unreferenced)}" if sizes.unreferenced else ""
    policy = f"{found.policy.regime}, {count(found.policy.days_to_answer, 'day')} to answer"
    rows = {
        "records": f"{found.n_records:,} in {count(found.n_shards, 'shard')} of {count(found.n_slices, 'slice')}",
        "requests": ", ".join(f"{number:,} {state}" for state, number in found.requests.items()),
        "policy": policy,
        "tombstones": f"{found.tombstones:,}",
        "receipts": f"{count(found.statements, 'signed statement')}",
        "degraded": _degraded(found),
        "size": size,
        "made with": ", ".join(f"{name} {version}" for name, version in found.environment.items()) or "-",
        "here": "the same" if not found.changed else ", ".join(f"{n} {here}" for n, (_, here) in found.changed.items()),
    }
    rows |= {f"shard {shard}": f"cannot be trained: {why}" for shard, why in found.untrainable_shards.items()}
    return rows


def _degraded(found: Overview) -> str:
    if not found.degraded_shards:
        return "no shard"
    steps = sum(found.degraded_shards.values())
    under_way = "; a training was begun and is not finished" if found.training else ""
    shards = ", ".join(map(str, found.degraded_shards))
    return f"shards {shards}: {steps:,} of {found.steps_total:,} steps to train{under_way}"


def _open(requests: tuple[OpenRequest, ...]) -> list[Table | str]:
    if not requests:
        return []
    grid = Table("Request", "State", "Received", "Due", "Days left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for request in requests[:_SHOWN]:
        left = "OVERDUE" if request.overdue else f"{request.days_left:.1f}"
        grid.add_row(str(request.sequence), request.state, moment(request.received_at), moment(request.due_at), left)
    rest = len(requests) - _SHOWN
    return ["", grid, *([f"... and {rest:,} more"] if rest > 0 else []), ""]


def _size(n: float) -> str:
    for unit in _UNITS[:-1]:
        if n < _STEP:
            return f"{n:.0f} {unit}" if unit == _UNITS[0] else f"{n:.1f} {unit}"
        n /= _STEP
    return f"{n:.1f} {_UNITS[-1]}"
