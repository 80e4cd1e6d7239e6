"""The configuration of a model, resolved: no "auto" and no None that stands for a default is left."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from unlearnkit.aggregation import Aggregation
from unlearnkit.blobs import Blobs
from unlearnkit.environment import environment_digest
from unlearnkit.external import EXTERNAL, STORED, ExternalRecords
from unlearnkit.hashing import chain
from unlearnkit.learner import Learner
from unlearnkit.ledger import Cell
from unlearnkit.partition import HashPartition, Partition, Placing
from unlearnkit.plan import FORMAT, NO_BASE, Context
from unlearnkit.schema import Schema
from unlearnkit.stored import StoredRecords
from unlearnkit.typing import Parts


@dataclass(frozen=True, slots=True)
class PackedBase:
    """A base model as its learner packs it: what a fitted model carries in the place of the user's own.

    Attributes
    ----------
    parts : dict of str to bytes
    """

    parts: Parts = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of all parts: part of every key."""
        return chain(
            "base", *(f"{name}={hashlib.sha256(part).hexdigest()}" for name, part in sorted(self.parts.items()))
        )


@dataclass(frozen=True)
class Config:
    """What a model is built with, fixed for its life.

    Attributes
    ----------
    name : str
        What messages call the wrapped model.
    n_shards, n_slices : int
    aggregation : Aggregation
    partition : HashPartition or BandedPartition
    schema : Schema or None
        None: taken from the first data.
    when_isolated : {"raise", "prior"}
    seed : int
    random_state : int or None
        None if the seed was drawn.
    n_jobs : int or None
    verbose : int
    environment : dict
        Of the process that made this object.
    base : object, PackedBase or None
        The model that training starts from.
    checkpoint_every : int
        Which states are kept.
    data : {"stored", "external"}
        Whether the rows are kept with the model, or digests of them alone.
    estimator : dict
        How a store remembers the estimator: its task, its adapter, and the wrapped model in plain values, or None where
        that takes the user's own code.
    """

    name: str
    n_shards: int
    n_slices: int
    aggregation: Aggregation
    partition: Placing = field(default_factory=HashPartition)
    schema: Schema | None = None
    when_isolated: str = "raise"
    seed: int = 0
    random_state: int | None = None
    n_jobs: int | None = None
    verbose: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    base: Any = None
    checkpoint_every: int = 1
    data: str = STORED
    estimator: dict[str, Any] = field(default_factory=dict)

    @property
    def environment_digest(self) -> str:
        """What checkpoints that are made now are marked with."""
        return environment_digest(self.environment)

    @property
    def is_external(self) -> bool:
        """Whether the rows stay where they are."""
        return self.data == EXTERNAL


@dataclass(frozen=True)
class Blueprint:
    """What a model is built to: all that its plan follows from besides the records.

    Attributes
    ----------
    config : Config
    schema : Schema
    partition : Partition
    context : Context
    """

    config: Config
    schema: Schema
    partition: Partition
    context: Context

    @classmethod
    def of(
        cls, config: Config, schema: Schema, partition: Partition, learner: Learner[Any], base: str = NO_BASE
    ) -> Blueprint:
        """The blueprint of a model over this learner, which starts from the base of this digest."""
        capabilities = learner.capabilities
        context = Context(
            fingerprint=learner.fingerprint,
            seed=config.seed,
            n_slices=config.n_slices,
            schema_digest=schema.digest,
            n_classes=None if schema.classes is None else len(schema.classes),
            resumable=capabilities.resumable,
            absent_classes=capabilities.absent_classes,
            base=base,
            checkpoint_every=config.checkpoint_every,
        )
        return cls(config, schema, partition, context)

    def records(
        self, blobs: Blobs, cells: Iterable[Cell] = (), pending: Collection[bytes] = frozenset()
    ) -> StoredRecords:
        """The records of these cells, as they are stored of this model."""
        n_shards, n_slices = self.config.n_shards, self.config.n_slices
        if self.config.is_external:
            return ExternalRecords(
                blobs, cells, self.schema, n_shards, n_slices, partition=self.partition, pending=pending
            )
        return StoredRecords(blobs, cells, self.schema, n_shards, n_slices, pending=pending)

    def settings(self) -> dict[str, Any]:
        """The blueprint as a ledger keeps it: plain JSON values, and no secret."""
        config, bands = self.config, self.partition.bands
        return {
            "format": FORMAT,
            "name": config.name,
            "n_shards": config.n_shards,
            "n_slices": config.n_slices,
            "secret_id": self.partition.secret_id,
            "bands": None if bands is None else [bands.shards, list(bands.prior.items())],
            "aggregation": config.aggregation.identity,
            "when_isolated": config.when_isolated,
            "seed": config.seed,
            "random_state": config.random_state,
            "schema": self.schema.to_json(),
            "context": asdict(self.context),
            "estimator": config.estimator,
            "data": config.data,
        }
