"""Cells as bytes: what goes in comes out to the last bit, equal records are equal bytes, and nonsense is refused."""

from __future__ import annotations

import io
import json
import struct
import sys
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearnkit import frames
from unlearnkit.cells import (
    join_cells,
    no_records,
    pack_cell,
    pack_manifest,
    read_manifest,
    rows_only,
    unpack_cell,
    unpack_rows,
)
from unlearnkit.data import content_hashes
from unlearnkit.errors import StateError, StoreError
from unlearnkit.ingest import ingest
from unlearnkit.learner import Capabilities
from unlearnkit.partition import HashPartition
from unlearnkit.parts import pack_array

SECRET = b"the secret of these tests"
N = 48
NAME = "ab" * 32


def ingested(X, y, *, weight=None, ids=None, task="classification", n_slices=1, schema=None):
    capabilities = Capabilities(
        task=task,
        frames=True,
        categorical=True,
        sparse=True,
        missing_values=True,
        sample_weight=True,
        any_shape=True,
        multi_output=True,
    )
    partition = HashPartition(SECRET).bind(1, n_slices, None)
    return ingest(X, y, weight, ids, schema=schema, partition=partition, capabilities=capabilities, name="toy")


def cell_of(X, y, **options):
    """The records of one cell, and their schema."""
    found = ingested(X, y, **options)
    return found.records[0], found.schema


def frame(n=N):
    """A column of every kind, with missing values."""
    i = np.arange(n)
    return pd.DataFrame(
        {
            "float": np.where(i % 5 == 0, np.nan, i * 1.5),
            "single": (i / 3).astype(np.float32),
            "half": (i / 4).astype(np.float16),
            "int": i - 7,
            "nullable": pd.array([None if k % 4 == 0 else k for k in i.tolist()], dtype="Int64"),
            "flag": i % 3 == 0,
            "day": pd.date_range("2020-02-27", periods=n).where(i % 6 > 0),
            "ordered": pd.Categorical.from_codes(np.where(i % 7 == 0, -1, i % 3), ["low", "mid", "high"], ordered=True),
            "number": pd.Categorical(np.where(i % 7 == 0, np.nan, i % 4)),
            "word": [None if k % 9 == 0 else "abcd"[k % 4] for k in i.tolist()],
            "text": pd.Series(
                [None if k % 8 == 0 else f"say {k} " + "äß\0\n\ud800" * (k % 3) for k in range(n)], dtype=object
            ),
        }
    )


def dense(dtype, shape=(3,)):
    return (np.random.default_rng(1).normal(size=(N, *shape)) * 9).astype(dtype)


def with_nan():
    X = dense("f8")
    X[3, 1] = np.nan
    return X


def sparse():
    X = sp.random(N, 7, 0.2, format="csr", random_state=0)
    X.data[3] = 0.0
    return X


LABELS = np.arange(N) % 3
WEIGHT = np.where(np.arange(N) % 4 == 0, 0.0, 1.0 + np.arange(N))
CASES = {
    "single": lambda: cell_of(dense("f4"), LABELS, ids=np.arange(N)),
    "double": lambda: cell_of(with_nan(), LABELS),
    "ints": lambda: cell_of(dense("i8"), np.array(["a", "b", "c"])[LABELS], ids=[f"id {i}" for i in range(N)]),
    "bools": lambda: cell_of(dense("f8") > 0, LABELS, ids=np.arange(N)),
    "images": lambda: cell_of(dense("u1", (3, 4, 2)), LABELS, weight=WEIGHT),
    "sparse": lambda: cell_of(sparse(), LABELS, weight=WEIGHT, ids=np.arange(N)),
    "sparse zeros": lambda: cell_of(sp.csr_matrix((N, 4), dtype=np.float32), LABELS),
    "frame": lambda: cell_of(frame(), LABELS, ids=np.arange(N)),
    "weighted frame": lambda: cell_of(frame(), LABELS, weight=WEIGHT),
    "regression": lambda: cell_of(dense("f8"), dense("f8", ())[:N], task="regression", ids=np.arange(N)),
    "outputs": lambda: cell_of(dense("f4"), dense("f8", (2,)), task="regression", weight=WEIGHT),
    "many rows per id": lambda: cell_of(dense("f8"), LABELS, ids=np.arange(N) // 5),
    "only weight zero": lambda: idle(*cell_of(dense("f8"), LABELS, weight=WEIGHT)),
}


def idle(records, schema):
    return records.without(records.weight > 0), schema


@pytest.fixture(autouse=True)
def _few_words_make_a_text(monkeypatch):
    monkeypatch.setattr(frames, "MAX_VOCABULARY", 10)


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return request.param()


def assert_same(one, other):
    """Equal in every byte, dtype and kind of missing value."""
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, pd.DataFrame):
            pd.testing.assert_frame_equal(a, b, check_exact=True, check_column_type="exact", check_index_type="exact")
            assert type(a.index) is type(b.index)
            for name in a:
                assert a[name].dtype == b[name].dtype
                assert [type(v) for v in a[name]] == [type(v) for v in b[name]]
                if a[name].dtype == "category":
                    assert a[name].cat.categories.dtype == b[name].cat.categories.dtype
                    assert a[name].cat.codes.tolist() == b[name].cat.codes.tolist()
                elif a[name].dtype != object:
                    assert a[name].to_numpy().tobytes() == b[name].to_numpy().tobytes()
        elif sp.issparse(a):
            assert type(a) is type(b)
            assert a.shape == b.shape
            for name in ("data", "indices", "indptr"):
                assert_same_array(getattr(a, name), getattr(b, name))
        elif isinstance(a, np.ndarray):
            assert_same_array(a, b)
        else:
            assert a == b
            assert type(a) is type(b)


def assert_same_array(a, b):
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    assert a.tobytes() == b.tobytes()
    assert b.flags.c_contiguous


def test_a_cell_comes_back_to_the_last_bit(case):
    records, schema = case
    found = unpack_cell(pack_cell(records, schema), schema)
    assert_same(records, found)
    assert (content_hashes(found.X, found.y, schema, SECRET) == records.content).all()
    assert found.facts(1, classification=True) == records.facts(1, classification=True)


def test_equal_records_are_equal_bytes(case):
    records, schema = case
    parts = pack_cell(records, schema)
    # Of other memory, and by way of the bytes.
    shuffled = records.take(np.arange(len(records)), records.n_active)
    assert pack_cell(shuffled, schema) == parts
    assert pack_cell(unpack_cell(parts, schema), schema) == parts


def test_equal_records_are_equal_bytes_whatever_was_with_them(case):
    records, schema = case
    gone = np.arange(len(records)) % 2 == 0
    left = records.without(gone)
    again = unpack_cell(pack_cell(records, schema), schema).without(gone)
    assert pack_cell(left, schema) == pack_cell(again, schema)
    assert_same(left, again)


def test_a_cell_without_records_has_no_parts(case):
    records, schema = case
    none = records.without(np.ones(len(records), dtype=bool))
    assert pack_cell(none, schema) == {}
    assert_same(none, unpack_cell({}, schema))
    assert_same(none, no_records(schema))


def test_the_cells_of_a_shard_join_to_the_shard(case):
    records, schema = case
    slices = np.arange(len(records)) * 3 // max(1, records.n_active)
    slices[records.n_active :] = np.sort(np.arange(len(records) - records.n_active) % 3)
    shard = replace(records, slice=slices)
    cells = []
    for r in range(slices.max() + 1):
        mine = np.flatnonzero(slices == r)
        cells.append(shard.take(mine, int((mine < shard.n_active).sum())))
    cells.insert(1, no_records(schema))
    parts = [pack_cell(cell, schema) for cell in cells]
    joined = join_cells([unpack_cell(part, schema) for part in parts], schema)
    assert_same(shard, joined)
    assert_same(records, join_cells([unpack_cell(pack_cell(records, schema), schema)], schema))


@pytest.mark.parametrize("name", ["double", "sparse", "images"])
@pytest.mark.parametrize("copies", [1, 2])
def test_a_joined_shard_is_a_copy_of_the_bytes(name, copies):
    records, schema = CASES[name]()
    joined = join_cells([unpack_cell(pack_cell(records, schema), schema)] * copies, schema)
    values = joined.X.data if sp.issparse(joined.X) else joined.X
    assert all(array.flags.writeable for array in (values, joined.y, joined.rid, joined.content))


def test_the_rows_are_read_without_the_features(case):
    records, schema = case
    part = pack_cell(records, schema)["rows"]
    rows = unpack_rows(part, schema)
    assert_same(replace(records, X=rows.X), rows)
    assert rows.X.shape == (len(records), 0)
    assert rows.facts(1, classification=True) == records.facts(1, classification=True)
    plain = rows_only(part)
    assert (plain["rid"] == records.rid).all()
    assert (plain["y"] == records.y).all()
    assert ("weight" in plain.dtype.names) == (records.weight is not None)
    assert ("handle" in plain.dtype.names) == (records.handle is not None)


def test_no_padding_and_no_name_is_stored():
    X = frame().rename(columns={"text": "a telling name"})
    records, schema = cell_of(X, LABELS, ids=np.arange(N))
    parts = pack_cell(records, schema)
    assert (
        sum(dtype.itemsize for dtype, *_ in rows_only(parts["rows"]).dtype.fields.values()) == 16 + 32 + 8 + 8 + 8 + 8
    )
    assert b"a telling name" not in parts["X"]
    assert b"pandas" not in parts["X"]
    # The vocabulary is public, but which of it a cell has is not in words.
    assert b"mid" not in parts["X"]


def test_a_frame_is_a_plain_arrow_stream():
    records, schema = cell_of(frame(), LABELS, ids=np.arange(N))
    table = pa.ipc.open_stream(pack_cell(records, schema)["X"]).read_all()
    assert table.num_rows == N
    assert table.column("0").null_count == 0, "NaN stays NaN"
    assert table.column("10").null_count == records.X["text"].isna().sum()


@given(st.lists(st.none() | st.text(max_size=9), min_size=11, max_size=40, unique=True), st.randoms())
@settings(max_examples=40, deadline=None)
def test_any_text_comes_back(texts, random):
    random.shuffle(texts)
    y = np.arange(len(texts)) % 2
    number = np.arange(len(texts)) * 1.0
    schema = cell_of(pd.DataFrame({"t": [str(i) for i in range(11)], "n": np.arange(11.0)}), np.arange(11) % 2)[1]
    assert schema.columns[0].kind == "text"
    records = ingested(pd.DataFrame({"t": texts, "n": number}, dtype=object), y, schema=schema).records[0]
    assert_same(records, unpack_cell(pack_cell(records, schema), schema))


def test_what_does_not_fit_the_schema_is_not_stored():
    records, schema = cell_of(dense("f8"), LABELS)
    with pytest.raises(StateError, match="nothing was stored"):
        pack_cell(replace(records, X=records.X.astype("f4")), schema)
    records, schema = cell_of(frame(), LABELS)
    with pytest.raises(StateError, match="nothing was stored"):
        pack_cell(replace(records, X=records.X.assign(int=1.5)), schema)
    with pytest.raises(StateError, match="not strings"):
        pack_cell(replace(records, X=records.X.assign(text=pd.Series([1.5] * N, dtype=object))), schema)


def test_frames_need_pyarrow(monkeypatch):
    records, schema = cell_of(frame(), LABELS)
    monkeypatch.setitem(sys.modules, "pyarrow.ipc", None)
    with pytest.raises(StoreError, match=r"unlearnkit\[store\]"):
        pack_cell(records, schema)


# Hostile bytes


def test_a_changed_byte_is_refused_or_harmless(case):
    records, schema = case
    parts = pack_cell(records, schema)
    rng = np.random.default_rng(0)
    for name, part in parts.items():
        ends = min(400, len(part))
        for position in {*rng.integers(len(part), size=60).tolist(), *rng.integers(ends, size=60).tolist()}:
            hostile = bytearray(part)
            hostile[position] ^= 1 << int(rng.integers(8))
            try:
                found = unpack_cell({**parts, name: bytes(hostile)}, schema)
            except StateError:
                continue
            assert len(found) == len(records)


def test_a_truncated_or_longer_part_is_refused(case):
    records, schema = case
    parts = pack_cell(records, schema)
    for name, part in parts.items():
        for length in {0, 1, 9, 60, len(part) // 2, len(part) - 9, len(part) - 1}:
            with pytest.raises(StateError):
                unpack_cell({**parts, name: part[:length]}, schema)
        with pytest.raises(StateError):
            unpack_cell({**parts, name: part + b"\0" * 8}, schema)


def test_a_missing_or_strange_part_is_refused(case):
    records, schema = case
    parts = pack_cell(records, schema)
    for name in parts:
        with pytest.raises(StateError):
            unpack_cell({other: part for other, part in parts.items() if other != name}, schema)
    with pytest.raises(StateError):
        unpack_cell({**parts, "extra": b""}, schema)
    assert len(unpack_cell({**parts, "cell": b"whatever"}, schema)) == len(records)


def test_a_cell_of_another_schema_is_refused():
    packed = [(pack_cell(*make()), make()[1]) for make in CASES.values()]
    for i, (parts, _) in enumerate(packed):
        for j, (_, schema) in enumerate(packed):
            if packed[i][1] != schema and i != j:
                with pytest.raises(StateError):
                    unpack_cell(parts, schema)


@pytest.mark.parametrize(
    "shape", [(10**15, 3), (2**62, 3), (-1, -3), (0, 10**30), (N,), (N, 3, 1), (N * 3, 1), (), (True, 3), (10**40, 3)]
)
def test_an_absurd_shape_takes_no_memory(shape):
    records, schema = cell_of(dense("f8"), LABELS)
    parts = pack_cell(records, schema)
    values = parts["X"][-records.X.nbytes :]
    with pytest.raises(StateError):
        unpack_cell({**parts, "X": npy("<f8", shape, values)}, schema)


@pytest.mark.parametrize(
    "descr", ["|O", "<f4", ">f8", "|V0", "|S8", "<M8[s]", [("a", "<f8")], ("<f8", (2,)), "nonsense"]
)
def test_another_dtype_is_refused(descr):
    records, schema = cell_of(dense("f8"), LABELS)
    parts = pack_cell(records, schema)
    with pytest.raises(StateError):
        unpack_cell({**parts, "X": npy(descr, (N, 3), parts["X"][-records.X.nbytes :])}, schema)
    with pytest.raises(StateError):
        rows_only(npy(descr, (N * 3,), parts["X"][-records.X.nbytes :]))


def npy(descr, shape, values, *, fortran=False):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": fortran, "shape": shape})
    return stream.getvalue() + values


def test_an_array_in_another_order_or_a_pickle_is_refused():
    records, schema = cell_of(dense("f8"), LABELS)
    parts = pack_cell(records, schema)
    values = parts["X"][-records.X.nbytes :]
    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    for hostile in (npy("<f8", (N, 3), values, fortran=True), stream.getvalue(), b"PK\3\4" + values):
        with pytest.raises(StateError):
            unpack_cell({**parts, "X": hostile}, schema)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("X.indptr", lambda a: a[::-1]),
        ("X.indptr", lambda a: np.where(np.arange(len(a)) == 3, np.int32(10**6), a)),
        ("X.indptr", lambda a: np.where(np.arange(len(a)) == 3, np.int32(-1), a)),
        ("X.indptr", lambda a: a + 1),
        ("X.indptr", lambda a: a[:-1]),
        ("X.indptr", lambda a: a.astype(np.int64)),
        ("X.indices", lambda a: a + 7),
        ("X.indices", lambda a: a - 7),
        ("X.indices", lambda a: a * 0),
        ("X.indices", lambda a: a[:-1]),
        ("X.indices", lambda a: a.astype(np.float32)),
        ("X.data", lambda a: a[:-1]),
        ("X.data", lambda a: a.astype(np.float32)),
        ("X.data", lambda a: a[:, None]),
    ],
)
def test_sparse_rows_that_do_not_fit_together_are_refused(name, change):
    records, schema = cell_of(sparse(), LABELS)
    parts = pack_cell(records, schema)
    before = getattr(records.X, name.removeprefix("X."))
    with pytest.raises(StateError):
        unpack_cell({**parts, name: pack_array(change(before))}, schema)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("y", 3),
        ("y", -1),
        ("weight", np.nan),
        ("weight", -1.0),
        ("weight", np.inf),
        ("weight", 0.0),
        ("u", 1.0),
        ("u", -0.5),
        ("u", np.nan),
        ("slice", 1),
    ],
)
def test_a_row_with_a_value_that_cannot_be_is_refused(field, value):
    records, schema = cell_of(dense("f8"), LABELS, weight=WEIGHT)
    parts = pack_cell(records, schema)
    rows = rows_only(parts["rows"]).copy()
    rows[field][2] = value
    with pytest.raises(StateError):
        unpack_cell({**parts, "rows": pack_array(rows)}, schema)
    with pytest.raises(StateError):
        unpack_rows(pack_array(rows), schema)


def test_a_slice_below_zero_a_target_without_end_and_no_rows_are_refused():
    records, schema = cell_of(dense("f8"), dense("f8", ()), task="regression")
    parts = pack_cell(records, schema)
    rows = rows_only(parts["rows"])
    negative, endless = rows.copy(), rows.copy()
    negative["slice"] = -1
    endless["y"][0] = np.inf
    for hostile in (negative, endless, rows[:0], rows.reshape(1, -1), rows[["rid", "u"]].copy()):
        with pytest.raises(StateError):
            unpack_cell({**parts, "rows": pack_array(hostile)}, schema)


@pytest.mark.parametrize(
    "fields_kept", [["rid"], ["rid", "content", "u", "y"], ["y"], ["slice", "rid", "y", "u", "content"]]
)
def test_rows_with_other_fields_are_refused(fields_kept):
    rows = rows_only(pack_cell(*cell_of(dense("f8"), LABELS))["rows"])
    picked = np.zeros(len(rows), dtype=[(name, rows.dtype[name]) for name in fields_kept])
    with pytest.raises(StateError):
        rows_only(pack_array(picked))


def stream_of(table, **options):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for batch in table.to_batches():
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_compressed_stream_is_refused_before_it_grows(codec):
    # Half a gigabyte of zeros, in a few kilobytes.
    records, schema = cell_of(pd.DataFrame({"a": np.arange(N) * 1.0, "b": ["x", "y"] * (N // 2)}), LABELS)
    parts = pack_cell(records, schema)
    table = pa.ipc.open_stream(parts["X"]).read_all()
    assert stream_of(table) == parts["X"]
    before = pa.total_allocated_bytes()
    bomb = pa.table({"0": np.zeros(1 << 20), "1": np.zeros(1 << 20, np.int32)}, schema=table.schema)
    for hostile in (stream_of(table, compression=codec), stream_of(bomb, compression=codec)):
        with pytest.raises(StateError, match="compressed"):
            unpack_cell({**parts, "X": hostile}, schema)
    del bomb
    assert pa.total_allocated_bytes() <= before + (1 << 20)


def test_arrow_streams_of_another_form_are_refused():
    X = pd.DataFrame({"a": np.arange(N) * 1.0, "b": ["x", "y"] * (N // 2), "c": np.arange(N) % 2 == 0})
    records, schema = cell_of(X, LABELS)
    parts = pack_cell(records, schema)
    table = pa.ipc.open_stream(parts["X"]).read_all()
    a, b, c = table.columns
    kinds = table.schema
    hostile = [
        table.rename_columns(["0", "2", "1"]),
        table.select(["0", "1"]),
        table.slice(0, N - 1),
        table.replace_schema_metadata({"pandas": "{}"}),
        pa.table([a.cast(pa.float32()), b, c], names=kinds.names),
        pa.table([pa.array([None, *a.to_pylist()[1:]], pa.float64()), b, c], schema=kinds),
        pa.table([a, pa.array([2] * N, pa.int32()), c], schema=kinds),
        pa.table([a, pa.array([-2] * N, pa.int32()), c], schema=kinds),
        pa.table([a, b, pa.array([2] * N, pa.uint8())], schema=kinds),
        pa.table([a, b.dictionary_encode(), c], names=kinds.names),
        pa.concat_tables([table.slice(0, 9), table.slice(9)]),
    ]
    for other in hostile:
        with pytest.raises(StateError):
            unpack_cell({**parts, "X": stream_of(other)}, schema)


def test_offsets_of_texts_that_lead_elsewhere_are_refused():
    X = pd.DataFrame({"t": [f"text {i}" for i in range(N)]})
    records, schema = cell_of(X, LABELS)
    parts = pack_cell(records, schema)
    first, second = (len(text) for text in records.X["t"][:2])
    place = parts["X"].index(struct.pack("<qq", first, first + second))
    for absurd in (-1, 1 << 60, 10**6):
        hostile = bytearray(parts["X"])
        hostile[place : place + 8] = struct.pack("<q", absurd)
        with pytest.raises(StateError):
            unpack_cell({**parts, "X": bytes(hostile)}, schema)


# The manifest


def test_a_manifest_says_which_cell_some_blobs_are():
    parts = {"rows": NAME, "X": "0" * 64}
    data = pack_manifest(3, 0, parts)
    assert read_manifest(data) == (3, 0, parts)
    assert json.loads(data)["format"] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"shard": -1},
        {"shard": "1"},
        {"slice": 1.0},
        {"slice": True},
        {"parts": [NAME]},
        {"parts": {"rows": "../" * 21 + "x"}},
        {"parts": {"rows": NAME[:-1]}},
        {"parts": {"rows": 7}},
        {"more": 1},
    ],
)
def test_what_only_looks_like_a_manifest_is_none(change):
    found = json.loads(pack_manifest(3, 0, {"rows": NAME}))
    assert read_manifest(json.dumps(found).encode()) is not None
    assert read_manifest(json.dumps(found | change).encode()) is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"\x93NUMPY", b"{" * 9999, b'{"a":' * 9999, b"{\xff}"])
def test_other_blobs_are_no_manifest(data):
    assert read_manifest(data) is None
