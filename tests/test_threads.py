from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from sklearn import config_context, get_config
from threadpoolctl import threadpool_info, threadpool_limits

from unlearnkit.threads import one_thread, side_by_side


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


def inside_another_thread():
    """What BLAS is held to in a thread of its own."""
    seen = []

    def look():
        with one_thread():
            seen.append(blas_threads())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return seen[0]


def test_one_thread_does_not_keep_others_from_it():
    before = blas_threads()
    with one_thread():
        pass
    assert inside_another_thread() == {1}
    assert blas_threads() == before


def test_whoever_has_set_it_before():
    before = blas_threads()
    limits = threadpool_limits(2)
    assert inside_another_thread() == {1}
    assert blas_threads() == {2}
    limits.restore_original_limits()
    assert blas_threads() == before


def test_the_first_may_leave_first():
    before = blas_threads()
    entered, left, seen = threading.Event(), threading.Event(), []

    def first():
        with one_thread():
            entered.set()
            left.wait(60)

    def second():
        with one_thread():
            left.set()
            thread.join()
            seen.append(blas_threads())

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(60)
    other = threading.Thread(target=second)
    other.start()
    other.join()
    assert seen == [{1}]
    assert blas_threads() == before


def openmp_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"}


def test_openmp_is_held_to_one_thread_and_let_go():
    import sklearn.ensemble  # noqa: F401 - loads OpenMP

    before = openmp_threads()
    assert before == {2}
    with one_thread(), one_thread():
        assert openmp_threads() == {1}
    assert openmp_threads() == before


@pytest.mark.parametrize("jobs", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [0, 1, 7])
def test_side_by_side_answers_in_order(jobs, n):
    order = np.random.default_rng(jobs).permutation(n)

    def call(i):
        time.sleep(0.002 * order[i])
        return i

    assert list(side_by_side(call, range(n), jobs)) == list(range(n))


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_this_thread_is_one_of_those_side_by_side(jobs):
    everybody = threading.Barrier(jobs, timeout=60)

    def call(_):
        everybody.wait()
        return threading.get_ident()

    assert len({threading.get_ident(), *side_by_side(call, range(3 * jobs), jobs)}) == jobs


@pytest.mark.parametrize("fails", [0, 1, 5])
def test_an_error_of_any_of_them_is_told_and_ends_the_others(fails):
    called = []

    def call(i):
        called.append(i)
        if i == fails:
            raise KeyError(i)
        time.sleep(0.02)
        return i

    before, found = threading.active_count(), []
    with pytest.raises(KeyError, match=str(fails)):
        found.extend(side_by_side(call, range(100), 2))
    assert len(called) < 20
    assert found == list(range(len(found)))
    assert threading.active_count() == before


def test_who_wants_no_more_answers_ends_the_others():
    called = []

    def call(i):
        called.append(i)
        time.sleep(0.01)

    before = threading.active_count()
    answers = side_by_side(call, range(100), 2)
    next(answers)
    answers.close()
    assert len(called) < 20
    assert threading.active_count() == before


def test_what_this_thread_has_set_holds_in_the_others():
    everybody = threading.Barrier(2, timeout=60)

    def call(_):
        everybody.wait()
        return threading.get_ident(), get_config()["working_memory"], np.geterr()["over"]

    with config_context(working_memory=77), np.errstate(over="raise"):
        told = set(side_by_side(call, range(2), 2))
    assert len(told) == 2
    assert all(what == [77, "raise"] for _, *what in told)
