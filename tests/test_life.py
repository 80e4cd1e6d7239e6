"""The life of a model that lives in a store, as its user sees it."""

from __future__ import annotations

import copy
import io
import pickle
import secrets
import shutil
import threading
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.tree import DecisionTreeClassifier

from unlearnkit import (
    HashPartition,
    SISAClassifier,
    SISARegressor,
    Store,
    environment,
    erasure,
    load,
    recovery,
    wrap,
)
from unlearnkit.adapters import Adapter
from unlearnkit.errors import (
    DataError,
    EnvironmentChangedError,
    ForgottenRecordError,
    KeyMissingError,
    NoConstituentError,
    ParameterError,
    StoreError,
    StoreInUseError,
    TrainingError,
    UnknownRecordError,
)
from unlearnkit.keys import Keys
from unlearnkit.ledger import Change
from unlearnkit.policy import Policy
from unlearnkit.sql import SqlLedger
from unlearnkit.statements import read, verify_chain
from unlearnkit.testing import RememberingLearner


@pytest.fixture
def data(helpers):
    return helpers.rows(80)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.sisa"


def new(where=None, model=None, **options):
    """An unfitted model in a store (None: in memory)."""
    known = {"n_shards": 3, "n_slices": 3, "random_state": 0} | options
    return SISAClassifier(GaussianNB() if model is None else model, store=where, **known)


def kept(data, gone):
    """The rows of other ids."""
    X, y, ids = data
    rest = ~np.isin(ids, gone)
    return X[rest], y[rest], ids[rest]


def same(model, other, X):
    """Whether two models are equal in digest and predictions."""
    outputs = [m.predict_proba(X) if hasattr(m, "predict_proba") else m.predict(X) for m in (model, other)]
    return model.model_digest_ == other.model_digest_ and np.array_equal(*outputs)


def without(model, data, gone):
    """The model that never saw these ids."""
    X, y, ids = kept(data, gone)
    return model.pinned().fit(X, y, ids=ids)


def told(path):
    """All that a store holds."""
    ledger = SqlLedger(path / "ledger.sqlite")
    facts = [getattr(ledger, name)() for name in ("checkpoints", "keys", "cells", "requests", "tombstones")]
    keys = {file.name: file.read_bytes() for file in (path / "keys").iterdir()}
    blobs = sorted(file.name for file in (path / "blobs").iterdir())
    return [*facts, ledger.statements(), ledger.notes(), ledger.epoch, keys, blobs]


def statements(model):
    """All statements of the store of a model, opened by its public key."""
    s = model._ensemble.store
    envelopes = s.ledger.statements()
    assert verify_chain(envelopes, s.secrets.public_keys) == []
    return [read(envelope, s.secrets.public_keys)["predicate"] for envelope in envelopes]


@pytest.fixture
def watched(install, helpers):
    """What the observers were told."""
    seen: dict[str, list[Any]] = {"steps": [], "requests": []}
    hooks = {
        "unlearnkit_step_trained": lambda step, seconds: seen["steps"].append((step.shard, step.slice)),
        "unlearnkit_request_done": lambda receipt: seen["requests"].append(receipt),  # noqa: PLW0108 - a hook has a name
    }
    install(helpers.plugin("watch", **hooks))
    return seen


# -- fit -------------------------------------------------------------------------------------------------------------


class Crash(BaseException):
    """What stands for a power cut: nothing catches it."""


def crash_after(monkeypatch, steps):
    """Let trainings end in a `Crash` once this many steps are stored."""
    save, left = Store.save, [steps]

    def crashing(self, *arguments):
        done = save(self, *arguments)
        left[0] -= 1
        if left[0] == 0:
            raise Crash
        return done

    monkeypatch.setattr(Store, "save", crashing)


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_a_fit_that_was_cut_short_goes_on_where_it_stopped(data, path, watched, monkeypatch, steps):
    X, y, ids = data
    with monkeypatch.context() as patch:
        crash_after(patch, steps)
        with pytest.raises(Crash):
            new(path).fit(X, y, ids=ids)
    watched["steps"].clear()
    clf = new(path).fit(X, y, ids=ids)
    assert len(set(watched["steps"])) == len(watched["steps"]) == 9 - steps
    assert same(clf, new().fit(X, y, ids=ids), X)


def test_load_finishes_a_fit_that_was_cut_short(data, path, watched, monkeypatch):
    X, y, ids = data
    with monkeypatch.context() as patch:
        crash_after(patch, 5)
        with pytest.raises(Crash):
            new(path).fit(X, y, ids=ids)
    memory = new().fit(X, y, ids=ids)
    watched["steps"].clear()
    assert same(load(path), memory, X)
    assert len(watched["steps"]) == 4
    before = told(path)
    load(path)
    assert told(path) == before
    assert len(watched["steps"]) == 4


def test_a_fit_that_failed_before_the_data_were_kept_can_be_called_again(data, path, monkeypatch):
    X, y, ids = data
    with monkeypatch.context() as patch:
        patch.setattr(Store, "put_cells", lambda *_: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            new(path).fit(X, y, ids=ids)
    with pytest.raises(StoreError, match="holds no model yet"):
        load(path)
    # With random_state=None the secret that was drawn then stays.
    assert same(new(path).fit(X, y, ids=ids), new().fit(X, y, ids=ids), X)


def test_the_same_fit_again_trains_and_changes_nothing(data, path, watched):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    before = told(path)
    watched["steps"].clear()
    order = np.random.default_rng(0).permutation(80)
    again = new(path, n_jobs=2).fit(X[order], y[order], ids=ids[order])
    assert not watched["steps"]
    assert told(path) == before
    assert same(clf, again, X)


def test_without_random_state_a_second_fit_goes_on_with_the_secret_and_seed_of_the_store(data, path):
    X, y, ids = data
    clf = new(path, random_state=None).fit(X, y, ids=ids)
    again = new(path, random_state=None).fit(X, y, ids=ids)
    assert same(clf, again, X)
    assert not np.array_equal(clf.partition_.secret, new(random_state=None).fit(X, y, ids=ids).partition_.secret)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"n_shards": 4}, "n_shards"),
        ({"n_slices": 2}, "n_slices"),
        ({"aggregation": "vote"}, "aggregation"),
        ({"when_isolated": "prior"}, "when_isolated"),
        ({"model": GaussianNB(var_smoothing=1e-3)}, "the model or its parameters"),
        ({"model": MultinomialNB()}, "the model or its parameters"),
        ({"random_state": 1}, "another partition secret"),
        ({"partition": HashPartition(b"quite another secret")}, "another partition secret"),
        ({"partition": HashPartition(b"the secret of these tests"), "random_state": 7}, "random_state"),
    ],
)
def test_a_fit_with_other_options_is_refused(data, path, helpers, options, named):
    X, y, ids = data
    X = np.abs(X)
    own = {"partition": HashPartition(helpers.SECRET)} if "partition" in options and "random_state" in options else {}
    clf = new(path, **own).fit(X, y, ids=ids)
    before = told(path)
    with pytest.raises(StoreInUseError, match=named):
        new(path, **options).fit(X, y, ids=ids)
    assert told(path) == before
    assert clf.verify().exact


def test_a_fit_on_other_records_is_refused(data, path):
    X, y, ids = data
    new(path).fit(X, y, ids=ids)
    before = told(path)
    changed = X.copy()
    changed[3, 1] += 1
    for wrong in ((changed, y, ids), (X, 1 - y, ids), (X, y, ids + 1), (X[:79], y[:79], ids[:79])):
        with pytest.raises(StoreInUseError, match="its records are not those given"):
            new(path).fit(wrong[0], wrong[1], ids=wrong[2])
    for wrong in ((X[:, :2], y, ids), (X, y + 1, ids), (X, y, [f"c{i}" for i in ids])):
        with pytest.raises(DataError):
            new(path).fit(wrong[0], wrong[1], ids=wrong[2])
    assert told(path) == before


def test_a_schema_that_is_another_is_refused(data, path):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    assert same(new(path, schema=clf.schema_).fit(X, y, ids=ids), clf, X)
    other = new().fit(X, y + 1, ids=ids).schema_
    with pytest.raises(StoreInUseError, match="schema"):
        new(path, schema=other).fit(X, y, ids=ids)


@pytest.mark.parametrize("given", [5, b"path", object(), ["path"]])
def test_what_is_no_store_is_refused(data, given):
    X, y, ids = data
    with pytest.raises(ParameterError, match="path or a Store"):
        new(given).fit(X, y, ids=ids)
    with pytest.raises(ParameterError, match="path or a Store"):
        load(given)


def test_half_a_store_is_refused(path):
    with pytest.raises(ParameterError, match="nothing was made"):
        Store(blobs=path)
    with pytest.raises(ParameterError, match="negative"):
        Policy(days_to_answer=-1)


def test_what_is_not_there_cannot_be_opened(path):
    for call in (lambda: load(path), lambda: Store.at(path).submit([1]), lambda: Store.at(path).settings()):
        with pytest.raises(StoreError, match="no store"):
            call()
    assert not path.exists()


def test_a_function_without_a_name_is_refused_before_anything_is_written(data, path):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    X, y, ids = data
    wrong = [
        {"model": make_pipeline(FunctionTransformer(lambda rows: rows), GaussianNB()), "n_slices": 1},
        {"aggregation": lambda predictions, present: predictions[present].mean(axis=0)},
    ]
    for options in wrong:
        with pytest.raises(ParameterError, match="lambda"):
            new(path, **options).fit(X, y, ids=ids)
        assert not path.exists()
        clf = new(**options).fit(X, y, ids=ids)
        with pytest.raises(ParameterError, match="lambda"):
            clf.save(path)
        assert not path.exists()
        assert clf.forget(ids[0]).n_records == 1


# -- kinds of data ---------------------------------------------------------------------------------------------------


def frame(n, rng):
    columns = {"a": rng.normal(size=n), "b": rng.integers(0, 9, n), "kind": pd.Categorical(rng.choice(list("xyz"), n))}
    return pd.DataFrame(columns | {"flag": rng.random(n) < 0.5, "when": rng.choice([1.5, np.nan], n)})


def rows_of(kind, rng, n=90):
    """Model, options, rows and targets of some kind."""
    labels = np.array(["ash", "birch", "cedar"])[rng.integers(0, 3, n)]
    dense = rng.normal(size=(n, 4))
    if kind == "frame":
        import lightgbm

        model = lightgbm.LGBMClassifier(n_estimators=4, min_child_samples=3, num_leaves=4, verbose=-1)
        return wrap, model, {}, frame(n, rng), labels
    if kind == "sparse":
        return SISAClassifier, MultinomialNB(), {}, sp.random(n, 30, 0.2, "csr", random_state=1), labels
    if kind == "outputs":
        return SISARegressor, LinearRegression(), {"n_slices": 1}, dense, np.column_stack([dense[:, 0], dense.sum(1)])
    if kind == "float32":
        return SISAClassifier, GaussianNB(), {}, dense.astype(np.float32), rng.random(n) < 0.5
    return SISAClassifier, GaussianNB(), {}, dense, labels


@pytest.mark.parametrize(
    ("ids_of", "weighted"),
    [("int", False), ("int", True), ("str", False), ("uuid", False), ("bytes", False), (None, False), (None, True)],
)
@pytest.mark.parametrize("kind", ["dense", "float32", "sparse", "frame", "outputs"])
def test_what_went_through_a_store_is_what_was_kept_in_memory(path, kind, ids_of, weighted):
    rng = np.random.default_rng(3)
    face, model, options, X, y = rows_of(kind, rng)
    numbers = rng.integers(0, 60, 90)
    forms = {
        "int": numbers,
        "str": [f"c-{i}" for i in numbers],
        "uuid": [uuid.UUID(int=int(i)) for i in numbers],
        "bytes": [b"%d" % i for i in numbers],
        None: None,
    }
    ids = forms[ids_of]
    weight = rng.choice([0.0, 0.5, 2.0], 90) if weighted else None
    options = {"n_shards": 3, "n_slices": 3, "random_state": 0} | options
    stored = face(model, store=path, **options).fit(X, y, weight, ids=ids)
    memory = face(model, **options).fit(X, y, weight, ids=ids)
    assert same(stored, memory, X)
    for positions in ([3], [10, 11, 12]):
        gone = positions if ids is None else [ids[p] for p in positions]
        first, second = stored.forget(gone), memory.forget(gone)
        assert (first.n_records, first.shards, first.digest_after) == (
            second.n_records,
            second.shards,
            second.digest_after,
        )
        stored = load(path)
        assert same(stored, memory, X)
    assert stored.verify().exact
    assert stored.verify().n_steps > 0
    report = stored.verify(shards=[1])
    assert (report.exact, report.shards) == (True, (1,))
    assert type(stored) is type(memory)
    assert stored.schema_ == memory.schema_


def test_a_frame_index_is_a_handle(path, data):
    X, y, _ = data
    table = pd.DataFrame(X, columns=list("abc"), index=[f"row-{i}" for i in range(80)])
    clf = new(path).fit(table, y)
    assert clf.forget("row-3").n_records == 1
    again = load(path)
    assert again.forget(["row-3", "row-4"], repair=False).already_forgotten == 1
    with pytest.raises(UnknownRecordError):
        again.forget("row-80")
    again.repair()
    rest = np.delete(np.arange(80), [3, 4])
    assert same(again, again.pinned().fit(table.iloc[rest], y[rest]), table)
    # Only explicit ids are tombstones for data that arrive.
    with pytest.raises(StoreInUseError, match="records"):
        new(path).fit(table, y, forgotten="drop")


def test_feature_names_and_labels_come_back(path, data):
    X, y, ids = data
    table = pd.DataFrame(X, columns=list("abc"))
    new(path).fit(table, np.array(["no", "yes"])[y], ids=ids)
    clf = load(path)
    assert clf.feature_names_in_.tolist() == list("abc")
    assert clf.n_features_in_ == 3
    assert clf.classes_.tolist() == ["no", "yes"]
    with pytest.raises(DataError, match="feature names"):
        clf.predict(table[["b", "a", "c"]])


# -- forget ----------------------------------------------------------------------------------------------------------


def test_forgetting_equals_a_pinned_fit_without(path, data):
    X, _, ids = data
    clf = new(path).fit(X, data[1], ids=ids)
    for gone in (ids[:1], ids[1:4], ids[4:9]):
        receipt = clf.forget(gone)
        assert receipt.repaired_at >= receipt.purged_at >= receipt.isolated_at >= receipt.received_at
    assert clf.pinned().store is None
    assert same(clf, without(clf, data, ids[:9]), X)
    assert same(load(path), clf, X)
    assert [r.request_id for r in load(path).receipts()] == [1, 2, 3]


def test_requests_without_repair_are_repaired_together(path, data, watched):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    watched["steps"].clear()
    receipts = [clf.forget(i, repair=False) for i in ids[:6]]
    assert all(r.purged_at and r.repaired_at is None and r.digest_after is None for r in receipts)
    assert not watched["steps"]
    other = load(path)
    # Nobody has begun to train, so opening does not either.
    assert other.degraded_shards_ == clf.degraded_shards_ != ()
    done = other.repair()
    assert [r.request_id for r in done] == [r.request_id for r in receipts]
    assert len(watched["steps"]) == len(set(watched["steps"])) <= 9
    assert same(other, without(clf, data, ids[:6]), X)
    assert {r.digest_after for r in done} == {other.model_digest_}


def test_an_id_is_forgotten_once(path, data):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    clf.forget(ids[:2])
    again = clf.forget(ids[:3], repair=False)
    assert (again.n_records, again.already_forgotten, again.n_ids) == (1, 2, 3)
    assert clf.forget(ids[0]).already_forgotten == 1
    kinds = [(p["request"]["sequence"], p["kind"], p["request"]["outcome"]) for p in statements(clf)]
    assert (3, "purged", "erased by an earlier request") in kinds


def test_an_unknown_id_changes_nothing(path, data):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    before = told(path)
    for wrong in (5, [int(ids[0]), 5], "five", None):
        with pytest.raises(UnknownRecordError):
            clf.forget(wrong)
    assert told(path) == before
    assert clf.forget([5, str(ids[0])], missing="ignore").skipped == (0,)


def test_requests_that_were_only_recorded_are_carried_out_at_the_next_opening(path, data, watched):
    X, y, ids = data
    new(path).fit(X, y, ids=ids)
    sequences = Store.at(path).submit([ids[0], [ids[1], ids[0]], [5, 6], [5, ids[2]]])
    assert sequences == (1, 2, 3, 4)
    with pytest.raises(UnknownRecordError, match="type"):
        Store.at(path).submit([ids[3], "five"])
    clf = load(path)
    receipts = clf.receipts()
    assert [(r.n_records, r.already_forgotten, r.skipped) for r in receipts] == [
        (1, 0, ()),
        (1, 1, ()),
        (0, 0, (0, 1)),
        (1, 0, (0,)),
    ]
    assert [bool(r.rejected) for r in receipts] == [False, False, True, False]
    assert all(r.repaired_at is None for r in receipts)
    clf.repair()
    assert same(clf, without(clf, data, ids[:3]), X)
    issued = statements(clf)
    assert Counter(p["kind"] for p in issued) == {"rejected": 1, "purged": 3, "repaired": 3}
    (rejected,) = [p for p in issued if p["kind"] == "rejected"]
    assert rejected["request"]["sequence"] == 3
    assert "no record" in rejected["request"]["reason"]
    assert rejected["ids"]["pseudonyms"] == []
    assert [r.request_id for r in watched["requests"]] == [1, 2, 4]


def test_observers_hear_of_each_request_once(path, data, watched):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    clf.forget(ids[0])
    clf.forget(ids[1], repair=False)
    assert [r.request_id for r in watched["requests"]] == [1]
    other = load(path)
    other.repair()
    clf.repair()
    load(path)
    assert [r.request_id for r in watched["requests"]] == [1, 2]
    assert all(r.repaired_at for r in watched["requests"])


def test_a_reader_takes_over_what_others_change(path, data):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    reader, lazy = load(path, refresh_s=0), load(path, refresh_s=3600)
    before = lazy.predict_proba(X)
    clf.forget(ids[:3])
    assert same(reader, clf, X)
    assert np.array_equal(lazy.predict_proba(X), before)
    # Whoever changes something first takes over what others have changed.
    lazy.forget(ids[3])
    assert same(lazy, without(clf, data, ids[:4]), X)
    assert same(reader, lazy, X)


def test_a_reader_that_looked_in_the_middle_of_a_purge_goes_on(path, data, monkeypatch):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    reader = load(path, refresh_s=0)
    purge = erasure.Eraser.purge

    def watched(self, build):
        if self.store is clf._ensemble.store:
            reader.predict(X)
        return purge(self, build)

    with monkeypatch.context() as patch:
        patch.setattr(erasure.Eraser, "purge", watched)
        clf.forget(ids[0], repair=False)
    assert reader.verify().forgotten_rows == 0
    reader.forget(next(i for i in ids[1:] if clf.partition_.locate([i]) == clf.partition_.locate([ids[0]])))
    reader.repair()
    assert reader.verify().exact
    assert load(path).verify().exact


def test_a_second_opening_changes_nothing(path, data):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    clf.forget(ids[0])
    clf.forget(ids[1], repair=False)
    Store.at(path).submit([ids[2]])
    load(path)
    before = told(path)
    again = load(path)
    assert told(path) == before
    again.repair()
    before = told(path)
    load(path)
    assert again.repair() == ()
    assert told(path) == before


# -- forgotten= ------------------------------------------------------------------------------------------------------


def test_a_rerun_on_the_old_file(path, data):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    clf.forget(ids[:2])
    before = told(path)
    with pytest.raises(ForgottenRecordError, match="2 ids") as raised:
        new(path).fit(X, y, ids=ids)
    assert not any(str(i) in str(raised.value).replace(str(path), "") for i in ids[:2])
    assert told(path) == before
    dropped = new(path).fit(X, y, ids=ids, forgotten="drop")
    assert told(path) == before
    assert same(dropped, clf, X)
    # The same rows without the forgotten ones are the records of the store.
    rest = kept(data, ids[:2])
    assert same(new(path).fit(*rest[:2], ids=rest[2]), clf, X)
    with pytest.raises(ParameterError, match="readmit"):
        new(path).fit(X, y, ids=ids, forgotten="maybe")


def test_readmitted_ids_are_learned_again_and_can_be_forgotten_again(path, data):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    clf.forget(ids[:2])
    back = new(path).fit(X, y, ids=ids, forgotten="readmit")
    assert same(back, new().fit(X, y, ids=ids), X)
    assert back.verify().exact
    assert [r.request_id for r in back.receipts()] == [1]
    receipt = load(path).forget(ids[0])
    assert (receipt.n_records, receipt.already_forgotten) == (1, 0)
    assert same(load(path), without(back, data, ids[:1]), X)


def test_drop_goes_on_with_a_repair_that_is_due(path, data):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    clf.forget(ids[:2], repair=False)
    again = new(path).fit(X, y, ids=ids, forgotten="drop")
    assert again.degraded_shards_ == ()
    assert same(again, without(clf, data, ids[:2]), X)
    assert clf.receipts()[-1].repaired_at is not None


def test_a_request_that_was_only_recorded_holds_for_a_rerun(path, data):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    Store.at(path).submit([ids[:2]])
    again = new(path).fit(X, y, ids=ids, forgotten="drop")
    assert same(again, without(clf, data, ids[:2]), X)


# -- what cannot be trained ------------------------------------------------------------------------------------------


@dataclass
class Picky(RememberingLearner):
    """Cannot be trained on fewer rows than ten."""

    def train(self, state, batch, step):
        if len(batch.y) < 10:
            raise ValueError(f"{len(batch.y)} rows, the first being {batch.X[:1]}")
        return super().train(state, batch, step)


class PickyModel(BaseEstimator):
    """What a `Picky` learns by."""


@pytest.fixture
def picky(install, helpers):
    adapter = Adapter("picky", (helpers.type_name(PickyModel),), lambda model, resolve: Picky(resumable=False))
    install(helpers.plugin("picky", unlearnkit_adapters=lambda: [adapter]))


def test_a_shard_that_can_no_longer_be_trained_stays_isolated(path, data, picky):
    X, y, ids = data
    clf = new(path, PickyModel(), n_slices=1).fit(X, y, ids=ids)
    shards = np.array([shard for shard, _ in clf.partition_.locate(ids)])
    gone = ids[shards == 1][9:]
    with pytest.warns(RuntimeWarning, match="Shard 1"):
        receipt = clf.forget(gone)
    assert receipt.purged_at is not None
    assert receipt.repaired_at is None
    assert receipt.untrainable_shards == {1: "ValueError in the step of slice 0"}
    again = load(path, estimator=PickyModel())
    assert again.degraded_shards_ == (1,)
    assert again.receipts()[-1].untrainable_shards == receipt.untrainable_shards
    assert again.predict(X).shape == (80,)
    with pytest.raises(TrainingError):
        again.repair()
    # Other shards are repaired as before; this one is left alone.
    assert again.forget(ids[shards == 0][0]).repaired_at is not None
    with pytest.warns(RuntimeWarning, match="Shard 1"):
        twin = without(clf, data, [*gone, ids[shards == 0][0]])
    assert same(again, twin, X)
    # Without the last of its rows nothing is missing.
    assert again.forget(ids[shards == 1][:9]).repaired_at is not None
    assert {r.request_id for r in again.receipts() if r.repaired_at} == {1, 2, 3}
    assert Counter(p["kind"] for p in statements(again)) == {"purged": 3, "repaired": 3}


def test_a_first_fit_that_cannot_be_trained_can_be_called_again(path, data, picky):
    X, y, ids = data
    for _ in range(2):
        with pytest.raises(TrainingError):
            new(path, PickyModel(), n_shards=20, n_slices=1).fit(X, y, ids=ids)
    with pytest.raises(StoreInUseError):
        new(path).fit(X, y, ids=ids)


@pytest.mark.parametrize("when", ["raise", "prior"])
def test_when_all_are_isolated(path, data, when):
    X, y, ids = data
    clf = new(path, when_isolated=when).fit(X, y, ids=ids)
    cells = clf.partition_.locate(ids)
    # One row from the first slice of each shard.
    gone = [next(i for i, cell in zip(ids, cells, strict=True) if cell == (s, 0)) for s in range(3)]
    clf.forget(gone, repair=False)
    for model in (clf, load(path)):
        if when == "raise":
            with pytest.raises(NoConstituentError):
                model.predict(X)
        else:
            shares = np.bincount(kept(data, gone)[1]) / 77
            assert np.allclose(model.predict_proba(X), shares)
    clf.repair()
    assert same(clf, without(clf, data, gone), X)


def test_a_store_can_be_emptied(path, data):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    clf.forget(ids)
    for model in (clf, load(path)):
        assert model.degraded_shards_ == ()
        with pytest.raises(NoConstituentError):
            model.predict(X)
    assert [cell.parts for cell in clf._ensemble.store.ledger.cells()] == [()] * 9
    assert list((path / "blobs").iterdir()) == []


def test_training_on_in_another_environment_is_refused(path, data, monkeypatch):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    late = [i for i in ids if clf.partition_.locate([i])[0] in [(0, 2), (1, 1)]]
    gone = [late[0], next(i for i in late if clf.partition_.locate([i]) != clf.partition_.locate(late[:1]))]
    real = environment._version
    with monkeypatch.context() as patch:
        patch.setattr(environment, "_version", lambda name: "0.0.1" if name == "numpy" else real(name))
        elsewhere = load(path)
        assert not elsewhere.verify().same_environment
        with pytest.raises(EnvironmentChangedError):
            elsewhere.forget(gone)
        # Forgotten all the same.
        assert elsewhere.receipts()[-1].purged_at is not None
        with pytest.raises(EnvironmentChangedError):
            elsewhere.repair()
        (receipt,) = elsewhere.repair(rebuild=True)
        assert receipt.rebuilt_shards == (0, 1)
    assert same(load(path), without(clf, data, gone), X)
    repaired = [p for p in statements(clf) if p["kind"] == "repaired"]
    assert repaired[0]["repair"]["rebuilt_shards"] == [0, 1]
    assert "0.0.1" in read_versions(clf)


def read_versions(model):
    return model._ensemble.store.environment()["numpy"].split(", ")


def test_a_training_cut_short_in_another_environment_does_not_keep_the_store_shut(path, data, monkeypatch):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    cells = clf.partition_.locate(ids)
    late = [next(i for i, cell in zip(ids, cells, strict=True) if cell == (s, 2)) for s in range(2)]
    with monkeypatch.context() as patch:
        crash_after(patch, 1)
        with pytest.raises(Crash):
            clf.forget(late)
    real = environment._version
    monkeypatch.setattr(environment, "_version", lambda name: "0.0.1" if name == "numpy" else real(name))
    # It opens, though it cannot finish the training that was under way.
    with pytest.warns(RuntimeWarning, match="other library versions"):
        again = load(path)
    assert again.predict(X).shape == (80,)
    assert again.forget(ids[0], repair=False).purged_at is not None
    again.repair(rebuild=True)
    assert again.degraded_shards_ == ()
    load(path)


# -- policy, secrets -------------------------------------------------------------------------------------------------


def test_a_policy_is_declared_once_and_repeated_in_statements(path, data, monkeypatch):
    X, y, ids = data
    monkeypatch.setenv("UNLEARNKIT_OPERATOR", "privacy desk")
    policy = Policy(regime="CCPA 1798.105", days_to_answer=45, copies=("backup of Sunday", "export to Oslo"))
    clf = new(Store.at(path, policy)).fit(X, y, ids=ids)
    clf.forget(ids[0])
    receipt = load(path).forget(ids[1])
    assert receipt.due_at - receipt.received_at == timedelta(days=45)
    for predicate in statements(clf):
        assert predicate["request"]["regime"] == "CCPA 1798.105"
        assert predicate["outside_control"] == ["backup of Sunday", "export to Oslo"]
        assert predicate["operator"] == "privacy desk"


def test_receipts_count_on_the_slowest_reader(path, data):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    load(path, refresh_s=90)
    load(path, refresh_s=5)
    clf.forget(ids[0])
    request = statements(clf)[0]["request"]
    waited = datetime.fromisoformat(request["readers_refreshed_by"]) - datetime.fromisoformat(request["isolated"])
    assert waited >= timedelta(seconds=90)


def test_tombstones_are_lifted_after_their_retention(path, data, monkeypatch):
    X, y, ids = data
    clf = new(Store.at(path, Policy(retention_days=10))).fit(X, y, ids=ids)
    clf.forget(ids[0])
    for days, left in ((9, 1), (11, 0)):
        monkeypatch.setattr(recovery, "now", lambda days=days: datetime.now(UTC) + timedelta(days=days))
        clf = load(path)
        assert len(clf._ensemble.store.ledger.tombstones()) == left
    with pytest.raises(UnknownRecordError):
        clf.forget(ids[0])
    # What was signed stays.
    assert len(statements(clf)) == 2


def test_a_rotated_pseudonym_key_still_recognises_old_tombstones(path, data):
    X, y, ids = data
    new(path).fit(X, y, ids=ids).forget(ids[0])
    file = path / "keys" / "pseudonym.key"
    old = file.read_text()
    file.write_text(secrets.token_hex(32) + "\n" + old)
    clf = load(path)
    assert clf.forget(ids[0]).already_forgotten == 1
    clf.forget(ids[1])
    with pytest.raises(ForgottenRecordError, match="2 ids"):
        new(path).fit(X, y, ids=ids)
    assert same(new(path).fit(X, y, ids=ids, forgotten="drop"), without(clf, data, ids[:2]), X)
    names = {name.partition(":")[0] for p in statements(clf) for name in p["ids"]["pseudonyms"]}
    assert len(names) == 2
    # Once the old key is gone, so is the memory of what was forgotten under it.
    file.write_text(file.read_text().splitlines()[0])
    with pytest.raises(UnknownRecordError):
        load(path).forget(ids[0])


def test_secrets_from_the_environment_are_not_written(path, data, monkeypatch):
    X, y, ids = data
    partition, pseudonym = secrets.token_bytes(32), secrets.token_bytes(32)
    monkeypatch.setenv("UNLEARNKIT_PARTITION_SECRET", partition.hex())
    monkeypatch.setenv("UNLEARNKIT_PSEUDONYM_KEY", pseudonym.hex())
    clf = new(path, random_state=None).fit(X, y, ids=ids)
    clf.forget(ids[0])
    assert clf.partition_.secret == partition
    assert {file.name for file in (path / "keys").iterdir()} == {"signing.key", "signing.pub"}
    for file in path.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert not any(form in content for key in (partition, pseudonym) for form in (key, key.hex().encode()))
    monkeypatch.delenv("UNLEARNKIT_PSEUDONYM_KEY")
    with pytest.raises(KeyMissingError, match="pseudonym"):
        load(path).forget(ids[1])
    monkeypatch.setenv("UNLEARNKIT_PSEUDONYM_KEY", pseudonym.hex())
    assert load(path).forget(ids[0]).already_forgotten == 1


@pytest.mark.parametrize(("name", "word"), [("partition.key", "partition secret"), ("signing.key", "signing key")])
def test_a_missing_secret_says_where_it_was_looked_for(path, data, name, word):
    X, y, ids = data
    new(path).fit(X, y, ids=ids)
    backup = (path / "keys" / name).rename(path.parent / name)
    with pytest.raises(KeyMissingError, match=word) as raised:
        load(path).forget(ids[0])
    assert name in str(raised.value)
    shutil.move(backup, path / "keys" / name)
    clf = load(path)
    # A request whose purge could not be signed was recorded, and is carried out.
    clf.repair()
    done = [r for r in clf.receipts() if r.n_records]
    assert len(done) == (0 if name == "partition.key" else 1)
    assert same(clf, without(clf, data, ids[: len(done)]), X)


# -- save, copies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repair", [False, True])
def test_a_model_in_memory_is_saved_with_its_history(path, data, repair):
    X, y, ids = data
    clf = new().fit(X, y, ids=ids)
    clf.forget(ids[:2])
    clf.forget(ids[2], repair=repair)
    before, degraded = clf.model_digest_, clf.degraded_shards_
    assert clf.save(path) is clf
    assert clf.store == str(path)
    assert (clf.model_digest_, clf.degraded_shards_) == (before, degraded)
    other = load(path)
    assert (other.model_digest_, other.degraded_shards_) == (before, degraded)
    other.repair()
    assert same(other, without(clf, data, ids[:3]), X)
    # Numbers and tombstones go on.
    again = clf.forget([ids[0], ids[3]])
    assert (again.request_id, again.already_forgotten, again.n_records) == (3, 1, 1)
    assert all(r.repaired_at for r in clf.receipts())
    # What was done in memory is stated once it is stored.
    assert sorted((p["request"]["sequence"], p["kind"]) for p in statements(clf)) == [
        (sequence, kind) for sequence in (1, 2, 3) for kind in ("purged", "repaired")
    ]
    with pytest.raises(ForgottenRecordError, match="4 ids"):
        new(path).fit(X, y, ids=ids)
    assert load(path).verify().exact


def test_save_needs_a_free_place(path, data):
    X, y, ids = data
    stored = new(path).fit(X, y, ids=ids)
    before = told(path)
    clf = new().fit(X, y, ids=ids)
    with pytest.raises(StoreInUseError, match="already"):
        clf.save(path)
    assert clf.store is None
    assert told(path) == before
    with pytest.raises(ParameterError, match="already"):
        stored.save(path.with_name("b.sisa"))
    assert not path.with_name("b.sisa").exists()
    assert clf.forget(ids[0]).n_records == 1
    path.with_name("empty").mkdir()
    assert same(load(clf.save(path.with_name("empty")).store), clf, X)


def test_a_store_that_is_copied_is_another(path, data):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    shutil.copytree(path, path.with_name("b.sisa"))
    other = load(path.with_name("b.sisa"))
    other.forget(ids[0])
    assert clf.receipts() == ()
    assert same(clf, without(clf, data, []), X)


def through_joblib(model):
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


@pytest.mark.parametrize(
    "duplicate", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, copy.copy, through_joblib], ids=range(4)
)
def test_a_copy_of_a_stored_model_is_another_view_of_its_store(path, data, duplicate):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    clf.forget(ids[0], repair=False)
    other = duplicate(clf)
    assert other.degraded_shards_ == clf.degraded_shards_
    other.refresh_s = 0
    other.repair()
    other.forget(ids[1])
    assert [r.request_id for r in clf.receipts()] == [1, 2]
    clf.repair()
    assert same(clf, other, X)
    assert same(clf, without(clf, data, ids[:2]), X)


def test_a_pickle_of_a_stored_model_has_no_row_and_no_secret(path, data):
    X, y, ids = data
    clf = new(path, random_state=None).fit(X, y, ids=ids)
    clf.predict(X)
    clf.forget(ids[0])
    written = pickle.dumps(clf)
    assert str(path).encode() in written
    for row in X:
        assert not any(value.tobytes() in written for value in row)
    keys = clf._ensemble.store.secrets
    for secret in (keys.partition, *keys.pseudonym_keys, keys.signing_key.private_bytes_raw()):
        assert secret not in written
        assert secret.hex().encode() not in written
    for secret in (path / "keys").glob("*.key"):
        assert secret.read_bytes().strip() not in written


def test_a_search_needs_a_model_in_memory(path, data):
    X, y, ids = data
    grid = GridSearchCV(new(path), {"estimator__var_smoothing": [1e-9, 1e-3]}, cv=2, error_score="raise")
    with pytest.raises(StoreInUseError, match="store=None"):
        grid.fit(X, y, ids=ids)


def test_parts_of_a_store_may_live_apart(tmp_path, data):
    X, y, ids = data
    apart = {"blobs": tmp_path / "big" / "blobs", "ledger": f"sqlite:///{tmp_path}/db.sqlite", "keys": tmp_path / "k"}
    clf = new(Store(**apart)).fit(X, y, ids=ids)
    clf.forget(ids[0], repair=False)
    assert {p.name for p in tmp_path.iterdir()} >= {"big", "db.sqlite", "k"}
    assert (tmp_path / "big" / "blobs").is_dir()
    other = load(Store(**apart | {"keys": Keys(tmp_path / "k")}))
    other.repair()
    assert same(other, without(clf, data, ids[:1]), X)
    travelled = pickle.loads(pickle.dumps(other))
    assert same(travelled, other, X)
    assert Store(**apart).submit([ids[1]]) == (2,)


# -- verify ----------------------------------------------------------------------------------------------------------


def test_verify_fails_if_a_stored_row_is_of_a_forgotten_id(path, data):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    clf.forget(ids[0])
    assert clf.verify()
    ledger, addresses = clf._ensemble.store.ledger, clf._ensemble._eraser.addresses
    (pseudonym,) = addresses.items(ids[1]).values()
    # As if a row of another id of the request had come back from a backup.
    ledger.apply(Change(tombstones={pseudonym: 1}))
    for report in (clf.verify(), load(path).verify(), clf.verify(shards=[])):
        assert not report.exact
        assert report.forgotten_rows == 1
    assert clf.verify().differing == ()


def test_verify_from_the_rows_of_the_caller(path, data):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    clf.forget(ids[0])
    rest = kept(data, ids[:1])
    assert clf.verify(*rest[:2], ids=rest[2]).exact
    report = clf.verify(X, y, ids=ids)
    assert not report.exact
    (cell,) = clf.partition_.locate([ids[0]])
    assert {place for place in report.differing if place[0] == cell[0]} == {(cell[0], r) for r in range(cell[1], 3)}


def test_a_damaged_state_is_found_and_rebuilt(path, data):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    checkpoint = next(c for c in clf._ensemble.store.ledger.checkpoints().values() if (c.shard, c.slice) == (1, 1))
    blob = path / "blobs" / checkpoint.parts[0][1]
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    report = load(path).verify()
    assert (1, 1) in report.differing
    clf.repair(rebuild=True)
    assert clf.verify().exact
    assert same(load(path), new().fit(X, y, ids=ids), X)


# -- the promise -----------------------------------------------------------------------------------------------------


def lightgbm():
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=4, min_child_samples=3, num_leaves=4, verbose=-1)


@pytest.mark.parametrize(
    ("make", "examples"),
    [
        (GaussianNB, 16),
        (lambda: SGDClassifier(loss="log_loss", max_iter=5, tol=None), 10),
        (DecisionTreeClassifier, 10),
        (lightgbm, 6),
    ],
    ids=["nb", "sgd", "tree", "lightgbm"],
)
def test_store_memory_and_refit_are_equal(make, examples, tmp_path_factory):
    @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(draw):
        a_life(make(), np.random.default_rng(draw.draw(st.integers(0, 2**32 - 1))), tmp_path_factory.mktemp("life"))

    check()


def a_life(model, rng, folder):
    """Random requests to a store, by whoever happens to have it open, and the same to a model in memory."""
    n = int(rng.integers(40, 80))
    X = rng.normal(size=(n, 3))
    y = np.digitize(X[:, 0] + rng.normal(size=n) / 3, [-0.6, 0.6])
    ids = rng.integers(0, n, n)
    weight = rng.choice([0.0, 1.0, 2.5], n, p=[0.2, 0.5, 0.3]) if rng.random() < 0.4 else None
    slices = 1 if isinstance(model, DecisionTreeClassifier) else int(rng.integers(1, 5))
    shards, seed = int(rng.integers(1, 6)), int(rng.integers(1000))
    options = {"n_shards": shards, "n_slices": slices, "random_state": seed, "when_isolated": "prior"}
    memory = SISAClassifier(model, **options).fit(X, y, weight, ids=ids)
    stored = SISAClassifier(model, store=folder / "s", **options).fit(X, y, weight, ids=ids)
    open_now = [stored]
    alive = np.ones(n, dtype=bool)
    for _ in range(int(rng.integers(1, 6))):
        if not alive.any():
            break
        known = np.unique(ids[alive])
        gone = rng.permutation(known)[: int(rng.integers(1, 4))]
        alive &= ~np.isin(ids, gone)
        repair, how = bool(rng.random() < 0.4), rng.integers(3)
        memory.forget(gone, repair=repair)
        if how == 0:
            Store.at(folder / "s").submit([gone])
            open_now.append(load(folder / "s", refresh_s=0))
        elif how == 1:
            open_now.append(load(folder / "s"))
        reader = open_now[int(rng.integers(len(open_now)))]
        if how == 0:
            assert reader.receipts()[-1].n_ids == len(gone)
        else:
            assert reader.forget(gone, repair=repair).n_ids == len(gone)
        if rng.random() < 0.3:
            reader.repair()
            memory.repair()
    memory.repair()
    open_now[0].repair()
    rest = (X[alive], y[alive], None if weight is None else weight[alive])
    twin = memory.pinned().fit(*rest, ids=ids[alive])
    final = load(folder / "s", refresh_s=0)
    for one in (final, memory):
        assert one.model_digest_ == twin.model_digest_
        assert np.array_equal(one.predict_proba(X), twin.predict_proba(X))
    assert final.verify().exact
    assert {cell.n_records for cell in final._ensemble.store.ledger.cells() if cell.stale} == set()
    statements(final)


def test_threads_that_predict_and_refresh_do_not_disturb_a_purge(path, data):
    X, y, ids = data
    new(path, when_isolated="prior").fit(X, y, ids=ids)
    clf = load(path, refresh_s=0)
    done, failures = threading.Event(), []

    def predict():
        while not done.is_set():
            try:
                clf.predict(X[:2])
            except Exception as error:  # noqa: BLE001
                failures.append(error)
                return

    threads = [threading.Thread(target=predict) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for i in ids[:12]:
            clf.forget(i, repair=False)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert not any(cell.stale for cell in clf._ensemble.store.ledger.cells())
    clf.repair()
    assert clf.model_digest_ == clf.pinned().fit(X[12:], y[12:], ids=ids[12:]).model_digest_


def test_what_another_thread_read_before_plays_no_part_in_a_purge(path, data, monkeypatch):
    X, y, ids = data
    clf = new(path).fit(X, y, ids=ids)
    ensemble = clf._ensemble
    before, serve = ensemble._build, ensemble._serve

    def serve_while_another_takes_over_what_it_has_read():
        serve()
        ensemble._build = before

    monkeypatch.setattr(ensemble, "_serve", serve_while_another_takes_over_what_it_has_read)
    clf.forget(ids[0], repair=False)
    assert not any(cell.stale for cell in ensemble.store.ledger.cells())
    monkeypatch.undo()
    assert same(load(path).forget(ids[1]) and load(path), without(clf, data, ids[:2]), X)
