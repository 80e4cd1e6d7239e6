"""Ingest: from what a user passes to the records of each shard. All that can be wrong with data is found here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unlearnkit.bands import checked_probability
from unlearnkit.data import ShardRecords, content_hashes, handles_of, split_shards
from unlearnkit.errors import CapabilityError, DataError, ParameterError, SchemaError
from unlearnkit.frames import refuse_unseen
from unlearnkit.ids import INT, encode_as, encode_ids
from unlearnkit.learner import Capabilities
from unlearnkit.partition import Partition
from unlearnkit.schema import Schema, infer_schema
from unlearnkit.typing import FloatArray
from unlearnkit.validation import is_frame


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where records go that arrive after the first fit.

    Attributes
    ----------
    place : int
        The slice.
    position : int
        What the first of them is addressed by, where records are addressed by position.
    """

    place: int
    position: int = 0


@dataclass(frozen=True, slots=True)
class Ingested:
    """The records of a model, and what they are held to."""

    schema: Schema
    partition: Partition
    records: tuple[ShardRecords, ...]


def ingest(
    X: Any,
    y: Any,
    sample_weight: Any,
    ids: Any,
    *,
    schema: Schema | None,
    partition: Partition,
    capabilities: Capabilities,
    name: str,
    probability: Any = None,
    classes: Any = None,
    arrival: Arrival | None = None,
) -> Ingested:
    """Validate, take or check the schema, place and sort.

    Parameters
    ----------
    X, y, sample_weight, ids
        As given to ``fit``.
    schema : Schema or None
        None: take it from these data.
    partition : Partition
    capabilities : Capabilities
        Of the learner.
    name : str
        What messages call the model.
    probability : array-like of shape (n,), float or None
        Of erasure, for a partition with bands.
    classes : array-like or None
        All class labels there will be, for a schema that is yet to be taken.
    arrival : Arrival or None
        Where the records go that arrive after the first fit; None: where the partition places them.

    Raises
    ------
    DataError
        If the data cannot be used.
    SchemaError
        If they do not fit the schema.
    CapabilityError
        If the model takes no sample weights.
    """
    X = _with_rows(X)
    n = int(X.shape[0]) if hasattr(X, "shape") else len(X)
    weight = _weights(sample_weight, n, capabilities, name)
    encoded, id_type = _ids(ids, X, n, 0 if arrival is None else arrival.position)
    probability = _probability(probability, n, partition)
    if schema is None:
        if weight is not None and not weight.any():
            raise DataError("All sample weights are zero: no record trains anything. Nothing was changed.")
        schema = infer_schema(
            X,
            y,
            capabilities,
            name,
            weighted=weight is not None,
            id_type=id_type,
            explicit_ids=ids is not None,
            classes=classes,
        )
    else:
        _check_against(schema, X, weight, n, id_type, explicit=ids is not None)
        if arrival is not None and n and id_type != schema.id_type:
            raise SchemaError(
                f"The rows are named by labels or positions of type {id_type}, those of the model by {schema.id_type}: "
                "no request could name the new ones. Nothing was changed. Give X an index of the same kind."
            )
    features, targets = schema.features(X, capabilities, name), schema.targets(y, n)
    content = content_hashes(features, targets, schema, partition.secret)
    # Without ids the content places a record, so that its position plays no part.
    items = encoded if schema.explicit_ids else [row.tobytes() for row in content]
    placement = partition.place(items, probability)
    if schema.weighted and weight is None:
        weight = np.ones(n)
    everything = ShardRecords(
        X=features,
        y=targets,
        weight=weight,
        slice=placement.slice if arrival is None else np.full(n, arrival.place),
        home=placement.slice,
        rid=placement.rid,
        content=content,
        u=placement.u,
        handle=None if schema.explicit_ids else partition.handles(encoded),
        n_active=0,
    )
    return Ingested(
        schema,
        replace(partition, id_type=schema.id_type if schema.explicit_ids else None),
        split_shards(everything, placement.shard, partition.n_shards),
    )


def _with_rows(X: Any) -> Any:
    """X, as an array where only numpy knows how to read it."""
    if not hasattr(X, "shape") and not hasattr(X, "__len__"):
        X = np.asarray(X)
    if getattr(X, "shape", (0,)) == ():
        raise DataError("Expected 2D array, got scalar array instead; nothing was changed.")
    return X


def _ids(ids: Any, X: Any, n: int, first: int) -> tuple[list[bytes], str]:
    if ids is not None:
        return encode_ids(ids, n)
    handles, positions = handles_of(X, n)
    if positions:
        return encode_as([first + position for position in handles], INT), INT
    return encode_ids(list(handles), n)


def _probability(given: Any, n: int, partition: Partition) -> FloatArray | None:
    if given is None:
        return None
    if partition.bands is None:
        raise ParameterError(
            "erasure_probability is for models with partition=BandedPartition(...); nothing was changed. Leave it out."
        )
    return checked_probability(given, n)


def _weights(sample_weight: Any, n: int, capabilities: Capabilities, name: str) -> FloatArray | None:
    if sample_weight is None:
        return None
    if not capabilities.sample_weight:
        raise CapabilityError(f"{name} does not take sample_weight; nothing was changed. Leave it out.")
    try:
        weight = np.asarray(sample_weight, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"sample_weight does not convert to numbers: {error}; nothing was changed.") from error
    weight = np.full(n, weight) if weight.ndim == 0 else weight
    if weight.ndim != 1:
        raise DataError("Sample weights must be 1D array or scalar; nothing was changed.")
    if len(weight) != n:
        raise DataError(f"sample_weight.shape == {weight.shape}, expected {(n,)}! Nothing was changed.")
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise DataError("sample_weight must be finite and not negative; nothing was changed.")
    return weight


def _check_against(schema: Schema, X: Any, weight: Any, n: int, id_type: str, *, explicit: bool) -> None:
    if explicit != schema.explicit_ids:
        how = "with" if schema.explicit_ids else "without"
        raise SchemaError(f"The schema is of a model fitted {how} ids; fit it {how} them. Nothing was changed.")
    if n and explicit and id_type != schema.id_type:
        raise SchemaError(f"ids are {id_type}, the schema says {schema.id_type}; nothing was changed.")
    if weight is not None and not schema.weighted:
        raise SchemaError("The schema is of a model without sample weights; nothing was changed. Leave them out.")
    if schema.container == "frame" and is_frame(X):
        refuse_unseen(X, schema.columns)
