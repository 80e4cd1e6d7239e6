"""Signed statements: what a store says it has done for each request, so that others can check it without the store.

A request has one statement when it is purged and a second one, which names the first, when it is repaired; or one
when it is rejected. All of a store form one chain: each is numbered and names the digest of the one before it, so that
none can be changed, left out or put elsewhere. Each is an in-toto Statement v1 in a DSSE envelope. It holds no id,
and no value but categories and class labels that no record has any more.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from unlearnkit.errors import StateError
from unlearnkit.keys import Secrets
from unlearnkit.ledger import PURGED, REJECTED, REPAIRED, Request
from unlearnkit.signing import envelope_digest, known_keys, seal, unseal

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://unlearnkit.dev/erasure/v1"
Kind = Literal["purged", "repaired", "rejected"]

# Group, and in it the name of each entry in a statement and of the fact that it is.
_GROUPS: dict[str, dict[str, str]] = {
    "request": {
        "received": "received_at",
        "due": "due_at",
        "isolated": "isolated_at",
        "purged": "purged_at",
        "repaired": "repaired_at",
        "readers_refreshed_by": "readers_refreshed_by",
        "regime": "regime",
        "reason": "reason",
    },
    "ids": {"asked_for": "n_ids", "already_forgotten": "already_forgotten", "skipped": "skipped"},
    "model": {
        "digest_before": "digest_before",
        "digest_isolated": "digest_isolated",
        "digest_after": "digest_after",
        "parameters_digest": "parameters_digest",
        "seed": "seed",
        "environment": "environment",
        "base": "base",
    },
    "removed": {"records": "n_records", "first_slices": "shards", "unsupported_schema_entries": "unsupported"},
    "repair": {
        "restart_points": "restart_points",
        "steps_total": "steps_total",
        "steps_retrained": "steps_retrained",
        "steps_repeated": "steps_repeated",
        "untrainable_shards": "untrainable_shards",
        "rebuilt_shards": "rebuilt_shards",
    },
    "destroyed": {"states": "states_destroyed", "blocks": "blocks_destroyed", "how_verified": "purge_check"},
}
RECTIFICATION = "rectification"
"""The fact ``kind`` of a request that has replaced records instead of removing them."""
_OF_REJECTED = ("request", "ids", "model")
# What a purge cannot know yet, also where its statement is issued late.
_KNOWN_AFTER_REPAIR = (
    "repaired_at",
    "digest_after",
    "steps_retrained",
    "steps_repeated",
    "untrainable_shards",
    "rebuilt_shards",
)
# Without these a statement would say nothing.
_NEEDED: dict[str, tuple[str, ...]] = {
    PURGED: ("received_at", "isolated_at", "purged_at", "digest_isolated"),
    REPAIRED: ("received_at", "isolated_at", "purged_at", "repaired_at", "digest_after", "purge_statement"),
    REJECTED: ("received_at", "reason", "digest_before"),
}
_MODEL_DIGEST = {PURGED: "digest_isolated", REPAIRED: "digest_after", REJECTED: "digest_before"}


def statement_of(request: Request, kind: Kind, number: int, previous: str | None) -> dict[str, Any]:
    """What is stated of a request. It is about the model as it was then left.

    Parameters
    ----------
    request : Request
    kind : {"purged", "repaired", "rejected"}
    number : int
        The place in the chain, counted from 1.
    previous : str or None
        The digest of the envelope before it; None for the first.

    Raises
    ------
    StateError
        If the request lacks a fact without which the statement would say nothing.
    """
    facts = request.facts
    missing = [name for name in _NEEDED[kind] if facts.get(name) is None]
    if missing:
        raise StateError(
            f"Request {request.sequence} has no {', '.join(missing)}, so no statement that it is {kind} can be made; "
            "nothing was changed."
        )
    hidden = _KNOWN_AFTER_REPAIR if kind == PURGED else ()
    groups = _OF_REJECTED if kind == REJECTED else tuple(_GROUPS)
    predicate: dict[str, Any] = {
        group: {name: None if fact in hidden else facts.get(fact) for name, fact in _GROUPS[group].items()}
        for group in groups
    }
    predicate["kind"] = kind
    predicate["chain"] = {"number": number, "previous": previous}
    predicate["request"] |= {"sequence": request.sequence, "outcome": _outcome(facts, kind)}
    predicate["ids"]["pseudonyms"] = sorted(request.pseudonyms)
    predicate["outside_control"] = facts.get("copies") or []
    predicate["operator"] = facts.get("operator")
    if kind == REPAIRED:
        predicate["purge_statement"] = facts["purge_statement"]
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "model", "digest": {"sha256": facts[_MODEL_DIGEST[kind]]}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }


def _outcome(facts: dict[str, Any], kind: Kind) -> str:
    if kind == REJECTED:
        return "rejected"
    if facts.get("kind") == RECTIFICATION:
        return "rectified"
    if facts.get("n_records"):
        return "erased"
    return "erased by an earlier request" if facts.get("already_forgotten") else "no record found"


def sign(statement: dict[str, Any], keys: Secrets) -> str:
    """The signed envelope of a statement: one line."""
    return seal(_canonical(statement), keys.signing_key)


def read(envelope: str, public_keys: str) -> dict[str, Any]:
    """The statement in an envelope, which is looked at only once the signature holds.

    Parameters
    ----------
    envelope : str
    public_keys : str
        One or more public keys in PEM, one of which must have signed it.

    Raises
    ------
    StateError
        If anything about it is not as it was issued.
    """
    payload = unseal(envelope, public_keys)
    try:
        statement = json.loads(payload)
        sound = _canonical(statement) == payload and _is_statement(statement)
    except (ValueError, RecursionError, KeyError, TypeError):
        sound = False
    if not sound:
        raise StateError(
            "What was signed is not a statement about an erasure that this version knows; nothing was taken from it. "
            "Install the version that issued it, or ask who did."
        )
    found: dict[str, Any] = statement
    return found


def _is_statement(statement: Any) -> bool:
    predicate = statement["predicate"]
    number, previous = predicate["chain"]["number"], predicate["chain"]["previous"]
    return bool(
        statement["_type"] == STATEMENT_TYPE
        and statement["predicateType"] == PREDICATE_TYPE
        and predicate["kind"] in _NEEDED
        and type(number) is int
        and number >= 1
        and type(predicate["request"]["sequence"]) is int
        and (isinstance(previous, str) if number > 1 else previous is None)
        and ((predicate["kind"] == REPAIRED) == isinstance(predicate.get("purge_statement"), str))
    )


def _canonical(statement: dict[str, Any]) -> bytes:
    return json.dumps(statement, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


@dataclass(frozen=True, slots=True)
class Chain:
    """Signed statements, oldest first, each of which is verified once.

    Attributes
    ----------
    envelopes : tuple of str
    statements : tuple of dict or None
        What the envelopes hold, at the same places; None for one that cannot be trusted.
    unread : tuple of str
        Why not.
    """

    envelopes: tuple[str, ...]
    statements: tuple[dict[str, Any] | None, ...]
    unread: tuple[str, ...]

    @classmethod
    def read(cls, envelopes: Sequence[str], public_keys: str) -> Chain:
        """Verify and read each statement.

        Raises
        ------
        StateError
            If the public keys cannot be used.
        """
        known_keys(public_keys)
        statements: list[dict[str, Any] | None] = []
        unread = []
        for place, envelope in enumerate(envelopes, 1):
            try:
                statements.append(read(envelope, public_keys))
            except StateError as error:
                statements.append(None)
                unread.append(f"Statement {place}: {error}")
        return cls(tuple(envelopes), tuple(statements), tuple(unread))

    def faults(self, expected: int | str | None = None) -> list[str]:
        """What is wrong with the chain; `expected` as for `verify_chain`."""
        found = [*self.unread, *_breaks(self.envelopes, self.statements), *_life(self.envelopes, self.statements)]
        if isinstance(expected, int) and len(self.envelopes) < expected:
            found.append(
                f"There are {len(self.envelopes)} statements where {expected} are known to exist: the last were "
                "removed."
            )
        if isinstance(expected, str) and expected not in map(envelope_digest, self.envelopes):
            found.append(f"Statement {expected[:12]}, which is known to exist, is not there: it was removed.")
        return found


def verify_chain(envelopes: Sequence[str], public_keys: str, expected: int | str | None = None) -> list[str]:
    """What is wrong with a chain of statements, in plain words; nothing for a sound one.

    Parameters
    ----------
    envelopes : sequence of str
        All of a store, oldest first.
    public_keys : str
        One or more public keys in PEM.
    expected : int, str or None
        What is known from elsewhere, without which nobody could see that the last ones are missing: how many there
        are at least, or the digest of one that has to be there.

    Raises
    ------
    StateError
        If the public keys cannot be used.
    """
    return Chain.read(envelopes, public_keys).faults(expected)


def verify_file(text: str, public_keys: str, expected: int | str | None = None) -> list[str]:
    """What is wrong with a file of statements, in plain words; nothing for a sound one. It needs no store.

    The one or two statements of a single request are checked by themselves. More than that are a chain and have to be
    all of it, from the first on.

    Parameters
    ----------
    text : str
        One envelope per line.
    public_keys : str
        One or more public keys in PEM.
    expected : int, str or None
        As for `verify_chain`. If given, the file has to hold the whole chain.

    Raises
    ------
    StateError
        If the public keys cannot be used.
    """
    envelopes = text.removesuffix("\n").split("\n") if text else []
    if not envelopes:
        return ["The file holds no statement."]
    chain = Chain.read(envelopes, public_keys)
    requests = {_sequence(statement) for statement in chain.statements if statement is not None}
    if expected is not None or len(envelopes) > 2 or len(requests) > 1:  # noqa: PLR2004 - purge and repair
        return chain.faults(expected)
    return [*chain.unread, *_life(envelopes, chain.statements), *_pair(envelopes, chain.statements)]


def _breaks(envelopes: Sequence[str], statements: Sequence[dict[str, Any] | None]) -> list[str]:
    """Where the chain is broken."""
    findings = []
    previous, number = None, 0
    for place, (envelope, statement) in enumerate(zip(envelopes, statements, strict=True), 1):
        number += 1
        if statement is not None:
            chain = statement["predicate"]["chain"]
            if chain["number"] > number:
                findings.append(
                    f"Statement {place} has number {chain['number']}, not {number}: those between are gone."
                )
            elif chain["number"] < number:
                findings.append(
                    f"Statement {place} has number {chain['number']}, not {number}: it is out of its place."
                )
            elif chain["previous"] != previous:
                findings.append(f"Statement {place} follows another than the one before it: that was replaced.")
            number = chain["number"]
        previous = envelope_digest(envelope)
    return findings


def _life(envelopes: Sequence[str], statements: Sequence[dict[str, Any] | None]) -> list[str]:
    """Where the statements about one request do not fit together."""
    findings = []
    seen: dict[int, dict[str, str]] = {}
    for place, (envelope, statement) in enumerate(zip(envelopes, statements, strict=True), 1):
        if statement is None:
            continue
        predicate, sequence = statement["predicate"], _sequence(statement)
        kind, before = predicate["kind"], seen.setdefault(sequence, {})
        if kind in before:
            findings.append(f"Statement {place} says a second time that request {sequence} is {kind}.")
        elif kind == REPAIRED and predicate["purge_statement"] != before.get(PURGED):
            findings.append(
                f"Statement {place} says that request {sequence} is repaired, but the statement "
                f"{predicate['purge_statement'][:12]} of its purge is not before it."
            )
        elif kind != REPAIRED and before:
            findings.append(f"Statement {place} says that request {sequence} is {kind}, which others contradict.")
        before[kind] = envelope_digest(envelope)
    return findings


def _pair(envelopes: Sequence[str], statements: Sequence[dict[str, Any] | None]) -> list[str]:
    """Where purge and repair of one request, taken out of their chain, cannot come from one chain."""
    findings = []
    for (envelope, first), (_, second) in pairwise(zip(envelopes, statements, strict=True)):
        if first is None or second is None:
            continue
        number, chain = first["predicate"]["chain"]["number"], second["predicate"]["chain"]
        follows = chain["number"] == number + 1
        if chain["number"] <= number or (follows and chain["previous"] != envelope_digest(envelope)):
            findings.append("The two statements are not from one chain, or not in its order.")
    return findings


def _sequence(statement: dict[str, Any]) -> int:
    sequence: int = statement["predicate"]["request"]["sequence"]
    return sequence
