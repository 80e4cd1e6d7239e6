"""Threads: one per step, since the order of a parallel sum changes its last bits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

_lock = threading.Lock()
_users = 0
_blas: threadpool_limits | None = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold BLAS and OpenMP to one thread.

    BLAS has one setting for the process, so the last of several trainings side by side restores it; OpenMP has one
    for each thread.
    """
    _enter()
    try:
        with threadpool_limits(limits=1, user_api="openmp"):
            yield
    finally:
        _leave()


def _enter() -> None:
    global _users, _blas  # noqa: PLW0603
    with _lock:
        _users += 1
        if _users == 1:
            _blas = threadpool_limits(limits=1, user_api="blas")


def _leave() -> None:
    global _users, _blas  # noqa: PLW0603
    with _lock:
        _users -= 1
        if _users == 0 and _blas is not None:
            _blas.restore_original_limits()
            _blas = None
