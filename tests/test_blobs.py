"""The suite that every implementation of `Blobs` must pass, and what is particular to each."""

from __future__ import annotations

import copy
import errno
import hashlib
import os
import pickle
import stat
from pathlib import Path

import pytest

from unlearnkit import files
from unlearnkit import folder as module
from unlearnkit.blobs import MemoryBlobs, blob_name, checked
from unlearnkit.errors import StateError, StoreError
from unlearnkit.folder import DirectoryBlobs
from unlearnkit.objects import ObjectBlobs


@pytest.fixture(params=["memory", "directory", "objects"])
def blobs(request, tmp_path):
    if request.param == "objects":
        return ObjectBlobs(request.getfixturevalue("bucket").url)
    return MemoryBlobs() if request.param == "memory" else DirectoryBlobs(tmp_path / "blobs")


@pytest.fixture
def directory(tmp_path):
    return DirectoryBlobs(tmp_path / "blobs")


def put(blobs, data):
    return blobs.put([data])[0]


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def fail_with(code):
    def failing(*arguments, **options):
        raise OSError(code, os.strerror(code))

    return failing


def test_has_tells_without_reading(blobs):
    (name,) = blobs.put([b"a"])
    assert blobs.has(name)
    assert not blobs.has(blob_name(b"b"))
    assert not blobs.has("../" + name)
    blobs.delete([name])
    assert not blobs.has(name)


@pytest.mark.parametrize("data", [b"", b"a", b"\0" * 1000])
def test_what_is_put_comes_back(blobs, data):
    assert blobs.put([data]) == (hashlib.sha256(data).hexdigest(),) == (blob_name(data),)
    assert blobs.get(blob_name(data)) == data


def test_many_are_put_at_once_and_named_in_order(blobs):
    data = [b"b", b"a", b"b", b""]
    assert blobs.put(iter(data)) == tuple(blob_name(item) for item in data)
    assert sorted(blobs.names()) == sorted({blob_name(item) for item in data})
    assert blobs.put([]) == ()


def test_putting_again_changes_nothing(blobs):
    assert put(blobs, b"a") == put(blobs, b"a")
    assert list(blobs.names()) == [blob_name(b"a")]


def test_names_are_of_all_blobs_and_stand_still_while_they_change(blobs):
    names = set(blobs.put([bytes([i]) for i in range(5)]))
    found = set()
    for name in blobs.names():
        found.add(name)
        blobs.delete([name])
    assert found == names
    assert list(blobs.names()) == []


def test_deleted_blobs_are_gone(blobs):
    gone = blobs.put([b"a", b"c"])
    kept = put(blobs, b"b")
    blobs.delete(iter(gone))
    for name in gone:
        with pytest.raises(StateError, match="no blob"):
            blobs.get(name)
    assert blobs.get(kept) == b"b"
    assert list(blobs.names()) == [kept]


def test_deleting_what_is_not_there_does_nothing(blobs):
    name = put(blobs, b"a")
    blobs.delete([blob_name(b"never")])
    blobs.delete([])
    assert list(blobs.names()) == [name]


@pytest.mark.parametrize("name", [blob_name(b"never"), "", "../../etc/passwd", "A" * 64])
def test_an_unknown_name_is_a_state_error(blobs, name):
    with pytest.raises(StateError, match="nothing was changed"):
        blobs.get(name)


def test_bytes_are_checked_against_their_name():
    assert checked(blob_name(b"a"), b"a") == b"a"
    with pytest.raises(StateError, match="named by"):
        checked(blob_name(b"a"), b"b")
    with pytest.raises(StateError, match="no blob"):
        checked(blob_name(b"a"), None)


def test_memory_blobs_are_checked_against_their_name():
    blobs = MemoryBlobs()
    name = put(blobs, b"true")
    blobs._data[name] = b"false"
    with pytest.raises(StateError, match="named by"):
        blobs.get(name)


def test_pickled_memory_blobs_are_independent():
    blobs = MemoryBlobs()
    put(blobs, b"a")
    other = pickle.loads(pickle.dumps(blobs))
    put(other, b"b")
    assert list(blobs.names()) == [blob_name(b"a")]


def test_memory_blobs_are_checked_once(monkeypatch):
    checks = []
    monkeypatch.setattr("unlearnkit.blobs.checked", lambda name, data: checks.append(name) or checked(name, data))
    blobs = MemoryBlobs()
    name = put(blobs, b"a")
    for held in (blobs, copy.copy(blobs), copy.deepcopy(blobs)):
        assert held.get(name) == b"a"
    assert checks == []
    loaded = pickle.loads(pickle.dumps(blobs))
    assert [loaded.get(name), loaded.get(name)] == [b"a"] * 2
    assert checks == [name]
    blobs._data[name] = b"b"
    for _ in range(2):
        with pytest.raises(StateError):
            blobs.get(name)
    blobs.delete([name])
    assert put(blobs, b"a") == name
    assert blobs.get(name) == b"a"


def test_a_pickled_directory_is_its_path(directory):
    name = put(directory, b"rows of a person")
    pickled = pickle.dumps(directory)
    assert b"rows" not in pickled
    assert pickle.loads(pickled).get(name) == b"rows of a person"


def test_a_relative_path_outlives_a_change_of_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blobs = DirectoryBlobs("blobs")
    name = put(blobs, b"a")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert blobs.get(name) == b"a"


def test_a_folder_holds_one_private_file_for_each_blob(directory):
    name = put(directory, b"a")
    assert names_in(directory.path) == [name]
    assert (directory.path / name).read_bytes() == b"a"
    assert stat.S_IMODE((directory.path / name).stat().st_mode) == 0o600


def test_a_directory_is_synced_once_and_last(directory, monkeypatch):
    events = []
    real = {name: getattr(module, name) for name in ("write_new", "sync_folder", "remove")}
    for name in real:
        monkeypatch.setattr(module, name, lambda *a, _name=name, **k: (events.append(_name), real[_name](*a, **k))[1])
    directory.put([b"a", b"b", b"c"])
    assert events == ["write_new"] * 3 + ["sync_folder"]
    events.clear()
    # The names may not be durable yet, if the process that wrote them was killed before it had synced the folder.
    directory.put([b"a", b"b"])
    assert events == ["sync_folder"]
    events.clear()
    directory.delete([blob_name(b"a"), blob_name(b"b"), blob_name(b"never")])
    assert events == ["remove"] * 3 + ["sync_folder"]
    events.clear()
    directory.delete([blob_name(b"a")])
    directory.delete([])
    directory.put([])
    assert events == ["remove"]


@pytest.mark.parametrize("damage", [b"", b"tru", b"true?", b"Xrue"])
def test_a_damaged_blob_is_refused_and_healed_by_putting_it(directory, damage):
    name = put(directory, b"true")
    (directory.path / name).write_bytes(damage)
    with pytest.raises(StateError, match="named by"):
        directory.get(name)
    assert put(directory, b"true") == name
    assert directory.get(name) == b"true"


def test_what_is_no_blob_is_not_listed_and_is_swept(directory):
    name = put(directory, b"a")
    for other in (".tmp-0123", "notes.txt", "f" * 63, "F" * 64):
        (directory.path / other).write_bytes(b"rest of a write")
    (directory.path / ("0" * 64)).symlink_to(directory.path / name)
    (directory.path / "folder").mkdir()
    assert list(directory.names()) == [name]
    assert directory.sweep() == 5
    assert directory.sweep() == 0
    assert sorted(names_in(directory.path)) == sorted([name, "folder"])


def test_no_name_leads_out_of_the_folder(directory, tmp_path):
    (tmp_path / "precious").write_bytes(b"a")
    directory.delete(["../precious"])
    assert (tmp_path / "precious").exists()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_an_unreadable_blob_is_a_store_error(directory, monkeypatch, code):
    name = put(directory, b"a")
    monkeypatch.setattr(Path, "read_bytes", fail_with(code))
    with pytest.raises(StoreError, match=f"Could not read {name[:12]}"):
        directory.get(name)


@pytest.mark.parametrize("operation", ["write", "fsync", "rename"])
def test_a_failed_put_keeps_what_was_there(directory, monkeypatch, operation):
    kept = put(directory, b"a")
    with monkeypatch.context() as patch:
        patch.setattr(os, operation, fail_with(errno.ENOSPC))
        with pytest.raises(StoreError, match="Free some space"):
            put(directory, b"b")
    assert list(directory.names()) == [kept]
    assert [name for name in names_in(directory.path) if name.startswith(files.TEMPORARY)] == []
    assert directory.get(put(directory, b"b")) == b"b"


def test_a_folder_that_cannot_be_made_or_listed_is_a_store_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="Could not make"):
        DirectoryBlobs(tmp_path / "file")
    blobs = DirectoryBlobs(tmp_path / "blobs")
    (tmp_path / "blobs").rmdir()
    with pytest.raises(StoreError, match="Could not list"):
        blobs.names()
