"""External records: the rows stay where they are, and the store keeps keyed digests of them.

To plan, isolate and purge takes no row. To train does: then a loader of the user's gives the rows of a shard and slice,
and those of them are trained on whose digests the store has. Whatever else it gives trains nothing, and if one of the
records is not among them, nothing is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeAlias

import numpy as np
import scipy.sparse as sp

from unlearnkit.blobs import Blobs
from unlearnkit.blocks import broken, join_features
from unlearnkit.cells import (
    MANIFEST,
    ROWS,
    bare,
    join_cells,
    no_records,
    pack_digests,
    unpack_digests,
    without_features,
)
from unlearnkit.containers import column, native, take_ids
from unlearnkit.data import CONTENT_BYTES, ShardRecords, as_bytes, content_hashes, take_rows
from unlearnkit.errors import DataError, RowsDifferError, RowsNeededError, UnlearnKitError
from unlearnkit.ids import encode_like
from unlearnkit.learner import Capabilities
from unlearnkit.ledger import Cell
from unlearnkit.partition import ID_BYTES, Partition
from unlearnkit.records import Records
from unlearnkit.schema import Schema
from unlearnkit.stored import StoredRecords, describe
from unlearnkit.typing import AnyArray, ByteArray, Features, FloatArray, IntArray
from unlearnkit.validation import is_frame, is_sparse

STORED, EXTERNAL = "stored", "external"
_FIELDS = (2, 4)
_IDENTITY_BYTES = ID_BYTES + CONTENT_BYTES + 8


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as a loader gives them: those of one shard and slice, in any order, and maybe others.

    Attributes
    ----------
    X : array-like, CSR matrix or DataFrame of shape (n, n_features)
        In any container that `fit` takes, with the columns of the fit.
    y : array-like of shape (n,) or (n, n_outputs)
    sample_weight : array-like of shape (n,) or None
    ids : array-like of shape (n,), column name or None
        Only, and then always, for a model that was fitted with ids.

    Examples
    --------
    >>> Rows([[0.5, 1.0]], [1], ids=["bottle-7"]).ids
    ['bottle-7']
    """

    X: Any
    y: Any
    sample_weight: Any = None
    ids: Any = None


LoadRows: TypeAlias = Callable[[int, int], "Rows | tuple[Any, ...]"]
"""From shard and slice to rows; a plain tuple is taken for ``(X, y)``, ``(X, y, ids)`` or all four fields of `Rows`."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Where rows that a store does not keep come from while a model trains.

    Attributes
    ----------
    load_rows : callable or None
    given : mapping of int to tuple of ShardRecords
        Those at hand, by shard: the loader need not have them yet.
    """

    load_rows: LoadRows | None = None
    given: Mapping[int, tuple[ShardRecords, ...]] = field(default_factory=dict, repr=False)

    def of(self, records: Records) -> Records:
        """The records, read from here if the store does not keep them."""
        return records.reading(self) if isinstance(records, ExternalRecords) else records

    def of_shards(self, shards: Collection[int]) -> Reading:
        """As much of it as records of these shards may take."""
        return Reading(self.load_rows, {shard: rows for shard, rows in self.given.items() if shard in shards})


NOWHERE_ELSE = Reading()
"""For models that keep their rows."""


def takes_all(schema: Schema) -> Capabilities:
    """What rows may be that a fit took before: whether the learner takes them was asked then."""
    return Capabilities(
        task="regression" if schema.classes is None else "classification",
        sample_weight=True,
        missing_values=True,
        sparse=True,
        multi_output=True,
        frames=True,
        categorical=True,
        any_shape=True,
    )


class ExternalRecords(StoredRecords):
    """Records of which blobs hold the digests, and that are read from elsewhere to train on.

    Parameters
    ----------
    blobs : Blobs
    cells : iterable of Cell
    schema : Schema
    n_shards, n_slices : int
    partition : Partition
    reading : Reading
        Where the rows come from. Without any all but `shard` works.
    pending : collection of bytes
    """

    def __init__(
        self,
        blobs: Blobs,
        cells: Iterable[Cell],
        schema: Schema,
        n_shards: int,
        n_slices: int,
        *,
        partition: Partition,
        reading: Reading | None = None,
        pending: Collection[bytes] = frozenset(),
    ) -> None:
        super().__init__(blobs, cells, schema, n_shards, n_slices, pending=pending)
        self._partition = partition
        self._reading = Reading() if reading is None else reading

    def reading(self, reading: Reading) -> Self:
        """The same records, read from here."""
        twin = self.moved(self.cells.values(), self.pending)
        twin._reading = reading  # noqa: SLF001 - its own
        return twin

    def moved(self, cells: Iterable[Cell], pending: Collection[bytes]) -> Self:
        """The records as a ledger describes them that has changed meanwhile."""
        cells = tuple(cells)
        moved = type(self)(
            self._blobs,
            cells,
            self._schema,
            self._n_shards,
            self._n_slices,
            partition=self._partition,
            reading=self._reading.of_shards({cell.shard for cell in cells}),
            pending=pending,
        )
        return self._hand_on(moved)

    def shard(self, shard: int) -> ShardRecords:
        """The records of one shard, read from where they are.

        Raises
        ------
        RowsNeededError
            If nobody has said where that is.
        RowsDifferError
            If one of them is not there as it was.
        """
        return self.ready(shard)()

    def ready(self, shard: int) -> Callable[[], ShardRecords]:
        """The records of one shard, which the call reads from where they are."""
        cells = [(cell, self._rows(cell)) for cell in self._of(shard)]
        return lambda: self._read_rows(shard, cells)

    def _read_rows(self, shard: int, cells: list[tuple[Cell, ShardRecords]]) -> ShardRecords:
        rows = join_cells([rows for _, rows in cells], without_features(self._schema))
        for given in self._reading.given.get(shard, ()):
            if len(given) == len(rows) and (_identities(given) == _identities(rows)).all():
                return replace(rows, X=given.X, y=given.y)
        return join_cells([self._loaded(cell, rows) for cell, rows in cells], self._schema)

    def describe(self, shard: int, slice: int, records: ShardRecords) -> Cell:  # noqa: A002 - the word of the field
        """What the ledger is to know of a cell of these records: nothing of its features."""
        return describe(shard, slice, bare(records), without_features(self._schema))

    def packed(self, shard: int, slice: int, records: ShardRecords) -> tuple[Cell, dict[str, bytes]]:  # noqa: A002
        """A cell of these records, and its part: digests."""
        return self.describe(shard, slice, records), pack_digests(records, self._schema, self._partition.secret)

    def unpacked(self, parts: Mapping[str, bytes]) -> ShardRecords:
        """The records whose digests these are, without features.

        Raises
        ------
        StateError
            If they are not the parts of a cell.
        """
        if not parts:
            return self._no_records()
        if parts.keys() - {MANIFEST} != {ROWS}:
            raise broken("it has other parts than digests")
        return self._unpacked_rows(parts[ROWS])

    def _unpacked_rows(self, part: bytes) -> ShardRecords:
        return unpack_digests(part, self._schema, self._partition.secret)

    def _no_records(self) -> ShardRecords:
        return no_records(without_features(self._schema))

    def _stored(self, cell: Cell) -> ShardRecords:
        return self._rows(cell)

    # -- rows from elsewhere -------------------------------------------------------------------------------------

    def _loaded(self, cell: Cell, rows: ShardRecords) -> ShardRecords:
        found = _Search(rows)
        for block in self._blocks(cell, rows):
            found.take_from(block)
            if not found.missing:
                return found.filled(self._schema)
        raise RowsDifferError(
            f"{found.missing} of the {len(rows)} records of shard {cell.shard}, slice {cell.slice} are not among the "
            "rows that were given: they have other values, targets or weights than the store has digests of, or are "
            "left out. Nothing was trained on them. Give the rows as they were when they were added, or say what "
            "changed: rectify() puts records right, forget() takes them out."
        )

    def _blocks(self, cell: Cell, rows: ShardRecords) -> Iterator[_Block]:
        """The rows that may be some of these, as far as they have to be looked at."""
        for given in self._reading.given.get(cell.shard, ()):
            yield _Block(given.X, given.y, _identities(given))
        load = self._reading.load_rows
        if load is None:
            raise rows_needed("Nothing was trained.")
        found = _digested(_rows_of(load, cell), rows, self._schema, self._partition)
        if found is not None:
            yield found


def rows_needed(what: str) -> RowsNeededError:
    """The error for what takes rows, and was not told where they are."""
    return RowsNeededError(
        "The rows of this model are kept elsewhere (data='external'), and training takes them. "
        f"{what} Pass load_rows=, a function from shard and slice to their rows; unlearnkit.parquet.ParquetRows is one "
        "for Parquet files."
    )


# -- search -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Block:
    """Canonical features and targets of some rows, and what tells the rows apart, shape (n, 56)."""

    X: Features
    y: AnyArray
    identities: ByteArray


class _Search:
    """The search for the features and targets of some records."""

    def __init__(self, rows: ShardRecords) -> None:
        self._rows = rows
        self._open: dict[bytes, list[int]] = {}
        for place, identity in enumerate(_as_list(_identities(rows))):
            self._open.setdefault(identity, []).append(place)
        self.missing = len(rows)
        """How many are not found yet."""
        self._found: list[tuple[IntArray, Features, AnyArray]] = []

    def take_from(self, block: _Block) -> None:
        """Take those that are in a block; each of its rows stands for one record."""
        pairs = [
            (places.pop(), row)
            for row, identity in enumerate(_as_list(block.identities))
            if (places := self._open.get(identity))
        ]
        if pairs:
            places_of, rows = np.array(sorted(pairs), dtype=np.int64).T
            self._found.append((places_of, take_rows(block.X, rows, normalise=True), block.y[rows]))
            self.missing -= len(pairs)

    def filled(self, schema: Schema) -> ShardRecords:
        """The records with what was found."""
        if len(self._found) == 1:
            _, X, y = self._found[0]
            return replace(self._rows, X=X, y=y)
        order = np.argsort(np.concatenate([places for places, _, _ in self._found]))
        X = take_rows(join_features([X for _, X, _ in self._found], schema), order)
        return replace(self._rows, X=X, y=np.concatenate([y for _, _, y in self._found])[order])


def _identities(records: ShardRecords) -> ByteArray:
    return _identities_of(records.rid, records.content, records.weight)


def _identities_of(rid: ByteArray, content: ByteArray, weight: FloatArray | None) -> ByteArray:
    """What tells records apart: whose they are, what they hold, how much they weigh."""
    weight = np.ones(len(rid)) if weight is None else weight
    return np.concatenate([rid, content, as_bytes(weight)], axis=1)


def _as_list(identities: ByteArray) -> list[bytes]:
    found: list[bytes] = np.ascontiguousarray(identities).view(f"V{_IDENTITY_BYTES}")[:, 0].tolist()
    return found


# -- what a loader gives ----------------------------------------------------------------------------------------------


def _rows_of(load: LoadRows, cell: Cell) -> Rows:
    """What the loader gives for a cell.

    Raises
    ------
    DataError
        If it fails, or gives something else than rows.
    """
    where = f"shard {cell.shard}, slice {cell.slice}"
    try:
        given: Any = load(cell.shard, cell.slice)
    except UnlearnKitError:
        raise
    except Exception as error:
        # Without its words: they may quote a value.
        raise DataError(
            f"load_rows failed for {where} ({type(error).__name__}); nothing was trained on its rows. Mend it, and "
            "call repair(load_rows=...)."
        ) from error
    if isinstance(given, Rows):
        return given
    if not isinstance(given, tuple) or not _FIELDS[0] <= len(given) <= _FIELDS[1]:
        raise DataError(
            f"load_rows gave a {type(given).__name__} for {where}; nothing was trained on its rows. Let it give "
            "unlearnkit.Rows, or a tuple (X, y) or (X, y, ids)."
        )
    return Rows(*given[:2], ids=given[2]) if len(given) == 3 else Rows(*given)  # noqa: PLR2004


def _digested(given: Rows, wanted: ShardRecords, schema: Schema, partition: Partition) -> _Block | None:
    """Those of the given rows that are of the same ids as the wanted ones, with their digests; None if there are none.

    Rows of other ids are not even looked at: what is wrong with them is none of this model's business.
    """
    X, y, weight, ids = _checked(given, schema)
    rows, rid = np.arange(len(y)), None
    if ids is not None:
        rid = _rid_of(ids, partition)
        rows = np.flatnonzero(_among(rid, wanted.rid))
        rid = rid[rows]
    if not len(rows):
        return None
    X, y, weight = _selected(X, rows), y[rows], None if weight is None else weight[rows]
    features, targets = schema.features(X, takes_all(schema), "the model"), schema.targets(y, len(rows))
    content = content_hashes(features, targets, schema, partition.secret)
    if rid is None:
        rid = partition.identify([row.tobytes() for row in content])
    identities = _identities_of(rid, content, weight)
    known = np.flatnonzero(~_unseen(X, features))
    if len(known) == len(rows):
        return _Block(features, targets, identities)
    return _Block(take_rows(features, known), targets[known], identities[known])


def _checked(given: Rows, schema: Schema) -> tuple[Any, AnyArray, FloatArray | None, Any]:
    """Features, targets, weights and ids as the core knows them, as many of each.

    Raises
    ------
    DataError
        If they cannot be rows of this model.
    """
    X, ids = take_ids(given.X, given.ids)
    X, y, weight, ids = native(X), np.asarray(column(given.y)), column(given.sample_weight), column(ids)
    X = X if is_frame(X) or is_sparse(X) else np.asarray(X)
    for what, has, needs in (("ids", ids, schema.explicit_ids), ("sample weights", weight, schema.weighted)):
        if has is not None and not needs:
            raise DataError(f"load_rows gave {what}, and the model was fitted without; nothing was trained.")
        if has is None and needs:
            raise DataError(f"load_rows gave no {what}, and the model was fitted with them; nothing was trained.")
    weight = None if weight is None else np.asarray(weight, dtype=np.float64)
    lengths = {np.shape(values)[:1] for values in (X, y, weight, ids) if values is not None}
    if len(lengths) != 1 or lengths == {()}:
        raise DataError(
            "load_rows gave features, targets, weights or ids that are not one for each row; nothing was trained."
        )
    return X, y, weight, ids


def _rid_of(ids: Any, partition: Partition) -> ByteArray:
    """The keyed hashes of ids; what cannot be an id of the model gets that of none."""
    encoded = encode_like(ids, partition.id_type or "")
    return partition.identify([b"" if item is None else item for item in encoded])


def _among(rid: ByteArray, wanted: ByteArray) -> AnyArray:
    """Which of these hashes may be among the wanted ones: all sixteen bytes are compared later."""
    return np.isin(_first_word(rid), _first_word(wanted))


def _first_word(hashes: ByteArray) -> AnyArray:
    return np.ascontiguousarray(hashes[:, :8]).view(np.uint64)[:, 0]


def _selected(X: Any, rows: IntArray) -> Any:
    if len(rows) == X.shape[0]:
        return X
    if is_frame(X):
        return X.iloc[rows]
    return sp.csr_matrix(X)[rows] if is_sparse(X) else X[rows]


def _unseen(X: Any, features: Features) -> AnyArray:
    """Which rows have a category that the schema does not know: taken for missing, it would look like a value that is.

    Only of frames.
    """
    unseen = np.zeros(features.shape[0], dtype=bool)
    if is_frame(features):
        for name in features.select_dtypes("category").columns:
            unseen |= X[name].notna().to_numpy() & features[name].isna().to_numpy()
    return unseen
