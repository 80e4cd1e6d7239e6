"""Sealed rows: what the tables of a ledger are, and how their rows tell when they are damaged.

Every row carries a seal, the SHA-256 of its fields, which is checked whenever the row is read. What a seal cannot
tell, that a row is missing, is told by the tally of its table: the number of rows and the XOR of their seals, kept
with the sealed row of `meta`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from unlearnkit.errors import StateError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

Row = tuple[Any, ...]

FORMAT = 1
PREFIX = "unlearnkit_"
META = "meta"

# For each table: the columns of its key, and the others.
TABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "plan": (("key",), ()),
    "checkpoints": (("key",), ("shard", "slice", "environment", "parent", "parts")),
    "cells": (("shard", "slice"), ("n", "n_records", "digest", "classes", "parts", "support", "stale")),
    "parts": (("blob", "holder"), ()),
    "requests": (("sequence",), ("state", "pseudonyms", "facts")),
    "items": (("sequence",), ("items",)),
    "tombstones": (("pseudonym",), ("sequence",)),
    "statements": (("number",), ("envelope",)),
    "notes": (("name",), ("value",)),
    META: (("number",), ("format", "epoch", "untidy", "tallies")),
}
_INTEGERS = frozenset(["shard", "slice", "n", "n_records", "stale", "sequence", "number", "format", "epoch", "untidy"])
# What rows of these held must not be found in the files once they are dropped.
PERISHABLE = ("plan", "checkpoints", "cells", "parts", "items")


def seal(name: str, fields: Sequence[Any]) -> str:
    """The seal of a row of this table."""
    # A damaged field may be of any type, bytes for one; then the seal is merely another one.
    return hashlib.sha256(json.dumps([name, *fields], default=repr).encode()).hexdigest()


def key_of(name: str, row: Row) -> Row:
    """The fields of a row that are its key."""
    return row[: len(TABLES[name][0])]


def damaged(where: str) -> StateError:
    """The error for a place that is not as it was written."""
    return StateError(f"The ledger is damaged at {where}; nothing was changed. Run: unlearnkit fsck")


def tally(seals: Iterable[str], start: tuple[int, int] = (0, 0), sign: int = 1) -> tuple[int, int]:
    """The tally of rows with these seals, counted on from another."""
    count, mixed = start
    for value in seals:
        count, mixed = count + sign, mixed ^ int(value, 16)
    return count, mixed


class Reader:
    """What can be read in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.tables = sealed_tables()

    def raw(self, name: str, *where: Any) -> Iterator[tuple[Row, str]]:
        """Rows and their seals, unchecked."""
        import sqlalchemy as sa

        for *fields, found in self.connection.execute(sa.select(self.tables[name]).where(*where)):
            yield tuple(fields), found

    def rows(self, name: str, *where: Any) -> list[Row]:
        """The rows for which these conditions hold, in no order.

        Raises
        ------
        StateError
            If one is damaged; where all are asked for, also if one is missing.
        """
        rows = []
        for row, found in self.raw(name, *where):
            if seal(name, row) != found:
                raise damaged(place(name, row))
            rows.append(row)
        if not where and name != META and tally(seal(name, row) for row in rows) != self._tally(name):
            raise damaged(f"{name} (rows are missing, or have come back)")
        return rows

    def check_count(self, name: str) -> None:
        """Look whether a table has as many rows as it should have, where not all of them are read.

        Raises
        ------
        StateError
            If it has not.
        """
        import sqlalchemy as sa

        (found,) = self.connection.execute(sa.select(sa.func.count()).select_from(self.tables[name])).one()
        if found != self._tally(name)[0]:
            raise damaged(f"{name} (rows are missing, or have come back)")

    def _tally(self, name: str) -> tuple[int, int]:
        """The tally that the rows of a table have to have."""
        count, mixed = self.meta()["tallies"][name]
        return int(count), int(mixed, 16)

    def lookup(self, name: str, values: Iterable[Any]) -> list[Row]:
        """The rows whose key begins with one of these values."""
        column = self.tables[name].c[TABLES[name][0][0]]
        distinct = list(dict.fromkeys(values))
        # Databases limit how many values a statement may have.
        chunks = [distinct[i : i + 500] for i in range(0, len(distinct), 500)]
        return [row for chunk in chunks for row in self.rows(name, column.in_(chunk))]

    def meta(self) -> dict[str, Any]:
        """The sealed facts of the ledger as a whole."""
        rows = self.rows(META)
        if len(rows) != 1:
            raise damaged(META)
        _, version, epoch, untidy, tallies = rows[0]
        return {"format": version, "epoch": epoch, "untidy": untidy, "tallies": json.loads(tallies)}


class Writer(Reader):
    """What can be changed in one transaction."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.epoch = 0
        self.untidy = False
        self.tallies: dict[str, tuple[int, int]] = dict.fromkeys(TABLES, (0, 0))
        self._written: Row = ()

    def start(self) -> None:
        """Read the sealed facts, and count on from them."""
        meta = self.meta()
        self.epoch, self.untidy = meta["epoch"], bool(meta["untidy"])
        self.tallies = {name: (count, int(mixed, 16)) for name, (count, mixed) in meta["tallies"].items()}
        self._written = self._meta_row()

    def _tally(self, name: str) -> tuple[int, int]:
        return self.tallies[name]

    def count(self, name: str) -> int:
        """How many rows a table has."""
        return self.tallies[name][0]

    def add(self, name: str, rows: Sequence[Row]) -> None:
        """Add rows of new keys."""
        sealed = [(*row, seal(name, row)) for row in rows]
        if sealed:
            table = self.tables[name]
            columns = [column.name for column in table.columns]
            self.connection.execute(table.insert(), [dict(zip(columns, row, strict=True)) for row in sealed])
        self.tallies[name] = tally((row[-1] for row in sealed), self.tallies[name])

    def drop(self, name: str, rows: Sequence[Row]) -> None:
        """Drop rows that were read before."""
        import sqlalchemy as sa

        if not rows:
            return
        table, keys = self.tables[name], TABLES[name][0]
        matching = table.delete().where(*(table.c[key] == sa.bindparam(f"old_{key}") for key in keys))
        values = [{f"old_{key}": value for key, value in zip(keys, row, strict=False)} for row in rows]
        result = self.connection.execute(matching, values)
        if result.supports_sane_multi_rowcount() and result.rowcount != len(rows):
            raise damaged(f"{name} (a row is not found by its key)")
        self.tallies[name] = tally((seal(name, row) for row in rows), self.tallies[name], sign=-1)
        self.untidy = self.untidy or name in PERISHABLE

    def put(self, name: str, rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
        """Write rows in place of those of the same keys; give the old and the new ones where they differ."""
        new = {key_of(name, row): row for row in rows}
        old = {key_of(name, row): row for row in self.lookup(name, (key[0] for key in new))}
        gone = [row for key, row in old.items() if key in new and new[key] != row]
        come = [row for key, row in new.items() if old.get(key) != row]
        self.drop(name, gone)
        self.add(name, come)
        return gone, come

    def rewrite(self, name: str, rows: Sequence[Row]) -> None:
        """Make these the rows of a table, whatever was in it."""
        self.connection.execute(self.tables[name].delete())
        self.tallies[name] = (0, 0)
        self.add(name, rows)

    def finish(self) -> None:
        """Write the sealed facts, if they have changed."""
        row = self._meta_row()
        if row == self._written:
            return
        table = self.tables[META]
        values = dict(zip((column.name for column in table.columns), (*row, seal(META, row)), strict=True))
        if self._written:
            # The same row as before: others may be waiting for it to be unlocked.
            self.connection.execute(table.update().values(values))
        else:
            self.connection.execute(table.delete())
            self.connection.execute(table.insert(), [values])

    def _meta_row(self) -> Row:
        tallies = {name: (count, f"{mixed:064x}") for name, (count, mixed) in self.tallies.items() if name != META}
        return (0, FORMAT, self.epoch, int(self.untidy), json.dumps(tallies))


def place(name: str, row: Row) -> str:
    """Where a row is, in words that give away no more than the beginning of its key."""
    return f"{name} {' '.join(str(value)[:12] for value in key_of(name, row))}"


@cache
def sealed_tables() -> dict[str, Table]:
    """The tables by their names."""
    import sqlalchemy as sa

    metadata = sa.MetaData()
    integer = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    tables = {}
    for name, (keys, others) in TABLES.items():
        columns = [
            sa.Column(
                column,
                integer if column in _INTEGERS else sa.Text(),
                primary_key=column in keys,
                autoincrement=False,
                nullable=column == "parent",
                index=(name, column) == ("requests", "state"),
            )
            for column in (*keys, *others, "seal")
        ]
        tables[name] = sa.Table(PREFIX + name, metadata, *columns)
    return tables
