"""Cells: the records of one shard and slice as bytes, and back.

A cell is some parts: ``rows`` has what finds, orders and counts the records, so that a request reads nothing else;
``X`` or ``X.data``, ``X.indices`` and ``X.indptr`` have the features. ``cell`` says which cell the parts belong to,
for blobs that have lost their ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unlearnkit.blocks import broken, empty_features, join_features, pack_features, read_array, unpack_features
from unlearnkit.data import CONTENT_BYTES, ShardRecords
from unlearnkit.errors import StateError
from unlearnkit.partition import ID_BYTES
from unlearnkit.parts import pack_array, pack_json, unpack_json
from unlearnkit.schema import Schema
from unlearnkit.typing import AnyArray, Features, FloatArray

ROWS, MANIFEST = "rows", "cell"
FORMAT = 1
_MAX_MANIFEST = 1 << 16
_MANIFEST_FIELDS = {"format", "shard", "slice", "parts"}


def pack_cell(records: ShardRecords, schema: Schema) -> dict[str, bytes]:
    """The parts of one cell: equal records give equal bytes, and no records no parts.

    Parameters
    ----------
    records : ShardRecords
        All of one slice.
    schema : Schema

    Raises
    ------
    StateError
        If they do not fit the schema.
    """
    if not len(records):
        return {}
    rows = np.zeros(len(records), dtype=_row_dtype(schema))
    for name in rows.dtype.names or ():
        rows[name] = getattr(records, name)
    return {ROWS: pack_array(rows), **pack_features(records.X, schema)}


def unpack_cell(parts: Mapping[str, bytes], schema: Schema) -> ShardRecords:
    """The records behind `pack_cell`; the features may be a view of the bytes that cannot be written to.

    Raises
    ------
    StateError
        If the parts are not those of a cell of this schema. Nothing in them was executed.
    """
    features = {name: part for name, part in parts.items() if name not in (ROWS, MANIFEST)}
    if not features and ROWS not in parts:
        return no_records(schema)
    if ROWS not in parts:
        raise broken("the part that finds the records is missing")
    rows = _checked_rows(parts[ROWS], schema)
    return _records(rows, unpack_features(features, schema, len(rows)))


def unpack_rows(part: bytes, schema: Schema) -> ShardRecords:
    """The records of a cell but for their features: X has no columns.

    Raises
    ------
    StateError
        If the part is not that of a cell of this schema.
    """
    rows = _checked_rows(part, schema)
    return _records(rows, np.empty((len(rows), 0)))


def rows_only(part: bytes) -> AnyArray:
    """The ``rows`` part as a structured array (n,), for who has no schema.

    Raises
    ------
    StateError
        If the part is not of a cell of any schema.

    Examples
    --------
    >>> schema = Schema("array", (2,), "<f8", explicit_ids=True)
    >>> rows_only(pack_array(np.zeros(3, dtype=_row_dtype(schema)))).dtype.names
    ('rid', 'content', 'u', 'y', 'slice', 'home')
    """
    rows = read_array(part)
    names = rows.dtype.names or ()
    _check("y" in names, "the part that finds the records has no targets")
    target = rows.dtype["y"]
    known = _fields(target, weighted="weight" in names, handles="handle" in names)
    if rows.ndim != 1 or rows.dtype != known or target.base.str not in ("<f8", "<i8"):
        raise broken("the part that finds the records has other fields")
    return rows


def no_records(schema: Schema) -> ShardRecords:
    """The records of a cell, or a shard, that has none."""
    return _records(np.zeros(0, dtype=_row_dtype(schema)), empty_features(schema))


def join_cells(cells: Sequence[ShardRecords], schema: Schema) -> ShardRecords:
    """The records of a shard from those of its cells, in the order of slices; copied."""
    cells = [cell for cell in cells if len(cell)]
    if not cells:
        return no_records(schema)
    fields = ("y", "weight", "slice", "home", "rid", "content", "u", "handle")
    joined = {name: _joined([getattr(cell, name) for cell in cells]) for name in fields}
    n_active = sum(cell.n_active for cell in cells)
    records = ShardRecords(X=join_features([cell.X for cell in cells], schema), n_active=n_active, **joined)
    if n_active == len(records):
        return records
    # Those of weight zero go to the end of the shard, from the ends of the cells.
    idle = np.concatenate([np.arange(len(cell)) >= cell.n_active for cell in cells])
    return records.take(np.argsort(idle, kind="stable"), n_active)


def _joined(arrays: Sequence[Any]) -> Any:
    return None if arrays[0] is None else np.concatenate(arrays)


def pack_manifest(shard: int, slice: int, parts: Mapping[str, str]) -> bytes:  # noqa: A002 - the word of the field
    """What says which cell some blobs are the parts of.

    Examples
    --------
    >>> read_manifest(pack_manifest(2, 0, {"rows": "ab" * 32}))[:2]
    (2, 0)
    """
    return pack_json({"format": FORMAT, "shard": shard, "slice": slice, "parts": dict(parts)})


def read_manifest(data: bytes) -> tuple[int, int, dict[str, str]] | None:
    """Shard, slice, and blob names by part names; None if the blob is something else."""
    if len(data) > _MAX_MANIFEST or not data.startswith(b"{"):
        return None
    try:
        found = unpack_json(data)
    except StateError:
        return None
    if not isinstance(found, dict) or set(found) != _MANIFEST_FIELDS or found["format"] != FORMAT:
        return None
    shard, place, parts = found["shard"], found["slice"], found["parts"]
    if not (type(shard) is type(place) is int and shard >= 0 and place >= 0 and isinstance(parts, dict)):
        return None
    return (shard, place, parts) if all(_is_blob_name(name) for name in parts.values()) else None


def _is_blob_name(name: Any) -> bool:
    return isinstance(name, str) and len(name) == 64 and set(name) <= set("0123456789abcdef")  # noqa: PLR2004


def _row_dtype(schema: Schema) -> np.dtype[Any]:
    if schema.classes is not None:
        target: Any = np.dtype("<i8")
    else:
        target = np.dtype("<f8") if schema.n_outputs is None else np.dtype(("<f8", (schema.n_outputs,)))
    return _fields(target, weighted=schema.weighted, handles=not schema.explicit_ids)


def _fields(target: np.dtype[Any], *, weighted: bool, handles: bool) -> np.dtype[Any]:
    """Without padding: its bytes would be whatever the memory held before."""
    fields: list[tuple[Any, ...]] = [("rid", "u1", (ID_BYTES,)), ("content", "u1", (CONTENT_BYTES,))]
    fields += [("u", "<f8"), ("y", target)]
    fields += [("weight", "<f8")] if weighted else []
    fields += [("handle", "u1", (ID_BYTES,))] if handles else []
    return np.dtype([*fields, ("slice", "<i8"), ("home", "<i8")])


def _checked_rows(part: bytes, schema: Schema) -> AnyArray:
    rows = read_array(part, _row_dtype(schema))
    _check(rows.ndim == 1 and len(rows), "the part that finds the records is not a list of rows")
    place, home, u = rows["slice"], rows["home"], rows["u"]
    _check(place[0] >= 0 and (place == place[0]).all(), "its rows are of several slices")
    _check((home >= 0).all(), "a record belongs to no slice")
    _check(((u >= 0) & (u < 1)).all(), "a number that should be in [0, 1) is not")
    if schema.classes is None:
        _check(np.isfinite(rows["y"]).all(), "a target is not finite")
    else:
        _check(((rows["y"] >= 0) & (rows["y"] < len(schema.classes))).all(), "a class is not in the schema")
    if schema.weighted:
        weight = rows["weight"]
        _check((np.isfinite(weight) & (weight >= 0)).all(), "a weight is negative or not finite")
        _check((weight[: _n_active(weight)] > 0).all(), "a record of weight zero is not at the end")
    return rows


def _check(holds: Any, otherwise: str) -> None:
    if not holds:
        raise broken(otherwise)


def _n_active(weight: FloatArray) -> int:
    return int((weight > 0).sum())


def _records(rows: AnyArray, X: Features) -> ShardRecords:
    names = rows.dtype.names or ()
    # Copies in the byte order of the processor, which the stored rows need not be in.
    own = {name: np.array(rows[name], dtype=rows[name].dtype.newbyteorder("="), order="C") for name in names}
    weight = own.get("weight")
    return ShardRecords(
        X=X,
        y=own["y"],
        weight=weight,
        slice=own["slice"],
        home=own["home"],
        rid=own["rid"],
        content=own["content"],
        u=own["u"],
        handle=own.get("handle"),
        n_active=len(rows) if weight is None else _n_active(weight),
    )
