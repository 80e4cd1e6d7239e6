"""Erasure: from the ids of a request to the rows that go and the build that is left. Changes nothing."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unlearnkit.build import Build
from unlearnkit.errors import ParameterError, UnknownRecordError
from unlearnkit.ids import as_list, coerce_request
from unlearnkit.ingest import handle_hashes
from unlearnkit.ledger import Ledger
from unlearnkit.partition import Partition
from unlearnkit.plan import Context, PlannedStep, plan_records
from unlearnkit.schema import Schema
from unlearnkit.typing import BoolArray


@dataclass(frozen=True, slots=True)
class Removal:
    """What a request comes to: the rows to take out, and the build without them."""

    rows: dict[int, BoolArray]
    n_ids: int
    pseudonyms: frozenset[str]
    already: int
    skipped: tuple[int, ...]
    build: Build
    first_slices: dict[int, int]

    @property
    def n_records(self) -> int:
        """Rows to take out."""
        return sum(int(rows.sum()) for rows in self.rows.values())


@dataclass(frozen=True, slots=True)
class Eraser:
    """Finds what a request comes to.

    Attributes
    ----------
    partition : Partition
    schema : Schema
        Whether records have ids, or are addressed by handle, and of which type.
    context : Context
    ledger : Ledger
        Knows what was forgotten before.
    pseudonym_key : bytes
        Without it nobody can tell whose a pseudonym is.
    """

    partition: Partition
    schema: Schema
    context: Context
    ledger: Ledger
    pseudonym_key: bytes = field(repr=False)

    def removal(self, build: Build, ids: Any, missing: str) -> Removal:
        """The rows of a request, and the build without them.

        Parameters
        ----------
        build : Build
        ids : id or array-like of ids
        missing : {"raise", "ignore"}

        Raises
        ------
        UnknownRecordError
            If an id is of another type, or belongs to no record and `missing` is "raise".
        """
        if missing not in ("raise", "ignore"):
            raise ParameterError(f'missing={missing!r} is neither "raise" nor "ignore"; nothing was changed.')
        ids = as_list(ids)
        wanted = coerce_request(ids, self.schema.id_type)
        hashes, shards = self._addresses(wanted)
        rows, found = _find(build, hashes, shards)
        pseudonyms = [self._pseudonym(item) for item in wanted]
        forgotten = self.ledger.forgotten(pseudonyms)
        absent = {item for item, h in zip(wanted, hashes, strict=True) if h not in found}
        already = {item for item, p in zip(wanted, pseudonyms, strict=True) if item in absent and p in forgotten}
        unknown = absent - already
        positions = self._positions(ids, unknown)
        if unknown and missing == "raise":
            raise UnknownRecordError(
                f"{len(unknown)} of {len(wanted)} ids belong to no record of this model (positions in the request: "
                f"{_some(positions)}); nothing was changed. Correct them, or pass missing='ignore' to skip them."
            )
        removed = frozenset(p for item, p in zip(wanted, pseudonyms, strict=True) if item not in absent)
        left, first = self._without(build, rows)
        return Removal(rows, len(wanted), removed, len(already), positions, left, first)

    def _addresses(self, wanted: list[bytes]) -> tuple[list[bytes], list[int]]:
        """The keyed hash of each id, and the shards where they may be."""
        if self.schema.explicit_ids:
            places = self.partition.place(wanted)
            return [rid.tobytes() for rid in places.rid], np.unique(places.shard).tolist()
        handles = handle_hashes(wanted, self.partition)
        return [handle.tobytes() for handle in handles], list(range(self.partition.n_shards))

    def _positions(self, ids: list[Any], unknown: set[bytes]) -> tuple[int, ...]:
        if not unknown:
            return ()
        encoded = [coerce_request([value], self.schema.id_type)[0] for value in ids]
        return tuple(i for i, item in enumerate(encoded) if item in unknown)

    def _pseudonym(self, item: bytes) -> str:
        kind = b"id:" if self.schema.explicit_ids else b"handle:"
        return hmac.new(self.pseudonym_key, kind + item, hashlib.sha256).hexdigest()

    def _without(self, build: Build, rows: dict[int, BoolArray]) -> tuple[Build, dict[int, int]]:
        records = list(build.records)
        changed: dict[int, tuple[PlannedStep, ...]] = {}
        first: dict[int, int] = {}
        for shard, matching in rows.items():
            active = np.flatnonzero(matching[: records[shard].n_active])
            if len(active):
                first[shard] = int(records[shard].slice[active].min())
            records[shard] = records[shard].without(matching)
            changed[shard] = plan_records(self.context, shard, records[shard])
        return Build(tuple(records), build.plan.with_shards(changed)), first


def _find(build: Build, hashes: list[bytes], shards: list[int]) -> tuple[dict[int, BoolArray], set[bytes]]:
    """The matching rows of each shard that has any, and the hashes that were matched."""
    keys, rows, found = set(hashes), {}, set()
    for shard in shards:
        records = build.records[shard]
        matching = records.matching(keys)
        if matching.any():
            rows[shard] = matching
            found |= records.keys(matching)
    return rows, found


def _some(positions: tuple[int, ...], limit: int = 10) -> str:
    shown = ", ".join(str(p) for p in positions[:limit])
    return shown + (", ..." if len(positions) > limit else "")
