"""The ledger: the only thing in a store that changes. A transaction in it is the only commit point.

It knows which keys make up the current plan, which checkpoints exist for them, what is stored of the data, every
erasure request and every signed statement about one. It knows no row, no id and no feature: ids appear as keyed
hashes until the records are purged, and as pseudonyms for good.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

RECEIVED, ISOLATED, PURGED, REPAIRED, REJECTED = "received", "isolated", "purged", "repaired", "rejected"
UNFINISHED = (RECEIVED, ISOLATED, PURGED)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The stored state of one step.

    Attributes
    ----------
    key : str
    shard, slice : int
    parts : tuple of (str, str)
        Part name and blob name, sorted.
    environment : str
        Digest of the library versions and processor that made it.
    parent : str or None
        The key of the state that it was trained on from: its lineage.
    """

    key: str
    shard: int
    slice: int
    parts: tuple[tuple[str, str], ...]
    environment: str
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """What is stored of the records of one shard and slice.

    Attributes
    ----------
    shard, slice : int
    n : int
        Records of positive weight that remain.
    n_records : int
        All records that remain.
    digest : str
        Of those of positive weight, as in the plan.
    classes : tuple of int
        The class codes among them, sorted; empty for regression.
    parts : tuple of (str, str)
        Part name and blob name, sorted.
    support : tuple of (int, tuple of int)
        For each category column, by its number, the codes that a record of the cell has, sorted; under -1 the class
        codes of all its records, whatever their weight.
    stale : bool
        The blobs still hold records that a request has removed.
    """

    shard: int
    slice: int
    n: int
    n_records: int
    digest: str
    classes: tuple[int, ...] = ()
    parts: tuple[tuple[str, str], ...] = ()
    support: tuple[tuple[int, tuple[int, ...]], ...] = ()
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One erasure request.

    Attributes
    ----------
    sequence : int
        Counted from 1 by the ledger; 0 before.
    state : {"received", "isolated", "purged", "repaired", "rejected"}
    items : mapping of str to str
        What is asked for, until the purge has destroyed it. For each id the keyed hash that its records are found by
        (hex), and the pseudonym that stands for the id for good.
    pseudonyms : frozenset of str
        Of the ids that it removed.
    facts : dict
        Plain JSON values: what receipts are made of.
    """

    sequence: int = 0
    state: str = RECEIVED
    items: Mapping[str, str] = field(default_factory=dict)
    pseudonyms: frozenset[str] = frozenset()
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """What one transaction writes.

    Attributes
    ----------
    keys : collection of str or None
        The new plan: checkpoints outside it are dropped. None: the plan stays.
    cells : tuple of Cell
        In place of what was known of the same shards and slices.
    requests : tuple of Request
        In place of those of the same sequence.
    submitted : tuple of Request
        New ones, which get the next sequences.
    tombstones : mapping of str to int
        Pseudonyms of forgotten ids, and the sequence of the request that they are from.
    statements : tuple of str
        Signed statements, appended to the others.
    notes : mapping of str to JSON value
        In place of those of the same name.
    lifted : frozenset of str
        Tombstones to lift: readmitted, or past their retention.
    checkpoints : tuple of Checkpoint
        States that the new plan has from the start. Their keys are in it.
    dropped : frozenset of str
        Keys of checkpoints to drop though they are in the plan.
    """

    keys: Collection[str] | None = None
    cells: tuple[Cell, ...] = ()
    requests: tuple[Request, ...] = ()
    tombstones: Mapping[str, int] = field(default_factory=dict)
    statements: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    lifted: frozenset[str] = frozenset()
    checkpoints: tuple[Checkpoint, ...] = ()
    submitted: tuple[Request, ...] = ()
    dropped: frozenset[str] = frozenset()


class Ledger(Protocol):
    """What a ledger does. Every method is one transaction; every implementation passes the same suite of tests."""

    @property
    def epoch(self) -> int:
        """Goes up with every change of plan, checkpoints or cells: who holds another one is out of date."""
        ...

    def submit(self, requests: Sequence[Request]) -> tuple[int, ...]:
        """Record new requests, durably when this returns, and give their sequences, in order and without a gap."""
        ...

    def apply(self, change: Change) -> tuple[Checkpoint, ...]:
        """Write a change, all of it or nothing, and give the checkpoints that it dropped."""
        ...

    def commit(self, checkpoint: Checkpoint) -> bool:
        """Record a checkpoint if its key is in the plan; say whether it is."""
        ...

    def checkpoint(self, key: str) -> Checkpoint | None:
        """The checkpoint of this key."""
        ...

    def checkpoints(self) -> dict[str, Checkpoint]:
        """All checkpoints by their keys."""
        ...

    def keys(self) -> frozenset[str]:
        """The keys of the plan."""
        ...

    def cells(self) -> tuple[Cell, ...]:
        """What is stored of the data, by shard and slice."""
        ...

    def references(self) -> set[str]:
        """The names of all blobs that a checkpoint or a cell refers to."""
        ...

    def unreferenced(self, names: Iterable[str]) -> set[str]:
        """Those of these blobs that no checkpoint and no cell refers to."""
        ...

    def requests(self, *states: str) -> tuple[Request, ...]:
        """The requests in these states (none given: all), oldest first."""
        ...

    def request(self, sequence: int) -> Request:
        """The request of this sequence.

        Raises
        ------
        LookupError
            If there is none.
        """
        ...

    def forgotten(self, pseudonyms: Iterable[str]) -> set[str]:
        """Those of these pseudonyms that are tombstones."""
        ...

    def tombstones(self) -> Mapping[str, int]:
        """Each tombstone, and the sequence of the request that it is from."""
        ...

    def statements(self, start: int = 0) -> tuple[str, ...]:
        """The signed statements from this place on, oldest first."""
        ...

    def notes(self) -> dict[str, Any]:
        """All notes by their names."""
        ...

    def note(self, name: str, default: Any = None) -> Any:
        """The note of this name."""
        ...

    def settle(self) -> bool:
        """Destroy what dropped rows have left behind in files of the ledger; False if a reader stands in the way."""
        ...

    @property
    def settled(self) -> str:
        """What is left of dropped rows once `settle` has done it, in words for a receipt."""
        ...


class MemoryLedger:
    """A ledger in memory, safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._epoch = 0
        self._keys: frozenset[str] = frozenset()
        self._checkpoints: dict[str, Checkpoint] = {}
        self._cells: dict[tuple[int, int], Cell] = {}
        self._requests: dict[int, Request] = {}
        self._unfinished: dict[int, None] = {}
        self._tombstones: dict[str, int] = {}
        self._statements: list[str] = []
        self._notes: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Copies of their own: another thread may commit while this one is being pickled.
        with self._lock:
            return {name: copy(value) for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    @property
    def epoch(self) -> int:
        """The number of changes of plan, checkpoints and cells so far."""
        return self._epoch

    def submit(self, requests: Sequence[Request]) -> tuple[int, ...]:
        """Record new requests and give their sequences."""
        with self._lock:
            first = len(self._requests) + 1
            numbered = [replace(request, sequence=first + i) for i, request in enumerate(requests)]
            self._write(numbered)
            return tuple(request.sequence for request in numbered)

    def apply(self, change: Change) -> tuple[Checkpoint, ...]:
        """Write a change and give the checkpoints that it dropped."""
        with self._lock:
            self._write(change.requests)
            self.submit(change.submitted)
            self._tombstones.update(change.tombstones)
            self._cells.update({(cell.shard, cell.slice): cell for cell in change.cells})
            self._statements.extend(change.statements)
            self._notes.update(change.notes)
            for pseudonym in change.lifted:
                self._tombstones.pop(pseudonym, None)
            self._epoch += change.keys is not None or bool(change.cells) or bool(change.dropped)
            if change.keys is None and not change.dropped:
                return ()
            if change.keys is not None:
                self._keys = frozenset(change.keys)
            outside = (self._checkpoints.keys() - self._keys) | (self._checkpoints.keys() & change.dropped)
            dropped = tuple(self._checkpoints.pop(key) for key in outside)
            self._checkpoints.update({checkpoint.key: checkpoint for checkpoint in change.checkpoints})
            return dropped

    def _write(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self._requests[request.sequence] = request
            if request.state in UNFINISHED:
                self._unfinished[request.sequence] = None
            else:
                self._unfinished.pop(request.sequence, None)

    def commit(self, checkpoint: Checkpoint) -> bool:
        """Record a checkpoint if its key is in the plan; say whether it is."""
        with self._lock:
            if checkpoint.key not in self._keys:
                return False
            self._checkpoints[checkpoint.key] = checkpoint
            self._epoch += 1
            return True

    def checkpoint(self, key: str) -> Checkpoint | None:
        """The checkpoint of this key."""
        return self._checkpoints.get(key)

    def checkpoints(self) -> dict[str, Checkpoint]:
        """All checkpoints by their keys."""
        with self._lock:
            return dict(self._checkpoints)

    def keys(self) -> frozenset[str]:
        """The keys of the plan."""
        return self._keys

    def cells(self) -> tuple[Cell, ...]:
        """What is stored of the data, by shard and slice."""
        with self._lock:
            return tuple(self._cells[place] for place in sorted(self._cells))

    def references(self) -> set[str]:
        """The names of all blobs that a checkpoint or a cell refers to."""
        with self._lock:
            return {blob for _, blob in self._parts()}

    def unreferenced(self, names: Iterable[str]) -> set[str]:
        """Those of these blobs that no checkpoint and no cell refers to."""
        return set(names) - self.references()

    def _parts(self) -> Iterator[tuple[str, str]]:
        for checkpoint in self._checkpoints.values():
            yield from checkpoint.parts
        for cell in self._cells.values():
            yield from cell.parts

    def requests(self, *states: str) -> tuple[Request, ...]:
        """The requests in these states (none given: all), oldest first."""
        with self._lock:
            # Most requests of a long life are finished, and few ask for those.
            sequences = sorted(self._unfinished) if states and set(states) <= set(UNFINISHED) else self._requests
            found = (self._requests[sequence] for sequence in sequences)
            return tuple(request for request in found if not states or request.state in states)

    def request(self, sequence: int) -> Request:
        """The request of this sequence."""
        return self._requests[sequence]

    def forgotten(self, pseudonyms: Iterable[str]) -> set[str]:
        """Those of these pseudonyms that are tombstones."""
        with self._lock:
            return self._tombstones.keys() & set(pseudonyms)

    def tombstones(self) -> dict[str, int]:
        """Each tombstone, and the sequence of the request that it is from."""
        with self._lock:
            return dict(self._tombstones)

    def statements(self, start: int = 0) -> tuple[str, ...]:
        """The signed statements from this place on, oldest first."""
        with self._lock:
            return tuple(self._statements[start:])

    def notes(self) -> dict[str, Any]:
        """All notes by their names."""
        with self._lock:
            return dict(self._notes)

    def note(self, name: str, default: Any = None) -> Any:
        """The note of this name."""
        return self._notes.get(name, default)

    def settle(self) -> bool:
        """Nothing is left behind: there are no files."""
        return True

    @property
    def settled(self) -> str:
        """Nothing is left of dropped rows."""
        return "The ledger is in memory only."
