"""Who may change a store: one writer at a time, and one repair at a time.

The locks are the operating system's own, on two files of the store: a process that dies lets go of them.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from unlearnkit.errors import StoreError, StoreInUseError
from unlearnkit.files import translated

WRITER_S = 60.0
# `is_repairing` holds the lock for an instant to find out: that is not a repair to give way to.
_INSTANT_S = 0.2
_POLL_S = 0.01


class Locks:
    """The two locks of a store.

    Both are reentrant: the thread that holds one may take it again.

    Parameters
    ----------
    folder : str or Path or None
        Where the lock files are. None: a store in memory, with locks between threads only.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self.folder = None if folder is None else Path(folder).absolute()
        self._writer = _Lock(self._file("writer.lock"), "writing to")
        self._repair = _Lock(self._file("repair.lock"), "repairing")

    def _file(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / name

    def __reduce__(self) -> tuple[type[Locks], tuple[Path | None]]:
        # A copy holds nothing, whoever holds the original.
        return Locks, (self.folder,)

    def writer(self) -> AbstractContextManager[None]:
        """Be the one that changes blobs and plan; brief.

        Raises
        ------
        StoreInUseError
            If another has been at it for a minute.
        """
        return self._writer.held(WRITER_S)

    def repairer(self, *, wait: bool) -> AbstractContextManager[None]:
        """Be the one that trains, for as long as that takes.

        Parameters
        ----------
        wait : bool
            Whether to wait for another to be done.

        Raises
        ------
        StoreInUseError
            If another is at it, and `wait` is false.
        """
        return self._repair.held(None if wait else _INSTANT_S)

    def is_repairing(self) -> bool:
        """Whether a repair is under way, here or in another process."""
        return self._repair.is_held()


class _Lock:
    """One lock: between the threads of this process, and, with a file, between processes."""

    def __init__(self, path: Path | None, activity: str) -> None:
        self._path = path
        self._activity = activity
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        self._threads = threading.RLock()
        self._file = None if self._path is None else _file_lock(self._path)
        self._depth = 0

    @contextmanager
    def held(self, timeout: float | None) -> Iterator[None]:
        """Hold the lock, waiting for it as long as this (None: as long as it takes)."""
        if not self._acquire(timeout):
            where = "this store" if self._path is None else f"the store {self._path.parent.name}"
            raise StoreInUseError(
                f"Another thread or process is {self._activity} {where}; nothing was changed. "
                "Try again when it is done; a process that has died holds nothing."
            )
        threads = self._threads
        try:
            yield
        finally:
            # In a process forked meanwhile the lock is the parent's, not ours.
            if self._threads is threads:
                self._release()

    def is_held(self) -> bool:
        """Whether anyone holds it."""
        if self._depth:
            return True
        if not self._acquire(0):
            return True
        self._release()
        return False

    def _acquire(self, timeout: float | None) -> bool:
        start = time.monotonic()
        if not self._threads.acquire(timeout=-1 if timeout is None else timeout):
            return False
        try:
            left = None if timeout is None else max(0.0, timeout - (time.monotonic() - start))
            got = self._depth > 0 or self._acquire_file(left)
        except BaseException:
            self._threads.release()
            raise
        if not got:
            self._threads.release()
            return False
        self._depth += 1
        return True

    def _acquire_file(self, timeout: float | None) -> bool:
        if self._file is None or self._path is None:
            return True
        import filelock

        with translated("lock", self._path):
            try:
                self._file.acquire(timeout=-1 if timeout is None else timeout, poll_interval=_POLL_S)
            except filelock.Timeout:
                return False
            except NotImplementedError:
                raise self._unsupported() from None
        if isinstance(self._file, filelock.SoftFileLock):
            # It stands in where the file system has no locks, and would outlive a process that dies.
            self._file.release()
            raise self._unsupported()
        return True

    def _unsupported(self) -> StoreError:
        return StoreError(
            "The file system of the store has no file locks; nothing was changed. Keep the store on a disk that has."
        )

    def _release(self) -> None:
        self._depth -= 1
        if self._depth == 0 and self._file is not None:
            self._file.release()
        self._threads.release()


def _file_lock(path: Path) -> Any:
    try:
        import filelock
    except ImportError:
        raise StoreError(
            "A store in a folder needs the package filelock; nothing was changed. "
            "Install it with: pip install 'unlearnkit[store]'"
        ) from None
    # Its threads share one: which of them may use it is settled before.
    return filelock.FileLock(path, thread_local=False)


_all: weakref.WeakSet[_Lock] = weakref.WeakSet()
_inherited: list[Any] = []


def _let_go_in_child() -> None:
    """Start a forked process with locks of its own: those of the parent stay the parent's."""
    for lock in list(_all):
        # Kept, because a lock that is cleaned away here would be released for the parent too.
        _inherited.append(lock._file)  # noqa: SLF001
        lock._reset()  # noqa: SLF001


os.register_at_fork(after_in_child=_let_go_in_child)
