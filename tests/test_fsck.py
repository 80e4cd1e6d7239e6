"""fsck: every kind of damage is found, said in words without an id, and put right where the data allows."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier

from unlearnkit import SISAClassifier, Store, load
from unlearnkit.blobs import MemoryBlobs, get_parts
from unlearnkit.cells import MANIFEST
from unlearnkit.errors import DataError, SchemaError, StateError, StoreError
from unlearnkit.fsck import Data, check, heal
from unlearnkit.keys import MemoryKeys
from unlearnkit.ledger import RECEIVED, REPAIRED, Change, MemoryLedger
from unlearnkit.signing import new_signing_pem
from unlearnkit.store import CHAIN, TRAINING

pytest.importorskip("sqlalchemy")

N = 48


def records(n=N):
    rng = np.random.default_rng(1)
    X = np.round(rng.normal(size=(n, 3)), 6)
    return X, (X[:, 0] > 0).astype(int), np.arange(n) + 1000


def model(path, **options):
    sgd = SGDClassifier(loss="log_loss", max_iter=4, tol=None)
    return SISAClassifier(sgd, n_shards=2, n_slices=2, store=path, random_state=3, **options)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A store with a life behind it: two requests that are repaired, and one that is purged."""
    path = tmp_path_factory.mktemp("original") / "m.sisa"
    X, y, ids = records()
    clf = model(path).fit(X, y, ids=ids)
    clf.forget([1003, 1011])
    clf.forget([1020])
    clf.forget([1030], repair=False)
    clf._ensemble.store.ledger.close()
    return path


@pytest.fixture
def path(original, tmp_path):
    return shutil.copytree(original, tmp_path / "m.sisa")


@pytest.fixture
def store(path):
    store = Store.at(path)
    yield store
    if "ledger" in vars(store):
        store.ledger.close()


def whole():
    X, y, ids = records()
    return Data(X, y, None, ids)


def digest_of(path):
    with closing_load(path) as clf:
        clf.repair()
        return clf.model_digest_


class closing_load:  # noqa: N801
    """A loaded model whose ledger is let go of."""

    def __init__(self, path):
        self.clf = load(path)

    def __enter__(self):
        return self.clf

    def __exit__(self, *_):
        self.clf._ensemble.store.ledger.close()


@pytest.fixture(scope="module")
def expected(original, tmp_path_factory):
    """The digest once all is repaired; that of a fit without the forgotten."""
    X, y, ids = records()
    kept = ~np.isin(ids, [1003, 1011, 1020, 1030])
    with closing_load(shutil.copytree(original, tmp_path_factory.mktemp("expected") / "m.sisa")) as clf:
        return clf.pinned().fit(X[kept], y[kept], ids=ids[kept]).model_digest_


def kinds(findings):
    return {(finding.kind, finding.healed) for finding in findings}


def snapshot(path):
    """Every file of a store that says anything, as bytes."""
    names = [p for p in sorted(path.rglob("*")) if p.is_file() and not p.name.endswith((".lock", "-shm", "-wal"))]
    return {str(p.relative_to(path)): (p.read_bytes(), p.stat().st_mode) for p in names}


def blob(path, name):
    return path / "blobs" / name


def flip(file, at=-1):
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def alter(path, statement, *values):
    """Change a row behind the back of the ledger."""
    with closing(sqlite3.connect(path / "ledger.sqlite")) as connection:
        changed = connection.execute(statement, values).rowcount
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert changed >= 1


# -- what is right ----------------------------------------------------------------------------------------------------


def test_nothing_is_wrong_with_a_store_and_its_open_requests(path, store):
    before = snapshot(path)
    assert check(store) == ()
    assert heal(store, opener=load, data=whole()) == ()
    store.ledger.close()
    assert snapshot(path) == before


def test_nothing_is_wrong_at_any_point_of_a_life(path):
    X, y, ids = records()
    store = Store.at(path)
    store.submit([[1001], [1002, 999_999], [999_999]])
    assert check(store) == ()
    with closing_load(path) as clf:
        assert check(Store.at(path)) == ()
        clf.repair()
        assert check(Store.at(path)) == ()
    model(path).fit(X, y, ids=ids, forgotten="readmit")
    assert check(Store.at(path)) == ()


@pytest.mark.parametrize("ids", [None, np.arange(N)])
def test_nothing_is_wrong_with_a_model_that_was_in_memory(tmp_path, ids):
    X, y, _ = records()
    weight = np.where(np.arange(N) % 5 == 0, 0.0, 1.0)
    clf = model(None).fit(X, y, sample_weight=weight, ids=ids)
    clf.forget([7])
    clf.forget([8], repair=False)
    clf.save(tmp_path / "m.sisa")
    assert check(Store.at(tmp_path / "m.sisa")) == ()
    clf.repair()
    assert check(Store.at(tmp_path / "m.sisa")) == ()


def test_a_ledger_and_blobs_of_other_kinds_are_checked_too():
    X, y, ids = records()
    store = Store(MemoryBlobs(), MemoryLedger(), keys=MemoryKeys())
    clf = model(store).set_params(random_state=None).fit(X, y, ids=ids)
    clf.forget([1003])
    assert check(store) == ()
    (victim,) = [name for part, name in store.ledger.cells()[0].parts if part == "X"]
    store.blobs._data[victim] = b"other"
    assert kinds(heal(store)) == {("cell", False)}
    assert kinds(heal(store, data=whole())) == {("cell", True)}


def test_without_a_store_or_a_model_there_is_nothing_to_check(tmp_path):
    with pytest.raises(StoreError, match="no store"):
        check(Store.at(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    empty = Store.at(tmp_path / "empty")
    empty.create()
    with pytest.raises(StoreError, match="no model yet"):
        check(empty)


# -- blobs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [flip, lambda file: file.write_bytes(b""), lambda file: file.unlink()])
def test_a_damaged_state_is_trained_again(path, store, expected, damage):
    for checkpoint in store.ledger.checkpoints().values():
        damage(blob(path, checkpoint.parts[0][1]))
        break
    (finding,) = check(store)
    assert finding.kind == "state"
    assert finding.place == f"shard {checkpoint.shard}, slice {checkpoint.slice}"
    assert kinds(heal(store, opener=load)) == {("state", True)}
    assert check(store) == ()
    assert digest_of(path) == expected


def test_without_a_learner_a_lost_state_waits_for_repair(path, store, expected):
    checkpoint = next(iter(store.ledger.checkpoints().values()))
    flip(blob(path, checkpoint.parts[0][1]))
    assert kinds(heal(store)) == {("state", True)}
    assert store.ledger.checkpoint(checkpoint.key) is None
    assert store.ledger.note(TRAINING)
    assert digest_of(path) == expected


@pytest.mark.parametrize("part", ["rows", "X", MANIFEST])
@pytest.mark.parametrize("damage", [flip, lambda file: file.unlink()])
def test_damaged_data_comes_back_from_the_original(path, store, expected, part, damage):
    before = snapshot(path)
    cell = next(cell for cell in store.ledger.cells() if cell.n_records)
    damage(blob(path, dict(cell.parts)[part]))
    (finding,) = check(store)
    assert (finding.kind, finding.place) == ("cell", f"shard {cell.shard}, slice {cell.slice}")
    if part != MANIFEST:
        damaged = snapshot(path)
        assert kinds(heal(store, opener=load)) == {("cell", False)}
        assert snapshot(path) == damaged
    assert kinds(heal(store, data=whole())) == {("cell", True)}
    store.ledger.close()
    assert snapshot(path) == before
    assert digest_of(path) == expected


def test_other_records_are_not_taken_for_the_original(path, store):
    cell = next(cell for cell in store.ledger.cells() if cell.n_records)
    flip(blob(path, dict(cell.parts)["X"]))
    X, y, ids = records()
    for wrong in (Data(X + 1, y, None, ids), Data(X, 1 - y, None, ids), Data(X[:9], y[:9], None, ids[:9])):
        assert kinds(heal(store, data=wrong)) == {("cell", False)}
    with pytest.raises(SchemaError, match="with ids"):
        heal(store, data=Data(X, y))
    with pytest.raises(DataError):
        heal(store, data=Data(X, y[:3], None, ids))


def test_data_of_a_request_that_is_not_purged_yet_comes_back_without_it(path, store, expected):
    """The process died between the two: stale blobs, and in them a damaged one."""
    with closing_load(path) as clf:
        eraser, ensemble = clf._ensemble._eraser, clf._ensemble
        clf.repair()
        store.submit([[1040]])
        eraser.isolate(ensemble._build)
    (stale,) = [cell for cell in store.ledger.cells() if cell.stale]
    # The states that the record had influenced are not in the plan any more.
    assert kinds(check(store)) == {("orphan", False)}
    flip(blob(path, dict(stale.parts)["rows"]))
    assert kinds(check(store)) == {("orphan", False), ("cell", False)}
    assert kinds(heal(store, data=whole())) == {("orphan", True), ("cell", True)}
    X, y, ids = records()
    kept = ~np.isin(ids, [1003, 1011, 1020, 1030, 1040])
    with closing_load(path) as clf:
        clf.repair()
        assert clf.model_digest_ == clf.pinned().fit(X[kept], y[kept], ids=ids[kept]).model_digest_
        assert clf.receipts()[-1].n_records == 1
    assert check(store) == ()


def test_orphans_and_temporary_files_are_destroyed(path, store):
    store.blobs.put([b"nobody's"])
    for name in ("blobs/.tmp-1", "keys/.tmp-2", ".tmp-3", "blobs/README"):
        (path / name).write_bytes(b"cut off")
    assert kinds(check(store)) == {("orphan", False), ("temporary", False)}
    assert len(check(store)) == 5
    assert kinds(heal(store)) == {("orphan", True), ("temporary", True)}


def test_a_folder_among_the_blobs_is_left_to_its_owner(path, store):
    (path / "blobs" / "mine").mkdir()
    (finding,) = heal(store)
    assert (finding.kind, finding.healed) == ("temporary", False)
    assert "move it away" in finding.remedy


def test_modes_are_set_back(path, store):
    files = [path / "keys/signing.key", path / "ledger.sqlite", next((path / "blobs").iterdir())]
    for file in files:
        file.chmod(0o644)
    # And the files beside the ledger.
    assert len(check(store)) == 5
    assert kinds(heal(store)) == {("mode", True)}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


# -- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["partition.key", "pseudonym.key", "signing.key"])
@pytest.mark.parametrize("damage", ["gone", "nonsense", "other"])
def test_another_secret_is_found_and_is_nothing_to_heal(path, original, name, damage):
    file = path / "keys" / name
    other = new_signing_pem() if name == "signing.key" else b"ab" * 32
    _ = file.unlink() if damage == "gone" else file.write_bytes(b"?" if damage == "nonsense" else other)
    changed = snapshot(path)
    found = heal(Store.at(path), opener=load, data=whole())
    assert kinds(found) == {("secret", False)}
    assert all("backup" in finding.remedy for finding in found)
    assert snapshot(path) == changed
    shutil.copy(original / "keys" / name, file)
    assert check(Store.at(path)) == ()


def test_with_another_partition_secret_no_request_is_taken_for_unknown(path):
    (path / "keys/partition.key").write_text("ab" * 32)
    for opened in (load, lambda p: Store.at(p).submit([[1001]])):
        with pytest.raises(StoreError, match="not the one"):
            opened(path)


@pytest.mark.parametrize(
    "damage", [lambda file: flip(file, 3), lambda file: flip(file, 60), lambda file: file.unlink()]
)
def test_public_keys_are_published_again(path, store, damage):
    before = (path / "keys/signing.pub").read_bytes()
    damage(path / "keys/signing.pub")
    assert kinds(heal(store)) == {("secret", True)}
    assert (path / "keys/signing.pub").read_bytes() == before


def test_a_rotated_signing_key_is_published_once_it_has_signed(path, store):
    old = (path / "keys/signing.pub").read_text()
    (path / "keys/signing.key").write_bytes(new_signing_pem())
    assert kinds(heal(Store.at(path))) == {("secret", False)}
    with closing_load(path) as clf:
        clf.forget([1005])
    assert "secret" in {finding.kind for finding in check(Store.at(path))}
    found = heal(Store.at(path))
    assert {finding.healed for finding in found} == {True}
    assert (path / "keys/signing.pub").read_text().endswith(old)


# -- ledger -----------------------------------------------------------------------------------------------------------

DERIVED = {
    "a key of the plan": "DELETE FROM unlearnkit_plan WHERE key = (SELECT min(key) FROM unlearnkit_plan)",
    "the plan": "UPDATE unlearnkit_plan SET seal = 'x'",
    "a checkpoint": "UPDATE unlearnkit_checkpoints SET parts = '[]'",
    "a cell": "UPDATE unlearnkit_cells SET n = n + 1 WHERE shard = 0 AND slice = 1",
    "a missing cell": "DELETE FROM unlearnkit_cells WHERE shard = 1 AND slice = 0",
    "all cells": "UPDATE unlearnkit_cells SET digest = 'x'",
    "the facts": "UPDATE unlearnkit_meta SET epoch = epoch + 1",
    "the parts": "DELETE FROM unlearnkit_parts",
}


def kept_of(ledger):
    """What neither healing nor the training that comes with it changes: the third request waits for that."""
    statements = ledger.statements()
    return ledger.cells(), ledger.keys(), ledger.tombstones(), ledger.requests()[:2], statements[:5]


@pytest.mark.parametrize("what", DERIVED)
def test_what_follows_from_the_data_is_derived_again(path, store, expected, what):
    before = kept_of(store.ledger)
    alter(path, DERIVED[what])
    found = check(store)
    assert kinds(found) == {("ledger", False)}
    assert kinds(heal(store, opener=load)) <= {("ledger", True), ("state", True), ("plan", True)}
    assert check(store) == ()
    assert kept_of(store.ledger) == before
    assert digest_of(path) == expected


def arrival_cut_short(store):
    """Blobs of a slice that was to arrive, without the transaction that would have named them."""
    cell = next(cell for cell in store.ledger.cells() if cell.n_records)
    parts = get_parts(store.blobs, ((part, name) for part, name in cell.parts if part != MANIFEST))
    store.put_cells([(replace(cell, slice=2), parts)])
    assert kinds(check(store)) == {("orphan", False)}


@pytest.mark.parametrize("stray", [False, True])
def test_states_that_were_dropped_with_damaged_facts_are_trained_again(path, store, expected, stray):
    if stray:
        arrival_cut_short(store)
    cells = store.ledger.cells()
    alter(path, DERIVED["a checkpoint"])
    alter(path, DERIVED["the facts"])
    heal(store)
    assert check(store) == ()
    assert not store.ledger.checkpoints()
    assert store.ledger.cells() == cells
    with closing_load(path) as clf:
        assert clf.degraded_shards_ == ()
        assert clf.model_digest_ == expected


VANISHED = {
    "a cell": "DELETE FROM unlearnkit_cells WHERE shard = 1 AND slice = 0",
    "a key": "DELETE FROM unlearnkit_plan WHERE key = (SELECT min(key) FROM unlearnkit_plan)",
    "a checkpoint": "DELETE FROM unlearnkit_checkpoints WHERE slice = 0",
    "a request": "DELETE FROM unlearnkit_requests WHERE sequence = 4",
    "the settings": "DELETE FROM unlearnkit_notes WHERE name = 'settings'",
}


@pytest.mark.parametrize("what", VANISHED)
def test_a_row_that_has_vanished_is_missed_before_anything_is_built_on_the_rest(path, store, what):
    store.submit([[1007]])
    store.ledger.close()
    alter(path, VANISHED[what])
    before = snapshot(path)
    with pytest.raises(StateError, match="rows are missing"):
        load(path)
    assert {name: value for name, value in snapshot(path).items() if name in before} == before


def test_states_survive_where_only_the_plan_was_damaged(path, store):
    before = store.ledger.checkpoints()
    alter(path, DERIVED["the plan"])
    heal(store)
    assert store.ledger.checkpoints() == before


def test_a_cell_that_is_lost_with_its_blobs_needs_the_data(path, store, expected):
    cell = next(cell for cell in store.ledger.cells() if cell.n_records)
    alter(path, f"DELETE FROM unlearnkit_cells WHERE shard = {cell.shard} AND slice = {cell.slice}")
    blob(path, dict(cell.parts)[MANIFEST]).unlink()
    changed = snapshot(path)
    assert kinds(heal(store, opener=load)) == {("ledger", False)}
    store.ledger.close()
    assert snapshot(path) == changed
    assert kinds(heal(store, opener=load, data=whole())) == {("ledger", True)}
    assert digest_of(path) == expected


def test_a_stale_cell_is_derived_as_it_was(path, store):
    with closing_load(path) as clf:
        clf.repair()
        store.submit([[1040]])
        clf._ensemble._eraser.isolate(clf._ensemble._build)
    before = store.ledger.cells()
    assert any(cell.stale for cell in before)
    alter(path, DERIVED["all cells"])
    assert kinds(heal(store)) == {("ledger", True)}
    assert store.ledger.cells() == before


LOST = {
    "a request": "UPDATE unlearnkit_requests SET facts = '{}' WHERE sequence = 2",
    "a missing request": "DELETE FROM unlearnkit_requests WHERE sequence = 3",
    "a tombstone": "DELETE FROM unlearnkit_tombstones WHERE sequence = 1",
    "a statement": "UPDATE unlearnkit_statements SET envelope = envelope || ' ' WHERE number = 0",
    "the settings": "UPDATE unlearnkit_notes SET value = '{}' WHERE name = 'settings'",
}


@pytest.mark.parametrize("what", LOST)
def test_what_nobody_can_derive_stays_a_finding(path, original, what):
    alter(path, LOST[what])
    changed = snapshot(path)
    store = Store.at(path)
    found = heal(store, opener=load, data=whole())
    assert kinds(found) == {("ledger", False)}
    assert "restore the ledger from a backup" in found[0].remedy
    store.ledger.close()
    assert snapshot(path) == changed
    shutil.copy(original / "ledger.sqlite", path / "ledger.sqlite")
    assert check(Store.at(path)) == ()


def test_a_file_that_is_no_ledger_is_a_finding(path):
    (path / "ledger.sqlite").write_bytes(b"")
    for found in (check(Store.at(path)), heal(Store.at(path), data=whole())):
        assert kinds(found) == {("ledger", False)}


def test_requests_that_cannot_be_are_findings(store):
    first = store.ledger.request(1)
    wrong = {
        "no state": replace(first, state="done"),
        "lacks repaired_at": replace(first, facts={k: v for k, v in first.facts.items() if k != "repaired_at"}),
        "has removed records": replace(first, state=RECEIVED),
        "no statement says that it is repaired": replace(store.ledger.request(3), state=REPAIRED),
    }
    for text, request in wrong.items():
        kept = store.ledger.request(request.sequence)
        store.ledger.apply(Change(requests=(request,)))
        assert any(text in finding.what for finding in check(store)), text
        store.ledger.apply(Change(requests=(kept,)))
    assert check(store) == ()
    store.ledger.apply(Change(tombstones={"ab:cd": 1}))
    assert "tombstone" in {finding.kind for finding in check(store)}


def test_a_chain_that_is_too_short_is_found(store):
    store.ledger.apply(Change(notes={CHAIN: {"number": 99, "digest": "x" * 64}}))
    texts = [finding.what for finding in check(store) if finding.kind == "statement"]
    assert any("99 are known to exist" in text for text in texts)
    assert any("not the one that the ledger remembers" in text for text in texts)


def test_a_plan_that_is_not_of_the_data_is_put_right(store, path, expected):
    keys = store.ledger.keys()
    store.ledger.apply(Change(keys=keys | {"f" * 64}))
    assert kinds(check(store)) == {("plan", False)}
    assert kinds(heal(store, opener=load)) == {("plan", True)}
    assert store.ledger.keys() == keys
    assert digest_of(path) == expected


def test_a_row_of_a_forgotten_id_is_found(path, store, original):
    """Ledger and blobs are as if the request had not been carried out, but the tombstone is there."""
    with closing_load(path) as clf:
        (pseudonym,) = clf._ensemble._eraser.addresses.items([1001]).values()
    sequence = store.ledger.requests()[0].sequence
    store.ledger.apply(
        Change(
            requests=(replace(store.ledger.request(sequence), pseudonyms=frozenset({pseudonym})),),
            tombstones={pseudonym: sequence},
        )
    )
    (finding,) = [finding for finding in check(store) if "ids that are forgotten" in finding.what]
    assert finding.kind == "tombstone"
    assert "1001" not in str(finding)


def test_features_that_are_not_those_of_the_rows_are_found(path, store):
    """Blobs of matching names, swapped by who can write the ledger: names alone do not tell."""
    cell = next(cell for cell in store.ledger.cells() if cell.n_records)
    parts = dict(cell.parts)
    records = load(path)._ensemble._build.records.shard(cell.shard)
    X = records.X[records.slice == cell.slice]
    from unlearnkit.parts import pack_array

    (parts["X"],) = store.blobs.put([pack_array(X[::-1])])
    store.ledger.apply(Change(cells=(replace(cell, parts=tuple(sorted(parts.items()))),)))
    assert ("cell", False) in kinds(check(store))
    assert ("cell", True) in kinds(heal(store, data=whole()))
    assert check(store) == ()


def test_findings_hold_no_id_and_no_value(path, store):
    X, _, ids = records()
    alter(path, LOST["a request"])
    flip(path / "keys/signing.pub", 3)
    for name in [dict(cell.parts)["X"] for cell in store.ledger.cells() if cell.n_records]:
        flip(blob(path, name))
    text = " ".join(f"{finding.place} {finding.what} {finding.remedy}" for finding in check(store))
    assert not {str(i) for i in ids} & set(text.split())
    assert not [value for value in X.ravel().tolist() if str(value) in text]
