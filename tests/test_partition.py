from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearnkit import HashPartition
from unlearnkit.errors import ParameterError, UnknownRecordError
from unlearnkit.ids import encode_as
from unlearnkit.partition import Partition

BOUND = Partition(4, 3, b"a secret of 16 or more bytes")


@given(st.lists(st.integers(), min_size=1, max_size=20), st.integers(0, 19))
def test_a_cell_depends_on_the_id_alone(ids, i):
    items = encode_as(ids, "int")
    alone = BOUND.place([items[i % len(ids)]])
    together = BOUND.place(items)
    for field in ("shard", "slice", "rid", "u"):
        assert (getattr(together, field)[i % len(ids)] == getattr(alone, field)[0]).all()


def test_cells_are_uniform_and_independent():
    place = BOUND.place(encode_as(list(range(24_000)), "int"))
    counts = np.histogram2d(place.shard, place.slice, bins=(4, 3))[0]
    assert (abs(counts - 2000) < 250).all()
    assert abs(np.corrcoef(place.u, place.shard)[0, 1]) < 0.03
    assert abs(np.corrcoef(place.u, place.slice)[0, 1]) < 0.03
    assert abs(place.u.mean() - 0.5) < 0.01
    assert place.u.min() >= 0
    assert place.u.max() < 1
    assert len(np.unique(place.rid, axis=0)) == 24_000


def test_the_secret_decides():
    items = encode_as(list(range(50)), "int")
    other = Partition(4, 3, b"another secret of 16 bytes")
    assert (BOUND.place(items).shard != other.place(items).shard).any()


def test_no_ids():
    assert BOUND.place([]).rid.shape == (0, 16)


def test_a_fixed_random_state_is_reproducible_and_none_is_not():
    first, second = HashPartition().bind(2, 2, 7), HashPartition().bind(2, 2, 7)
    assert first.secret == second.secret != HashPartition().bind(2, 2, 8).secret
    assert HashPartition().bind(2, 2, None).secret != HashPartition().bind(2, 2, None).secret


@pytest.mark.parametrize("secret", [b"short", b"x" * 65, "x" * 20, bytearray(20)])
def test_a_secret_that_is_none(secret):
    with pytest.raises(ParameterError, match="16 to 64 bytes"):
        HashPartition(secret).bind(2, 2, 0)


def test_the_secret_is_not_shown():
    assert "secret" not in repr(BOUND)
    assert "secret" not in repr(HashPartition(b"a secret of 16 or more bytes"))


def test_locate_tells_the_cell_and_refuses_other_types(helpers):
    X, y, ids = helpers.rows()
    model = helpers.build().fit(X, y, ids=ids)
    shard, r = model.partition.locate(str(ids[0]))[0]
    receipt = model.forget(ids[0])
    assert receipt.shards == {shard: r}
    with pytest.raises(UnknownRecordError):
        model.partition.locate(["x"])


def test_locate_is_silent_where_content_places_a_record(helpers):
    X, y, _ = helpers.rows()
    with pytest.raises(UnknownRecordError, match="content"):
        helpers.build().fit(X, y).partition.locate(3)
