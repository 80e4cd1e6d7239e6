"""The suite that every implementation of `Blobs` must pass."""

from __future__ import annotations

import hashlib
import pickle

import pytest

from unlearnkit.blobs import MemoryBlobs, blob_name
from unlearnkit.errors import StateError

IMPLEMENTATIONS = {"memory": MemoryBlobs}


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys())
def blobs(request):
    return request.param()


@pytest.mark.parametrize("data", [b"", b"a", b"\0" * 1000])
def test_what_is_put_comes_back(blobs, data):
    name = blobs.put(data)
    assert name == hashlib.sha256(data).hexdigest() == blob_name(data)
    assert blobs.get(name) == data


def test_putting_again_changes_nothing(blobs):
    assert blobs.put(b"a") == blobs.put(b"a")
    assert list(blobs.names()) == [blob_name(b"a")]


def test_names_are_of_all_blobs_and_stand_still_while_they_change(blobs):
    names = {blobs.put(bytes([i])) for i in range(5)}
    found = set()
    for name in blobs.names():
        found.add(name)
        blobs.delete(name)
    assert found == names
    assert list(blobs.names()) == []


def test_a_deleted_blob_is_gone(blobs):
    name = blobs.put(b"a")
    kept = blobs.put(b"b")
    blobs.delete(name)
    with pytest.raises(StateError, match="no blob"):
        blobs.get(name)
    assert blobs.get(kept) == b"b"


def test_deleting_what_is_not_there_does_nothing(blobs):
    blobs.delete(blob_name(b"never"))


def test_an_unknown_name_is_a_state_error(blobs):
    with pytest.raises(StateError, match="nothing was changed"):
        blobs.get(blob_name(b"never"))


def test_memory_blobs_are_checked_against_their_name():
    blobs = MemoryBlobs()
    name = blobs.put(b"true")
    blobs._data[name] = b"false"
    with pytest.raises(StateError, match="named by"):
        blobs.get(name)


def test_pickled_memory_blobs_are_independent():
    blobs = MemoryBlobs()
    blobs.put(b"a")
    other = pickle.loads(pickle.dumps(blobs))
    other.put(b"b")
    assert list(blobs.names()) == [blob_name(b"a")]
