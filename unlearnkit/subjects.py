"""The data subject's version of a receipt: what was done with their request, in plain terms and about nobody else."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from unlearnkit.errors import StateError, UnknownRecordError
from unlearnkit.signing import envelope_digest
from unlearnkit.statements import read


def subject_version(envelopes: Sequence[str], public_keys: str, pseudonyms: Collection[str] = ()) -> dict[str, Any]:
    """What a data subject is told of the request that they were part of.

    It has no shard, restart point, seed or library version, and of a request for several ids nothing about the others.

    Parameters
    ----------
    envelopes : sequence of str
        The statements about one request.
    public_keys : str
        One or more public keys in PEM.
    pseudonyms : collection of str
        Those of the subject's own id.

    Raises
    ------
    StateError
        If there is no statement, one is not as it was issued, or they are about several requests.
    UnknownRecordError
        If the request removed records, but none of this subject.
    """
    predicates = [read(envelope, public_keys)["predicate"] for envelope in envelopes]
    if len({predicate["request"]["sequence"] for predicate in predicates}) != 1:
        raise StateError("The version for a data subject is made of the statements of one request; nothing was made.")
    # The later one knows all that the earlier one does.
    latest = max(predicates, key=lambda predicate: int(predicate["chain"]["number"]))
    request, alone = latest["request"], latest["ids"]["asked_for"] == 1
    own = sorted({*pseudonyms} & {*latest["ids"]["pseudonyms"]})
    if pseudonyms and not own and request["outcome"] in ("erased", "rectified"):
        raise UnknownRecordError(
            f"Request {request['sequence']} removed no record of this id; nothing was made. Look for the request that "
            "did."
        )
    purged, due = request["purged"], request["due"]
    return {
        "request": request["sequence"],
        "regime": request["regime"],
        "received": request["received"],
        "due": due,
        "isolated": request["isolated"],
        "purged": purged,
        "deadline_met": None if purged is None or due is None else _time(purged) <= _time(due),
        "readers_refreshed_by": request["readers_refreshed_by"],
        "repaired": request["repaired"],
        "outcome": request["outcome"],
        "reason": request["reason"],
        "records_removed": latest["removed"]["records"] if alone and "removed" in latest else None,
        "pseudonyms": own,
        "outside_control": latest["outside_control"],
        "statements": [envelope_digest(envelope) for envelope in envelopes],
    }


def subject_text(version: dict[str, Any]) -> str:
    """The version for a data subject as plain text, one statement per line."""
    what = "rectification" if version["outcome"] == "rectified" else "erasure"
    lines = [f"Your {what} request (number {version['request']})", ""]
    lines.append(f"Received on {_shown(version['received'])}.")
    if version["purged"] is None:
        lines.append(f"The request was rejected: {version['reason']}")
    else:
        lines += _what_was_done(version)
    if version["outside_control"]:
        lines.append(f"Not in our hands, and not part of this {what}:")
        lines += [f"  - {copy}" for copy in version["outside_control"]]
    if version["pseudonyms"]:
        lines.append("In our signed receipts you are named only by:")
        lines += [f"  - {pseudonym}" for pseudonym in version["pseudonyms"]]
    lines.append("The signed receipts that this was made from have the SHA-256 digests:")
    lines += [f"  - {digest}" for digest in version["statements"]]
    return "\n".join(lines) + "\n"


def _what_was_done(version: dict[str, Any]) -> list[str]:
    old = "the old values of your data" if version["outcome"] == "rectified" else "your data"
    lines = [f"From {_shown(version['isolated'])} on, no answer of the model was influenced by {old}."]
    if version["readers_refreshed_by"] is not None:
        lines.append(f"That holds for every program that uses it from {_shown(version['readers_refreshed_by'])} on.")
    if version["outcome"] == "erased":
        removed = version["records_removed"]
        what = "Your records" if removed is None else f"Your records ({removed})"
        lines.append(
            f"{what}, and all that the model had learned from them, were destroyed: {_shown(version['purged'])}."
        )
    elif version["outcome"] == "rectified":
        lines.append(
            "Your records were replaced by the corrected ones, and all that the model had learned from the old ones "
            f"was destroyed: {_shown(version['purged'])}."
        )
    else:
        lines.append(f"There was nothing left to destroy ({version['outcome']}).")
    if version["due"] is not None:
        met = "met" if version["deadline_met"] else "missed"
        lines.append(f"This was due by {_shown(version['due'])}; the deadline was {met}.")
    if version["repaired"] is not None:
        how = "with the corrected data" if version["outcome"] == "rectified" else "without your data"
        lines.append(f"The model was completed again {how}: {_shown(version['repaired'])}.")
    return lines


def _shown(time: str) -> str:
    return f"{_time(time):%Y-%m-%d %H:%M} UTC"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
