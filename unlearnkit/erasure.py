"""Erasure: what happens to a request from its receipt to the signed statement that nothing is left.

::

    received   durable; nobody has looked for the records yet
    isolated   the plan is that of the remaining records: no state that the others have influenced is in it
    purged     the rows are out of the stored data, those states and their keys are destroyed: forgotten
    repaired   the missing steps are trained again

Every arrow is one ledger transaction, so whoever opens the store next can go on from there. Nothing here needs the
learner: a request can be carried out where the framework is not even installed.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from unlearnkit.addresses import Addresses
from unlearnkit.attesting import naming, signed
from unlearnkit.build import Build
from unlearnkit.config import Blueprint
from unlearnkit.errors import ParameterError, UnknownRecordError
from unlearnkit.ids import as_list
from unlearnkit.ledger import (
    ISOLATED,
    PURGED,
    RECEIVED,
    REJECTED,
    REPAIRED,
    Cell,
    Change,
    Checkpoint,
    Request,
)
from unlearnkit.plan import NO_BASE, Context, Plan, PlannedStep, missing, needed, plan_shard, repeated, standing
from unlearnkit.policy import now
from unlearnkit.receipts import Estimate
from unlearnkit.records import MemoryRecords, Records, Removed
from unlearnkit.store import UNTRAINABLE, Store
from unlearnkit.stored import StoredRecords
from unlearnkit.verification import Digests
from unlearnkit.words import count

_NO_RECORD = "no record of this model has any of its ids"


@dataclass(frozen=True, slots=True)
class Removal:
    """What a request comes to.

    Attributes
    ----------
    build : Build
        Without the records.
    removed : Removed
    pseudonyms : frozenset of str
        Of the ids that had records.
    already : int
        Ids that were forgotten before.
    unknown : list of int
        Where in the request the ids stand that no record has and none ever had.
    """

    build: Build
    removed: Removed
    pseudonyms: frozenset[str]
    already: int
    unknown: list[int]


@dataclass(frozen=True, slots=True)
class Eraser:
    """Carries out requests on the model of a store.

    Attributes
    ----------
    store : Store
    blueprint : Blueprint
    digests : Digests
        What is known of those of the model.
    """

    store: Store
    blueprint: Blueprint
    digests: Digests = field(default_factory=Digests)

    @property
    def addresses(self) -> Addresses:
        """From ids to addresses."""
        schema = self.blueprint.schema
        return Addresses(self.blueprint.partition, self.store.secrets, schema.id_type, schema.explicit_ids)

    # -- received ------------------------------------------------------------------------------------------------

    def request(self, build: Build, ids: Any, missing: str = "raise") -> Request:
        """The request for these ids, not yet recorded. Changes nothing.

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
        items, shards = self.addresses.search(ids)
        request = self.store.request(items, search=shards)
        wanted = _wanted(request)
        _, unknown = self._absent(wanted, build.records.found(wanted, self._shards(request)))
        if not unknown:
            return request
        asked = list(items)
        strangers = {asked[i] for i in unknown}
        positions = self.addresses.positions(ids, strangers)
        if missing == "raise":
            raise UnknownRecordError(
                f"There is no record of {count(len(unknown), 'id')} of {len(items)} given (positions in the request: "
                f"{_some(positions)}); nothing was changed. Correct them, or pass missing='ignore' to skip them."
            )
        known = {address: name for address, name in items.items() if address not in strangers}
        return replace(request, items=known, facts=request.facts | {"skipped": list(positions)})

    def remove(self, build: Build, request: Request, erased: frozenset[str] = frozenset()) -> Removal:
        """What a request comes to: the build without its records.

        Parameters
        ----------
        build : Build
        request : Request
        erased : frozenset of str
            Pseudonyms that are about to become tombstones.
        """
        wanted = _wanted(request)
        records, removed = build.records.without(wanted, self._shards(request))
        already, unknown = self._absent(wanted, removed.addresses, erased)
        return Removal(
            build=Build(records, build.plan.with_shards(self._replanned(build.plan, records, removed))),
            removed=removed,
            pseudonyms=frozenset(wanted[address] for address in removed.addresses),
            already=already,
            unknown=unknown,
        )

    def _replanned(self, plan: Plan, records: Records, removed: Removed) -> dict[int, tuple[PlannedStep, ...]]:
        """The steps of the shards that lost rows of positive weight: as before up to the first slice that did."""
        known = {s: [step for step in plan.shards[s] if step.place < first] for s, first in removed.first.items()}
        return {s: plan_shard(self.blueprint.context, s, records.facts(s), own) for s, own in known.items()}

    def _absent(
        self, wanted: Mapping[bytes, str], found: Collection[bytes], erased: frozenset[str] = frozenset()
    ) -> tuple[int, list[int]]:
        """Of the ids that have no records: how many were forgotten before, and where in the request the others are."""
        absent = {address: i for i, address in enumerate(wanted) if address not in found}
        forgotten = self.forgotten_among(absent, erased) if absent else set()
        return len(forgotten), [i for address, i in absent.items() if address not in forgotten]

    def _shards(self, request: Request) -> Iterable[int]:
        """The shards where the records of a request may be."""
        shards: Iterable[int] = request.facts.get("search", range(self.blueprint.config.n_shards))
        return shards

    def forgotten_among(self, addresses: Collection[bytes], erased: frozenset[str] = frozenset()) -> set[bytes]:
        """Those of these addresses that are tombstones or about to be, under whatever pseudonym key."""
        named = dict(zip(addresses, self.addresses.pseudonyms(list(addresses)), strict=True))
        tombstones = erased | self.store.ledger.forgotten(name for names in named.values() for name in names)
        return {address for address, names in named.items() if not tombstones.isdisjoint(names)}

    def forgotten_in(self, records: Records) -> int:
        """How many ids have records though they are tombstones. There must be none."""
        if not self.store.ledger.tombstones():
            return 0
        shards = range(self.blueprint.config.n_shards)
        return sum(len(self.forgotten_among(records.addresses(shard))) for shard in shards)

    # -- isolated ------------------------------------------------------------------------------------------------

    def isolate(self, build: Build) -> tuple[Build, bool]:
        """Carry out all requests that were received, in their order and in one transaction.

        Returns
        -------
        build : Build
            Of the records that remain. What serves the old one has to be swapped out now.
        changed : bool
            Whether there was any request.
        """
        ledger = self.store.ledger
        received = ledger.requests(RECEIVED)
        if not received:
            return build, False
        stored = self.store.checkpoints()
        before = build.records.unsupported(self.blueprint.schema)
        old, done, digest = build, [], self.digest(build.plan, stored)
        erased: frozenset[str] = frozenset()
        for request in received:
            isolated, build = self._isolated(request, build, stored, digest, erased)
            digest = isolated.facts.get("digest_isolated", digest)
            erased |= isolated.pseudonyms
            done.append(isolated)
        # In a store the purge, which reads the features, finds out about the others.
        gone = [entry for entry in build.records.unsupported(self.blueprint.schema) if entry not in before]
        done = [r if r.state == REJECTED else replace(r, facts=r.facts | {"unsupported": gone}) for r in done]
        touched = build.plan.differing(old.plan)
        untrainable = {s: why for s, why in self._untrainable().items() if int(s) not in touched}
        rejected = [request for request in done if request.state == REJECTED]
        statements, notes = signed(self.store, rejected, "rejected")
        self.store.apply(
            Change(
                keys=build.plan.keys,
                cells=_changed_cells(old, build),
                requests=tuple(done),
                tombstones={name: request.sequence for request in done for name in request.pseudonyms},
                statements=statements,
                notes={UNTRAINABLE: untrainable} | notes,
            )
        )
        if rejected:
            # The purge of the others does it for them.
            ledger.settle()
        return build, True

    def _isolated(
        self, request: Request, build: Build, stored: Mapping[str, Checkpoint], digest: str, erased: frozenset[str]
    ) -> tuple[Request, Build]:
        removal = self.remove(build, request, erased)
        if removal.unknown and len(removal.unknown) == len(request.items):
            why = {
                "reason": _NO_RECORD,
                "skipped": list(range(len(request.items))),
                "digest_before": digest,
            }
            return replace(request, state=REJECTED, items={}, facts=_public(request.facts) | why), build
        facts = self.facts(build.plan, removal.build.plan, removal.removed, stored, digest) | {
            "already_forgotten": removal.already,
            "skipped": request.facts.get("skipped", removal.unknown),
        }
        isolated = replace(request, state=ISOLATED, pseudonyms=removal.pseudonyms, facts=_public(request.facts) | facts)
        return isolated, removal.build

    def facts(
        self, old: Plan, plan: Plan, removed: Removed, stored: Mapping[str, Checkpoint], digest: str
    ) -> dict[str, Any]:
        """What is known of a request as soon as it is isolated.

        Parameters
        ----------
        old, plan : Plan
            Before and after.
        removed : Removed
        stored : mapping of str to Checkpoint
            What there was, by key.
        digest : str
            Of the model before.
        """
        changed, first = set(plan.differing(old)), removed.first
        lost = old.of_shards(changed).keys - plan.of_shards(changed).keys
        return {
            "n_records": removed.n_records,
            "shards": {str(shard): _number(old, shard, first[shard]) for shard in sorted(first)},
            # For those who look at a later plan, in which slices may be numbered otherwise.
            "places": {str(shard): first[shard] for shard in sorted(first)},
            "restart_points": {str(s): _last_kept(plan, s, stored) for s in sorted(first)},
            "steps_total": plan.n_steps,
            "steps_retrained": 0,
            "steps_repeated": 0,
            "untrainable_shards": {},
            "rebuilt_shards": [],
            "states_destroyed": sum(key in stored for key in lost),
            "digest_before": digest,
            "digest_isolated": self.digest(plan, stored) if lost else digest,
            "parameters_digest": self.blueprint.context.fingerprint,
            "seed": self.blueprint.context.seed,
            "base": plan.base,
        }

    def _untrainable(self) -> dict[str, str]:
        found: dict[str, str] = self.store.ledger.note(UNTRAINABLE, {})
        return found

    def digest(self, plan: Plan, stored: Mapping[str, Checkpoint]) -> str:
        """The digest of the model as it is stored."""
        return self.digests.of(self.blueprint.config, self.blueprint.schema, plan, stored)

    # -- purged --------------------------------------------------------------------------------------------------

    def purge(self, build: Build) -> Build:
        """Destroy what isolated requests have left in the store, and sign that it is done.

        Returns
        -------
        Build
            Its records read from the new blocks; those in memory hold nothing of the others any more.

        Warns
        -----
        RuntimeWarning
            If a reader of the ledger stands in the way. The requests stay isolated, and are purged by the next call.
        """
        isolated = self.store.ledger.requests(ISOLATED)
        if not isolated:
            return build
        if not self.store.durable:
            facts: dict[str, Any] = {"isolated_at": now().isoformat()}
            if isinstance(build.records, MemoryRecords):
                build.records.rewrite()
            else:
                isolated, build = self._rewrite(isolated, build)
                self.store.sweep()
            self.store.apply(Change(requests=tuple(_purged(request, facts) for request in isolated)))
            return build
        isolated, build = self._rewrite(isolated, build)
        self.store.sweep()
        if not self.store.ledger.settle():
            warnings.warn(
                "A reader keeps old pages of the ledger in use, so the purge is not complete: the request stays open "
                "and is tried again when the store is opened next. What is served is free of the records already.",
                RuntimeWarning,
                stacklevel=4,
            )
            return build
        facts = {
            "purge_check": "All blobs were listed after the deletion: the ledger refers to each one that is left. "
            + self.store.ledger.settled,
            "copies": [*self.store.declared.copies, *outside(self.blueprint)],
            "environment": self.store.environment(),
        }
        purged = [_purged(request, facts) for request in isolated]
        statements, notes = signed(self.store, purged, "purged")
        self.store.apply(Change(requests=naming(purged, statements), statements=statements, notes=notes))
        return build

    def _rewrite(self, isolated: tuple[Request, ...], build: Build) -> tuple[tuple[Request, ...], Build]:
        """Put the rows that remain into new blocks, and let go of the old ones and of the items."""
        records = build.records
        assert isinstance(records, StoredRecords)
        schema, at = self.blueprint.schema, now()
        before = records.unsupported(schema)
        cells = self.store.put_cells(records.rewritten())
        changed = {(cell.shard, cell.slice): cell for cell in cells}
        fresh = records.moved((records.cells | changed).values(), ())
        found = {
            "readers_refreshed_by": self.store.refreshed_by(at).isoformat(),
            "blocks_destroyed": sum(len(records.cells[cell.shard, cell.slice].parts) for cell in cells),
            "isolated_at": at.isoformat(),
        }
        gone = [entry for entry in fresh.unsupported(schema) if entry not in before]
        # A purge that was cut short has told all this before.
        isolated = tuple(
            replace(r, items={}, facts=found | r.facts | {"unsupported": [*r.facts["unsupported"], *gone]})
            for r in isolated
        )
        self.store.apply(Change(cells=cells, requests=isolated))
        return isolated, Build(fresh, build.plan)

    # -- repaired ------------------------------------------------------------------------------------------------

    def finish(self, plan: Plan, rebuilt: Collection[int] = ()) -> list[Request]:
        """Close the purged requests whose shards are whole again, and give them."""
        ledger = self.store.ledger
        purged = ledger.requests(PURGED)
        if not purged:
            return []
        stored = self.store.checkpoints()
        degraded = {s for s, steps in enumerate(plan.shards) if missing(steps, stored)}
        untrainable = self._untrainable()
        digest = self.digest(plan, stored)
        open_, closed = [], []
        for request in purged:
            shards = {int(shard): first for shard, first in request.facts["places"].items()}
            waiting = degraded & shards.keys()
            facts = {
                "steps_retrained": _retrained(plan, shards, stored, rebuilt),
                "steps_repeated": sum(
                    len(repeated(self.blueprint.context, plan.shards[shard], first))
                    for shard, first in shards.items()
                    if shard not in {*waiting, *rebuilt}
                ),
                "untrainable_shards": {str(s): untrainable[str(s)] for s in sorted(waiting) if str(s) in untrainable},
                "rebuilt_shards": sorted(set(rebuilt) & shards.keys()),
            }
            if not waiting:
                facts |= {"digest_after": digest, "repaired_at": now().isoformat()}
                closed.append(replace(request, state=REPAIRED, facts=request.facts | facts))
            elif request.facts | facts != request.facts:
                open_.append(replace(request, facts=request.facts | facts))
        if closed or open_:
            statements, notes = signed(self.store, closed, "repaired")
            self.store.apply(Change(requests=(*open_, *closed), statements=statements, notes=notes))
        return closed


def outside(blueprint: Blueprint) -> tuple[str, ...]:
    """What no request on this model reaches, in words for a receipt."""
    base = blueprint.context.base
    if base == NO_BASE:
        return ()
    return (f"the base model that training starts from (digest {base[:16]}), and whatever it was trained on",)


def estimate(
    context: Context, old: Plan, removal: Removal, stored: Mapping[str, Checkpoint], untrainable: Collection[int]
) -> Estimate:
    """What carrying out a request would cost.

    Parameters
    ----------
    context : Context
    old : Plan
        As it is now.
    removal : Removal
    stored : mapping of str to Checkpoint
        What there is, by key.
    untrainable : collection of int
        Shards that could not be trained before.
    """
    plan, first = removal.build.plan, removal.removed.first
    hopeless = set(untrainable) - first.keys()
    trainable = (steps for s, steps in enumerate(plan.shards) if s not in hopeless)
    steps = [step for of_shard in trainable for step in missing(of_shard, stored)]
    abstaining = tuple(s for s, of_shard in enumerate(plan.shards) if standing(of_shard, stored) is None)
    again = [step for s, place in first.items() for step in repeated(context, plan.shards[s], place)]
    shown = float(sum(step.step.epochs * step.n for step in steps))
    total = float(sum(step.step.epochs * step.n for of_shard in plan.shards for step in needed(of_shard)))
    return Estimate(
        n_records=removal.removed.n_records,
        shards={shard: _number(old, shard, place) for shard, place in first.items()},
        n_steps=len(steps) - len(again),
        n_repeated=len(again),
        steps_total=plan.n_steps,
        presentations=shown,
        cost_share=shown / total if total else 0.0,
        abstaining_shards=abstaining,
        chance_all_abstain=float(len(abstaining) == len(plan.shards)),
    )


def _purged(request: Request, facts: Mapping[str, Any]) -> Request:
    """The request, of which nothing is left from now on."""
    return replace(request, state=PURGED, items={}, facts={**facts, **request.facts, "purged_at": now().isoformat()})


def _wanted(request: Request) -> dict[bytes, str]:
    """What a request asks for: the addresses of the records, and the pseudonyms of their ids."""
    return {bytes.fromhex(address): pseudonym for address, pseudonym in request.items.items()}


def _public(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts without what only served to find the records."""
    return {name: value for name, value in facts.items() if name != "search"}


def _changed_cells(old: Build, new: Build) -> tuple[Cell, ...]:
    if not isinstance(new.records, StoredRecords) or not isinstance(old.records, StoredRecords):
        return ()
    before = old.records.cells
    cells = ((cell, before[place]) for place, cell in new.records.cells.items())
    # Most are the same object.
    return tuple(cell for cell, was in cells if cell is not was and cell != was)


def _number(plan: Plan, shard: int, place: int) -> int:
    """The number of the slice of a shard whose records are kept at this place."""
    return next((step.slice for step in plan.shards[shard] if step.place >= place), place)


def _last_kept(plan: Plan, shard: int, stored: Mapping[str, Checkpoint]) -> int:
    """The last slice of a shard whose state stays, or -1."""
    last = standing(plan.shards[shard], stored)
    return -1 if last is None else last.slice


def _retrained(plan: Plan, shards: Mapping[int, int], stored: Collection[str], rebuilt: Collection[int]) -> int:
    """The steps of the plan that had to be trained again because of these shards' first affected places."""
    due = {step.key for shard in shards for step in missing(plan.shards[shard], stored)}
    return sum(
        step.key not in due and (step.place >= first or shard in rebuilt)
        for shard, first in shards.items()
        for step in needed(plan.shards[shard])
    )


def _some(positions: tuple[int, ...], limit: int = 10) -> str:
    shown = ", ".join(str(p) for p in positions[:limit])
    return shown + (", ..." if len(positions) > limit else "")
