"""Inspection: what can be wrong with ledger, blobs and records of a store. Nothing here changes anything.

Bytes are parsed only once they are what their name, seal or signature says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from unlearnkit.blobs import Blobs
from unlearnkit.build import Build
from unlearnkit.config import Blueprint
from unlearnkit.data import ShardRecords, content_hashes
from unlearnkit.errors import StateError, StoreError
from unlearnkit.findings import DERIVE, REPAIR, RESTORE, WITH_DATA, Finding, Findings
from unlearnkit.founding import bare_config, stored_blueprint
from unlearnkit.ledger import ISOLATED, PURGED, RECEIVED, REJECTED, REPAIRED, Cell, Checkpoint, Ledger, Request
from unlearnkit.plan import Plan
from unlearnkit.restoring import Restorer
from unlearnkit.signing import envelope_digest
from unlearnkit.sql import SqlLedger
from unlearnkit.statements import Chain
from unlearnkit.store import CHAIN, Store


def blueprint_of(store: Store, *, or_none: bool) -> Blueprint | None:
    """What the model is built to; None, if so asked, where the store no longer says."""
    try:
        return stored_blueprint(store, bare_config(store.settings()))
    except (StateError, StoreError):
        if or_none:
            return None
        raise


# -- ledger -----------------------------------------------------------------------------------------------------------

_LOST = ("requests", "items", "pseudonyms", "tombstones", "statements", "notes")


def rows(ledger: Ledger) -> Findings:
    """Whether the rows of the ledger are as they were written, and none is missing."""
    for what in ledger.check() if isinstance(ledger, SqlLedger) else []:
        lost = what.startswith(_LOST) or (what[:1].isdigit() and "checkpoints" not in what)
        yield Finding("ledger", "ledger", what, RESTORE if lost else DERIVE)


def requests(ledger: Ledger) -> Findings:
    """Requests in states that no request can be in, and tombstones of none."""
    known = {request.sequence: request for request in ledger.requests()}
    for request in known.values():
        for what in _faults(request):
            yield Finding("request", f"request {request.sequence}", what, RESTORE)
    for pseudonym, sequence in ledger.tombstones().items():
        if sequence not in known or pseudonym not in known[sequence].pseudonyms:
            yield Finding("tombstone", pseudonym[:20], f"request {sequence}, which it names, did not make it", RESTORE)


_FACTS = {
    RECEIVED: ("received_at", "due_at"),
    ISOLATED: ("received_at", "due_at", "digest_isolated", "shards"),
    PURGED: ("received_at", "due_at", "purged_at", "shards"),
    REPAIRED: ("received_at", "due_at", "purged_at", "repaired_at", "digest_after"),
    REJECTED: ("received_at", "due_at", "reason"),
}


def _faults(request: Request) -> Iterator[str]:
    if request.state not in _FACTS:
        yield "it is in no state that a request can be in"
        return
    lacking = [name for name in _FACTS[request.state] if request.facts.get(name) is None]
    if lacking:
        yield f"it is {request.state}, and lacks {', '.join(lacking)}"
    if request.items and request.state not in (RECEIVED, ISOLATED):
        yield f"it is {request.state}, and still says what it was to find"
    if request.pseudonyms and request.state in (RECEIVED, REJECTED):
        yield f"it is {request.state}, and has removed records"


def statements(store: Store) -> Findings:
    """Whether the chain of signed statements is whole, and each request has its own."""
    yield from chained(store, *chain_of(store))


def chain_of(store: Store) -> tuple[Chain, dict[str, Any]]:
    """The chain of statements, and what the ledger remembers of its end: read together, before anything is verified."""
    envelopes, noted = store.ledger.statements(), store.ledger.note(CHAIN, {"number": 0, "digest": None})
    return Chain.read(envelopes, store.secrets.public_keys), noted


def chained(store: Store, chain: Chain, noted: Mapping[str, Any]) -> Findings:
    """What is wrong with a chain that was read, and what is missing in it."""
    ledger = store.ledger
    remedy = "Compare with the receipts that were given out, and restore the ledger and signing.pub from a backup."
    faults = chain.faults(noted["number"])
    last = envelope_digest(chain.envelopes[-1]) if chain.envelopes else None
    if last != noted["digest"]:
        faults.append("The last statement is not the one that the ledger remembers.")
    for what in faults:
        yield Finding("statement", "statements", what, remedy)
    if not faults:
        told = [statement["predicate"] for statement in chain.statements if statement is not None]
        stated = {(predicate["request"]["sequence"], predicate["kind"]) for predicate in told}
        for request in ledger.requests(PURGED, REPAIRED, REJECTED):
            needed = (PURGED, REPAIRED) if request.state == REPAIRED else (request.state,)
            for kind in needed:
                if (request.sequence, kind) not in stated:
                    what = f"no statement says that it is {kind}"
                    yield Finding("statement", f"request {request.sequence}", what, RESTORE)


# -- blobs ------------------------------------------------------------------------------------------------------------


def damaged(blobs: Blobs, names: Iterable[str]) -> set[str]:
    """The blobs, of those of these names, that are not what their name says."""
    found = set()
    for name in names:
        try:
            blobs.get(name)
        except StateError:
            found.add(name)
    return found


def holders(
    cells: Iterable[Cell], checkpoints: Mapping[str, Checkpoint], present: Collection[str], bad: Collection[str]
) -> Findings:
    """Cells and states of which a part is missing or damaged."""
    for cell in cells:
        # What a stale cell without records holds is to be destroyed anyway.
        if cell.n_records:
            for what in _lacking(cell.parts, present, bad):
                yield Finding("cell", place_of(cell), what, WITH_DATA)
    for checkpoint in checkpoints.values():
        for what in _lacking(checkpoint.parts, present, bad):
            yield Finding("state", place_of(checkpoint), what, REPAIR)


def place_of(holder: Cell | Checkpoint) -> str:
    """Where a cell or a state is, in words."""
    return f"shard {holder.shard}, slice {holder.slice}"


def _lacking(parts: Iterable[tuple[str, str]], present: Collection[str], bad: Collection[str]) -> Iterator[str]:
    for part, name in parts:
        if name not in present:
            yield f"its part {part} is missing: blob {name[:12]}"
        elif name in bad:
            yield f"its part {part} is damaged: blob {name[:12]}"


def orphans(present: Collection[str], references: Collection[str]) -> Findings:
    """Blobs that nothing refers to."""
    for name in sorted(set(present) - set(references)):
        yield Finding("orphan", f"blob {name[:12]}", "nothing in the ledger refers to it", REPAIR)


# -- records and plan -------------------------------------------------------------------------------------------------


def plan_of(blueprint: Blueprint, cells: Iterable[Cell], blobs: Blobs) -> Plan:
    """The plan of these cells."""
    return Build.of(blueprint.context, blueprint.records(blobs, cells)).plan


def plan(blueprint: Blueprint, store: Store) -> Findings:
    """Whether the plan is that of the records, and each state that of a step of it."""
    ledger = store.ledger
    expected = plan_of(blueprint, ledger.cells(), store.blobs)
    steps = {step.key: step for step in expected}
    differing = len(ledger.keys() ^ expected.keys)
    if differing:
        yield Finding("plan", "plan", f"{differing} keys are not those of the stored records", REPAIR)
    for key, checkpoint in ledger.checkpoints().items():
        step = steps.get(key)
        found = (checkpoint.shard, checkpoint.slice, checkpoint.parent)
        if key == expected.base:
            continue
        if step is None or found != (step.shard, step.slice, step.parent):
            yield Finding("state", f"state {key[:12]}", "it is of no step of the plan", REPAIR)


def records(blueprint: Blueprint, store: Store, unreadable: Collection[str]) -> Findings:
    """Whether the stored rows are those that the ledger promises, and none is of a forgotten id.

    Parameters
    ----------
    blueprint : Blueprint
    store : Store
    unreadable : collection of str
        The places of cells that are known to be damaged.
    """
    restorer = Restorer(store, blueprint)
    tombstones, own = frozenset(store.ledger.tombstones()), blueprint.records(store.blobs)
    for cell in store.ledger.cells():
        place = place_of(cell)
        if not cell.n_records or place in unreadable:
            continue
        try:
            found = own.moved([cell], restorer.pending).cell(cell.shard, cell.slice)
        except StateError as error:
            yield Finding("cell", place, str(error), WITH_DATA)
            continue
        if not blueprint.config.is_external and not _is_own(found, blueprint):
            yield Finding("cell", place, "its features or targets are not those that its rows are hashes of", WITH_DATA)
        if not cell.stale and own.describe(cell.shard, cell.slice, found).support != cell.support:
            yield Finding("cell", place, "its classes or categories are not those that the ledger knows", WITH_DATA)
        forgotten = int(restorer.matching(found, tombstones).sum()) if tombstones else 0
        if forgotten:
            what = f"{forgotten} of its rows are of ids that are forgotten"
            remedy = "Bring the ledger and the blobs back from one backup, or fit anew without them."
            yield Finding("tombstone", place, what, remedy)


def _is_own(found: ShardRecords, blueprint: Blueprint) -> bool:
    hashes = content_hashes(found.X, found.y, blueprint.schema, blueprint.partition.secret)
    return bool((hashes == found.content).all())
