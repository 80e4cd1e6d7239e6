from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from unlearnkit.errors import DataError
from unlearnkit.learner import Capabilities
from unlearnkit.validation import as_declared, is_ready

COMPLETE = Capabilities("classification", sparse=True)
GAPS = replace(COMPLETE, missing_values=True)
ROWS = np.arange(12.0).reshape(4, 3)
LONG = np.zeros((6_000, 3))
GAPPED, LONG_GAPPED, INFINITE = ROWS.copy(), LONG.copy(), ROWS.copy()
GAPPED[1, 1] = LONG_GAPPED[7, 2] = np.nan
INFINITE[2, 0] = -np.inf
LONG_INFINITE = np.full((6_000, 3), np.inf)
LONG_INFINITE[::2] = -np.inf
BOTH = GAPPED.copy()
BOTH[0] = np.inf, -np.inf, 0


class Marked(np.ndarray):
    """An array of a kind of its own."""


READY = [ROWS, ROWS[:1], ROWS[1:3], LONG, ROWS.astype("f4"), ROWS.astype("f2")]
NOT_READY = [
    ROWS.T.copy().T,
    ROWS[::2],
    ROWS[:0],
    ROWS.astype(">f8"),
    ROWS.astype(int),
    ROWS.astype(np.longdouble),
    ROWS.view(Marked),
    ROWS[0],
    ROWS[:, :2].copy(),
    ROWS.reshape(2, 2, 3),
    ROWS.tolist(),
    sp.csr_matrix(ROWS),
    pd.DataFrame(ROWS),
    INFINITE,
    LONG_INFINITE,
    BOTH,
]


@pytest.mark.parametrize("X", READY, ids=lambda X: f"{X.dtype}{X.shape}")
@pytest.mark.parametrize("capabilities", [COMPLETE, GAPS])
def test_what_is_ready_is_what_the_checks_would_return(X, capabilities):
    assert is_ready(X, (3,), X.dtype, nan=capabilities.missing_values)
    assert as_declared(X, capabilities, "toy", X.dtype, exact=False) is X


@pytest.mark.parametrize("X", NOT_READY, ids=lambda X: f"{type(X).__name__}{getattr(X, 'shape', '')}")
@pytest.mark.parametrize("nan", [False, True])
def test_what_has_to_be_looked_at_is_not_ready(X, nan):
    assert not is_ready(X, (3,), np.dtype("f8"), nan=nan)


@pytest.mark.parametrize("dtype", ["i8", "?"])
def test_whole_numbers_are_never_ready(dtype):
    assert not is_ready(ROWS.astype(dtype), (3,), np.dtype(dtype), nan=True)


def test_gaps_are_ready_where_they_are_welcome():
    assert is_ready(GAPPED, (3,), GAPPED.dtype, nan=True)
    assert as_declared(GAPPED, GAPS, "toy", GAPPED.dtype, exact=False) is GAPPED
    assert not is_ready(GAPPED, (3,), GAPPED.dtype, nan=False)
    with pytest.raises(DataError, match="NaN"):
        as_declared(GAPPED, COMPLETE, "toy", GAPPED.dtype, exact=False)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [1e200, np.inf, -np.inf, np.nan])
def test_few_rows_whose_squares_are_beyond_all_bounds(value):
    X = ROWS.copy()
    X[1, 1] = value
    assert is_ready(X, (3,), X.dtype, nan=False) == np.isfinite(value)
    assert is_ready(X, (3,), X.dtype, nan=True) == (not np.isinf(value))


def test_many_rows_with_gaps_are_left_to_the_checks():
    assert not is_ready(LONG_GAPPED, (3,), LONG.dtype, nan=True)
    assert as_declared(LONG_GAPPED, GAPS, "toy", LONG.dtype, exact=False) is LONG_GAPPED


def test_a_sum_beyond_all_bounds_is_left_to_the_checks():
    large = np.full((6_000, 3), np.finfo("f8").max)
    assert not is_ready(large, (3,), large.dtype, nan=False)
    assert as_declared(large, COMPLETE, "toy", large.dtype, exact=False) is large
