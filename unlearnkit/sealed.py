"""Sealed rows: what the tables of a ledger are, and how their rows tell when they are damaged.

Every row carries a seal, the SHA-256 of its fields, which is checked whenever the row is read. What a seal cannot
tell, that a row is missing, is told by the tally of its table: the number of rows and the XOR of their seals, kept
with the sealed row of `meta`. A table that is read by one of its columns has a tally for each value of it as well: that
costs the same however many rows have other values.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from unlearnkit.errors import StateError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

Row = tuple[Any, ...]
Tally = tuple[int, int]
"""Number of rows, and the XOR of their seals."""
NOTHING: Tally = (0, 0)

FORMAT = 4
PREFIX = "unlearnkit_"
META = "meta"

# For each table: the columns of its key, and the others.
TABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "plan": (("key",), ()),
    "checkpoints": (("key",), ("shard", "slice", "environment", "parent", "parts")),
    "cells": (("shard", "slice"), ("n", "n_records", "digest", "classes", "parts", "support", "stale")),
    "parts": (("blob", "holder"), ()),
    "requests": (("sequence",), ("state", "pseudonyms", "facts")),
    # What many ids make long is apart from what changes at each state; `requests` has the seal of the pseudonyms.
    "items": (("sequence",), ("items",)),
    "pseudonyms": (("sequence",), ("pseudonyms",)),
    "tombstones": (("pseudonym",), ("sequence",)),
    "statements": (("number",), ("envelope",)),
    "notes": (("name",), ("value",)),
    META: (("number",), ("format", "epoch", "untidy", "tallies")),
}
# Tables that are read in groups: all rows with one value of this column.
GROUPED = {"requests": "state"}
_INTEGERS = frozenset(["shard", "slice", "n", "n_records", "stale", "sequence", "number", "format", "epoch", "untidy"])
# A damaged field may be of any type, bytes for one; then the seal is merely another one.
_any = json.JSONEncoder(default=repr).encode
_quoted = json.encoder.encode_basestring_ascii
# Characters from which on a text counts by its digest: to write it as JSON takes longer than to hash it.
_LONG = 1_000
LOST = "rows are missing, or have come back"
# What rows of these held must not be found in the files once they are dropped.
PERISHABLE = ("plan", "checkpoints", "cells", "parts", "items")


def seal(name: str, fields: Sequence[Any]) -> str:
    """The seal of a row of this table: over its name and fields as a list in JSON, of long texts their digest."""
    ((_, found),) = sealed_rows(name, [fields])
    return found


def sealed_rows(name: str, rows: Iterable[Sequence[Any]]) -> Iterator[tuple[Any, str]]:
    """Rows of this table with their seals."""
    # A request for many ids has as many rows: an encoder, or a hash from scratch, would take longer than most of them.
    begun = hashlib.sha256(f"[{_quoted(name)}".encode())
    # Of all formats the seal of this table is the same: it says which format that is.
    long = sys.maxsize if name == META else _LONG
    for row in rows:
        fields = [
            (_quoted(f) if len(f) < long else _digest(f))
            if (kind := type(f)) is str
            else repr(f)
            if kind is int
            else _any(f)
            for f in row
        ]
        sealing = begun.copy()
        sealing.update(f"{', '.join(('', *fields))}]".encode())
        yield row, sealing.hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def key_of(name: str, row: Row) -> Row:
    """The fields of a row that are its key."""
    return row[: len(TABLES[name][0])]


def damaged(where: str) -> StateError:
    """The error for a place that is not as it was written."""
    return StateError(f"The ledger is damaged at {where}; nothing was changed. Run: unlearnkit fsck")


def tally(seals: Iterable[str]) -> Tally:
    """The tally of rows with these seals."""
    count = mixed = 0
    for value in seals:
        count, mixed = count + 1, mixed ^ int(value, 16)
    return count, mixed


def tallies_of(name: str, sealed: Iterable[tuple[Row, str]]) -> dict[str, Tally]:
    """The tallies of a table of these rows and seals: its own, under its name, and those of its groups."""
    if name not in GROUPED:
        return {name: tally(value for _, value in sealed)}
    groups: dict[str, list[str]] = {}
    for row, value in sealed:
        groups.setdefault(_group_of(name, row), []).append(value)
    return {name: tally(chain(*groups.values()))} | {group: tally(seals) for group, seals in groups.items()}


def _group_of(name: str, row: Row) -> str:
    """Under which name the group of a row is tallied."""
    keys, others = TABLES[name]
    return f"{name} {row[(*keys, *others).index(GROUPED[name])]}"


def _is_of(table: str, tallied: str) -> bool:
    """Whether a tally is that of this table or of a group of it."""
    return tallied == table or tallied.startswith(f"{table} ")


class Reader:
    """What can be read in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.tables = sealed_tables()
        self._meta: list[tuple[Row, str]] | None = None

    def look(self, *, lock: bool = False) -> list[tuple[Row, str]]:
        """Read what there is of `meta`, unchecked; to lock it is to have the turn to write, on servers."""
        select = self.tables[META].select()
        found = self.connection.execute(select.with_for_update() if lock else select)
        self._meta = [(tuple(fields), value) for *fields, value in found]
        return self._meta

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
        return [row for row, _ in self.sealed(name, *where)]

    def sealed(self, name: str, *where: Any) -> list[tuple[Row, str]]:
        """As `rows`, each with its seal."""
        sealed = self._sound(name, *where)
        if not where and name != META and tally(value for _, value in sealed) != self._tally(name):
            raise damaged(f"{name} ({LOST})")
        return sealed

    def group(self, name: str, values: Iterable[str]) -> list[Row]:
        """The rows of these groups of a table, in no order.

        Raises
        ------
        StateError
            If one is damaged or missing.
        """
        values = set(values)
        sealed = self._sound(name, self.tables[name].c[GROUPED[name]].in_(values))
        found = tallies_of(name, sealed)
        if any(found.get(group, NOTHING) != self._tally(group) for group in (f"{name} {value}" for value in values)):
            raise damaged(f"{name} ({LOST})")
        return [row for row, _ in sealed]

    def _sound(self, name: str, *where: Any) -> list[tuple[Row, str]]:
        """Rows and their seals, checked."""
        sealed = list(self.raw(name, *where))
        right = sealed_rows(name, (row for row, _ in sealed))
        for (row, found), (_, value) in zip(sealed, right, strict=True):
            if found != value:
                raise damaged(place(name, row))
        return sealed

    def known_tallies(self) -> dict[str, Tally]:
        """The tallies that tables and groups have to have; none of a group that never had a row."""
        return {name: (int(count), int(mixed, 16)) for name, (count, mixed) in self.meta()["tallies"].items()}

    def _tally(self, name: str) -> Tally:
        return self.known_tallies().get(name, NOTHING)

    def lookup(self, name: str, values: Iterable[Any]) -> list[Row]:
        """The rows whose key begins with one of these values."""
        return [row for row, _ in self.lookup_sealed(name, values)]

    def lookup_sealed(self, name: str, values: Iterable[Any]) -> list[tuple[Row, str]]:
        """As `lookup`, each with its seal."""
        column = self.tables[name].c[TABLES[name][0][0]]
        distinct = list(dict.fromkeys(values))
        # Databases limit how many values a statement may have.
        chunks = [distinct[i : i + 500] for i in range(0, len(distinct), 500)]
        return [found for chunk in chunks for found in self.sealed(name, column.in_(chunk))]

    def meta(self) -> dict[str, Any]:
        """The sealed facts of the ledger as a whole, as they were when the transaction first looked."""
        if self._meta is None:
            self._meta = self.look()
        if len(self._meta) != 1 or seal(META, self._meta[0][0]) != self._meta[0][1]:
            raise damaged(META)
        _, version, epoch, untidy, tallies = self._meta[0][0]
        return {"format": version, "epoch": epoch, "untidy": untidy, "tallies": json.loads(tallies)}


class Writer(Reader):
    """What can be changed in one transaction."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.epoch = 0
        self.untidy = False
        self.tallies: dict[str, Tally] = dict.fromkeys(TABLES, NOTHING)
        self._written: Row = ()

    def start(self) -> None:
        """Read the sealed facts, and count on from them."""
        meta = self.meta()
        self.epoch, self.untidy = meta["epoch"], bool(meta["untidy"])
        self.tallies = self.known_tallies()
        self._written = self._meta_row()

    def _tally(self, name: str) -> Tally:
        return self.tallies.get(name, NOTHING)

    def count(self, name: str) -> int:
        """How many rows a table has."""
        return self.tallies[name][0]

    def add(self, name: str, rows: Sequence[Row]) -> None:
        """Add rows of new keys."""
        if not rows:
            return
        insert = self.tables[name].insert().compile(dialect=self.connection.dialect)
        sealed = list(sealed_rows(name, rows))
        self._count(name, sealed, 1)
        values: list[Any] = [(*row, value) for row, value in sealed]
        if not insert.positional:
            columns = [column.name for column in self.tables[name].columns]
            values = [dict(zip(columns, fields, strict=True)) for fields in values]
        # Straight to the driver: a request for many ids adds as many tombstones; fields are text or numbers.
        self.connection.exec_driver_sql(str(insert), values)

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
        self._count(name, sealed_rows(name, rows), -1)
        self.untidy = self.untidy or name in PERISHABLE

    def put(self, name: str, rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
        """Write rows in place of those of the same keys; give the old and the new ones where they differ."""
        new = {key_of(name, row): row for row in rows}
        known = self.lookup(name, (key[0] for key in new)) if self.count(name) else ()
        old = {key_of(name, row): row for row in known}
        gone = [row for key, row in old.items() if key in new and new[key] != row]
        come = [row for key, row in new.items() if old.get(key) != row]
        self.drop(name, gone)
        self.add(name, come)
        return gone, come

    def rewrite(self, name: str, rows: Sequence[Row]) -> None:
        """Make these the rows of a table, whatever was in it."""
        self.connection.execute(self.tables[name].delete())
        self.recount(name, ())
        self.add(name, rows)

    def recount(self, name: str, rows: Sequence[Row]) -> None:
        """Take these for the rows of a table, whatever was counted before."""
        others = {tallied: known for tallied, known in self.tallies.items() if not _is_of(name, tallied)}
        self.tallies = others | tallies_of(name, sealed_rows(name, rows))

    def _count(self, name: str, sealed: Iterable[tuple[Row, str]], sign: int) -> None:
        """Count rows that have come (1) or gone (-1)."""
        for tallied, (count, mixed) in tallies_of(name, sealed).items():
            known = self._tally(tallied)
            self.tallies[tallied] = known[0] + sign * count, known[1] ^ mixed

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


def is_complete(name: str, sealed: Iterable[tuple[Row, str]], known: Mapping[str, Tally]) -> bool:
    """Whether these sound rows of a table are all that its tallies tell of."""
    there = {tallied: value for tallied, value in known.items() if _is_of(name, tallied) and value != NOTHING}
    found = {tallied: value for tallied, value in tallies_of(name, sealed).items() if value != NOTHING}
    return found == there


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
