"""Words: numbers as people read them."""

from __future__ import annotations

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


def size(n: float) -> str:
    """A number of bytes.

    Examples
    --------
    >>> size(7), size(2048), size(3.5e6)
    ('7 bytes', '2.0 KiB', '3.3 MiB')
    """
    for unit in _UNITS[:-1]:
        if n < _STEP:
            return f"{n:.0f} {unit}" if unit == _UNITS[0] else f"{n:.1f} {unit}"
        n /= _STEP
    return f"{n:.1f} {_UNITS[-1]}"


def count(n: int, noun: str) -> str:
    """A number of things.

    Examples
    --------
    >>> count(1, "shard"), count(2000, "shard")
    ('1 shard', '2,000 shards')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
