"""A store whose ledger is in PostgreSQL: the whole life of a model, a server that goes away, and its password."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from contextlib import closing
from copy import copy, deepcopy
from itertools import chain
from multiprocessing import get_context

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.naive_bayes import GaussianNB

from unlearnkit import SISAClassifier, Store, fsck, load
from unlearnkit.errors import StateError, StoreError
from unlearnkit.ledger import RECEIVED, REPAIRED, Change, Checkpoint, Request
from unlearnkit.overview import overview
from unlearnkit.sql import SqlLedger
from unlearnkit.statements import read, verify_chain

PASSWORD = "open/sesame @1"
# As it is written in a URL, and parts of it that a message could quote.
SECRETS = (PASSWORD, "open%2Fsesame", "sesame")


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(90, 3)), rng.integers(0, 2, 90), np.arange(5000, 5090)


@pytest.fixture
def store(tmp_path, database):
    return at(tmp_path, database)


@pytest.fixture
def ledger(database):
    with closing(SqlLedger(database, create=True)) as ledger:
        yield ledger


@pytest.fixture
def fragile(postgres):
    """The server, which runs again after the test."""
    yield postgres
    postgres.stop()
    postgres.start()


def at(folder, url):
    return Store(folder / "blobs", url, keys=folder / "keys")


def new(store=None):
    return SISAClassifier(GaussianNB(), n_shards=3, n_slices=2, random_state=0, store=store)


def assert_exact(model, rows, gone):
    X, y, ids = rows
    kept = ~np.isin(ids, gone)
    twin = model.pinned().fit(X[kept], y[kept], ids=ids[kept])
    assert model.model_digest_ == twin.model_digest_
    assert np.array_equal(model.predict_proba(X), twin.predict_proba(X))


def name_in(url):
    return url.rpartition("@/")[2].partition("?")[0]


def texts(error):
    """All that an error says, and those behind it."""
    found = []
    while error is not None:
        found += [str(error), repr(error)]
        error = error.__cause__ or error.__context__
    return " ".join(found)


def run(code, *arguments, **environment):
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- a life ----------------------------------------------------------------------------------------------------------


def test_a_whole_life(tmp_path, database, rows):
    X, y, ids = rows
    clf = new(at(tmp_path, database)).fit(X, y, ids=ids)
    receipt = clf.forget(ids[:2], repair=False)
    assert receipt.purged_at is not None
    assert receipt.repaired_at is None

    code = """
import sys
from unlearnkit import Store, load
blobs, url, keys = sys.argv[1:]
assert Store(blobs, url, keys=keys).submit([[5010], [5011, 5012]]) == (2, 3)
clf = load(Store(blobs, url, keys=keys))
assert [r.request_id for r in clf.repair()] == [1, 2, 3]
clf.forget(5020)
"""
    run(code, tmp_path / "blobs", database, tmp_path / "keys")

    assert_exact(clf, rows, [*ids[:2], 5010, 5011, 5012, 5020])
    other = load(at(tmp_path, database))
    assert [receipt.n_records for receipt in other.receipts()] == [2, 1, 2, 1]
    assert other.verify().exact
    other.partial_fit(X[:3], y[:3], ids=[7001, 7002, 7003])
    other.rectify(X[3:4], y[3:4], ids=[7001])
    other.consolidate()
    assert other.verify().exact

    again = at(tmp_path, database)
    assert fsck.check(again) == ()
    found = overview(again)
    assert found.requests[REPAIRED] == 5
    assert (found.open, found.degraded_shards, found.missing_blobs, found.tombstones) == ((), {}, 0, 6)
    envelopes, keys = again.ledger.statements(), again.secrets.public_keys
    assert verify_chain(envelopes, keys) == []
    assert set(again.blobs.names()) == again.ledger.references()
    # A server is not promised to keep nothing: the statement says so.
    predicates = [read(envelope, keys)["predicate"] for envelope in envelopes]
    (how,) = {p["destroyed"]["how_verified"] for p in predicates if p["kind"] == "purged"}
    assert "stays in the files of its database server" in how


def test_a_fit_that_comes_again_finds_its_steps(store, rows):
    X, y, ids = rows
    first = new(store).fit(X, y, ids=ids)
    before = store.ledger.checkpoints()
    assert new(store).fit(X, y, ids=ids).model_digest_ == first.model_digest_
    assert store.ledger.checkpoints() == before


def test_a_used_database_without_a_ledger_is_told(store, database):
    with pytest.raises(StoreError, match=r"no ledger at postgresql.*nothing was made.*Check the URL"):
        SqlLedger(database)
    with pytest.raises(StoreError, match="no ledger"):
        load(store)


def test_damage_is_found_and_mended(tmp_path, database, postgres, rows):
    X, y, ids = rows
    store = at(tmp_path, database)
    clf = new(store).fit(X, y, ids=ids)
    clf.forget(ids[0])
    name = name_in(database)
    postgres.execute("UPDATE unlearnkit_checkpoints SET shard = 9", database=name)
    with pytest.raises(StateError, match=r"damaged at checkpoints.*fsck"):
        store.ledger.checkpoints()
    assert fsck.check(at(tmp_path, database)) != ()
    fsck.heal(at(tmp_path, database))
    healed = load(at(tmp_path, database))
    healed.repair()
    assert fsck.check(at(tmp_path, database)) == ()
    assert_exact(healed, rows, ids[:1])


# -- many at once ----------------------------------------------------------------------------------------------------


def make_and_submit(url, worker, queue):
    with closing(SqlLedger(url, create=True)) as ledger:
        queue.put([s for _ in range(5) for s in ledger.submit([Request(facts={"worker": worker})] * 2)])


def test_processes_that_make_a_ledger_at_once_make_one(database):
    context = get_context("fork")
    queue = context.SimpleQueue()
    processes = [context.Process(target=make_and_submit, args=(database, i, queue)) for i in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    numbers = [queue.get() for _ in processes]
    assert all(own == sorted(own) for own in numbers)
    assert sorted(chain.from_iterable(numbers)) == list(range(1, 81))
    with closing(SqlLedger(database)) as ledger:
        assert [request.sequence for request in ledger.requests()] == list(range(1, 81))
        assert ledger.check() == []


def test_a_forked_process_and_its_parent_go_on(ledger):
    ledger.submit([Request()])
    pid = os.fork()
    if not pid:
        try:
            assert ledger.submit([Request()]) == (2,)
        except BaseException:  # noqa: BLE001 - a fork must not go on with the tests
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert ledger.submit([Request()]) == (3,)


def test_a_reader_sees_one_moment(ledger):
    ledger.apply(Change(keys={"a", "b"}))
    with ledger._database.read() as reader:
        before = reader.rows("plan")
        ledger.apply(Change(keys={"b", "c", "d"}))
        assert sorted(reader.rows("plan")) == sorted(before)
    assert ledger.keys() == {"b", "c", "d"}


# -- a server that goes away -----------------------------------------------------------------------------------------


def test_a_server_that_is_gone_is_told_and_nothing_is_lost(tmp_path, database, fragile, rows):
    X, y, ids = rows
    clf = new(at(tmp_path, database)).fit(X, y, ids=ids)
    clf.forget(ids[0], repair=False)
    before = clf._ensemble.store.ledger.requests()
    fragile.stop()
    for call in (
        lambda: clf.forget(ids[1]),
        clf.repair,
        lambda: at(tmp_path, database).submit([[int(ids[1])]]),
        lambda: load(at(tmp_path, database)),
    ):
        with pytest.raises(StoreError, match=r"could not be used: .*acknowledged before is as it was.*try again"):
            call()
    fragile.start()
    # By the same object, whose connections are all dead.
    assert clf._ensemble.store.ledger.requests() == before
    assert clf.forget(ids[1]).repaired_at is not None
    assert clf.verify().exact
    assert_exact(load(at(tmp_path, database)), rows, ids[:2])


def cut_off(ledger, server):
    with ledger._database.write() as writer:
        writer.drop("plan", writer.rows("plan"))
        writer.epoch += 1
        server.stop()


def test_a_transaction_that_is_cut_off_leaves_nothing(database, fragile):
    with closing(SqlLedger(database, create=True)) as ledger:
        ledger.apply(Change(keys={"a"}, notes={"n": 1}))
        with pytest.raises(StoreError, match="acknowledged before is as it was"):
            cut_off(ledger, fragile)
        fragile.start()
        assert ledger.keys() == {"a"}
        assert ledger.epoch == 1
        assert ledger.check() == []
        assert ledger.commit(Checkpoint("a", 0, 0, (), "e"))


def test_what_was_acknowledged_before_a_crash_of_the_server_is_there(database, fragile):
    acknowledged, refused = [], threading.Event()

    def work():
        with closing(SqlLedger(database)) as own:
            try:
                while True:
                    acknowledged.extend(own.submit([Request(facts={"n": len(acknowledged)})]))
            except StoreError:
                refused.set()

    with closing(SqlLedger(database, create=True)) as ledger:
        thread = threading.Thread(target=work)
        thread.start()
        while len(acknowledged) < 20:
            time.sleep(0.01)
        fragile.stop()
        thread.join(60)
        assert refused.is_set()
        fragile.start()
        found = ledger.requests(RECEIVED)
        assert [request.sequence for request in found[: len(acknowledged)]] == acknowledged
        # The last one may have got there without an answer.
        assert len(found) - len(acknowledged) in (0, 1)
        assert ledger.check() == []


def test_a_connection_that_the_server_has_closed_is_not_used(ledger, postgres):
    ledger.submit([Request()])
    postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test%'")
    assert ledger.submit([Request()]) == (2,)


# -- the password ----------------------------------------------------------------------------------------------------


def test_the_password_is_nowhere(tmp_path, database, postgres, rows):
    X, y, ids = rows
    store = at(tmp_path, database)
    clf = new(store).fit(X, y, ids=ids)
    clf.forget(ids[0])
    said = [repr(store), repr(clf), str(clf), clf._repr_html_(), repr(store.ledger), repr(overview(store))]
    said += [receipt.to_json() for receipt in clf.receipts()]
    pickled = [pickle.dumps(thing) for thing in (clf, store, store.ledger, clone(clf), SqlLedger(database))]
    kept = [str(rows) for rows in postgres.rows(name_in(database)).values()]
    assert len(kept) == 11
    files = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 10
    for secret in SECRETS:
        assert not [text for text in (*said, *kept) if secret in text]
        assert not [data for data in (*pickled, *files) if secret.encode() in data]


def test_copies_in_the_same_process_know_the_password(store, rows):
    X, y, ids = rows
    clf = new(store).fit(X, y, ids=ids)
    for model in (pickle.loads(pickle.dumps(clf)), deepcopy(clf), clone(clf).fit(X, y, ids=ids)):
        assert model.model_digest_ == clf.model_digest_
    for ledger in (pickle.loads(pickle.dumps(store.ledger)), copy(store.ledger)):
        assert ledger.keys() == store.ledger.keys()
        ledger.close()


def test_a_pickle_in_another_process_is_given_the_password_by_the_environment(tmp_path, store, rows):
    X, y, ids = rows
    clf = new(store).fit(X, y, ids=ids)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(clf))
    code = """
import pickle, sys
from pathlib import Path
from unlearnkit.errors import StoreError
try:
    print(pickle.loads(Path(sys.argv[1]).read_bytes()).model_digest_)
except StoreError as error:
    print(error)
"""
    environment = {"PGPASSFILE": str(tmp_path / "none")}
    file = tmp_path / "model.pickle"
    assert run(code, file, PGPASSWORD=PASSWORD, **environment).strip() == clf.model_digest_
    refused = run(code, file, **environment)
    assert "password" in refused
    assert "Put the password into PGPASSWORD or ~/.pgpass" in refused


@pytest.mark.parametrize(
    "changed",
    [
        lambda url: url.replace("sesame", "sesame2"),
        lambda url: url.replace("%40", "@").replace(" ", ":"),
        lambda url: url.replace("/a?", "/none?"),
        lambda url: url + "&password=open%2Fsesame&sslpassword=sesame&sslmode=never",
        lambda url: url.replace("psycopg", "unheard"),
        lambda url: url.replace("%2F", "/"),
        lambda url: url.replace("?host=", "?host=/nowhere"),
    ],
)
def test_no_error_quotes_the_password(postgres, database, changed):
    url = changed(postgres.url("a"))
    with pytest.raises(StoreError) as caught:
        SqlLedger(url, create=True)
    assert "sesame" not in texts(caught.value)


def test_addresses_are_in_no_error_of_the_server(ledger, postgres, database):
    name = name_in(database)
    postgres.execute("DROP TABLE unlearnkit_items", database=name)
    with pytest.raises(StoreError) as caught:
        ledger.submit([Request(items={"hidden address": "hidden pseudonym"})])
    assert "hidden address" not in texts(caught.value)
    assert "hidden pseudonym" not in texts(caught.value)


def test_without_its_driver_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for url in ("postgresql+psycopg://host/churn", "postgres://host/churn", "postgresql://host/churn"):
        with pytest.raises(StoreError, match=r"nothing was made.*pip install 'unlearnkit\[postgres\]'"):
            SqlLedger(url)


@pytest.mark.parametrize("url", ["postgresql://me:a@b:9x/churn", "postgresql+psycopg://me:a:b:c@host:d/churn", "://"])
def test_a_url_that_is_none_is_told_without_being_quoted(url):
    with pytest.raises(StoreError, match=r"URL of the ledger cannot be read; nothing was made.*%40") as caught:
        SqlLedger(url)
    assert caught.value.__suppress_context__
