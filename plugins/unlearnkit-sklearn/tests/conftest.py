"""Drives learners step by step, as the core does, without the core."""

from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from unlearnkit.adapters import resolve
from unlearnkit.learner import Batch, Step


@dataclass(frozen=True)
class Rows:
    """The records of one shard, in their order, and the ends of its slices."""

    X: object
    y: np.ndarray
    ends: tuple
    weight: np.ndarray | None = None

    def without(self, row):
        """The same shard, one record less."""
        keep = np.arange(len(self.y)) != row
        X = self.X[keep] if not hasattr(self.X, "iloc") else self.X[keep].reset_index(drop=True)
        weight = None if self.weight is None else self.weight[keep]
        return Rows(X, self.y[keep], tuple(end - (row < end) for end in self.ends), weight)


def first(X, n):
    return X.iloc[:n] if hasattr(X, "iloc") else X[:n]


def rows(X, y, n_slices=1, weight=None):
    n = len(y)
    return Rows(X, y, tuple(n * (r + 1) // n_slices for r in range(n_slices)), weight)


def step_of(data, r, start=None):
    R = len(data.ends)
    start, stop = Fraction(r if start is None else start, R), Fraction(r + 1, R)
    a, b = R * start, R * stop
    epochs = (b * (b + 1) - a * (a + 1)) / (b * (R + 1))
    return Step(shard=0, slice=r, start=start, stop=stop, epochs=epochs, seed=1000 + r)


def batch_of(data, r, n_old, scratch, labels):
    n = data.ends[r]
    y, classes = data.y[:n], None
    if labels is not None:
        present = np.unique(y)
        classes, y = labels[present], np.searchsorted(present, y)
    return Batch(
        X=first(data.X, n),
        y=y,
        sample_weight=None if data.weight is None else data.weight[:n],
        n_old=n_old,
        classes=classes,
        u=np.linspace(0, 1, n, endpoint=False),
        X_shard=data.X,
        scratch=scratch,
    )


def build(learner, data, labels=None, *, cold=False, tamper=None):
    """The parts of every step: each state decoded from its bytes, as the core does it."""
    if labels is None and learner.capabilities.task == "classification":
        labels = np.arange(int(data.y.max()) + 1)
    parts, made, scratch, last, seen = None, [], {}, None, None
    for r in range(len(data.ends)):
        batch = batch_of(data, r, 0, {} if cold else scratch, labels)
        key = None if batch.classes is None else batch.classes.tolist()
        resumes = parts is not None and learner.capabilities.resumable and key == seen
        state = learner.load(parts) if resumes else None
        n_old = data.ends[last] if resumes else 0
        batch = Batch(**{f: getattr(batch, f) for f in batch.__slots__} | {"n_old": n_old})
        step = step_of(data, r, (last + 1) if resumes else 0)
        parts = learner.save(learner.train(state, tamper(batch) if tamper else batch, step))
        made.append(parts)
        last, seen = r, key
    return made


@pytest.fixture(scope="session")
def sisa():
    """The helpers above, and the resolver of learners."""
    return SimpleNamespace(
        build=build, rows=rows, Rows=Rows, learner=resolve, step_of=step_of, batch_of=batch_of, first=first
    )


@pytest.fixture(scope="session")
def flowers():
    """150 rows in hashed order, three classes."""
    from sklearn.datasets import load_iris

    X, y = load_iris(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(y))
    return np.ascontiguousarray(X[order]), y[order].astype(np.int64)


@pytest.fixture(scope="session")
def patients():
    """Two hundred rows with a number as target."""
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True)
    return np.ascontiguousarray(X[:200]), y[:200]
