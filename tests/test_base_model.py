"""A base model: every shard starts from it, it is part of every key, and a request says that it does not reach it."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.tree import DecisionTreeClassifier

from unlearnkit import SISAClassifier, load
from unlearnkit.ensemble import SisaEnsemble
from unlearnkit.errors import CapabilityError, ParameterError, StateError, StoreInUseError
from unlearnkit.statements import read
from unlearnkit.store import Store

lightgbm = pytest.importorskip("lightgbm")
N = 120


def booster(**options):
    return lightgbm.LGBMClassifier(**{"n_estimators": 4, "min_child_samples": 3, "verbose": -1} | options)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 3))
    return X, (X[:, 0] + 0.3 * rng.normal(size=N) > 0).astype(int), np.arange(N) // 2


def public(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(80, 3))
    return booster().fit(X, (X[:, 0] > 0).astype(int))


@pytest.fixture(scope="module")
def base():
    return public(1)


@pytest.fixture(params=["memory", "store"])
def where(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "a.sisa"


def new(base, where=None, **options):
    return SISAClassifier(
        booster(), base=base, store=where, **{"n_shards": 3, "n_slices": 2, "random_state": 0} | options
    )


def without(data, gone):
    X, y, ids = data
    keep = ~np.isin(ids, gone)
    return {"X": X[keep], "y": y[keep], "ids": ids[keep]}


def test_forgetting_is_exact(base, where, data):
    X, y, ids = data
    model = new(base, where).fit(X, y, ids=ids)
    assert model.verify().exact
    assert model.model_digest_ != new(None).fit(X, y, ids=ids).model_digest_
    model.forget([3, 8, 40])
    twin = model.pinned().fit(**without(data, [3, 8, 40]))
    assert model.model_digest_ == twin.model_digest_
    assert np.array_equal(model.predict_proba(X), twin.predict_proba(X))


def test_a_history_is_exact(base, where, data):
    X, y, ids = data

    def history(model, gone):
        part = without(data, gone)
        first = part["ids"] < 40
        model.fit(part["X"][first], part["y"][first], ids=part["ids"][first])
        model.partial_fit(part["X"][~first], part["y"][~first], ids=part["ids"][~first])
        model.rectify(X[20:21] + 1, y[20:21], ids=ids[20:21])
        return model

    model = history(new(base, where), [])
    model.forget([3, 50])
    twin = history(model.pinned(), [3, 50])
    assert model.model_digest_ == twin.model_digest_
    model.consolidate()
    twin.consolidate()
    assert model.model_digest_ == twin.model_digest_
    assert model.verify().exact


def test_the_base_is_part_of_every_key(base, data):
    X, y, ids = data
    own, other = (new(one).fit(X, y, ids=ids)._ensemble.plan for one in (base, public(2)))
    assert own.base != other.base
    assert not own.keys & other.keys
    assert own.keys == new(public(1)).fit(X, y, ids=ids)._ensemble.plan.keys


def test_a_store_needs_no_base_from_its_user(base, tmp_path, data):
    X, y, ids = data
    path = tmp_path / "a.sisa"
    model = new(base, path).fit(X, y, ids=ids)
    model.forget(3, repair=False)
    again = load(path)
    again.repair()
    assert again.model_digest_ == model.pinned().fit(**without(data, [3])).model_digest_
    copied = pickle.loads(pickle.dumps(again))
    copied.forget(4)
    assert again.pinned().fit(**without(data, [3, 4])).model_digest_ == copied.model_digest_


@pytest.mark.parametrize("before", ["fit", "save"])
def test_a_receipt_says_what_it_does_not_reach(base, tmp_path, data, before):
    X, y, ids = data
    path = tmp_path / "a.sisa"
    model = new(base, path if before == "fit" else None).fit(X, y, ids=ids)
    if before == "save":
        model.save(path)
    receipt = model.forget(3)
    assert receipt.base == model._ensemble.plan.base
    store = Store.at(path)
    (first, *_) = [read(e, store.secrets.public_keys)["predicate"] for e in store.ledger.statements()]
    assert first["model"]["base"] == receipt.base
    assert any("base model" in text for text in first["outside_control"])
    assert json.loads(receipt.to_json())["base"] == receipt.base
    assert new(None).fit(X, y, ids=ids).forget(3).base is None


def test_a_store_is_of_one_base(base, tmp_path, data):
    X, y, ids = data
    path = tmp_path / "a.sisa"
    digest = new(base, path).fit(X, y, ids=ids).model_digest_
    assert new(base, path).fit(X, y, ids=ids).model_digest_ == digest
    for other in (None, public(2)):
        with pytest.raises(StoreInUseError, match="its base differs"):
            new(other, path).fit(X, y, ids=ids)
    assert load(path).model_digest_ == digest


def test_a_base_that_was_lost_is_said_and_comes_back_with_a_fit(base, tmp_path, data):
    X, y, ids = data
    path = tmp_path / "a.sisa"
    model = new(base, path).fit(X, y, ids=ids)
    store = Store.at(path)
    for _, name in store.ledger.checkpoint(model._ensemble.plan.base).parts:
        (path / "blobs" / name).unlink()
    # LightGBM's states hold its trees, in the same blob.
    with pytest.raises(StateError, match=r"base model.*not in the store any more.*base="):
        load(path)
    # Who needs no state is not held up.
    SisaEnsemble.without_learner(Store.at(path)).forget(list(range(20)), repair=False)
    rest = without(data, np.arange(20))
    again = new(base, path).fit(rest["X"], rest["y"], ids=rest["ids"])
    assert again.verify().exact
    assert again.receipts()[0].repaired_at is not None


def test_processes_start_from_it_too(base, data):
    X, y, ids = data
    one, two = (new(base, n_jobs=n).fit(X, y, ids=ids) for n in (1, 2))
    assert one.model_digest_ == two.model_digest_


def test_a_clone_keeps_it_as_it_is(base):
    assert clone(new(base)).base is base
    assert base.booster_.num_trees() == 4


def test_who_cannot_start_from_one_says_so(base, data, tmp_path):
    X, y, ids = data
    model = SISAClassifier(DecisionTreeClassifier(), base=base, store=tmp_path / "a.sisa")
    with pytest.raises(CapabilityError, match="cannot start from a base model"):
        model.fit(X, y, ids=ids)
    assert not (tmp_path / "a.sisa").exists()


@pytest.mark.parametrize("wrong", [booster(), "a string"])
def test_what_no_training_can_start_from_is_refused(wrong, data, tmp_path):
    X, y, ids = data
    with pytest.raises(ParameterError):
        new(wrong, tmp_path / "a.sisa").fit(X, y, ids=ids)
    assert not (tmp_path / "a.sisa").exists()
