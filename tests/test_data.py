from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from unlearnkit.data import Sought, as_bytes, first_rows, handles_of, normalised, order_by_id, take_rows
from unlearnkit.errors import DataError


@pytest.fixture
def shards(helpers):
    """The records of a fitted model."""

    def of(X, y, **options):
        fit = {name: options.pop(name) for name in ("ids", "sample_weight") if name in options}
        return helpers.build(**options).fit(X, y, **fit)._build.records._shards

    return of


def test_each_prefix_is_the_first_rows(shards, helpers):
    X, y, ids = helpers.rows(100)
    for records in shards(X, y, ids=ids, n_slices=4):
        bounds = records.bounds(4)
        assert (np.diff(records.slice) >= 0).all()
        assert bounds[0] == 0
        assert bounds[-1] == len(records)
        assert [f.n for f in records.facts(4, classification=True)] == np.diff(bounds).tolist()


def test_rows_of_weight_zero_come_last_and_count_nowhere(shards, helpers):
    X, y, ids = helpers.rows(80)
    weight = np.where(np.arange(80) % 4 == 0, 0.0, 1.0)
    parts = shards(X, y, ids=ids, sample_weight=weight)
    assert sum(len(r) for r in parts) == 80
    assert sum(r.n_active for r in parts) == 60
    for records in parts:
        assert (records.weight[: records.n_active] > 0).all()
        assert (records.weight[records.n_active :] == 0).all()
        assert sum(f.n for f in records.facts(3, classification=True)) == records.n_active


def test_a_zero_weight_row_changes_no_digest(shards, helpers):
    X, y, ids = helpers.rows(40)
    weight = np.ones(40)
    weight[7] = 0
    with_it = shards(X, y, ids=ids, sample_weight=weight)
    keep = np.arange(40) != 7
    without = shards(X[keep], y[keep], ids=ids[keep], sample_weight=weight[keep])
    assert [r.facts(3, classification=True) for r in with_it] == [r.facts(3, classification=True) for r in without]


@given(st.permutations(range(24)))
def test_the_order_of_the_input_plays_no_part(order):
    from unlearnkit.ingest import ingest
    from unlearnkit.partition import HashPartition
    from unlearnkit.testing import RememberingLearner

    X = np.repeat(np.arange(12.0), 2).reshape(-1, 1)
    y, ids = np.tile([0, 1, 1], 8), np.arange(24) // 3
    order = np.array(order)
    found = [
        ingest(
            X[rows],
            y[rows],
            None,
            ids[rows],
            schema=None,
            partition=HashPartition(b"x" * 16).bind(2, 2, None),
            capabilities=RememberingLearner().capabilities,
            name="toy",
        ).records
        for rows in (np.arange(24), order)
    ]
    for one, other in zip(*found, strict=True):
        assert (one.X == other.X).all()
        assert (one.y == other.y).all()
        assert (one.content == other.content).all()


@pytest.mark.parametrize("field", ["X", "y", "weight", "id"])
def test_a_digest_covers_features_target_weight_and_id(shards, helpers, field):
    X, y, ids = helpers.rows(30)
    weight = np.ones(30)

    def digests():
        parts = shards(X, y, ids=ids, sample_weight=weight, n_shards=1, n_slices=1)
        return [f.digest for r in parts for f in r.facts(1, classification=True)]

    before = digests()
    assert digests() == before
    if field == "X":
        X[3, 1] = np.nextafter(X[3, 1], 9)
    elif field == "y":
        y[3] = 1 - y[3]
    elif field == "weight":
        weight[3] = 2
    else:
        ids[3] = 99_999
    assert digests() != before


def test_without_leaves_nothing_of_the_rows(shards, helpers):
    X, y, ids = helpers.rows(30)
    X[4, 2] = 777.25
    records = shards(X, y, ids=ids, n_shards=1)[0]
    gone = records.X[:, 2] == 777.25
    left = records.without(gone)
    assert len(left) == 29
    assert left.n_active == 29
    for array in (left.X, left.y, left.rid, left.content, left.u, left.slice):
        assert array.base is None or array.base.nbytes == array.nbytes
    assert np.float64(777.25).tobytes() not in left.X.tobytes()


def test_matching_needs_all_bytes_of_a_key(shards, helpers):
    X, y, ids = helpers.rows(30)
    records = shards(X, y, ids=ids, n_shards=1)[0]
    key = records.rid[5].tobytes()
    assert np.flatnonzero(records.matching(Sought.of({key}))).tolist() == [5]
    assert not records.matching(Sought.of({key[:8] + bytes(8)})).any()
    assert not records.matching(Sought.of(set())).any()
    assert records.keys(records.matching(Sought.of({key}))) == {key}


def test_many_keys_are_found_like_few(shards, helpers):
    X, y, ids = helpers.rows(400)
    records = shards(X, y, ids=ids, n_shards=1)[0]
    own = [row.tobytes() for row in records.rid]
    # Of some, the first half alone is that of a record.
    strangers = {bytes([i]) * 16 for i in range(60)} | {key[:8] + bytes(8) for key in own[::3]}
    for keys in (set(own[::7]), set(own[::2]), set(own), set()):
        expected = [key in keys for key in own]
        assert records.matching(Sought.of(keys | strangers)).tolist() == expected
        assert records.matching(Sought.of(keys)).tolist() == expected


PAYLOAD = np.frombuffer(np.uint64(0x7FF8000000000123).tobytes(), np.float64)[0]


@pytest.mark.parametrize("make", [np.array, lambda a: sp.csr_matrix(np.array(a) + 0.0), pd.DataFrame])
def test_one_zero_and_one_nan(make):
    X = make([[-0.0, PAYLOAD], [1.0, np.nan]])
    if sp.issparse(X):
        X = sp.csr_matrix((np.array([-0.0, PAYLOAD, 1.0, np.nan]), [0, 1, 0, 1], [0, 2, 4]), shape=(2, 2))
    found = normalised(X)
    data = found.data if sp.issparse(found) else np.asarray(found).ravel()
    assert data.tobytes() == np.array([0.0, np.nan, 1.0, np.nan]).tobytes()


def test_equal_records_have_equal_models_whatever_their_zero_and_nan(helpers):
    X, y, ids = helpers.rows(30)
    X[0, 0], X[1, 1] = 0.0, np.nan
    one = helpers.build().fit(X, y, ids=ids)
    again = X.copy()
    again[0, 0], again[1, 1] = -0.0, PAYLOAD
    assert helpers.build().fit(again, y, ids=ids).model_digest == one.model_digest
    # The caller's array stays as it is.
    assert np.signbit(again[0, 0])
    assert again[1, 1].tobytes() == PAYLOAD.tobytes()


def test_sparse_rows_are_canonical(helpers):
    X, y, ids = helpers.rows(30)
    X[X < 0] = 0
    csr = sp.csr_matrix(X)
    unsorted = csr.copy()
    for row in range(30):
        a, b = unsorted.indptr[row : row + 2]
        unsorted.indices[a:b] = unsorted.indices[a:b][::-1].copy()
        unsorted.data[a:b] = unsorted.data[a:b][::-1].copy()
    unsorted.has_sorted_indices = False
    unsorted.has_canonical_format = False
    coo = csr.tocoo()
    halves = sp.coo_matrix(
        (np.tile(coo.data / 2, 2), (np.tile(coo.row, 2), np.tile(coo.col, 2))),
        shape=coo.shape,
    )
    wide = sp.csr_matrix(csr)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    expected = helpers.build().fit(csr, y, ids=ids).model_digest
    kept = unsorted.indices.copy()
    for other in (unsorted, halves, wide, sp.csr_array(csr), csr.tocsc()):
        assert helpers.build().fit(other, y, ids=ids).model_digest == expected
    assert (unsorted.indices == kept).all()


def test_an_explicit_zero_is_kept(shards, helpers):
    # XGBoost takes what is absent for missing, and a stored zero for zero.
    _, y, ids = helpers.rows(30)
    X = sp.csr_matrix((np.zeros(30), np.zeros(30, int), np.arange(31)), shape=(30, 2))
    assert sum(r.X.nnz for r in shards(X, y, ids=ids)) == 30


@pytest.mark.parametrize("alike", ["nothing", "first halves", "ids"])
@pytest.mark.parametrize("weighted", [False, True])
def test_order_by_id_sorts_by_weight_slice_and_id(alike, weighted):
    rng = np.random.default_rng(4)
    for n in (0, 1, 2, 500):
        rid = rng.integers(0, 256, (n, 16), dtype=np.uint8)
        if alike == "first halves":
            rid[:, :8] = rid[:1, :8]
        if alike == "ids" and n:
            rid = rid[rng.integers(0, n, n)]
        slices, weight = rng.integers(0, 4, n), rng.integers(0, 2, n).astype(float) if weighted else None
        order, tied = order_by_id(rid, slices, weight)
        keys = [(weighted and weight[i] <= 0, slices[i], rid[i].tobytes()) for i in range(n)]
        assert order.tolist() == sorted(range(n), key=keys.__getitem__)
        neighbours = pairwise([rid[i].tobytes() for i in order])
        assert tied == any(one == other for one, other in neighbours)
        assert tied or alike != "ids" or n < 500


def test_as_bytes_has_one_row_per_row():
    assert as_bytes(np.zeros(3)).shape == (3, 8)
    assert as_bytes(np.zeros((3, 2), np.float32)).shape == (3, 8)
    assert as_bytes(np.zeros((0, 2))).shape == (0, 16)


@pytest.mark.parametrize(
    "X", [np.arange(8.0).reshape(4, 2), sp.csr_matrix(np.eye(4)), pd.DataFrame({"a": [1, 2, 3, 4]})]
)
def test_take_copies_and_first_does_what_it_says(X):
    taken = take_rows(X, np.array([2, 0]))
    dense = X.toarray() if sp.issparse(X) else np.asarray(X)
    got = taken.toarray() if sp.issparse(taken) else np.asarray(taken)
    assert (got == dense[[2, 0]]).all()
    assert first_rows(X, 3).shape == (3, X.shape[1])
    assert first_rows(X, 4) is X


@pytest.mark.parametrize(
    ("index", "positions"),
    [
        (pd.RangeIndex(5, 8), True),
        (pd.Index([7, 3, 5]), False),
        (pd.Index(["a", "b", "c"]), False),
        (pd.Index([1, 1, 2]), True),
        (pd.Index(["a", None, "c"]), True),
    ],
)
def test_handles_are_a_unique_index_or_positions(index, positions):
    handles, by_position = handles_of(pd.DataFrame({"a": [1, 2, 3]}, index=index), 3)
    assert by_position == positions
    assert list(handles) == (list(range(3)) if positions else index.tolist())


@pytest.mark.parametrize(
    "index", [pd.date_range("2020", periods=3), pd.MultiIndex.from_tuples([(0, 1), (0, 2), (0, 3)])]
)
def test_labels_that_could_pass_for_positions_are_refused(index):
    with pytest.raises(DataError, match="reset_index"):
        handles_of(pd.DataFrame({"a": [1, 2, 3]}, index=index), 3)
