"""Standing: how a bundle stands to the store that it was exported from.

A bundle is a copy that no request reaches. What was forgotten in its store since is in it still, until it is replaced.
Like the overview this is read from the ledger alone: no framework, no secret and no record is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from unlearnkit.ledger import ISOLATED, PURGED, RECEIVED, REPAIRED, Request
from unlearnkit.manifest import Manifest, digest_of
from unlearnkit.overview import facts_of, planned
from unlearnkit.store import Store
from unlearnkit.verification import states_of

Verdict = Literal["foreign", "stale", "outdated", "current"]
FOREIGN: Verdict = "foreign"
STALE: Verdict = "stale"
OUTDATED: Verdict = "outdated"
CURRENT: Verdict = "current"
_IDENTITY = ("secret_id", "seed", "name")


@dataclass(frozen=True, slots=True)
class Standing:
    """How a bundle stands to a store.

    Attributes
    ----------
    verdict : {"foreign", "stale", "outdated", "current"}
        It is of another model. Records were forgotten or put right since, which it has learned from: replace it. The
        model has changed in another way since: repaired, consolidated, given more records. It is the model as it is.
    requests : int
        Those that were carried out since and removed or replaced records.
    waiting : int
        Those that are recorded and not carried out yet: once they are, the bundle may be stale.
    """

    verdict: Verdict
    requests: int = 0
    waiting: int = 0


def standing(manifest: Manifest, store: Store) -> Standing:
    """How the bundle of this manifest stands to a store.

    Raises
    ------
    StoreError
        If there is none, or it holds no model.
    StateError
        If its ledger is damaged.
    """
    settings, requests = store.settings(), store.ledger.requests()
    if not _is_of(manifest, settings, requests):
        return Standing(FOREIGN)
    since = [r for r in requests if r.sequence > manifest.sequence and r.state in (ISOLATED, PURGED, REPAIRED)]
    stale = sum(request.facts.get("n_records", 0) > 0 for request in since)
    waiting = sum(request.state == RECEIVED for request in requests)
    if stale:
        return Standing(STALE, stale, waiting)
    return Standing(CURRENT if _is_same(manifest, settings, store) else OUTDATED, 0, waiting)


def _is_of(manifest: Manifest, settings: dict[str, Any], requests: tuple[Request, ...]) -> bool:
    own = manifest.settings
    same = [own[name] for name in _IDENTITY] == [settings[name] for name in _IDENTITY]
    if not same or own["context"]["fingerprint"] != settings["context"]["fingerprint"]:
        return False
    # With a seed, models of other data have the same secret; their requests came at other times.
    last = next((request for request in requests if request.sequence == manifest.sequence), None)
    received = None if last is None else last.facts["received_at"]
    return bool(received == manifest.received_at)


def _is_same(manifest: Manifest, settings: dict[str, Any], store: Store) -> bool:
    if manifest.prior is not None:
        # It follows from records, of which the digest says nothing.
        return manifest.epoch == store.ledger.epoch
    plan = planned(settings, facts_of(settings, store.ledger.cells()))
    states = states_of(plan, store.checkpoints())
    return digest_of(settings, states) == manifest.digest
