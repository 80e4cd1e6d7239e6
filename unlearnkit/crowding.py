"""Crowding: data whose rows are too alike, or too few, for what forgetting is to do with them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from unlearnkit.data import ShardRecords
from unlearnkit.errors import DataWarning
from unlearnkit.schema import Schema
from unlearnkit.typing import ByteArray, IntArray


def warn_of(shards: Sequence[ShardRecords], schema: Schema, n_cells: int) -> None:
    """Warn of rows that several ids have alike, and of ids or contents too few for the cells.

    Parameters
    ----------
    shards : sequence of ShardRecords
    schema : Schema
    n_cells : int
        Shards times slices.

    Warns
    -----
    DataWarning
    """
    rid = np.concatenate([records.rid for records in shards])
    if schema.explicit_ids:
        content = np.concatenate([records.content for records in shards])
        copies = shared(content, rid)
        if copies:
            warnings.warn(
                f"{copies} rows have an exact copy under another id. Forgetting one of these ids leaves the copy, and "
                "what the model learned from it. If they are of one person, give them one id.",
                DataWarning,
                stacklevel=5,
            )
    n = len(np.unique(_first_word(rid)))
    # Of n ids at random, this many of the cells are expected to get none.
    empty = n_cells * (1 - 1 / n_cells) ** n
    if empty >= 1:
        what = "ids" if schema.explicit_ids else "different rows"
        warnings.warn(
            f"{n} {what} are few for {n_cells} cells (shards x slices): about {empty:.0f} of them stay empty. Choose "
            "fewer shards or slices.",
            DataWarning,
            stacklevel=5,
        )


def shared(content: ByteArray, rid: ByteArray) -> int:
    """How many rows have the content of a row of another id.

    Examples
    --------
    >>> content, rid = np.zeros((3, 32), dtype=np.uint8), np.zeros((3, 16), dtype=np.uint8)
    >>> rid[2] = 1
    >>> shared(content, rid)
    3
    """
    order, starts = _groups(_first_word(content))
    counts = np.diff(np.append(starts, len(content)))
    total = 0
    for start, count in zip(starts[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True):
        # Eight bytes find the candidates fast; all decide.
        rows = order[start : start + count]
        _, group = np.unique(content[rows], axis=0, return_inverse=True)
        for g in np.unique(group):
            mine = rows[group == g]
            total += len(mine) if len(np.unique(rid[mine], axis=0)) > 1 else 0
    return total


def _groups(words: IntArray) -> tuple[IntArray, IntArray]:
    """Rows sorted by their word, and where each group of equal words begins."""
    order = np.argsort(words, kind="stable")
    ordered = words[order]
    first = np.ones(len(words), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return order, np.flatnonzero(first)


def _first_word(hashes: ByteArray) -> IntArray:
    words: IntArray = np.ascontiguousarray(hashes[:, :8]).view(np.int64)[:, 0]
    return words
