from __future__ import annotations

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from unlearnkit.threads import one_thread


def blas_threads():
    np.zeros((2, 2)) @ np.zeros((2, 2))
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_threads():
    with threadpool_limits(2):
        yield


def test_blas_is_held_to_one_thread_and_let_go():
    before = blas_threads()
    with one_thread():
        assert blas_threads() == {1}
    assert blas_threads() == before


def test_it_is_let_go_after_an_error():
    before = blas_threads()
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert blas_threads() == before


def test_only_the_last_of_several_lets_go():
    before = blas_threads()

    def other():
        with one_thread():
            pass

    with one_thread():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert blas_threads() == {1}
    assert blas_threads() == before


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_training_leaves_the_limits_as_they_were(helpers, n_jobs):
    X, y, ids = helpers.rows(200)
    before = blas_threads()
    model = helpers.build(n_shards=12, n_jobs=n_jobs).fit(X, y, ids=ids)
    model.forget(ids[:9])
    assert blas_threads() == before
