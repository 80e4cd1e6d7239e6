"""Cells: the records of one shard and slice as bytes, and back.

A cell is some parts: ``rows`` has what finds, orders and counts the records, so that a request reads nothing else;
``X`` or ``X.data``, ``X.indices`` and ``X.indptr`` have the features. ``cell`` says which cell the parts belong to,
for blobs that have lost their ledger. Where the rows are kept elsewhere, ``rows`` is all, with class codes sealed and
without other targets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from unlearnkit.blocks import broken, empty_features, join_features, pack_features, read_array, unpack_features
from unlearnkit.data import CONTENT_BYTES, ShardRecords
from unlearnkit.errors import StateError
from unlearnkit.hashing import chain
from unlearnkit.memory import empty
from unlearnkit.partition import ID_BYTES
from unlearnkit.parts import pack_array, pack_json, unpack_json
from unlearnkit.schema import Schema
from unlearnkit.typing import AnyArray, Features, FloatArray

ROWS, MANIFEST, SEALED = "rows", "cell", "sealed"
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
    rows = _filled(records, _row_dtype(schema))
    return {ROWS: pack_array(rows), **pack_features(records.X, schema)}


def _filled(records: ShardRecords, dtype: np.dtype[Any]) -> AnyArray:
    rows = np.zeros(len(records), dtype=dtype)
    for name in dtype.names or ():
        if name != SEALED:
            rows[name] = getattr(records, name)
    return rows


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
    return _records(rows, _no_features(rows))


# -- cells of digests -------------------------------------------------------------------------------------------------


def pack_digests(records: ShardRecords, schema: Schema, secret: bytes) -> dict[str, bytes]:
    """The parts of one cell of which neither features nor targets are kept: equal records give equal bytes.

    Class codes, which the plan needs, are kept so that only who has the secret reads them.

    Parameters
    ----------
    records : ShardRecords
        All of one slice.
    schema : Schema
    secret : bytes
        Of the partition.
    """
    if not len(records):
        return {}
    rows = _filled(records, _digest_dtype(schema))
    if schema.classes is not None:
        rows[SEALED] = records.y.astype("<u4") ^ _pad(rows, secret)
    return {ROWS: pack_array(rows)}


def unpack_digests(part: bytes, schema: Schema, secret: bytes) -> ShardRecords:
    """The records behind `pack_digests`: X has no columns, and targets that are no classes are NaN.

    Raises
    ------
    StateError
        If the part is not that of such a cell, or the secret is another one.
    """
    rows = read_array(part, _digest_dtype(schema))
    _check_places(rows)
    shape = (len(rows),) if schema.n_outputs is None else (len(rows), schema.n_outputs)
    sealed = schema.classes is not None
    y = (rows[SEALED] ^ _pad(rows, secret)).astype(np.int64) if sealed else np.full(shape, np.nan)
    if sealed:
        _check_targets(y, schema)
    _check_weights(rows, schema)
    return _records(rows, _no_features(rows), y)


def _pad(rows: AnyArray, secret: bytes) -> AnyArray:
    """One number for each record, to be added bit by bit. Cells with the same pad have the same records."""
    seed = chain("unlearnkit:targets", secret, rows["rid"].tobytes(), rows["content"].tobytes())
    return np.frombuffer(hashlib.shake_256(bytes.fromhex(seed)).digest(4 * len(rows)), dtype="<u4")


def without_features(schema: Schema) -> Schema:
    """The schema of records of which only digests, and class codes, are at hand.

    Examples
    --------
    >>> schema = Schema("csr", (2,), "<f8", classes=(0, 1), class_dtype="<i8")
    >>> without_features(schema).shape, without_features(schema).classes
    ((0,), (0, 1))
    """
    return replace(schema, container="array", shape=(0,), dtype="<f8", columns=(), feature_names=None)


def bare(records: ShardRecords) -> ShardRecords:
    """The records without their features: X has no columns."""
    return replace(records, X=_no_features(records.rid))


def _no_features(rows: AnyArray) -> AnyArray:
    return np.empty((len(rows), 0))


# -- all kinds --------------------------------------------------------------------------------------------------------


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
    known = _fields([("y", target)], weighted="weight" in names, handles="handle" in names)
    if rows.ndim != 1 or rows.dtype != known or target.base.str not in ("<f8", "<i8"):
        raise broken("the part that finds the records has other fields")
    return rows


def no_records(schema: Schema) -> ShardRecords:
    """The records of a cell, or a shard, that has none."""
    return _records(np.zeros(0, dtype=_row_dtype(schema)), empty_features(schema))


def join_cells(cells: Iterable[ShardRecords], schema: Schema, n: int | None = None) -> ShardRecords:
    """The records of a shard from those of its cells, in the order of slices; copied.

    Parameters
    ----------
    cells : iterable of ShardRecords
    schema : Schema
    n : int or None
        How many records they are. Known beforehand, one cell at a time is held besides the shard.
    """
    if n is None:
        cells = list(cells)
        n = sum(map(len, cells))
    fields = _Joined(n)
    blocks: list[Features] = []
    idle: list[AnyArray] = []
    for cell in cells:
        if len(cell):
            fields.add(cell)
            idle.append(np.arange(len(cell)) >= cell.n_active)
            if schema.container != "array":
                blocks.append(cell.X)
    if not idle:
        return no_records(schema)
    X = join_features(blocks, schema) if blocks else fields.found["X"]
    n_active = n - int(sum(rows.sum() for rows in idle))
    records = ShardRecords(**(fields.found | {"X": X}), n_active=n_active)
    if n_active == n:
        return records
    # Those of weight zero go to the end of the shard, from the ends of the cells.
    return records.take(np.argsort(np.concatenate(idle), kind="stable"), n_active)


class _Joined:
    """The arrays of cells below each other, in place from the start."""

    def __init__(self, n: int) -> None:
        self._n, self._filled = n, 0
        self.found: dict[str, Any] = {}

    def add(self, cell: ShardRecords) -> None:
        stop = self._filled + len(cell)
        for name in ("X", "y", "weight", "slice", "home", "rid", "content", "u", "handle"):
            part = getattr(cell, name)
            if isinstance(part, np.ndarray):
                if name not in self.found:
                    self.found[name] = empty((self._n, *part.shape[1:]), part.dtype.newbyteorder("="))
                self.found[name][self._filled : stop] = part
            else:
                self.found[name] = None
        self._filled = stop


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
    return _fields([("y", target)], weighted=schema.weighted, handles=not schema.explicit_ids)


def _digest_dtype(schema: Schema) -> np.dtype[Any]:
    sealed = [] if schema.classes is None else [(SEALED, "<u4")]
    return _fields(sealed, weighted=schema.weighted, handles=not schema.explicit_ids)


def _fields(target: list[tuple[Any, ...]], *, weighted: bool, handles: bool) -> np.dtype[Any]:
    """Without padding: its bytes would be whatever the memory held before."""
    fields: list[tuple[Any, ...]] = [("rid", "u1", (ID_BYTES,)), ("content", "u1", (CONTENT_BYTES,))]
    fields += [("u", "<f8"), *target]
    fields += [("weight", "<f8")] if weighted else []
    fields += [("handle", "u1", (ID_BYTES,))] if handles else []
    return np.dtype([*fields, ("slice", "<i8"), ("home", "<i8")])


def _checked_rows(part: bytes, schema: Schema) -> AnyArray:
    rows = read_array(part, _row_dtype(schema))
    _check_places(rows)
    _check_targets(rows["y"], schema)
    _check_weights(rows, schema)
    return rows


def _check_places(rows: AnyArray) -> None:
    _check(rows.ndim == 1 and len(rows), "the part that finds the records is not a list of rows")
    place, home, u = rows["slice"], rows["home"], rows["u"]
    _check(place[0] >= 0 and (place == place[0]).all(), "its rows are of several slices")
    _check((home >= 0).all(), "a record belongs to no slice")
    _check(((u >= 0) & (u < 1)).all(), "a number that should be in [0, 1) is not")


def _check_targets(y: AnyArray, schema: Schema) -> None:
    if schema.classes is None:
        _check(np.isfinite(y).all(), "a target is not finite")
    else:
        _check(((y >= 0) & (y < len(schema.classes))).all(), "a class is not in the schema")


def _check_weights(rows: AnyArray, schema: Schema) -> None:
    if schema.weighted:
        weight = rows["weight"]
        _check((np.isfinite(weight) & (weight >= 0)).all(), "a weight is negative or not finite")
        _check((weight[: _n_active(weight)] > 0).all(), "a record of weight zero is not at the end")


def _check(holds: Any, otherwise: str) -> None:
    if not holds:
        raise broken(otherwise)


def _n_active(weight: FloatArray) -> int:
    return int((weight > 0).sum())


def _records(rows: AnyArray, X: Features, y: AnyArray | None = None) -> ShardRecords:
    names = rows.dtype.names or ()
    # Copies in the byte order of the processor, which the stored rows need not be in.
    own = {name: np.array(rows[name], dtype=rows[name].dtype.newbyteorder("="), order="C") for name in names}
    weight = own.get("weight")
    return ShardRecords(
        X=X,
        y=own["y"] if y is None else y,
        weight=weight,
        slice=own["slice"],
        home=own["home"],
        rid=own["rid"],
        content=own["content"],
        u=own["u"],
        handle=own.get("handle"),
        n_active=len(rows) if weight is None else _n_active(weight),
    )
