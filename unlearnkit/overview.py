"""The overview of a store: what it holds, what is open in it, and what somebody should see to.

It is read from the ledger and from the sizes of files. Nothing is trained, no row is changed, and no framework, no
secret and no record is needed.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from unlearnkit import upkeep
from unlearnkit.blobs import Remote
from unlearnkit.data import SliceFacts
from unlearnkit.environment import environment_now
from unlearnkit.figures import ShardRow
from unlearnkit.folder import DirectoryBlobs
from unlearnkit.ledger import ISOLATED, PURGED, RECEIVED, REJECTED, REPAIRED, UNFINISHED, Cell, Checkpoint, Request
from unlearnkit.plan import Context, Plan, missing, plan_all, standing
from unlearnkit.policy import Policy, now
from unlearnkit.store import BUILT, ENVIRONMENT, TRAINING, UNTRAINABLE, Store

STATES = (RECEIVED, ISOLATED, PURGED, REPAIRED, REJECTED)
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A request that is not done with.

    Attributes
    ----------
    sequence : int
    state : {"received", "isolated", "purged"}
        Purged ones are forgotten, and wait for repair only.
    received_at, due_at : datetime
    days_left : float
        To the deadline; negative when it has passed.
    overdue : bool
        The deadline has passed, and the records are not purged.
    """

    sequence: int
    state: str
    received_at: datetime
    due_at: datetime
    days_left: float
    overdue: bool


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes on the disk.

    Attributes
    ----------
    data, states : int
        Blobs of the records, and of the checkpoints.
    unreferenced : int
        Files among the blobs that nothing refers to. The next opening destroys them.
    ledger : int or None
        None where it is no file.
    """

    data: int
    states: int
    unreferenced: int
    ledger: int | None


@dataclass(frozen=True, slots=True)
class Overview:
    """What a store holds and what is open in it.

    Attributes
    ----------
    store, model, task : str
    n_shards, n_slices, n_records : int
    policy : Policy
    requests : dict of str to int
        How many there are in each state.
    open : tuple of OpenRequest
        Oldest first.
    degraded_shards : dict of int to int
        Shards with steps that are not trained (again), and how many those are.
    untrainable_shards : dict of int to str
        Those of them that cannot be trained on what is left, and why.
    steps_total : int
    training : bool
        A training was begun and is not finished.
    arrived : dict of int to int
        Shards to which records were added after the fit, and in how many slices.
    upkeep : tuple of str
        What the life of the model has left behind that makes it dearer or weaker, and what to do about it.
    tombstones, statements : int
    sizes : Sizes
    missing_blobs : int
        Blobs that the ledger refers to and that are not there.
    environment : dict of str to str
        Library versions that the stored states were made with.
    changed : dict of str to (str, str)
        What differs in the environment of this process: as recorded, and as it is here.
    """

    store: str
    model: str
    task: str
    n_shards: int
    n_slices: int
    n_records: int
    policy: Policy
    requests: dict[str, int]
    open: tuple[OpenRequest, ...]
    degraded_shards: dict[int, int]
    untrainable_shards: dict[int, str]
    steps_total: int
    training: bool
    arrived: dict[int, int]
    upkeep: tuple[str, ...]
    tombstones: int
    statements: int
    sizes: Sizes
    missing_blobs: int
    environment: dict[str, str]
    changed: dict[str, tuple[str, str]]

    @property
    def overdue(self) -> tuple[int, ...]:
        """The sequences of requests that are past their deadline and not purged."""
        return tuple(request.sequence for request in self.open if request.overdue)


def overview(store: Store) -> Overview:
    """What `unlearnkit status` shows of a store.

    Parameters
    ----------
    store : Store

    Raises
    ------
    StoreError
        If there is none, or it holds no model.
    StateError
        If its ledger is damaged.
    """
    settings, notes = store.settings(), store.ledger.notes()
    requests, cells, checkpoints = store.ledger.requests(), store.ledger.cells(), store.ledger.checkpoints()
    facts, n_slices = facts_of(settings, cells), settings["n_slices"]
    plan = planned(settings, facts)
    counts = plan.counts(n_slices)
    arrived = {shard: upkeep.arrived(n_slices, slices) for shard, slices in enumerate(counts)}
    due = {shard: len(missing(steps, checkpoints)) for shard, steps in enumerate(plan.shards)}
    files = _files(store)
    return Overview(
        store=repr(store),
        model=settings["name"],
        task=settings["estimator"]["task"],
        n_shards=settings["n_shards"],
        n_slices=n_slices,
        n_records=sum(cell.n_records for cell in cells),
        policy=store.declared,
        requests={state: sum(request.state == state for request in requests) for state in STATES},
        open=tuple(_open(request, now()) for request in requests if request.state in UNFINISHED),
        degraded_shards={shard: count for shard, count in due.items() if count},
        untrainable_shards={int(shard): why for shard, why in sorted(notes.get(UNTRAINABLE, {}).items())},
        steps_total=plan.n_steps,
        training=bool(notes.get(TRAINING)),
        arrived={shard: n for shard, n in arrived.items() if n},
        upkeep=upkeep.findings(n_slices, notes.get(BUILT, ()), counts),
        tombstones=len(store.ledger.tombstones()),
        statements=len(store.ledger.statements()),
        sizes=_sizes(store, files, cells, checkpoints),
        missing_blobs=len(store.ledger.references() - files.keys()),
        environment=store.environment(),
        changed=_changed(notes, checkpoints),
    )


def facts_of(settings: Mapping[str, Any], cells: Iterable[Cell]) -> list[list[SliceFacts]]:
    """What the ledger knows of each slice of each shard."""
    facts = {(cell.shard, cell.slice): SliceFacts(cell.n, cell.digest, frozenset(cell.classes)) for cell in cells}
    none = SliceFacts(0, "", frozenset())
    slices = range(max([settings["n_slices"], *(r + 1 for _, r in facts)]))
    return [[facts.get((s, r), none) for r in slices] for s in range(settings["n_shards"])]


def planned(settings: Mapping[str, Any], facts: Iterable[Sequence[SliceFacts]]) -> Plan:
    """The plan of the records that the ledger describes."""
    return plan_all(Context(**settings["context"]), facts)


def shard_rows(plan: Plan, n_slices: int, stored: Container[str], why: Mapping[int, str]) -> tuple[ShardRow, ...]:
    """What the heat map shows of each shard.

    Parameters
    ----------
    plan : Plan
    n_slices : int
        Of the fit.
    stored : container of str
        The keys of the states that there are.
    why : mapping of int to str
        Why shards cannot be trained.
    """
    rows = []
    for shard, (steps, records) in enumerate(zip(plan.shards, plan.counts(n_slices), strict=True)):
        due = missing(steps, stored)
        serves = standing(steps, stored) is not None
        rows.append(ShardRow(tuple(records), due[0].slice if due else None, serves, why.get(shard, "")))
    return tuple(rows)


def _open(request: Request, at: datetime) -> OpenRequest:
    due = datetime.fromisoformat(request.facts["due_at"])
    left = (due - at).total_seconds() / _DAY_S
    return OpenRequest(
        sequence=request.sequence,
        state=request.state,
        received_at=datetime.fromisoformat(request.facts["received_at"]),
        due_at=due,
        days_left=left,
        overdue=left < 0 and request.state != PURGED,
    )


def _files(store: Store) -> dict[str, int]:
    """The size of each blob and of whatever else is among them."""
    blobs = store.blobs
    if isinstance(blobs, Remote):
        return blobs.sizes()
    if not isinstance(blobs, DirectoryBlobs):
        return {name: len(blobs.get(name)) for name in blobs.names()}
    found = {}
    with os.scandir(blobs.path) as entries:
        for entry in entries:
            # Another process may destroy it meanwhile.
            with suppress(FileNotFoundError):
                found[entry.name] = entry.stat(follow_symlinks=False).st_size
    return found


def _sizes(
    store: Store, files: Mapping[str, int], cells: Iterable[Cell], checkpoints: Mapping[str, Checkpoint]
) -> Sizes:
    data = {name for cell in cells for _, name in cell.parts}
    states = {name for checkpoint in checkpoints.values() for _, name in checkpoint.parts} - data
    return Sizes(
        data=sum(files.get(name, 0) for name in data),
        states=sum(files.get(name, 0) for name in states),
        unreferenced=sum(size for name, size in files.items() if name not in data | states),
        ledger=_ledger_size(store),
    )


def _ledger_size(store: Store) -> int | None:
    """The file of the ledger and the log beside it."""
    file = store.ledger_file
    if file is None or not file.exists():
        return None
    log = file.with_name(f"{file.name}-wal")
    return sum(path.stat().st_size for path in (file, log) if path.exists())


def _changed(notes: Mapping[str, Any], checkpoints: Mapping[str, Checkpoint]) -> dict[str, tuple[str, str]]:
    """What differs between the environments that made the stored states, and the one of this process."""
    found: dict[str, tuple[str, str]] = {}
    for digest in sorted({checkpoint.environment for checkpoint in checkpoints.values()}):
        recorded: dict[str, str] = notes.get(ENVIRONMENT + digest, {})
        here = environment_now(recorded)
        found |= {name: (version, here[name]) for name, version in recorded.items() if here[name] != version}
    return found
