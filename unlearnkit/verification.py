"""Verification: digests of a model, and the comparison of two builds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

from unlearnkit.build import Build, Builder
from unlearnkit.config import Blueprint, Config
from unlearnkit.hashing import framed
from unlearnkit.ledger import Change, Checkpoint
from unlearnkit.plan import Plan, PlannedStep, missing
from unlearnkit.receipts import VerifyReport
from unlearnkit.schema import Schema
from unlearnkit.store import Store
from unlearnkit.typing import Parts

States: TypeAlias = dict[tuple[int, int], tuple[tuple[str, str], ...]]
"""Part names and part digests of the state of each (shard, slice)."""


def states_of(plan: Plan, stored: Mapping[str, Checkpoint]) -> States:
    """Part names and part digests of each step that is stored and is to be kept."""
    found: States = {}
    for shard, steps in enumerate(plan.shards):
        for step in steps:
            if step.kept and (checkpoint := stored.get(step.key)) is not None:
                found[shard, step.step.slice] = checkpoint.parts
    return found


def model_digest(config: Config, schema: Schema, states: States) -> str:
    """SHA-256 over schema, aggregation and the digests of all stored parts: not over keys or requests."""
    return _digest(config, schema, b"".join([_framed(*place, parts) for place, parts in sorted(states.items())]))


class Digests:
    """Digests of plans that differ in a few states, as those before and after a request do: others are framed once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[list[Any], list[bytes]]] = {}

    def of(self, config: Config, schema: Schema, plan: Plan, stored: Mapping[str, Checkpoint]) -> str:
        """The `model_digest` of the states of a plan that are stored and are to be kept."""
        shards = [self._shard(shard, steps, stored) for shard, steps in enumerate(plan.shards)]
        return _digest(config, schema, b"".join(shards))

    def _shard(self, shard: int, steps: Sequence[PlannedStep], stored: Mapping[str, Checkpoint]) -> bytes:
        kept = [step for step in steps if step.kept and step.key in stored]
        states = [(step.step.slice, stored[step.key].parts) for step in kept]
        known, found = self._known.get(shard, ([], []))
        if states != known:
            # Most often some of the last were dropped, or have come.
            same = next((i for i, (own, was) in enumerate(zip(states, known, strict=False)) if own != was), None)
            same = min(len(states), len(known)) if same is None else same
            found = found[:same] + [_framed(shard, r, parts) for r, parts in states[same:]]
            self._known[shard] = states, found
        return b"".join(found)


def _digest(config: Config, schema: Schema, states: bytes) -> str:
    return hashlib.sha256(framed("model", schema.digest, config.aggregation.identity) + states).hexdigest()


def _framed(shard: int, r: int, parts: tuple[tuple[str, str], ...]) -> bytes:
    """One state in the digest."""
    return framed(f"{shard}/{r}", *(f"{part}={blob}" for part, blob in parts))


def rebuilt(builder: Builder, build: Build, base: Parts | None, advance: Callable[[int], None]) -> States:
    """The states of a build in an empty store, which has nothing but the base."""
    store, key = Store(), build.plan.base
    known = () if key is None or base is None else (store.put_base(key, base, builder.environment),)
    store.apply(Change(keys=build.plan.keys, checkpoints=known))
    builder.build(build, store, lambda *_: advance(1))
    return states_of(build.plan, store.checkpoints())


def compare(
    blueprint: Blueprint, plan: Plan, stored: Mapping[str, Checkpoint], damaged: Collection[str], theirs: States
) -> VerifyReport:
    """Compare the stored states of a plan, byte for byte, with those of a rebuild.

    Parameters
    ----------
    blueprint : Blueprint
    plan : Plan
    stored : mapping of str to Checkpoint
        What there is, by key.
    damaged : collection of str
        The keys of states whose bytes are not what the ledger says: a name there is a claim, the bytes are the state.
    theirs : dict
        Of the rebuild.
    """
    mine = states_of(plan, stored)
    due = {(s.shard, s.slice) for steps in plan.shards for s in missing(steps, stored)}
    wrong = {(s.shard, s.slice) for s in plan if s.key in damaged}
    # What neither could train, and what waits for repair, are no differences.
    waiting = due & theirs.keys()
    cells = sorted((mine.keys() | theirs.keys()) - due)
    differing = tuple(cell for cell in cells if cell in wrong or mine.get(cell) != theirs.get(cell))
    current = blueprint.config.environment_digest
    return VerifyReport(
        exact=not differing and not waiting,
        differing=differing,
        due=tuple(sorted(waiting)),
        n_steps=len(cells),
        digest=model_digest(blueprint.config, blueprint.schema, mine),
        rebuilt_digest=model_digest(blueprint.config, blueprint.schema, theirs),
        same_environment=all(stored[s.key].environment == current for s in plan if s.key in stored),
    )
