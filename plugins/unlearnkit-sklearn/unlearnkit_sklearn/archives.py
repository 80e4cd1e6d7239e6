"""Zip archives whose bytes depend on their content alone, and that cannot grow far beyond their size when read."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from unlearnkit.errors import StateError

# The next level takes half as long again, for a tenth of the size.
LEVEL = 1
# Higher ratios are stored plain, so that a reader may refuse them: n bytes never unpack to more than about 100 n.
MAX_RATIO = 100
MAX_MEMBERS = 1_000_000
FIXED_TIME = (1980, 1, 1, 0, 0, 0)
NPY_HEADER = 4096
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)


def pack(members: Mapping[str, bytes], plain: frozenset[str] = frozenset()) -> bytes:
    """The members, in their order and all but the `plain` ones compressed, as a zip archive without times.

    Examples
    --------
    >>> pack({"a": b"1"}) == pack({"a": b"1"})
    True
    """
    data, dense = _pack(members, plain)
    # Rare: most arrays of a model are nothing but zeros only where they are small.
    return _pack(members, plain | dense)[0] if dense else data


def _pack(members: Mapping[str, bytes], plain: frozenset[str]) -> tuple[bytes, frozenset[str]]:
    """The archive with the `plain` members uncompressed, and those that compress better than a reader would take."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, FIXED_TIME)
            info.create_system = 3
            method = zipfile.ZIP_STORED if name in plain else zipfile.ZIP_DEFLATED
            archive.writestr(info, content, compress_type=method, compresslevel=LEVEL)
        dense = frozenset(info.filename for info in archive.infolist() if _is_dense(info))
    return buffer.getvalue(), dense


def _is_dense(info: zipfile.ZipInfo) -> bool:
    return info.file_size > MAX_RATIO * info.compress_size + NPY_HEADER


def unpack(data: bytes) -> dict[str, bytes]:
    """The members of an archive that `pack` has made.

    Raises
    ------
    StateError
        If it is none, or would take far more memory than its size.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check(archive, len(data))
            return {info.filename: archive.read(info) for info in archive.infolist()}
    except _BROKEN as error:
        if isinstance(error, StateError):
            raise
        raise broken("is no readable archive") from error


def _check(archive: zipfile.ZipFile, size: int) -> None:
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS or len({info.filename for info in infos}) != len(infos):
        raise broken("has too many members, or two of one name")
    if sum(info.compress_size for info in infos) > size:
        raise broken("has members that overlap")
    for info in infos:
        if _is_dense(info):
            raise broken(f"unpacks to {info.file_size} bytes in {info.filename!r}")


def check_npy(data: bytes) -> None:
    """Raise unless `data` is an npy file that is as long as its header says and holds no objects.

    Raises
    ------
    StateError
        On anything else; no array has been allocated.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except (ValueError, TypeError, SyntaxError, EOFError, RecursionError, MemoryError) as error:
        raise broken("holds an array with an unreadable header") from error
    if dtype.hasobject or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise broken(f"holds an array whose header promises {shape} of {dtype}")


def broken(what: str) -> StateError:
    """The error for a part that `what` says is wrong."""
    return StateError(f"A stored part of a scikit-learn model {what}; nothing in it was executed. Rebuild the state.")
