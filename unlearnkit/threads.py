"""Threads: one per step, since the order of a parallel sum changes its last bits."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_users = 0
_blas: Any = None
_libraries: ThreadpoolController | None = None
_modules = 0


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold BLAS and OpenMP to one thread.

    BLAS has one setting for the process, so the last of several trainings side by side restores it; OpenMP has one
    for each thread.
    """
    _enter()
    try:
        with _controller().limit(limits=1, user_api="openmp"):
            yield
    finally:
        _leave()


def _controller() -> ThreadpoolController:
    """The libraries in this process, looked for again only when something was imported since: looking takes a while."""
    global _libraries, _modules  # noqa: PLW0603
    found = _libraries
    if found is None or _modules != len(sys.modules):
        _modules = len(sys.modules)
        found = _libraries = ThreadpoolController()
    return found


def _enter() -> None:
    global _users, _blas  # noqa: PLW0603
    with _lock:
        _users += 1
        if _users == 1:
            _blas = _controller().limit(limits=1, user_api="blas")


def _leave() -> None:
    global _users, _blas  # noqa: PLW0603
    with _lock:
        _users -= 1
        if _users == 0 and _blas is not None:
            _blas.restore_original_limits()
            _blas = None
