"""Crowding: data whose rows are too alike, or too few, for what forgetting is to do with them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import numpy as np

from unlearnkit.data import ShardRecords
from unlearnkit.errors import DataWarning
from unlearnkit.schema import Schema
from unlearnkit.typing import ByteArray, IntArray


class Census:
    """Counts the records of a model, shard by shard.

    Parameters
    ----------
    schema : Schema
    n_cells : int
        Shards times slices.
    """

    def __init__(self, schema: Schema, n_cells: int) -> None:
        self._explicit = schema.explicit_ids
        self._n_cells = n_cells
        self._n_ids = 0
        # Eight bytes of each find the candidates; thirty-two would take a third as much memory as the records.
        self._contents: list[IntArray] = []

    def count(self, records: ShardRecords) -> None:
        """Take in the records of one more shard."""
        # The records of an id are all of one shard.
        self._n_ids += _n_different(_first_word(records.rid))
        if self._explicit:
            self._contents.append(_first_word(records.content).copy())

    def warn(self, again: Iterable[ShardRecords], stacklevel: int) -> None:
        """Warn of rows that several ids have alike, and of ids or contents too few for the cells.

        Parameters
        ----------
        again : iterable of ShardRecords
            The shards once more; their features are not looked at, and none of them is if no two rows are alike.
        stacklevel : int
            As for `warnings.warn`, seen from the caller.

        Warns
        -----
        DataWarning
        """
        alike = repeated(self._contents)
        copies = shared(*_candidates(again, alike)) if len(alike) else 0
        if copies:
            warnings.warn(
                f"{copies} rows have an exact copy under another id. Forgetting one of these ids leaves the copy, and "
                "what the model learned from it. If they are of one person, give them one id.",
                DataWarning,
                stacklevel=stacklevel + 1,
            )
        # Of n ids at random, this many of the cells are expected to get none.
        empty = self._n_cells * (1 - 1 / self._n_cells) ** self._n_ids
        if empty >= 1:
            what = "ids" if self._explicit else "different rows"
            warnings.warn(
                f"{self._n_ids} {what} are few for {self._n_cells} cells (shards x slices): about {empty:.0f} of them "
                "stay empty. Choose fewer shards or slices.",
                DataWarning,
                stacklevel=stacklevel + 1,
            )


def warn_of(shards: Sequence[ShardRecords], schema: Schema, n_cells: int, stacklevel: int = 5) -> None:
    """Warn as a `Census` of these shards does.

    Warns
    -----
    DataWarning
    """
    census = Census(schema, n_cells)
    for records in shards:
        census.count(records)
    census.warn(shards, stacklevel)


def repeated(words: Sequence[IntArray]) -> IntArray:
    """The words that are there more than once, sorted.

    Examples
    --------
    >>> repeated([np.array([3, 1, 7]), np.array([7, 3])]).tolist()
    [3, 7]
    """
    found = [_repeated(np.concatenate([part[part & _LAST_BITS == bits] for part in words])) for bits in _PARTS if words]
    return np.sort(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)


# A part of all words at a time: sorted copies of all at once would take as much memory again.
_LAST_BITS = 15
_PARTS = range(_LAST_BITS + 1)


def _repeated(words: IntArray) -> IntArray:
    words = np.sort(words)
    return np.unique(words[1:][words[1:] == words[:-1]])


def _n_different(words: IntArray) -> int:
    # numpy's own way of counting them, by a table, takes four times as long.
    words = np.sort(words)
    return int(np.count_nonzero(words[1:] != words[:-1])) + min(len(words), 1)


def _candidates(shards: Iterable[ShardRecords], alike: IntArray) -> tuple[ByteArray, ByteArray]:
    """Content and keyed ids of the rows whose content begins with one of these words."""
    found = []
    for records in shards:
        rows = np.isin(_first_word(records.content), alike)
        found.append((records.content[rows], records.rid[rows]))
    return np.concatenate([content for content, _ in found]), np.concatenate([rid for _, rid in found])


def shared(content: ByteArray, rid: ByteArray) -> int:
    """How many rows have the content of a row of another id.

    Examples
    --------
    >>> content, rid = np.zeros((3, 32), dtype=np.uint8), np.zeros((3, 16), dtype=np.uint8)
    >>> rid[2] = 1
    >>> shared(content, rid)
    3
    """
    order = np.lexsort(np.ascontiguousarray(content).view(np.int64).T)
    content, rid = content[order], rid[order]
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = (content[1:] != content[:-1]).any(axis=1)
    group = np.cumsum(starts) - 1
    others = (rid != rid[np.flatnonzero(starts)[group]]).any(axis=1)
    return int((np.bincount(group, weights=others) > 0)[group].sum())


def _first_word(hashes: ByteArray) -> IntArray:
    words: IntArray = np.ascontiguousarray(hashes[:, :8]).view(np.int64)[:, 0]
    return words
