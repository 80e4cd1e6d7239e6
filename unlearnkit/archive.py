"""Archives: one file of byte strings that are named by their SHA-256, such as any program for zip files opens.

Nothing is compressed, so no number in the file can make it unpack to more than it is, and no member is handed out that
does not have the digest that it is named by. Equal contents give equal bytes.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Iterable, Sequence
from typing import NoReturn

from unlearnkit.blobs import blob_name
from unlearnkit.errors import StateError

_NAME = re.compile(r"([a-z]+)/([0-9a-f]{64})")
_START = b"PK\x03\x04"
_NAME_AT = 30
# The earliest that a zip file knows: a time of its own would make equal contents differ.
_TIME = (1980, 1, 1, 0, 0, 0)
_MODE = 0o644 << 16
_UNIX = 3
_WRONG = (zipfile.BadZipFile, struct.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError)


def pack(members: Iterable[tuple[str, bytes]]) -> bytes:
    """The archive of some byte strings, each of a kind.

    Examples
    --------
    >>> unpack(pack([("blobs", b"one"), ("blobs", b"two")]))["blobs"]
    [b'one', b'two']
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for kind, data in members:
            entry = zipfile.ZipInfo(f"{kind}/{blob_name(data)}", _TIME)
            entry.external_attr, entry.create_system = _MODE, _UNIX
            archive.writestr(entry, data)
    return buffer.getvalue()


def begins_with(data: bytes, kind: str) -> bool:
    """Whether some bytes are the beginning of an archive whose first member is of this kind."""
    return data.startswith(_START) and data[_NAME_AT:].startswith(f"{kind}/".encode())


def unpack(data: bytes) -> dict[str, list[bytes]]:
    """The byte strings in an archive, by their kinds and in their order. They take no more memory than the archive.

    Raises
    ------
    StateError
        If it is no such archive, or a member is not what its name says.
    """
    found: dict[str, list[bytes]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check(entries, len(data))
            for entry in entries:
                kind, _, name = entry.filename.partition("/")
                member = archive.read(entry)
                if blob_name(member) != name:
                    damaged(f"the member {name[:12]} does not have the content that it is named by")
                found.setdefault(kind, []).append(member)
    except StateError:
        raise
    except _WRONG as error:
        damaged("it is no whole zip file", error)
    return found


def _check(entries: Sequence[zipfile.ZipInfo], size: int) -> None:
    """See that the members are as `pack` writes them, before any memory is taken for one."""
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names) or not all(map(_NAME.fullmatch, names)):
        damaged("its members are not named as those of a bundle")
    plain = all(entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits for entry in entries)
    if not plain or any(entry.file_size != entry.compress_size for entry in entries):
        damaged("a member is compressed or encrypted")
    if sum(entry.file_size for entry in entries) > size:
        damaged("its members are larger than the file")


def damaged(why: str, cause: BaseException | None = None) -> NoReturn:
    """Raise `StateError`."""
    raise StateError(
        f"This is no bundle, or a damaged one: {why}. Nothing in it was executed. Export it again from its store."
    ) from cause
