"""Blobs: immutable byte strings, named by their SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from unlearnkit.errors import StateError


def blob_name(data: bytes) -> str:
    """The name of a blob: the SHA-256 of its bytes, as hex."""
    return hashlib.sha256(data).hexdigest()


def checked(name: str, data: bytes | None) -> bytes:
    """The bytes, if they are what their name says.

    Raises
    ------
    StateError
        If there are none, or they are not.
    """
    if data is None:
        raise StateError(f"There is no blob {name[:12]}; nothing was changed. Rebuild it from the records.")
    if blob_name(data) != name:
        raise StateError(
            f"Blob {name[:12]} does not have the content that it is named by; nothing was parsed or changed. "
            "Rebuild it from the records."
        )
    return data


class Blobs(Protocol):
    """Where states and stored records are kept. Every implementation passes the same suite of tests."""

    def put(self, data: Iterable[bytes]) -> tuple[str, ...]:
        """Keep byte strings, durably when this returns, and give their names. Putting them again changes nothing."""
        ...

    def get(self, name: str) -> bytes:
        """The bytes of this name, checked against it.

        Raises
        ------
        StateError
            If there are none, or they are not what their name says.
        """
        ...

    def has(self, name: str) -> bool:
        """Whether there are bytes of this name; they are not read."""
        ...

    def delete(self, names: Iterable[str]) -> None:
        """Destroy the bytes of these names, durably when this returns; a name without bytes is passed over."""
        ...

    def names(self) -> Iterator[str]:
        """The names of all blobs."""
        ...


@runtime_checkable
class Remote(Blobs, Protocol):
    """What blobs can do besides that are far away: each call takes its time there, whatever its size."""

    url: str

    def ready(self) -> None:
        """See to it that blobs can be kept and destroyed there.

        Raises
        ------
        StoreError
            If not.
        """
        ...

    def get_many(self, names: Iterable[str]) -> Iterator[bytes]:
        """The bytes of these names, in their order, fetched side by side; as `get` otherwise."""
        ...

    def sizes(self) -> dict[str, int]:
        """The size in bytes of each blob, and of whatever else is among them; none is read."""
        ...


def get_parts(blobs: Blobs, named: Iterable[tuple[str, str]]) -> dict[str, bytes]:
    """The parts of a state or cell, from part and blob names; each is checked against its name.

    Raises
    ------
    StateError
        If one is missing or damaged.
    """
    known = dict(named)
    found = blobs.get_many(known.values()) if isinstance(blobs, Remote) else map(blobs.get, known.values())
    return dict(zip(known, found, strict=True))


def put_parts(blobs: Blobs, parts: Mapping[str, bytes]) -> tuple[tuple[str, str], ...]:
    """Put the parts of a state, and name them: part and blob names, sorted."""
    return tuple(sorted(zip(parts, blobs.put(parts.values()), strict=True)))


class MemoryBlobs:
    """Blobs in a dict."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}
        # Those of them that were checked in this process: bytes do not change, and to check them again was a sixth of
        # what it takes to isolate many records.
        self._sound: dict[str, bytes] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A copy of its own: another thread may put while this one is being pickled.
        return {"_data": dict(self._data)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _sound={})

    def __copy__(self) -> MemoryBlobs:
        copied = MemoryBlobs()
        copied._data, copied._sound = dict(self._data), dict(self._sound)
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> MemoryBlobs:
        return self.__copy__()

    def put(self, data: Iterable[bytes]) -> tuple[str, ...]:
        """Keep byte strings and give their names."""
        named = [(blob_name(item), bytes(item)) for item in data]
        for name, item in named:
            if name not in self._data:
                # In this order: whoever deletes meanwhile leaves nothing here.
                self._sound[name] = self._data[name] = item
        return tuple(name for name, _ in named)

    def get(self, name: str) -> bytes:
        """The bytes of this name, checked against it."""
        data = self._data.get(name)
        if data is None or self._sound.get(name) is not data:
            self._sound[name] = data = checked(name, data)
            if name not in self._data:
                # Deleted meanwhile by another thread: nothing must keep the bytes.
                self._sound.pop(name, None)
        return data

    def has(self, name: str) -> bool:
        """Whether there are bytes of this name."""
        return name in self._data

    def delete(self, names: Iterable[str]) -> None:
        """Destroy the bytes of these names."""
        for name in names:
            self._data.pop(name, None)
            self._sound.pop(name, None)

    def names(self) -> Iterator[str]:
        """The names of all blobs."""
        return iter(list(self._data))
