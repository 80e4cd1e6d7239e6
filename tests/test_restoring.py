"""A folder of blobs from an old backup beside the current ledger: what was forgotten since stays forgotten."""

from __future__ import annotations

import random
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import SGDClassifier

from unlearnkit import SISAClassifier, Store, load
from unlearnkit.cells import MANIFEST
from unlearnkit.errors import KeyMissingError, StateError
from unlearnkit.fsck import Data, check, heal
from unlearnkit.policy import Policy
from unlearnkit.restoring import restore

pytest.importorskip("sqlalchemy")

N = 40


def records():
    rng = np.random.default_rng(7)
    X = rng.normal(size=(N, 3))
    return X, (X[:, 1] > 0).astype(int), np.arange(N) + 1000


def model(store):
    sgd = SGDClassifier(loss="log_loss", max_iter=3, tol=None)
    return SISAClassifier(sgd, n_shards=2, n_slices=2, store=store, random_state=4)


@contextmanager
def opened(store):
    clf = load(store)
    try:
        yield clf
    finally:
        clf._ensemble.store.ledger.close()


def files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def put_back(path, backup):
    shutil.rmtree(path / "blobs")
    shutil.copytree(backup, path / "blobs")


def rest_of(X, y, ids, gone):
    kept = ~np.isin(ids, list(gone))
    return X[kept], y[kept], ids[kept]


# -- histories --------------------------------------------------------------------------------------------------------


def live(path, seed, *, container=np.asarray, weight=None, explicit=True):
    """A random life, the blobs as they were before each of its requests, and what was forgotten in it."""
    rng = random.Random(seed)
    X, y, ids = records()
    model(path).fit(container(X), y, sample_weight=weight, ids=ids if explicit else None)
    names = ids if explicit else np.arange(N)
    gone, backups = set(), []
    for step in range(5):
        backups.append(shutil.copytree(path / "blobs", path.with_name(f"backup{step}")))
        request = rng.sample(names.tolist(), rng.choice([1, 1, 3]))
        with opened(path) as clf:
            if rng.random() < 0.3:
                clf._ensemble.store.submit([request])
            else:
                clf.forget(request, repair=rng.random() < 0.6)
        gone |= set(request)
    return backups, gone


CASES = {
    "array": {},
    "sparse": {"container": sp.csr_matrix},
    "frame": {"container": lambda X: pytest.importorskip("pandas").DataFrame(X, columns=list("abc"))},
    "weighted": {"weight": np.where(np.arange(N) % 4 == 0, 0.0, 1.0)},
    "handles": {"explicit": False},
}


@pytest.mark.parametrize(("case", "seed"), [*((case, 0) for case in CASES), ("array", 1)])
def test_an_old_folder_of_blobs_brings_nothing_back(tmp_path, case, seed):
    path, options = tmp_path / "m.sisa", CASES[case]
    backups, gone = live(path, seed, **options)
    X, y, ids = records()
    weight, explicit = options.get("weight"), options.get("explicit", True)
    names = ids if explicit else np.arange(N)
    kept = ~np.isin(names, list(gone))
    for backup in backups if case == "array" else backups[::3]:
        put_back(path, backup)
        before = load(path).predict_proba(options.get("container", np.asarray)(X))
        with opened(path) as clf:
            clf.repair()
            twin = clf.pinned().fit(
                options.get("container", np.asarray)(X)[kept]
                if case != "frame"
                else CASES["frame"]["container"](X)[kept],
                y[kept],
                sample_weight=None if weight is None else weight[kept],
                ids=ids[kept] if explicit else None,
            )
            assert clf.model_digest_ == twin.model_digest_
            assert before.shape == (N, 2)
            assert clf.verify().exact
        stored = b"".join(files(path / "blobs").values())
        assert not [row for row in X[~kept] if row.tobytes() in stored]
        assert check(Store.at(path)) == ()
    # And later requests hold.
    last = int(names[kept][0])
    with opened(path) as clf:
        assert clf.forget([last]).n_records == 1
        assert clf.forget([*gone]).already_forgotten == len(gone)
    assert check(Store.at(path)) == ()


@pytest.fixture
def forgotten(tmp_path):
    """A store after one request, and the blobs from before."""
    path = tmp_path / "m.sisa"
    X, y, ids = records()
    with opened(model(path).fit(X, y, ids=ids).store) as clf:
        backup = shutil.copytree(path / "blobs", tmp_path / "backup")
        clf.forget([1004])
    return path, backup


def test_the_same_bytes_come_back(forgotten):
    path, backup = forgotten
    before = files(path / "blobs")
    put_back(path, backup)
    with opened(path):
        pass
    assert files(path / "blobs") == before


def test_a_whole_folder_is_not_looked_into(forgotten, monkeypatch):
    path, _ = forgotten
    clf = load(path)
    reads = []
    monkeypatch.setattr(type(clf._ensemble.store.blobs), "get", lambda self, name: reads.append(name))
    assert restore(clf._ensemble.store, clf._ensemble.blueprint) == 0
    assert reads == []


def test_a_request_between_isolation_and_purge_is_applied_to_older_blobs(forgotten):
    path, backup = forgotten
    clf = load(path)
    clf._ensemble.store.submit([[1005]])
    clf._ensemble._eraser.isolate(clf._ensemble._build)
    clf._ensemble.store.ledger.close()
    put_back(path, backup)
    X, y, ids = records()
    with opened(path) as clf:
        clf.repair()
        X, y, ids = rest_of(X, y, ids, {1004, 1005})
        assert clf.model_digest_ == clf.pinned().fit(X, y, ids=ids).model_digest_
    assert check(Store.at(path)) == ()


def test_it_works_without_the_learner(forgotten):
    from unlearnkit.ensemble import SisaEnsemble

    path, backup = forgotten
    put_back(path, backup)
    SisaEnsemble.without_learner(Store.at(path))
    assert check(Store.at(path)) == ()


def test_a_tombstone_whose_time_is_over_still_leaves_its_rows_out(tmp_path):
    path = tmp_path / "m.sisa"
    X, y, ids = records()
    store = Store.at(path, policy=Policy(retention_days=0))
    model(store).fit(X, y, ids=ids)
    backup = shutil.copytree(path / "blobs", tmp_path / "backup")
    with opened(path) as clf:
        clf.forget([1004])
    with opened(path) as clf:
        assert clf._ensemble.store.ledger.tombstones() == {}
    put_back(path, backup)
    with opened(path) as clf:
        X, y, ids = rest_of(X, y, ids, {1004})
        assert clf.model_digest_ == clf.pinned().fit(X, y, ids=ids).model_digest_


def test_what_was_readmitted_comes_back(forgotten):
    path, backup = forgotten
    without = shutil.copytree(path / "blobs", path.with_name("without"))
    X, y, ids = records()
    digest = model(path).fit(X, y, ids=ids, forgotten="readmit").model_digest_
    put_back(path, backup)
    with opened(path) as clf:
        assert clf.model_digest_ == digest
    # These have never had the rows: only the data has.
    put_back(path, without)
    with pytest.raises(StateError, match="cells are missing"):
        load(path)
    assert all(f.healed for f in heal(Store.at(path), opener=load, data=Data(X, y, None, ids)))
    with opened(path) as clf:
        assert clf.model_digest_ == digest


# -- what cannot be restored ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["rows", "X"])
def test_what_no_blob_holds_is_an_error_that_says_where(forgotten, part):
    path, _ = forgotten
    cell = next(cell for cell in Store.at(path).ledger.cells() if cell.n_records)
    (path / "blobs" / dict(cell.parts)[part]).unlink()
    (path / "blobs" / ("0" * 64)).write_bytes(b"damaged")
    before = files(path / "blobs"), Store.at(path).ledger.cells()
    with pytest.raises(StateError, match=f"shard {cell.shard} slice {cell.slice}.*fsck --repair --data"):
        load(path)
    assert (files(path / "blobs"), Store.at(path).ledger.cells()) == before


def test_a_manifest_is_made_again_from_its_parts(forgotten):
    path, _ = forgotten
    before = files(path / "blobs")
    cell = next(cell for cell in Store.at(path).ledger.cells() if cell.n_records)
    (path / "blobs" / dict(cell.parts)[MANIFEST]).unlink()
    with opened(path):
        pass
    assert files(path / "blobs") == before


def test_blobs_of_another_store_are_not_taken(forgotten, tmp_path):
    path, _ = forgotten
    X, y, ids = records()
    other = tmp_path / "other.sisa"
    with opened(model(other).set_params(random_state=5).fit(X, y, ids=ids).store):
        put_back(path, other / "blobs")
    before = files(path / "blobs")
    with pytest.raises(StateError, match="cells are missing"):
        load(path)
    assert files(path / "blobs") == before


def test_without_the_pseudonym_key_nothing_old_is_let_in(forgotten):
    path, backup = forgotten
    put_back(path, backup)
    (path / "keys/pseudonym.key").unlink()
    before = files(path / "blobs")
    with pytest.raises(KeyMissingError):
        load(path)
    assert files(path / "blobs") == before


# -- where blobs and ledger are ----------------------------------------------------------------------------------------


def test_a_whole_store_from_a_backup_is_the_store_as_it_was(tmp_path):
    """Nothing in it knows of later requests: they have to be submitted again, or the ledger kept elsewhere."""
    path = tmp_path / "m.sisa"
    X, y, ids = records()
    with opened(model(path).fit(X, y, ids=ids).store) as clf:
        digest = clf.model_digest_
    backup = shutil.copytree(path, tmp_path / "backup.sisa")
    with opened(path) as clf:
        clf.forget([1004])
    with opened(backup) as clf:
        assert clf.model_digest_ == digest
        assert clf.forget([1004]).n_records == 1
    assert check(Store.at(backup)) == ()


def test_blobs_and_ledger_may_live_apart(tmp_path):
    def apart():
        return Store(tmp_path / "states" / "churn", tmp_path / "ledger.sqlite", keys=tmp_path / "secrets")

    (tmp_path / "states").mkdir()
    X, y, ids = records()
    model(apart()).fit(X, y, ids=ids)
    backup = shutil.copytree(tmp_path / "states" / "churn", tmp_path / "backup")
    with opened(apart()) as clf:
        clf.forget([1004])
        digest = clf.model_digest_
    shutil.rmtree(tmp_path / "states" / "churn")
    shutil.copytree(backup, tmp_path / "states" / "churn")
    with opened(apart()) as clf:
        assert clf.model_digest_ == digest
    assert check(apart()) == ()
