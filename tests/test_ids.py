from __future__ import annotations

import uuid

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearnkit.errors import DataError, UnknownRecordError
from unlearnkit.ids import as_list, coerce_request, encode_as, encode_ids

A_UUID = uuid.UUID("12345678123456781234567812345678")


@given(st.sets(st.one_of(st.integers(), st.text(), st.uuids(), st.binary()), max_size=20))
def test_no_two_ids_have_the_same_bytes(ids):
    kinds = {int: "int", str: "str", uuid.UUID: "uuid", bytes: "bytes"}
    encoded = [encode_as([value], kinds[type(value)])[0] for value in ids]
    assert len(set(encoded)) == len(ids)


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        ([1, 2], "int"),
        (np.array([1, 2], dtype=np.uint8), "int"),
        (pd.Series([1, 2], dtype="Int64"), "int"),
        (np.array([1.0, 2.0]), "int"),
        (range(1, 3), "int"),
        (["a", "b"], "str"),
        (np.array(["a", "b"]), "str"),
        (pd.Series(["a", "b"]), "str"),
        (pd.Index(["a", "b"]), "str"),
        ([A_UUID, uuid.UUID(int=1)], "uuid"),
        ([b"a", b"b"], "bytes"),
    ],
)
def test_one_type_per_model(ids, kind):
    assert encode_ids(ids, 2)[1] == kind


@pytest.mark.parametrize("ids", [np.array([1, 2]), pd.Series([1, 2], dtype="Int64"), [1.0, 2.0], np.float32([1, 2])])
def test_the_container_of_an_id_plays_no_part(ids):
    assert encode_ids(ids, 2)[0] == [b"i1", b"i2"]


@pytest.mark.parametrize(
    "ids",
    [
        ["a", None],
        [1, np.nan],
        pd.Series([1, pd.NA], dtype="Int64"),
        pd.Series([1.0, np.nan]),
        [1, "a"],
        [True, False],
        np.array([True, False]),
        [1.5, 2.0],
        [2.0**53, 1.0],
        np.float32([2**24, 1]),
        [float("inf"), 1.0],
        [(1, 2), (3, 4)],
        pd.date_range("2020", periods=2),
        np.array([[1], [2]]),
        [1],
        [1, 2, 3],
    ],
)
def test_ids_that_cannot_name_a_row_are_refused(ids):
    with pytest.raises(DataError, match="nothing was changed"):
        encode_ids(ids, 2)


@pytest.mark.parametrize(
    ("value", "kind", "encoded"),
    [
        ("4711", "int", b"i4711"),
        (" 4711", "int", b"i4711"),
        ("-3", "int", b"i-3"),
        (4711.0, "int", b"i4711"),
        (np.int8(3), "int", b"i3"),
        (4711, "str", b"s4711"),
        (A_UUID, "str", b"s" + str(A_UUID).encode()),
        (str(A_UUID), "uuid", b"u" + A_UUID.bytes),
        (A_UUID.hex.upper(), "uuid", b"u" + A_UUID.bytes),
        (b"x", "bytes", b"bx"),
    ],
)
def test_requests_are_converted_where_nothing_is_lost(value, kind, encoded):
    assert coerce_request([value], kind) == [encoded]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("04711", "int"),
        ("4711.0", "int"),
        ("4_711", "int"),
        ("x", "int"),
        (1.5, "int"),
        (2.0**53, "int"),
        (True, "int"),
        (None, "int"),
        (float("nan"), "str"),
        (b"a", "str"),
        ("a", "bytes"),
        ("not a uuid", "uuid"),
        (7, "uuid"),
        (pd.NaT, "int"),
        (pd.Timestamp("2020"), "int"),
    ],
)
def test_requests_of_another_type_are_unknown(value, kind):
    with pytest.raises(UnknownRecordError, match="1 id of 2 given"):
        coerce_request([value, encode_ok(kind)], kind)


def encode_ok(kind):
    return {"int": 1, "str": "a", "uuid": A_UUID, "bytes": b"a"}[kind]


def test_the_message_does_not_repeat_the_id():
    with pytest.raises(UnknownRecordError) as caught:
        coerce_request(["canary"], "int")
    assert "canary" not in str(caught.value)


def test_duplicates_collapse():
    assert coerce_request([7, "7", 7.0, np.int64(7)], "int") == [b"i7"]


@pytest.mark.parametrize(
    ("ids", "values"),
    [(5, [5]), ("ab", ["ab"]), (b"ab", [b"ab"]), (A_UUID, [A_UUID]), (np.array(5), [5]), ((1, 2), [1, 2]), ([], [])],
)
def test_one_id_or_many(ids, values):
    assert as_list(ids) == values
