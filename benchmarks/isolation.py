"""How fast a request takes effect: isolating one id against retraining the plain model.

From the moment of isolation nothing served was influenced by the record, and only the votes of the affected shards have
changed. With ``--store`` the model lives in a folder: then a request is durable, its rows and states are destroyed on
disk, and a receipt is signed.
"""

from __future__ import annotations

import copy
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, parser, report, seconds
from lightgbm import LGBMClassifier
from sklearn.datasets import make_classification

from unlearnkit import SISAClassifier
from unlearnkit.sql import SqlLedger

GOAL, STORE_GOAL, RATE_GOAL, RECORD_GOAL = 500, 100, 200, 1.0
GROUP, STARTS = 100, 5
RECORD = "import sys; from unlearnkit.store import Store; Store.at(sys.argv[1]).submit([[int(sys.argv[2])]])"


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--store", action="store_true", help="in a folder instead of in memory")
    options = arguments(flags)
    if options.store:
        in_store(options)
    else:
        in_memory(options)


def in_memory(options: Any) -> None:
    n, trees, requests = (5_000, 20, 10) if options.quick else (200_000, 200, 50)
    X, y = make_classification(n, 50, n_informative=20, random_state=0)
    plain = LGBMClassifier(n_estimators=trees, verbose=-1, n_jobs=-1)
    retrain = [seconds(lambda: plain.fit(X, y)) for _ in range(options.repeat)]

    clf = SISAClassifier(plain, n_shards=20, n_slices=1, random_state=0)
    fit = seconds(lambda: clf.fit(X, y, ids=np.arange(n)))
    rng = np.random.default_rng(0)
    isolate, changed_right = [], True
    for request in rng.choice(n, size=requests, replace=False):
        model = copy.deepcopy(clf)
        isolate.append(seconds(lambda m=model, i=request: m.forget(int(i), repair=False)))
        changed_right &= only_affected_changed(clf, model, int(request), X[:200])

    times = [t / statistics.median(isolate) for t in retrain]
    speedup = statistics.median(times)
    rows = [
        row("retrain the plain model, all cores (s)", retrain),
        row("fit of the whole SISA model, one thread (s)", [fit]),
        row(f"isolate one id, {requests} requests (ms)", [1e3 * t for t in isolate]),
        row("times faster than one retrain", times),
    ]
    report(
        f"isolation: LightGBM {trees} trees, {n} x 50, S=20, R=1",
        rows,
        speedup=speedup,
        goal=GOAL,
        only_affected_changed=changed_right,
        ok=bool(speedup >= GOAL and changed_right),
    )


def in_store(options: Any) -> None:
    n, trees, requests = (5_000, 20, 10) if options.quick else (200_000, 200, 50)
    X, y = make_classification(n, 50, n_informative=20, random_state=0)
    plain = LGBMClassifier(n_estimators=trees, verbose=-1, n_jobs=-1)
    retrain = [seconds(lambda: plain.fit(X, y)) for _ in range(options.repeat)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.sisa")
        clf = SISAClassifier(plain, n_shards=20, n_slices=5, random_state=0, store=path, n_jobs=2)
        fit = seconds(lambda: clf.fit(X, y, ids=np.arange(n)))
        size = STARTS + requests + 5 * GROUP
        chosen = [int(i) for i in np.random.default_rng(0).choice(n, size=size, replace=False)]
        record = [sys.executable, "-c", RECORD, path]
        recorded = [seconds(lambda i=i: subprocess.run([*record, str(i)], check=True)) for i in chosen[:STARTS]]
        clf.repair()
        total, isolated, synced = [], [], []
        for request in chosen[STARTS : STARTS + requests]:
            began = datetime.now(UTC)
            with waiting_for_disk() as waited:
                total.append(seconds(lambda i=request: clf.forget(i, repair=False)))
            isolated.append((clf.receipts()[-1].isolated_at - began).total_seconds())
            synced.append(sum(waited))
            clf.repair()
        submitted, isolated_together, carried_out = [], [], []
        for start in range(STARTS + requests, len(chosen), GROUP):
            *group, last = chosen[start : start + GROUP]
            began = datetime.now(UTC)
            submitted.append(seconds(lambda ids=group: clf._ensemble.store.submit([[i] for i in ids])))
            carried_out.append(submitted[-1] + seconds(lambda i=last: clf.forget(i, repair=False)))
            isolated_together.append((clf.receipts()[-1].isolated_at - began).total_seconds())
            clf.repair()
        features, target, kept = without(X, y, chosen)
        exact = clf.pinned().fit(features, target, ids=kept).model_digest_ == clf.model_digest_
    times = [t / statistics.median(isolated) for t in retrain]
    rates = [GROUP / t for t in isolated_together]
    rows = [
        row("retrain the plain model, all cores (s)", retrain),
        row("fit of the whole SISA model into a store, two processes (s)", [fit]),
        row(f"isolate one id durably, {requests} requests (ms)", [1e3 * t for t in isolated]),
        row("times faster than one retrain", times),
        row("destroy its rows and states too, until the receipt is signed (ms)", [1e3 * t for t in total]),
        row("of this, waiting for the disk (ms)", [1e3 * t for t in synced]),
        row("times faster than one retrain, all of it", [t / statistics.median(total) for t in retrain]),
        row("record a request, from the start of a process to its end (s)", recorded),
        row(f"record {GROUP} requests durably (ms)", [1e3 * t for t in submitted]),
        row(f"requests a second, in groups of {GROUP}, until isolated", rates),
        row("the same, until the receipts are signed", [GROUP / t for t in carried_out]),
    ]
    report(
        f"isolation in a store: LightGBM {trees} trees, {n} x 50, S=20, R=5",
        rows,
        speedup=statistics.median(times),
        goal=STORE_GOAL,
        p99_ms=1e3 * float(np.quantile(isolated, 0.99)),
        p99_signed_ms=1e3 * float(np.quantile(total, 0.99)),
        rate=statistics.median(rates),
        rate_goal=RATE_GOAL,
        record_s=statistics.median(recorded),
        record_goal_s=RECORD_GOAL,
        exact=exact,
        ok=bool(
            exact
            and statistics.median(times) >= STORE_GOAL
            and statistics.median(rates) >= RATE_GOAL
            and statistics.median(recorded) <= RECORD_GOAL
        ),
    )


@contextmanager
def waiting_for_disk() -> Iterator[list[float]]:
    """The seconds of every fsync of a file of ours, and of every transaction of the ledger with those inside it."""
    waited: list[float] = []
    fsync, methods = os.fsync, {name: getattr(SqlLedger, name) for name in ("submit", "apply", "commit", "settle")}

    def timed(call: Any) -> Any:
        def inner(*args: Any, **options: Any) -> Any:
            found: list[Any] = []
            waited.append(seconds(lambda: found.append(call(*args, **options))))
            return found[0]

        return inner

    try:
        os.fsync = timed(fsync)
        for name, method in methods.items():
            setattr(SqlLedger, name, timed(method))
        yield waited
    finally:
        os.fsync = fsync
        for name, method in methods.items():
            setattr(SqlLedger, name, method)


def without(X: np.ndarray, y: np.ndarray, gone: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    keep = np.setdiff1d(np.arange(len(X)), gone)
    return X[keep], y[keep], keep


def only_affected_changed(before: SISAClassifier, after: SISAClassifier, request: int, X: np.ndarray) -> bool:
    """Whether just the shard of this id gave another vote, or none."""
    affected = before.partition_.locate([request])[0][0]
    features = before._ensemble.features(X)
    for shard, (old, new) in enumerate(zip(before.estimators_, after.estimators_, strict=True)):
        if shard == affected:
            if new is not None:
                return False
        elif not np.array_equal(vote(before, old, features), vote(after, new, features)):
            return False
    return True


def vote(model: SISAClassifier, state: object, X: np.ndarray) -> np.ndarray:
    return model._ensemble.learner.predict(state, X)


def row(what: str, values: list[float]) -> dict[str, object]:
    spread = f"{min(values):.3g} .. {max(values):.3g}"
    return {"what": what, "median": statistics.median(values), "spread": spread}


if __name__ == "__main__":
    main()
