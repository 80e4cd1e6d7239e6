"""Drives a learner step by step, as the core does, without the core."""

from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace

import lightgbm
import numpy as np
import pytest

from unlearnkit.adapters import resolve
from unlearnkit.learner import Batch, Step

SEED = 1000
EXACT = {"n_jobs": 1, "deterministic": True, "force_row_wise": True, "verbose": -1}


@dataclass(frozen=True)
class Rows:
    """The rows of one shard; its slices are of equal size."""

    X: object
    y: np.ndarray
    labels: np.ndarray | None = None
    weight: np.ndarray | None = None


def first(X, n):
    return X.iloc[:n] if hasattr(X, "iloc") else X[:n]


def ends(n, n_slices):
    return [n * (r + 1) // n_slices for r in range(n_slices)]


def step_of(r, n_slices, start=None):
    start = Fraction(r, n_slices) if start is None else start
    return Step(shard=0, slice=r, start=start, stop=Fraction(r + 1, n_slices), epochs=Fraction(1), seed=SEED + r)


def batch_of(rows, n, n_old, scratch):
    return Batch(
        X=first(rows.X, n),
        y=rows.y[:n],
        sample_weight=None if rows.weight is None else rows.weight[:n],
        n_old=n_old,
        classes=rows.labels,
        u=np.random.default_rng(0).random(len(rows.y))[:n],
        X_shard=rows.X,
        scratch=scratch,
    )


def build(learner, rows, n_slices, *, cache=True, until=None):
    """The stored parts after every step."""
    scratch, parts, n_old = {}, [], 0
    for r, n in enumerate(ends(len(rows.y), n_slices)[:until]):
        state = learner.load(parts[-1]) if parts else None
        batch = batch_of(rows, n, n_old, scratch if cache else {})
        parts.append(learner.save(learner.train(state, batch, step_of(r, n_slices))))
        n_old = n
    return parts


def predict(learner, parts, X):
    return learner.predict(learner.load(parts[-1]), X)


def bare(model, rows):
    """The bare estimator with the seed of the only step, single-threaded and deterministic."""
    params = {**EXACT, **model.get_params(), "random_state": step_of(0, 1).seeded(model.random_state)}
    params |= {key: EXACT[key] for key in ("n_jobs",)}
    if params.get("force_col_wise"):
        del params["force_row_wise"]
    twin = type(model)(**params)
    y = rows.y if rows.labels is None else rows.labels[rows.y]
    return twin.fit(rows.X, y, sample_weight=rows.weight)


def numbers(n=360, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5))
    X[:, 4] = rng.integers(0, 6, n)
    signal = X[:, 0] + X[:, 1] * X[:, 2] + X[:, 4] % 3 + 0.3 * rng.normal(size=n)
    return X, signal


def rows_for(kind, weight=None):
    X, signal = numbers()
    targets = {
        "binary": (signal > 1).astype(int),
        "multiclass": np.digitize(signal, [0, 1.5]),
        "real": signal,
        "positive": np.abs(signal) + 0.1,
        "unit": 1 / (1 + np.exp(-signal)),
    }
    labels = {"binary": np.array(["no", "yes"]), "multiclass": np.array([10, 20, 30])}.get(kind)
    return Rows(X, targets[kind], labels, weight)


def wrap(kind="LGBMClassifier", **params):
    defaults = {"n_estimators": 8, "num_leaves": 6, "min_child_samples": 5}
    return resolve(getattr(lightgbm, kind)(**{**defaults, **params}))


@pytest.fixture(scope="session")
def drive():
    return SimpleNamespace(
        Rows=Rows,
        bare=bare,
        batch_of=batch_of,
        build=build,
        ends=ends,
        first=first,
        numbers=numbers,
        predict=predict,
        rows_for=rows_for,
        step_of=step_of,
        wrap=wrap,
    )
