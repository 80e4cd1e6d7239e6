"""Receipts, estimates and reports: what the operations of a model tell about themselves, as plain values."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any

from unlearnkit.ledger import Request

_BY_SHARD = {"shards", "untrainable_shards"}
_TUPLES = {"skipped", "rebuilt_shards", "unsupported"}
_TIMES = {"received_at", "due_at", "isolated_at", "purged_at", "repaired_at"}


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was done for one erasure request. It names no id, and no value but categories and labels that have gone.

    Attributes
    ----------
    request_id : int
        The place of the request in the life of the model, counted from 1.
    n_ids : int
        Distinct ids in the request.
    n_records : int
        Rows removed.
    already_forgotten : int
        Ids that an earlier request has removed.
    skipped : tuple of int
        Positions in the request of ids that no record has (``missing="ignore"``).
    shards : dict of int to int
        Each affected shard and the first slice affected in it.
    steps_retrained : int
        Steps trained again for it so far; a step shared with other requests counts for each.
    steps_repeated : int
        Unchanged steps trained again on the way to these, because their states are not kept (``checkpoint_every``).
    steps_total : int
        Steps of the whole model.
    states_destroyed : int
        Stored states that the removed records had influenced.
    untrainable_shards : dict of int to str
        Shards that cannot be trained on what is left, and why; they stay isolated.
    rebuilt_shards : tuple of int
        Shards that were rebuilt whole: in another environment, or by a consolidation.
    digest_before : str
        The digest of the model before the request.
    digest_after : str or None
        The digest once repaired: that of the model that never saw the records. None while repair is due.
    received_at, due_at : datetime
        When the request was recorded, and by when it must be answered. UTC.
    isolated_at : datetime or None
        From here on nothing served was influenced by the records.
    purged_at : datetime or None
        From here on nothing stored was: the records are forgotten.
    repaired_at : datetime or None
        None while repair is due.
    unsupported : tuple of str
        Entries of the schema that the records were the last to have. The schema keeps them.
    rejected : str
        Why nothing was done; empty otherwise.
    kind : {"erasure", "rectification"}
        Of a rectification, `n_records` were replaced.
    base : str or None
        The digest of the base model that training starts from: what that was trained on is outside the guarantee.
    """

    request_id: int
    n_ids: int
    received_at: datetime
    due_at: datetime
    n_records: int = 0
    already_forgotten: int = 0
    skipped: tuple[int, ...] = ()
    shards: dict[int, int] = field(default_factory=dict)
    steps_total: int = 0
    states_destroyed: int = 0
    digest_before: str | None = None
    isolated_at: datetime | None = None
    purged_at: datetime | None = None
    steps_retrained: int = 0
    steps_repeated: int = 0
    untrainable_shards: dict[int, str] = field(default_factory=dict)
    rebuilt_shards: tuple[int, ...] = ()
    digest_after: str | None = None
    repaired_at: datetime | None = None
    unsupported: tuple[str, ...] = ()
    rejected: str = ""
    kind: str = "erasure"
    base: str | None = None

    def to_json(self) -> str:
        """The receipt as one JSON object, times in ISO 8601."""
        return json.dumps(asdict(self), default=_plain)

    @classmethod
    def of(cls, request: Request) -> Receipt:
        """The receipt of a request in a ledger."""
        facts = {f.name: request.facts[f.name] for f in fields(cls) if f.name in request.facts}
        facts |= {"request_id": request.sequence, "rejected": request.facts.get("reason", "")}
        for name in _BY_SHARD & facts.keys():
            facts[name] = {int(shard): value for shard, value in facts[name].items()}
        for name in _TUPLES & facts.keys():
            facts[name] = tuple(facts[name])
        for name in _TIMES & facts.keys():
            facts[name] = None if facts[name] is None else datetime.fromisoformat(facts[name])
        return cls(**facts)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a request would cost. Nothing is changed by asking.

    Attributes
    ----------
    n_records : int
        Rows that would go.
    shards : dict of int to int
        Affected shards and the first slice affected in each.
    n_steps : int
        Steps to train again.
    n_repeated : int
        Unchanged steps to train again on the way to these, because their states are not kept.
    steps_total : int
        Steps of the whole model.
    presentations : float
        Rows that these steps show to the model, per epoch of the wrapped model: with one slice, the records retrained.
    cost_share : float
        The same as a share of a full build.
    abstaining_shards : tuple of int
        Shards without a constituent between isolate and repair.
    chance_all_abstain : float
        Whether nothing could be predicted in between, 0.0 or 1.0: for known ids there is no chance left in it.
    """

    n_records: int
    shards: dict[int, int]
    n_steps: int
    n_repeated: int
    steps_total: int
    presentations: float
    cost_share: float
    abstaining_shards: tuple[int, ...]
    chance_all_abstain: float


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The outcome of rebuilding a model from its records in an empty store.

    Attributes
    ----------
    exact : bool
        Every state is there and equals the rebuilt one, byte for byte.
    differing : tuple of (int, int)
        (shard, slice) of the states that differ, or that only one of the two has.
    due : tuple of (int, int)
        (shard, slice) of the steps that wait for repair.
    n_steps : int
        States compared.
    digest, rebuilt_digest : str
    same_environment : bool
        False if library versions or the processor have changed since: then a difference need not be a fault.
    forgotten_rows : int
        Stored records whose id is a tombstone. There must be none; if there is one, the model is not exact.
    shards : tuple of int or None
        The shards that were checked; None: all.
    """

    exact: bool
    differing: tuple[tuple[int, int], ...]
    due: tuple[tuple[int, int], ...]
    n_steps: int
    digest: str
    rebuilt_digest: str
    same_environment: bool
    forgotten_rows: int = 0
    shards: tuple[int, ...] | None = None

    def __bool__(self) -> bool:
        return self.exact


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")
