"""Memory that goes back to the operating system once it is free."""

from __future__ import annotations

import ctypes
import math
import mmap
from functools import cache
from typing import Any

import numpy as np

from unlearnkit.typing import AnyArray

# Rows: to train fewer takes hardly more time than to get the memory anew.
_WORTH_IT = 10_000
# Bytes.
_OWN_PAGES = 1 << 18


def give_back(n: int) -> None:
    """Give back freed memory that the C library would keep, before a shard of `n` rows is read or trained.

    glibc keeps what was freed, in pieces that fit nothing larger: shard after shard would add to them. Nothing is done
    for few rows, or where the library has no such call. Memory has to be had anew afterwards, which takes a percent or
    two of a step that lasts a tenth of a second: not before every one.

    Examples
    --------
    >>> give_back(1_000_000)
    """
    trim = _trim() if n >= _WORTH_IT else None
    if trim is not None:
        trim(0)


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> AnyArray:
    """An array like numpy's; a large one has pages of its own, and leaves no hole when it is freed.

    Examples
    --------
    >>> empty((2, 3), np.dtype(float)).shape
    (2, 3)
    """
    n = math.prod(shape)
    if n * dtype.itemsize < _OWN_PAGES:
        return np.empty(shape, dtype)
    # Private: a process that is forked must not write into it.
    pages = mmap.mmap(-1, n * dtype.itemsize, access=mmap.ACCESS_COPY)
    return np.frombuffer(pages, dtype, count=n).reshape(shape)


@cache
def _trim() -> Any:
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):
        # Windows has no library without a name.
        return None
