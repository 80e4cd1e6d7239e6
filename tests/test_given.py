"""Rows that go into a store a shard at a time are stored as rows that were copied first."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from unlearnkit import BandedPartition, HashPartition, SISAClassifier, given, load
from unlearnkit.crowding import repeated
from unlearnkit.errors import DataError, DataWarning
from unlearnkit.ingest import ingest
from unlearnkit.learner import Capabilities
from unlearnkit.records import MemoryRecords
from unlearnkit.stored import pack_records

N, SHARDS, SLICES = 90, 3, 4
SECRET = b"the secret of these tests"
ROWS = np.arange(N)
DENSE = np.random.default_rng(1).normal(size=(N, 3))
LABELS = np.where(ROWS % 3 == 0, "tin", "lead")
FRAME = pd.DataFrame(
    {"number": np.where(ROWS % 5 == 0, np.nan, ROWS * 1.5), "city": ["abc"[k % 3] for k in ROWS.tolist()]}
)
WEIGHT = np.where(ROWS % 4 == 0, 0.0, 1.0 + ROWS)
PRIOR = {0.1: 0.7, 0.4: 0.3}
CASES = {
    "ids": {"ids": ROWS},
    "texts for ids": {"ids": [f"p{i}" for i in ROWS]},
    "no ids": {},
    "rows per id": {"ids": ROWS // 6},
    "weights": {"ids": ROWS // 2, "weight": WEIGHT},
    "weights, no ids": {"weight": WEIGHT},
    "twins, no ids": {"X": np.repeat(DENSE[:30], 3, axis=0), "y": np.repeat(LABELS[:30], 3)},
    "float32, column by column": {"X": np.asfortranarray(DENSE.astype("f4")), "ids": ROWS},
    "images": {"X": ROWS.repeat(12).reshape(N, 3, 4), "ids": ROWS},
    "sparse": {"X": sp.random(N, 7, 0.2, format="csr", random_state=0), "ids": ROWS},
    "sparse, no ids": {"X": sp.random(N, 7, 0.2, format="csr", random_state=0), "weight": WEIGHT},
    "frame": {"X": FRAME, "ids": ROWS // 2},
    "labels of a frame": {"X": FRAME.set_index(pd.Index([f"p{i}" for i in ROWS]))},
    "regression": {"y": DENSE[:, 0], "task": "regression", "ids": ROWS},
    "outputs": {"y": DENSE[:, :2], "task": "regression"},
    "bands": {"ids": ROWS // 2, "probability": np.where(ROWS // 2 % 3, 0.1, 0.4)},
    "no rows": {"X": DENSE[:0], "y": LABELS[:0], "ids": [], "known": True},
}


def taken(*, lean, X=DENSE, y=LABELS, weight=None, ids=None, probability=None, task="classification", known=False):
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
    kind = HashPartition(SECRET) if probability is None else BandedPartition(PRIOR, SECRET)
    options = {"partition": kind.bind(SHARDS, SLICES, None), "capabilities": capabilities, "name": "toy"}
    schema = ingest(DENSE, LABELS, None, ROWS, schema=None, **options).schema if known else None
    return ingest(X, y, weight, ids, schema=schema, probability=probability, lean=lean, **options)


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return request.param


def packed(records, schema):
    return list(pack_records(records, schema))


def test_a_shard_at_a_time_has_the_bytes_of_all_at_once(case, monkeypatch):
    kept, lean = taken(lean=False, **case), taken(lean=True, **case)
    # Small, so that there are several; bands are not taken apart.
    monkeypatch.setattr(given, "_CHUNK", 7)
    in_pieces = taken(lean=True, **case)
    classification = kept.schema.classes is not None
    whole = packed(MemoryRecords(kept.records, SLICES, classification=classification), kept.schema)

    assert packed(lean.given, lean.schema) == whole
    assert packed(in_pieces.given, in_pieces.schema) == whole
    assert sum(cell.n_records for cell, _ in whole) == lean.given.n_records == len(case.get("y", LABELS))


@pytest.mark.parametrize("name", ["ids", "rows per id", "weights", "frame", "regression"])
def test_the_order_in_which_rows_are_given_plays_no_part(name):
    case = {"X": DENSE, "y": LABELS} | CASES[name]
    order = np.random.default_rng(0).permutation(N)
    rows = {what: case[what][order] for what in ("y", "ids", "weight") if what in case}
    X = case["X"].iloc[order] if isinstance(case["X"], pd.DataFrame) else case["X"][order]
    one, other = taken(lean=True, **case), taken(lean=True, **case | rows | {"X": X})
    assert packed(one.given, one.schema) == packed(other.given, other.schema)


def test_a_shard_can_be_asked_for_again_and_in_any_order(case):
    found = taken(lean=True, **case).given
    backwards = [found.shard(shard) for shard in reversed(range(SHARDS))]
    for one, other in zip(reversed(backwards), found, strict=True):
        assert one.content.tobytes() == other.content.tobytes()
        assert one.rid.tobytes() == other.rid.tobytes()


def test_lean_rows_keep_no_hashes():
    assert taken(lean=True, ids=ROWS).given._sorted.placed is None
    assert taken(lean=False, ids=ROWS).given._sorted.placed is not None


def test_bands_are_held_against_each_other_across_pieces(monkeypatch):
    monkeypatch.setattr(given, "_CHUNK", 7)
    ids, probability = ROWS.copy(), np.full(N, 0.1)
    ids[-1], probability[-1] = ids[0], 0.4
    with pytest.raises(DataError, match="1 ids have rows of several"):
        taken(lean=True, ids=ids, probability=probability)


def test_ids_that_change_meanwhile_are_noticed():
    ids = ROWS.copy()
    found = taken(lean=True, ids=ids).given
    ids += 1000
    with pytest.raises(DataError, match="changed while they were read"):
        list(found)


# -- in a fit ---------------------------------------------------------------------------------------------------------


def fitted(store, X=DENSE, y=LABELS, **options):
    model = SISAClassifier(GaussianNB(), n_shards=SHARDS, n_slices=SLICES, random_state=0, store=store)
    return model.fit(X, y, **{"ids": ROWS} | options)


def told(call):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        call()
    return seen


def test_a_store_and_memory_hold_the_same_model(tmp_path):
    memory, stored = fitted(None), fitted(tmp_path / "m")
    assert memory.model_digest_ == stored.model_digest_
    assert memory._ensemble.plan == stored._ensemble.plan
    assert load(tmp_path / "m").verify().exact


def test_a_store_warns_of_copies_as_memory_does_and_points_at_the_call(tmp_path):
    X, y, ids = DENSE.copy(), LABELS.copy(), ROWS // 2
    X[10], y[10] = X[3], y[3]
    line = inspect.getsourcelines(fitted)[1] + 2
    for store in (None, tmp_path / "m"):
        seen = told(lambda store=store: fitted(store, X, y, ids=ids))
        mine = [w for w in seen if issubclass(w.category, DataWarning)]
        assert [str(w.message)[:25] for w in mine] == ["2 rows have an exact copy"]
        assert (mine[0].filename, mine[0].lineno) == (__file__, line)


def test_where_warnings_are_errors_a_store_is_left_without_records(tmp_path):
    X, y = DENSE.copy(), LABELS.copy()
    X[10], y[10] = X[3], y[3]
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        with pytest.raises(DataWarning):
            fitted(tmp_path / "m", X, y)
    assert not list((tmp_path / "m" / "blobs").iterdir())
    # And the same store can be fitted.
    assert fitted(tmp_path / "m").model_digest_ == fitted(None).model_digest_


@pytest.mark.parametrize(
    "wrong",
    [
        {"ids": ROWS[:-1]},
        {"ids": [None, *ROWS[1:]]},
        {"y": LABELS[:-1]},
        {"X": np.where(ROWS[:, None] == 7, np.inf, DENSE)},
    ],
)
def test_what_is_wrong_with_data_is_told_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(DataError):
        fitted(tmp_path / "m", **wrong)
    assert not (tmp_path / "m").exists()


def test_rows_are_as_they_were_after_a_fit_into_a_store(tmp_path):
    X = DENSE.copy()
    X[0, 0] = -0.0
    before = X.tobytes()
    SISAClassifier(DecisionTreeClassifier(), n_shards=2, store=tmp_path / "m", random_state=0).fit(X, LABELS, ids=ROWS)
    assert X.tobytes() == before


def test_repeated_words_are_found_whatever_their_last_bits():
    words = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, size=500)
    several = [words, words[:40], np.array([words[0]])]
    assert repeated(several).tolist() == sorted(words[:40].tolist())
    assert repeated([]).tolist() == []
