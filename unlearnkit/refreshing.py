"""Refreshing: a schema without the entries that no record has any more, and the records under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unlearnkit.cells import join_cells
from unlearnkit.data import ShardRecords, content_hashes, split_shards
from unlearnkit.errors import CapabilityError, DataError
from unlearnkit.frames import Column
from unlearnkit.hashing import listed
from unlearnkit.partition import Partition
from unlearnkit.records import CLASSES, Support
from unlearnkit.schema import Schema
from unlearnkit.typing import AnyArray, Features


def supported(schema: Schema, support: Support) -> Schema:
    """The schema without categories and class labels that no record has.

    Raises
    ------
    DataError
        If only one class would be left.

    Examples
    --------
    >>> schema = Schema("array", (2,), "<f8", classes=("a", "b", "c"), class_dtype="<U1")
    >>> supported(schema, {CLASSES: frozenset({0, 2})}).classes
    ('a', 'c')
    """
    columns = tuple(_supported_column(c, support.get(i, frozenset())) for i, c in enumerate(schema.columns))
    if schema.classes is None:
        return replace(schema, columns=columns)
    known = support.get(CLASSES, frozenset())
    classes = tuple(label for code, label in enumerate(schema.classes) if code in known)
    if len(classes) < 2:  # noqa: PLR2004
        raise DataError(
            f"The records that are left have {len(classes)} of the {len(schema.classes)} classes, and a classifier "
            "needs two; nothing was changed. Consolidate without refresh_schema, or add records first."
        )
    return replace(schema, columns=columns, classes=classes)


def _supported_column(column: Column, known: frozenset[int]) -> Column:
    if column.kind != "category":
        return column
    return replace(column, categories=tuple(c for code, c in enumerate(column.categories) if code in known))


def recoded(
    shards: Sequence[ShardRecords], old: Schema, schema: Schema, partition: Partition
) -> Sequence[ShardRecords]:
    """The records of all shards under a schema with fewer entries; those without ids may move to other shards.

    Raises
    ------
    CapabilityError
        If they would move, and with bands nobody knows where to.
    """
    if schema == old:
        return shards
    again = [_recoded(records, old, schema, partition.secret) for records in shards]
    if schema.explicit_ids:
        return again
    if partition.bands is not None:
        raise CapabilityError(
            "Without ids a record's content places it, and with bands its probability too, which is not kept: the "
            "schema cannot be refreshed. Nothing was changed. Fit a new model."
        )
    everything = join_cells(again, schema)
    place = partition.place(listed(everything.content))
    moved = replace(everything, slice=place.slice, home=place.slice, rid=place.rid, u=place.u)
    return split_shards(moved, place.shard, partition.n_shards)


def _recoded(records: ShardRecords, old: Schema, schema: Schema, secret: bytes) -> ShardRecords:
    X, y = _features(records.X, schema), _codes(records.y, old, schema)
    return replace(records, X=X, y=y, content=content_hashes(X, y, schema, secret))


def _features(X: Features, schema: Schema) -> Features:
    categories = {c.name: list(c.categories) for c in schema.columns if c.kind == "category"}
    if not categories:
        return X
    X = X.copy()
    for name, kept in categories.items():
        X[name] = X[name].cat.set_categories(kept)
    return X


def _codes(y: AnyArray, old: Schema, schema: Schema) -> AnyArray:
    if old.classes is None or schema.classes is None:
        return y
    new = {label: code for code, label in enumerate(schema.classes)}
    codes: AnyArray = np.array([new.get(label, -1) for label in old.classes], dtype=np.int64)[y]
    return codes
