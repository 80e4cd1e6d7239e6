"""The secrets of a store: what places records, what makes pseudonyms, what signs receipts.

Each comes from an environment variable if that is set, else from a file of its own in the folder ``keys``:

==================  ===================================  ==================  ========================================
secret              environment variable                 file                content
==================  ===================================  ==================  ========================================
partition secret    ``UNLEARNKIT_PARTITION_SECRET``      ``partition.key``   16 to 64 bytes as hex
pseudonym keys      ``UNLEARNKIT_PSEUDONYM_KEY``         ``pseudonym.key``   the same; several: with commas, or lines
signing key         ``UNLEARNKIT_SIGNING_KEY``           ``signing.key``     Ed25519, PKCS8 in PEM
==================  ===================================  ==================  ========================================

New pseudonyms are made with the first pseudonym key, the others only recognise old ones: to rotate, put a new key in
front. ``signing.pub`` has the public keys of all signing keys that there were, the current one first; it is no secret.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearnkit.errors import KeyMissingError, StateError, StoreError
from unlearnkit.files import make_folder, read, sweep_temporary, sync_folder, write_new
from unlearnkit.signing import known_keys, new_signing_pem, pem_blocks, private_key, public_pem

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MIN_BYTES, MAX_BYTES = 16, 64
_NEW_BYTES = 32
_SECRET_MODE, _PUBLIC_MODE, _FOLDER_MODE = 0o600, 0o644, 0o700


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a secret is looked for, and what it means to have lost it."""

    what: str
    file: str
    variable: str
    loss: str


_PARTITION = _Place(
    "The partition secret",
    "partition.key",
    "UNLEARNKIT_PARTITION_SECRET",
    "If it is lost, no record of this store can be found by its id any more, so none can be forgotten: "
    "fit a new store from your own records, without those that were to be forgotten.",
)
_PSEUDONYM = _Place(
    "The pseudonym key",
    "pseudonym.key",
    "UNLEARNKIT_PSEUDONYM_KEY",
    "If it is lost, forgotten ids are no longer recognised when they come back with old data, and nobody can tell "
    "whose a receipt is: put a new key in its place, and filter old data by your own list of erasure requests.",
)
_SIGNING = _Place(
    "The signing key",
    "signing.key",
    "UNLEARNKIT_SIGNING_KEY",
    "If it is lost, signing.pub still verifies the receipts that there are: make a new one "
    "(openssl genpkey -algorithm ed25519), and give auditors its public key beside the old one.",
)
PUBLIC_FILE, SIGNING_FILE = "signing.pub", _SIGNING.file


class Secrets(ABC):
    """The secrets of a store, and what is done with them. They show in no repr, error or log."""

    @property
    @abstractmethod
    def partition(self) -> bytes:
        """The secret that places records."""

    @property
    @abstractmethod
    def pseudonym_keys(self) -> tuple[bytes, ...]:
        """The keys that make pseudonyms, the current one first."""

    @property
    @abstractmethod
    def signing_key(self) -> Ed25519PrivateKey:
        """The key that signs statements."""

    @property
    def public_keys(self) -> str:
        """What verifies all statements of the store: one or more public keys in PEM, the current one first."""
        return public_pem(self.signing_key)

    @cached_property
    def _named(self) -> tuple[tuple[str, bytes], ...]:
        return tuple((pseudonym_key_id(key), key) for key in self.pseudonym_keys)

    def pseudonym(self, address: bytes, kind: bytes) -> str:
        """What stands for an address for good: ``"<key id>:<HMAC-SHA-256 of kind and address, as hex>"``."""
        return self.current_of([address], kind)[0]

    def current_of(self, addresses: Iterable[bytes], kind: bytes) -> list[str]:
        """The `pseudonym` of each of many addresses."""
        return _pseudonyms(self._named[0], addresses, kind)

    def pseudonyms(self, address: bytes, kind: bytes) -> tuple[str, ...]:
        """The pseudonyms of an address under all keys, the current one first: one of them is in an old tombstone."""
        return self.pseudonyms_of([address], kind)[0]

    def pseudonyms_of(self, addresses: Iterable[bytes], kind: bytes) -> list[tuple[str, ...]]:
        """The `pseudonyms` of many addresses, in their order."""
        known = list(addresses)
        return list(zip(*(_pseudonyms(key, known, kind) for key in self._named), strict=True))

    def sign(self, data: bytes) -> bytes:
        """The Ed25519 signature of the data, 64 bytes."""
        return self.signing_key.sign(data)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class MemoryKeys(Secrets):
    """Secrets of a model without a store, drawn from the operating system.

    Parameters
    ----------
    partition : bytes or None
        16 to 64 bytes. None: drawn too.
    """

    def __init__(self, partition: bytes | None = None) -> None:
        self._partition = secrets.token_bytes(_NEW_BYTES) if partition is None else partition
        self._pseudonym = secrets.token_bytes(_NEW_BYTES)
        # As bytes, and made when first needed: the library's own object cannot be pickled, nor need it be installed.
        self.signing_pem: bytes | None = None

    @property
    def partition(self) -> bytes:
        """The secret that places records."""
        return self._partition

    @property
    def pseudonym_keys(self) -> tuple[bytes, ...]:
        """The only pseudonym key."""
        return (self._pseudonym,)

    @property
    def signing_key(self) -> Ed25519PrivateKey:
        """The key that signs statements."""
        if self.signing_pem is None:
            self.signing_pem = new_signing_pem()
        return private_key(self.signing_pem, "The signing key in memory")


class Keys(Secrets):
    """Secrets of a store in a folder. Each is read when it is first needed.

    Parameters
    ----------
    folder : Path
        ``keys`` in the folder of the store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"Keys({str(self.folder)!r})"

    def __getstate__(self) -> dict[str, Any]:
        # Another process reads them for itself: a pickle is no place for a secret.
        return {"folder": self.folder}

    @cached_property
    def partition(self) -> bytes:
        """The secret that places records.

        Raises
        ------
        KeyMissingError
            If it is nowhere.
        StoreError
            If what is there is no such secret.
        """
        found = self._hex(_PARTITION)
        if len(found) > 1:
            raise StoreError(f"{self._source(_PARTITION)} has more than one secret; nothing was changed. Leave one.")
        return found[0]

    @cached_property
    def pseudonym_keys(self) -> tuple[bytes, ...]:
        """The keys that make pseudonyms, the current one first.

        Raises
        ------
        KeyMissingError
            If there is none.
        StoreError
            If what is there is no list of such keys.
        """
        return self._hex(_PSEUDONYM)

    @cached_property
    def signing_key(self) -> Ed25519PrivateKey:
        """The key that signs statements.

        Raises
        ------
        KeyMissingError
            If it is nowhere.
        StoreError
            If what is there is no such key, or the package cryptography is not installed.
        """
        return private_key(self._read(_SIGNING).encode(), self._source(_SIGNING))

    @property
    def public_keys(self) -> str:
        """What verifies all statements of the store, in PEM: ``signing.pub``, which needs no secret to be read."""
        return self._published() or super().public_keys

    def create(self, partition: bytes | None = None, source: MemoryKeys | None = None) -> None:
        """Make what is missing, durably when this returns; what is there, in the environment or a file, stays.

        Parameters
        ----------
        partition : bytes or None
            The partition secret, 16 to 64 bytes. None: what is there, else drawn from the operating system.
        source : MemoryKeys or None
            The secrets of a model that was kept in memory until now and goes on with them.

        Raises
        ------
        StoreError
            If another partition secret is there, or pseudonym keys without the one of `source`.
        """
        if partition is None and source is not None:
            partition = source.partition
        if partition is not None and not MIN_BYTES <= len(partition) <= MAX_BYTES:
            raise StoreError(
                f"A partition secret has {MIN_BYTES} to {MAX_BYTES} bytes, got {len(partition)}; nothing was changed."
            )
        make_folder(self.folder, _FOLDER_MODE)
        self._make(_PARTITION, partition)
        self._make(_PSEUDONYM, None if source is None else source.pseudonym_keys[0])
        signed_with = None if source is None else source.signing_pem
        if not self._there(_SIGNING):
            self._write(_SIGNING.file, (signed_with or new_signing_pem()).decode(), _SECRET_MODE)
        self.publish(*(() if source is None or signed_with is None else (source.public_keys,)))

    def publish(self, *earlier: str) -> None:
        """See to it that ``signing.pub`` has the current public key on top, and below it all that were there before.

        Parameters
        ----------
        *earlier : str
            Public keys in PEM that signed earlier statements.
        """
        before = self._published()
        blocks = dict.fromkeys([public_pem(self.signing_key), *pem_blocks(before), *earlier])
        content = "".join(blocks)
        if content != before:
            self._write(PUBLIC_FILE, content, _PUBLIC_MODE)

    def publish_again(self, is_used: Callable[[str], bool]) -> None:
        """Write ``signing.pub`` anew where it was damaged: the current key, and of the others those that were used.

        Parameters
        ----------
        is_used : callable
            Whether a statement was signed with the key of this name.
        """
        current = public_pem(self.signing_key)
        others = [block for block in pem_blocks(self._published()) if block != current and is_used(_key_name(block))]
        content = current + "".join(others)
        if content != self._published():
            self._write(PUBLIC_FILE, content, _PUBLIC_MODE)

    def sweep(self) -> int:
        """Remove what writes that were cut off have left, which may hold a secret, and say how many files."""
        return sweep_temporary(self.folder) if self.folder.is_dir() else 0

    def loose_modes(self) -> list[Path]:
        """The files with a secret that others than their owner may read or write."""
        if os.name == "nt":  # pragma: no cover - there, access lists decide, and modes say nothing
            return []
        files = [self.folder / place.file for place in (_PARTITION, _PSEUDONYM, _SIGNING)]
        return [path for path in files if path.exists() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]

    def _there(self, place: _Place) -> bool:
        return place.variable in os.environ or (self.folder / place.file).exists()

    def _make(self, place: _Place, wanted: bytes | None) -> None:
        """Write this secret, or a new one for None, unless there is one; refuse another in place of it."""
        if not self._there(place):
            self._write(place.file, (wanted or secrets.token_bytes(_NEW_BYTES)).hex() + "\n", _SECRET_MODE)
        elif wanted is not None and wanted not in self._hex(place):
            raise StoreError(
                f"{self._source(place)} has another secret than the model that is to be stored; nothing was "
                "overwritten. Take an empty folder, or give the model the secret of this one."
            )

    def _write(self, name: str, content: str, mode: int) -> None:
        write_new(self.folder / name, content.encode(), mode)
        sync_folder(self.folder)

    def _published(self) -> str:
        return (read(self.folder / PUBLIC_FILE) or b"").decode("ascii", "replace")

    def _hex(self, place: _Place) -> tuple[bytes, ...]:
        texts = self._read(place).replace(",", " ").split()
        found = tuple(dict.fromkeys(_bytes(text) for text in texts))
        if not found or None in found:
            raise StoreError(
                f"{self._source(place)} is not {MIN_BYTES} to {MAX_BYTES} bytes in hexadecimal digits; nothing was "
                f"changed. Put your backup in its place. {place.loss}"
            )
        return tuple(key for key in found if key is not None)

    def _read(self, place: _Place) -> str:
        if place.variable in os.environ:
            return os.environ[place.variable]
        path = self.folder / place.file
        content = read(path)
        if content is not None:
            return content.decode("ascii", "replace")
        raise KeyMissingError(
            f"{place.what} is neither in {path} nor in the environment variable {place.variable}; nothing was "
            f"changed. Put it in one of the two, from your backup. {place.loss}"
        )

    def _source(self, place: _Place) -> str:
        """Where the secret comes from, for messages."""
        if place.variable in os.environ:
            return f"The environment variable {place.variable}"
        return str(self.folder / place.file)


def _pseudonyms(named: tuple[str, bytes], addresses: Iterable[bytes], kind: bytes) -> list[str]:
    """What stands for each address under one key."""
    name, key = named
    digest = hmac.digest
    return [f"{name}:{digest(key, kind + address, 'sha256').hex()}" for address in addresses]


def _key_name(block: str) -> str:
    """The name of the one public key in a block of PEM; none if it is damaged."""
    try:
        return next(iter(known_keys(block)))
    except StateError:
        return ""


def pseudonym_key_id(key: bytes) -> str:
    """The name of a pseudonym key, in front of every pseudonym that it made: 8 hex digits."""
    return hashlib.sha256(b"unlearnkit:pseudonym-key" + key).hexdigest()[:8]


def _bytes(text: str) -> bytes | None:
    """The bytes of a secret in hex, None if it is none."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        return None
    return found if MIN_BYTES <= len(found) <= MAX_BYTES else None
