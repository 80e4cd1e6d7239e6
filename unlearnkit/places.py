"""Places: where the blobs of a store are, and where the processes that write to it meet.

The folder of a store whose blobs are in an object store has, in place of the folder ``blobs``, a file of that name with
their URL.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from unlearnkit.blobs import Blobs, Remote, blob_name
from unlearnkit.errors import ParameterError, StoreError
from unlearnkit.files import read, sync_folder, write_new
from unlearnkit.folder import DirectoryBlobs
from unlearnkit.objects import ObjectBlobs, is_url

BLOBS = "blobs"


def refuse_url(path: str | os.PathLike[str]) -> None:
    """Refuse a URL where the folder of a store is to be named.

    Raises
    ------
    ParameterError
        If it is one.
    """
    if is_url(path):
        raise ParameterError(
            "A store is a folder, and only its blobs can be at a URL; nothing was changed. Give Store.at(folder, "
            "blobs=URL) or Store(blobs=URL, ledger=..., keys=...); in a shell --store FOLDER, and --blobs URL at the "
            "fit."
        )


def open_blobs(place: str | os.PathLike[str], root: Path | None) -> Blobs:
    """The blobs at a path or URL.

    Parameters
    ----------
    place : path or URL
    root : Path or None
        The folder of the store, if it has one to itself.

    Raises
    ------
    StoreError
        If those of the folder are elsewhere.
    """
    if is_url(place):
        blobs = ObjectBlobs(os.fspath(place))
        if root is not None:
            _compare(blobs.url, root / BLOBS)
        return blobs
    path = Path(place)
    return _pointed_to(path) if path.is_file() else DirectoryBlobs(path)


def point_to(url: str, root: Path) -> None:
    """Write down in the folder of a store where its blobs are, durably when this returns.

    Raises
    ------
    StoreError
        If they are elsewhere.
    """
    path = root / BLOBS
    _compare(url, path)
    if not path.exists():
        write_new(path, f"{url}\n".encode())
        sync_folder(root)


def _pointed_to(path: Path) -> ObjectBlobs:
    try:
        return ObjectBlobs((read(path) or b"").decode("utf-8", "replace").strip())
    except ParameterError as error:
        raise StoreError(
            f"{path} is neither a folder nor a file with the URL of an object store; nothing was changed. Put your "
            "backup of it in its place."
        ) from error


def _compare(url: str, path: Path) -> None:
    if path.is_dir() or (path.is_file() and _pointed_to(path).url != url):
        raise StoreError(
            f"The store {path.parent.name} has its blobs elsewhere than in {url}; nothing was changed. Open it without "
            "blobs=, or take another folder."
        )


def meeting_place(blobs: Blobs, ledger: Path | None, keys: Any) -> Path | None:
    """The folder for locks between the processes of this machine, where the blobs are in no folder.

    Parameters
    ----------
    blobs : Blobs
    ledger : Path or None
        Its file, if it is one.
    keys : Secrets, path or None
        As the store was given them.

    Returns
    -------
    Path or None
        None: the blobs are of this process alone, as far as is known.
    """
    if not isinstance(blobs, Remote):
        return None
    if ledger is not None:
        return ledger.with_name(f"{ledger.name}.locks")
    if isinstance(keys, str | os.PathLike):
        return Path(keys)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "unlearnkit" / "locks" / blob_name(blobs.url.encode())[:16]
