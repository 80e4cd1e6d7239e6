"""What is particular to a ledger in a SQL database: no residue, no silent damage, several processes, clear errors."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from copy import copy
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearnkit import database
from unlearnkit.errors import StateError, StoreError
from unlearnkit.ledger import PURGED, RECEIVED, Cell, Change, Checkpoint, Request
from unlearnkit.sealed import seal
from unlearnkit.sql import SqlLedger


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path):
    with closing(SqlLedger(path, create=True)) as ledger:
        yield ledger


def fill(ledger, n=12):
    """Something in every table."""
    ledger.apply(
        Change(
            keys={digest(f"key {i}") for i in range(n)},
            cells=tuple(Cell(0, i, 1, 1, digest(f"cell {i}"), parts=(("X", digest(f"X {i}")),)) for i in range(n)),
            statements=("first", "second"),
            notes={"settings": {"a": 1}, "policy": {}},
        )
    )
    for i in range(0, n, 2):
        parts = (("a", digest(f"part {i}")), ("b", digest("shared")))
        ledger.commit(Checkpoint(digest(f"key {i}"), 0, i, parts, digest("here"), digest(f"key {i - 1}")))
    ledger.submit([Request(items={digest(f"address {i}")[:32]: f"p{i}"}, facts={"n": i}) for i in range(n)])
    purged = Request(1, PURGED, (), frozenset({"p0", "p00"}), {"n": 0})
    ledger.apply(Change(requests=(purged,), tombstones={"p0": 1, "p00": 1}))


def views(ledger):
    found = (ledger.epoch, ledger.checkpoints(), ledger.keys(), ledger.cells(), ledger.references())
    return (*found, ledger.requests(), ledger.tombstones(), ledger.statements(), ledger.notes())


@given(st.lists(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()))
def test_a_seal_is_over_json(fields):
    text = json.dumps(["plan", *fields], default=repr)
    assert seal("plan", fields) == sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("letter", ["x", '"', "\u20ac", "\ud800"])
def test_a_long_text_counts_by_its_digest(letter):
    text = 1000 * letter
    told = sha256(text.encode(errors="surrogatepass")).hexdigest()
    assert seal("plan", ["a", text, 1]) == sha256(f'["plan", "a", {told}, 1]'.encode()).hexdigest()
    assert seal("plan", [text[1:]]) == sha256(json.dumps(["plan", text[1:]]).encode()).hexdigest()
    assert seal("plan", [text]) != seal("plan", [told])


def test_two_that_change_one_plan_in_turn_know_what_the_other_did(path, ledger):
    draw = random.Random(0)
    plan = set()
    with closing(SqlLedger(path)) as other:
        for turn in range(40):
            first, second = draw.sample([ledger, other], 2)
            before, plan = plan, {digest(str(draw.randrange(20))) for _ in range(8)}
            held = {key for key in before if first.checkpoint(key) is not None}
            dropped = first.apply(Change(keys=plan))
            assert {checkpoint.key for checkpoint in dropped} == held - plan
            key = draw.choice(sorted(plan))
            assert draw.choice([first, second]).commit(Checkpoint(key, 0, turn, (), digest("here"), None))
            assert not second.commit(Checkpoint(digest("outside"), 0, 0, (), digest("here"), None))
            assert first.keys() == second.keys() == plan
    assert ledger.check() == []


def test_a_change_that_fails_leaves_the_plan_as_it_was_known(ledger):
    keys = {digest(str(i)) for i in range(3)}
    ledger.apply(Change(keys=keys))
    with pytest.raises(TypeError):
        ledger.apply(Change(keys={digest("x")}, notes={"no": object()}))
    assert ledger.keys() == keys
    ledger.apply(Change(keys=keys | {digest("y")}))
    assert ledger.keys() == keys | {digest("y")}


def digest(text):
    return sha256(text.encode()).hexdigest()


def files_of(path):
    return {name: Path(name).read_bytes() for name in sorted(map(str, path.parent.glob(path.name + "*")))}


def alter(path, statement, *values):
    """Change a row behind the back of the ledger."""
    with closing(sqlite3.connect(path)) as connection:
        changed = connection.execute(statement, values).rowcount
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert changed == 1


# -- residue --------------------------------------------------------------------------------------------------------


def churn(ledger, seed, steps=90):
    """Live a random life, and give the texts that are gone at its end, and some that are not."""
    rng = random.Random(seed)
    plan, cells, waiting, gone = {}, {}, {}, set()
    for step in range(steps):
        for i in range(rng.randint(1, 6)):
            plan[digest(f"{seed} {step} key {i}")] = None
        dropped = rng.sample(list(plan), min(len(plan), rng.randint(0, 6)))
        place = rng.randrange(6), rng.randrange(5)
        texts = [digest(f"{seed} {step} {what}") for what in ("cell", "X", "y")]
        cell = Cell(*place, 1, 1, texts[0], tuple(range(rng.randrange(60))), tuple(zip("Xy", texts[1:], strict=True)))
        gone |= {*dropped, *cells.get(place, ())}.union(*(plan[key] or () for key in dropped))
        cells[place] = texts
        for key in dropped:
            del plan[key]
        ledger.apply(Change(keys=plan.keys(), cells=(cell,)))
        for key in [key for key, parts in plan.items() if parts is None and rng.random() < 0.7]:
            plan[key] = [digest(f"{key} part {i}") for i in range(rng.randrange(12))]
            parts = tuple((f"part{i:02}", blob) for i, blob in enumerate(plan[key]))
            ledger.commit(Checkpoint(key, 0, 0, parts, "here"))
        addresses = [digest(f"{seed} {step} address {i}")[:32] for i in range(rng.randrange(40))]
        (sequence,) = ledger.submit([Request(items=dict.fromkeys(addresses, "p" * 73))])
        waiting[sequence] = addresses
        for done in rng.sample(list(waiting), min(len(waiting), rng.randint(0, 2))):
            gone |= set(waiting.pop(done))
            ledger.apply(Change(requests=(Request(done, PURGED, facts={"n": "f" * rng.randrange(900)}),)))
    kept = set(plan).union(*cells.values(), *waiting.values())
    return gone - kept, kept


def residue(path, texts):
    data = b"".join(files_of(path).values())
    # By halves: the end of a page may go through the middle of a text.
    return {
        text for text in texts if text[: len(text) // 2].encode() in data or text[len(text) // 2 :].encode() in data
    }


@pytest.mark.parametrize("seed", range(8))
def test_nothing_of_a_dropped_row_is_left_in_any_file(path, ledger, seed):
    gone, kept = churn(ledger, seed)
    assert len(gone) > 300
    assert ledger.settle()
    assert len(files_of(path)) == 3
    assert residue(path, gone) == set()
    assert residue(path, kept) == kept
    assert ledger.check() == []
    ledger.close()
    assert residue(path, gone) == set()


def test_the_search_for_residue_finds_what_sqlite_leaves_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "_rewrite", lambda writer, table: None)
    found = set()
    for seed in range(8):
        path = tmp_path / f"{seed}.sqlite"
        with closing(SqlLedger(path, create=True)) as ledger:
            gone, _ = churn(ledger, seed)
            assert residue(path, gone), "in the log, before it is truncated"
            assert ledger.settle()
            found |= residue(path, gone)
        if found:
            return
    pytest.fail("nothing between the rows of pages: rewriting tables would be needless")


def test_a_reader_in_the_way_is_told_and_passes(path, ledger, monkeypatch):
    monkeypatch.setattr(database, "READER_S", 0.1)
    fill(ledger)
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM unlearnkit_plan").fetchall()
        ledger.apply(Change(keys=()))
        assert not ledger.settle()
        assert residue(path, [digest("key 1")])
        reader.execute("COMMIT")
        assert ledger.settle()
        assert not residue(path, [digest("key 1")])


def test_own_readers_do_not_stand_in_the_way(path, ledger):
    fill(ledger)
    with closing(SqlLedger(path)) as other:
        views(other)
        assert ledger.settle()


def test_settling_again_writes_nothing(path, ledger):
    fill(ledger)
    ledger.apply(Change(keys=()))
    assert ledger.settle()
    before = files_of(path)[str(path)]
    assert ledger.settle()
    assert files_of(path)[str(path)] == before


# -- opening --------------------------------------------------------------------------------------------------------


def test_what_was_written_is_there_in_another_process_and_after_a_pickle(path, ledger):
    fill(ledger)
    for other in (
        SqlLedger(str(path)),
        SqlLedger(f"sqlite:///{path}"),
        pickle.loads(pickle.dumps(ledger)),
        copy(ledger),
    ):
        with closing(other):
            assert views(other) == views(ledger)


@pytest.mark.parametrize("create", [False, True])
def test_opening_changes_no_byte(path, create):
    with closing(SqlLedger(path, create=True)) as ledger:
        fill(ledger)
        assert ledger.settle()
    before = files_of(path)
    assert list(before) == [str(path)]
    with closing(SqlLedger(path, create=create)) as ledger:
        assert ledger.keys()
        assert ledger.settle()
        assert ledger.check() == []
    assert files_of(path) == before


def test_only_the_owner_may_read_the_files(path, ledger):
    fill(ledger)
    assert {stat.S_IMODE(Path(name).stat().st_mode) for name in files_of(path)} == {0o600}
    assert len(files_of(path)) == 3


def test_a_missing_ledger_is_not_made_by_opening_it(path):
    with pytest.raises(StoreError, match="There is no ledger"):
        SqlLedger(path)
    assert not files_of(path)


def test_a_ledger_that_has_gone_is_not_made_anew(path, ledger):
    ledger.submit([Request()])
    ledger.close()
    path.unlink()
    with pytest.raises(StoreError, match="could not be used"):
        ledger.submit([Request()])
    assert not files_of(path)


def test_a_ledger_needs_a_file():
    for target in ("sqlite://", "sqlite:///:memory:"):
        with pytest.raises(StoreError, match="needs a file"):
            SqlLedger(target, create=True)


@pytest.mark.parametrize("operation", ["claim", "publish", "sync_folder", "_fill"])
def test_a_ledger_that_was_half_made_is_made_again(path, monkeypatch, operation):
    def cut_off(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(database, operation, cut_off)
        with pytest.raises(KeyboardInterrupt):
            SqlLedger(path, create=True)
    assert [found for found in path.parent.iterdir() if found != path] == []
    assert path.exists() == (operation == "sync_folder")
    with closing(SqlLedger(path, create=True)) as ledger:
        fill(ledger)
        assert ledger.check() == []


def test_an_unknown_format_is_refused(path, ledger, monkeypatch):
    from unlearnkit import sealed

    with monkeypatch.context() as patch:
        patch.setattr(sealed, "FORMAT", 99)
        # However another format seals long texts, and however long the row is that tells of it.
        patch.setattr(sealed, "_LONG", 10)
        ledger.submit([Request()])
    with pytest.raises(StoreError, match="of format 99"):
        SqlLedger(path)


def test_without_sqlalchemy_it_says_what_to_install(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(StoreError, match=r"unlearnkit\[store\]"):
        SqlLedger(path, create=True)


def test_a_ledger_is_used_without_the_libraries_of_models(path):
    code = f"""
import sys
from unlearnkit.ledger import Request
from unlearnkit.sql import SqlLedger
ledger = SqlLedger({str(path)!r}, create=True)
assert ledger.submit([Request()]) == (1,)
assert ledger.settle()
ledger.close()
found = {{"sklearn", "pandas", "scipy", "numpy", "joblib"}} & set(sys.modules)
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# -- damage ---------------------------------------------------------------------------------------------------------

DERIVED = {
    "plan": ["key"],
    "checkpoints": ["key", "shard", "environment", "parent", "parts"],
    "cells": ["slice", "n", "digest", "support", "stale"],
    "parts": ["blob", "holder"],
    "meta": ["epoch", "tallies", "untidy"],
}
KEPT = {
    "requests": ["state", "facts", "pseudonyms"],
    "items": ["items"],
    "pseudonyms": ["pseudonyms"],
    "tombstones": ["pseudonym", "sequence"],
    "statements": ["envelope"],
    "notes": ["name", "value"],
}


def pairs(tables):
    return [(table, column) for table, columns in tables.items() for column in [*columns, "seal"]]


def damage(path, table, column):
    one = f"(SELECT rowid FROM unlearnkit_{table} LIMIT 1)"
    alter(path, f"UPDATE unlearnkit_{table} SET {column} = CAST({column} AS TEXT) || 'x' WHERE rowid = {one}")


@pytest.mark.parametrize(("table", "column"), pairs(DERIVED) + pairs(KEPT))
def test_a_damaged_row_is_told_when_it_is_read(path, ledger, table, column):
    fill(ledger)
    damage(path, table, column)
    with closing(sqlite3.connect(path)) as connection:
        blobs = [blob for (blob,) in connection.execute("SELECT blob FROM unlearnkit_parts")]
    read = (lambda: ledger.unreferenced(blobs)) if table == "parts" else (lambda: views(ledger))
    with pytest.raises(StateError, match=rf"damaged at {table}.*nothing was changed.*fsck"):
        read()
    assert any(finding.startswith(table) for finding in ledger.check())


@pytest.mark.parametrize(("table", "column"), pairs(DERIVED))
def test_what_can_be_derived_again_is_dropped(path, ledger, table, column):
    fill(ledger)
    before = views(ledger)
    damage(path, table, column)
    assert any(finding.startswith(table) for finding in ledger.discard_damaged())
    assert ledger.check() == []
    assert ledger.epoch > before[0]
    assert ledger.requests() == before[5]
    assert views(ledger)[6:] == before[6:]
    lost = {"plan": {"keys": 1}, "checkpoints": {"checkpoints": 1}, "cells": {"cells": 1}}.get(table, {})
    assert len(before[2]) - len(ledger.keys()) == lost.get("keys", 0)
    assert len(before[1]) - len(ledger.checkpoints()) in (lost.get("checkpoints", 0), lost.get("keys", 0))
    assert len(before[3]) - len(ledger.cells()) == lost.get("cells", 0)
    assert ledger.unreferenced(ledger.references()) == set()
    assert ledger.discard_damaged() == []
    assert ledger.submit([Request()]) == (13,)


@pytest.mark.parametrize(("table", "column"), pairs(KEPT))
def test_what_cannot_be_derived_again_is_not_dropped(path, ledger, table, column):
    fill(ledger)
    damage(path, table, column)
    before = files_of(path)[str(path)]
    with pytest.raises(StateError, match=rf"cannot be derived again \({table}.*nothing was changed.*backup"):
        ledger.discard_damaged()
    assert files_of(path)[str(path)] == before


@pytest.mark.parametrize("table", [*DERIVED, *KEPT])
def test_a_missing_row_is_found(path, ledger, table):
    fill(ledger)
    last = f"(SELECT max(rowid) FROM unlearnkit_{table})"
    alter(path, f"DELETE FROM unlearnkit_{table} WHERE rowid = {last}")
    assert any(finding.startswith(table) for finding in ledger.check())
    if table in KEPT:
        with pytest.raises(StateError, match="cannot be derived"):
            ledger.discard_damaged()
    else:
        assert ledger.discard_damaged()
        assert ledger.check() == []


@pytest.mark.parametrize("statement", ["DELETE FROM", "UPDATE"])
def test_who_asks_for_open_requests_is_told_if_one_is_missing(path, ledger, statement):
    fill(ledger)
    if statement == "DELETE FROM":
        alter(path, "DELETE FROM unlearnkit_requests WHERE sequence = 5")
    else:
        # With a seal that fits: as an older row that has come back.
        row = (5, PURGED, "", '{"n":4}')
        alter(
            path, "UPDATE unlearnkit_requests SET state = ?, seal = ? WHERE sequence = 5", PURGED, seal("requests", row)
        )
        with pytest.raises(StateError, match="damaged at requests"):
            ledger.requests(PURGED)
    for states in ([RECEIVED], [PURGED, RECEIVED], []):
        with pytest.raises(StateError, match="damaged at requests"):
            ledger.requests(*states)
    assert any(finding.startswith("requests") for finding in ledger.check())


def test_who_asks_for_open_requests_does_not_look_at_the_others(path, ledger):
    fill(ledger)
    alter(path, "UPDATE unlearnkit_requests SET facts = 'damaged' WHERE sequence = 1")
    assert [request.sequence for request in ledger.requests(RECEIVED)] == list(range(2, 13))
    with pytest.raises(StateError, match="damaged at requests 1"):
        ledger.requests(PURGED)


def test_a_sound_ledger_is_left_alone(path, ledger):
    fill(ledger)
    before = views(ledger)
    assert ledger.check() == []
    assert ledger.discard_damaged() == []
    assert views(ledger) == before
    assert ledger.check() == []


def test_rows_that_contradict_each_other_are_found(path, ledger):
    from unlearnkit.sealed import Writer

    fill(ledger)
    with ledger._database.write() as writer:
        assert isinstance(writer, Writer)
        writer.drop("plan", writer.lookup("plan", [digest("key 0")]))
        writer.add("tombstones", [("p9", 99)])
        writer.add("items", [(98, "address")])
        writer.add("pseudonyms", [(6, "p8")])
        writer.add("statements", [(7, "s")])
        writer.drop("requests", writer.lookup("requests", [5]))
    found = " ".join(ledger.check())
    for text in (
        "1 checkpoints are not in",
        "1 tombstones",
        "2 lists of items",
        "1 lists of pseudonyms",
        "statements are not",
        "requests are not",
    ):
        assert text in found


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_byte_is_told_or_changes_nothing(path, tmp_path, seed):
    with closing(SqlLedger(path, create=True)) as ledger:
        fill(ledger)
        before = views(ledger)
    original = path.read_bytes()
    rng = random.Random(seed)
    told = 0
    for i in range(40):
        flipped = bytearray(original)
        # Half of them among the rows, half anywhere.
        at = rng.randrange(len(original))
        while i % 2 and not any(original[at - 8 : at + 8]):
            at = rng.randrange(len(original))
        flipped[at] ^= 1 << rng.randrange(8)
        copy_ = tmp_path / f"{i}" / "ledger.sqlite"
        copy_.parent.mkdir()
        copy_.write_bytes(flipped)
        try:
            with closing(SqlLedger(copy_)) as ledger:
                findings = ledger.check()
                assert views(ledger) == before or findings, at
                told += bool(findings)
        except (StateError, StoreError):
            told += 1
    assert told >= 5


@pytest.mark.parametrize("seed", range(2))
def test_after_discarding_nothing_kept_has_changed(path, tmp_path, seed):
    with closing(SqlLedger(path, create=True)) as ledger:
        fill(ledger)
        before = views(ledger)
    original = path.read_bytes()
    rng = random.Random(seed)
    for i in range(30):
        flipped = bytearray(original)
        flipped[rng.randrange(len(original))] ^= 1 << rng.randrange(8)
        copy_ = tmp_path / f"{i}" / "ledger.sqlite"
        copy_.parent.mkdir()
        copy_.write_bytes(flipped)
        try:
            with closing(SqlLedger(copy_)) as ledger:
                ledger.discard_damaged()
                assert ledger.check() == []
                assert views(ledger)[5:] == before[5:]
                assert views(ledger)[1].items() <= before[1].items()
        except (StateError, StoreError):
            continue


@pytest.mark.parametrize("damaged", [b"", b"garbage" * 1000, b"SQLite format 3\0"])
def test_a_file_that_is_no_ledger_is_refused_and_left_alone(path, damaged):
    path.write_bytes(damaged)
    for create in (False, True):
        with pytest.raises(StateError, match="damaged"):
            SqlLedger(path, create=create)
    assert path.read_bytes() == damaged


# -- errors ---------------------------------------------------------------------------------------------------------


def test_a_full_disk_loses_and_acknowledges_nothing(path, ledger):
    fill(ledger)
    before = views(ledger)
    with closing(sqlite3.connect(path)) as other:
        pages = other.execute("PRAGMA page_count").fetchone()[0]
    real = database._connect

    def limited(uri):
        connection = real(uri)
        connection.execute(f"PRAGMA max_page_count = {pages + 1}").close()
        return connection

    ledger.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_connect", limited)
        with pytest.raises(StoreError, match=r"is full.*acknowledged before is as it was.*Free some space"):
            ledger.submit([Request(items={f"secret address {i}": "p"}) for i in range(1000)])
        ledger.close()
    assert views(ledger) == before


def test_messages_name_no_address(path, ledger):
    fill(ledger)
    ledger.close()
    alter(path, "INSERT INTO unlearnkit_items VALUES (?, ?, ?)", 13, "x", "y")
    alter(path, "UPDATE unlearnkit_items SET sequence = 999 WHERE sequence = 13")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE unlearnkit_items")
        connection.commit()
    with pytest.raises(StateError) as caught:
        ledger.submit([Request(items={"secret address": "secret pseudonym"})])
    assert "secret" not in f"{caught.value} {caught.value.__cause__} {caught.value.__context__}"


def test_a_password_is_in_no_message():
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError) as caught:
        SqlLedger("postgresql+psycopg://someone:secret@127.0.0.1:1/none?sslpassword=secret")
    assert "secret" not in str(caught.value)
    assert "***" in str(caught.value)


def test_a_lock_that_is_never_given_back_is_told(path, monkeypatch):
    SqlLedger(path, create=True).close()
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    with closing(SqlLedger(path)) as ledger, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"locked.*Another process"):
            ledger.submit([Request()])
        other.execute("COMMIT")
        assert ledger.submit([Request()]) == (1,)


def test_an_error_inside_a_transaction_leaves_nothing_of_it(ledger):
    fill(ledger)
    before = views(ledger)
    with pytest.raises(TypeError):
        ledger.apply(Change(keys={"a"}, notes={"n": object()}))
    assert views(ledger) == before


# -- several processes ----------------------------------------------------------------------------------------------


def submit_many(path, worker):
    with closing(SqlLedger(path)) as ledger:
        return [s for i in range(10) for s in ledger.submit([Request(facts={"worker": worker, "n": i})] * 2)]


def create_and_submit(path, worker):
    with closing(SqlLedger(path, create=True)) as ledger:
        return list(ledger.submit([Request(facts={"worker": worker})]))


@pytest.mark.parametrize(("work", "each"), [(submit_many, 20), (create_and_submit, 1)])
def test_processes_that_submit_at_once_get_numbers_without_a_gap(path, work, each):
    if work is submit_many:
        SqlLedger(path, create=True).close()
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    processes = [context.Process(target=lambda i=i: queue.put((i, work(path, i)))) for i in range(8)]
    for process in processes:
        process.start()
    results = dict(queue.get() for _ in processes)
    for process in processes:
        process.join()
    assert sorted(s for found in results.values() for s in found) == list(range(1, 8 * each + 1))
    with closing(SqlLedger(path)) as ledger:
        assert [r.sequence for r in ledger.requests()] == list(range(1, 8 * each + 1))
        for worker, found in results.items():
            assert found == sorted(found)
            assert {ledger.request(s).facts["worker"] for s in found} == {worker}
        assert ledger.check() == []


def test_a_forked_process_and_its_parent_go_on(path, ledger):
    fill(ledger)
    before = views(ledger)
    with ThreadPoolExecutor(4) as threads:
        # Connections of several threads are open.
        list(threads.map(lambda _: ledger.keys(), range(20)))
        pid = os.fork()
        if not pid:
            try:
                assert views(ledger) == before
                assert ledger.submit([Request()]) == (13,)
                assert ledger.settle()
            except BaseException:  # noqa: BLE001 - a fork must not go on with the tests
                os._exit(1)
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(ledger.requests(RECEIVED)) == 12
    assert ledger.submit([Request()]) == (14,)
    assert ledger.check() == []


def test_a_commit_syncs_the_disk_once(path, ledger):
    if not (strace := subprocess.run(["which", "strace"], capture_output=True, text=True, check=False).stdout.strip()):
        pytest.skip("strace is not installed")
    fill(ledger)
    ledger.close()
    code = f"""
import os
from unlearnkit.ledger import Checkpoint
from unlearnkit.sql import SqlLedger
ledger = SqlLedger({str(path)!r})
ledger.commit(Checkpoint({digest("key 1")!r}, 0, 1, (), "e"))
os.write(2, b"now\\n")
for i in range(5):
    ledger.commit(Checkpoint({digest("key 1")!r}, 0, 1, (), str(i)))
os.write(2, b"then\\n")
os._exit(0)
"""
    command = [strace, "-f", "-e", "trace=fsync,fdatasync,write", sys.executable, "-c", code]
    log = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    between = log[log.index("now") : log.rindex("then")]
    assert between.count("sync(") == 5


def test_requests_differ_only_in_what_was_changed(ledger):
    fill(ledger)
    others = ledger.requests()[1:]
    ledger.apply(Change(requests=(replace(ledger.request(1), facts={"n": "new"}),)))
    assert ledger.requests()[1:] == others
    assert ledger.request(1).facts == {"n": "new"}
