"""Drives a learner through the steps of one shard, as the core does."""

import hashlib
from fractions import Fraction

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from unlearnkit.learner import Batch, Step


def head(X, n):
    return X.iloc[:n] if hasattr(X, "iloc") else X[:n]


def shard_steps(X, y, n_slices, weight=None, *, classes=None, ends=None):
    """The batches and steps of one shard whose rows are in canonical order; `ends` are the ends of its slices."""
    n, scratch = len(y), {}
    ends = ends or [n * (r + 1) // n_slices for r in range(n_slices)]
    u = np.random.default_rng(5).uniform(size=n)
    for r, end in enumerate(ends):
        start, stop = Fraction(r, n_slices), Fraction(r + 1, n_slices)
        epochs = ((r + 1) * (r + 2) - r * (r + 1)) / ((r + 1) * Fraction(n_slices + 1))
        seed = int(hashlib.sha256(f"{r}".encode()).hexdigest()[:7], 16)
        part = None if weight is None else weight[:end]
        n_old = ends[r - 1] if r else 0
        batch = Batch(head(X, end), y[:end], part, n_old, classes, u[:end], X, scratch)
        yield batch, Step(0, r, start, stop, epochs, seed)


def train_shard(learner, X, y, n_slices, weight=None, *, keep_scratch=True, ends=None, shard=None):
    """The parts after each step, every state decoded from its bytes; `shard` stands in for the rows of X_shard."""
    classes = np.unique(y) if learner.capabilities.task == "classification" else None
    state, stored = None, []
    for batch, step in shard_steps(X, y, n_slices, weight, classes=classes, ends=ends):
        scratch = batch.scratch if keep_scratch else {}
        seen = batch.X_shard if shard is None else shard(batch)
        given = Batch(batch.X, batch.y, batch.sample_weight, batch.n_old, classes, batch.u, seen, scratch)
        with threadpool_limits(1):
            state = learner.load(learner.save(learner.train(state, given, step)))
        stored.append(learner.save(state))
    return stored


@pytest.fixture
def train():
    return train_shard


@pytest.fixture
def steps_of():
    return shard_steps
