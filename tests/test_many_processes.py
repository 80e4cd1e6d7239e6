"""Several processes at one store: one order of requests, nothing lost, nothing brought back."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from itertools import chain

import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB

from unlearnkit import SISAClassifier, Store, load
from unlearnkit.ledger import REPAIRED
from unlearnkit.statements import read, verify_chain

N, IDS, SUBMITTERS = 400, 300, 8
# Far more than it takes, on a machine that has other things to do.
PATIENCE_S = 900

# Where the wrapped model is the user's own: it waits in its fit until it is told to go on.
WAITING = """
import os, time
from pathlib import Path
from sklearn.tree import DecisionTreeClassifier

class Waiting(DecisionTreeClassifier):
    def fit(self, X, y, sample_weight=None):
        here = os.environ.get("WAIT_HERE")
        if here and not (Path(here) / "started").exists():
            (Path(here) / "started").touch()
            end = time.monotonic() + 300
            while not (Path(here) / "go").exists():
                assert time.monotonic() < end
                time.sleep(0.01)
        return super().fit(X, y, sample_weight)
"""


def rows(n=N, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)), rng.integers(0, 3, n), rng.integers(0, IDS, n)


WARNINGS = """
    import warnings
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "Shrunken")
"""


@pytest.fixture(scope="session")
def running(programs):
    """A context in which a Python process runs some code."""

    @contextmanager
    def run(code, *arguments):
        command = [programs / "python", "-c", textwrap.dedent(WARNINGS + code), *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, text=True, **pipes) as process:
            try:
                yield process
            finally:
                process.kill()

    return run


def result(process, timeout=PATIENCE_S):
    """What a process has written as JSON on its last line."""
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def wait_for(file, process):
    end = time.monotonic() + PATIENCE_S
    while not file.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.01)


def check_chain(model):
    """Every statement of the store is in one sound chain; gives kind and sequence of each."""
    store = model._ensemble.store
    envelopes = store.ledger.statements()
    assert verify_chain(envelopes, store.secrets.public_keys) == []
    predicates = [read(envelope, store.secrets.public_keys)["predicate"] for envelope in envelopes]
    return [(p["kind"], p["request"]["sequence"]) for p in predicates]


# -- many at once ----------------------------------------------------------------------------------------------------

PLACE = """
    import json, sys
    from unlearnkit import locks
    from unlearnkit.store import Store
    # Ten processes that never rest: on a busy machine one may wait its turn for long.
    locks.WRITER_S = 900.0
    blobs, ledger, keys = json.loads(sys.argv[1])
    store = Store(blobs, ledger, keys=keys)
"""
SUBMIT = """
    import warnings
    how, wanted = sys.argv[2], json.loads(sys.argv[3])
    if how == "submit":
        sequences = [store.submit([ids])[0] for ids in wanted]
    else:
        from unlearnkit import load
        clf = load(store)
        # A reader that stands in the way of a purge leaves it to the next: that is no failure.
        warnings.filterwarnings("ignore", "A reader keeps old pages", RuntimeWarning)
        sequences = [clf.forget(ids, repair=False).request_id for ids in wanted]
    print(json.dumps(sequences))
"""
REPAIR = """
    import warnings
    from pathlib import Path
    from unlearnkit import load
    warnings.filterwarnings("ignore", "A reader keeps old pages", RuntimeWarning)
    clf, rounds = load(store), 0
    while not Path(sys.argv[2]).exists():
        clf.repair()
        rounds += 1
    print(json.dumps(rounds))
"""
READ = """
    from pathlib import Path
    import numpy as np
    from unlearnkit import load
    clf, rounds, seen = load(store, refresh_s=0), 0, set()
    X = np.random.default_rng(0).normal(size=(20, 3))
    while not Path(sys.argv[2]).exists():
        found = clf.predict_proba(X)
        assert np.allclose(found.sum(axis=1), 1)
        seen.add(found.tobytes())
        rounds += 1
    print(json.dumps([rounds, len(seen)]))
"""


@pytest.mark.parametrize(("kind", "n_requests"), [("sqlite", 50), ("postgres", 20)])
def test_many_submit_while_others_repair_and_read(tmp_path, kind, n_requests, request, running):
    X, y, ids = rows()
    stop = tmp_path / "stop"
    database = request.getfixturevalue("database") if kind == "postgres" else str(tmp_path / "ledger.sqlite")
    parts = [str(tmp_path / "blobs"), database, str(tmp_path / "keys")]
    place, store = json.dumps(parts), Store(*parts[:2], keys=parts[2])
    options = {"n_shards": 4, "n_slices": 3, "random_state": 0, "when_isolated": "prior"}
    clf = SISAClassifier(GaussianNB(), store=store, **options).fit(X, y, ids=ids)
    known = np.unique(ids).tolist()
    rng = np.random.default_rng(1)
    # Two thirds of the ids, each asked for several times.
    pool = rng.permutation(known)[: 2 * len(known) // 3]
    wanted = [
        [rng.choice(pool, int(rng.integers(1, 4)), replace=False).tolist() for _ in range(n_requests)]
        for _ in range(SUBMITTERS)
    ]
    how = ["submit"] * 5 + ["forget"] * 3
    with running(PLACE + REPAIR, place, stop) as repairer, running(PLACE + READ, place, stop) as reader:
        submitters = [
            running(PLACE + SUBMIT, place, way, json.dumps(groups)) for way, groups in zip(how, wanted, strict=True)
        ]
        processes = [submitter.__enter__() for submitter in submitters]
        try:
            sequences = [result(process) for process in processes]
        finally:
            for submitter in submitters:
                submitter.__exit__(None, None, None)
        stop.touch()
        rounds = result(repairer)
        reads, seen = result(reader)
    assert rounds >= 1
    assert reads >= 2
    assert seen >= 2
    final = load(store)
    final.repair()

    # One total order, in which each process finds its own requests in the order in which it made them.
    assert sorted(chain.from_iterable(sequences)) == list(range(1, SUBMITTERS * n_requests + 1))
    assert all(own == sorted(own) for own in sequences)
    requests = final._ensemble.store.ledger.requests()
    assert [r.sequence for r in requests] == list(range(1, SUBMITTERS * n_requests + 1))
    assert {r.state for r in requests} == {REPAIRED}
    isolated = [r.facts["isolated_at"] for r in requests]
    assert isolated == sorted(isolated)

    # Each id is erased once, by the first request that names it.
    asked = {
        s: group for own, groups in zip(sequences, wanted, strict=True) for s, group in zip(own, groups, strict=True)
    }
    erased: set[int] = set()
    for receipt in final.receipts():
        fresh = set(asked[receipt.request_id]) - erased
        assert receipt.n_records == np.isin(ids, list(fresh)).sum()
        assert receipt.already_forgotten == len(set(asked[receipt.request_id]) & erased)
        assert (receipt.skipped, receipt.rejected) == ((), "")
        erased |= fresh
    assert len(final._ensemble.store.ledger.tombstones()) == len(erased)
    assert sorted(check_chain(final)) == sorted((kind, s) for kind in ("purged", "repaired") for s in asked)

    # What is left is what one request after the other leaves, and what never having seen them does.
    serial = SISAClassifier(GaussianNB(), **options).fit(X, y, ids=ids)
    serial.forget(sorted(erased))
    rest = ~np.isin(ids, list(erased))
    twin = final.pinned().fit(X[rest], y[rest], ids=ids[rest])
    assert final.model_digest_ == serial.model_digest_ == twin.model_digest_ == clf.model_digest_
    for model in (final, clf):
        assert np.array_equal(model.predict_proba(X), twin.predict_proba(X))
    assert final.verify().exact
    assert set(final._ensemble.store.blobs.names()) == final._ensemble.store.ledger.references()


# -- a repair in flight ----------------------------------------------------------------------------------------------

IN_FLIGHT = """
    import sys, json, warnings
    sys.path.insert(0, sys.argv[2])
    from waiting import Waiting
    from unlearnkit import load
    clf = load(sys.argv[1], estimator=Waiting(random_state=0))
    done = clf.repair()
    print(json.dumps([[r.request_id for r in done], clf.degraded_shards_]))
"""


@pytest.fixture
def waiting(tmp_path, monkeypatch):
    """The class `Waiting`, for this process and others."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "waiting.py").write_text(WAITING)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delenv("WAIT_HERE", raising=False)
    monkeypatch.delitem(sys.modules, "waiting", raising=False)
    from waiting import Waiting  # type: ignore[import-not-found]

    yield Waiting
    sys.modules.pop("waiting", None)


@pytest.mark.parametrize("elsewhere", ["same shard", "other shard", "both"])
def test_a_repair_in_flight_brings_nothing_back(tmp_path, waiting, monkeypatch, elsewhere, running):
    X, y, _ = rows(90)
    ids = np.arange(1000, 1090)
    path = tmp_path / "a.sisa"
    clf = SISAClassifier(waiting(random_state=0), n_shards=3, n_slices=1, random_state=0, store=path).fit(X, y, ids=ids)
    shards = np.array([shard for shard, _ in clf.partition_.locate(ids)])
    first, later = {s: ids[shards == s][0] for s in range(3)}, {s: ids[shards == s][1] for s in range(3)}
    clf.forget([first[0], first[1]], repair=False)
    gone = {"same shard": [later[0]], "other shard": [later[2]], "both": [later[0], later[1], later[2]]}[elsewhere]
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setenv("WAIT_HERE", str(place))
    with running(IN_FLIGHT, path, tmp_path / "code") as repairer:
        wait_for(place / "started", repairer)
        # Without the user's code; the repair does not keep it waiting.
        receipt = load(path).forget(gone, repair=False)
        assert receipt.purged_at is not None
        assert not (place / "go").exists()
        (place / "go").touch()
        done, degraded = result(repairer)
    assert degraded == []
    assert done == [1]
    assert [r.repaired_at is not None for r in clf.receipts()] == [True, True]
    rest = ~np.isin(ids, [first[0], first[1], *gone])
    twin = clf.pinned().fit(X[rest], y[rest], ids=ids[rest])
    assert clf.model_digest_ == twin.model_digest_
    assert np.array_equal(clf.predict_proba(X), twin.predict_proba(X))
    store = clf._ensemble.store
    assert store.ledger.checkpoints().keys() == store.ledger.keys()
    assert set(store.blobs.names()) == store.ledger.references()
    assert check_chain(clf) == [("purged", 1), ("purged", 2), ("repaired", 1), ("repaired", 2)]


def test_rows_of_weight_zero_are_forgotten_while_a_repair_is_in_flight(tmp_path, waiting, monkeypatch, running):
    X, y, _ = rows(90)
    ids = np.arange(1000, 1090)
    weight = (ids % 5 > 0).astype(float)
    path = tmp_path / "a.sisa"
    clf = SISAClassifier(waiting(random_state=0), n_shards=3, n_slices=1, random_state=0, store=path)
    clf.fit(X, y, weight, ids=ids)
    shards = np.array([shard for shard, _ in clf.partition_.locate(ids)])
    clf.forget([ids[(shards == s) & (weight > 0)][0] for s in range(3)], repair=False)
    # Their removal changes the stored rows of a shard that is still to be trained, and no key of its plan.
    idle = [ids[(shards == s) & (weight == 0)][0] for s in range(3)]
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setenv("WAIT_HERE", str(place))
    with running(IN_FLIGHT, path, tmp_path / "code") as repairer:
        wait_for(place / "started", repairer)
        load(path).forget(idle, repair=False)
        (place / "go").touch()
        _, degraded = result(repairer)
    assert degraded == []
    assert all(r.repaired_at for r in clf.receipts())
    gone = [*idle, *(ids[(shards == s) & (weight > 0)][0] for s in range(3))]
    rest = ~np.isin(ids, gone)
    twin = clf.pinned().fit(X[rest], y[rest], weight[rest], ids=ids[rest])
    assert clf.model_digest_ == twin.model_digest_


def test_two_repairs_do_not_train_the_same_steps(tmp_path, waiting, monkeypatch, running):
    X, y, _ = rows(60)
    ids = np.arange(1000, 1060)
    path = tmp_path / "a.sisa"
    clf = SISAClassifier(waiting(random_state=0), n_shards=2, n_slices=1, random_state=0, store=path).fit(X, y, ids=ids)
    clf.forget(ids[:9], repair=False)
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setenv("WAIT_HERE", str(place))
    with running(IN_FLIGHT, path, tmp_path / "code") as repairer:
        wait_for(place / "started", repairer)
        # Opening does not wait for a training that another process is at.
        assert load(path, estimator=waiting(random_state=0)).degraded_shards_ == (0, 1)
        with running(IN_FLIGHT, path, tmp_path / "code") as other:
            time.sleep(0.5)
            assert other.poll() is None
            (place / "go").touch()
            assert result(repairer)[1] == []
            assert result(other)[1] == []
    assert clf.verify().exact
    assert check_chain(clf) == [("purged", 1), ("repaired", 1)]


# -- readers, and owners of locks that die ----------------------------------------------------------------------------

FORGET = """
    import sys, json
    from unlearnkit import load
    receipt = load(sys.argv[1]).forget(json.loads(sys.argv[2]), repair=False)
    print(json.dumps(receipt.n_records))
"""


def test_a_reader_stops_serving_what_another_process_has_forgotten(tmp_path, running):
    X, y, ids = rows(120)
    path = tmp_path / "a.sisa"
    options = {"n_shards": 3, "n_slices": 2, "random_state": 0, "when_isolated": "prior"}
    SISAClassifier(GaussianNB(), store=path, **options).fit(X, y, ids=ids)
    now, soon, late = (load(path, refresh_s=s) for s in (0, 1, 3600))
    before = [model.predict_proba(X) for model in (now, soon, late)]
    with running(FORGET, path, json.dumps(np.unique(ids[:20]).tolist())) as process:
        assert result(process) >= 20
    found = now.predict_proba(X)
    assert not np.array_equal(found, before[0])
    time.sleep(1.0)
    assert np.array_equal(soon.predict_proba(X), found)
    assert np.array_equal(late.predict_proba(X), before[2])
    assert np.array_equal(load(path).predict_proba(X), found)


HOLD = """
    import sys, time
    from pathlib import Path
    from unlearnkit.store import Store
    store = Store.at(sys.argv[1])
    with store.locks.repairer(wait=False), store.at_rest():
        # In the middle of a write, too.
        (Path(sys.argv[1]) / "blobs" / ".tmp-0123").write_bytes(b"half")
        Path(sys.argv[2]).touch()
        time.sleep(600)
"""


def test_a_process_that_dies_holds_nothing(tmp_path, running):
    X, y, ids = rows(120)
    path = tmp_path / "a.sisa"
    clf = SISAClassifier(GaussianNB(), n_shards=3, n_slices=2, random_state=0, store=path).fit(X, y, ids=ids)
    with running(HOLD, path, tmp_path / "held") as holder:
        wait_for(tmp_path / "held", holder)
        assert clf._ensemble.store.locks.is_repairing()
        # A request can always be recorded.
        assert Store.at(path).submit([int(ids[0])]) == (1,)
        holder.kill()
        holder.wait()
    began = time.monotonic()
    assert clf.forget(ids[1]).repaired_at is not None
    assert time.monotonic() - began < 30
    assert [r.repaired_at is not None for r in load(path).receipts()] == [True, True]
    assert not list((path / "blobs").glob(".tmp-*"))
    assert clf.verify().exact
