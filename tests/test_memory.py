"""Memory that goes back to the operating system."""

from __future__ import annotations

import os
import pickle
import platform
from pathlib import Path

import numpy as np
import pytest

from unlearnkit.memory import empty, give_back

MIB = 1 << 20

glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked to give memory back")


def resident() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in status if line.startswith("VmRSS")).split()[1])


def holes(size: int) -> list[np.ndarray]:
    """What is left of arrays of so many bytes, of which every second is freed: no hole is at the end of the heap."""
    # Below the size from which glibc maps an array by itself.
    arrays = [np.ones(64 * 1024, dtype=np.uint8) for _ in range(size // (64 * 1024))]
    return arrays[::2]


@glibc_only
def test_freed_pieces_go_back_only_where_many_rows_come() -> None:
    kept = holes(64 * MIB)
    before = resident()
    give_back(9_999)
    assert resident() > before - 4 * MIB
    give_back(10_000)
    assert resident() < before - 24 * MIB
    assert sum(int(a[0]) for a in kept) == len(kept)


@glibc_only
def test_a_large_array_leaves_no_hole() -> None:
    # Once it has freed an array as large as this, glibc gives no smaller one pages of its own.
    large = np.ones(30 * MIB, dtype=np.uint8)
    del large
    arrays = [empty((MIB,), np.dtype(np.uint8)) for _ in range(64)]
    for array in arrays:
        array[:] = 1
    kept, before = arrays[::2], resident()
    del arrays, array
    assert resident() < before - 24 * MIB
    assert sum(int(a[-1]) for a in kept) == len(kept)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (2, 3), (1 << 16,), (1 << 14, 5)])
@pytest.mark.parametrize("kind", [np.int8, np.float32, np.float64])
def test_empty_is_like_that_of_numpy(shape: tuple[int, ...], kind: type) -> None:
    array, expected = empty(shape, np.dtype(kind)), np.empty(shape, kind)
    assert (array.shape, array.dtype, array.strides) == (expected.shape, expected.dtype, expected.strides)
    assert array.flags.writeable
    assert array.flags.aligned
    array[...] = 7
    copy = pickle.loads(pickle.dumps(array))
    array[...] = 8
    assert (copy == 7).all()
    assert (array == 8).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_what_a_forked_process_writes_stays_there() -> None:
    array = empty((MIB,), np.dtype(np.uint8))
    array[:] = 1
    child = os.fork()
    if child == 0:
        array[:] = 2
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (array == 1).all()
