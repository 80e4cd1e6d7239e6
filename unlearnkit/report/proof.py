"""Proof: the signed statements of a store, verified, and whether the ledger still says what was signed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unlearnkit.errors import StateError, StoreError
from unlearnkit.inspection import chain_of, chained
from unlearnkit.ledger import Request
from unlearnkit.signing import known_keys
from unlearnkit.statements import statement_of
from unlearnkit.store import Store


@dataclass(frozen=True, slots=True)
class Stated:
    """One signed statement about a request.

    Attributes
    ----------
    number : int
        Its place in the chain.
    kind : {"purged", "repaired", "rejected"}
    agrees : bool
        Whether the ledger still says what was signed.
    """

    number: int
    kind: str
    agrees: bool


@dataclass(frozen=True, slots=True)
class Proof:
    """What the verification of the chain came to.

    Attributes
    ----------
    n_statements : int
    findings : tuple of str
        What is wrong with the chain, in plain words; none for a sound one.
    keys : tuple of str
        The names of the public keys that it was verified with.
    by_request : mapping of int to tuple of Stated
        The statements whose signature holds, by the number of their request.
    """

    n_statements: int
    findings: tuple[str, ...]
    keys: tuple[str, ...]
    by_request: Mapping[int, tuple[Stated, ...]]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def proof(store: Store, requests: Sequence[Request]) -> Proof:
    """Verify all statements of a store: each signature, the chain, and against these requests of its ledger."""
    try:
        public = store.secrets.public_keys
        chain, noted = chain_of(store)
        findings = [f"{fault.place}: {fault.what}" for fault in chained(store, chain, noted)]
    except (StateError, StoreError) as error:
        n = len(store.ledger.statements())
        return Proof(n, (f"The statements could not be verified. {error}",), (), {})
    known = {request.sequence: request for request in requests}
    found: dict[int, tuple[Stated, ...]] = {}
    # What is wrong with one that cannot be trusted is among the findings.
    for statement in filter(None, chain.statements):
        sequence, stated = _stated(statement, known)
        found[sequence] = (*found.get(sequence, ()), stated)
        if not stated.agrees:
            findings.append(f"request {sequence}: the ledger no longer says what was signed when it was {stated.kind}")
    return Proof(len(chain.envelopes), tuple(findings), tuple(known_keys(public)), found)


def _stated(statement: dict[str, Any], known: Mapping[int, Request]) -> tuple[int, Stated]:
    predicate = statement["predicate"]
    sequence, number, kind = predicate["request"]["sequence"], predicate["chain"]["number"], predicate["kind"]
    request = known.get(sequence)
    return sequence, Stated(number, kind, request is not None and _agrees(statement, request))


def _agrees(signed: dict[str, Any], request: Request) -> bool:
    predicate = signed["predicate"]
    try:
        told = statement_of(request, predicate["kind"], predicate["chain"]["number"], predicate["chain"]["previous"])
    except StateError:
        return False
    return _within(signed, told)


def _within(signed: Any, told: Any) -> bool:
    """Whether all that was signed is told; an older version may have signed less."""
    if isinstance(signed, dict) and isinstance(told, dict):
        return all(name in told and _within(value, told[name]) for name, value in signed.items())
    return bool(signed == told)
