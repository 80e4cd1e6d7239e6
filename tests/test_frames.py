"""The dtypes of pandas: what a column is declared as, and what fits that declaration later."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from unlearnkit.errors import DataTypeError, SchemaError
from unlearnkit.frames import Column, infer_column, numeric_values, typed

DAY = pd.Timestamp("2020-01-02 03:04:05")


def series(values, dtype=None):
    dtype = pd.ArrowDtype(dtype) if isinstance(dtype, pa.DataType) else dtype
    return pd.Series(values, dtype=dtype, name="c")


def declared(dtype):
    return Column("c", "number", dtype)


COLUMNS = [
    (series([1, 2], pa.int16()), "<i2"),
    (series([1, None], pa.int16()), "<f8"),
    (series([1, 2], "UInt8"), "|u1"),
    (series([1, None], "Int64"), "<f8"),
    (series([True, False], pa.bool_()), "|b1"),
    (series([True, None], pa.bool_()), "<f8"),
    (series([True, None], "boolean"), "<f8"),
    (series([1.5, None], pa.float32()), "<f4"),
    (series([1.5, None], "Float32"), "<f4"),
    (series([1.5, None], "Float64"), "<f8"),
    (series([1, None], pa.decimal128(5, 2)), "<f8"),
    (series(pd.arrays.SparseArray([0, 1, 0])), "<i8"),
    (series(pd.arrays.SparseArray([0, 1.5, np.nan])), "<f8"),
    (series(pd.arrays.SparseArray([True, False])), "|b1"),
    (series([DAY, None], pa.timestamp("us")), "<M8[us]"),
    (series([DAY.date(), None], pa.date32()), "<M8[s]"),
    (series([pd.Timedelta(1, "s"), None], pa.duration("us")), "<m8[us]"),
]


@pytest.mark.parametrize(("column", "dtype"), COLUMNS, ids=lambda x: str(getattr(x, "dtype", x)))
def test_numbers_and_dates_of_every_dtype(column, dtype):
    found = infer_column(column, "c")
    assert (found.kind, found.dtype) == ("number", dtype)
    for exact in (True, False):
        values = typed(column, found, exact=exact)
        assert values.dtype == np.dtype(dtype)
        assert values.isna().tolist() == column.isna().tolist()
        assert [v for v in values if pd.notna(v)] == [pd.Timestamp(v) if "M" in dtype else v for v in column.dropna()]


STRINGS = [
    object,
    "str",
    "string",
    "string[python]",
    pa.string(),
    pa.large_string(),
    pa.dictionary(pa.int8(), pa.string()),
]


@pytest.mark.parametrize("dtype", STRINGS, ids=str)
def test_strings_of_every_dtype_have_one_vocabulary(dtype):
    column = series(["rome", "bern", None, "rome"], dtype)
    found = infer_column(column, "c")
    assert (found.kind, found.categories, found.ordered) == ("category", ("bern", "rome"), False)
    assert typed(column, found, exact=True).cat.codes.tolist() == [1, 0, -1, 1]


@pytest.mark.parametrize("dtype", STRINGS, ids=str)
def test_strings_of_every_dtype_fit_one_vocabulary(dtype):
    codes = typed(
        series(["rome", "oslo", None], dtype), Column("c", "category", "", ("oslo", "bern", "rome")), exact=True
    )
    assert codes.cat.codes.tolist() == [2, 0, -1]
    assert codes.cat.categories.tolist() == ["oslo", "bern", "rome"]


def test_categories_are_matched_by_value():
    for values, categories in (([1.0, 2.0, np.nan], (2, 1)), ([True, False], (0, 1)), ([1, None], (True, False))):
        codes = typed(series(values), Column("c", "category", "", categories), exact=True).cat.codes
        assert codes.tolist() == [categories.index(v) if pd.notna(v) else -1 for v in values]
    ranges = pd.interval_range(0, 2)
    codes = typed(series(list(ranges)[::-1], object), Column("c", "category", "", tuple(ranges)), exact=True)
    assert codes.cat.codes.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("column", "match"),
    [
        (series([DAY], "datetime64[ns, UTC]"), "time zone"),
        (series([DAY], pa.timestamp("us", "UTC")), "time zone"),
        (series([[1]], pa.list_(pa.int8())), "neither numbers nor strings"),
        (series([b"a"], pa.binary()), "neither numbers nor strings"),
        (series(pd.period_range("2020", periods=1)), "neither numbers nor strings"),
    ],
    ids=lambda x: str(getattr(x, "dtype", x)),
)
def test_columns_of_no_use_are_refused(column, match):
    with pytest.raises(DataTypeError, match=match):
        infer_column(column, "c")


# -- what comes later ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "Float64", "Int64", pa.int64(), pa.float64(), object], ids=str)
def test_whole_numbers_of_every_dtype_fit_whole_and_broken_ones(dtype):
    for schema in ("<i8", "<f8"):
        values = typed(series([1, 2], dtype), declared(schema), exact=True)
        assert (values.dtype, values.tolist()) == (np.dtype(schema), [1, 2])


@pytest.mark.parametrize("dtype", ["boolean", pa.bool_(), object, "float64"], ids=str)
def test_a_missing_truth_value_is_never_taken_for_true(dtype):
    later = series([True, None], dtype)
    with pytest.raises(SchemaError, match="no missing values"):
        typed(later, declared("|b1"), exact=True)
    kept = typed(later, declared("|b1"), exact=False)
    assert kept.tolist()[0] == 1.0
    assert np.isnan(kept[1])


@pytest.mark.parametrize(
    ("dtype", "values"),
    [("|u1", [300]), ("|u1", [-1]), ("|u1", [-1.5]), ("<i8", [2**63 + 1]), ("|b1", [2]), ("<i8", [0.5])],
)
def test_numbers_that_the_declared_dtype_cannot_hold(dtype, values):
    column = series(values)
    with pytest.raises(SchemaError, match="Column 'c' does not convert"):
        typed(column, declared(dtype), exact=True)
    assert typed(column, declared(dtype), exact=False).tolist() == [float(value) for value in values]


def test_large_whole_numbers_are_not_rounded():
    for dtype in ("int64", "Int64", pa.int64()):
        for exact in (True, False):
            assert typed(series([2**60 + 1], dtype), declared("<i8"), exact=exact).tolist() == [2**60 + 1]


def test_dates_are_not_cut_to_a_coarser_unit():
    fraction, whole = series([DAY + pd.Timedelta(1, "ms"), None]), series([DAY, None])
    assert typed(whole, declared("<M8[s]"), exact=True).dtype == "M8[s]"
    with pytest.raises(SchemaError, match="coarser"):
        typed(fraction, declared("<M8[s]"), exact=True)
    assert typed(fraction, declared("<M8[s]"), exact=False)[0] == fraction[0]


@pytest.mark.parametrize(
    ("dtype", "column"),
    [
        ("<M8[ns]", series([1, 2])),
        ("<M8[ns]", series([1.5], "Float64")),
        ("<i8", series([DAY])),
        ("<f8", series([DAY])),
        ("<f8", series([DAY], pa.timestamp("us"))),
        ("<i8", series([DAY], pa.timestamp("us"))),
        ("<i8", series([pd.Timedelta(1, "s")])),
        ("<M8[ns]", series([DAY], "datetime64[ns, UTC]")),
        ("<M8[ns]", series([DAY], pa.timestamp("us", "UTC"))),
        ("<M8[ns]", series(np.array(["9999-01-01"], "M8[s]"))),
        ("<m8[ns]", series([DAY])),
    ],
)
def test_numbers_and_dates_are_not_taken_for_each_other(dtype, column):
    for exact in (True, False):
        with pytest.raises(SchemaError, match="does not convert"):
            typed(column, declared(dtype), exact=exact)


def test_a_text_is_made_of_strings():
    text = Column("c", "text")
    assert typed(series(["a", None], pa.string()), text, exact=True).tolist() == ["a", None]
    with pytest.raises(SchemaError, match="not all of its values are strings"):
        typed(series([1, 2]), text, exact=True)


def test_values_that_no_vocabulary_can_have():
    with pytest.raises(SchemaError, match="category"):
        typed(series([["a"]], object), Column("c", "category", "", ("a",)), exact=True)


def test_a_frame_of_many_dtypes_is_one_array():
    X = pd.DataFrame(
        {
            "a": series([1, None], pa.int8()),
            "b": series([True, None], "boolean"),
            "c": series([0.5, 1.5], "float32"),
            "d": series([True, False], pa.bool_()),
        }
    )
    values = numeric_values(X, "toy")
    assert values.dtype == np.float64
    assert np.array_equal(values, [[1, 1, 0.5, 1], [np.nan, np.nan, 1.5, 0]], equal_nan=True)
