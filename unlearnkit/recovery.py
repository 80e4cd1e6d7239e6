"""Recovery: what a store needs before it is used, because a process may have died in it, or time has passed."""

from __future__ import annotations

from datetime import datetime, timedelta

from unlearnkit.files import sweep_temporary
from unlearnkit.keys import Keys
from unlearnkit.ledger import PURGED, REPAIRED, Change
from unlearnkit.policy import now
from unlearnkit.store import TRAINING, Store


def recover(store: Store, keys: frozenset[str]) -> None:
    """Put right what a process that died has left: only under the writer's lock. Changes nothing if all is well.

    Parameters
    ----------
    store : Store
    keys : frozenset of str
        The plan of the stored records.
    """
    ledger = store.ledger
    if ledger.keys() != keys:
        ledger.apply(Change(keys=keys))
    present = set(store.blobs.names())
    lost = {key for key, c in ledger.checkpoints().items() if not {name for _, name in c.parts} <= present}
    if lost:
        ledger.apply(Change(dropped=frozenset(lost), notes={TRAINING: True}))
    _expire(store)
    if store.root is not None:
        sweep_temporary(store.root)
    if isinstance(store.secrets, Keys):
        store.secrets.sweep()
    store.sweep()


def _expire(store: Store) -> None:
    """Lift tombstones that are past their retention."""
    days = store.declared.retention_days
    if days is None:
        return
    limit = now() - timedelta(days=days)
    old = {
        request.sequence
        for request in store.ledger.requests(PURGED, REPAIRED)
        if datetime.fromisoformat(request.facts["purged_at"]) < limit
    }
    lifted = frozenset(name for name, sequence in store.ledger.tombstones().items() if sequence in old)
    if lifted:
        store.ledger.apply(Change(lifted=lifted))
