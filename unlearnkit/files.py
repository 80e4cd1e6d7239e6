"""Files of a store: written whole or not at all, and durable before anything is built on them.

Every write, rename and removal of a store's own files goes through here, so that what a crash or a full disk can
leave behind is decided in one place. (The database of a ledger writes its own files.)
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unlearnkit.errors import StoreError

TEMPORARY = ".tmp-"

_ADVICE = {
    errno.ENOSPC: "Free some space on the disk and try again.",
    errno.EDQUOT: "The quota is used up: free some space and try again.",
    errno.EACCES: "Give this user access to the file and its folder and try again.",
    errno.EPERM: "Give this user access to the file and its folder and try again.",
    errno.EROFS: "The disk is mounted for reading only: mount it for writing and try again.",
    errno.EMFILE: "This process has too many files open: raise the limit (ulimit -n) and try again.",
    errno.EEXIST: "Something else has that name: move it away and try again.",
}


@contextmanager
def translated(operation: str, path: Path) -> Iterator[None]:
    """Turn the errors of the operating system into a `StoreError` that says what to do."""
    try:
        yield
    except OSError as error:
        # Blobs are named by what is in them: a short form tells them apart and says nothing.
        name = path.name if len(path.name) <= 40 else f"{path.name[:12]}..."  # noqa: PLR2004
        advice = _ADVICE.get(error.errno or 0, "Check the disk (the log of the system may say more) and try again.")
        raise StoreError(
            f"Could not {operation} {name} in {path.parent.name or path.parent}: {error.strerror or error}. "
            f"What was acknowledged before is as it was. {advice}"
        ) from error


def write_new(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a whole file in place of whatever has its name.

    The content is durable when this returns. The name is durable only after `sync_folder`, which is left to the
    caller: one is enough for many files.

    Parameters
    ----------
    path : Path
    data : bytes
    mode : int
        As for `os.open`: what the umask of the process forbids stays forbidden.

    Raises
    ------
    StoreError
        If any of it fails; then the file of this name, if there was one, is as it was.
    """
    temporary = path.with_name(TEMPORARY + secrets.token_hex(8))
    with translated("write", path):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            try:
                _write_all(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.rename(path)
        except BaseException:
            # What is left in spite of this is swept at the next opening.
            with suppress(OSError):
                temporary.unlink()
            raise


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def claim(path: Path, mode: int) -> bool:
    """Make an empty file of this mode unless the name is taken; say whether it was free."""
    with translated("make", path):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        except FileExistsError:
            return False
        os.close(descriptor)
        return True


def publish(temporary: Path, path: Path) -> bool:
    """Give a finished file its name unless the name is taken; say whether it was free.

    For files that take more than one write to make. Durable only after `sync_folder`.
    """
    with translated("make", path):
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        temporary.unlink()
        return True


def read(path: Path) -> bytes | None:
    """The content of a file; None if there is no such file."""
    with translated("read", path):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def remove(path: Path) -> bool:
    """Remove a file; say whether there was one. Durable only after `sync_folder`."""
    with translated("remove", path):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        return True


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Make a folder and those above it, durably; one that is there stays as it is."""
    with translated("make", path):
        if path.is_dir():
            return
        make_folder(path.parent)
        path.mkdir(mode, exist_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make durable which names a folder holds."""
    with translated("sync", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sweep_temporary(folder: Path) -> int:
    """Remove what writes that were cut off have left in a folder; say how many files.

    Only for the one writer of the folder: to another's eyes a write under way looks the same.
    """
    with translated("list", folder), os.scandir(folder) as entries:
        found = [Path(entry) for entry in entries if entry.name.startswith(TEMPORARY)]
    removed = sum(remove(path) for path in found)
    if removed:
        sync_folder(folder)
    return removed
