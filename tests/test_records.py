"""The suite that every implementation of `Records` must pass, and what stored records do besides."""

from __future__ import annotations

import pickle
import weakref
from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearnkit import frames
from unlearnkit.blobs import MemoryBlobs
from unlearnkit.cells import pack_manifest, rows_only, unpack_cell
from unlearnkit.data import Sought
from unlearnkit.errors import StateError
from unlearnkit.ingest import ingest
from unlearnkit.learner import Capabilities
from unlearnkit.partition import HashPartition
from unlearnkit.records import MemoryRecords, missing_entries
from unlearnkit.stored import StoredRecords, pack_records

SECRET = b"the secret of these tests"
N, SHARDS, SLICES = 70, 3, 4
ALL = range(SHARDS)


def in_memory(X, y, *, weight=None, ids=None, task="classification"):
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
    partition = HashPartition(SECRET).bind(SHARDS, SLICES, None)
    found = ingest(X, y, weight, ids, schema=None, partition=partition, capabilities=capabilities, name="toy")
    return MemoryRecords(found.records, SLICES, classification=task == "classification"), found.schema


class CountingBlobs(MemoryBlobs):
    """Blobs that know which of them were read."""

    def __init__(self):
        super().__init__()
        self.read = []

    def get(self, name):
        self.read.append(name)
        return super().get(name)


def put(blobs, packed):
    """Store the parts of cells, and fill in the names of their blobs, as the store does."""
    cells = []
    for cell, parts in packed:
        names = dict(zip(parts, blobs.put(parts.values()), strict=True))
        if names:
            names["cell"] = blobs.put([pack_manifest(cell.shard, cell.slice, names)])[0]
        cells.append(replace(cell, parts=tuple(sorted(names.items()))))
    return cells


def stored(memory, schema, blobs=None):
    blobs = CountingBlobs() if blobs is None else blobs
    return StoredRecords(blobs, put(blobs, pack_records(memory, schema)), schema, SHARDS, SLICES)


def purged(records, schema):
    """What a purge leaves: the stale cells rewritten, and the blobs that no cell names any more gone."""
    blobs = records._blobs
    cells = records.cells | {(cell.shard, cell.slice): cell for cell in put(blobs, records.rewritten())}
    named = {blob for cell in cells.values() for _, blob in cell.parts}
    blobs.delete(set(blobs.names()) - named)
    return StoredRecords(blobs, cells.values(), schema, SHARDS, SLICES)


def dense(dtype="f8", shape=(3,)):
    return (np.random.default_rng(1).normal(size=(N, *shape)) * 9).astype(dtype)


def frame():
    i = np.arange(N)
    return pd.DataFrame(
        {
            "number": np.where(i % 5 == 0, np.nan, i * 1.5),
            "nullable": pd.array([None if k % 4 == 0 else k for k in i.tolist()], dtype="Int64"),
            "city": ["Atlantis" if k == 0 else None if k % 9 == 0 else "abc"[k % 3] for k in i.tolist()],
            "text": [None if k % 8 == 0 else f"say {k}" for k in i.tolist()],
            "flag": i % 3 == 0,
        }
    )


LABELS = np.where(np.arange(N) == 0, "gold", np.where(np.arange(N) % 2 == 0, "tin", "lead"))
WEIGHT = np.where(np.arange(N) % 3 == 0, 0.0, 1.0 + np.arange(N))
CASES = {
    "ids": lambda: in_memory(dense(), LABELS, ids=np.arange(N)),
    "positions": lambda: in_memory(dense("f4"), LABELS),
    "weights": lambda: in_memory(dense("i8"), LABELS, weight=WEIGHT, ids=np.arange(N)),
    "rows per id": lambda: in_memory(dense("u1", (2, 3, 4)), LABELS, weight=WEIGHT, ids=np.arange(N) // 6),
    "sparse": lambda: in_memory(sp.random(N, 7, 0.2, format="csr", random_state=0), LABELS, weight=WEIGHT),
    "frame": lambda: in_memory(frame(), LABELS, ids=np.arange(N)),
    "weighted frame": lambda: in_memory(frame(), LABELS, weight=WEIGHT, ids=np.arange(N) // 2),
    "regression": lambda: in_memory(dense(), dense(shape=()), ids=np.arange(N), task="regression"),
    "outputs": lambda: in_memory(dense(), dense(shape=(2,)), weight=WEIGHT, task="regression"),
    "few": lambda: in_memory(dense()[:2], LABELS[:2], ids=[7, 8]),
}


@pytest.fixture(autouse=True)
def _few_words_make_a_text(monkeypatch):
    monkeypatch.setattr(frames, "MAX_VOCABULARY", 10)


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return request.param()


@pytest.fixture(params=["memory", "stored"])
def records(request, case):
    """Each implementation with the same records."""
    memory, schema = case
    return memory if request.param == "memory" else stored(memory, schema)


def assert_same(one, other):
    """All that the protocol gives is equal to the last bit, but for support, which may lag in stale cells."""
    assert (one.n_shards, one.n_slices, one.n_records) == (other.n_shards, other.n_slices, other.n_records)
    for shard in range(one.n_shards):
        assert_same_shard(one.shard(shard), other.shard(shard))
        assert one.facts(shard) == other.facts(shard)
        assert one.addresses(shard) == other.addresses(shard)
        for a, b in zip(one.targets(shard), other.targets(shard), strict=True):
            assert_same_array(a, b)


def assert_same_shard(one, other):
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, pd.DataFrame):
            pd.testing.assert_frame_equal(a, b, check_exact=True, check_column_type="exact", check_index_type="exact")
        elif sp.issparse(a):
            assert a.shape == b.shape
            for name in ("data", "indices", "indptr"):
                assert_same_array(getattr(a, name), getattr(b, name))
        else:
            assert_same_array(a, b)


def assert_same_array(a, b):
    assert type(a) is type(b)
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()
    else:
        assert a == b


def everything(records):
    """The shard of each address, in an order that is the same in every run."""
    return {address: shard for shard in ALL for address in sorted(records.addresses(shard))}


# Both implementations


def test_the_records_are_those_given(records, case):
    memory, _ = case
    assert records.n_records == sum(len(memory.shard(shard)) for shard in ALL)
    assert_same(memory, records)


def test_facts_and_targets_are_those_of_the_rows(records, case):
    _, schema = case
    for shard in ALL:
        rows = records.shard(shard)
        assert records.facts(shard) == rows.facts(SLICES, classification=schema.classes is not None)
        y, weight = records.targets(shard)
        assert (y == rows.y[: rows.n_active]).all()
        assert (weight is None) == (rows.weight is None)
        assert weight is None or (weight > 0).all()


def test_facts_taken_over_are_those_of_what_is_left(records, case):
    _, schema = case
    for shard in ALL:
        records.facts(shard)
    where = everything(records)
    left = records
    for address in list(where)[::9]:
        left, _ = left.without([address], ALL)
        for shard in ALL:
            rows = left.shard(shard)
            assert left.facts(shard) == rows.facts(SLICES, classification=schema.classes is not None)


def test_addresses_are_found_where_they_are_and_nowhere_else(records):
    where = everything(records)
    own = [address for address, shard in where.items() if shard == 1]
    assert records.found([*own, bytes(16)], ALL) == set(own)
    assert records.found(own, [1, 1]) == set(own)
    assert records.found(own, [0, 2]) == set()
    assert records.found([], ALL) == set()
    assert all(type(address) is bytes and len(address) == 16 for address in where)


def test_without_takes_out_all_rows_of_an_address_and_says_so(records, case):
    classification = case[1].classes is not None
    where = everything(records)
    gone = sorted(where)[:: max(1, len(where) // 3)]
    shards = {where[address] for address in gone}
    before = {shard: records.shard(shard) for shard in ALL}
    matching = {shard: before[shard].matching(Sought.of(gone)) for shard in ALL}
    left, removed = records.without(gone, shards)
    assert removed.n_records == sum(int(rows.sum()) for rows in matching.values())
    assert removed.addresses == set(gone)
    active = {shard: matching[shard][: before[shard].n_active] for shard in ALL}
    assert removed.first == {
        shard: int(before[shard].slice[: before[shard].n_active][rows].min())
        for shard, rows in active.items()
        if rows.any()
    }
    assert left.n_records == records.n_records - removed.n_records
    assert left.found(gone, ALL) == set()
    for shard in ALL:
        assert_same_shard(before[shard].without(matching[shard]), left.shard(shard))
        assert not left.addresses(shard) & set(gone)
        assert left.facts(shard) == left.shard(shard).facts(SLICES, classification=classification)


def test_the_value_before_is_as_it_was(records, case):
    memory, _ = case
    before = pickle.loads(pickle.dumps(memory))
    records.without(list(everything(records))[:5], ALL)
    assert_same(before, records)


@pytest.mark.parametrize("let_go", [MemoryRecords.rewrite, pickle.dumps], ids=["rewrite", "pickle"])
def test_memory_holds_what_was_taken_out_until_it_is_rewritten_or_written_out(let_go):
    memory, _ = CASES["weights"]()
    address = min(memory.addresses(0))
    memory = memory.with_shards({0: memory.shard(0).without(np.zeros(len(memory.shard(0)), dtype=bool))}, SLICES)
    old = weakref.ref(memory.shard(0).X)
    memory, removed = memory.without([address], ALL)
    assert removed.n_records
    # To copy what is left takes time, and a request is served before.
    assert old() is not None
    let_go(memory)
    assert old() is None


def test_what_is_not_there_takes_nothing_out(records):
    where = everything(records)
    address, shard = next(iter(where.items()))
    elsewhere = [s for s in ALL if s != shard]
    for addresses, shards in (([bytes(16)], ALL), ([], ALL), ([address], elsewhere), ([address], [])):
        left, removed = records.without(addresses, shards)
        assert (removed.n_records, removed.first, removed.addresses) == (0, {}, frozenset())
        assert_same(records, left)


def test_all_records_can_go(records, case):
    _, schema = case
    left, removed = records.without(list(everything(records)), ALL)
    assert removed.n_records == records.n_records
    assert left.n_records == 0
    assert all(fact.n == 0 for shard in ALL for fact in left.facts(shard))
    assert all(len(left.shard(shard)) == 0 and len(left.targets(shard)[0]) == 0 for shard in ALL)
    entries = [f"class {label!r}" for label in schema.classes or ()]
    assert set(entries) <= set(left.unsupported(schema))
    assert isinstance(left, StoredRecords) or left.support() == {}


def test_a_row_of_weight_zero_touches_a_shard_but_voids_no_step():
    memory, schema = CASES["weights"]()
    for records in (memory, stored(memory, schema)):
        rows = records.shard(0)
        idle = rows.rid[-1].tobytes()
        left, removed = records.without([idle], ALL)
        assert (removed.n_records, removed.first, removed.addresses) == (1, {}, frozenset({idle}))
        assert left.facts(0) == records.facts(0)


def test_unsupported_names_what_only_the_removed_records_had():
    memory, schema = CASES["weighted frame"]()
    assert memory.unsupported(schema) == ()
    column = [c.name for c in schema.columns].index("city")
    shard = next(s for s in ALL if "Atlantis" in memory.shard(s).X["city"].tolist())
    rows = memory.shard(shard)
    row = rows.X["city"].tolist().index("Atlantis")
    assert rows.weight[row] == 0, "whatever the weight"
    gone = [rows.rid[row].tobytes()]
    left, _ = memory.without(gone, ALL)
    assert left.unsupported(schema) == ("column 'city': category 'Atlantis'", "class 'gold'")
    assert schema.columns[column].categories.index("Atlantis") not in left.support()[column]
    isolated, _ = stored(memory, schema).without(gone, ALL)
    # Only the purge reads the features; the class stands in the rows.
    assert isolated.unsupported(schema) == ("class 'gold'",)
    final = purged(isolated, schema)
    assert final.unsupported(schema) == left.unsupported(schema)
    assert final.support() == left.support()


def test_nothing_supports_what_was_never_there():
    _, schema = CASES["frame"]()
    assert len(missing_entries({}, schema)) == 4 + 3


# Sequences


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_both_agree_after_any_sequence(data):
    name = data.draw(st.sampled_from(sorted(CASES)))
    memory, schema = CASES[name]()
    other = stored(memory, schema)
    where = sorted(everything(memory).items())
    for _ in range(data.draw(st.integers(1, 4))):
        picked = data.draw(st.lists(st.sampled_from(where), max_size=12))
        addresses = [address for address, _ in picked] + [bytes(16)]
        shards = data.draw(st.sampled_from([list(ALL), [shard for _, shard in picked]]))
        memory, removed = memory.without(addresses, shards)
        other, same = other.without(addresses, shards)
        assert removed == same
        assert_same(memory, other)
        if data.draw(st.booleans()):
            other = purged(other, schema)
            assert not other.pending
            assert other.support() == memory.support()
            assert other.unsupported(schema) == memory.unsupported(schema)
    fresh = stored(memory, schema)
    assert purged(other, schema).cells == fresh.cells, "a purge leaves the bytes of records that never had the rows"
    assert set(other._blobs.names()) == set(fresh._blobs.names())


# In memory


def test_memory_records_pickle_and_keep_what_they_know():
    memory, _ = CASES["weighted frame"]()
    again = pickle.loads(pickle.dumps(memory))
    assert_same(memory, again)
    assert again.support() == memory.support()
    left, _ = memory.without([min(memory.addresses(0))], [0])
    assert left.facts(1) is memory.facts(1), "what is not touched is not hashed again"
    assert left.facts(0) is not memory.facts(0)
    assert left.shard(1) is memory.shard(1)


# Stored


def test_facts_support_and_counts_read_no_blob(case):
    memory, schema = case
    records = stored(memory, schema)
    for shard in ALL:
        assert records.facts(shard) == memory.facts(shard)
    assert records.n_records == memory.n_records
    assert records.support() == memory.support()
    assert records.unsupported(schema) == memory.unsupported(schema)
    assert records._blobs.read == []


def test_a_request_reads_the_rows_of_its_shards_alone(case):
    memory, schema = case
    records = stored(memory, schema)
    where = everything(memory)
    address = next(address for address, shard in where.items() if shard == where[min(where)])
    shard = where[address]
    records.found([address], [shard])
    left, _ = records.without([address], [shard])
    left.targets(shard)
    left.addresses(shard)
    rows = {dict(c.parts)["rows"] for c in records.cells.values() if c.shard == shard and c.n_records}
    assert set(records._blobs.read) == rows


def test_touched_cells_are_stale_and_the_others_as_they_were(case):
    memory, schema = case
    records = stored(memory, schema)
    address, shard = next(iter(everything(memory).items()))
    left, _ = records.without([address], ALL)
    changed = {place for place, cell in left.cells.items() if cell != records.cells[place]}
    assert changed
    assert all(place[0] == shard for place in changed)
    for place, cell in left.cells.items():
        assert cell.stale == (place in changed)
        assert cell.parts == records.cells[place].parts
    assert left.pending == {address}
    rewritten = list(left.rewritten())
    assert {(cell.shard, cell.slice) for cell, _ in rewritten} == changed
    for cell, parts in rewritten:
        assert not cell.stale
        assert cell.parts == ()
        assert cell.n_records == left.cells[cell.shard, cell.slice].n_records
        assert bool(parts) == bool(cell.n_records)


def test_a_removed_row_is_in_no_rewritten_part():
    X = dense()
    X[5] = [777.25, -12345.678, 3.14159e9]
    memory, schema = in_memory(X, LABELS, ids=np.arange(N))
    shard, row = next(
        (shard, row)
        for shard in ALL
        for row in range(len(memory.shard(shard)))
        if memory.shard(shard).X[row, 0] == 777.25
    )
    rows = memory.shard(shard)
    canary = [*X[5], rows.u[row]]
    secret = [np.float64(value).tobytes() for value in canary] + [rows.rid[row].tobytes(), rows.content[row].tobytes()]
    isolated, _ = stored(memory, schema).without([rows.rid[row].tobytes()], [shard])
    blobs = isolated._blobs
    assert all(any(word in blobs.get(name) for name in blobs.names()) for word in secret)
    assert not any(word in part for _, parts in isolated.rewritten() for part in parts.values() for word in secret)
    left = purged(isolated, schema)
    assert not any(word in blobs.get(name) for name in blobs.names() for word in secret)
    assert left.n_records == N - 1


def test_a_removed_text_is_in_no_rewritten_part():
    X = frame().assign(text=[f"<the words of {k}>" for k in range(N)])
    memory, schema = in_memory(X, LABELS, ids=np.arange(N))
    rows = memory.shard(1)
    word = rows.X["text"][0].encode()
    isolated, _ = stored(memory, schema).without([rows.rid[0].tobytes()], ALL)
    blobs = isolated._blobs
    assert any(word in blobs.get(name) for name in blobs.names())
    purged(isolated, schema)
    assert not any(word in blobs.get(name) for name in blobs.names())


def test_a_purge_is_finished_from_what_the_ledger_knows():
    memory, schema = CASES["weighted frame"]()
    gone = sorted(memory.addresses(0))[:3] + sorted(memory.addresses(2))[:2]
    records = stored(memory, schema)
    isolated, _ = records.without(gone, ALL)
    # The process died: cells and the items of the request are in the ledger.
    reopened = StoredRecords(records._blobs, isolated.cells.values(), schema, SHARDS, SLICES, pending=gone)
    assert_same(isolated, reopened)
    # Without all of the items nothing is given out, and nothing rewritten.
    lost = StoredRecords(records._blobs, isolated.cells.values(), schema, SHARDS, SLICES, pending=gone[1:])
    place = int(memory.shard(0).slice[memory.shard(0).matching(Sought.of({gone[0]}))][0])
    assert isolated.cells[0, place].n_records, "others of the cell remain, so it is read"
    for read in (lost.shard, lost.targets, lost.addresses, lambda shard: lost.found(gone, [shard])):
        with pytest.raises(StateError, match="shard 0"):
            read(0)
    with pytest.raises(StateError):
        list(lost.rewritten())
    assert_same(memory.without(gone, ALL)[0], purged(reopened, schema))


def test_pending_addresses_leave_fresh_cells_alone():
    memory, schema = CASES["ids"]()
    records = stored(memory, schema)
    address = min(memory.addresses(0))
    pending = StoredRecords(records._blobs, records.cells.values(), schema, SHARDS, SLICES, pending=[address])
    assert_same(memory, pending)
    assert list(pending.rewritten()) == []


def test_a_shard_and_slice_without_a_cell_has_no_records(case):
    memory, schema = case
    cells = [cell for cell in stored(memory, schema).cells.values() if cell.n_records]
    records = stored(memory, schema)
    assert_same(records, StoredRecords(records._blobs, cells, schema, SHARDS, SLICES))
    nothing = StoredRecords(MemoryBlobs(), [], schema, SHARDS, SLICES)
    assert_same(memory.without(list(everything(memory)), ALL)[0], nothing)


def test_every_cell_is_packed_once_and_holds_its_own(case):
    memory, schema = case
    packed = list(pack_records(memory, schema))
    assert Counter((cell.shard, cell.slice) for cell, _ in packed) == Counter(
        (s, r) for s in ALL for r in range(SLICES)
    )
    for cell, parts in packed:
        records = unpack_cell(parts, schema)
        assert len(records) == cell.n_records
        assert (records.slice == cell.slice).all()
        assert cell.parts == ()
        assert not parts or len(rows_only(parts["rows"])) == cell.n_records


@pytest.mark.parametrize("name", ["ids", "weighted frame", "sparse"])
def test_blobs_of_another_cell_are_noticed(name):
    memory, schema = CASES[name]()
    records = stored(memory, schema)
    full = [cell for cell in records.cells.values() if cell.n_records]
    one, other = full[0], next(cell for cell in full if cell.shard == full[0].shard and cell is not full[0])
    swapped = records.cells | {
        (one.shard, one.slice): replace(one, parts=other.parts),
        (other.shard, other.slice): replace(other, parts=one.parts),
    }
    broken = StoredRecords(records._blobs, swapped.values(), schema, SHARDS, SLICES)
    for read in (broken.shard, broken.targets, broken.addresses):
        with pytest.raises(StateError):
            read(one.shard)
    with pytest.raises(StateError):
        broken.without(sorted(memory.addresses(one.shard)), ALL)


@pytest.mark.parametrize("field", ["n", "n_records", "digest", "classes", "slice"])
def test_a_ledger_that_promises_other_records_is_noticed(field):
    memory, schema = CASES["weights"]()
    records = stored(memory, schema)
    cell = next(cell for cell in records.cells.values() if cell.n and cell.n_records > cell.n)
    other = {"n": cell.n - 1, "n_records": cell.n_records - 1, "digest": "0" * 64, "classes": (7,), "slice": SLICES - 1}
    if field == "slice":
        cell = replace(records.cells[cell.shard, 0], slice=SLICES - 1)
        changed = [cell]
    else:
        changed = [replace(cell, **{field: other[field]})]
    broken = StoredRecords(records._blobs, changed, schema, SHARDS, SLICES)
    with pytest.raises(StateError):
        broken.shard(cell.shard)
    with pytest.raises(StateError):
        broken.addresses(cell.shard)


def test_a_lost_or_damaged_blob_is_an_error_and_no_loss():
    memory, schema = CASES["frame"]()
    records = stored(memory, schema)
    cell = next(cell for cell in records.cells.values() if cell.n_records)
    names = dict(cell.parts)
    good = records._blobs._data[names["X"]]
    records._blobs._data[names["X"]] = good[:-1] + b"x"
    with pytest.raises(StateError):
        records.shard(cell.shard)
    assert records.addresses(cell.shard) == memory.addresses(cell.shard), "the rows are there"
    records._blobs.delete([names["rows"]])
    # What was looked at before may still be in memory.
    with pytest.raises(StateError):
        records.moved(records.cells.values(), ()).addresses(cell.shard)
    nameless = StoredRecords(records._blobs, [replace(cell, parts=())], schema, SHARDS, SLICES)
    for read in (nameless.shard, nameless.addresses):
        with pytest.raises(StateError, match="no blob"):
            read(cell.shard)
