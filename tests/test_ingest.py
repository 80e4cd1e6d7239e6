from __future__ import annotations

import uuid

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from unlearnkit.errors import CapabilityError, DataError, SchemaError
from unlearnkit.ingest import ingest
from unlearnkit.learner import Capabilities
from unlearnkit.partition import HashPartition

CAPABILITIES = Capabilities("classification", sample_weight=True, sparse=True, frames=True, categorical=True)
BOUND = HashPartition(b"x" * 16).bind(3, 2, None)


def take(X, y, sample_weight=None, *, ids=None, schema=None, capabilities=CAPABILITIES):
    return ingest(X, y, sample_weight, ids, schema=schema, partition=BOUND, capabilities=capabilities, name="toy")


def facts(ingested):
    return [records.facts(2, classification=True) for records in ingested.records]


X = np.arange(24.0).reshape(12, 2)
Y = np.arange(12) % 2
IDS = np.arange(12) + 100


@pytest.mark.parametrize(
    "ids", [IDS, [f"id {i}" for i in range(12)], [uuid.UUID(int=i) for i in range(12)], [bytes([i]) for i in range(12)]]
)
def test_records_are_a_function_of_their_set(ids):
    order = np.random.default_rng(0).permutation(12)
    there = take(X, Y, ids=ids)
    assert facts(there) == facts(take(X[order], Y[order], ids=[ids[i] for i in order]))
    assert sum(len(r) for r in there.records) == 12


def test_rows_of_one_id_are_together():
    found = take(X, Y, ids=IDS // 3)
    cells = {}
    for shard, records in enumerate(found.records):
        for rid, r in zip(records.rid, records.slice, strict=True):
            cells.setdefault(rid.tobytes(), set()).add((shard, int(r)))
    assert {len(c) for c in cells.values()} == {1}


def test_without_ids_equal_content_shares_a_cell_and_position_plays_no_part():
    doubled = np.concatenate([X, X])
    found = take(doubled, np.concatenate([Y, Y]))
    for records in found.records:
        rids = [r.tobytes() for r in records.rid]
        assert all(rids.count(r) == 2 for r in rids)
        assert len({h.tobytes() for h in records.handle}) == len(records)
    order = np.random.default_rng(0).permutation(12)
    assert facts(take(X, Y)) == facts(take(X[order], Y[order]))


def test_with_ids_there_are_no_handles():
    assert all(r.handle is None for r in take(X, Y, ids=IDS).records)
    assert take(X, Y, ids=IDS).partition.id_type == "int"
    assert take(X, Y).partition.id_type is None


@pytest.mark.parametrize(
    ("weight", "error", "match"),
    [
        (np.ones(11), DataError, "expected .12"),
        (np.ones((12, 1)), DataError, "1D array or scalar"),
        (np.r_[np.nan, np.ones(11)], DataError, "finite"),
        (np.r_[-1.0, np.ones(11)], DataError, "not negative"),
        (["a"] * 12, DataError, "convert"),
    ],
)
def test_weights_that_cannot_be_used(weight, error, match):
    with pytest.raises(error, match=match):
        take(X, Y, sample_weight=weight, ids=IDS)


def test_weights_where_the_model_takes_none():
    with pytest.raises(CapabilityError, match="does not take sample_weight"):
        take(X, Y, sample_weight=np.ones(12), capabilities=Capabilities("classification"))


def test_a_scalar_weight_is_for_all():
    assert facts(take(X, Y, sample_weight=2.0, ids=IDS)) == facts(take(X, Y, sample_weight=np.full(12, 2.0), ids=IDS))


@pytest.mark.parametrize(
    ("rows", "match"), [(np.float64(1), "2D array"), (5, "scalar"), (object(), "scalar"), (X[:0], "0 sample")]
)
def test_what_is_no_table(rows, match):
    with pytest.raises(DataError, match=match):
        take(rows, [])


# -- held to a schema ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [X, sp.csr_matrix(X), pd.DataFrame({"a": X[:, 0], "c": pd.Categorical(["u", "v"] * 6), "t": ["p", "q"] * 6})],
)
def test_no_rows_at_all_fit_a_schema(rows):
    schema = take(rows, Y, ids=IDS).schema
    empty = rows.iloc[:0] if hasattr(rows, "iloc") else rows[:0]
    found = take(empty, [], ids=[], schema=schema)
    assert [len(r) for r in found.records] == [0, 0, 0]


def test_one_class_fits_a_schema():
    schema = take(X, Y, ids=IDS).schema
    assert sum(len(r) for r in take(X[:3], [1, 1, 1], ids=[1, 2, 3], schema=schema).records) == 3


def test_what_does_not_fit_the_schema():
    with_ids, without = take(X, Y, ids=IDS).schema, take(X, Y).schema
    weighted = take(X, Y, np.ones(12), ids=IDS).schema
    with pytest.raises(SchemaError, match="fit it with them"):
        take(X, Y, schema=with_ids)
    with pytest.raises(SchemaError, match="fit it without them"):
        take(X, Y, ids=IDS, schema=without)
    with pytest.raises(SchemaError, match="ids are str"):
        take(X, Y, ids=[str(i) for i in IDS], schema=with_ids)
    with pytest.raises(SchemaError, match="without sample weights"):
        take(X, Y, np.ones(12), ids=IDS, schema=with_ids)
    assert facts(take(X, Y, ids=IDS, schema=weighted)) == facts(take(X, Y, np.ones(12), ids=IDS))


def test_an_unknown_category_is_refused_at_fit_and_missing_at_predict():
    frame = pd.DataFrame({"c": ["u", "v"] * 6})
    capabilities = Capabilities("classification", frames=True, categorical=True, missing_values=True)
    schema = take(frame, Y, ids=IDS, capabilities=capabilities).schema
    new = pd.DataFrame({"c": ["u", "canary"] * 6})
    with pytest.raises(SchemaError, match="6 rows have a value in column 'c'") as caught:
        take(new, Y, ids=IDS, schema=schema, capabilities=capabilities)
    assert "canary" not in str(caught.value)
    assert schema.features(new, capabilities, "toy")["c"].isna().sum() == 6
    with pytest.raises(SchemaError, match="missing \\['c'\\]"):
        take(pd.DataFrame({"d": ["u"] * 12}), Y, ids=IDS, schema=schema, capabilities=capabilities)


def test_the_vocabulary_does_not_depend_on_the_frame_at_hand():
    values = ["u", "v", "w"] * 4
    schema = take(pd.DataFrame({"c": values}), Y, ids=IDS).schema
    spellings = [
        pd.DataFrame({"c": values}),
        pd.DataFrame({"c": pd.Series(values, dtype=object)}),
        pd.DataFrame({"c": pd.Categorical(values, categories=["w", "v", "u"])}),
    ]
    found = [facts(take(frame, Y, ids=IDS, schema=schema)) for frame in spellings]
    assert found[0] == found[1] == found[2]
