"""Consolidation: beside the model that serves, and void if anything comes in between."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB

from unlearnkit import SISAClassifier, load
from unlearnkit.ensemble import SisaEnsemble
from unlearnkit.errors import DataError, SchemaError
from unlearnkit.live import LiveModel
from unlearnkit.store import Store


@pytest.fixture
def data():
    rng = np.random.default_rng(2)
    return rng.normal(size=(80, 3)), rng.permutation(80) % 3, rng.permutation(80) // 2 + 1000


@pytest.fixture(params=["memory", "store"])
def where(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "a.sisa"


def new(where=None, **options):
    return SISAClassifier(GaussianNB(), store=where, **{"n_shards": 3, "n_slices": 2, "random_state": 0} | options)


def part(data, rows, weight=None):
    X, y, ids = data
    given = {} if weight is None else {"sample_weight": weight[rows]}
    return {"X": X[rows], "y": y[rows], "ids": ids[rows]} | given


def grown(where, data, weight=None):
    """A model with records that arrived after its fit, in two slices."""
    clf = new(where)
    for rows in (slice(0, 60), slice(60, 70), slice(70, 80)):
        clf.partial_fit(**part(data, rows, weight))
    return clf


def same(model, other, X):
    return model.model_digest_ == other.model_digest_ and np.array_equal(model.predict_proba(X), other.predict_proba(X))


def n_records(model):
    return model._ensemble._build.records.n_records


def meanwhile(monkeypatch, act):
    """Do something once, when the first step of the next training is stored."""
    plain, waiting = Store.save, [act]

    def save(self, *arguments):
        done = plain(self, *arguments)
        if waiting:
            waiting.pop()()
        return done

    monkeypatch.setattr(Store, "save", save)


def in_a_thread(call):
    """What does a call in a thread of its own, and waits for it."""

    def act():
        thread = threading.Thread(target=call)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()

    return act


@pytest.mark.parametrize("refresh", [False, True])
def test_it_gives_the_model_that_a_fit_on_all_records_gives(data, where, refresh):
    X, y, ids = data
    clf = grown(where, data)
    clf.rectify(X[:1] + 5, y[:1], ids=ids[:1])
    clf.forget(ids[5])
    assert clf.consolidate(refresh_schema=refresh) is clf
    kept = ~np.isin(ids, ids[[0, 5]])
    twin = clf.pinned().fit(np.vstack([X[kept], X[:1] + 5]), np.r_[y[kept], y[0]], ids=np.r_[ids[kept], ids[0]])
    assert same(clf, twin, X)
    assert clf.verify().exact
    assert max(r for _, r in clf.partition_.locate(ids[kept])) == 1
    # What arrives now is the first slice that does.
    clf.partial_fit(X[:5] + 9, y[:5], ids=np.arange(5))
    twin.partial_fit(X[:5] + 9, y[:5], ids=np.arange(5))
    assert same(clf, twin, X)
    assert {r for _, r in clf.partition_.locate(np.arange(5))} == {2}


def test_the_same_fit_goes_on_with_a_store_that_was_consolidated(data, tmp_path):
    X, y, ids = data
    clf = grown(tmp_path / "a.sisa", data)
    clf.consolidate()
    again = new(tmp_path / "a.sisa").fit(X, y, ids=ids)
    assert same(again, clf, X)
    clf.partial_fit(X[:5] + 9, y[:5], ids=np.arange(5))
    clf.forget(np.arange(5))
    assert same(new(tmp_path / "a.sisa").fit(X, y, ids=ids), again, X)


def test_nothing_arrived_and_nothing_changes(data, where):
    X, y, ids = data
    clf = new(where).fit(X, y, ids=ids)
    before = clf.model_digest_
    assert clf.consolidate().model_digest_ == before
    assert clf.verify().exact


def test_a_refreshed_schema_is_that_of_the_records_that_are_left(data, where):
    X, y, ids = data
    clf = grown(where, data)
    gone = np.unique(ids[y == 0])
    receipt = clf.forget(gone)
    assert receipt.unsupported == ("class 0",)
    clf.consolidate()
    assert clf.classes_.tolist() == [0, 1, 2]
    clf.consolidate(refresh_schema=True)
    assert clf.classes_.tolist() == [1, 2]
    assert clf.predict_proba(X).shape == (80, 2)
    kept = ~np.isin(ids, gone)
    assert same(clf, new().fit(X[kept], y[kept], ids=ids[kept]), X)
    with pytest.raises(SchemaError, match="not among the 2 classes"):
        clf.partial_fit(X[:1], [0], ids=[1])
    assert clf.forget(gone[0]).already_forgotten == 1


def test_without_ids_records_move_with_the_schema(data, where):
    X, y, _ = data
    clf = new(where).fit(X[:60], y[:60]).partial_fit(X[60:], y[60:])
    clf.forget(np.flatnonzero(y == 0))
    clf.consolidate(refresh_schema=True)
    kept = y != 0
    assert same(clf, clf.pinned().fit(X[kept], y[kept]), X)
    assert clf.forget(int(np.flatnonzero(kept)[0])).n_records == 1


def test_one_class_is_not_enough_to_refresh(data, where):
    _, y, ids = data
    clf = grown(where, data)
    clf.forget(np.unique(ids[y != 0]))
    ensemble = clf._ensemble
    before = clf.model_digest_, ensemble.store.ledger.epoch, n_records(clf)
    with pytest.raises(DataError, match="have 1 of the 3 classes"):
        clf.consolidate(refresh_schema=True)
    assert (clf.model_digest_, ensemble.store.ledger.epoch, n_records(clf)) == before
    clf.consolidate()
    assert clf.verify().exact


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("refresh", [False, True])
def test_an_interruption_leaves_the_model_as_it_was(data, where, monkeypatch, refresh):
    X, y, ids = data
    clf = grown(where, data)
    clf.forget(np.unique(ids[y == 0]))
    before, served = clf.model_digest_, clf.predict_proba(X)
    with monkeypatch.context() as patch:
        meanwhile(patch, interrupt)
        with pytest.raises(KeyboardInterrupt):
            clf.consolidate(refresh_schema=refresh)
    for model in (clf, load(where)) if where else (clf,):
        assert model.model_digest_ == before
        assert np.array_equal(model.predict_proba(X), served)
        assert model.degraded_shards_ == ()
    ensemble = clf._ensemble
    # No state of the new plan is left.
    assert ensemble.store.ledger.checkpoints().keys() == ensemble._build.plan.keys
    clf.consolidate(refresh_schema=refresh)
    rest = ~np.isin(ids, np.unique(ids[y == 0]))
    assert same(clf, clf.pinned().fit(X[rest], y[rest], ids=ids[rest]), X)


@pytest.mark.parametrize("refresh", [False, True])
@pytest.mark.parametrize("repair", [False, True])
def test_a_request_in_between_makes_it_begin_anew(data, where, monkeypatch, refresh, repair):
    X, _, ids = data
    clf = grown(where, data)
    threads = []

    def act():
        # With a repair it waits until the consolidation is done.
        threads.append(threading.Thread(target=clf.forget, args=(ids[3],), kwargs={"repair": repair}))
        threads[0].start()
        while not clf.receipts() or clf.receipts()[0].isolated_at is None:
            pass

    meanwhile(monkeypatch, act)
    clf.consolidate(refresh_schema=refresh)
    threads[0].join(60)
    kept = ids != ids[3]
    clf.repair()
    assert same(clf, clf.pinned().fit(**part(data, kept)), X)
    assert clf.receipts()[0].repaired_at is not None


@pytest.mark.parametrize("arrived", [False, True])
def test_a_request_for_rows_without_weight_in_between_counts_too(data, where, monkeypatch, arrived):
    X, y, _ = data
    ids, weight = np.arange(80), np.ones(80)
    weight[5] = 0
    clf = grown(where, (X, y, ids), weight) if arrived else new(where).fit(X, y, weight, ids=ids)
    plain = SisaEnsemble._train
    done = []

    def train(self, *arguments, **options):
        # The keys do not change by it.
        if not done:
            done.append(True)
            in_a_thread(lambda: clf.forget(5, repair=False))()
        return plain(self, *arguments, **options)

    monkeypatch.setattr(SisaEnsemble, "_train", train)
    clf.consolidate()
    assert done
    assert n_records(clf) == 79
    assert clf.verify().forgotten_rows == 0
    assert clf.forget(5).already_forgotten == 1


def test_records_that_arrive_in_between_are_not_lost(data, where, monkeypatch):
    X, y, ids = data
    clf = grown(where, data)
    new_rows = {"X": X[:5] + 9, "y": y[:5], "ids": np.arange(5)}
    thread = threading.Thread(target=lambda: clf.partial_fit(**new_rows))

    def act():
        thread.start()
        while n_records(clf) < 85:
            pass

    meanwhile(monkeypatch, act)
    clf.consolidate()
    thread.join(60)
    assert n_records(clf) == 85
    twin = clf.pinned().fit(np.vstack([X, X[:5] + 9]), np.r_[y, y[:5]], ids=np.r_[ids, np.arange(5)])
    assert same(clf, twin, X)


FORGET = "import sys; from unlearnkit import load; load(sys.argv[1]).forget(int(sys.argv[2]), repair=False)"


def test_another_process_may_forget_in_between(data, tmp_path, monkeypatch):
    X, _, ids = data
    path = tmp_path / "a.sisa"
    clf = grown(path, data)

    def act():
        subprocess.run([sys.executable, "-c", FORGET, str(path), str(ids[3])], check=True, timeout=120)

    meanwhile(monkeypatch, act)
    clf.consolidate()
    kept = ids != ids[3]
    assert same(clf, clf.pinned().fit(**part(data, kept)), X)
    assert load(path).receipts()[0].repaired_at is not None


@pytest.mark.parametrize("operation", ["predict", "partial_fit", "rectify", "verify"])
def test_another_process_follows_a_refreshed_schema(data, tmp_path, operation):
    X, y, ids = data
    path = tmp_path / "a.sisa"
    clf = grown(path, data)
    gone = np.unique(ids[y == 0])
    clf.forget(gone)
    # It looks once in an hour, but whoever changes something has to look at once.
    other = load(path, refresh_s=0 if operation == "predict" else 3600)
    assert other.classes_.tolist() == [0, 1, 2]
    clf.consolidate(refresh_schema=True)
    kept = ~np.isin(ids, gone)
    twin = clf.pinned().fit(**part(data, kept))
    first = np.flatnonzero(kept)[0]
    if operation == "predict":
        assert np.array_equal(other.predict(X), clf.predict(X))
        assert other.classes_.tolist() == [1, 2]
    elif operation == "verify":
        assert other.verify(**part(data, kept)).exact
    elif operation == "partial_fit":
        for model in (other, twin):
            model.partial_fit(X[kept][:6] + 9, y[kept][:6], ids=np.arange(6))
    else:
        for model in (other, twin):
            model.rectify(X[[first]] + 9, y[[first]], ids=ids[[first]])
    assert same(load(path), twin, X)
    assert load(path).verify().exact


@pytest.mark.parametrize("operation", ["partial_fit", "rectify"])
def test_a_schema_that_is_refreshed_while_rows_are_looked_at(data, where, monkeypatch, operation):
    X, y, ids = data
    clf = new(where).fit(**part(data, slice(0, 60)))
    gone = np.unique(ids[y == 0])
    clf.forget(np.intersect1d(gone, ids[:60]))
    kept = ~np.isin(ids, gone) & (np.arange(80) < 60)
    plain, waiting = LiveModel._ingest, [lambda: clf.consolidate(refresh_schema=True)]

    def ingest(self, *arguments, **options):
        found = plain(self, *arguments, **options)
        if waiting:
            in_a_thread(waiting.pop())()
        return found

    first = np.flatnonzero(kept)[:2]
    new_rows = {"X": X[first] + 9, "y": y[first], "ids": ids[first]}
    with monkeypatch.context() as patch:
        patch.setattr(LiveModel, "_ingest", ingest)
        getattr(clf, operation)(**new_rows)
    twin = clf.pinned().fit(**part(data, kept))
    getattr(twin, operation)(**new_rows)
    assert same(clf, twin, X)
    assert clf.verify().exact


def test_a_repair_goes_on_where_a_consolidation_of_another_process_was_killed(tmp_path, data, monkeypatch):
    """What it has planned beside the model that serves is no reason to wait: the lock says that nobody is at it."""
    model = new(tmp_path / "a.sisa").fit(**part(data, slice(0, 60))).partial_fit(**part(data, slice(60, 80)))
    digest, plain, rounds = model.model_digest_, LiveModel._sync, []
    Store.at(tmp_path / "a.sisa").replan(model._ensemble.plan.keys | {"of a plan that was never finished"})

    def sync(self):
        rounds.append(1)
        assert len(rounds) < 50, "it goes round in circles"
        plain(self)

    monkeypatch.setattr(LiveModel, "_sync", sync)
    model.repair()
    assert model.model_digest_ == digest
    assert model._ensemble.store.ledger.keys() == model._ensemble.plan.keys


def test_a_consolidation_that_cannot_be_written_leaves_the_model_as_it_was(where, data, monkeypatch):
    model = new(where).fit(**part(data, slice(0, 60))).partial_fit(**part(data, slice(60, 80)))
    digest, keys = model.model_digest_, model._ensemble.plan.keys

    def written(*_):
        raise OSError("no space left")

    monkeypatch.setattr("unlearnkit.editing.Editor.written", written)
    with pytest.raises(OSError, match="no space"):
        model.consolidate()
    assert (model.model_digest_, model._ensemble.store.ledger.keys()) == (digest, keys)
    monkeypatch.undo()
    model.consolidate()
    assert model.verify().exact


def test_a_request_that_a_consolidation_repairs_says_so(where, data):
    _, _, ids = data
    model = new(where).fit(**part(data, slice(0, 60))).partial_fit(**part(data, slice(60, 80)))
    late = next(i for i in ids[60:].tolist() if model.partition_.locate([i])[0][1] >= 2)
    ((shard, _),) = model.partition_.locate([late])
    waiting = model.forget(late, repair=False)
    assert (waiting.rebuilt_shards, waiting.repaired_at) == ((), None)
    model.consolidate()
    receipt = model.receipts()[0]
    assert receipt.repaired_at is not None
    assert receipt.rebuilt_shards == (shard,)
    assert receipt.steps_retrained == len(model._ensemble.plan.shards[shard])
