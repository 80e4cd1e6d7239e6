"""The ledger: the only thing in a store that changes. A transaction in it is the only commit point.

It knows which keys make up the current plan, which checkpoints exist for them, and every erasure request. It knows
no row, no id and no feature: ids appear as pseudonyms.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterable
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, Protocol


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
    """

    key: str
    shard: int
    slice: int
    parts: tuple[tuple[str, str], ...]
    environment: str


@dataclass(frozen=True, slots=True)
class Request:
    """One erasure request.

    Attributes
    ----------
    sequence : int
        Counted from 1.
    pseudonyms : frozenset of str
        Of the ids that it removed.
    facts : dict
        The fields of its receipt, plain JSON values.
    repaired_at : str or None
        None while shards that it degraded wait for repair.
    """

    sequence: int
    pseudonyms: frozenset[str]
    facts: dict[str, Any] = field(default_factory=dict)
    repaired_at: str | None = None


class Ledger(Protocol):
    """What a ledger does. Every method is one transaction; every implementation passes the same suite of tests."""

    @property
    def epoch(self) -> int:
        """Goes up with every change of plan: a reader that holds another one is out of date."""
        ...

    def replan(self, keys: Collection[str], request: Request | None = None) -> tuple[Checkpoint, ...]:
        """Make `keys` the plan, drop and return the checkpoints outside it, and record the request, in one go."""
        ...

    def commit(self, checkpoint: Checkpoint) -> bool:
        """Record a checkpoint if its key is in the plan; say whether it is."""
        ...

    def checkpoint(self, key: str) -> Checkpoint | None:
        """The checkpoint of this key."""
        ...

    def unreferenced(self, blobs: Iterable[str]) -> set[str]:
        """Those of these blobs that no checkpoint refers to."""
        ...

    def requests(self) -> tuple[Request, ...]:
        """All requests, oldest first."""
        ...

    def update(self, sequence: int, facts: dict[str, Any], repaired_at: str | None) -> Request:
        """Add facts to the receipt of a request and, if `repaired_at` is given, record that nothing is left to do."""
        ...

    def forgotten(self, pseudonyms: Iterable[str]) -> set[str]:
        """Those of these pseudonyms that a request has removed."""
        ...


class MemoryLedger:
    """A ledger in memory, safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._epoch = 0
        self._keys: frozenset[str] = frozenset()
        self._checkpoints: dict[str, Checkpoint] = {}
        self._references: Counter[str] = Counter()
        self._requests: dict[int, Request] = {}
        self._tombstones: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        # Copies of their own: another thread may commit while this one is being pickled.
        with self._lock:
            return {name: copy(value) for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    @property
    def epoch(self) -> int:
        """The number of changes of plan so far."""
        return self._epoch

    def replan(self, keys: Collection[str], request: Request | None = None) -> tuple[Checkpoint, ...]:
        """Make `keys` the plan, drop and return the checkpoints outside it, and record the request, in one go."""
        with self._lock:
            self._keys = frozenset(keys)
            self._epoch += 1
            if request is not None:
                self._requests[request.sequence] = request
                self._tombstones |= request.pseudonyms
            dropped = tuple(c for key, c in self._checkpoints.items() if key not in self._keys)
            for checkpoint in dropped:
                self._drop(checkpoint)
            return dropped

    def commit(self, checkpoint: Checkpoint) -> bool:
        """Record a checkpoint if its key is in the plan; say whether it is."""
        with self._lock:
            if checkpoint.key not in self._keys:
                return False
            if checkpoint.key in self._checkpoints:
                self._drop(self._checkpoints[checkpoint.key])
            self._references.update(name for _, name in checkpoint.parts)
            self._checkpoints[checkpoint.key] = checkpoint
            return True

    def _drop(self, checkpoint: Checkpoint) -> None:
        del self._checkpoints[checkpoint.key]
        self._references.subtract(name for _, name in checkpoint.parts)
        # A count of zero would still carry the digest of a state that had to be destroyed.
        self._references += Counter()

    def checkpoint(self, key: str) -> Checkpoint | None:
        """The checkpoint of this key."""
        return self._checkpoints.get(key)

    def unreferenced(self, blobs: Iterable[str]) -> set[str]:
        """Those of these blobs that no checkpoint refers to."""
        with self._lock:
            return {name for name in blobs if self._references[name] <= 0}

    def requests(self) -> tuple[Request, ...]:
        """All requests, oldest first."""
        with self._lock:
            return tuple(self._requests.values())

    def update(self, sequence: int, facts: dict[str, Any], repaired_at: str | None) -> Request:
        """Add facts to the receipt of a request and, if `repaired_at` is given, record that nothing is left to do."""
        with self._lock:
            request = self._requests[sequence]
            updated = replace(request, repaired_at=repaired_at, facts=request.facts | facts)
            self._requests[sequence] = updated
            return updated

    def forgotten(self, pseudonyms: Iterable[str]) -> set[str]:
        """Those of these pseudonyms that a request has removed."""
        with self._lock:
            return self._tombstones & set(pseudonyms)
