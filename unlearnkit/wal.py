"""Whether the write-ahead log of a SQLite file has lost something that was committed.

SQLite itself cannot tell: it reads the log up to the first frame whose checksum is wrong, takes that for a write that
was cut off, and goes on with an older state. An acknowledged request would be gone without a word. The index beside
the log (``-shm``), which outlives a process that dies, says how far the log went.

Both formats: https://www.sqlite.org/walformat.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unlearnkit.files import read

if TYPE_CHECKING:
    from unlearnkit.typing import AnyArray

_LOG_HEADER, _FRAME_HEADER, _INDEX_HEADER, _BACKFILLED = 32, 24, 48, 4
_MAGIC = 0x377F0682
_ATTEMPTS = 5
_MASK = 0xFFFFFFFF


def lost_frames(database: Path) -> int:
    """How many frames that were committed to the log of a SQLite file cannot be read from it any more.

    Parameters
    ----------
    database : Path
        The file itself; its log and index are beside it. Others may be using it.
    """
    for _ in range(_ATTEMPTS):
        index = _index(database)
        log = read(database.with_name(database.name + "-wal")) or b""
        if index == _index(database):
            sums = _sums(log)
            if index is None:
                return _behind_a_broken_one(log, len(sums))
            return 0 if index.fits(log, sums) else max(1, index.frames - len(sums))
    # Others are writing all the time: it is in use, so it is whole.
    return 0


@dataclass(frozen=True, slots=True)
class _Index:
    """What the index says about the log: how many frames, how many of them are in the file, salts, last checksum."""

    frames: int
    backfilled: int
    salts: bytes
    last: tuple[int, int]

    def fits(self, log: bytes, sums: list[tuple[int, int]]) -> bool:
        """Whether all of these frames are in the log; what is behind them was never committed."""
        if self.frames == 0:
            return True
        if not log:
            # The last to close takes it away once all is in the file, and may not get as far as the index.
            return self.frames <= self.backfilled
        return log[16:24] == self.salts and self.frames <= len(sums) and sums[self.frames - 1] == self.last


def _index(database: Path) -> _Index | None:
    """What the index says; None if there is none that is whole."""
    data = (read(database.with_name(database.name + "-shm")) or b"")[: 2 * _INDEX_HEADER + _BACKFILLED]
    header, copy = data[:_INDEX_HEADER], data[_INDEX_HEADER : 2 * _INDEX_HEADER]
    if len(data) < 2 * _INDEX_HEADER + _BACKFILLED or header != copy or not header[12]:
        return None
    words = struct.unpack("=12I", header)
    a = b = 0
    for x, y in zip(words[:10:2], words[1:10:2], strict=True):
        a = (a + x + b) & _MASK
        b = (b + y + a) & _MASK
    (backfilled,) = struct.unpack("=I", data[2 * _INDEX_HEADER :])
    return _Index(words[4], backfilled, header[32:40], (words[6], words[7])) if (a, b) == words[10:] else None


def _sums(log: bytes) -> list[tuple[int, int]]:
    """The running checksum after each frame, up to the first whose own is another."""
    if len(log) < _LOG_HEADER:
        return []
    magic, _, size = struct.unpack(">3I", log[:12])
    if magic & ~1 != _MAGIC or not 512 <= size <= 65536:  # noqa: PLR2004 - the sizes of pages
        return []
    # A ledger is used where numpy is not imported, and most have no log when they are opened.
    import numpy as np

    order = ">u4" if magic & 1 else "<u4"
    running = _checksum((0, 0), [np.frombuffer(log[:24], order)])
    if struct.pack(">2I", *running) != log[24:32]:
        return []
    found = []
    for start in range(_LOG_HEADER, len(log) - size - _FRAME_HEADER + 1, size + _FRAME_HEADER):
        frame = log[start : start + _FRAME_HEADER + size]
        covered = (frame[:8], frame[_FRAME_HEADER:])
        running = _checksum(running, [np.frombuffer(part, order) for part in covered])
        if frame[8:16] != log[16:24] or struct.pack(">2I", *running) != frame[16:24]:
            break
        found.append(running)
    return found


def _checksum(start: tuple[int, int], blocks: Iterable[AnyArray]) -> tuple[int, int]:
    """The checksum of SQLite, counted on from another.

    For each pair of words x, y: ``a += x + b; b += y + a``, modulo 2**32. That is linear, so the sum over a block is a
    product with the powers of one matrix, whose entries are Fibonacci numbers.
    """
    import numpy as np

    a, b = start
    for block in blocks:
        pairs = block.astype(np.uint32).reshape(-1, 2)
        odd, even, above = _powers(len(pairs))
        # One pair adds (x, x + y), and every later one maps (a, b) to (a + b, a + 2b).
        x, xy = pairs[:, 0], pairs[:, 0] + pairs[:, 1]
        total_a = int((odd[:-1][::-1] * x).sum(dtype=np.uint32)) + int((even[:-1][::-1] * xy).sum(dtype=np.uint32))
        total_b = int((even[:-1][::-1] * x).sum(dtype=np.uint32)) + int((above[:-1][::-1] * xy).sum(dtype=np.uint32))
        n = len(pairs)
        a, b = (
            (int(odd[n]) * a + int(even[n]) * b + total_a) & _MASK,
            (int(even[n]) * a + int(above[n]) * b + total_b) & _MASK,
        )
    return a, b


def _powers(n: int) -> tuple[AnyArray, AnyArray, AnyArray]:
    """The entries of the powers 0 to n of [[1, 1], [1, 2]]: top left, the two alike, bottom right."""
    import numpy as np

    known = _known.get(n)
    if known is None:
        rows = [(1, 0, 1)]
        for _ in range(n):
            p, q, s = rows[-1]
            rows.append(((p + q) & _MASK, (q + s) & _MASK, (q + 2 * s) & _MASK))
        columns = np.array(rows, dtype=np.uint32).T
        known = _known[n] = (columns[0], columns[1], columns[2])
    return known


_known: dict[int, tuple[AnyArray, AnyArray, AnyArray]] = {}


def _behind_a_broken_one(log: bytes, sound: int) -> int:
    """The frames of this log, not of one that it has overwritten, that are behind a broken one, where one commits.

    Without an index this is all there is to go by.
    """
    if len(log) < _LOG_HEADER:
        return 0
    size = int.from_bytes(log[8:12], "big")
    if not 512 <= size <= 65536:  # noqa: PLR2004
        return 1
    starts = range(_LOG_HEADER + (sound + 1) * (size + _FRAME_HEADER), len(log), size + _FRAME_HEADER)
    behind = [log[s : s + _FRAME_HEADER] for s in starts]
    own = [frame for frame in behind if frame[8:16] == log[16:24]]
    return len(own) if any(frame[4:8] != bytes(4) for frame in own) else 0
