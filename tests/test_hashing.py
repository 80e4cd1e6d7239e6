from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unlearnkit.hashing import chain, hash_items, hash_rows

FIELDS = st.lists(st.binary(max_size=4), max_size=4)


def test_hashes_are_keyed_blake2b():
    found = hash_items([b"a", b"b"], b"key", b"tag", 16)
    expected = [hashlib.blake2b(i, key=b"key", person=b"tag", digest_size=16).digest() for i in (b"a", b"b")]
    assert [row.tobytes() for row in found] == expected


def test_key_and_tag_change_the_hash():
    hashes = {hash_items([b"a"], key, tag, 16).tobytes() for key, tag in ((b"k", b"t"), (b"l", b"t"), (b"k", b"u"))}
    assert len(hashes) == 3


def test_rows_are_hashed_as_items():
    rows = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert (hash_rows(rows, b"k", b"t", 8) == hash_items([r.tobytes() for r in rows], b"k", b"t", 8)).all()


def test_no_rows_and_no_columns():
    assert hash_items([], b"k", b"t", 16).shape == (0, 16)
    assert hash_rows(np.zeros((0, 5), np.uint8), b"k", b"t", 16).shape == (0, 16)
    assert hash_rows(np.zeros((2, 0), np.uint8), b"k", b"t", 16).shape == (2, 16)


@given(FIELDS, FIELDS)
def test_chains_of_different_fields_differ(a, b):
    assert (chain(*a) == chain(*b)) == (a == b)
