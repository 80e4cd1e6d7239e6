"""Flipped bits, cut files and exchanged contents at 500 places over all kinds of files of a store.

Whatever is damaged is found: by an error of our own when the model is loaded, or by fsck. Until then no wrong
prediction is served, and with the original records at hand what can be healed is healed, to the last byte.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing, contextmanager, suppress

import numpy as np
import pytest
import scipy.sparse as sp

from unlearnkit import SISAClassifier, Store, load
from unlearnkit.errors import NoConstituentError, UnlearnKitError
from unlearnkit.fsck import Data, check, heal
from unlearnkit.keys import MIN_BYTES
from unlearnkit.signing import known_keys
from unlearnkit.sql import SqlLedger
from unlearnkit.wal import lost_frames

pytest.importorskip("sqlalchemy")

N, IDS = 40, np.arange(40) + 1000
FORGOTTEN = (1003, 1011)


def records():
    rng = np.random.default_rng(2)
    X = np.round(rng.normal(size=(N, 3)), 3)
    return X, (X[:, 0] + 0.3 * rng.normal(size=N) > 0).astype(int)


def frame(X):
    import pandas as pd

    return pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": pd.Categorical(np.where(X[:, 2] > 0, "up", "down"))})


def forest():
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=4, max_depth=2)


def linear():
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier(loss="log_loss", max_iter=2, tol=None)


def lightgbm():
    lgb = pytest.importorskip("lightgbm")
    pytest.importorskip("unlearnkit_lightgbm")
    return lgb.LGBMClassifier(n_estimators=4, num_leaves=3, min_child_samples=2, verbose=-1)


def xgboost():
    xgb = pytest.importorskip("xgboost")
    pytest.importorskip("unlearnkit_xgboost")
    return xgb.XGBClassifier(n_estimators=4, max_depth=2)


def torch():
    nn = pytest.importorskip("torch").nn
    plugin = pytest.importorskip("unlearnkit_torch")
    return plugin.TorchModel(nn.Linear, n_features_as="in_features", n_outputs_as="out_features")


# Wrapped model, and how the features are given: every format of states and of data is among them.
CASES = {
    "trees, array": (forest, np.asarray),
    "skops, sparse": (linear, sp.csr_matrix),
    "lightgbm, frame": (lightgbm, frame),
    "xgboost, array": (xgboost, np.asarray),
    "torch, single": (torch, lambda X: X.astype(np.float32)),
}
PLACES = 64
PER_ROUND = 4


def found_store(path, case):
    """A store with two ids forgotten, what it predicts, and its original records."""
    wrapped, container = CASES[case]
    X, y = records()
    clf = SISAClassifier(wrapped(), n_shards=2, n_slices=2, store=path, random_state=6)
    clf.fit(container(X), y, ids=IDS).forget(FORGOTTEN)
    clf._ensemble.store.ledger.close()
    return clf.predict_proba(container(X)), clf.model_digest_, Data(container(X), y, None, IDS)


@contextmanager
def opened(path):
    store = Store.at(path)
    try:
        yield store
    finally:
        if "ledger" in vars(store):
            store.ledger.close()


def blobs_of(path):
    return {p.name: p.read_bytes() for p in (path / "blobs").iterdir()}


def damage(rng, file, other):
    """Flip a bit, cut the file off, or exchange its content with that of another file."""
    data = file.read_bytes()
    how = rng.choice(["flip", "cut", "swap"] if other is not None and other.read_bytes() != data else ["flip", "cut"])
    if how == "flip":
        at = rng.randrange(len(data))
        file.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
    elif how == "cut":
        file.write_bytes(data[: rng.randrange(len(data))])
    else:
        file.write_bytes(other.read_bytes())
        other.write_bytes(data)


def serves_nothing_wrong(path, X, expected):
    """Load, and see that what is served, if anything, is what the undamaged model serves; say whether it is."""
    with opened(path) as store:
        try:
            found = load(store).predict_proba(X)
        except (UnlearnKitError, NoConstituentError):
            return False
        np.testing.assert_array_equal(found, expected)
        return True


@pytest.mark.parametrize("case", CASES)
def test_damaged_blobs_are_found_and_healed(tmp_path, case):
    path, rng = tmp_path / "m.sisa", random.Random(case)
    expected, digest, data = found_store(path, case)
    before = blobs_of(path)
    order = [name for _ in range(PLACES) for name in rng.sample(sorted(before), len(before))]
    kinds = set()
    for start in range(0, PLACES, PER_ROUND):
        names = list(dict.fromkeys(order[start : start + PER_ROUND]))
        for name in names:
            damage(rng, path / "blobs" / name, path / "blobs" / rng.choice(sorted(before)))
        hit = {name for name, content in blobs_of(path).items() if content != before[name]}
        serves_nothing_wrong(path, data.X, expected)
        with opened(path) as store:
            told = check(store)
            assert {name[:12] for name in hit} == {finding.what.split("blob ")[1] for finding in told}
            assert all(finding.healed for finding in heal(store, opener=load, data=data))
            assert load(store).model_digest_ == digest
        assert serves_nothing_wrong(path, data.X, expected)
        assert blobs_of(path) == before
        kinds |= {finding.kind for finding in told}
    assert kinds == {"cell", "state"}


def views(path):
    with closing(SqlLedger(path / "ledger.sqlite")) as ledger:
        found = (ledger.checkpoints(), ledger.keys(), ledger.cells(), ledger.references())
        return (*found, ledger.requests(), ledger.tombstones(), ledger.statements(), ledger.notes())


@pytest.fixture(scope="module")
def simple(tmp_path_factory):
    """A store of trees, and what belongs to it."""
    path = tmp_path_factory.mktemp("simple") / "m.sisa"
    return path, *found_store(path, "trees, array")


LEDGER_PLACES = 80


def test_a_damaged_ledger_is_found_or_reads_the_same(simple, tmp_path):
    """A flip in a part of the file that holds nothing (free space in a page, a byte that SQLite does not use) is no
    damage: then every row reads as before, SQLite finds its file in order, and fsck has nothing to say. Any other is
    found. What follows from the data is derived again, for the rest fsck says that a backup is needed.
    """
    original, expected, digest, data = simple
    rng, before = random.Random(5), views(original)
    content = (original / "ledger.sqlite").read_bytes()
    used = [at for at, byte in enumerate(content) if byte]
    found_at, healed_at = 0, 0
    for place in range(LEDGER_PLACES):
        path = shutil.copytree(original, tmp_path / f"{place}.sisa")
        data_of = bytearray(content)
        if place % 8 == 0:
            del data_of[rng.randrange(len(content)) :]
        elif place % 8 == 1:
            # Two pages are exchanged.
            a, b = (4096 * page for page in rng.sample(range(len(content) // 4096), 2))
            data_of[a : a + 4096], data_of[b : b + 4096] = data_of[b : b + 4096], data_of[a : a + 4096]
        else:
            data_of[rng.choice(used)] ^= 1 << rng.randrange(8)
        (path / "ledger.sqlite").write_bytes(data_of)
        with opened(path) as store:
            told = check(store)
        if not told:
            assert views(path) == before
        found_at += bool(told)
        served = serves_nothing_wrong(shutil.copytree(path, tmp_path / f"{place}.copy"), data.X, expected)
        assert served or told
        with opened(path) as store:
            told = heal(store, opener=load, data=data)
        if not all(finding.healed for finding in told):
            assert any("backup" in finding.remedy for finding in told)
            (path / "ledger.sqlite").write_bytes(content)
        else:
            assert views(path)[4:7] == before[4:7]
            healed_at += bool(told)
        with opened(path) as store:
            assert check(store) == ()
            assert load(store).model_digest_ == digest
    assert found_at > LEDGER_PLACES // 3
    assert healed_at > LEDGER_PLACES // 10


LOG_PLACES = 60


def test_a_damaged_log_is_found_before_the_ledger_is_opened(simple, tmp_path):
    """SQLite alone would drop what is behind the damage, acknowledged requests with it, and say nothing."""
    source, _, _, data = simple
    original = shutil.copytree(source, tmp_path / "original.sisa")
    with opened(original) as store, closing(sqlite3.connect(original / "ledger.sqlite")) as reader:
        # A reader keeps the log from being put away; the process then dies.
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM unlearnkit_meta").fetchall()
        for i in (1001, 1002):
            store.submit([[i]])
        shutil.copytree(original, tmp_path / "dead.sisa")
    dead = tmp_path / "dead.sisa"
    log = (dead / "ledger.sqlite-wal").read_bytes()
    assert len(log) > 4096
    rng, found_at = random.Random(9), 0
    before = views(shutil.copytree(dead, tmp_path / "before.sisa"))
    for place in range(LOG_PLACES):
        path = shutil.copytree(dead, tmp_path / f"{place}.sisa")
        name = "ledger.sqlite-shm" if place % 6 == 5 else "ledger.sqlite-wal"
        damage(rng, path / name, path / "ledger.sqlite" if place % 6 == 4 else None)
        with opened(path) as store:
            told = check(store)
        found_at += bool(told)
        if name.endswith("shm"):
            # The log itself is whole.
            assert told == ()
        if told:
            with opened(path) as store, pytest.raises(UnlearnKitError):
                load(store)
            with opened(path) as store:
                assert not all(finding.healed for finding in heal(store, opener=load, data=data))
            for end in ("", "-wal", "-shm"):
                shutil.copy(dead / f"ledger.sqlite{end}", path / f"ledger.sqlite{end}")
        assert views(path) == before
    assert found_at > LOG_PLACES // 2


def test_without_an_index_a_log_is_judged_by_what_is_behind_the_damage(simple, tmp_path):
    path = shutil.copytree(simple[0], tmp_path / "m.sisa")
    with closing(sqlite3.connect(path / "ledger.sqlite", isolation_level=None)) as connection:
        for i in range(9):
            connection.execute("UPDATE unlearnkit_notes SET value = ? WHERE name = 'training'", [str(i)])
        copy = shutil.copytree(path, tmp_path / "copy.sisa")
    file = copy / "ledger.sqlite"
    (copy / "ledger.sqlite-shm").unlink()
    assert lost_frames(file) == 0
    log = bytearray((copy / "ledger.sqlite-wal").read_bytes())
    frame = 4096 + 24
    for at in (32 + frame + 100, 32 + 2 * frame + 100):
        broken = bytearray(log)
        broken[at] ^= 1
        (copy / "ledger.sqlite-wal").write_bytes(broken)
        assert lost_frames(file) > 0
    # Cut off in the middle of a write, or with one that was never committed behind it: nothing is lost.
    (copy / "ledger.sqlite-wal").write_bytes(log[: 32 + 3 * frame + 77])
    assert lost_frames(file) == 0
    (copy / "ledger.sqlite-wal").write_bytes(b"")
    assert lost_frames(file) == 0


KEY_PLACES = 40


def meaning(path):
    """What the files of the secrets say; None for one that cannot be read."""
    with opened(path) as store:
        found = []
        for read in ("partition", "pseudonym_keys", "signing_key", "public_keys"):
            value = None
            with suppress(UnlearnKitError):
                value = getattr(store.secrets, read)
                if read == "signing_key":
                    value = value.private_bytes_raw()
                if read == "public_keys":
                    value = list(known_keys(value))
            found.append(value)
        return found


def test_damaged_secrets_are_found_or_say_the_same(simple, tmp_path):
    """A digit in the other case, or another space at the end of a line, changes no secret."""
    original, expected, digest, data = simple
    rng, before, found_at = random.Random(3), meaning(original), 0
    names = ["partition.key", "pseudonym.key", "signing.key", "signing.pub"]
    assert len(before[0]) > MIN_BYTES
    for place in range(KEY_PLACES):
        path = shutil.copytree(original, tmp_path / f"{place}.sisa")
        name = names[place % 4]
        other = path / "keys" / names[(place + 1) % 4] if place % 3 == 0 else None
        damage(rng, path / "keys" / name, other)
        with opened(path) as store:
            told = check(store)
        found_at += bool(told)
        assert told or meaning(path) == before
        serves_nothing_wrong(shutil.copytree(path, tmp_path / f"{place}.copy"), data.X, expected)
        with opened(path) as store:
            told = heal(store, opener=load, data=data)
        if told and all(finding.healed for finding in told):
            assert meaning(path) == before
        elif told:
            # With the signing key, signing.pub could be made again.
            assert any("backup" in finding.remedy for finding in told if not finding.healed)
            for file in names:
                shutil.copy(original / "keys" / file, path / "keys" / file)
        with opened(path) as store:
            assert check(store) == ()
            assert load(store).model_digest_ == digest
    assert found_at > KEY_PLACES // 2


def test_there_are_500_places():
    assert PLACES * len(CASES) + LEDGER_PLACES + LOG_PLACES + KEY_PLACES >= 500
