"""Blobs in a folder: one file for each, named by its SHA-256 and never changed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from unlearnkit.blobs import blob_name, checked
from unlearnkit.files import make_folder, read, remove, sync_folder, translated, write_new

_NAME = re.compile(r"[0-9a-f]{64}")


class DirectoryBlobs:
    """Blobs as the files of one flat folder.

    Parameters
    ----------
    path : str or Path
        The folder. It is made, with those above it, if it is not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        make_folder(self.path)

    def put(self, data: Iterable[bytes]) -> tuple[str, ...]:
        """Keep byte strings, durably when this returns, and give their names."""
        names = tuple(self._put(item) for item in data)
        if names:
            # Also where all were there: whoever put them first may not have come as far as this.
            sync_folder(self.path)
        return names

    def _put(self, data: bytes) -> str:
        name = blob_name(data)
        path = self._path(name)
        # A file that does not hold what it is named by is damaged, and healed here.
        if read(path) != data:
            write_new(path, data, mode=0o600)
        return name

    def get(self, name: str) -> bytes:
        """The bytes of this name, checked against it.

        Raises
        ------
        StateError
            If there are none, or they are not what their name says.
        StoreError
            If the file cannot be read.
        """
        return checked(name, read(self._path(name)) if _NAME.fullmatch(name) else None)

    def has(self, name: str) -> bool:
        """Whether there is a file of this name; it is not read."""
        return _NAME.fullmatch(name) is not None and self._path(name).is_file()

    def delete(self, names: Iterable[str]) -> None:
        """Destroy the bytes of these names, durably when this returns; a name without bytes is passed over."""
        removed = [remove(self._path(name)) for name in names if _NAME.fullmatch(name)]
        if any(removed):
            sync_folder(self.path)

    def names(self) -> Iterator[str]:
        """The names of all blobs, as they are now."""
        return iter([entry.name for entry in self._entries() if _is_blob(entry)])

    def sweep(self) -> int:
        """Remove what is not a blob, such as writes that were cut off, and say how many files that were.

        Only for the one writer of the store: to another's eyes a write under way looks the same.
        """
        others = [entry for entry in self._entries() if not _is_blob(entry) and not entry.is_dir(follow_symlinks=False)]
        removed = sum(remove(Path(entry)) for entry in others)
        if removed:
            sync_folder(self.path)
        return removed

    def _path(self, name: str) -> Path:
        return self.path / name

    def _entries(self) -> list[os.DirEntry[str]]:
        with translated("list", self.path), os.scandir(self.path) as entries:
            return list(entries)


def _is_blob(entry: os.DirEntry[str]) -> bool:
    return _NAME.fullmatch(entry.name) is not None and entry.is_file(follow_symlinks=False)
