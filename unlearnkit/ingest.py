"""Ingest: from what a user passes to the records of each shard. All that can be wrong with data is found here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from unlearnkit.bands import checked_probability
from unlearnkit.data import ShardRecords, handles_of
from unlearnkit.errors import CapabilityError, DataError, ParameterError, SchemaError
from unlearnkit.frames import refuse_unseen
from unlearnkit.given import GivenRows
from unlearnkit.ids import INT, IdColumn, checked_ids
from unlearnkit.learner import Capabilities
from unlearnkit.partition import Partition
from unlearnkit.schema import Schema, infer_schema
from unlearnkit.typing import AnyArray, FloatArray
from unlearnkit.validation import checked_labels, is_frame


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


@dataclass(frozen=True)
class Ingested:
    """The records of a model, and what they are held to.

    Attributes
    ----------
    schema : Schema
    partition : Partition
    given : GivenRows
    """

    schema: Schema
    partition: Partition
    given: GivenRows

    @cached_property
    def records(self) -> tuple[ShardRecords, ...]:
        """A copy of all rows: the records of each shard in canonical order."""
        return tuple(self.given)


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
    lean: bool = False,
) -> Ingested:
    """Validate, take or check the schema, and make ready to place and sort.

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
    lean : bool
        As for `GivenRows`.

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
    names = _names(ids, X, n, 0 if arrival is None else arrival.position)
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
            id_type=names.kind,
            explicit_ids=ids is not None,
            classes=classes,
        )
    else:
        _check_against(schema, X, weight, n, names.kind, explicit=ids is not None)
        if arrival is not None and n and names.kind != schema.id_type:
            raise SchemaError(
                f"The rows are named by labels or positions of type {names.kind}, those of the model by "
                f"{schema.id_type}: no request could name the new ones. Nothing was changed. Give X an index of the "
                "same kind."
            )
    features, targets = schema.features(X, capabilities, name), _targets(schema, y, n)
    if schema.weighted and weight is None:
        weight = np.ones(n)
    place = None if arrival is None else arrival.place
    given = GivenRows(schema, partition, features, targets, weight, names, probability, place, lean)
    given.sort()
    return Ingested(schema, replace(partition, id_type=schema.id_type if schema.explicit_ids else None), given)


def _targets(schema: Schema, y: Any, n: int) -> AnyArray:
    """Class labels that the schema knows, or the targets of a regression."""
    if schema.classes is None:
        return schema.targets(y, n)
    labels = checked_labels(y, n)
    schema.codes(np.unique(labels))
    return labels


def _with_rows(X: Any) -> Any:
    """X, as an array where only numpy knows how to read it."""
    if not hasattr(X, "shape") and not hasattr(X, "__len__"):
        X = np.asarray(X)
    if getattr(X, "shape", (0,)) == ():
        raise DataError("Expected 2D array, got scalar array instead; nothing was changed.")
    return X


def _names(ids: Any, X: Any, n: int, first: int) -> IdColumn:
    """The ids, or what addresses the records that have none."""
    if ids is not None:
        return checked_ids(ids, n)
    handles, positions = handles_of(X, n)
    return IdColumn(range(first, first + n), INT) if positions else checked_ids(handles, n)


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
