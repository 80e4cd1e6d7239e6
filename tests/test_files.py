"""Files of a store: whole or not at all, and clear errors."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from unlearnkit import files
from unlearnkit.errors import StoreError


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def fail(monkeypatch, owner, name, code):
    def failing(*arguments, **options):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(owner, name, failing)


def record(monkeypatch, events, *names):
    for name in names:
        real = getattr(os, name)

        def call(*arguments, _real=real, _name=name, **options):
            events.append(_name)
            return _real(*arguments, **options)

        monkeypatch.setattr(os, name, call)


def test_what_is_written_is_read(tmp_path):
    for data in (b"", b"a", os.urandom(300_000)):
        files.write_new(tmp_path / "file", data)
        assert files.read(tmp_path / "file") == data
    assert names_in(tmp_path) == ["file"]
    assert files.read(tmp_path / "none") is None


def test_a_file_that_is_written_in_pieces_is_whole(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data[:7])))
    files.write_new(tmp_path / "file", b"more than seven bytes")
    assert files.read(tmp_path / "file") == b"more than seven bytes"


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_has_its_mode_from_the_start(tmp_path, monkeypatch, mode):
    modes = []
    real = os.write

    def write(descriptor, data):
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    files.write_new(tmp_path / "file", b"secret", mode)
    assert modes == [mode]
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_content_is_durable_before_the_name_is_taken(tmp_path, monkeypatch):
    events = []
    record(monkeypatch, events, "write", "fsync", "rename")
    files.write_new(tmp_path / "file", b"a")
    assert events == ["write", "fsync", "rename"]


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EIO, "Check the disk"),
        (errno.EACCES, "access"),
        (errno.EROFS, "reading only"),
    ],
)
@pytest.mark.parametrize("operation", ["open", "write", "fsync", "close", "rename"])
def test_an_error_leaves_the_old_file_and_says_what_to_do(tmp_path, monkeypatch, operation, code, advice):
    files.write_new(tmp_path / "file", b"old")
    real_close = os.close

    def close(descriptor):
        real_close(descriptor)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        if operation == "close":
            patch.setattr(os, "close", close)
        else:
            fail(patch, os, operation, code)
        with pytest.raises(StoreError, match=advice) as caught:
            files.write_new(tmp_path / "file", b"content that no message repeats")
    assert "Could not write file in" in str(caught.value)
    assert "What was acknowledged before is as it was" in str(caught.value)
    assert "repeats" not in str(caught.value)
    assert files.read(tmp_path / "file") == b"old"
    assert names_in(tmp_path) == ["file"]


def test_an_error_that_cannot_be_cleaned_up_is_still_the_first_one(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        fail(patch, os, "fsync", errno.ENOSPC)
        fail(patch, os, "unlink", errno.EIO)
        with pytest.raises(StoreError, match="Free some space"):
            files.write_new(tmp_path / "file", b"a")
    assert [name[:5] for name in names_in(tmp_path)] == [files.TEMPORARY]
    assert files.sweep_temporary(tmp_path) == 1


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_new(tmp_path / "file", b"a")
    assert names_in(tmp_path) == []


def test_long_names_are_cut_short_in_messages(tmp_path):
    with pytest.raises(StoreError) as caught:
        files.write_new(tmp_path / "none" / ("ab" * 32), b"")
    assert "ab" * 6 + "..." in str(caught.value)
    assert "ab" * 7 not in str(caught.value)


def test_removing_says_whether_there_was_something(tmp_path):
    files.write_new(tmp_path / "file", b"a")
    assert files.remove(tmp_path / "file")
    assert not files.remove(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="Could not remove folder"):
        files.remove(tmp_path / "folder")


def test_a_name_is_claimed_once(tmp_path):
    assert files.claim(tmp_path / "file", 0o600)
    (tmp_path / "file").write_bytes(b"mine")
    assert not files.claim(tmp_path / "file", 0o600)
    assert files.read(tmp_path / "file") == b"mine"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    with pytest.raises(StoreError, match="Could not make"):
        files.claim(tmp_path / "none" / "file", 0o600)


def test_a_folder_is_made_durably_and_once(tmp_path, monkeypatch):
    synced = []
    real = files.sync_folder
    monkeypatch.setattr(files, "sync_folder", lambda path: (synced.append(path), real(path)))
    files.make_folder(tmp_path / "a" / "b", mode=0o700)
    assert synced == [tmp_path, tmp_path / "a"]
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    files.make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2
    files.write_new(tmp_path / "file", b"")
    with pytest.raises(StoreError, match="Something else has that name"):
        files.make_folder(tmp_path / "file")


def test_only_temporary_files_are_swept(tmp_path):
    for name in ("kept", ".tmp-1", ".tmp-2"):
        (tmp_path / name).write_bytes(b"")
    assert files.sweep_temporary(tmp_path) == 2
    assert files.sweep_temporary(tmp_path) == 0
    assert names_in(tmp_path) == ["kept"]


def test_errors_of_folders_are_store_errors(tmp_path, monkeypatch):
    with pytest.raises(StoreError, match="Could not sync"):
        files.sync_folder(tmp_path / "none")
    with pytest.raises(StoreError, match="Could not list"):
        files.sweep_temporary(tmp_path / "none")
    with pytest.raises(StoreError, match="Could not read"):
        files.read(tmp_path)
    fail(monkeypatch, os, "fsync", errno.EIO)
    with pytest.raises(StoreError, match="Could not sync"):
        files.sync_folder(tmp_path)
