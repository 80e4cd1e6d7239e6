"""Facts: what there is to report of a store, read from its ledger and the sizes of its files.

No framework, no record and no partition secret is needed, nothing is changed, and no id or pseudonym gets in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, TypeAlias

from unlearnkit.audit import recorded
from unlearnkit.external import STORED
from unlearnkit.figures import ShardRow
from unlearnkit.ledger import ISOLATED, PURGED, RECEIVED, REJECTED, REPAIRED, Request
from unlearnkit.manifest import digest_of
from unlearnkit.overview import Overview, overview, planned, shard_rows
from unlearnkit.overview import facts_of as slices_of
from unlearnkit.plan import NO_BASE, Plan
from unlearnkit.policy import Policy, now
from unlearnkit.receipts import Receipt
from unlearnkit.report.proof import Proof, Stated, proof
from unlearnkit.store import BUILT, REFRESH, UNTRAINABLE, Store
from unlearnkit.verification import states_of

Timeliness: TypeAlias = Literal["met", "late", "due", "overdue", "no record"]
MET: Timeliness = "met"
LATE: Timeliness = "late"
DUE: Timeliness = "due"
OVERDUE: Timeliness = "overdue"
NO_RECORD: Timeliness = "no record"


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """One request.

    Attributes
    ----------
    state : str
        As in the ledger.
    receipt : Receipt
    timeliness : {"met", "late", "due", "overdue", "no record"}
        Forgotten before the deadline, or after it; open, with time left or none; of ids that no record had.
    digest_isolated : str or None
        Of the model between isolation and repair.
    stated : tuple of Stated
        The signed statements about it whose signature holds.
    agrees : bool
        Each state that it has reached is stated, and as the ledger says it.
    audits : mapping of str to mapping
        The figures of the membership audits that were recorded "before" and "after" it.
    """

    state: str
    receipt: Receipt
    timeliness: Timeliness
    digest_isolated: str | None
    stated: tuple[Stated, ...]
    agrees: bool
    audits: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a report tells.

    Attributes
    ----------
    at : datetime
        When it was read. UTC.
    overview : Overview
    digest : str
        Of the model as it is now.
    aggregation : str
    checkpoint_every : int
    shards : tuple of ShardRow
    requests : tuple of RequestFacts
        Oldest first.
    proof : Proof
    outside : tuple of str
        What no request reaches, in plain sentences.
    """

    at: datetime
    overview: Overview
    digest: str
    aggregation: str
    checkpoint_every: int
    shards: tuple[ShardRow, ...]
    requests: tuple[RequestFacts, ...]
    proof: Proof
    outside: tuple[str, ...]

    @property
    def timeliness(self) -> Mapping[Timeliness, int]:
        """How many requests there are of each."""
        counted = Counter(request.timeliness for request in self.requests)
        return {kind: counted[kind] for kind in (MET, DUE, LATE, OVERDUE, NO_RECORD)}

    @property
    def findings(self) -> tuple[str, ...]:
        """What somebody has to see to."""
        return (*_overdue(self.timeliness[OVERDUE]), *_lost(self.overview.missing_blobs), *self.proof.findings)


def facts_of(store: Store) -> Facts:
    """What there is to report of a store.

    Raises
    ------
    StoreError
        If there is none, or it holds no model.
    StateError
        If its ledger is damaged.
    """
    settings, notes, at = store.settings(), store.ledger.notes(), now()
    requests, checkpoints = store.ledger.requests(), store.ledger.checkpoints()
    plan = planned(settings, slices_of(settings, store.ledger.cells()))
    proven = proof(store, requests)
    audits = recorded(notes)
    return Facts(
        at=at,
        overview=overview(store),
        digest=digest_of(settings, states_of(plan, checkpoints)),
        aggregation=settings["aggregation"],
        checkpoint_every=settings["context"].get("checkpoint_every", 1),
        shards=_shards(settings["n_slices"], plan, checkpoints, notes, requests),
        requests=tuple(_request(r, at, proven, audits.get(r.sequence, {})) for r in requests),
        proof=proven,
        outside=_outside(settings, notes, store.declared, len(store.ledger.tombstones())),
    )


def _overdue(n: int) -> list[str]:
    which = "1 request is past its deadline" if n == 1 else f"{n:,} requests are past their deadlines"
    return [f"{which} and not carried out. Run: unlearnkit repair"] if n else []


def _lost(n: int) -> list[str]:
    which = "1 blob is missing" if n == 1 else f"{n:,} blobs are missing"
    return [f"{which}. See what is lost: unlearnkit fsck"] if n else []


# -- requests ---------------------------------------------------------------------------------------------------------

_STATED = {PURGED: {PURGED}, REPAIRED: {PURGED, REPAIRED}, REJECTED: {REJECTED}}


def _request(request: Request, at: datetime, proven: Proof, audits: Mapping[str, Any]) -> RequestFacts:
    receipt, stated = Receipt.of(request), proven.by_request.get(request.sequence, ())
    needed = _STATED.get(request.state, set())
    return RequestFacts(
        state=request.state,
        receipt=receipt,
        timeliness=_timeliness(request.state, receipt, at),
        digest_isolated=request.facts.get("digest_isolated"),
        stated=stated,
        agrees=needed <= {one.kind for one in stated} and all(one.agrees for one in stated),
        audits=audits,
    )


def _timeliness(state: str, receipt: Receipt, at: datetime) -> Timeliness:
    if state == REJECTED:
        return NO_RECORD
    if state in (RECEIVED, ISOLATED) or receipt.purged_at is None:
        return DUE if at <= receipt.due_at else OVERDUE
    return MET if receipt.purged_at <= receipt.due_at else LATE


# -- shards -----------------------------------------------------------------------------------------------------------


def _shards(
    n_slices: int, plan: Plan, stored: Mapping[str, Any], notes: Mapping[str, Any], requests: Sequence[Request]
) -> tuple[ShardRow, ...]:
    why, built = notes.get(UNTRAINABLE, {}), notes.get(BUILT) or ()
    repairs = Counter(
        shard
        for request in requests
        if request.state == REPAIRED
        for shard in request.facts["shards"].keys() - request.facts["untrainable_shards"].keys()
    )
    rows = shard_rows(plan, n_slices, stored, {int(shard): words for shard, words in why.items()})
    return tuple(
        replace(row, built=built[s] if s < len(built) else None, repairs=repairs[str(s)]) for s, row in enumerate(rows)
    )


# -- outside control --------------------------------------------------------------------------------------------------


def _outside(settings: Mapping[str, Any], notes: Mapping[str, Any], policy: Policy, tombstones: int) -> tuple[str, ...]:
    """What no request on this store reaches."""
    base, seconds = settings["context"].get("base", NO_BASE), notes.get(REFRESH, 0)
    return (
        *(f"Declared by the operator: {copy}." for copy in policy.copies),
        *([] if policy.copies else ["The operator has declared no copies of data or model outside the store."]),
        *_base(base),
        *_rows(settings.get("data", STORED)),
        (
            "Bundles, pickles and backups that were made of the model, and whatever was derived from its predictions: "
            "they are as they were when they were made. unlearnkit status --bundle says whether a bundle must be "
            "replaced."
        ),
        (
            "Other processes that have the model loaded: they may go on with it after a request for as long as their "
            f"refresh_s says{f', here up to {seconds:g} seconds' if seconds else ''}."
        ),
        _kept(tombstones, policy.retention_days),
    )


def _base(base: str) -> list[str]:
    if base == NO_BASE:
        return []
    return [
        (
            f"The base model that training starts from (digest {base[:16]}), and whatever that was trained on. No "
            "request removes anything from it."
        )
    ]


def _rows(data: str) -> list[str]:
    if data == STORED:
        return []
    return [
        (
            "The rows themselves: the store keeps keyed digests of them alone. Whoever keeps the rows has to delete "
            "those of forgotten ids there."
        )
    ]


def _kept(tombstones: int, days: int | None) -> str:
    how_long = "for good" if days is None else f"for {days:,} days after the request"
    return (
        f"Kept on purpose: {tombstones:,} pseudonyms of forgotten ids, {how_long}, so that data that comes back from a "
        "backup is recognised and left out."
    )
