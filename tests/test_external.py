"""Data that stays where it is: the store has digests, and trains on nothing else than what they are of."""

from __future__ import annotations

import pickle
import threading
import uuid

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from sklearn.linear_model import Ridge, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from unlearnkit import BandedPartition, Rows, Store, load, wrap
from unlearnkit import parquet as parquet_module
from unlearnkit.cells import bare, pack_digests, unpack_digests
from unlearnkit.errors import (
    CapabilityError,
    DataError,
    ParameterError,
    RowsDifferError,
    RowsNeededError,
    StateError,
    StoreInUseError,
)
from unlearnkit.external import ExternalRecords, Reading
from unlearnkit.fsck import Data, check, heal
from unlearnkit.parquet import ParquetRows

N = 90


def make(n=N, seed=0):
    """Rows, classes, and ids of which some are of several rows."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    return X, (X[:, 0] + rng.normal(size=n) > 0).astype(int), rng.permutation(n) // 2 + 1000


def sgd():
    return SGDClassifier(max_iter=4, tol=None)


def model(estimator=None, store=None, data="external", **options):
    defaults = {"n_shards": 3, "n_slices": 3, "random_state": 0}
    return wrap(sgd() if estimator is None else estimator, store=store, data=data, **defaults | options)


class Warehouse:
    """Where the rows are, and how often each cell was asked for."""

    def __init__(self, X, y, ids=None, weight=None):
        self.rows = [X, y, weight, ids]
        self.asked = []

    def __call__(self, shard, place):
        self.asked.append((shard, place))
        return Rows(*self.rows)

    def but(self, keep):
        return Warehouse(*(None if v is None else v[keep] for v in (self.rows[i] for i in (0, 1, 3, 2))))


def never(shard, place):
    raise AssertionError("no row is needed here")


@pytest.fixture(params=["memory", "store"])
def place(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "a.sisa"


# -- the promise ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_forgetting_equals_the_stored_model_and_a_fit_without(seed, place):
    rng = np.random.default_rng(seed)
    n_shards, n_slices = int(rng.integers(1, 5)), int(rng.integers(1, 5))
    X, y, ids = make(int(rng.integers(60, 110)), seed)
    weight = rng.integers(0, 3, len(y)) * 0.5 if seed % 2 else None
    options = {"n_shards": n_shards, "n_slices": n_slices, "random_state": seed, "checkpoint_every": 1 + seed % 3}
    clf = model(GaussianNB() if seed % 3 else None, place, **options).fit(X, y, weight, ids=ids)
    stored = model(GaussianNB() if seed % 3 else None, data="stored", **options).fit(X, y, weight, ids=ids)
    assert clf.model_digest_ == stored.model_digest_
    order = rng.permutation(len(y))
    warehouse = Warehouse(X, y, ids, weight).but(order)
    for _ in range(2):
        gone = rng.choice(ids, 2, replace=False).tolist()
        clf.forget(gone, load_rows=warehouse)
        stored.forget(gone)
        assert clf.model_digest_ == stored.model_digest_
    left = ~np.isin(ids, [i for i in np.unique(ids) if i in clf_forgotten(clf, ids)])
    without = clf.pinned().fit(X[left], y[left], None if weight is None else weight[left], ids=ids[left])
    assert without.model_digest_ == clf.model_digest_
    assert (clf.predict(X) == stored.predict(X)).all()
    assert clf.verify(load_rows=warehouse).exact


def clf_forgotten(clf, ids):
    """The ids, of these, that no record has any more."""
    ensemble = clf._ensemble
    found = [clf.partition_.identify([b"i%d" % i])[0].tobytes() for i in np.unique(ids).tolist()]
    own = set().union(*(ensemble._build.records.addresses(s) for s in range(ensemble.config.n_shards)))
    return {i for i, rid in zip(np.unique(ids).tolist(), found, strict=True) if rid not in own}


def test_a_whole_life_equals_that_of_the_stored_model(place):
    X, y, ids = make()
    clf, stored = model(store=place).fit(X, y, ids=ids), model(data="stored").fit(X, y, ids=ids)
    warehouse = Warehouse(X, y, ids)
    clf.forget(ids[:2], load_rows=warehouse)
    stored.forget(ids[:2])
    new, labels, names = X[:20] + 1, y[:20], np.arange(20) + 5000
    # The loader need not have the new rows yet.
    clf.partial_fit(new, labels, ids=names, load_rows=warehouse)
    stored.partial_fit(new, labels, ids=names)
    assert clf.model_digest_ == stored.model_digest_
    warehouse = Warehouse(np.vstack([X, new]), np.r_[y, labels], np.r_[ids, names])
    right = [ids[5], 5003]
    # ... nor those that are put right, and may have them already.
    receipt = clf.rectify(X[:2] - 1, [0, 1], ids=right, load_rows=warehouse)
    stored.rectify(X[:2] - 1, [0, 1], ids=right)
    assert receipt.repaired_at is not None
    assert clf.model_digest_ == stored.model_digest_
    with pytest.raises(RowsDifferError):
        clf.verify(load_rows=warehouse)
    keep = ~np.isin(warehouse.rows[3], right)
    now = warehouse.but(keep).rows
    warehouse = Warehouse(np.vstack([now[0], X[:2] - 1]), np.r_[now[1], [0, 1]], np.r_[now[3], right])
    assert clf.verify(load_rows=warehouse).exact
    clf.forget(5004, load_rows=warehouse)
    stored.forget(5004)
    twin = pickle.loads(pickle.dumps(clf))
    assert twin.model_digest_ == clf.model_digest_ == stored.model_digest_
    assert twin.verify(load_rows=warehouse).exact
    # It goes on by itself; in a store, with the store.
    for own in (twin, stored, *([clf] if place is None else [])):
        own.forget(5005, **{} if own is stored else {"load_rows": warehouse})
    assert twin.model_digest_ == clf.model_digest_ == stored.model_digest_
    clf.consolidate(load_rows=warehouse)
    stored.consolidate()
    assert clf.model_digest_ == stored.model_digest_
    left = ~np.isin(warehouse.rows[3], [*ids[:2], 5004, 5005])
    rest = warehouse.but(left).rows
    assert clf.verify(rest[0], rest[1], ids=rest[3]).exact
    assert clf.pinned().fit(rest[0], rest[1], ids=rest[3]).model_digest_ == clf.model_digest_


def test_given_rows_verify_a_model_with_arrivals():
    X, y, ids = make()
    clf = model().fit(X[:60], y[:60], ids=ids[:60])
    clf.partial_fit(X[60:], y[60:], ids=ids[60:], load_rows=Warehouse(X, y, ids))
    assert clf.verify(X, y, ids=ids).exact


CONTAINERS = {
    "array": lambda X, y, ids: Rows(X, y, ids=ids),
    "lists": lambda X, y, ids: Rows(X.tolist(), y.tolist(), ids=ids.tolist()),
    "tuple": lambda X, y, ids: (X, y, ids),
    "sparse": lambda X, y, ids: Rows(sp.csr_matrix(X), y, ids=ids),
    "coo": lambda X, y, ids: Rows(sp.coo_matrix(X), y, ids=ids),
    "series": lambda X, y, ids: Rows(X, pd.Series(y, index=ids), ids=pd.Series(ids)),
    "texts": lambda X, y, ids: Rows(X, y, ids=[str(i) for i in ids]),
    "four": lambda X, y, ids: (X, y, None, ids),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_rows_come_in_any_container(kind):
    X, y, ids = make()
    rows = CONTAINERS[kind](X, y, ids)
    fitted = sp.csr_matrix(X) if kind in ("sparse", "coo") else X
    clf = model().fit(fitted, y, ids=ids)
    digest = clf.pinned().fit(fitted[ids != ids[0]], y[ids != ids[0]], ids=ids[ids != ids[0]]).model_digest_
    clf.forget(ids[0], load_rows=lambda shard, place: rows)
    assert clf.model_digest_ == digest


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow", "column"])
def test_frames_come_from_any_library(kind):
    X, y, ids = make()
    frame = pd.DataFrame(X, columns=list("abcd")).assign(kind=pd.Categorical(np.array(["x", "z", None])[ids % 3]))
    frame.loc[3, "a"], frame.loc[4, "b"] = np.nan, -0.0
    lightgbm = pytest.importorskip("lightgbm")
    clf = model(lightgbm.LGBMClassifier(n_estimators=6, min_child_samples=3, verbose=-1)).fit(frame, y, ids=ids)
    foreign = {
        "pandas": lambda: Rows(frame.iloc[::-1], y[::-1], ids=ids[::-1]),
        "polars": lambda: Rows(pl.from_pandas(frame), pl.Series(y), ids=pl.Series(ids)),
        "arrow": lambda: Rows(pl.from_pandas(frame).to_arrow(), y, ids=ids),
        "column": lambda: Rows(frame.assign(who=ids), y, ids="who"),
    }[kind]()
    keep = ids != ids[0]
    digest = clf.pinned().fit(frame[keep], y[keep], ids=ids[keep]).model_digest_
    clf.forget(ids[0], load_rows=lambda shard, place: foreign)
    assert clf.model_digest_ == digest


def test_without_ids_the_content_finds_the_rows(place):
    X, y, _ = make()
    # Exact copies are records of their own.
    X[10:13], y[10:13] = X[10], y[10]
    clf = model(store=place).fit(X, y)
    clf.forget([11, 40], load_rows=lambda shard, place: (X, y))
    keep = np.delete(np.arange(N), [11, 40])
    assert clf.pinned().fit(X[keep], y[keep]).model_digest_ == clf.model_digest_
    # Two of the copies are records still, and one row stands for one of them.
    few = np.delete(X, [10, 11], axis=0), np.delete(y, [10, 11])
    with pytest.raises(RowsDifferError, match="1 of the"):
        clf.verify(load_rows=lambda shard, place: few)


def test_regressions_of_several_targets_stay_exact(place):
    X, y, ids = make()
    targets = np.c_[X @ np.ones(4), y]
    reg = model(Ridge(), place, n_slices=1).fit(X, targets, ids=ids)
    reg.forget(ids[3], load_rows=lambda shard, place: Rows(X, targets, ids=ids))
    keep = ids != ids[3]
    assert reg.pinned().fit(X[keep], targets[keep], ids=ids[keep]).model_digest_ == reg.model_digest_


@pytest.mark.parametrize("shards", ["erasures", "people"])
def test_bands_keep_their_places(shards, tmp_path):
    X, y, ids = make()
    chance = np.where(ids % 5, 0.01, 0.2)
    partition = BandedPartition({0.01: 0.8, 0.2: 0.2}, shards=shards)
    clf = model(store=tmp_path / "s", partition=partition).fit(X, y, ids=ids, erasure_probability=chance)
    warehouse = Warehouse(X, y, ids)
    clf.forget(ids[0], load_rows=warehouse)
    clf.rectify(X[:1], [1], ids=[ids[7]], load_rows=warehouse)
    keep = ~np.isin(ids, [ids[0], ids[7]])
    now = Warehouse(np.vstack([X[keep], X[:1]]), np.r_[y[keep], 1], np.r_[ids[keep], ids[7]])
    assert clf.verify(load_rows=now).exact


def test_many_workers_change_no_byte(tmp_path):
    X, y, ids = make()
    one = model(store=tmp_path / "one").fit(X, y, ids=ids)
    two = model(store=tmp_path / "two", n_jobs=2).fit(X, y, ids=ids)
    gone = np.unique(ids)[:6]
    for clf in (one, two):
        clf.forget(gone, load_rows=Warehouse(X, y, ids))
    assert one.model_digest_ == two.model_digest_


def test_records_travel_with_their_loader(tmp_path):
    X, y, ids = make()
    clf = model(store=tmp_path / "s").fit(X, y, ids=ids)
    records = clf._ensemble._build.records.reading(Reading(Warehouse(X, y, ids)))
    there = pickle.loads(pickle.dumps(records))
    for shard in range(3):
        for name in ("X", "y", "rid", "content", "slice", "u"):
            assert (getattr(there.shard(shard), name) == getattr(records.shard(shard), name)).all()
            assert len(there.shard(shard))


def test_rows_are_trained_on_in_their_canonical_form():
    X, y, ids = make()
    X[::7, 1], X[::5, 2] = -0.0, np.nan
    X[1::5, 2] = np.frombuffer(np.uint64(0x7FF8_0000_0000_0123).tobytes(), dtype=np.float64)[0]
    clf = model(DecisionTreeClassifier(), n_slices=1).fit(X, y, ids=ids)
    stored = model(DecisionTreeClassifier(), n_slices=1, data="stored").fit(X, y, ids=ids)
    # The last bits of equal numbers are those of the fit, whatever a loader gives.
    loaded = clf._ensemble._build.records.reading(Reading(Warehouse(X, y, ids)))
    for shard in range(3):
        own = stored._ensemble._build.records.shard(shard)
        assert loaded.shard(shard).X.tobytes() == own.X.tobytes()
        assert loaded.shard(shard).y.tobytes() == own.y.tobytes()


# -- what is refused --------------------------------------------------------------------------------------------------


def altered(X, y, ids, weight, i):
    X = X.copy()
    X[i, 2] = np.nextafter(X[i, 2], 9)
    return X, y, ids, weight


def dropped(X, y, ids, weight, i):
    return tuple(np.delete(v, i, axis=0) for v in (X, y, ids, weight))


def swapped(X, y, ids, weight, i):
    y = y.copy()
    y[i] = 1 - y[i]
    return X, y, ids, weight


def another(X, y, ids, weight, i):
    ids = ids.copy()
    ids[i] = 999_999
    return X, y, ids, weight


def heavier(X, y, ids, weight, i):
    weight = weight.copy()
    weight[i] += 0.5
    return X, y, ids, weight


@pytest.mark.parametrize("change", [altered, dropped, swapped, another, heavier])
def test_a_record_that_differs_is_refused_and_nothing_is_trained_on_it(change, place):
    X, y, ids = make()
    weight = np.ones(N)
    clf = model(store=place, n_shards=1).fit(X, y, weight, ids=ids)
    known = clf._ensemble._build.records
    digest, states = clf.model_digest_, dict(clf._ensemble.store.checkpoints())
    # One of a slice that is trained again: the first.
    places = clf.partition_.locate(ids)
    first, *others = [i for i, cell in enumerate(places) if cell == (0, 0)]
    gone = next(ids[i] for i in others if ids[i] != ids[first])
    given = change(X, y, ids, weight, first)
    with pytest.raises(RowsDifferError, match="The records are forgotten") as raised:
        clf.forget(gone, load_rows=Warehouse(*given))
    assert "1 of the" in str(raised.value)
    assert "shard 0, slice 0" in str(raised.value)
    assert not any(
        repr(float(v)) in str(raised.value) or str(i) in str(raised.value) for v, i in zip(X[:, 2], ids, strict=True)
    )
    # It is forgotten, and no step was trained.
    assert clf.receipts()[-1].purged_at is not None or place is None
    assert clf.receipts()[-1].repaired_at is None
    assert clf._ensemble._build.records.n_records == known.n_records - (ids == gone).sum()
    assert not clf._ensemble.store.checkpoints().keys() - states.keys()
    assert clf.degraded_shards_ == (0,)
    clf.repair(load_rows=Warehouse(X, y, ids, weight))
    keep = ids != gone
    without = clf.pinned().fit(X[keep], y[keep], weight[keep], ids=ids[keep]).model_digest_
    assert clf.model_digest_ == without != digest


def test_forgotten_and_new_rows_train_nothing(place):
    X, y, ids = make()
    clf = model(store=place).fit(X[:80], y[:80], ids=ids[:80])
    clf.forget(ids[0], repair=False)
    # Rows of new ids may be of any kind: they are not even looked at.
    more = np.full((3, 4), np.inf)
    everything = Warehouse(np.vstack([X, more]), np.r_[y, [7, 8, 9]], np.r_[ids, [1, 2, 3]])
    clf.repair(load_rows=everything)
    keep = (ids != ids[0]) & (np.arange(N) < 80)
    # A row that was never added is left out, though its id has others.
    assert clf.pinned().fit(X[keep], y[keep], ids=ids[keep]).model_digest_ == clf.model_digest_


def test_a_category_that_is_new_is_no_missing_value(tmp_path):
    X, y, ids = make()
    frame = pd.DataFrame(X, columns=list("abcd")).assign(kind=pd.Categorical(np.array(["x", "z", None])[ids % 3]))
    lightgbm = pytest.importorskip("lightgbm")
    clf = model(lightgbm.LGBMClassifier(n_estimators=6, min_child_samples=3, verbose=-1)).fit(frame, y, ids=ids)
    assert clf.verify(load_rows=lambda shard, place: Rows(frame, y, ids=ids)).exact
    changed = frame.astype({"kind": object})
    changed.loc[changed["kind"].isna(), "kind"] = "new"
    with pytest.raises(RowsDifferError):
        clf.verify(load_rows=lambda shard, place: Rows(changed, y, ids=ids))


def test_without_a_loader_nothing_that_trains_is_begun(place):
    X, y, ids = make()
    clf = model(store=place).fit(X, y, ids=ids)
    digest, epoch = clf.model_digest_, clf._ensemble.store.ledger.epoch
    for call in (
        lambda: clf.forget(ids[0]),
        lambda: clf.rectify(X[:1], [0], ids=[ids[0]]),
        lambda: clf.partial_fit(X[:1], [0], ids=[7]),
        clf.consolidate,
        clf.verify,
        lambda: clf.repair(rebuild=True),
    ):
        with pytest.raises(RowsNeededError, match="load_rows="):
            call()
    assert clf._ensemble.store.ledger.requests() == ()
    assert (clf.model_digest_, clf._ensemble.store.ledger.epoch) == (digest, epoch)
    assert clf.repair() == ()  # nothing is due
    assert clf.estimate(ids[0]).n_records == 2


def test_forgetting_itself_takes_no_row(tmp_path):
    X, y, ids = make()
    path = tmp_path / "a.sisa"
    model(store=path).fit(X, y, ids=ids)
    clf = load(path)
    assert clf.data == "external"
    receipt = clf.forget(ids[0], repair=False)
    assert receipt.purged_at is not None
    assert receipt.n_records == (ids == ids[0]).sum()
    with pytest.raises(RowsNeededError, match="Nothing was trained"):
        clf.repair()
    assert check(Store.at(path)) == ()
    # A fit that is cut short, or what is due, waits for who knows where the rows are.
    again = load(path)
    assert again.degraded_shards_ == clf.degraded_shards_ != ()
    (done,) = again.repair(load_rows=Warehouse(X, y, ids))
    assert done.repaired_at is not None
    keep = ids != ids[0]
    assert again.pinned().fit(X[keep], y[keep], ids=ids[keep]).model_digest_ == again.model_digest_
    assert check(Store.at(path)) == ()


def test_requests_are_carried_out_while_rows_are_read(tmp_path):
    X, y, ids = make()
    path, done = tmp_path / "s", []
    clf = model(store=path).fit(X, y, ids=ids)
    clf.forget(ids[0], repair=False)
    other = next(i for i in ids if i != ids[0] and clf.partition_.locate(i)[0][0] in clf.degraded_shards_)

    def slow(shard, place):
        if not done:
            thread = threading.Thread(target=lambda: done.append(load(path).forget(other, repair=False)))
            thread.start()
            thread.join(60)
            assert done, "a request waits for the rows"
        return Rows(X, y, ids=ids)

    clf.repair(load_rows=slow)
    assert done[0].purged_at is not None
    keep = ~np.isin(ids, [ids[0], other])
    assert clf.pinned().fit(X[keep], y[keep], ids=ids[keep]).model_digest_ == clf.model_digest_


def test_rows_without_weight_go_while_others_are_read(place):
    X, y, ids = make()
    weight = (ids % 4 > 0) * 1.0
    clf = model(store=place).fit(X, y, weight, ids=ids)
    clf.forget([next(i for i in ids if i % 4 and clf.partition_.locate(i)[0][0] == s) for s in range(3)], repair=False)
    assert clf.degraded_shards_ == (0, 1, 2)
    idle = next(i for i in ids if i % 4 == 0 and clf.partition_.locate(i)[0][0] == 2)

    def busy(shard, place):
        if clf.receipts()[-1].n_ids == 3:
            # No step depends on it: the plan stays, and only what is stored changes.
            clf.forget(idle, repair=False)
        return Rows(X, y, weight, ids)

    clf.repair(load_rows=busy)
    assert clf.degraded_shards_ == ()
    assert clf.verify(load_rows=Warehouse(X, y, ids, weight)).exact


def test_a_rectification_can_wait(place):
    X, y, ids = make()
    clf = model(store=place).fit(X, y, ids=ids)
    clf.rectify(X[:1], [1], ids=[ids[0]], repair=False)
    keep = ids != ids[0]
    now = Warehouse(np.vstack([X[keep], X[:1]]), np.r_[y[keep], 1], np.r_[ids[keep], ids[0]])
    clf.repair(load_rows=now)
    assert clf.pinned().fit(*(now.rows[i] for i in (0, 1)), ids=now.rows[3]).model_digest_ == clf.model_digest_


def test_an_interrupted_fit_waits_for_its_rows(tmp_path, monkeypatch):
    from unlearnkit import workers

    X, y, ids = make()
    whole = model().fit(X, y, ids=ids)
    train, steps = workers.train_shard, iter(range(2))

    def interrupted(task):
        next(steps)
        return train(task)

    with monkeypatch.context() as patch:
        patch.setattr(workers, "train_shard", interrupted)
        with pytest.raises(RuntimeError):
            model(store=tmp_path / "s").fit(X, y, ids=ids)
    clf = load(tmp_path / "s")
    assert clf.degraded_shards_
    assert clf.repair(load_rows=Warehouse(X, y, ids)) == ()
    assert clf.model_digest_ == whole.model_digest_
    # ... or the same fit goes on.
    again = model(store=tmp_path / "s").fit(X, y, ids=ids)
    assert again.model_digest_ == whole.model_digest_


def test_what_a_loader_does_wrong_is_said():
    X, y, ids = make()
    clf = model().fit(X, y, ids=ids)

    def fails(shard, place):
        raise OSError(f"row {X[0, 0]}")

    wrong = {
        "OSError": fails,
        "gave a list": lambda shard, place: [X, y],
        "gave a tuple": lambda shard, place: (X,),
        "no ids": lambda shard, place: (X, y),
        "one for each row": lambda shard, place: Rows(X, y[1:], ids=ids),
        "sample weights": lambda shard, place: Rows(X, y, np.ones(N), ids),
        "is expecting 4 features": lambda shard, place: Rows(X[:, :3], y, ids=ids),
    }
    for message, loader in wrong.items():
        with pytest.raises(DataError, match=message) as raised:
            clf.verify(load_rows=loader)
        assert str(X[0, 0]) not in str(raised.value)
    assert clf.verify(load_rows=Warehouse(X, y, ids)).exact


def test_only_a_model_that_keeps_no_rows_takes_a_loader():
    X, y, ids = make()
    clf = model(data="stored").fit(X, y, ids=ids)
    for call in (lambda: clf.forget(ids[0], load_rows=never), lambda: clf.verify(load_rows=never)):
        with pytest.raises(ParameterError, match="keeps its rows"):
            call()
    assert clf.verify().exact


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_the_stored_classes_are_read_by_the_secret_alone():
    X, y, ids = make()
    clf = model(n_shards=1, n_slices=1).fit(X, y, ids=ids)
    records, schema = clf._ensemble._build.records.rows(0), clf.schema_
    part = pack_digests(records, schema, clf.partition_.secret)["rows"]
    assert pack_digests(bare(records), schema, clf.partition_.secret)["rows"] == part
    assert (unpack_digests(part, schema, clf.partition_.secret).y == records.y).all()
    with pytest.raises(StateError):
        unpack_digests(part, schema, b"another secret of 16 bytes")
    # As they lie there they say nothing: neither the codes nor two values that stand for them.
    from unlearnkit.blocks import read_array

    sealed = read_array(part)["sealed"]
    assert len(np.unique(sealed)) > N - 5
    assert abs(np.corrcoef(sealed & 1, records.y)[0, 1]) < 0.4


def test_a_fitted_model_keeps_no_row_in_memory():
    X, y, ids = make()
    needle = 1234.5678901234
    X[:, 3] += 500
    X[7, 3] = needle
    clf = model(GaussianNB()).fit(X, y, ids=ids)
    clf.forget(ids[0], load_rows=Warehouse(X, y, ids))
    for held in (pickle.dumps(clf), pickle.dumps(clf._ensemble.store.blobs)):
        assert np.float64(needle).tobytes() not in held
    assert np.float64(needle).tobytes() in pickle.dumps(model(GaussianNB(), data="stored").fit(X, y, ids=ids))
    records = clf._ensemble._build.records
    assert isinstance(records, ExternalRecords)
    assert all(records.rows(s).X.size == 0 for s in range(3))
    assert records._reading == Reading()


def test_a_model_in_memory_moves_into_a_store(tmp_path):
    X, y, ids = make()
    clf = model().fit(X, y, ids=ids)
    clf.forget(ids[0], load_rows=Warehouse(X, y, ids))
    digest = clf.model_digest_
    clf.save(tmp_path / "s")
    again = load(tmp_path / "s")
    assert again.model_digest_ == digest
    assert again.verify(load_rows=Warehouse(X, y, ids)).exact
    assert check(Store.at(tmp_path / "s")) == ()


def test_a_store_is_of_one_kind_for_good(tmp_path):
    X, y, ids = make()
    for data, other in (("external", "stored"), ("stored", "external")):
        model(store=tmp_path / data, data=data).fit(X, y, ids=ids)
        with pytest.raises(StoreInUseError, match="it differs in data"):
            model(store=tmp_path / data, data=other).fit(X, y, ids=ids)


def test_a_fit_on_its_own_records_trains_nothing_and_on_others_is_refused(tmp_path):
    X, y, ids = make()
    clf = model(store=tmp_path / "s").fit(X, y, ids=ids)
    again = model(store=tmp_path / "s").fit(X, y, ids=ids)
    assert again.model_digest_ == clf.model_digest_
    X[0, 0] += 1
    with pytest.raises(StoreInUseError, match="records are not those given"):
        model(store=tmp_path / "s").fit(X, y, ids=ids)


def test_the_option_is_checked():
    X, y, ids = make()
    with pytest.raises(ParameterError, match="neither"):
        model(data="elsewhere").fit(X, y, ids=ids)
    with pytest.raises(CapabilityError, match="mean of the targets"):
        model(Ridge(), when_isolated="prior", n_slices=1).fit(X, X[:, 0], ids=ids)


def test_the_prior_of_classes_is_that_of_the_remaining_records(place):
    X, y, ids = make(24)
    options = {"n_shards": 1, "n_slices": 1, "when_isolated": "prior"}
    clf = model(DecisionTreeClassifier(), place, **options).fit(X, y, ids=ids)
    clf.forget(ids[0], repair=False)
    keep = ids != ids[0]
    np.testing.assert_allclose(clf.predict_proba(X[:1])[0], np.bincount(y[keep]) / keep.sum())


def test_lost_digests_come_back_from_the_rows(tmp_path):
    X, y, ids = make()
    path = tmp_path / "s"
    clf = model(store=path).fit(X, y, ids=ids)
    clf.forget(ids[0], load_rows=Warehouse(X, y, ids))
    digest = clf.model_digest_
    store = Store.at(path)
    cell = next(cell for cell in store.ledger.cells() if cell.n_records)
    store.blobs.delete([dict(cell.parts)["rows"]])
    assert any(finding.kind == "cell" for finding in check(Store.at(path)))
    assert all(finding.healed for finding in heal(Store.at(path), data=Data(X, y, ids=ids)))
    assert check(Store.at(path)) == ()
    assert load(path).model_digest_ == digest
    assert load(path).verify(load_rows=Warehouse(X, y, ids)).exact


# -- Parquet ----------------------------------------------------------------------------------------------------------


def frame_of(X, y, ids):
    return pd.DataFrame(X, columns=list("abcd")).assign(label=y, who=ids)


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(parquet_module, "_BATCH_ROWS", 16)


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("kind", ["int", "str", "uuid"])
def test_rows_come_from_parquet(tmp_path, small_batches, kind, folder):
    X, y, ids = make()
    names = {"int": ids, "str": np.array([f"p{i}" for i in ids]), "uuid": [uuid.UUID(int=int(i)) for i in ids]}[kind]
    frame = frame_of(X, y, [str(n) for n in names] if kind == "uuid" else names)
    path = tmp_path / "rows.parquet"
    if folder:
        path = tmp_path / "rows"
        path.mkdir()
        frame[:50].to_parquet(path / "a.parquet", row_group_size=20)
        frame[50:].to_parquet(path / "b.parquet", row_group_size=7)
    else:
        frame.to_parquet(path, row_group_size=25)
    clf = model(store=tmp_path / "s").fit(frame[list("abcd")], y, ids=names)
    rows = ParquetRows(path, partition=clf.partition_, target="label", ids="who")
    clf.forget(names[0], load_rows=rows)
    keep = np.array([name != names[0] for name in names])
    kept = [name for name in names if name != names[0]]
    assert clf.pinned().fit(frame[list("abcd")][keep], y[keep], ids=kept).model_digest_ == clf.model_digest_
    assert clf.verify(load_rows=pickle.loads(pickle.dumps(rows))).exact


def test_parquet_gives_a_cell_its_rows_and_no_others(tmp_path, small_batches):
    X, y, ids = make()
    frame_of(X, y, ids).to_parquet(tmp_path / "r.parquet", row_group_size=11)
    clf = model().fit(X, y, ids=ids)
    rows = ParquetRows(tmp_path / "r.parquet", partition=clf.partition_, target="label", ids="who")
    places = clf.partition_.locate(ids)
    for shard in range(3):
        for slice_ in range(3):
            wanted = [i for i, cell in enumerate(places) if cell == (shard, slice_)]
            assert rows(shard, slice_).ids.tolist() == ids[wanted].tolist()
            assert rows(shard, slice_).y.tolist() == y[wanted].tolist()
        # Of what came later only the model knows the slice.
        assert rows(shard, 3).ids.tolist() == [i for i, cell in zip(ids, places, strict=True) if cell[0] == shard]


def test_parquet_has_frames_weights_and_arrivals(tmp_path, small_batches):
    X, y, ids = make()
    weight = (ids % 3) * 1.0
    kinds = pd.Categorical(np.array(["x", "z", None])[ids % 3])
    frame = pd.DataFrame(X, columns=list("abcd")).assign(kind=kinds, n=pd.array(ids % 7, "Int64"))
    frame.loc[5, "n"] = pd.NA
    lightgbm = pytest.importorskip("lightgbm")
    options = {"estimator": lightgbm.LGBMClassifier(n_estimators=6, min_child_samples=3, verbose=-1)}
    clf = model(**options).fit(frame[:60], y[:60], weight[:60], ids=ids[:60])
    frame.assign(w=weight, label=y, who=ids).to_parquet(tmp_path / "r.parquet")
    rows = ParquetRows(tmp_path / "r.parquet", partition=clf.partition_, target="label", ids="who", sample_weight="w")
    clf.partial_fit(frame[60:], y[60:], sample_weight=weight[60:], ids=ids[60:], load_rows=rows)
    clf.forget(ids[0], load_rows=rows)
    stored = model(**options, data="stored").fit(frame[:60], y[:60], weight[:60], ids=ids[:60])
    stored.partial_fit(frame[60:], y[60:], sample_weight=weight[60:], ids=ids[60:]).forget(ids[0])
    assert clf.model_digest_ == stored.model_digest_


def test_parquet_places_by_bands(tmp_path):
    X, y, ids = make()
    chance = np.where(ids % 5, 0.01, 0.2)
    frame_of(X, y, ids).assign(p=chance).to_parquet(tmp_path / "r.parquet")
    clf = model(partition=BandedPartition({0.01: 0.8, 0.2: 0.2})).fit(X, y, ids=ids, erasure_probability=chance)
    given = {"partition": clf.partition_, "target": "label", "ids": "who"}
    rows = ParquetRows(tmp_path / "r.parquet", **given, erasure_probability="p")
    assert clf.verify(load_rows=rows).exact
    with pytest.raises(ParameterError, match="has bands"):
        ParquetRows(tmp_path / "r.parquet", **given)


def test_parquet_that_cannot_be_used_is_refused(tmp_path):
    X, y, ids = make()
    path = tmp_path / "r.parquet"
    frame_of(X, y, ids).to_parquet(path)
    clf = model().fit(X, y, ids=ids)
    given = {"partition": clf.partition_, "target": "label", "ids": "who"}
    with pytest.raises(ParameterError, match="no columns"):
        ParquetRows(path, **given | {"ids": "nobody"})
    with pytest.raises(ParameterError, match="content"):
        ParquetRows(path, **given | {"ids": None})
    with pytest.raises(ParameterError, match="content"):
        ParquetRows(path, **given | {"partition": model().fit(X, y).partition_})
    with pytest.raises(DataError, match="cannot be used"):
        ParquetRows(tmp_path / "none.parquet", **given)
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(DataError, match="cannot be used"):
        ParquetRows(tmp_path / "text.parquet", **given)
    rows = ParquetRows(path, **given)
    rows(0, 0)
    frame_of(X, y, ids)[:70].to_parquet(path)
    with pytest.raises(DataError, match="other rows than"):
        rows(1, 0)
    # Rows without an id, or with one of another kind, are of nobody in the model.
    odd = pd.concat([frame_of(X, y, ids).astype({"who": object}), frame_of(X[:2], y[:2], [None, "x"])])
    odd.astype({"who": str}).to_parquet(path)
    assert clf.verify(load_rows=ParquetRows(path, **given)).exact


def test_rows_that_changed_in_the_file_are_refused(tmp_path):
    X, y, ids = make()
    clf = model().fit(X, y, ids=ids)
    X[3, 1] += 1e-9
    frame_of(X, y, ids).to_parquet(tmp_path / "r.parquet")
    with pytest.raises(RowsDifferError, match="1 of the"):
        clf.verify(load_rows=ParquetRows(tmp_path / "r.parquet", partition=clf.partition_, target="label", ids="who"))
