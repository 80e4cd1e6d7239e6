from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.naive_bayes import GaussianNB

from unlearnkit import SISAClassifier
from unlearnkit.crowding import shared
from unlearnkit.errors import DataWarning


def new(**options):
    return SISAClassifier(GaussianNB(), **{"n_shards": 2, "n_slices": 2, "random_state": 0} | options)


def rows(n=80):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 3)), rng.permutation(n) % 2


def told(call):
    """What data warnings a call gave."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        call()
    return [str(w.message) for w in seen if issubclass(w.category, DataWarning)]


@pytest.mark.parametrize("container", ["array", "frame", "sparse"])
def test_copies_under_other_ids_are_counted(container):
    X, y = rows()
    X[10], y[10] = X[3], y[3]
    X[[20, 30]], y[[20, 30]] = X[7], y[7]
    given = {"array": X, "frame": pd.DataFrame(X, columns=list("abc"))}.get(container)
    if container == "sparse":
        import scipy.sparse as sp
        from sklearn.linear_model import SGDClassifier

        model = SISAClassifier(SGDClassifier(), n_shards=2, n_slices=2, random_state=0)
        (message,) = told(lambda: model.fit(sp.csr_matrix(X), y, ids=range(80)))
    else:
        (message,) = told(lambda: new().fit(given, y, ids=range(80)))
    assert message.startswith("5 rows have an exact copy under another id")


def test_a_copy_under_the_same_id_or_with_another_label_is_none():
    X, y = rows()
    X[10], y[10] = X[3], y[3]
    X[11], y[11] = X[4], 1 - y[4]
    ids = np.arange(80)
    ids[10] = 3
    assert told(lambda: new().fit(X, y, ids=ids)) == []


def test_without_ids_copies_are_no_matter():
    X, y = rows()
    X[10], y[10] = X[3], y[3]
    assert told(lambda: new().fit(X, y)) == []


def test_one_zero_and_one_nan_make_no_difference_to_a_copy():
    content = np.zeros((6, 32), dtype=np.uint8)
    content[2:4, 0] = 1
    # The first eight bytes are those of another, the rest is not.
    content[5, 31] = 1
    rid = np.zeros((6, 16), dtype=np.uint8)
    rid[[1, 4, 5], 0] = [1, 2, 3]
    assert shared(content, rid) == 3
    X, y = rows()
    X[10], y[10] = X[3], y[3]
    X[3, 0], X[10, 0] = 0.0, -0.0
    (message,) = told(lambda: new().fit(X, y, ids=range(80)))
    assert message.startswith("2 rows")


def test_too_few_ids_or_contents_for_the_cells():
    X, y = rows()
    (message,) = told(lambda: new(n_shards=5, n_slices=4).fit(X, y, ids=np.arange(80) // 4))
    assert message.startswith("20 ids are few for 20 cells")
    assert "about 7 of them stay empty" in message
    X = np.repeat(X[:10], 8, axis=0)
    (message,) = told(lambda: new(n_shards=5, n_slices=2).fit(X, np.repeat(y[:10], 8)))
    assert message.startswith("10 different rows are few for 10 cells")


def test_the_warning_points_at_the_call():
    X, y = rows()
    with pytest.warns(DataWarning) as seen:
        new(n_shards=5, n_slices=4).fit(X, y, ids=np.arange(80) // 4)
    assert seen[0].filename == __file__
