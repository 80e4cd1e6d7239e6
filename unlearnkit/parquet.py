"""Rows in Parquet files, for models whose rows stay where they are.

The files are read in batches, the ids first: by them the partition says which rows a shard needs, and the others are
not kept.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from unlearnkit.containers import column
from unlearnkit.errors import DataError, ParameterError, StoreError
from unlearnkit.ids import encode_like
from unlearnkit.loading import Rows
from unlearnkit.partition import Partition
from unlearnkit.typing import AnyArray, FloatArray

_BATCH_ROWS = 1 << 16
_NOBODY = -1
_PANDAS_INDEX = "__index_level_"


class ParquetRows:
    """The rows of a Parquet file, or of a folder of such files, as ``load_rows=`` wants them.

    In memory are at most one batch and the rows of one shard, the last that was asked for, and for each row of the
    files where its id belongs (8 bytes). Each shard takes one pass over the files.

    Parameters
    ----------
    path : path
        A file or a folder. It must not change while it is in use; what has changed since the fit is found by the
        digests of the model.
    partition : Partition
        ``clf.partition_``.
    target : str or sequence of str
        The column, or columns, to predict.
    ids : str or None
        The column that says whose row it is. It is needed: without ids a row's content places it.
    sample_weight : str or None
        The column of weights, if there were any at the fit.
    erasure_probability : str or None
        The column of probabilities, if the partition has bands.
    columns : sequence of str or None
        The features, in the order of the fit; None: all other columns.

    Raises
    ------
    ParameterError
        If the model was fitted without ids, or a column is missing.
    DataError
        If the files cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from unlearnkit import SISAClassifier
    >>> frame = load_iris(as_frame=True).frame.assign(flower=range(1000, 1150))
    >>> X, y = frame.drop(columns=["flower", "target"]), frame["target"]
    >>> clf = SISAClassifier(n_shards=3, data="external", random_state=0).fit(X, y, ids=frame["flower"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     frame.to_parquet(Path(folder, "iris.parquet"))
    ...     rows = ParquetRows(folder, partition=clf.partition_, target="target", ids="flower")
    ...     receipt = clf.forget(1007, load_rows=rows)
    >>> receipt.repaired_at is not None
    True
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        partition: Partition,
        target: str | Sequence[str],
        ids: str | None = None,
        sample_weight: str | None = None,
        erasure_probability: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> None:
        if ids is None or partition.id_type is None:
            raise ParameterError(
                "ParquetRows finds rows by their ids, and without ids the content of a row places it; nothing was "
                "read. Fit with ids=, or write a load_rows of your own that gives all rows."
            )
        if (erasure_probability is None) != (partition.bands is None):
            needs = "has no bands" if partition.bands is None else "has bands"
            raise ParameterError(f"The partition {needs}: erasure_probability= must say so too. Nothing was read.")
        self._path = os.fspath(path)
        # Where an id belongs is asked of the secret alone: a model that looks it up would travel along.
        self._partition = Partition(
            partition.n_shards, partition.n_slices, partition.secret, partition.bands, partition.id_type
        )
        self._targets = [target] if isinstance(target, str) else list(target)
        self._ids = ids
        self._weight = sample_weight
        self._probability = erasure_probability
        self._columns = self._features(columns)
        self._cells: tuple[AnyArray, AnyArray] | None = None
        self._held: tuple[int, Any, AnyArray] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_cells": None, "_held": None}

    def __call__(self, shard: int, slice: int) -> Rows:  # noqa: A002 - the word of the field
        """The rows of a shard and slice; of a slice of later arrivals all of the shard, for only the model knows them.

        Raises
        ------
        DataError
            If the files cannot be read.
        """
        held = self._held
        if held is None or held[0] != shard:
            self._held = None
            held = self._held = (shard, *self._read(shard))
        _, table, slices = held
        own = table if slice >= self._partition.n_slices else table.take(np.flatnonzero(slices == slice))
        targets = [column(own.column(name)) for name in self._targets]
        return Rows(
            own.select(self._columns),
            targets[0] if len(targets) == 1 else np.column_stack(targets),
            None if self._weight is None else column(own.column(self._weight)),
            column(own.column(self._ids)),
        )

    def _read(self, shard: int) -> tuple[Any, AnyArray]:
        """All rows of a shard, and the slice that each belongs to."""
        if self._cells is None:
            self._cells = self._located()
        shards, slices = self._cells
        used = [*self._columns, *self._targets, self._ids]
        used += [] if self._weight is None else [self._weight]
        arrow, start = _arrow("pyarrow"), 0
        found, places = [], []
        for batch in self._batches(used):
            rows = np.flatnonzero(shards[start : start + len(batch)] == shard)
            if len(rows):
                found.append(batch.take(arrow.array(rows)))
                places.append(slices[start + rows])
            start += len(batch)
        if start != len(shards):
            raise self._unreadable("it has other rows than when it was first read")
        schema = self._dataset().schema
        empty = arrow.schema([schema.field(name) for name in used]).empty_table()
        table = arrow.Table.from_batches(found) if found else empty
        return table, np.concatenate(places) if places else np.empty(0, dtype=np.int32)

    def _located(self) -> tuple[AnyArray, AnyArray]:
        """Shard and slice of each row."""
        names = [self._ids] if self._probability is None else [self._ids, self._probability]
        parts = [self._placed(batch) for batch in self._batches(names)]
        none = np.empty(0, dtype=np.int32)
        return (
            np.concatenate([shard for shard, _ in parts] or [none]),
            np.concatenate([slice_ for _, slice_ in parts] or [none]),
        )

    def _placed(self, batch: Any) -> tuple[AnyArray, AnyArray]:
        items = encode_like(column(batch.column(self._ids)), self._partition.id_type or "")
        known = np.array([item is not None for item in items], dtype=bool)
        probability = self._probabilities(batch, known)
        place = self._partition.place([item for item in items if item is not None], probability)
        # What cannot be an id of the model is of nobody in it.
        shard, slice_ = (np.full(len(items), _NOBODY, dtype=np.int32) for _ in range(2))
        shard[known], slice_[known] = place.shard, place.slice
        return shard, slice_

    def _probabilities(self, batch: Any, known: AnyArray) -> FloatArray | None:
        if self._probability is None:
            return None
        given: FloatArray = np.asarray(column(batch.column(self._probability)), dtype=np.float64)[known]
        return given

    # -- files ---------------------------------------------------------------------------------------------------

    def _dataset(self) -> Any:
        try:
            return _arrow("pyarrow.dataset").dataset(self._path, format="parquet")
        except (OSError, ValueError) as error:
            raise self._unreadable("it is no Parquet file, or folder of such files, that can be read here") from error

    def _batches(self, names: list[str]) -> Iterator[Any]:
        """The rows in their order, as batches of these columns."""
        dataset, arrow = self._dataset(), _arrow("pyarrow")
        options = {"schema": dataset.schema, "columns": names, "batch_size": _BATCH_ROWS, "batch_readahead": 1}
        try:
            for fragment in dataset.get_fragments():
                yield from fragment.to_batches(**options)
        except (OSError, arrow.ArrowException) as error:
            raise self._unreadable("it is damaged, or its files do not fit together") from error

    def _features(self, columns: Sequence[str] | None) -> list[str]:
        there = [name for name in self._dataset().schema.names if not name.startswith(_PANDAS_INDEX)]
        others = {*self._targets, self._ids, self._weight, self._probability}
        features = [name for name in there if name not in others] if columns is None else list(columns)
        lacking = [name for name in (*features, *others) if name is not None and name not in there]
        if lacking:
            raise ParameterError(f"{self._path} has no columns {lacking}; nothing was read. It has {there}.")
        return features

    def _unreadable(self, why: str) -> DataError:
        return DataError(f"{self._path} cannot be used: {why}; nothing was trained on its rows.")


def _arrow(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise StoreError(
            "Parquet files are read by pyarrow, which is not installed; nothing was read. pip install "
            "'unlearnkit[store]'"
        ) from error
