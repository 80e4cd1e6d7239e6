"""Threads: one per step, since the order of a parallel sum changes its last bits."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_lock = threading.Lock()
_users = 0
_blas: list[tuple[Any, int]] = []
_libraries: tuple[Any, ...] = ()
_modules = 0


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold BLAS and OpenMP to one thread.

    BLAS has one setting for the process, so the last of several trainings side by side restores it; OpenMP has one
    for each thread.
    """
    _enter()
    try:
        openmp = _limited("openmp")
        try:
            yield
        finally:
            _restore(openmp)
    finally:
        _leave()


def _enter() -> None:
    global _users  # noqa: PLW0603
    with _lock:
        _users += 1
        _blas.extend(_limited("blas"))


def _leave() -> None:
    global _users  # noqa: PLW0603
    with _lock:
        _users -= 1
        if _users == 0:
            _restore(_blas)
            _blas.clear()


def _limited(user_api: str) -> list[tuple[Any, int]]:
    """Hold the libraries of a kind to one thread; those that had more, and how many.

    Not by ``threadpool_limits``, which describes every library in full: longer than it takes to predict a row.
    """
    counts = [(library, library.get_num_threads()) for library in _loaded() if library.user_api == user_api]
    several = [(library, count) for library, count in counts if count is not None and count > 1]
    for library, _ in several:
        _set(library, 1)
    return several


def _restore(before: list[tuple[Any, int]]) -> None:
    for library, count in reversed(before):
        _set(library, count)


def _set(library: Any, count: int) -> None:
    """Set the number of threads, whichever thread has set it before.

    threadpoolctl lets one thread at a time set that of OpenBLAS, and does nothing, and says nothing, for the others
    until that one lets go or ends.
    """
    let_go = getattr(library, "clear_controlling_thread", None)
    if let_go is None:
        library.set_num_threads(count)
        return
    let_go(force=True)
    library.set_num_threads(count)
    let_go(force=True)


def _loaded() -> tuple[Any, ...]:
    """The libraries in this process, looked for again only when something was imported since: looking takes a while."""
    global _libraries, _modules  # noqa: PLW0603
    modules = len(sys.modules)
    if modules != _modules:
        _libraries = tuple(ThreadpoolController().lib_controllers)
        _modules = modules
    return _libraries


def side_by_side(call: Callable[[Item], Answer], items: Iterable[Item], jobs: int) -> Iterator[Answer]:
    """What a call says of each item, in order: as fast as this thread and `jobs` - 1 others get through them.

    What is set in this thread of numpy and scikit-learn holds in the others, too: it must not matter which is asked.
    joblib looks for results every ten milliseconds only, and a pool that this thread waits for has it woken by each.

    Examples
    --------
    >>> list(side_by_side(abs, [-1, 2, -3], jobs=2))
    [1, 2, 3]
    """
    from sklearn import config_context, get_config

    due, found, n = deque(enumerate(items)), dict[int, Answer](), 0
    settings = get_config()

    def take() -> bool:
        try:
            i, item = due.popleft()
        except IndexError:
            return False
        try:
            found[i] = call(item)
        except BaseException:
            due.clear()
            raise
        return True

    def take_all() -> None:
        with config_context(**settings):
            while take():
                pass

    with ThreadPoolExecutor(max(jobs - 1, 1)) as pool:
        try:
            others = [pool.submit(copy_context().run, take_all) for _ in range(min(jobs, len(due)) - 1)]
            while take():
                while n in found:
                    yield found.pop(n)
                    n += 1
            for other in others:
                other.result()
        finally:
            # Who asked may want no more of them.
            due.clear()
    while n in found:
        yield found.pop(n)
        n += 1
