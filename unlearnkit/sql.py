"""A ledger in a SQL database: a SQLite file, or PostgreSQL by its URL."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import Any

from unlearnkit.database import Database
from unlearnkit.errors import StateError
from unlearnkit.ledger import Cell, Change, Checkpoint, Request
from unlearnkit.sealed import (
    LOST,
    META,
    TABLES,
    Reader,
    Row,
    Writer,
    damaged,
    is_complete,
    place,
    seal,
    sealed_rows,
    tally,
)
from unlearnkit.urls import without_secrets

# What can be made again from the records. `parts` follows from the two before it.
_DERIVED = ("plan", "checkpoints", "cells", "parts")


@dataclass(frozen=True, slots=True)
class Remains:
    """What is left of the plan, the checkpoints and the cells of a damaged ledger.

    Attributes
    ----------
    keys : frozenset of str
    checkpoints : tuple of Checkpoint
    cells : tuple of Cell
    plan : tuple of (int, int) or None
        The tally of all keys that there were; None if that is damaged too.
    """

    keys: frozenset[str]
    checkpoints: tuple[Checkpoint, ...]
    cells: tuple[Cell, ...]
    plan: tuple[int, int] | None

    def agree(self, keys: Collection[str]) -> bool:
        """Whether these can be all the keys of the plan that there was."""
        if self.plan is None:
            # Some of them must be left, or nothing would speak for it.
            return bool(self.keys) and self.keys <= set(keys)
        return tally(seal("plan", (key,)) for key in keys) == self.plan


class SqlLedger:
    """A ledger that outlives the process, safe for threads and for several processes.

    Parameters
    ----------
    target : str or Path
        The path of a SQLite file, or the URL of a database such as ``postgresql+psycopg://host/churn``.
    create : bool
        Make the file or the tables if they are not there.

    Raises
    ------
    StoreError
        If there is none, it cannot be read, or it is of a format of another version.
    StateError
        If it is damaged.

    Notes
    -----
    SQLite runs in WAL mode with ``synchronous=FULL`` and ``secure_delete=ON``: what a method has written is on the
    disk when it returns, and `settle` leaves nothing of a dropped row in the files. PostgreSQL keeps dropped rows until
    they are vacuumed, and in its own log: `settle` has no say in that.

    A pickle names the database without its password: see `unlearnkit.urls`.
    """

    def __init__(self, target: str | os.PathLike[str], *, create: bool = False) -> None:
        self._database = Database(target, create=create)
        # The keys of the plan as they were at an epoch: where the plan is long, reading it is most of a request.
        self._plan: tuple[int, frozenset[str]] | None = None

    def __reduce__(self) -> tuple[type[SqlLedger], tuple[str]]:
        return SqlLedger, (without_secrets(self._database.target),)

    def close(self) -> None:
        """Let go of the database; the next use takes it up again."""
        self._database.close()

    @property
    def epoch(self) -> int:
        """The number of changes of plan, checkpoints and cells so far."""
        with self._database.read() as reader:
            return int(reader.meta()["epoch"])

    def submit(self, requests: Sequence[Request]) -> tuple[int, ...]:
        """Record new requests, durably when this returns, and give their sequences."""
        with self._database.write() as writer:
            return _submit(writer, requests)

    def apply(self, change: Change) -> tuple[Checkpoint, ...]:
        """Write a change, all of it or nothing, and give the checkpoints that it dropped."""
        with self._database.write() as writer:
            before, keys = writer.epoch, None if change.keys is None else frozenset(change.keys)
            _write_requests(writer, change.requests)
            _submit(writer, change.submitted)
            _put_holders(writer, "cells", [_cell_row(cell) for cell in change.cells])
            first = writer.count("statements")
            writer.add("statements", [(first + i, envelope) for i, envelope in enumerate(change.statements)])
            writer.put("notes", [(name, _dump(value)) for name, value in change.notes.items()])
            # In the order of their key: many at once would otherwise touch the pages of the table again and again.
            writer.put("tombstones", sorted(change.tombstones.items()))
            writer.drop("tombstones", writer.lookup("tombstones", change.lifted))
            writer.epoch += change.keys is not None or bool(change.cells) or bool(change.dropped)
            dropped: tuple[Checkpoint, ...] = ()
            if keys is not None or change.dropped:
                dropped = _drop(writer, change.dropped)
                if keys is not None:
                    dropped += _replan(writer, self._planned(writer, before), keys)
                _put_holders(writer, "checkpoints", [_checkpoint_row(checkpoint) for checkpoint in change.checkpoints])
        self._follow(before, writer.epoch, keys)
        return dropped

    def commit(self, checkpoint: Checkpoint) -> bool:
        """Record a checkpoint if its key is in the plan; say whether it is."""
        with self._database.write() as writer:
            if not writer.lookup("plan", [checkpoint.key]):
                return False
            _put_holders(writer, "checkpoints", [_checkpoint_row(checkpoint)])
            before = writer.epoch
            writer.epoch += 1
        self._follow(before, writer.epoch)
        return True

    def checkpoint(self, key: str) -> Checkpoint | None:
        """The checkpoint of this key."""
        with self._database.read() as reader:
            rows = reader.lookup("checkpoints", [key])
        return _checkpoint(rows[0]) if rows else None

    def checkpoints(self) -> dict[str, Checkpoint]:
        """All checkpoints by their keys."""
        with self._database.read() as reader:
            return {row[0]: _checkpoint(row) for row in reader.rows("checkpoints")}

    def keys(self) -> frozenset[str]:
        """The keys of the plan."""
        with self._database.read() as reader:
            epoch, keys = int(reader.meta()["epoch"]), frozenset(key for (key,) in reader.rows("plan"))
        self._plan = (epoch, keys)
        return keys

    def _planned(self, reader: Reader, epoch: int) -> frozenset[str]:
        """The keys of the plan, read again only if they may have changed."""
        known = self._plan
        return known[1] if known is not None and known[0] == epoch else frozenset(k for (k,) in reader.rows("plan"))

    def _follow(self, before: int, epoch: int, keys: frozenset[str] | None = None) -> None:
        """Go on from the keys that are known, once a transaction that began at `before` is over."""
        if keys is not None:
            self._plan = (epoch, keys)
        elif self._plan is not None and self._plan[0] == before:
            self._plan = (epoch, self._plan[1])

    def cells(self) -> tuple[Cell, ...]:
        """What is stored of the data, by shard and slice."""
        with self._database.read() as reader:
            return tuple(_cell(row) for row in sorted(reader.rows("cells")))

    def references(self) -> set[str]:
        """The names of all blobs that a checkpoint or a cell refers to."""
        with self._database.read() as reader:
            # Not from `parts`: what is missing there would look like an orphan here.
            return {blob for name in ("checkpoints", "cells") for blob, _ in _parts_of(name, reader.rows(name))}

    def unreferenced(self, names: Iterable[str]) -> set[str]:
        """Those of these blobs that no checkpoint and no cell refers to."""
        asked = set(names)
        with self._database.read() as reader:
            return asked - {blob for blob, _ in reader.lookup("parts", asked)}

    def requests(self, *states: str) -> tuple[Request, ...]:
        """The requests in these states (none given: all), oldest first."""
        with self._database.read() as reader:
            rows = reader.group("requests", states) if states else reader.rows("requests")
            items: dict[int, str] = dict(reader.rows("items"))
            named = _pseudonyms(reader, rows) if states else _named(rows, reader.sealed("pseudonyms"))
        return tuple(_request(row, items, named) for row in sorted(rows))

    def request(self, sequence: int) -> Request:
        """The request of this sequence."""
        with self._database.read() as reader:
            rows = reader.lookup("requests", [sequence])
            items: dict[int, str] = dict(reader.lookup("items", [sequence]))
            named = _pseudonyms(reader, rows)
        if not rows:
            raise LookupError(f"There is no request {sequence}.")
        return _request(rows[0], items, named)

    def forgotten(self, pseudonyms: Iterable[str]) -> set[str]:
        """Those of these pseudonyms that are tombstones."""
        with self._database.read() as reader:
            return {pseudonym for pseudonym, _ in reader.lookup("tombstones", pseudonyms)}

    def tombstones(self) -> dict[str, int]:
        """Each tombstone, and the sequence of the request that it is from."""
        with self._database.read() as reader:
            return dict(reader.rows("tombstones"))

    def statements(self, start: int = 0) -> tuple[str, ...]:
        """The signed statements from this place on, oldest first."""
        with self._database.read() as reader:
            rows = reader.rows("statements", reader.tables["statements"].c.number >= start)
        return tuple(envelope for _, envelope in sorted(rows))

    def notes(self) -> dict[str, Any]:
        """All notes by their names."""
        with self._database.read() as reader:
            return {name: json.loads(value) for name, value in reader.rows("notes")}

    def note(self, name: str, default: Any = None) -> Any:
        """The note of this name."""
        with self._database.read() as reader:
            # Where there is none, all are looked at: whether one is missing shows only then.
            rows = reader.lookup("notes", [name]) or [row for row in reader.rows("notes") if row[0] == name]
        return json.loads(rows[0][1]) if rows else default

    def settle(self) -> bool:
        """Destroy what dropped rows have left behind in files of the ledger; False if a reader stands in the way."""
        return self._database.settle()

    @property
    def settled(self) -> str:
        """What is left of dropped rows once `settle` has done it, in words for a receipt."""
        if self._database.file:
            return "The log of the ledger was truncated."
        return (
            "What the ledger dropped stays in the files of its database server until that vacuums them and recycles "
            "its log."
        )

    def check(self) -> list[str]:
        """What is wrong with the ledger, in words; empty if nothing is."""
        findings = []
        for step in (self._database.integrity, self._check_rows):
            try:
                findings += step()
            except StateError as error:
                findings.append(str(error))
        return findings

    def _check_rows(self) -> list[str]:
        with self._database.read() as reader:
            sound, findings = self._sort_out(reader)
        return findings + _contradictions(sound)

    def discard_damaged(self, due: Mapping[str, Any] | None = None) -> list[str]:
        """Drop the rows that are damaged, of the tables that can be derived again, and say which they were.

        Parameters
        ----------
        due : mapping of str to JSON value or None
            Notes to write in the same transaction if checkpoints are among what is lost.

        Raises
        ------
        StateError
            If a request, a list of items or pseudonyms, a tombstone, a statement or a note is damaged or missing: no
            data brings those back.
        """
        structure = self._database.integrity()
        with self._database.write(trusting=False) as writer:
            sound, findings = self._sort_out(writer)
            lost = [finding for finding in findings if not finding.startswith((*_DERIVED, META))]
            lost = lost or _contradictions({**sound, "checkpoints": []})
            if lost:
                raise StateError(
                    f"The ledger has lost what cannot be derived again ({'; '.join(lost)}); nothing was changed. "
                    "Restore the ledger from a backup."
                )
            keys = {key for (key,) in sound["plan"]}
            outside = [row for row in sound["checkpoints"] if row[0] not in keys]
            findings += [f"{place('checkpoints', row)} (not in the plan)" for row in outside]
            if findings or structure:
                self._keep(writer, sound | {"checkpoints": [row for row in sound["checkpoints"] if row[0] in keys]})
                if due and any(finding.startswith("checkpoints") for finding in findings):
                    writer.put("notes", [(name, _dump(value)) for name, value in due.items()])
            else:
                writer.start()
        return structure + findings

    def remains(self) -> Remains:
        """What is sound of the rows that can be derived again."""
        with self._database.read() as reader:
            sound, _ = self._sort_out(reader)
            try:
                known = reader.known_tallies()["plan"]
            except StateError:
                known = None
        return Remains(
            frozenset(key for (key,) in sound["plan"]),
            tuple(map(_checkpoint, sound["checkpoints"])),
            tuple(map(_cell, sound["cells"])),
            known,
        )

    def _keep(self, writer: Writer, sound: dict[str, list[Row]]) -> None:
        """Make these all the rows that there are."""
        parts = _parts_of("checkpoints", sound["checkpoints"]) | _parts_of("cells", sound["cells"])
        for name, rows in (sound | {"parts": sorted(parts)}).items():
            if name in _DERIVED:
                writer.rewrite(name, rows)
            else:
                writer.recount(name, rows)
        # A number that no reader holds yet, whatever the last one was.
        writer.epoch = max(int(time.time()), _epoch(writer) + 1)
        writer.untidy = True
        self._database.renew_indexes(writer)

    def _sort_out(self, reader: Reader) -> tuple[dict[str, list[Row]], list[str]]:
        """The sound rows of each table but `meta`, and what is wrong with the others."""
        sound: dict[str, list[Row]] = {}
        findings = []
        try:
            known = reader.known_tallies()
        except StateError:
            known = None
            findings.append(META)
        for name in TABLES:
            if name == META:
                continue
            try:
                with self._database.translated():
                    rows = list(reader.raw(name))
            except StateError:
                rows = []
                findings.append(f"{name} (cannot be read)")
            checked = list(zip(rows, sealed_rows(name, [row for row, _ in rows]), strict=True))
            whole = [(row, found) for (row, found), (_, right) in checked if found == right]
            broken = [place(name, row) for (row, found), (_, right) in checked if found != right]
            if not broken and known is not None and not is_complete(name, whole, known):
                broken.append(f"{name} ({LOST})")
            sound[name] = [row for row, _ in whole]
            findings += broken
        return sound, findings


def _submit(writer: Writer, requests: Sequence[Request]) -> tuple[int, ...]:
    # Counted, not looked up: the count is sealed, and requests are never dropped.
    first = writer.count("requests") + 1
    numbered = [replace(request, sequence=first + i) for i, request in enumerate(requests)]
    _write_requests(writer, numbered)
    return tuple(request.sequence for request in numbered)


def _write_requests(writer: Writer, requests: Iterable[Request]) -> None:
    # Of several versions of one the last counts.
    requests = {r.sequence: r for r in requests}.values()
    sealed = {r.sequence: _sealed_names(r.sequence, r.pseudonyms) for r in requests}
    gone, come = writer.put(
        "requests", [(r.sequence, r.state, sealed[r.sequence][1], _dump(r.facts)) for r in requests]
    )
    before = {row[0]: row[2] for row in gone}
    renamed = [row[0] for row in come if row[2] != before.get(row[0], "")]
    writer.drop("pseudonyms", writer.lookup("pseudonyms", [sequence for sequence in renamed if before.get(sequence)]))
    writer.add("pseudonyms", [(sequence, sealed[sequence][0]) for sequence in renamed if sealed[sequence][1]])
    writer.drop("items", writer.lookup("items", [r.sequence for r in requests if not r.items]))
    writer.put("items", [(r.sequence, _lines(chain(*r.items.items()))) for r in requests if r.items])


def _pseudonyms(reader: Reader, requests: Sequence[Row]) -> dict[int, frozenset[str]]:
    """The pseudonyms of these rows of `requests`, by their sequence."""
    return _named(requests, reader.lookup_sealed("pseudonyms", [row[0] for row in requests if row[2]]))


def _named(requests: Iterable[Row], sealed: Iterable[tuple[Row, str]]) -> dict[int, frozenset[str]]:
    """The same, from the sealed rows of `pseudonyms`.

    Raises
    ------
    StateError
        If one is missing, or is not that of its request.
    """
    found = {row[0]: (row[1], value) for row, value in sealed}
    for row in requests:
        if row[2] != found.get(row[0], ("", ""))[1]:
            raise damaged(place("pseudonyms", row))
    return {sequence: _names(lines) for sequence, (lines, _) in found.items()}


def _put_holders(writer: Writer, name: str, rows: Iterable[Row]) -> None:
    """Write checkpoints or cells, and what blobs they refer to."""
    gone, come = writer.put(name, rows)
    old, new = _parts_of(name, gone), _parts_of(name, come)
    writer.drop("parts", sorted(old - new))
    writer.add("parts", sorted(new - old))


def _replan(writer: Writer, known: frozenset[str], keys: frozenset[str]) -> tuple[Checkpoint, ...]:
    outside = sorted(known - keys)
    # No checkpoint is outside the plan.
    writer.drop("plan", [(key,) for key in outside])
    writer.add("plan", [(key,) for key in sorted(keys - known)])
    return _drop(writer, outside)


def _drop(writer: Writer, keys: Iterable[str]) -> tuple[Checkpoint, ...]:
    dropped = writer.lookup("checkpoints", keys)
    writer.drop("checkpoints", dropped)
    writer.drop("parts", sorted(_parts_of("checkpoints", dropped)))
    return tuple(_checkpoint(row) for row in dropped)


def _contradictions(sound: dict[str, list[Row]]) -> list[str]:
    """What the rows say against each other."""
    sequences = {row[0] for row in sound["requests"]}
    keys = {key for (key,) in sound["plan"]}
    counts = {
        "requests are not numbered from 1 without a gap": len(sequences ^ set(range(1, len(sequences) + 1))),
        "statements are not numbered without a gap": len(
            {row[0] for row in sound["statements"]} ^ set(range(len(sound["statements"])))
        ),
        "tombstones are of no request": sum(row[1] not in sequences for row in sound["tombstones"]),
        "lists of items are of no request": sum(row[0] not in sequences for row in sound["items"]),
        "lists of pseudonyms are not those of their request": len(
            {(row[0], row[2]) for row in sound["requests"] if row[2]}
            ^ {(row[0], seal("pseudonyms", row)) for row in sound["pseudonyms"]}
        ),
        "checkpoints are not in the plan": sum(row[0] not in keys for row in sound["checkpoints"]),
    }
    return [f"{count} {text}" for text, count in counts.items() if count]


def _epoch(reader: Reader) -> int:
    try:
        return int(reader.meta()["epoch"])
    except StateError:
        return 0


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _lines(values: Iterable[str]) -> str:
    """Values without line breaks in them, one a line: of many it is read and written in no time."""
    return "\n".join(values)


# A request for many ids is read and written at each of its states, and its pseudonyms stay.
@lru_cache(maxsize=4)
def _sealed_names(sequence: int, pseudonyms: frozenset[str]) -> tuple[str, str]:
    """The pseudonyms of a request as they are written, and the seal of their row; nothing of none."""
    lines = _lines(sorted(pseudonyms))
    return lines, seal("pseudonyms", (sequence, lines)) if pseudonyms else ""


@lru_cache(maxsize=4)
def _names(lines: str) -> frozenset[str]:
    return frozenset(lines.split("\n"))


def _pairs(text: str) -> tuple[tuple[Any, Any], ...]:
    return tuple((first, second) for first, second in json.loads(text))


def _parts_of(name: str, rows: Iterable[Row]) -> set[Row]:
    """The rows of `parts` for these checkpoints or cells."""
    if name == "checkpoints":
        return {(blob, row[0]) for row in rows for _, blob in json.loads(row[5])}
    return {(blob, f"{row[0]}/{row[1]}") for row in rows for _, blob in json.loads(row[6])}


def _checkpoint_row(checkpoint: Checkpoint) -> Row:
    c = checkpoint
    return c.key, c.shard, c.slice, c.environment, c.parent, _dump(c.parts)


def _checkpoint(row: Row) -> Checkpoint:
    key, shard, slice_, environment, parent, parts = row
    return Checkpoint(key, shard, slice_, _pairs(parts), environment, parent)


def _cell_row(cell: Cell) -> Row:
    c = cell
    described = (c.n, c.n_records, c.digest, _dump(c.classes), _dump(c.parts), _dump(c.support), int(c.stale))
    return c.shard, c.slice, *described


def _cell(row: Row) -> Cell:
    shard, slice_, n, n_records, digest, classes, parts, support, stale = row
    supported = tuple((column, tuple(codes)) for column, codes in json.loads(support))
    known = tuple(json.loads(classes))
    return Cell(shard, slice_, n, n_records, digest, known, _pairs(parts), supported, stale=bool(stale))


def _request(row: Row, items: dict[int, str], named: dict[int, frozenset[str]]) -> Request:
    sequence, state, _, facts = row
    asked = iter(items[sequence].split("\n") if sequence in items else ())
    return Request(
        sequence, state, dict(zip(asked, asked, strict=True)), named.get(sequence, frozenset()), json.loads(facts)
    )
