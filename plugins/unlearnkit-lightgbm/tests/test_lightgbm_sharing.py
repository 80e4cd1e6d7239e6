"""Rows are read once for all boosters, and give the bits of rows that each booster reads for itself."""

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier
from scipy import sparse

from unlearnkit import wrap

X = np.random.default_rng(0).normal(size=(300, 4)).round(1)
CODES = np.digitize(X[:, 0] + X[:, 1], [-0.7, 0.7])
FRAME = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": pd.Categorical(np.array(["x", "y", "z"])[CODES])})
ROWS = {
    "floats": X,
    "narrow floats": X.astype("f4"),
    "whole numbers": (10 * X).astype(int),
    "truth values": X > 0,
    "sparse": sparse.csr_matrix(np.where(X > 0.5, X, 0)),
    "sparse whole numbers": sparse.csr_matrix((10 * X).clip(0).astype(int)),
    "frame": FRAME,
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("target", [CODES, CODES > 0], ids=["three", "two"])
def test_rows_of_every_kind(name, target):
    rows = ROWS[name]
    fitted = wrap(LGBMClassifier(n_estimators=4, verbose=-1), n_shards=2, random_state=0).fit(rows, target)
    learner, states = fitted._ensemble.learner, fitted.estimators_
    with learner.sharing(rows) as read:
        shared = [learner.predict(state, read) for state in states]
    assert [p.tobytes() for p in shared] == [learner.predict(state, rows).tobytes() for state in states]
    assert all(np.allclose(p.sum(axis=1), 1) for p in shared)


@pytest.mark.parametrize("name", ["floats", "narrow floats"])
def test_floats_are_not_copied(name):
    rows = ROWS[name]
    learner = wrap(LGBMClassifier(), n_shards=2).fit(X, CODES)._ensemble.learner
    with learner.sharing(rows) as read:
        assert read is rows
