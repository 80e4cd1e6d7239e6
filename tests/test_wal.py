from __future__ import annotations

import sqlite3

import pytest

from unlearnkit.wal import lost_frames


@pytest.fixture
def left(tmp_path):
    """A SQLite file in whose log there was something, and the index of that log before and after a checkpoint."""
    file, index = tmp_path / "a.sqlite", tmp_path / "a.sqlite-shm"
    connection = sqlite3.connect(file)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (1)")
        connection.commit()
        before = index.read_bytes()
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        after = index.read_bytes()
    finally:
        connection.close()
    assert [file.name for file in tmp_path.iterdir()] == ["a.sqlite"]
    return file, index, before, after


def test_an_index_that_was_left_behind_by_a_close_is_no_loss(left):
    file, index, before, after = left
    assert lost_frames(file) == 0
    index.write_bytes(after)
    assert lost_frames(file) == 0
    # Not all of that log had reached the file.
    index.write_bytes(before)
    assert lost_frames(file) > 0


def test_a_log_that_is_broken_is_a_loss_though_all_of_it_had_reached_the_file(left):
    file, index, _, after = left
    index.write_bytes(after)
    # Its older pages would be read in place of those of the file.
    file.with_name("a.sqlite-wal").write_bytes(b"x" * 5000)
    assert lost_frames(file) > 0
