"""The configuration of a model, resolved: no "auto" and no None that stands for a default is left."""

from __future__ import annotations

from dataclasses import dataclass, field

from unlearnkit.aggregation import Aggregation
from unlearnkit.environment import environment_digest
from unlearnkit.partition import HashPartition
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

    @property
    def environment_digest(self) -> str:
        """What checkpoints that are made now are marked with."""
        return environment_digest(self.environment)
