"""How fast a request takes effect: isolating one id against retraining the plain model.

From the moment of isolation nothing served or stored was influenced by the record, and only the votes of the
affected shards have changed.
"""

from __future__ import annotations

import copy
import statistics

import numpy as np
from common import arguments, report, seconds
from lightgbm import LGBMClassifier
from sklearn.datasets import make_classification

from unlearnkit import SISAClassifier

GOAL = 500


def main() -> None:
    options = arguments(__doc__)
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
