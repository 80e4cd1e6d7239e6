"""The configuration of a model, resolved: no "auto" and no None that stands for a default is left."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from unlearnkit.aggregation import Aggregation
from unlearnkit.environment import environment_digest
from unlearnkit.learner import Learner
from unlearnkit.partition import HashPartition, Partition
from unlearnkit.plan import FORMAT, Context
from unlearnkit.schema import Schema


@dataclass(frozen=True)
class Config:
    """What a model is built with, fixed for its life.

    Attributes
    ----------
    name : str
        What messages call the wrapped model.
    n_shards, n_slices : int
    aggregation : Aggregation
    partition : HashPartition
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
    estimator : dict
        How a store remembers the estimator: its task, its adapter, and the wrapped model in plain values, or None where
        that takes the user's own code.
    """

    name: str
    n_shards: int
    n_slices: int
    aggregation: Aggregation
    partition: HashPartition = field(default_factory=HashPartition)
    schema: Schema | None = None
    when_isolated: str = "raise"
    seed: int = 0
    random_state: int | None = None
    n_jobs: int | None = None
    verbose: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    estimator: dict[str, Any] = field(default_factory=dict)

    @property
    def environment_digest(self) -> str:
        """What checkpoints that are made now are marked with."""
        return environment_digest(self.environment)


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
    def of(cls, config: Config, schema: Schema, partition: Partition, learner: Learner[Any]) -> Blueprint:
        """The blueprint of a model over this learner."""
        capabilities = learner.capabilities
        context = Context(
            fingerprint=learner.fingerprint,
            seed=config.seed,
            n_slices=config.n_slices,
            schema_digest=schema.digest,
            n_classes=None if schema.classes is None else len(schema.classes),
            resumable=capabilities.resumable,
            absent_classes=capabilities.absent_classes,
        )
        return cls(config, schema, partition, context)

    def settings(self) -> dict[str, Any]:
        """The blueprint as a ledger keeps it: plain JSON values, and no secret."""
        config = self.config
        return {
            "format": FORMAT,
            "name": config.name,
            "n_shards": config.n_shards,
            "n_slices": config.n_slices,
            "secret_id": self.partition.secret_id,
            "aggregation": config.aggregation.identity,
            "when_isolated": config.when_isolated,
            "seed": config.seed,
            "random_state": config.random_state,
            "schema": self.schema.to_json(),
            "context": asdict(self.context),
            "estimator": config.estimator,
        }
