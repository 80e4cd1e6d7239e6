"""Seen: what was read of a ledger, as long as nobody else can have changed it.

Where a plan is long, reading it is most of a request. The epoch of the ledger tells whether others have written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from unlearnkit.ledger import Cell, Change, Checkpoint, Ledger


class Seen:
    """The checkpoints and cells of one ledger, read again only if they may have changed.

    Methods that follow a write are called under the lock of writers, so that it is all that was written since.
    """

    def __init__(self) -> None:
        self._checkpoints: tuple[int, Mapping[str, Checkpoint]] | None = None
        self._cells: tuple[int, tuple[Cell, ...]] | None = None
        # Between these two epochs nothing was recorded but states, and by the owner of this.
        self._own = (-1, -1)

    def checkpoints(self, ledger: Ledger) -> Mapping[str, Checkpoint]:
        """All checkpoints by their keys."""
        epoch = ledger.epoch
        if self._checkpoints is None or self._checkpoints[0] != epoch:
            # Should they change between the two lines, they are read once too often.
            self._checkpoints = (epoch, ledger.checkpoints())
        return self._checkpoints[1]

    def cells(self, ledger: Ledger) -> tuple[Cell, ...]:
        """What is stored of the data."""
        epoch = ledger.epoch
        if self._cells is None or self._cells[0] != epoch:
            self._cells = (epoch, ledger.cells())
        return self._cells[1]

    def only_states_since(self, epoch: int, now: int) -> bool:
        """Whether plan and cells are those of that epoch: no more than states of our own was recorded since."""
        return epoch == now or (self._own[0] <= epoch and self._own[1] == now)

    def committed(self, before: int, now: int, checkpoint: Checkpoint) -> None:
        """Go on from what is known before a state was recorded."""
        if self._checkpoints is not None and self._checkpoints[0] == before:
            self._checkpoints = (now, {**self._checkpoints[1], checkpoint.key: checkpoint})
        if self._cells is not None and self._cells[0] == before:
            self._cells = (now, self._cells[1])
        self._own = (self._own[0] if self._own[1] == before else before, now)

    def apply(self, ledger: Ledger, change: Change) -> tuple[Checkpoint, ...]:
        """Apply a change to the ledger, go on from what was known before, and give the checkpoints that it dropped."""
        if change.keys is None and not change.cells:
            return ledger.apply(change)
        known, cells = self.checkpoints(ledger), self.cells(ledger)
        dropped = ledger.apply(change)
        now = ledger.epoch
        self._checkpoints = (now, _without(known, dropped) | {c.key: c for c in change.checkpoints})
        merged = {(c.shard, c.slice): c for c in (*cells, *change.cells)}
        self._cells = (now, tuple(merged[place] for place in sorted(merged)))
        return dropped


def _without(known: Mapping[str, Checkpoint], dropped: Iterable[Checkpoint]) -> dict[str, Checkpoint]:
    gone = {checkpoint.key for checkpoint in dropped}
    return {key: checkpoint for key, checkpoint in known.items() if key not in gone}
