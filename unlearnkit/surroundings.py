"""What surrounds the ledger and the blobs of a store: files, their modes, secrets. Nothing here changes anything."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from itertools import chain
from pathlib import Path

from unlearnkit.errors import StateError, StoreError
from unlearnkit.files import TEMPORARY
from unlearnkit.findings import REPAIR, RESTORE, Finding, Findings
from unlearnkit.folder import DirectoryBlobs
from unlearnkit.keys import PUBLIC_FILE, Keys, pseudonym_key_id
from unlearnkit.signing import key_id, known_keys
from unlearnkit.store import Store
from unlearnkit.wal import lost_frames

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def log(store: Store) -> Findings:
    """Whether the log of the ledger is whole: to be asked before the ledger is opened, which takes it as it is."""
    file = store.ledger_file
    lost = lost_frames(file) if file is not None else 0
    if lost:
        yield Finding(
            "ledger",
            f"{file.name}-wal" if file is not None else "",
            f"{lost} pages that were committed to the log cannot be read from it any more",
            f"{RESTORE} Without a backup, remove {file.name if file is not None else ''}-shm beside it: then the "
            "ledger opens with what is left.",
        )


def modes(store: Store) -> Findings:
    """Files with secrets or records that others than their owner may read or write."""
    if os.name == "nt":  # pragma: no cover - there, access lists decide, and modes say nothing
        return
    for path in loose(store):
        yield Finding("mode", _shown(path), "others than the owner may read or write it", f"{REPAIR}, or chmod 600.")


def loose(store: Store) -> list[Path]:
    """The files that are meant for their owner alone, and are not."""
    secrets = store.secrets.loose_modes() if isinstance(store.secrets, Keys) else []
    file = store.ledger_file
    ledger = [] if file is None else [file.with_name(file.name + end) for end in ("", "-wal", "-shm")]
    blobs = store.blobs
    stored = [blobs.path / name for name in blobs.names()] if isinstance(blobs, DirectoryBlobs) else []
    return [*secrets, *(path for path in chain(ledger, stored) if path.exists() and path.stat().st_mode & OTHERS)]


def leftovers(store: Store) -> Findings:
    """What writes that were cut off have left, and whatever else is among the blobs."""
    folders = [path.parent for path in (store.ledger_file,) if path is not None]
    folders += [store.secrets.folder] if isinstance(store.secrets, Keys) else []
    found = {path for folder in folders if folder.is_dir() for path in folder.iterdir() if _is_temporary(path)}
    if isinstance(store.blobs, DirectoryBlobs):
        known = set(store.blobs.names())
        found |= {path for path in store.blobs.path.iterdir() if path.name not in known}
    for path in sorted(found):
        remedy = "It is none of the store's: move it away." if path.is_dir() else REPAIR
        yield Finding("temporary", _shown(path), "no file of the store", remedy)


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(TEMPORARY)


def _shown(path: Path) -> str:
    return f"{path.parent.name}/{path.name[:12]}" if len(path.name) > 40 else path.name  # noqa: PLR2004


# -- secrets ----------------------------------------------------------------------------------------------------------


def secrets(store: Store) -> Findings:
    """Whether the secrets are there, can be read, and are those that the store was made with."""
    keys = store.secrets
    readers: dict[str, Callable[[], object]] = {
        "partition.key": lambda: _own_partition(store),
        "pseudonym.key": lambda: keys.pseudonym_keys,
        "signing.key": lambda: keys.signing_key,
    }
    broken = False
    for name, reader in readers.items():
        try:
            reader()
        except StoreError as error:
            broken = True
            yield Finding("secret", name, str(error), "Put your backup of it in its place.")
    try:
        published = list(known_keys(keys.public_keys))
    except StateError as error:
        yield Finding("secret", PUBLIC_FILE, str(error), REPAIR)
        return
    except StoreError:
        # There is none to read, and no signing key to derive it from.
        return
    if isinstance(keys, Keys) and not (keys.folder / PUBLIC_FILE).exists():
        yield Finding("secret", PUBLIC_FILE, "it is missing: nobody else can verify receipts", REPAIR)
    elif not broken and key_id(keys.signing_key.public_key()) != published[0]:
        yield Finding(
            "secret",
            PUBLIC_FILE,
            "its first public key is not that of signing.key: one of the two was changed",
            "If signing.key is the right one, run unlearnkit fsck --repair; else put your backup of it in its place.",
        )


def _own_partition(store: Store) -> object:
    try:
        settings = store.settings()
    except (StateError, StoreError):
        # Where the ledger does not say which one it was made with, one that can be read has to do.
        return store.secrets.partition
    return store.partition(settings)


def foreign_tombstones(store: Store) -> Findings:
    """Tombstones that no pseudonym key of the store has made: whoever is behind them is not recognised any more."""
    known = {pseudonym_key_id(key) for key in store.secrets.pseudonym_keys}
    made = {pseudonym.partition(":")[0] for pseudonym in store.ledger.tombstones()}
    for name in sorted(made - known):
        yield Finding(
            "secret",
            "pseudonym.key",
            f"the key {name}, which made some tombstones, is not among the pseudonym keys",
            "Put your backup of the key in its place, below the current one.",
        )
