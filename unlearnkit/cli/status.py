"""``unlearnkit status``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from rich.table import Table

from unlearnkit.cli import bundle as of_bundles
from unlearnkit.cli.options import BundlePath, StorePathOrNone, one_of
from unlearnkit.cli.output import DONE, FINDING, Json, finish, moment, readable, spoken
from unlearnkit.overview import OpenRequest, Overview, overview
from unlearnkit.standing import standing
from unlearnkit.store import Store
from unlearnkit.words import count
from unlearnkit.words import size as of_bytes

_SHOWN = 50


def status(*, store: StorePathOrNone = None, bundle: BundlePath = None, as_json: Json = False) -> None:
    """What is in a store or bundle; exit code 1 for a missed deadline, a loss, or a bundle that must be replaced."""
    with readable():
        if bundle is None or store is None:
            one_of(store, bundle)
        facts, lines, findings = ({}, [], []) if store is None else _of_store(store)
        if bundle is not None:
            of_bundle = _of_bundle(bundle, store)
            facts, lines, findings = facts | of_bundle[0], lines + of_bundle[1], findings + of_bundle[2]
    facts |= {"findings": findings}
    finish(facts, lines + findings, as_json=as_json, code=FINDING if findings else DONE)


_Told: TypeAlias = tuple[dict[str, Any], list[Any], list[str]]
"""Facts, lines, and findings."""


def _of_store(store: Path) -> _Told:
    found = overview(Store.at(store))
    facts = asdict(found) | {"store": str(store), "overdue": found.overdue}
    lines = [f"{store}: {found.model} ({found.task})", _table(found), *_open(found.open), *map(spoken, found.upkeep)]
    return facts, lines, _findings(found)


def _of_bundle(bundle: Path, store: Path | None) -> _Told:
    from unlearnkit.bundle import open_bundle

    manifest = open_bundle(bundle).manifest
    facts = {"file": str(bundle)} | of_bundles.told(manifest)
    if store is None:
        return {"bundle": facts}, of_bundles.shown(manifest), []
    found = standing(manifest, Store.at(store))
    facts |= {"verdict": found.verdict, "requests_since": found.requests, "requests_waiting": found.waiting}
    return {"bundle": facts}, of_bundles.remarks(found, bundle), of_bundles.findings(found, bundle, store)


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
    size = f"data {of_bytes(sizes.data)}, states {of_bytes(sizes.states)}"
    size += "" if sizes.ledger is None else f", ledger {of_bytes(sizes.ledger)}"
    size += f", unreferenced {of_bytes(sizes.unreferenced)}" if sizes.unreferenced else ""
    policy = f"{found.policy.regime}, {count(found.policy.days_to_answer, 'day')} to answer"
    rows = {
        "records": f"{found.n_records:,} in {count(found.n_shards, 'shard')} of {count(found.n_slices, 'slice')}",
        "arrived": _arrived(found),
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


def _arrived(found: Overview) -> str:
    if not found.arrived:
        return "none since the fit"
    most = max(found.arrived, key=lambda shard: found.arrived[shard])
    added = f"{count(sum(found.arrived.values()), 'slice')} in {count(len(found.arrived), 'shard')}"
    return f"{added}, most in shard {most}: {found.arrived[most]}"


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
