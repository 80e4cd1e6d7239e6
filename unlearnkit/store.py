"""The store of states: blobs and a ledger, and the order in which they are written.

Blobs first, then one ledger transaction, then the blobs that nothing refers to any more are deleted.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

from unlearnkit.blobs import Blobs, MemoryBlobs
from unlearnkit.errors import StateError
from unlearnkit.ledger import Checkpoint, Ledger, MemoryLedger, Request
from unlearnkit.plan import PlannedStep
from unlearnkit.typing import Parts


class StateStore:
    """Keeps the state of each step under its key.

    Parameters
    ----------
    blobs : Blobs or None
    ledger : Ledger or None
        None means in memory.
    """

    def __init__(self, blobs: Blobs | None = None, ledger: Ledger | None = None) -> None:
        self.blobs: Blobs = MemoryBlobs() if blobs is None else blobs
        self.ledger: Ledger = MemoryLedger() if ledger is None else ledger
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        # Copied together: a ledger must not name a blob that was put after the blobs were written out.
        with self._lock:
            return {"blobs": copy(self.blobs), "ledger": copy(self.ledger)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Nothing is kept or destroyed meanwhile."""
        with self._lock:
            yield

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.ledger.checkpoint(key) is not None

    def save(self, step: PlannedStep, parts: Parts, environment: str) -> bool:
        """Keep a state if its step is still in the plan; otherwise leave nothing of it behind.

        Returns
        -------
        bool
            Whether it was kept.
        """
        with self._lock:
            names = tuple(sorted((part, self.blobs.put(data)) for part, data in parts.items()))
            replaced = self.ledger.checkpoint(step.key)
            kept = self.ledger.commit(Checkpoint(step.key, step.shard, step.slice, names, environment))
            if replaced is not None:
                self._sweep(name for _, name in replaced.parts)
            if not kept:
                self._sweep(name for _, name in names)
            return kept

    def parts(self, key: str) -> dict[str, bytes]:
        """The parts of a stored state, each checked against its name.

        Raises
        ------
        StateError
            If there is no such state, or a part is damaged.
        """
        checkpoint = self.ledger.checkpoint(key)
        if checkpoint is None:
            raise StateError(f"There is no state under key {key[:12]}; nothing was changed. Run repair().")
        return {part: self.blobs.get(name) for part, name in checkpoint.parts}

    def missing(self, steps: Sequence[PlannedStep]) -> tuple[PlannedStep, ...]:
        """The steps of a shard from the first on that there is no state for."""
        first = next((i for i, step in enumerate(steps) if step.key not in self), len(steps))
        return tuple(steps[first:])

    def is_whole(self, key: str) -> bool:
        """Whether there is a state of this key, and each of its parts is what its name says."""
        try:
            self.parts(key)
        except StateError:
            return False
        return True

    def replan(self, keys: Collection[str], request: Request | None = None) -> int:
        """Make `keys` the plan and destroy every state outside it.

        Returns
        -------
        int
            The states destroyed.
        """
        with self._lock:
            dropped = self.ledger.replan(keys, request)
            self._sweep(name for checkpoint in dropped for _, name in checkpoint.parts)
            return len(dropped)

    def _sweep(self, names: Iterable[str]) -> None:
        for name in self.ledger.unreferenced(set(names)):
            self.blobs.delete(name)
