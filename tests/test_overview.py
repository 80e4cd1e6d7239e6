"""The overview of a store."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier

from unlearnkit import SISAClassifier, Store, load
from unlearnkit.environment import environment_digest
from unlearnkit.errors import StoreError
from unlearnkit.ledger import Change
from unlearnkit.overview import overview
from unlearnkit.policy import Policy
from unlearnkit.store import ENVIRONMENT

pytest.importorskip("sqlalchemy")
pytest.importorskip("unlearnkit_sklearn")


@pytest.fixture
def path(tmp_path, helpers):
    X, y, ids = helpers.rows()
    path = tmp_path / "toy.sisa"
    store = Store.at(path, policy=Policy(regime="CCPA", days_to_answer=45))
    SISAClassifier(SGDClassifier(loss="log_loss"), n_shards=3, n_slices=2, store=store, random_state=0).fit(
        X, y, ids=ids
    )
    return path


def some(path, n, start=0):
    """Ids of records of the store."""
    return np.arange(1000 + start, 1000 + start + n).tolist()


def shift(path, sequence, **times):
    """Move the times of a request."""
    ledger = Store.at(path).ledger
    request = ledger.request(sequence)
    ledger.apply(Change(requests=(replace(request, facts=request.facts | times),)))


def contents(path):
    """What every file of the store but the log of the database says."""
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and "sqlite-" not in file.name}


def test_a_fitted_store(path):
    found = overview(Store.at(path))

    assert (found.model, found.task, found.n_shards, found.n_slices) == ("SGDClassifier", "classification", 3, 2)
    assert found.n_records == 60
    assert found.policy == Policy(regime="CCPA", days_to_answer=45)
    assert set(found.requests.values()) == {0}
    assert (found.open, found.overdue, found.degraded_shards, found.untrainable_shards) == ((), (), {}, {})
    assert found.steps_total == len(Store.at(path).ledger.keys())
    assert not found.training
    assert found.changed == {}
    assert "scikit-learn" in found.environment
    blobs = sum(file.stat().st_size for file in (path / "blobs").iterdir())
    assert found.sizes.data > 0 < found.sizes.states
    assert found.sizes.data + found.sizes.states == blobs
    assert found.sizes.ledger >= (path / "ledger.sqlite").stat().st_size
    assert (found.sizes.unreferenced, found.missing_blobs) == (0, 0)


def test_it_changes_nothing(path):
    Store.at(path).submit([some(path, 1)])
    before = contents(path)
    overview(Store.at(path))

    assert contents(path) == before


def test_requests_by_state_and_days_left(path):
    model = load(path)
    model.forget(some(path, 1))
    model.forget(some(path, 3, start=1), repair=False)
    Store.at(path).submit([some(path, 1, start=5)])
    found = overview(Store.at(path))

    assert found.requests == {"received": 1, "isolated": 0, "purged": 1, "repaired": 1, "rejected": 0}
    assert [(request.sequence, request.state) for request in found.open] == [(2, "purged"), (3, "received")]
    assert all(44.9 < request.days_left < 45 for request in found.open)
    assert found.tombstones == 4
    assert found.statements == 3
    assert found.degraded_shards
    assert sum(found.degraded_shards.values()) <= found.steps_total
    assert tuple(found.degraded_shards) == load(path).degraded_shards_


def test_what_is_overdue(path):
    load(path).forget(some(path, 1), repair=False)
    Store.at(path).submit([some(path, 1, start=1), some(path, 1, start=2)])
    request = Store.at(path).ledger.request(2)
    past = overview(Store.at(path)).open[0].received_at - timedelta(days=1)
    for sequence in (1, 3):
        shift(path, sequence, due_at=past.isoformat())
    found = overview(Store.at(path))

    # The first is purged: it is forgotten, and only its repair is late.
    assert found.overdue == (3,)
    assert [round(r.days_left) for r in found.open] == [-1, 45, -1]
    assert request.state == "received"


def test_what_is_lost_and_what_is_left_over(path):
    blobs = sorted((path / "blobs").iterdir())
    blobs[0].unlink()
    (path / "blobs" / ("0" * 64)).write_bytes(b"12345")
    found = overview(Store.at(path))

    assert found.missing_blobs == 1
    assert found.sizes.unreferenced == 5


def test_another_environment_is_told(path):
    store = Store.at(path)
    other = store.environment() | {"numpy": "1.0", "gone": "3"}
    digest = environment_digest(other)
    store.ledger.apply(Change(notes={ENVIRONMENT + digest: other}))
    for checkpoint in store.ledger.checkpoints().values():
        store.ledger.commit(replace(checkpoint, environment=digest))
    found = overview(Store.at(path))

    assert found.changed == {"numpy": ("1.0", np.__version__), "gone": ("3", "not installed")}


def test_a_shard_that_cannot_be_trained(path):
    Store.at(path).apply(Change(notes={"untrainable": {"2": "ValueError in the step of slice 0"}, "training": True}))
    found = overview(Store.at(path))

    assert found.untrainable_shards == {2: "ValueError in the step of slice 0"}
    assert found.training


def test_no_store(tmp_path):
    with pytest.raises(StoreError, match="no store"):
        overview(Store.at(tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []
