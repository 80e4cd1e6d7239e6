"""Signed statements about requests, each after the one before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from unlearnkit.ledger import Request
from unlearnkit.signing import envelope_digest
from unlearnkit.statements import Kind, sign, statement_of
from unlearnkit.store import CHAIN, Store


def signed(
    store: Store, requests: Iterable[Request], kind: Kind, after: Mapping[str, Any] | None = None
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """A signed statement on each request, in the chain of all; and the note that says where the chain is then.

    Parameters
    ----------
    store : Store
        In memory there are no statements.
    requests : iterable of Request
    kind : {"purged", "repaired", "rejected"}
    after : mapping or None
        Where the chain is, if it is further than the ledger knows: the note from another call.
    """
    requests = tuple(requests)
    if not store.durable or not requests:
        return (), {}
    chain = (after or {}).get(CHAIN) or store.ledger.note(CHAIN, {"number": 0, "digest": None})
    number, previous = chain["number"], chain["digest"]
    envelopes = []
    for request in requests:
        number += 1
        envelopes.append(sign(statement_of(request, kind, number, previous), store.secrets))
        previous = envelope_digest(envelopes[-1])
    return tuple(envelopes), {CHAIN: {"number": number, "digest": previous}}


def naming(requests: Iterable[Request], statements: Iterable[str]) -> tuple[Request, ...]:
    """Purged requests that name the first statement about each: the second one will repeat it."""
    return tuple(
        replace(request, facts=request.facts | {"purge_statement": envelope_digest(statement)})
        for request, statement in zip(requests, statements, strict=True)
    )
