"""fsck: what is wrong with a store, and putting right what the data allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unlearnkit.store import Store


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a store.

    Attributes
    ----------
    kind : {"blob", "cell", "state", "orphan", "temporary", "ledger", "plan", "request", "tombstone", "statement", \
"secret", "mode"}
    place : str
        Where: a file, or a row of the ledger, by the beginning of its name. No id.
    what : str
        What is wrong.
    remedy : str
        What to do about it.
    healed : bool
        Whether `heal` has put it right.
    """

    kind: str
    place: str
    what: str
    remedy: str
    healed: bool = False


@dataclass(frozen=True, slots=True)
class Data:
    """The caller's records, as given to ``fit``."""

    X: Any
    y: Any
    sample_weight: Any = None
    ids: Any = None


def check(store: Store) -> tuple[Finding, ...]:
    """What is wrong with a store. Read-only, and needs no learner.

    Raises
    ------
    StoreError
        If there is no store, or it holds no model.
    """
    raise NotImplementedError


def heal(
    store: Store, *, opener: Callable[[Store], object] | None = None, data: Data | None = None
) -> tuple[Finding, ...]:
    """Put right what can be put right, and say what was found.

    Parameters
    ----------
    store : Store
    opener : callable or None
        Opens the store with its learner, and so trains what is missing: `unlearnkit.load`. None: shards that have
        lost states stay degraded until ``repair``.
    data : Data or None
        The original records, from which damaged data is brought back.

    Returns
    -------
    tuple of Finding
        Those that were found; ``healed`` says which are put right.
    """
    raise NotImplementedError
