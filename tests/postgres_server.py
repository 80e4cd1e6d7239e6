"""A PostgreSQL server of one's own, reached by a socket in its folder, for as long as it takes."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

USER, PASSWORD = "keeper", "open/sesame @1"
PATIENCE_S = 60


def binaries() -> Path | None:
    """The folder with the programs of the newest PostgreSQL here, or None."""
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(found, key=lambda path: int(path.parents[1].name), default=None)
    return None if newest is None else newest.parent


def lacking() -> str | None:
    """Why no server can be started here; None if one can."""
    if binaries() is None:
        return "PostgreSQL is not installed: apt-get install postgresql"
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed: pip install 'unlearnkit[postgres]'"
    return None


class Client:
    """One who makes, copies and drops databases of a server that runs.

    Parameters
    ----------
    folder : str or Path
        Where its socket is.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def url(self, database: str, password: str | None = PASSWORD) -> str:
        """The URL of a database, as SQLAlchemy takes it."""
        import sqlalchemy as sa

        query = {"host": str(self.folder)}
        url = sa.URL.create("postgresql+psycopg", USER, password, database=database, query=query)
        return url.render_as_string(hide_password=False)

    def create(self, database: str, template: str = "template1") -> str:
        """Make a database, in place of one of this name, as a copy of another; gives its URL."""
        self.drop(database)
        if template != "template1":
            # A copy is made of what nobody is connected to, and processes that were killed may not be gone yet.
            self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", template)
        self.execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
        return self.url(database)

    def has(self, database: str) -> bool:
        """Whether there is a database of this name."""
        return bool(self.execute("SELECT 1 FROM pg_database WHERE datname = %s", database))

    def rows(self, database: str) -> dict[str, list[str]]:
        """All rows of all tables, as text and sorted."""
        listing = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        tables = sorted(name for (name,) in self.execute(listing, database=database))
        return {name: sorted(map(str, self.execute(f'SELECT * FROM "{name}"', database=database))) for name in tables}

    def drop(self, database: str) -> None:
        """Drop a database, if there is one, whoever is connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def execute(self, statement: str, *values: Any, database: str = "postgres") -> list[Any]:
        """Execute one statement in a transaction of its own, and give its rows."""
        import psycopg

        place = {"host": str(self.folder), "user": USER, "password": PASSWORD, "dbname": database}
        with psycopg.connect(**place, autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []


class Server(Client):
    """A server in a folder that it owns, with one user, who needs a password.

    Parameters
    ----------
    fsync : bool
        Off, a crash of the whole machine may cost data; no test goes that far.
    """

    def __init__(self, *, fsync: bool = False) -> None:
        super().__init__(tempfile.mkdtemp(prefix="pg-"))
        self._fsync = fsync
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = _unprivileged()
        try:
            self._make()
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [self._program("postgres"), "-D", self._data, "-k", self.folder, "-c", "listen_addresses="]
        command += ["-c", f"fsync={'on' if self._fsync else 'off'}", "-c", "max_connections=200"]
        command += ["-c", "shared_buffers=16MB"]
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [*_following(), *map(str, command)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._owner
            )
        end = time.monotonic() + PATIENCE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"PostgreSQL does not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, *, at_once: bool = True) -> None:
        """Stop it; at once, all that is under way is cut off as by a power failure."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
            self._process.wait(PATIENCE_S)
            self._process = None

    def close(self) -> None:
        """Stop it for good, and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _program(self, name: str) -> str:
        folder = binaries()
        assert folder is not None
        return str(folder / name)

    def _make(self) -> None:
        if self._owner:
            shutil.chown(self.folder, self._owner["user"], self._owner["group"])
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        command = [self._program("initdb"), "-D", self._data, "-U", USER, "--auth=scram-sha-256", "--no-sync"]
        command += ["--encoding=UTF8", "--locale=C", f"--pwfile={secret}"]
        subprocess.run([*map(str, command)], check=True, capture_output=True, **self._owner)
        secret.unlink()

    def _answers(self) -> bool:
        command = [self._program("pg_isready"), "-q", "-h", str(self.folder), "-d", "postgres"]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


@contextmanager
def running(**options: Any) -> Iterator[Server]:
    """A server that is stopped and removed in the end."""
    server = Server(**options)
    try:
        yield server
    finally:
        server.close()


def _unprivileged() -> dict[str, Any]:
    """Whom to run it as, as `subprocess` takes it: PostgreSQL refuses to be run by root."""
    if os.geteuid():
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    owner = known.get("postgres") or known["nobody"]
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": [], "cwd": "/"}


def _following() -> Sequence[str]:
    """A prefix of the command by which the server ends should this process be killed."""
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "QUIT", "--"] if found else []
