"""fsck: what is wrong with a store, and putting right what the data allows.

What can be made again is made again: states are trained, the plan follows from the data, data comes back from other
blobs or from the caller's records. What nobody can make again is a request, a tombstone, a statement or a secret: that
stays a finding, which says what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from unlearnkit import inspection, surroundings
from unlearnkit.errors import StateError
from unlearnkit.findings import RESTORE, Finding, is_broken
from unlearnkit.healing import Data, Healer
from unlearnkit.inspection import damaged
from unlearnkit.keys import PUBLIC_FILE, SIGNING_FILE
from unlearnkit.store import Store

__all__ = ["Data", "Finding", "check", "heal"]


def check(store: Store) -> tuple[Finding, ...]:
    """What is wrong with a store. Changes nothing, and needs no learner.

    Every blob is compared with its name, every row of the ledger with its seal, the plan and what the ledger says of
    the data with the stored rows, and these with the tombstones; the chain of statements is verified. Degraded shards
    and open requests are no findings: ``unlearnkit status`` shows them.

    Parameters
    ----------
    store : Store

    Returns
    -------
    tuple of Finding
        Empty if nothing is wrong.

    Raises
    ------
    StoreError
        If there is no store, or it holds no model.
    """
    if not store.exists:
        store.settings()
    found = list(surroundings.log(store))
    if found:
        # To open the ledger would make the loss final.
        return tuple(found)
    try:
        blobs, _ = store.blobs, store.ledger
    except StateError as error:
        return (Finding("ledger", "ledger", str(error), RESTORE),)
    # The long part is done while others may go on; what they destroyed meanwhile is looked at again.
    names = set(blobs.names())
    suspects = damaged(blobs, names)
    with store.at_rest():
        present = set(blobs.names())
        bad = damaged(blobs, (present - names) | (present & suspects))
        return tuple(dict.fromkeys(_findings(store, present, bad)))


def _findings(store: Store, present: set[str], bad: set[str]) -> Iterator[Finding]:
    yield from surroundings.modes(store)
    yield from surroundings.leftovers(store)
    secrets = list(surroundings.secrets(store))
    broken = list(inspection.rows(store.ledger))
    yield from (*secrets, *broken)
    lost = {finding.place for finding in secrets}
    if not lost <= {PUBLIC_FILE, SIGNING_FILE}:
        # Without the others nothing can be told of the records.
        return
    blueprint = inspection.blueprint_of(store, or_none=bool(broken))
    if blueprint is None:
        return
    ledger, unreadable = store.ledger, set[str]()

    def of_holders() -> Iterator[Finding]:
        for finding in inspection.holders(ledger.cells(), ledger.checkpoints(), present, bad):
            unreadable.update([finding.place] if finding.kind == "cell" else [])
            yield finding

    sections: tuple[Callable[[], Iterator[Finding]], ...] = (
        of_holders,
        lambda: inspection.orphans(present, ledger.references()),
        lambda: inspection.plan(blueprint, store),
        lambda: inspection.requests(ledger),
        lambda: iter(()) if lost else inspection.statements(store),
        lambda: surroundings.foreign_tombstones(store),
        lambda: inspection.records(blueprint, store, unreadable),
    )
    for section in sections:
        try:
            yield from section()
        except StateError as error:
            # A damaged row ends a section; where it is damaged has been said.
            if not broken:
                yield Finding("ledger", "ledger", str(error), RESTORE)


def heal(
    store: Store, *, opener: Callable[[Store], object] | None = None, data: Data | None = None
) -> tuple[Finding, ...]:
    """Put right what can be put right, and say what was found.

    Parameters
    ----------
    store : Store
    opener : callable or None
        Opens the store with its learner, and so trains again what was lost: `unlearnkit.load`. None: shards that have
        lost states stay degraded until ``repair``.
    data : Data or None
        The original records, from which damaged data is brought back.

    Returns
    -------
    tuple of Finding
        What was wrong; ``healed`` says what is put right.

    Raises
    ------
    StoreError
        If there is no store, or it holds no model.
    DataError
        If the data cannot be used. Nothing was changed.
    """
    before = check(store)
    if not before or not _opens(store):
        return before
    with store.at_rest():
        Healer(store).heal(before, data)
    after = check(store)
    if opener is not None and not is_broken(after, "ledger", "cell", "plan", "secret"):
        opener(store)
        after = check(store)
    return (*(replace(f, healed=f not in after) for f in before), *(f for f in after if f not in before))


def _opens(store: Store) -> bool:
    """Whether the ledger can be opened; without it nothing can be told."""
    try:
        return not list(surroundings.log(store)) and bool(store.ledger)
    except StateError:
        return False
