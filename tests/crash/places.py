"""Where the stores of the harness live: each in one folder, or with its ledger in a database server."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import unlearnkit
from unlearnkit.store import Store

sys.path.insert(0, str(Path(__file__).parents[1]))
from postgres_server import Client

LEDGER = "ledger.sqlite"
server: Client | None = None
"""The server whose turn it is."""


def use(folder):
    """Keep ledgers in the server whose socket is in this folder; None: in files."""
    global server  # noqa: PLW0603
    server = None if folder is None else Client(folder)


def at(path, policy=None):
    """The store of a folder."""
    if server is None:
        return Store.at(path, policy)
    return Store(f"{path}/blobs", server.url(_database(path)), keys=f"{path}/keys", policy=policy)


def load(path):
    """The model of the store of a folder."""
    return unlearnkit.load(path if server is None else at(path))


def copy(source, target):
    """Make the store of one folder that of another, too; an empty one if there is none."""
    shutil.rmtree(target, ignore_errors=True)
    if Path(source).is_dir():
        shutil.copytree(source, target)
    if server is not None:
        known = _database(source)
        server.create(_database(target), known if server.has(known) else "template1")


def rows(path):
    """All rows of the ledger of a folder, by table, without opening it as the package does."""
    if server is not None:
        return server.rows(_database(path))
    with closing(sqlite3.connect(f"{path}/{LEDGER}")) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        tables = sorted(name for (name,) in found)
        return {table: sorted(map(repr, connection.execute(f"SELECT * FROM {table}"))) for table in tables}


def states(path):
    """The state of each request in the ledger of a folder, before anything is recovered."""
    select = "SELECT sequence, state FROM unlearnkit_requests"
    if server is not None:
        return dict(server.execute(select, database=_database(path)))
    # Of a copy: SQLite recovers what it opens.
    copy(path, f"{path}.copy")
    with closing(sqlite3.connect(f"{path}.copy/{LEDGER}")) as connection:
        return dict(connection.execute(select))


def _database(path):
    return f"crash_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
