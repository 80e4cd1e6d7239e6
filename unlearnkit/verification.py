"""Verification: digests of a model, and the comparison of two builds."""

from __future__ import annotations

from typing import TypeAlias

from unlearnkit.config import Config
from unlearnkit.hashing import chain
from unlearnkit.plan import Plan
from unlearnkit.receipts import VerifyReport
from unlearnkit.schema import Schema
from unlearnkit.store import StateStore

States: TypeAlias = dict[tuple[int, int], tuple[tuple[str, str], ...]]
"""Part names and part digests of the state of each (shard, slice)."""


def states_of(plan: Plan, store: StateStore) -> States:
    """Part names and part digests of each step that is stored."""
    found = ((step, store.ledger.checkpoint(step.key)) for step in plan)
    return {(step.shard, step.slice): c.parts for step, c in found if c is not None}


def model_digest(config: Config, schema: Schema, states: States) -> str:
    """SHA-256 over schema, aggregation and the digests of all stored parts: not over keys or requests."""
    fields: list[str] = [schema.digest, config.aggregation.identity]
    for (shard, r), parts in sorted(states.items()):
        fields += [f"{shard}/{r}", *(f"{part}={blob}" for part, blob in parts)]
    return chain("model", *fields)


def compare(config: Config, schema: Schema, plan: Plan, store: StateStore, theirs: States) -> VerifyReport:
    """Compare the stored states of a plan, byte for byte, with those of a rebuild.

    Parameters
    ----------
    config : Config
    schema : Schema
    plan : Plan
    store : StateStore
    theirs : dict
        Of the rebuild.
    """
    mine = states_of(plan, store)
    # A name in the ledger is a claim; the bytes behind it are the state.
    damaged = {(s.shard, s.slice) for s in plan if s.key in store and not store.is_whole(s.key)}
    due = {(s.shard, s.slice) for steps in plan.shards for s in store.missing(steps)}
    # What neither could train, and what waits for repair, are no differences.
    waiting = due & theirs.keys()
    cells = sorted((mine.keys() | theirs.keys()) - due)
    differing = tuple(cell for cell in cells if cell in damaged or mine.get(cell) != theirs.get(cell))
    current = config.environment_digest
    checkpoints = [store.ledger.checkpoint(step.key) for step in plan]
    return VerifyReport(
        exact=not differing and not waiting,
        differing=differing,
        due=tuple(sorted(waiting)),
        n_steps=len(cells),
        digest=model_digest(config, schema, mine),
        rebuilt_digest=model_digest(config, schema, theirs),
        same_environment=all(c is None or c.environment == current for c in checkpoints),
    )
