from __future__ import annotations

import datetime as dt
import decimal
import fractions
import json
import sys
import uuid
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearnkit.errors import DataError, DataTypeError, SchemaError, StateError
from unlearnkit.frames import MAX_VOCABULARY, Column, unknown_categories
from unlearnkit.learner import Capabilities
from unlearnkit.schema import Schema, infer_schema
from unlearnkit.validation import canonical_csr, is_frame

PLAIN = Capabilities("classification")
FRAMES = Capabilities("classification", frames=True, categorical=True, missing_values=True)
REGRESSION = Capabilities("regression", multi_output=True)


def infer(X, y="any", capabilities=PLAIN):
    n = X.shape[0] if hasattr(X, "shape") else len(X)
    y = np.arange(n) % 2 if isinstance(y, str) else y
    return infer_schema(X, y, capabilities, "toy", weighted=False, id_type="int", explicit_ids=True)


def frame(**columns):
    return pd.DataFrame(columns)


# -- containers and dtypes -------------------------------------------------------------------------------------------


def test_arrays_keep_their_dtype():
    for dtype in ("f8", "f4", "i8", "u1", "?"):
        schema = infer(np.zeros((4, 2), dtype))
        assert schema.dtype == np.dtype(dtype).str
        assert schema.features(np.zeros((3, 2)), PLAIN, "toy").dtype == dtype


@pytest.mark.parametrize("dtype", [">f8", np.longdouble])
def test_dtypes_without_one_byte_form_become_plain(dtype):
    assert infer(np.zeros((4, 2), dtype)).dtype == np.dtype("f8").str


@pytest.mark.parametrize("dtype", ["i8", "?"])
@pytest.mark.parametrize("make", [np.array, sp.csr_matrix])
def test_a_fraction_does_not_pass_for_a_whole_number(dtype, make):
    capabilities = replace(PLAIN, sparse=True, missing_values=True)
    schema = infer(np.ones((4, 2), dtype), capabilities=capabilities)
    if make is sp.csr_matrix:
        schema = replace(schema, container="csr")
    for wrong in ([[1.0, 1.5]], [[1.0, np.nan]], [[1.0, 3e300]]):
        with pytest.raises(SchemaError, match="do not convert"):
            schema.features(make(wrong), capabilities, "toy")
    assert schema.features(make([[1.0, 1.0]]), capabilities, "toy").dtype == dtype


@pytest.mark.parametrize(
    ("X", "error", "match"),
    [
        ([[1.0, np.nan], [0, 0]], DataError, "NaN"),
        ([[1.0, np.inf], [0, 0]], DataError, "infinity"),
        (np.zeros((2, 2), complex), DataError, "[Cc]omplex"),
        ([["a", "b"], ["c", "d"]], DataError, "Nothing was changed"),
        (np.array([[{}, 1], [1, 1]], dtype=object), DataTypeError, "Nothing was changed"),
        (np.zeros((2, 2, 2)), DataError, "dim 3"),
        (np.zeros(2), DataError, "1D array"),
        (np.zeros((2, 0)), DataError, "0 feature"),
        (np.zeros((0, 2)), DataError, "0 sample"),
        (sp.csr_matrix(np.eye(2)), DataTypeError, "[Ss]parse"),
    ],
)
def test_features_that_cannot_be_used(X, error, match):
    with pytest.raises(error, match=match):
        infer(X).features(X, PLAIN, "toy")


def test_rows_of_any_shape_where_the_learner_takes_them():
    capabilities = replace(PLAIN, any_shape=True)
    schema = infer(np.zeros((4, 3, 2, 1)), capabilities=capabilities)
    assert schema.shape == (3, 2, 1)
    assert schema.features(np.zeros((5, 3, 2, 1)), capabilities, "toy").shape == (5, 3, 2, 1)
    with pytest.raises(SchemaError, match="rows of shape"):
        schema.features(np.zeros((5, 3, 1, 1)), capabilities, "toy")


def test_dense_and_sparse_do_not_mix():
    capabilities = replace(PLAIN, sparse=True)
    dense, csr = infer(np.eye(4), capabilities=capabilities), infer(sp.csr_matrix(np.eye(4)), capabilities=capabilities)
    with pytest.raises(SchemaError, match="dense"):
        dense.features(sp.csr_matrix(np.eye(4)), capabilities, "toy")
    assert sp.issparse(csr.features(np.eye(4), capabilities, "toy"))
    with pytest.raises(SchemaError, match="4 features"):
        dense.features(np.eye(3), capabilities, "toy")


def test_index_arrays_are_narrow_where_they_fit():
    wide = sp.csr_array(np.array([[0.0, 2.0], [1.0, 0.0]]))
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    narrow = canonical_csr(wide)
    assert (narrow.indices.dtype, narrow.indptr.dtype) == (np.int32, np.int32)
    assert np.array_equal(narrow.toarray(), wide.toarray())
    assert wide.indices.dtype == np.int64
    huge = sp.csr_matrix((np.ones(1), np.array([2**40]), np.array([0, 1])), shape=(1, 2**41))
    assert canonical_csr(huge).indices.tolist() == [2**40]


# -- frames ----------------------------------------------------------------------------------------------------------


def test_columns_of_every_kind():
    X = frame(
        number=[1.5, np.nan, 2.0],
        whole=[1, 2, 3],
        truth=[True, False, True],
        nullable=pd.array([1, None, 3], dtype="Int64"),
        full=pd.array([1, 2, 3], dtype="Int16"),
        maybe=pd.array([True, None, False], dtype="boolean"),
        day=pd.to_datetime(["2020-01-01", None, "2020-01-03"]),
        text=["b", "a", None],
        category=pd.Categorical(["x", None, "y"], categories=["y", "x", "unused"]),
        ranked=pd.Categorical([3, 1, None], categories=[3, 1], ordered=True),
    )
    schema = infer(X, [0, 1, 0], FRAMES)
    kinds = {c.name: (c.kind, c.dtype[1:], c.categories) for c in schema.columns}
    assert kinds.pop("day")[1].startswith("M8")
    assert kinds == {
        "number": ("number", "f8", ()),
        "whole": ("number", "i8", ()),
        "truth": ("number", "b1", ()),
        "nullable": ("number", "f8", ()),
        "full": ("number", "i2", ()),
        "maybe": ("number", "f8", ()),
        "text": ("category", "", ("a", "b")),
        "category": ("category", "", ("y", "x", "unused")),
        "ranked": ("category", "", (3, 1)),
    }
    canonical = schema.features(X, FRAMES, "toy")
    assert canonical["text"].cat.codes.tolist() == [1, 0, -1]
    assert canonical["ranked"].cat.ordered
    assert np.isnan(canonical["nullable"][1])
    # What is canonical stays as it is.
    assert schema.features(canonical, FRAMES, "toy").equals(canonical)


def test_codes_follow_the_vocabulary_of_the_schema_not_that_of_the_frame():
    schema = infer(frame(c=pd.Categorical(["a", "b"], categories=["a", "b"])), [0, 1], FRAMES)
    for other in (
        frame(c=pd.Categorical(["a", "b"], categories=["b", "a"])),
        frame(c=pd.Categorical(["a", "b"], categories=["z", "b", "a"])),
        frame(c=["a", "b"]),
        frame(c=pd.Series(["a", "b"], dtype=object)),
    ):
        found = schema.features(other, FRAMES, "toy")["c"]
        assert found.cat.codes.tolist() == [0, 1]
        assert found.cat.categories.tolist() == ["a", "b"]


def test_a_value_outside_the_vocabulary_is_missing_and_counted():
    schema = infer(frame(c=["a", "b"]), [0, 1], FRAMES)
    X = frame(c=["a", "z", None])
    assert schema.features(X, FRAMES, "toy")["c"].isna().tolist() == [False, True, True]
    assert unknown_categories(X, schema.columns) == {"c": 1}
    assert unknown_categories(frame(d=["a"]), schema.columns) == {}


def test_many_distinct_strings_are_text_and_no_vocabulary():
    values = [f"word {i}" for i in range(MAX_VOCABULARY + 1)]
    schema = infer(frame(c=values), "any", FRAMES)
    assert schema.columns[0].kind == "text"
    assert "word 7" not in schema.to_json()
    assert schema.features(frame(c=["new", None]), FRAMES, "toy")["c"].tolist() == ["new", None]


@pytest.mark.parametrize(
    ("column", "match"),
    [
        (pd.date_range("2020", periods=2, tz="UTC"), "time zone"),
        (np.array([1j, 2j]), "plain number"),
        ([{}, {}], "neither numbers nor strings"),
        (pd.Series([True, None], dtype=object), "neither numbers nor strings"),
        (pd.Series(["a", 1], dtype=object), "neither numbers nor strings"),
    ],
)
def test_columns_that_no_dtype_describes(column, match):
    with pytest.raises(DataTypeError, match=match):
        infer(frame(c=column), [0, 1], FRAMES)


@pytest.mark.parametrize(
    ("fitted", "given"),
    [([1, 2], [1.5]), ([1, 2], [np.nan]), ([True, False], [2]), ([1, 2], ["x"]), ([1.0, 2.0], ["x"])],
)
def test_a_column_that_loses_something_is_refused(fitted, given):
    schema = infer(frame(c=fitted), [0, 1], FRAMES)
    with pytest.raises(SchemaError, match="Column 'c' does not convert"):
        schema.features(frame(c=given), FRAMES, "toy")


@pytest.mark.parametrize("capabilities", [PLAIN, FRAMES])
def test_columns_go_by_name(capabilities):
    schema = infer(frame(a=[1.0, 2.0], b=[3.0, 4.0]), [0, 1], capabilities)
    for wrong, match in (
        (frame(b=[1.0], a=[2.0]), "another order"),
        (frame(a=[1.0]), "missing \\['b'\\]"),
        (frame(a=[1.0], b=[1.0], c=[1.0]), "unexpected \\['c'\\]"),
    ):
        with pytest.raises(SchemaError, match=match):
            schema.features(wrong, capabilities, "toy")


def test_a_frame_of_numbers_is_an_array_to_a_learner_without_frames():
    schema = infer(frame(a=[1, 2], b=[0.5, 1.5]))
    assert (schema.container, schema.dtype, schema.feature_names) == ("array", "<f8", ("a", "b"))
    assert schema.features(frame(a=[1], b=[2]), PLAIN, "toy").tolist() == [[1.0, 2.0]]
    assert schema.features([[1, 2]], PLAIN, "toy").tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("column", [["a", "b"], pd.date_range("2020", periods=2), pd.Categorical([1, 2])])
def test_a_learner_of_numbers_takes_no_other_column(column):
    with pytest.raises(DataError, match="could not convert string to float"):
        infer(frame(a=[0.5, 1.5], c=column))


def test_frames_with_odd_names():
    with pytest.raises(DataError, match="same name"):
        infer(pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]))
    with pytest.raises(DataTypeError, match="names of several types"):
        infer(pd.DataFrame([[1, 2], [3, 4]], columns=["a", 1]))
    assert infer(pd.DataFrame([[1, 2], [3, 4]])).feature_names is None


def test_missing_values_only_where_they_are_welcome():
    strict = replace(FRAMES, missing_values=False)
    with pytest.raises(DataError, match="does not accept missing values"):
        infer(frame(a=[1.0, np.nan]), [0, 1], strict)
    with pytest.raises(DataError, match="infinity"):
        infer(frame(a=[1.0, np.inf]), [0, 1], FRAMES)


def test_a_frame_is_needed_where_a_frame_was_fitted():
    with pytest.raises(SchemaError, match="needs its columns"):
        infer(frame(a=[1, 2]), [0, 1], FRAMES).features([[1]], FRAMES, "toy")


def test_is_frame_is_for_pandas_only():
    class DataFrame:
        pass

    assert is_frame(pd.DataFrame())
    assert not is_frame(DataFrame())
    assert not is_frame(np.zeros(1))


# -- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "y",
    [
        [0, 1, 2, 1],
        [10, -5, 10, 7],
        ["b", "a", "b", "c"],
        np.array(["b", "a", "b", "c"], dtype=object),
        np.array(["b", "a", "b", "c"], dtype=np.dtypes.StringDType()),
        pd.Series(["b", "a", "b", "c"]),
        pd.Series(["b", "a", "b", "c"], dtype="category"),
        pd.Series([1, 2, 3, 1], dtype="Int64"),
        [True, False, True, True],
        [1.0, 2.0, 1.0, 1.0],
    ],
)
def test_labels_become_codes_and_back(y):
    schema = infer(np.zeros((4, 1)), y)
    assert schema.labels[schema.targets(y, 4)].tolist() == list(y)
    assert sorted(schema.labels.tolist()) == schema.labels.tolist()


@pytest.mark.parametrize(
    ("y", "match"),
    [
        ([0, 0], "one class only"),
        ([0, None], "missing labels"),
        (pd.Series(["a", pd.NA]), "missing labels"),
        ([0.0, np.nan], "NaN"),
        ([0.0, np.inf], "infinity"),
        ([0.5, 1.5], "Unknown label type"),
        ([[0, 1], [1, 0]], "multi-output"),
        (np.array([0, "a"], dtype=object), "Unknown label type|[Mm]ix"),
        (np.zeros((2, 0)), "Nothing was changed"),
        (np.zeros((2, 1, 1)), "Nothing was changed"),
        ([0, 1, 1], "inconsistent numbers"),
        (None, "requires y"),
        (5, "inconsistent"),
    ],
)
def test_labels_that_cannot_be_used(y, match):
    with pytest.raises(DataError, match=match):
        infer(np.zeros((2, 1)), y)


def test_a_label_outside_the_schema_is_refused():
    schema = infer(np.zeros((2, 1)), ["a", "b"])
    with pytest.raises(SchemaError, match="1 labels"):
        schema.targets(["a", "much longer"], 2)
    assert schema.targets([], 0).tolist() == []


def test_targets_of_a_regression():
    one, two = infer(np.zeros((2, 1)), [1, 2], REGRESSION), infer(np.zeros((2, 1)), [[1, 2], [3, 4]], REGRESSION)
    assert (one.n_outputs, two.n_outputs) == (None, 2)
    assert one.targets([-0.0, 1], 2).tobytes() == np.array([0.0, 1.0]).tobytes()
    with pytest.raises(SchemaError, match="n_outputs"):
        two.targets([1, 2], 2)
    for wrong in ([np.nan, 1], ["a", "b"], np.zeros((2, 0)), [np.inf, 1]):
        with pytest.raises(DataError):
            one.targets(wrong, 2)
    with pytest.raises(DataError, match="one target per row"):
        infer(np.zeros((2, 1)), [[1, 2], [3, 4]], replace(REGRESSION, multi_output=False))


# -- as a value ------------------------------------------------------------------------------------------------------


def test_the_digest_covers_every_field():
    base = Schema("array", (2,), "<f8", classes=(0, 1), class_dtype="<i8")
    others = [
        replace(base, container="csr"),
        replace(base, shape=(3,)),
        replace(base, dtype="<f4"),
        replace(base, feature_names=("a", "b")),
        replace(base, classes=(0, 2)),
        replace(base, classes=("0", "1")),
        replace(base, n_outputs=2),
        replace(base, weighted=True),
        replace(base, id_type="str"),
        replace(base, explicit_ids=True),
    ]
    assert len({schema.digest for schema in [base, *others]}) == len(others) + 1
    assert json.loads(base.to_json())["container"] == "array"


@pytest.mark.parametrize("container", ["array", "frame"])
def test_fractions_to_predict_stay_floats_under_a_schema_of_whole_numbers(container):
    pd = pytest.importorskip("pandas")
    whole = np.arange(12).reshape(6, 2)
    X = pd.DataFrame(whole, columns=["a", "b"]) if container == "frame" else whole
    capabilities = Capabilities("classification", frames=container == "frame")
    schema = infer_schema(X, [0, 1] * 3, capabilities, "model", weighted=False, id_type="int", explicit_ids=True)
    fractions = X + 0.5
    with pytest.raises(SchemaError):
        schema.features(fractions, capabilities, "model")
    kept = schema.features(fractions, capabilities, "model", exact=False)
    assert np.array_equal(np.asarray(kept), np.asarray(fractions))
    same = schema.features(X.astype(float), capabilities, "model", exact=False)
    assert np.asarray(same).dtype == whole.dtype


# -- as text and back ------------------------------------------------------------------------------------------------

FLOATS = st.floats(allow_nan=False)
TEXT = st.text(st.characters(), max_size=8)
UNITS = st.sampled_from(["s", "ms", "us", "ns"])
MOMENTS = st.builds(
    lambda second, unit, zone: pd.Timestamp(second, unit="s", tz="UTC").as_unit(unit).tz_convert(zone),
    st.integers(-9_000_000_000, 9_000_000_000),
    UNITS,
    st.sampled_from([None, "UTC", "Europe/Berlin", "UTC+05:30"]),
)
ORDERED = st.tuples(FLOATS, FLOATS).map(sorted) | st.tuples(st.integers(), st.integers()).map(sorted)
PLAIN_VALUES = st.one_of(st.integers(), FLOATS, TEXT, st.booleans(), st.none(), st.binary(max_size=8))
NUMPY_VALUES = st.one_of(
    FLOATS.map(np.float64),
    st.floats(width=32, allow_nan=False).map(np.float32),
    st.integers(-128, 127).map(np.int8),
    TEXT.map(np.str_).filter(lambda value: not value.endswith("\0")),
    st.binary(max_size=4).map(np.bytes_).filter(lambda value: not value.endswith(b"\0")),
)
OTHER_VALUES = st.one_of(
    MOMENTS,
    st.builds(
        lambda delta, unit: pd.Timedelta(delta).as_unit(unit),
        st.timedeltas(dt.timedelta(-9999), dt.timedelta(9999)),
        UNITS,
    ),
    st.builds(
        lambda ends, closed: pd.Interval(*ends, closed=closed),
        ORDERED,
        st.sampled_from(["left", "right", "both", "neither"]),
    ),
    MOMENTS.map(lambda moment: pd.Interval(moment, moment + pd.Timedelta(1, "h"))),
    st.builds(
        lambda n, freq: pd.Period(ordinal=n, freq=freq), st.integers(0, 500), st.sampled_from(["D", "M", "Q", "W-MON"])
    ),
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(dt.UTC)).map(lambda moment: moment.replace(fold=0)),
    st.times().map(lambda time: time.replace(fold=0)),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.uuids(),
)
VALUES = st.recursive(
    PLAIN_VALUES | NUMPY_VALUES | OTHER_VALUES, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4
)
COLUMNS = st.builds(
    Column,
    VALUES,
    st.sampled_from(["category", "text"]),
    categories=st.lists(VALUES, max_size=3).map(tuple),
    ordered=st.booleans(),
) | st.builds(Column, VALUES, st.just("number"), st.sampled_from(["<f8", "|b1", "<i2", "<M8[ns]", "<m8[s]"]))


@settings(deadline=None)
@given(st.lists(COLUMNS, max_size=4), st.booleans(), st.sampled_from(["int", "str", "uuid", "bytes"]))
def test_a_frame_schema_comes_back_from_its_text(columns, weighted, id_type):
    schema = Schema("frame", (len(columns),), columns=tuple(columns), weighted=weighted, id_type=id_type)
    back = Schema.from_json(schema.to_json())
    assert back == schema
    assert back.digest == schema.digest
    for one, other in zip(columns, back.columns, strict=True):
        for value, twin in zip((one.name, *one.categories), (other.name, *other.categories), strict=True):
            assert type(value) is type(twin)
            assert getattr(value, "unit", None) == getattr(twin, "unit", None)
            assert str(value) == str(twin)


def test_a_truth_value_of_numpy_comes_back_as_that_of_python():
    schema = Schema("frame", (1,), columns=(Column(np.True_, "category", "", (np.False_, np.True_)),))
    back = Schema.from_json(schema.to_json())
    assert (back, back.digest, back.columns[0].categories[0]) == (schema, schema.digest, False)
    assert type(back.columns[0].name) is np.bool_


@pytest.mark.parametrize(
    "labels", [[0, 1], [2.5, -0.0], ["b", "a'\"\\\n"], [True, False], [b"a", b"bc"], np.array([0, 1], "u1")]
)
def test_a_schema_with_classes_comes_back_from_its_text(labels):
    y = np.array([labels[0], labels[1], labels[0]]) if not isinstance(labels, np.ndarray) else labels[[0, 1, 0]]
    classes = np.unique(y)
    schema = Schema("array", (2, 3), "<f8", classes=tuple(classes.tolist()), class_dtype=classes.dtype.str)
    back = Schema.from_json(schema.to_json())
    assert (back, back.digest, back.labels.dtype) == (schema, schema.digest, schema.labels.dtype)
    assert [type(label) for label in back.classes] == [type(label) for label in schema.classes]


def test_a_schema_of_a_regression_comes_back_from_its_text():
    schema = Schema("csr", (4,), "<f4", feature_names=("a", "ü"), n_outputs=3, weighted=True, explicit_ids=True)
    assert Schema.from_json(schema.to_json()) == schema


def test_the_schema_of_a_real_frame_comes_back_from_its_text():
    X = frame(
        number=[1.5, 2.0],
        day=pd.to_datetime(["2020-01-01", "2020-01-03"]),
        text=["b", "a"],
        bins=pd.cut([1.0, 2.0], [0, 1, 2]),
        when=pd.Categorical(pd.to_datetime(["2020-01-01", "2020-07-01"]).tz_localize("Europe/Berlin")),
    )
    schema = infer(X, [0, 1], FRAMES)
    back = Schema.from_json(schema.to_json())
    assert back == schema
    one, other = schema.features(X, FRAMES, "toy"), back.features(X, FRAMES, "toy")
    pd.testing.assert_frame_equal(one, other)


def test_the_text_tells_values_apart_that_only_look_alike():
    values = [
        *(pd.Timestamp("2020-01-01").as_unit(unit) for unit in ("s", "ms", "us", "ns")),
        pd.Timestamp("2020-01-01", tz="UTC"),
        pd.Timestamp("2020-01-01 01:00", tz="Etc/GMT-1"),
        *(pd.Period("2020-01-01", freq) for freq in "DMY"),
        dt.date(2020, 1, 1),
        "2020-01-01",
        pd.Interval(0, 1),
        pd.Interval(0.0, 1.0),
        1,
        1.0,
        True,
        "1",
        decimal.Decimal(1),
        fractions.Fraction(1),
        (1,),
        (1.0,),
        uuid.UUID(int=1),
    ]
    digests = {Schema("frame", (1,), columns=(Column("c", "category", "", (v,)),)).digest for v in values}
    digests |= {Schema("frame", (1,), columns=(Column(v, "number", "<f8"),)).digest for v in values}
    assert len(digests) == 2 * len(values)


def test_the_digests_of_plain_schemas_stay_as_they_are():
    columns = (
        Column("a", "number", "<f8"),
        Column(3, "category", "", ("x", 1, 2.5, True, "it's"), ordered=True),
        Column(("a", 1), "text"),
    )
    assert Schema("frame", (3,), columns=columns).to_json() == (
        '{"class_dtype": "", "classes": null, "columns": [["\'a\'", "number", "<f8", [], false], ["3", "category", "", '
        '[["str", "\'x\'"], ["int", "1"], ["float", "2.5"], ["bool", "True"], ["str", "\\"it\'s\\""]], true], '
        '["(\'a\', 1)", "text", "", [], false]], "container": "frame", "dtype": "", "explicit_ids": false, '
        '"feature_names": null, "id_type": "int", "n_outputs": null, "shape": [3], "weighted": false}'
    )


class Colour:
    def __str__(self):
        return "2020-01-01"


def test_values_of_the_users_own_types_cannot_be_read_back():
    class Decimal(Colour):
        pass

    for value in (Colour(), Decimal()):
        text = Schema("frame", (1,), columns=(Column("c", "category", "", (value,)),)).to_json()
        with pytest.raises(StateError, match=r"values of type '.*(Colour|Decimal)', which cannot be read back"):
            Schema.from_json(text)


GOOD = {
    "class_dtype": "<i8",
    "classes": [["int", "0"], ["int", "1"]],
    "columns": [["'a'", "category", "", [["str", "'x'"]], False]],
    "container": "frame",
    "dtype": "",
    "explicit_ids": True,
    "feature_names": ["a"],
    "id_type": "int",
    "n_outputs": None,
    "shape": [1],
    "weighted": False,
}


def column(name="'a'", kind="category", dtype="", categories=(), ordered=False):
    return {"columns": [[name, kind, dtype, list(categories), ordered]]}


@pytest.mark.parametrize(
    "change",
    [
        {"container": "list"},
        {"container": ["frame"]},
        {"shape": [True]},
        {"shape": [1.0]},
        {"shape": [-1]},
        {"shape": 1},
        {"shape": None},
        {"container": "array", "dtype": "O"},
        {"container": "array", "dtype": "f8,f8"},
        {"container": "array", "dtype": "<V10"},
        {"container": "array", "dtype": ""},
        {"columns": None},
        {"columns": [["'a'"]]},
        {"columns": {"a": 1}},
        column(kind="number", dtype="O"),
        column(kind="object"),
        column(ordered=1),
        column(name="a"),
        column(name="'a"),
        column(name="'a' + 'b'"),
        column(name="'a\\d'"),
        column(name="'\\U99999999'"),
        column(name='"a"'),
        column(name="__import__('os').system('true')"),
        column(name="np.load('x')"),
        column(name="np.str_(np.load('x'))"),
        column(name="1_0"),
        column(name="0x10"),
        column(name="(1, __import__('os'))"),
        column(name="((1, 2), 3)"),
        column(name="(" * 100_000),
        column(name="'" * 10_001),
        column(name=["os.system", "true"]),
        column(name=["int"]),
        column(name=7),
        column(categories=[["int", "True"]]),
        column(categories=[["bool", "1"]]),
        column(categories=[["float", "1"]]),
        column(categories=[["int", "9" * 10_000]]),
        column(categories=[["str", "1"]]),
        column(categories=[["str", "'a'", "'b'"]]),
        column(categories=["'a'"]),
        column(categories=[["Timestamp", "2020-01-01"]]),
        column(categories=[["Timestamp", "2020-01-01T00:00:00 dateutil//etc/passwd"]]),
        column(categories=[["Timestamp", "2020-01-01T00:00:00 ../../etc/passwd"]]),
        column(categories=[["Timestamp", "2020-01-01T00:00:00 Nowhere/Land"]]),
        column(categories=[["Timestamp", "2020-01-01T00:00:00+01:00"]]),
        column(categories=[["Timedelta", "1 O"]]),
        column(categories=[["Interval", "(2, 1]"]]),
        column(categories=[["Interval", "[" * 100_000]]),
        column(categories=[["Period", "1 spam"]]),
        column(categories=[["Decimal", "x"]]),
        column(categories=[["UUID", "x"]]),
        column(categories=[["tuple", "{}"]]),
        column(categories=[["tuple", "[" * 100_000]]),
        column(categories=[["tuple", '[["os.system", "true"]]']]),
        column(categories=[["os:system", "true"]]),
        {"feature_names": [1]},
        {"feature_names": "a"},
        {"classes": [0, 1]},
        {"classes": "01"},
        {"class_dtype": "O"},
        {"class_dtype": "<U999999999", "classes": [["str", "'a'"], ["str", "'b'"]]},
        {"class_dtype": "<U1", "classes": [["str", "'ab'"], ["str", "'b'"]]},
        {"class_dtype": "<U1"},
        {"n_outputs": True},
        {"n_outputs": "1"},
        {"weighted": 0},
        {"id_type": "float"},
        {"explicit_ids": None},
        {"surprise": 1},
    ],
    ids=lambda change: json.dumps(change)[:60],
)
def test_nonsense_is_no_schema(change):
    assert Schema.from_json(json.dumps(GOOD)).digest
    before = set(sys.modules)
    with pytest.raises(StateError):
        Schema.from_json(json.dumps(GOOD | change))
    assert not {
        name for name in set(sys.modules) - before if name.partition(".")[0] in ("os", "subprocess", "dateutil")
    }


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "1", '"a"', "{}", "[" * 100_000, "NaN", '{"container": "array"}']
)
def test_other_text_is_no_schema(text):
    with pytest.raises(StateError):
        Schema.from_json(text)


@pytest.mark.parametrize("name", sorted(GOOD))
def test_every_field_has_to_be_there(name):
    with pytest.raises(StateError):
        Schema.from_json(json.dumps({key: value for key, value in GOOD.items() if key != name}))
