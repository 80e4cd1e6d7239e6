"""Features as bytes: npy for arrays and sparse rows, an Arrow stream for frames. Nothing in them can execute.

What is read has to be what the schema says, and is measured against the bytes at hand before anything is made of it:
no number in a header decides how much memory is taken.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unlearnkit.errors import StateError, StoreError
from unlearnkit.frames import Column
from unlearnkit.parts import BrokenArrayError, pack_array, view_array
from unlearnkit.schema import Schema
from unlearnkit.typing import AnyArray, Features

_INT32_MAX = np.iinfo(np.int32).max
_BATCH_MESSAGES = ["schema", "record batch"]


def broken(what: str) -> StateError:
    """The error for stored records that are not what they should be."""
    return StateError(
        f"The stored records of a cell are damaged: {what}. Nothing was changed. Bring the blob back from a backup, or "
        "rebuild the store from the original data."
    )


def pack_features(X: Features, schema: Schema) -> dict[str, bytes]:
    """The parts that hold the features of a cell. Equal features give equal bytes."""
    if schema.container == "frame":
        return {"X": _pack_frame(X, schema.columns)}
    if X.dtype != np.dtype(schema.dtype):
        raise StateError(f"Features of dtype {X.dtype} do not fit the schema, {schema.dtype}; nothing was stored.")
    if schema.container == "array":
        return {"X": pack_array(X)}
    index = _index_dtype(X.nnz, schema)
    return {
        "X.data": pack_array(X.data),
        "X.indices": pack_array(X.indices.astype(index, copy=False)),
        "X.indptr": pack_array(X.indptr.astype(index, copy=False)),
    }


def unpack_features(parts: Mapping[str, bytes], schema: Schema, n: int) -> Features:
    """The features of a cell of n rows, as views of the bytes where that can be.

    Raises
    ------
    StateError
        If the parts are not what `pack_features` makes of n rows that fit the schema.
    """
    names = {"X.data", "X.indices", "X.indptr"} if schema.container == "csr" else {"X"}
    if set(parts) != names:
        raise broken(f"the parts of the features are {sorted(parts)}, not {sorted(names)}")
    if schema.container == "frame":
        return _unpack_frame(parts["X"], schema.columns, n)
    dtype = np.dtype(schema.dtype)
    if schema.container == "csr":
        return _unpack_csr(parts, dtype, schema, n)
    X = read_array(parts["X"], dtype)
    if X.shape != (n, *schema.shape):
        raise broken(f"the features have the shape {X.shape}, not {(n, *schema.shape)}")
    return X


def empty_features(schema: Schema) -> Features:
    """Features of no rows."""
    if schema.container == "array":
        return np.empty((0, *schema.shape), dtype=schema.dtype)
    if schema.container == "csr":
        return _sparse().csr_matrix(np.empty((0, schema.n_features), dtype=schema.dtype))
    return _frame([_empty_column(column) for column in schema.columns], schema.columns, 0)


def join_features(blocks: Sequence[Features], schema: Schema) -> Features:
    """The features of several cells, at least one, below each other: a copy."""
    if schema.container == "array":
        return np.concatenate(blocks)
    if schema.container == "csr":
        # The copy is for one block: scipy hands that on as it is.
        return _sparse().vstack(blocks, format="csr") if len(blocks) > 1 else blocks[0].copy()
    import pandas as pd

    return pd.concat(blocks, ignore_index=True)


def read_array(part: bytes, dtype: np.dtype[Any] | None = None) -> AnyArray:
    """A view of the bytes of an npy file, which has to be as long as its header says, and of this dtype if given.

    Raises
    ------
    StateError
        If it is not.
    """
    try:
        return view_array(part, dtype)
    except BrokenArrayError as error:
        raise broken(str(error)) from error


def _index_dtype(nnz: int, schema: Schema) -> np.dtype[Any]:
    """That of sparse indices: 32 bits where they fit."""
    return np.dtype(np.int32 if max(nnz, schema.n_features) <= _INT32_MAX else np.int64)


def _unpack_csr(parts: Mapping[str, bytes], dtype: np.dtype[Any], schema: Schema, n: int) -> Any:
    data = read_array(parts["X.data"], dtype)
    index = _index_dtype(data.size, schema)
    indices, indptr = read_array(parts["X.indices"], index), read_array(parts["X.indptr"], index)
    if data.ndim != 1 or indices.shape != data.shape or indptr.shape != (n + 1,):
        raise broken("the lengths of the arrays of sparse rows do not fit together")
    if indptr[0] != 0 or indptr[-1] != len(data) or (np.diff(indptr) < 0).any():
        raise broken("the bounds of sparse rows are not in order")
    if len(indices) and not (indices.min() >= 0 and indices.max() < schema.n_features):
        raise broken("a sparse row has a value in a column that is not in the schema")
    falls = np.flatnonzero(np.diff(indices) <= 0) + 1
    if not np.isin(falls, indptr).all():
        raise broken("the columns of a sparse row are not in order")
    return _sparse().csr_matrix((data, indices, indptr), shape=(n, schema.n_features))


def _sparse() -> Any:
    # A process that only records a request needs none of it.
    import scipy.sparse as sp

    return sp


def _arrow() -> Any:
    try:
        importlib.import_module("pyarrow.ipc")
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise StoreError(
            "Frames are stored as Arrow streams, and pyarrow is not installed; nothing was changed. "
            "pip install 'unlearnkit[store]'"
        ) from error


def _stored_dtype(column: Column) -> np.dtype[Any]:
    """The numbers that a column is stored as: Arrow has bits for truth values, and dates of its own."""
    if column.kind == "category":
        return np.dtype(np.int32)
    dtype = np.dtype(column.dtype)
    return np.dtype({"b": "u1", "m": "i8", "M": "i8"}.get(dtype.kind, dtype))


def _arrow_schema(arrow: Any, columns: Sequence[Column]) -> Any:
    """Columns by their numbers: names need not be strings, and stand in the schema."""
    types = [arrow.large_binary() if c.kind == "text" else arrow.from_numpy_dtype(_stored_dtype(c)) for c in columns]
    return arrow.schema([arrow.field(str(number), kind) for number, kind in enumerate(types)])


def _pack_frame(X: Any, columns: Sequence[Column]) -> bytes:
    arrow = _arrow()
    schema = _arrow_schema(arrow, columns)
    # From buffers of our own: equal values give equal bytes, and no byte is left uninitialised.
    packed = [
        arrow.Array.from_buffers(field.type, len(X), _buffers(arrow, X.iloc[:, number], column))
        for number, (field, column) in enumerate(zip(schema, columns, strict=True))
    ]
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, schema, options=arrow.ipc.IpcWriteOptions(compression=None)) as writer:
        writer.write_batch(arrow.RecordBatch.from_arrays(packed, schema=schema))
    packed_stream: bytes = sink.getvalue().to_pybytes()
    return packed_stream


def _buffers(arrow: Any, values: Any, column: Column) -> list[Any]:
    if column.kind == "text":
        return _text_buffers(arrow, values.tolist())
    if column.kind == "category":
        return [None, arrow.py_buffer(values.cat.codes.to_numpy().astype(np.int32))]
    numbers = values.to_numpy()
    if numbers.dtype != np.dtype(column.dtype):
        raise StateError(f"A {numbers.dtype} column does not fit the schema, {column.dtype}; nothing was stored.")
    return [None, arrow.py_buffer(np.ascontiguousarray(numbers).view(_stored_dtype(column)))]


def _text_buffers(arrow: Any, values: list[Any]) -> list[Any]:
    if not all(value is None or isinstance(value, str) for value in values):
        raise StateError("A column of texts holds values that are not strings; nothing was stored. Convert them first.")
    # Bytes rather than Arrow's strings: a lone surrogate is a text of Python, and no UTF-8.
    texts = [b"" if value is None else value.encode("utf-8", "surrogatepass") for value in values]
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    present = np.array([value is not None for value in values], dtype=bool)
    known = None if present.all() else arrow.py_buffer(np.packbits(present, bitorder="little"))
    return [known, arrow.py_buffer(offsets), arrow.py_buffer(b"".join(texts))]


def _unpack_frame(part: bytes, columns: Sequence[Column], n: int) -> Any:
    arrow = _arrow()
    try:
        batch = _read_batch(arrow, part, _arrow_schema(arrow, columns), n)
        values = [_column(found, column) for found, column in zip(batch.columns, columns, strict=True)]
    except StateError:
        raise
    except Exception as error:
        # All of it: what Arrow raises on broken bytes is no one type.
        raise broken("the features are not the Arrow stream that is written") from error
    return _frame(values, columns, n)


def _read_batch(arrow: Any, part: bytes, schema: Any, n: int) -> Any:
    """The one batch, of n rows, of a stream of this schema, and nothing that would grow in memory."""
    source = arrow.BufferReader(part)
    messages = list(arrow.ipc.MessageReader.open_stream(source))
    if [message.type for message in messages] != _BATCH_MESSAGES or source.tell() != len(part):
        raise broken("the Arrow stream has other messages than a schema and a batch")
    found = arrow.ipc.read_schema(messages[0])
    if not found.equals(schema, check_metadata=True) or found.pandas_metadata is not None:
        raise broken("the columns of the Arrow stream do not fit the schema")
    if _is_compressed(messages[1].metadata.to_pybytes()):
        raise broken("the Arrow stream is compressed, which is never written")
    batch = arrow.ipc.read_record_batch(messages[1], schema)
    if batch.num_rows != n:
        raise broken(f"the features have {batch.num_rows} rows, not {n}")
    batch.validate(full=True)
    return batch


def _is_compressed(message: bytes) -> bool:
    """Whether the metadata of a record batch (a flatbuffer that Arrow has checked) name a codec.

    Arrow takes the size of what it unpacks from the bytes themselves, and has no limit to set.
    """
    header = _field(message, _number(message, 0, 4), 2)
    return bool(_field(message, header + _number(message, header, 4), 3))


def _field(message: bytes, table: int, number: int) -> int:
    """Where a field of a table begins; 0 if it is absent."""
    layout = table - int.from_bytes(message[table : table + 4], "little", signed=True)
    entry = 4 + 2 * number
    offset = _number(message, layout + entry, 2) if entry < _number(message, layout, 2) else 0
    return table + offset if offset else 0


def _number(message: bytes, start: int, size: int) -> int:
    return int.from_bytes(message[start : start + size], "little")


def _column(found: Any, column: Column) -> Any:
    if column.kind == "text":
        return [None if value is None else value.decode("utf-8", "surrogatepass") for value in found.to_pylist()]
    if found.null_count:
        raise broken("a number is missing")
    values = np.frombuffer(found.buffers()[1] or b"", dtype=_stored_dtype(column))[: len(found)]
    if column.kind == "category":
        if len(values) and not (values.min() >= -1 and values.max() < len(column.categories)):
            raise broken("a category is not in the schema")
        return values
    if column.dtype == np.dtype(bool).str and (values > 1).any():
        raise broken("a truth value is neither 0 nor 1")
    return values.view(column.dtype)


def _empty_column(column: Column) -> Any:
    return [] if column.kind == "text" else np.empty(0, dtype=column.dtype or np.int32)


def _frame(values: list[Any], columns: Sequence[Column], n: int) -> Any:
    """The frame of these values, with the dtypes that `frames.typed` gives."""
    import pandas as pd

    series = {c.name: _series(pd, found, c) for found, c in zip(values, columns, strict=True)}
    return pd.DataFrame(series, index=pd.RangeIndex(n))


def _series(pd: Any, values: Any, column: Column) -> Any:
    if column.kind == "category":
        dtype = pd.CategoricalDtype(list(column.categories), ordered=column.ordered)
        return pd.Series(pd.Categorical.from_codes(values, dtype=dtype))
    return pd.Series(values, dtype=object if column.kind == "text" else column.dtype)
