"""The store: blobs, ledger, secrets and locks of one model, and the order in which they are written.

Blobs first, then one ledger transaction, then the blobs that nothing refers to any more are deleted. Nothing here
needs a framework: to open a store and record a request costs no import of one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearnkit.addresses import Addresses
from unlearnkit.bands import Bands
from unlearnkit.blobs import Blobs, MemoryBlobs, Remote, get_parts, put_parts
from unlearnkit.cells import MANIFEST, pack_manifest
from unlearnkit.errors import ParameterError, StateError, StoreError
from unlearnkit.files import make_folder
from unlearnkit.folder import DirectoryBlobs
from unlearnkit.ids import as_list
from unlearnkit.keys import Keys, MemoryKeys, Secrets
from unlearnkit.ledger import ISOLATED, Cell, Change, Checkpoint, Ledger, MemoryLedger, Request
from unlearnkit.locks import Locks
from unlearnkit.objects import is_url
from unlearnkit.partition import Partition
from unlearnkit.places import meeting_place, open_blobs, point_to, refuse_url
from unlearnkit.policy import Policy, now, operator
from unlearnkit.seen import Seen
from unlearnkit.sql import SqlLedger
from unlearnkit.stored import StoredRecords
from unlearnkit.typing import Parts
from unlearnkit.urls import without_secrets

if TYPE_CHECKING:
    from unlearnkit.config import Blueprint
    from unlearnkit.data import ShardRecords
    from unlearnkit.plan import PlannedStep
    from unlearnkit.records import Records

# Names of notes in the ledger.
SETTINGS, POLICY, REFRESH, CHAIN, TRAINING, UNTRAINABLE, REBUILT, POSITIONS, BUILT = (
    "settings",
    "policy",
    "refresh_s",
    "chain",
    "training",
    "untrainable",
    "rebuilt",
    "positions",
    "built",
)
ENVIRONMENT = "environment:"
AUDIT = "audit:"
"""What the names of notes with recorded audits begin with; the number of the request follows."""
NOWHERE = -1
"""Shard and slice of a checkpoint that is of none: the base."""
_PUT_BYTES = 1 << 26


class Store:
    """Where a model lives. Without arguments: in memory.

    Nothing is read or made before it is needed, so the object may name a store that `fit` has yet to make.

    Parameters
    ----------
    blobs : Blobs, path, URL or None
        States and data blocks. A path is a folder; ``s3://bucket/prefix`` is in an object store.
    ledger : Ledger, path, URL or None
        What changes. A path or ``sqlite:///...`` is an SQLite file; another URL names any database that SQLAlchemy
        has a driver for.
    keys : Secrets, path or None
        The secrets; a path is a folder. None: the folder ``keys`` beside the blobs, if they are in a folder.
    policy : Policy or None
        None: as declared before, or the default.

    Examples
    --------
    >>> Store.at("churn.sisa")
    Store('churn.sisa')
    >>> Store(blobs="/mnt/states/churn", ledger="postgresql+psycopg://ledger.internal/churn")
    Store('/mnt/states/churn')
    """

    def __init__(
        self,
        blobs: Blobs | str | os.PathLike[str] | None = None,
        ledger: Ledger | str | os.PathLike[str] | None = None,
        *,
        keys: Secrets | str | os.PathLike[str] | None = None,
        policy: Policy | None = None,
    ) -> None:
        if (blobs is None) != (ledger is None):
            raise ParameterError("A store has blobs and a ledger, or is in memory and has neither; nothing was made.")
        self._given: dict[str, Any] = {"blobs": blobs, "ledger": ledger, "keys": keys}
        self.policy = policy
        self.root: Path | None = None
        """The folder that is the store's alone, where there is one."""
        self.durable = blobs is not None
        self._seen = Seen()
        place: Any = blobs if isinstance(blobs, str | os.PathLike) else getattr(blobs, "path", None)
        far = blobs.url if isinstance(blobs, Remote) else place if place is not None and is_url(place) else None
        self._folder = None if place is None or far is not None else Path(place).parent
        self._name = "" if place is None and far is None else repr(os.fspath(far or place))

    @classmethod
    def at(cls, path: str | os.PathLike[str], policy: Policy | None = None, *, blobs: str | None = None) -> Store:
        """The store in one folder, which holds blobs, ledger, secrets and locks.

        Parameters
        ----------
        path : path
        policy : Policy or None
        blobs : str or None
            The URL of an object store: then the folder holds all but the blobs, and, in place of them, that URL. None:
            where the blobs are already, or else in the folder.

        Raises
        ------
        ParameterError
            If the path is a URL.
        """
        refuse_url(path)
        folder = Path(path)
        store = cls(folder / "blobs" if blobs is None else blobs, folder / "ledger.sqlite", keys=folder / "keys")
        store.policy, store._folder, store.root = policy, folder, folder
        store._name = repr(os.fspath(path))
        return store

    def __repr__(self) -> str:
        return f"Store({self._name})"

    def __getstate__(self) -> dict[str, Any]:
        if self.durable:
            # A pickle names the store, and holds nothing of it.
            left_out = ("blobs", "ledger", "secrets", "locks")
            ledger = self._given["ledger"]
            given = self._given | {"ledger": without_secrets(ledger) if isinstance(ledger, str) else ledger}
            kept = {name: value for name, value in vars(self).items() if name not in left_out}
            return kept | {"_seen": Seen(), "_given": given}
        # Copied together: a ledger must not name a blob that was put after the blobs were written out.
        with self.locks.writer():
            opened = {name: copy(getattr(self, name)) for name in ("blobs", "ledger", "secrets")}
            return vars(self) | opened | {"locks": Locks(None), "_seen": Seen()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    # -- parts ---------------------------------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        """Whether there is a ledger to open."""
        given = self._given["ledger"]
        if not self.durable or not isinstance(given, str | os.PathLike):
            return True
        file = self.ledger_file
        if file is not None:
            return file.exists()
        try:
            return self.ledger is not None
        except StoreError:
            # A server that cannot be reached says so as soon as it is needed.
            return False

    @property
    def ledger_file(self) -> Path | None:
        """The SQLite file of the ledger, which may not be there yet; None for a ledger of another kind."""
        given = self._given["ledger"]
        return _sqlite_file(os.fspath(given)) if isinstance(given, str | os.PathLike) else None

    def create(self, partition: bytes | None = None, source: MemoryKeys | None = None) -> None:
        """Make what is missing of the store: folders, ledger and secrets.

        Parameters
        ----------
        partition : bytes or None
            The partition secret to keep; None: the one that is there, or a new one.
        source : MemoryKeys or None
            The secrets of a model that was in memory until now.
        """
        if not self.durable:
            return
        if isinstance(self.blobs, Remote):
            self.blobs.ready()
        if self._folder is not None:
            make_folder(self._folder)
        if self.root is not None and isinstance(self.blobs, Remote):
            point_to(self.blobs.url, self.root)
        self.blobs, self.locks  # noqa: B018 - their folders
        if not self.exists:
            vars(self).pop("ledger", None)
            self.ledger = SqlLedger(self._given["ledger"], create=True)
        if isinstance(self.secrets, Keys):
            self.secrets.create(partition, source)

    @cached_property
    def blobs(self) -> Blobs:
        """States and data blocks."""
        given = self._given["blobs"]
        if given is None:
            return MemoryBlobs()
        if not isinstance(given, str | os.PathLike):
            own: Blobs = given
            return own
        return open_blobs(given, self.root)

    @cached_property
    def ledger(self) -> Ledger:
        """What changes.

        Raises
        ------
        StoreError
            If there is none.
        """
        given = self._given["ledger"]
        if given is None:
            return MemoryLedger()
        if not isinstance(given, str | os.PathLike):
            own: Ledger = given
            return own
        file = self.ledger_file
        if file is not None and not file.exists():
            raise StoreError(
                f"There is no store at {self._name}; nothing was made. Check the path; a fit with store= makes one."
            )
        return SqlLedger(given)

    @cached_property
    def secrets(self) -> Secrets:
        """Partition secret, pseudonym keys and signing key."""
        given = self._given["keys"]
        if isinstance(given, Secrets):
            return given
        if not self.durable:
            return MemoryKeys()
        if given is None and self._folder is None:
            raise ParameterError("A store whose blobs are no folder needs keys=; nothing was made.")
        return Keys(Path(given) if given is not None else self._folder / "keys")  # type: ignore[operator]

    @cached_property
    def locks(self) -> Locks:
        """Who may write, and who may train."""
        if self._folder is not None:
            return Locks(self._folder)
        return Locks(meeting_place(self.blobs, self.ledger_file, self._given["keys"]))

    def settings(self) -> dict[str, Any]:
        """The configuration that the store was fitted with.

        Raises
        ------
        StoreError
            If nothing was ever fitted into it.
        """
        found = self.ledger.note(SETTINGS)
        if found is None:
            raise StoreError(
                f"The store at {self._name} holds no model yet: its first fit did not get as far as keeping the data. "
                "Nothing was changed. Run fit again."
            )
        settings: dict[str, Any] = found
        return settings

    # -- states --------------------------------------------------------------------------------------------------

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Nothing is kept or destroyed meanwhile."""
        with self.locks.writer():
            yield

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.ledger.checkpoint(key) is not None

    def ready(self, records: Records, shard: int) -> Callable[[], ShardRecords]:
        """The records of a shard, from where they are stored now; rows that are elsewhere are read by the call.

        What other processes have purged meanwhile need not have changed the plan: rows without weight train nothing.
        """
        if not isinstance(records, StoredRecords):
            return partial(records.shard, shard)
        # A store that a rebuild is made in has no cells of its own.
        return (self.located(records, shard) if self.durable or self.cells() else records).ready(shard)

    def located(self, records: StoredRecords, shard: int) -> StoredRecords:
        """The records of a shard as the ledger knows them now, not read yet: they travel to who will read them."""
        cells = (cell for cell in self.cells() if cell.shard == shard)
        return records.moved(cells, self._pending())

    def save(self, step: PlannedStep, parts: Parts, environment: str) -> bool:
        """Keep a state if its step is still in the plan; otherwise leave nothing of it behind.

        Returns
        -------
        bool
            Whether it was kept.
        """
        with self.locks.writer():
            return self.commit(step, self.put(parts), environment)

    def put(self, parts: Parts) -> tuple[tuple[str, str], ...]:
        """Put the parts of a state into the blobs, and name them: part and blob names, sorted."""
        return put_parts(self.blobs, parts)

    def commit(self, step: PlannedStep, written: tuple[tuple[str, str], ...], environment: str) -> bool:
        """Keep a state whose parts are in the blobs, if its step is still in the plan; otherwise destroy them.

        Raises
        ------
        StateError
            If a part is not there any more: whoever swept the blobs meanwhile could not know of it.
        """
        with self.locks.writer():
            checkpoint = Checkpoint(step.key, step.shard, step.slice, written, environment, step.parent)
            if not all(self.blobs.has(name) for _, name in written):
                self._drop([checkpoint])
                raise StateError(
                    f"A part of the new state of shard {step.shard} was swept away before it was recorded; nothing was "
                    "changed. Train the step again."
                )
            replaced, before = self.ledger.checkpoint(step.key), self.ledger.epoch
            kept = self.ledger.commit(checkpoint)
            if replaced is not None:
                self._drop([replaced])
            if not kept:
                self._drop([checkpoint])
            elif self.durable:
                self._seen.committed(before, self.ledger.epoch, checkpoint)
            return kept

    def is_as_at(self, epoch: int) -> bool:
        """Whether plan and cells are those of that epoch: no more than states of our own was recorded since."""
        return self._seen.only_states_since(epoch, self.ledger.epoch)

    def put_base(self, key: str, parts: Parts, environment: str) -> Checkpoint:
        """Keep the parts of the model that training starts from; the caller records the checkpoint with the plan."""
        return Checkpoint(key, NOWHERE, NOWHERE, self.put(parts), environment)

    def parts(self, key: str) -> dict[str, bytes]:
        """The parts of a stored state, each checked against its name.

        Raises
        ------
        StateError
            If there is no such state, or a part is damaged.
        """
        checkpoint = self.ledger.checkpoint(key)
        if checkpoint is None:
            raise StateError(f"There is no state under key {key[:12]}; nothing was changed. Run repair().")
        return get_parts(self.blobs, checkpoint.parts)

    def is_whole(self, checkpoint: Checkpoint) -> bool:
        """Whether each part of a state is there and what its name says."""
        try:
            for _, name in checkpoint.parts:
                self.blobs.get(name)
        except StateError:
            return False
        return True

    def drop(self, keys: Iterable[str]) -> None:
        """Destroy the states under these keys, which stay in the plan."""
        with self.locks.writer():
            self._drop(self.ledger.apply(Change(dropped=frozenset(keys))))

    def replan(self, keys: Iterable[str]) -> int:
        """Make `keys` the plan and destroy every state outside it; says how many there were."""
        with self.locks.writer():
            dropped = self.ledger.apply(Change(keys=frozenset(keys)))
            self._drop(dropped)
            return len(dropped)

    def apply(self, change: Change) -> int:
        """Write a change; in memory, destroy the states that it drops, which in a store the purge does.

        Returns
        -------
        int
            The states dropped.
        """
        with self.locks.writer():
            dropped = self._seen.apply(self.ledger, change)
            if not self.durable:
                self._drop(dropped)
            return len(dropped)

    def _drop(self, dropped: Iterable[Checkpoint]) -> None:
        names = {name for checkpoint in dropped for _, name in checkpoint.parts}
        self.blobs.delete(self.ledger.unreferenced(names))

    def sweep(self) -> int:
        """Destroy every blob that nothing refers to, and say how many there were.

        Only under the writer's lock is what nothing refers to sure to be garbage.
        """
        with self.locks.writer():
            if isinstance(self.blobs, DirectoryBlobs):
                self.blobs.sweep()
            states = [checkpoint.parts for checkpoint in self.checkpoints().values()]
            references = {name for parts in (*states, *(c.parts for c in self.cells())) for _, name in parts}
            orphans = {name for name in self.blobs.names() if name not in references}
            self.blobs.delete(orphans)
            if orphans and not references.issuperset(self.blobs.names()):
                raise StoreError(
                    "Blobs that were deleted are still listed, so what is to be forgotten may not be destroyed; what "
                    "was under way stays open, and is tried again when the store is opened next. Is another program "
                    "restoring files there?"
                )
            return len(orphans)

    def checkpoints(self) -> Mapping[str, Checkpoint]:
        """All checkpoints by their keys, read again only if they may have changed."""
        return self._seen.checkpoints(self.ledger)

    def cells(self) -> tuple[Cell, ...]:
        """What is stored of the data, read again only if it may have changed."""
        return self._seen.cells(self.ledger)

    # -- records -------------------------------------------------------------------------------------------------

    def put_cells(self, packed: Iterable[tuple[Cell, dict[str, bytes]]]) -> tuple[Cell, ...]:
        """Keep the parts of cells, and give the cells with the names of their blobs."""
        cells: list[Cell] = []
        waiting: list[tuple[Cell, dict[str, bytes]]] = []
        size = 0
        for cell, parts in packed:
            waiting.append((cell, parts))
            size += sum(map(len, parts.values()))
            if size > _PUT_BYTES:
                cells += self._put_together(waiting)
                waiting, size = [], 0
        return (*cells, *self._put_together(waiting))

    def _put_together(self, packed: list[tuple[Cell, dict[str, bytes]]]) -> list[Cell]:
        names = iter(self.blobs.put(data for _, parts in packed for data in parts.values()))
        named = [(cell, {part: next(names) for part in parts}) for cell, parts in packed]
        # A folder of blobs must make sense without its ledger, should one of the two come from a backup.
        manifests = iter(self.blobs.put(pack_manifest(cell.shard, cell.slice, parts) for cell, parts in named if parts))
        return [
            replace(cell, parts=tuple(sorted((parts | {MANIFEST: next(manifests)}).items())) if parts else ())
            for cell, parts in named
        ]

    def records(self, blueprint: Blueprint) -> StoredRecords:
        """The records that the ledger describes, without those that isolated requests have removed."""
        return blueprint.records(self.blobs, self.cells(), self._pending())

    def _pending(self) -> frozenset[bytes]:
        """The addresses whose records are removed and not yet purged."""
        isolated = self.ledger.requests(ISOLATED)
        return frozenset(bytes.fromhex(address) for request in isolated for address in request.items)

    def begin_training(self, digest: str, environment: Mapping[str, str]) -> None:
        """Note that a training is under way, and in which environment: whoever opens the store next finishes it."""
        self.ledger.apply(Change(notes={TRAINING: True, ENVIRONMENT + digest: dict(environment)}))

    def note_refresh(self, seconds: float) -> None:
        """Note how long a reader may go on with what it has loaded: receipts say so."""
        if self.durable and seconds > self.ledger.note(REFRESH, 0):
            self.ledger.apply(Change(notes={REFRESH: seconds}))

    # -- requests ------------------------------------------------------------------------------------------------

    def submit(self, groups: Iterable[Any]) -> tuple[int, ...]:
        """Record erasure requests, durably when this returns, without looking up whether there are such records.

        The next process that opens the model carries them out.

        Parameters
        ----------
        groups : iterable of ids
            The id, or ids, of each request.

        Returns
        -------
        tuple of int
            The sequences of the requests.

        Raises
        ------
        UnknownRecordError
            If an id cannot be of the model's type. Nothing was recorded.
        """
        addresses = self.addresses(self.settings())
        found = [addresses.search(as_list(ids)) for ids in groups]
        return self.ledger.submit([self.request(items, search=shards) for items, shards in found])

    def request(self, items: Mapping[str, str], **facts: Any) -> Request:
        """A request as it is received now."""
        policy, received = self.declared, now()
        known = {
            "received_at": received.isoformat(),
            "due_at": (received + timedelta(days=policy.days_to_answer)).isoformat(),
            "regime": policy.regime,
            "operator": operator(),
            "n_ids": len(items),
        }
        return Request(items=items, facts=known | facts)

    def addresses(self, settings: Mapping[str, Any]) -> Addresses:
        """From ids to addresses, as the settings say."""
        schema = json.loads(settings["schema"])
        return Addresses(self.partition(settings), self.secrets, schema["id_type"], schema["explicit_ids"])

    def partition(self, settings: Mapping[str, Any], id_type: str | None = None) -> Partition:
        """The partition, as the settings say.

        Raises
        ------
        KeyMissingError
            If its secret is nowhere.
        StoreError
            If it is another secret than the store was made with: no record would be found by its id.
        """
        known = settings["bands"]
        bands = None if known is None else Bands.of(dict(known[1]), known[0])
        partition = Partition(settings["n_shards"], settings["n_slices"], self.secrets.partition, bands, id_type)
        if settings["secret_id"] != partition.secret_id:
            raise StoreError(
                f"The partition secret is not the one that {self!r} was made with, so no record would be found by its "
                "id; nothing was changed. Put your backup of partition.key in its place."
            )
        return partition

    @property
    def declared(self) -> Policy:
        """The policy that holds: the one given, or the one declared before, or the default."""
        if self.policy is not None:
            return self.policy
        found = self.ledger.note(POLICY)
        return Policy() if found is None else Policy(**found | {"copies": tuple(found["copies"])})

    def refreshed_by(self, isolated: datetime) -> datetime:
        """By when every process that had the model loaded has stopped serving what was isolated then."""
        seconds: float = self.ledger.note(REFRESH, 0)
        return isolated + timedelta(seconds=seconds)

    def environment(self) -> dict[str, str]:
        """The versions that the stored states were made with; several where there are."""
        digests = {checkpoint.environment for checkpoint in self.checkpoints().values()}
        found: dict[str, set[str]] = {}
        for digest in digests:
            for name, version in self.ledger.note(ENVIRONMENT + digest, {}).items():
                found.setdefault(name, set()).add(version)
        return {name: ", ".join(sorted(versions)) for name, versions in sorted(found.items())}

    @property
    def policy_note(self) -> dict[str, Any]:
        """The policy as the ledger keeps it."""
        return {POLICY: json.loads(json.dumps(asdict(self.declared)))}


def as_store(given: str | os.PathLike[str] | Store) -> Store:
    """The store that the option ``store=`` names.

    Raises
    ------
    ParameterError
        If it is neither a path nor a store.
    """
    if isinstance(given, Store):
        return given
    if not isinstance(given, str | os.PathLike):
        raise ParameterError(f"store= is a {type(given).__name__}; nothing was changed. Give a path or a Store.")
    return Store.at(given)


def _sqlite_file(target: str) -> Path | None:
    """The file of a ledger that is one; None for a database server."""
    if "://" not in target:
        return Path(target)
    scheme, _, rest = target.partition("://")
    return Path(rest.partition("?")[0].removeprefix("/")) if scheme.startswith("sqlite") else None
