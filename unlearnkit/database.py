"""The database of a ledger: how it is opened, whole transactions, clear errors, and no residue in its files.

SQLite or PostgreSQL, through SQLAlchemy Core.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from unlearnkit.errors import StoreError
from unlearnkit.files import TEMPORARY, claim, publish, remove, sync_folder
from unlearnkit.sealed import FORMAT, META, PERISHABLE, PREFIX, Reader, Writer, damaged, seal, sealed_tables
from unlearnkit.urls import shown, sqlalchemy, url_of
from unlearnkit.wal import lost_frames

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_Kind = TypeVar("_Kind", bound=Reader)

BUSY_S = 30
READER_S = 5
# The number that PostgreSQL knows the making of a ledger by.
_MAKING = int.from_bytes(b"unlearn", "big")

# Codes of SQLite that mean that the file is not what was written to it.
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR", "SQLITE_CONSTRAINT", "SQLITE_MISMATCH")
_ADVICE = {
    "SQLITE_BUSY": "Another process has kept it locked: try again, and see which one hangs.",
    "SQLITE_FULL": "Free some space on the disk and try again.",
    "SQLITE_READONLY": "Give this user access for writing to the file and its folder and try again.",
    "SQLITE_CANTOPEN": "Give this user access for writing to the file and its folder and try again.",
}
_LOCKED_OUT = (
    "Put the password into PGPASSWORD or ~/.pgpass, or into the URL: it does not travel with a pickle or a model."
)


class Database:
    """The database of one ledger, safe for threads, and usable on in forked processes.

    Parameters
    ----------
    target : str or Path
        The URL of a database, or the path of a SQLite file.
    create : bool
        Make what is not there. Whatever is there stays as it is.
    """

    def __init__(self, target: str | os.PathLike[str], *, create: bool) -> None:
        text = os.fspath(target)
        url = url_of(text) if "://" in text else sqlalchemy().URL.create("sqlite", database=text)
        self.file: Path | None = None
        if url.get_backend_name() == "sqlite":
            if url.database in (None, "", ":memory:"):
                raise StoreError("A ledger needs a file or a server; nothing was made. Give the path of a file.")
            self.file = Path(url.database).absolute()
        self.target: str = str(self.file) if self.file else url.render_as_string(hide_password=False)
        self.name = self.file.name if self.file else shown(url)
        self._reset()
        _all.add(self)
        with self.translated():
            self._open(create=create)

    def _reset(self) -> None:
        self._turn = threading.RLock()
        self._engine = _engine(self.target, self.file)
        weakref.finalize(self, self._engine.dispose)

    def _open(self, *, create: bool) -> None:
        if self.file and not self.file.exists():
            if not create:
                raise StoreError(f"There is no ledger {self.name}; nothing was made. Check the path, or fit a model.")
            self._make_file(self.file)
        lost = lost_frames(self.file) if self.file else 0
        if lost:
            # SQLite would take it for a write that was cut off, and go on with an older state.
            raise damaged(f"its log ({lost} pages that were committed to it cannot be read any more)")
        sa = sqlalchemy()
        if not sa.inspect(self._engine).has_table(PREFIX + META):
            if self.file:
                raise damaged("all of it (the file has no tables)")
            if not create:
                raise StoreError(f"There is no ledger at {self.name}; nothing was made. Check the URL, or fit a model.")
            _fill(self._engine)
        with self._engine.begin() as connection:
            versions = [row[1] for row, found in Reader(connection).raw(META) if seal(META, row) == found]
        # Every format keeps this table. If it is damaged, all that is read or written says so, except what repairs it.
        if versions and versions != [FORMAT]:
            raise StoreError(
                f"The ledger {self.name} is of format {versions[0]}, and this version of unlearnkit knows {FORMAT}; "
                "nothing was changed. Install the version that wrote it, or a later one."
            )

    def _make_file(self, path: Path) -> None:
        # Under another name first: a file of this name is a whole ledger at every moment.
        temporary = path.with_name(TEMPORARY + secrets.token_hex(8))
        claim(temporary, 0o600)
        engine = _engine("", temporary)
        try:
            _fill(engine)
            with engine.connect() as connection:
                (mode,) = connection.connection.cursor().execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise StoreError(
                    f"The file system of {path.parent} is not fit for a ledger (no shared memory); nothing was made. "
                    "Keep the ledger on a local disk."
                )
            engine.dispose()
            publish(temporary, path)
            sync_folder(path.parent)
        finally:
            engine.dispose()
            remove(temporary)

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """A transaction that reads, all of it from the same moment."""
        # SQLite does so anyway.
        options = {} if self.file else {"isolation_level": "REPEATABLE READ"}
        with self.translated(), self._begun(Reader, **options) as reader:
            yield reader

    @contextmanager
    def write(self, *, trusting: bool = True) -> Iterator[Writer]:
        """A transaction that writes, the only one at a time; all of it is durable on leaving, or nothing.

        Parameters
        ----------
        trusting : bool
            Count on from the sealed facts, and refuse if they are damaged.
        """
        with self.translated(), self._turn, self._begun(Writer, write=True) as writer:
            if trusting:
                writer.start()
            yield writer
            writer.finish()

    @contextmanager
    def _begun(self, kind: type[_Kind], **options: Any) -> Iterator[_Kind]:
        """A transaction; one of a server has looked at the sealed facts, and a writer has its turn by that."""
        engine = self._engine.execution_options(**options)
        with ExitStack() as stack:
            try:
                begun = self._looked(stack, engine, kind)
            except sqlalchemy().exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                # It had rested in the pool while the server was gone; the pool has given up the others with it.
                begun = self._looked(stack, engine, kind)
            yield begun

    def _looked(self, stack: ExitStack, engine: Engine, kind: type[_Kind]) -> _Kind:
        with ExitStack() as own:
            begun = kind(own.enter_context(engine.begin()))
            if self.file is None:
                begun.look(lock=kind is Writer)
            stack.enter_context(own.pop_all())
        return begun

    def settle(self) -> bool:
        """Destroy in the files what dropped rows have left behind; False if a reader stands in the way."""
        if self.file is None:
            return True
        with self.write() as writer:
            if writer.untidy:
                # secure_delete zeroes what is deleted, but not the copies of rows that SQLite leaves between the rows
                # of a page when it moves them to another. Emptying a table zeroes its pages whole.
                for name in PERISHABLE:
                    _rewrite(writer, PREFIX + name)
                writer.untidy = False
        with self.translated(), self._turn, self._engine.connect() as connection:
            # Below SQLAlchemy, which would begin a transaction.
            cursor = connection.connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout = {READER_S * 1000}")
            blocked, *_ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            cursor.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000}")
            # Pages of the tables that were filled again would stay in memory until the next purge.
            cursor.execute("PRAGMA shrink_memory")
            return not blocked

    def integrity(self) -> list[str]:
        """What the database itself finds wrong with its file."""
        if self.file is None:
            return []
        with self.translated(), self._engine.begin() as connection:
            found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    def renew_indexes(self, writer: Writer) -> None:
        """Make the indexes of a SQLite file again from the rows; servers see to their own."""
        if self.file:
            writer.connection.exec_driver_sql("REINDEX")

    def close(self) -> None:
        """Let go of all connections; the next use opens new ones."""
        with self.translated():
            self._engine.dispose()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the errors of the database into `StateError`, where it is damaged, and `StoreError`."""
        try:
            yield
        except (sqlite3.Error, sqlalchemy().exc.SQLAlchemyError) as error:
            original = getattr(error, "orig", None) or error
            code = getattr(original, "sqlite_errorname", "")
            # Without a code: text that is no text any more. The message would repeat it.
            if self.file and (code.startswith(_DAMAGE) or (not code and isinstance(original, sqlite3.Error))):
                raise damaged(f"{self.name} ({original if code else 'text that is none'})") from None
            said = str(original).splitlines()[0]
            advice = next((text for start, text in _ADVICE.items() if code.startswith(start)), "")
            if self.file is None:
                advice = _LOCKED_OUT if "password" in said else "See that the server runs, and try again."
            raise StoreError(
                f"The ledger {self.name} could not be used: {said}. What was acknowledged before is as it was. "
                f"{advice or 'Check the disk and try again.'}"
            ) from error


def _rewrite(writer: Writer, table: str) -> None:
    """Empty a table of SQLite and fill it with the same rows."""
    for statement in (
        f"CREATE TEMP TABLE kept AS SELECT * FROM {table}",  # noqa: S608 - a name of ours
        f"DELETE FROM {table}",  # noqa: S608
        f"INSERT INTO {table} SELECT * FROM temp.kept",  # noqa: S608
        "DROP TABLE temp.kept",
    ):
        writer.connection.exec_driver_sql(statement)


def _fill(engine: Engine) -> None:
    """Make the tables and the sealed facts of an empty ledger."""
    with engine.execution_options(write=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            # Two that make the same table at once would be in each other's way; it ends with the transaction.
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MAKING})")
        tables = sealed_tables()
        tables[META].metadata.create_all(connection)
        if not connection.execute(tables[META].select()).first():
            Writer(connection).finish()


def _engine(target: str, file: Path | None) -> Engine:
    sa = sqlalchemy()
    # Parameters stay out of messages: addresses are among them.
    options: dict[str, Any] = {"hide_parameters": True, "max_overflow": -1}
    if file is None:
        try:
            engine: Engine = sa.create_engine(target, **options, isolation_level="READ COMMITTED")
        except (ImportError, sa.exc.ArgumentError) as error:
            kind = url_of(target).drivername
            raise StoreError(
                f"There is no driver for a ledger at {kind}:// ({error}); nothing was made. For PostgreSQL install it "
                "with: pip install 'unlearnkit[postgres]'"
            ) from None
        return engine
    # A file that has gone must not be made anew, empty, by opening it.
    uri = f"file:{quote(str(file))}?mode=rw"
    engine = sa.create_engine("sqlite:///file", **options, creator=lambda: _connect(uri))
    sa.event.listen(engine, "begin", _begin)
    return engine


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    for setting in ("synchronous = FULL", "secure_delete = ON", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {setting}").close()
    return connection


def _begin(connection: Connection) -> None:
    # A transaction that begins as a reader could find, when it comes to write, that another has written meanwhile.
    writes = connection.get_execution_options().get("write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


_all: weakref.WeakSet[Database] = weakref.WeakSet()


def _before_fork() -> None:
    """Leave the child no open SQLite file: its locks would be the parent's."""
    for database in list(_all):
        database._engine.dispose()  # noqa: SLF001


def _in_child() -> None:
    for database in list(_all):
        database._engine.dispose(close=False)  # noqa: SLF001
        database._reset()  # noqa: SLF001


os.register_at_fork(before=_before_fork, after_in_child=_in_child)
