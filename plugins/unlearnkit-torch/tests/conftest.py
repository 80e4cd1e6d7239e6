"""Drives a learner as the core does: slice after slice, each from the stored bytes of the one before."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from unlearnkit.learner import Batch, Step


def steps(n_slices, seed=7):
    """The steps of a shard whose slices all have rows."""
    for r in range(n_slices):
        epochs = Fraction((r + 1) * (r + 2) - r * (r + 1), (r + 1) * (n_slices + 1))
        start, stop = Fraction(r, n_slices), Fraction(r + 1, n_slices)
        yield Step(shard=0, slice=r, start=start, stop=stop, epochs=epochs, seed=seed + r)


def batches(X, y, n_slices, *, classes=None, weight=None, scratch=None):
    """The growing prefixes of a shard."""
    u = np.random.default_rng(5).random(len(y))
    ends = [len(y) * (r + 1) // n_slices for r in range(n_slices)]
    for old, n in zip([0, *ends], ends, strict=False):
        yield Batch(
            X=X[:n],
            y=y[:n],
            sample_weight=None if weight is None else weight[:n],
            n_old=old,
            classes=classes,
            u=u[:n],
            X_shard=X,
            scratch={} if scratch is None else scratch,
        )


def build(learner, X, y, n_slices, *, decode=True, seed=7, **options):
    """All states of a shard, first to last, as stored parts; and the last state."""
    state, stored = None, []
    for batch, step in zip(batches(X, y, n_slices, **options), steps(n_slices, seed), strict=True):
        if state is not None and decode:
            state = learner.load(stored[-1])
        state = learner.train(state, batch, step)
        stored.append(learner.save(state))
    return stored, state


@pytest.fixture
def drive():
    return build


@pytest.fixture
def one_step():
    def make(X, y, classes=None, weight=None, **changes):
        (batch,) = batches(X, y, 1, classes=classes, weight=weight)
        (step,) = steps(1)
        return batch, replace(step, **changes)

    return make


@pytest.fixture
def blobs():
    """Three classes that a small net can tell apart: X float32 (n, 6), codes, labels."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 91)
    X = (rng.normal(size=(91, 6)) + 2 * np.eye(6)[y]).astype(np.float32)
    return X, y.astype(np.int64), np.array(["a", "b", "c"])
