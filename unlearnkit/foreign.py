"""Columns of polars and Arrow as arrays, with what pandas has to know besides.

A library is recognised by the module of a type, and so never imported for an object that is not its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from unlearnkit.typing import AnyArray


class Values(NamedTuple):
    """A column of another library.

    Attributes
    ----------
    kind : {"plain", "texts", "category", "nullable", "other"}
        Nullable are whole numbers and truth values of which some are missing; other is what can be no feature.
    values : ndarray of shape (n,)
        Objects for texts, categories and other, None where missing.
    missing : ndarray of shape (n,) or None
        Of a nullable column, whose values say nothing there.
    vocabulary : list or None
        Of an ordered category; None where the library keeps strings as codes in no order of their own.
    """

    kind: Literal["plain", "texts", "category", "nullable", "other"]
    values: AnyArray
    missing: Any = None
    vocabulary: list[Any] | None = None


def is_of(value: Any, library: str, *names: str) -> bool:
    """Whether a value is of one of these types of a library, which is not imported."""
    kinds = type(value).__mro__
    return any(kind.__name__ in names and kind.__module__.partition(".")[0] == library for kind in kinds)


def is_column(value: Any) -> bool:
    """Whether it is one column of polars or Arrow."""
    return is_of(value, "polars", "Series") or is_of(value, "pyarrow", "Array", "ChunkedArray")


def read(column: Any) -> Values:
    """The values of one column of polars or Arrow."""
    reader = _reader_for_polars(column) if is_of(column, "polars", "Series") else _reader_for_arrow(column)
    return reader(column)


def type_of(column: Any) -> str:
    """What its library calls the type of a column."""
    return str(column.dtype if is_of(column, "polars", "Series") else column.type)


def _objects(values: list[Any]) -> AnyArray:
    return np.fromiter(values, dtype=object, count=len(values))


def _maybe_nullable(column: Any, fill: Callable[[], AnyArray], missing: AnyArray) -> Values:
    # Not by way of floats: they round large whole numbers.
    return Values("nullable", fill(), missing) if missing.any() else _plain(column)


def _plain(column: Any) -> Values:
    return Values("plain", _numpy(column))


def _texts(column: Any) -> Values:
    return Values("texts", _numpy(column))


def _numpy(column: Any) -> AnyArray:
    polars = is_of(column, "polars", "Series")
    values: AnyArray = column.to_numpy() if polars else column.to_numpy(zero_copy_only=False)
    return values


# -- polars ----------------------------------------------------------------------------------------------------------


def _reader_for_polars(series: Any) -> Callable[[Any], Values]:
    zoned = getattr(series.dtype, "time_zone", None) is not None
    return _POLARS.get(type(series.dtype).__name__, _polars_other) if not zoned else _polars_other


def _polars_whole(series: Any) -> Values:
    return _maybe_nullable(series, lambda: _numpy(series.fill_null(0)), _numpy(series.is_null()))


def _polars_truth(series: Any) -> Values:
    return _maybe_nullable(series, lambda: _numpy(series.fill_null(False)), _numpy(series.is_null()))


def _polars_category(series: Any) -> Values:
    return Values("category", _numpy(series))


def _polars_enum(series: Any) -> Values:
    return Values("category", _numpy(series), vocabulary=series.dtype.categories.to_list())


def _polars_floats(series: Any) -> Values:
    return _plain(series.cast(float))


def _polars_other(series: Any) -> Values:
    return Values("other", _objects(series.to_list()))


_POLARS: dict[str, Callable[[Any], Values]] = {
    **dict.fromkeys(("Float16", "Float32", "Float64", "Date", "Datetime", "Duration"), _plain),
    **dict.fromkeys(("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"), _polars_whole),
    **dict.fromkeys(("Decimal", "Null"), _polars_floats),
    "Boolean": _polars_truth,
    "String": _texts,
    "Categorical": _polars_category,
    "Enum": _polars_enum,
}


# -- Arrow -----------------------------------------------------------------------------------------------------------


def _reader_for_arrow(array: Any) -> Callable[[Any], Values]:
    from pyarrow import types  # type: ignore[import-untyped]

    kind = array.type
    if str(kind) in ("string", "large_string", "string_view"):
        return _texts
    readers = (
        (types.is_dictionary, _arrow_dictionary),
        (types.is_floating, _plain),
        (types.is_integer, _arrow_whole),
        (types.is_boolean, _arrow_whole),
        (types.is_decimal, _arrow_floats),
        (types.is_null, _arrow_floats),
        (types.is_date, _plain),
        (types.is_duration, _plain),
        (lambda kind: types.is_timestamp(kind) and kind.tz is None, _plain),
    )
    return next((reader for holds, reader in readers if holds(kind)), _arrow_other)


def _arrow_whole(array: Any) -> Values:
    import pyarrow as pa

    zero = pa.scalar(0, pa.int8()).cast(array.type)
    return _maybe_nullable(array, lambda: _numpy(array.fill_null(zero)), _numpy(array.is_null()))


def _arrow_floats(array: Any) -> Values:
    import pyarrow as pa

    return _plain(array.cast(pa.float64()))


def _arrow_other(array: Any) -> Values:
    return Values("other", _objects(array.to_pylist()))


def _arrow_dictionary(array: Any) -> Values:
    values = _objects(array.to_pylist())
    if any(isinstance(value, list | dict) for value in values):
        return Values("other", values)
    if not array.type.ordered:
        return Values("category", values)
    chunks = array.chunks if hasattr(array, "chunks") else [array]
    vocabularies = [chunk.dictionary.to_pylist() for chunk in chunks]
    if any(vocabulary != vocabularies[0] for vocabulary in vocabularies):
        # Which of the orders it is to be, nobody knows.
        return Values("other", values)
    return Values("category", values, vocabulary=vocabularies[0] if vocabularies else [])
