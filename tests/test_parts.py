from __future__ import annotations

import contextlib
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearnkit.errors import StateError
from unlearnkit.parts import pack_array, pack_json, unpack_array, unpack_json

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=10,
)


@given(JSON)
def test_json_comes_back(value):
    assert unpack_json(pack_json(value)) == value


def test_equal_values_have_equal_bytes():
    assert pack_json({"a": 1, "b": 2}) == pack_json({"b": 2, "a": 1})


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3)])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "?", "U3", [("a", "i4"), ("b", "f8")]])
def test_arrays_come_back(shape, dtype):
    array = np.zeros(shape, dtype)
    found = unpack_array(pack_array(array))
    assert found.shape == shape
    assert found.dtype == array.dtype


def test_the_order_in_memory_plays_no_part():
    array = np.arange(6.0).reshape(2, 3)
    assert pack_array(np.asfortranarray(array)) == pack_array(array)


@given(st.binary(max_size=64), st.integers(0, 200))
def test_nonsense_is_a_state_error(noise, cut):
    good = pack_array(np.arange(4.0))
    for data in (noise, good[:cut] + noise if cut < len(good) else noise, b"PK\x03\x04" + noise):
        with contextlib.suppress(StateError):
            unpack_array(data)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04zip", b"{", b"\xff", pickle.dumps(np.zeros(2)), b"[" * 100_000])
def test_bytes_of_another_kind_are_refused(data):
    for unpack in (unpack_array, unpack_json):
        with pytest.raises(StateError, match="model was left as it is"):
            unpack(data)


def test_objects_are_neither_stored_nor_read(tmp_path):
    objects = np.array([{}], dtype=object)
    with pytest.raises(StateError, match="without pickle"):
        pack_array(objects)
    np.save(tmp_path / "objects.npy", objects, allow_pickle=True)
    with pytest.raises(StateError):
        unpack_array((tmp_path / "objects.npy").read_bytes())
