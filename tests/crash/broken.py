"""Stores that are broken on purpose, each in one way: the harness has to find that out."""

from __future__ import annotations

from unlearnkit.ensemble import SisaEnsemble
from unlearnkit.erasure import Eraser
from unlearnkit.ledger import Checkpoint
from unlearnkit.sql import SqlLedger
from unlearnkit.store import Store


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


BROKEN = {
    "acknowledge before commit": ("submit", acknowledge_before_commit),
    "no purge on open": ("isolate", no_purge_on_open),
    "done before trained": ("fit", done_before_trained),
}
