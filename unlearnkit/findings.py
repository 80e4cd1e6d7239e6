"""Findings: what fsck says is wrong with a store, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

REPAIR = "Run: unlearnkit fsck --repair"
WITH_DATA = "Run: unlearnkit fsck --repair --data, with the original records, or bring the blob back from a backup."
DERIVE = (
    "Run: unlearnkit fsck --repair, with --data and the original records if it does not do without. Where that does "
    "not help, restore the ledger from a backup."
)
RESTORE = (
    "No data brings that back: restore the ledger from a backup. What was requested since has to be submitted again."
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a store.

    Attributes
    ----------
    kind : {"cell", "state", "orphan", "temporary", "ledger", "plan", "request", "tombstone", "statement", "secret", \
"mode"}
    place : str
        Where: a file, or a row of the ledger, by the beginning of its name. No id.
    what : str
        What is wrong.
    remedy : str
        What to do about it.
    healed : bool
        Whether it has been put right.
    """

    kind: str
    place: str
    what: str
    remedy: str = field(compare=False)
    healed: bool = field(default=False, compare=False)


Findings: TypeAlias = Iterator[Finding]


def is_broken(findings: Iterable[Finding], *kinds: str) -> bool:
    """Whether there is a finding of one of these kinds."""
    return any(finding.kind in kinds for finding in findings)
