"""Call sites: every durable operation of the store announces, just before, where in the code it is.

The announcement is a system call that does nothing (`chdir` to a folder that does not exist), so that a trace of the
process shows it in line with the operations themselves, also those that SQLite does on its own inside one statement.
Where nothing can trace, the announcements are the failpoints: the process kills itself at one, or an error is raised.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import sqlite3
import sys
from pathlib import Path

import unlearnkit

FOLDER = "/.unlearnkit-crash/"
WRAPPED = ("open", "write", "fsync", "rename", "unlink", "link", "mkdir")
_HOME = str(Path(unlearnkit.__file__).parent) + os.sep
_plain = {name: getattr(os, name) for name in (*WRAPPED, "chdir", "kill")}


class Failpoints:
    """What is to happen at which announcement, counted from 1."""

    def __init__(self):
        self.seen = []
        self.listing = False
        self.kill_at = 0
        self.before_kill = None
        self.errors = {}

    def reached(self, operation, site, error):
        """Count one more announcement, and fail here if that is due."""
        self.seen.append((operation, site))
        number = len(self.seen)
        if number == self.kill_at:
            self.before_kill(operation, site)
            _plain["kill"](os.getpid(), signal.SIGKILL)
        # What SQLite does to give up never fails by itself.
        if error is not None and number in self.errors:
            raise error(self.errors[number])


failpoints = Failpoints()


def call_site():
    """The lines of the package that have led here, innermost first."""
    frame = sys._getframe(1)
    lines = []
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_HOME):
            lines.append(f"{file[len(_HOME) : -3]}.{frame.f_code.co_name}:{frame.f_lineno}".replace("/", "."))
        frame = frame.f_back
    return "<".join(lines)


def announce(operation, error):
    """Say where this is, if it is somewhere in the package."""
    site = call_site()
    if not site:
        return
    try:
        _plain["chdir"](FOLDER + _cut(f"{operation}|{site}"))
    except OSError:
        failpoints.reached(operation, site, error)


def _cut(text):
    # A name in a path has at most 255 bytes.
    return "/".join(text[start : start + 200] for start in range(0, min(len(text), 3600), 200))


def _os_error(code):
    return OSError(code, os.strerror(code))


def _sqlite_error(code):
    import errno

    names = {errno.ENOSPC: "SQLITE_FULL", errno.EACCES: "SQLITE_READONLY"}
    error = sqlite3.OperationalError("made by a failpoint")
    error.sqlite_errorname = names.get(code, "SQLITE_IOERR")
    return error


def _announced(name):
    plain = _plain[name]

    def wrapper(*args, **options):
        if name != "open" or args[1] & os.O_CREAT:
            announce(name, _os_error)
        return plain(*args, **options)

    return wrapper


def _statement(sql):
    return "sql " + re.sub(r"[^A-Za-z_0-9.]+", " ", sql)[:48].strip()


class Cursor(sqlite3.Cursor):
    """A cursor that announces its statements."""

    def execute(self, sql, *args):
        announce(_statement(sql), _sqlite_error)
        return super().execute(sql, *args)

    def executemany(self, sql, *args):
        announce(_statement(sql), _sqlite_error)
        return super().executemany(sql, *args)


class Connection(sqlite3.Connection):
    """A connection that announces its statements, its commits and its end."""

    def cursor(self, factory=Cursor):
        return super().cursor(factory)

    def execute(self, sql, *args):
        announce(_statement(sql), _sqlite_error)
        return super().execute(sql, *args)

    def commit(self):
        announce("sql commit", _sqlite_error)
        super().commit()

    def rollback(self):
        announce("sql rollback", None)
        super().rollback()

    def close(self):
        announce("sql close", None)
        super().close()


def _install_for_servers():
    """Announce what goes to a database server, where its driver is installed."""
    if importlib.util.find_spec("psycopg") is None:
        return
    import psycopg

    def announced(plain, name):
        def wrapper(self, *args, **options):
            announce(name or _statement(str(args[0])), None)
            return plain(self, *args, **options)

        return wrapper

    for name in ("execute", "executemany"):
        setattr(psycopg.Cursor, name, announced(getattr(psycopg.Cursor, name), ""))
    for name in ("commit", "rollback", "close"):
        setattr(psycopg.Connection, name, announced(getattr(psycopg.Connection, name), f"sql {name}"))


def install():
    """Have the operations announced, in this process and in those forked from it."""
    for name in WRAPPED:
        setattr(os, name, _announced(name))
    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **options: connect(*args, **options | {"factory": Connection})
    _install_for_servers()
