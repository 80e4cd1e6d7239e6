"""Drives a learner through the steps of one shard, as the core does."""

from fractions import Fraction

import numpy as np
import pytest

from unlearnkit.learner import Batch, Step

SEED = 1000


def head(X, n):
    return X.iloc[:n] if hasattr(X, "iloc") else X[:n]


def step_of(r, n_slices):
    return Step(0, r, Fraction(r, n_slices), Fraction(r + 1, n_slices), Fraction(1), SEED + r)


def train_shard(learner, X, y, n_slices, weight=None, *, n_steps=None, ends=None, keep_scratch=True):
    """The parts after each step, every state decoded from its bytes; more steps than slices go on beyond the budget."""
    labels = np.unique(y) if learner.capabilities.task == "classification" else None
    codes = y if labels is None else np.searchsorted(labels, y)
    n_steps = n_steps or n_slices
    ends = ends or [len(y) * (r + 1) // n_steps for r in range(n_steps)]
    parts, stored, scratch, u = None, [], {}, np.random.default_rng(5).uniform(size=len(y))
    for r, end in enumerate(ends):
        part = None if weight is None else weight[:end]
        n_old = ends[r - 1] if r else 0
        used = scratch if keep_scratch else {}
        batch = Batch(head(X, end), codes[:end], part, n_old, labels, u[:end], X, used)
        state = None if parts is None else learner.load(parts)
        parts = learner.save(learner.train(state, batch, step_of(r, n_slices)))
        stored.append(parts)
    return stored


@pytest.fixture
def train():
    return train_shard


@pytest.fixture
def first_step():
    return step_of(0, 1)
