"""Stores that are broken on purpose, each in one way: the harness has to find that out."""

from __future__ import annotations

from dataclasses import replace

from unlearnkit.ensemble import SisaEnsemble
from unlearnkit.erasure import Eraser
from unlearnkit.ledger import Change, Checkpoint
from unlearnkit.sql import SqlLedger
from unlearnkit.store import SETTINGS, Store


def acknowledge_before_commit():
    """A request is acknowledged before its transaction is durable."""
    plain, waiting = SqlLedger.submit, []

    def submit(self, requests):
        if waiting:
            plain(self, waiting.pop())
        waiting.append(requests)
        first = len(self.requests()) + 1
        return tuple(range(first, first + len(requests)))

    def close(self):
        while waiting:
            plain(self, waiting.pop())
        SqlLedger.settle(self)

    SqlLedger.submit, SqlLedger.close = submit, close


def no_purge_on_open():
    """An opening leaves to others what was isolated."""
    plain_open, plain_purge, opening = SisaEnsemble.open, Eraser.purge, []

    def open_(self):
        opening.append(True)
        try:
            return plain_open(self)
        finally:
            opening.pop()

    SisaEnsemble.open = open_
    Eraser.purge = lambda self, build: build if opening else plain_purge(self, build)


def done_before_trained():
    """A step is marked done in the ledger, and its state put in place only then."""
    plain = Store.save

    def save(self, step, parts, environment):
        if self.durable:
            with self.locks.writer():
                (name,) = self.blobs.put([b"{}"])
                named = tuple((part, name) for part in sorted(parts))
                self.ledger.commit(Checkpoint(step.key, step.shard, step.slice, named, environment, step.parent))
        return plain(self, step, parts, environment)

    Store.save = save


def half_a_rectification():
    """New rows take the place of the old ones in one transaction, and the request is recorded in another."""
    plain = Store.apply

    def apply(self, change):
        if change.submitted and change.cells:
            plain(self, replace(change, submitted=()))
            change = Change(submitted=change.submitted)
        return plain(self, change)

    Store.apply = apply


def half_a_consolidation():
    """Records go to their places in one transaction, and the schema that they are under is written in another."""
    plain = Store.apply

    def apply(self, change):
        if SETTINGS in change.notes and change.cells:
            notes = {name: note for name, note in change.notes.items() if name != SETTINGS}
            plain(self, replace(change, notes=notes))
            change = Change(notes={SETTINGS: change.notes[SETTINGS]})
        return plain(self, change)

    Store.apply = apply


BROKEN = {
    "acknowledge before commit": ("submit", acknowledge_before_commit),
    "no purge on open": ("isolate", no_purge_on_open),
    "done before trained": ("fit", done_before_trained),
    "half a rectification": ("rectify", half_a_rectification),
    "half a consolidation": ("refresh", half_a_consolidation),
}
