from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearnkit.hashing import chain, hash_items, hash_rows, row_key

FIELDS = st.lists(st.binary(max_size=4), max_size=4)


def test_hashes_are_keyed_blake2b():
    found = hash_items([b"a", b"b"], b"key", b"tag", 16)
    expected = [hashlib.blake2b(i, key=b"key", person=b"tag", digest_size=16).digest() for i in (b"a", b"b")]
    assert [row.tobytes() for row in found] == expected


def test_key_and_tag_change_the_hash():
    hashes = {hash_items([b"a"], key, tag, 16).tobytes() for key, tag in ((b"k", b"t"), (b"l", b"t"), (b"k", b"u"))}
    assert len(hashes) == 3


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 5), (1, 7)])
def test_each_row_is_hashed_by_itself(shape):
    rows = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    assert [h.tobytes() for h in hash_rows(rows)] == [hashlib.sha256(row.tobytes()).digest() for row in rows]


def test_the_key_in_front_of_rows_follows_from_the_secret():
    assert len(row_key(b"one")) == 32
    assert row_key(b"one") != row_key(b"other")


def test_no_rows_and_no_columns():
    assert hash_items([], b"k", b"t", 16).shape == (0, 16)
    assert hash_rows(np.zeros((0, 5), np.uint8)).shape == (0, 32)


@given(FIELDS, FIELDS)
def test_chains_of_different_fields_differ(a, b):
    assert (chain(*a) == chain(*b)) == (a == b)
