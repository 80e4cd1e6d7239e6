"""Loading: what a loader of the user's gives, as canonical rows with their digests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from unlearnkit.containers import column, native, take_ids
from unlearnkit.data import CONTENT_BYTES, ShardRecords, as_bytes, content_hashes, take_rows
from unlearnkit.errors import DataError, UnlearnKitError
from unlearnkit.hashing import listed
from unlearnkit.ids import encode_like
from unlearnkit.learner import Capabilities
from unlearnkit.partition import ID_BYTES, Partition
from unlearnkit.schema import Schema
from unlearnkit.typing import AnyArray, ByteArray, Features, FloatArray, IntArray
from unlearnkit.validation import is_frame, is_sparse

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
class Block:
    """Canonical features and targets of some rows, and what tells the rows apart, shape (n, 56)."""

    X: Features
    y: AnyArray
    identities: ByteArray


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


def identities(records: ShardRecords) -> ByteArray:
    """What tells each record apart, shape (n, 56)."""
    return identities_of(records.rid, records.content, records.weight)


def identities_of(rid: ByteArray, content: ByteArray, weight: FloatArray | None) -> ByteArray:
    """What tells records apart: whose they are, what they hold, how much they weigh."""
    weight = np.ones(len(rid)) if weight is None else weight
    return np.concatenate([rid, content, as_bytes(weight)], axis=1)


def as_keys(told_apart: ByteArray) -> list[bytes]:
    """Rows of `identities` as keys to look up."""
    keys: list[bytes] = np.ascontiguousarray(told_apart).view(f"V{_IDENTITY_BYTES}")[:, 0].tolist()
    return keys


def rows_of(load: LoadRows, shard: int, slice: int) -> Rows:  # noqa: A002 - the word of the field
    """What the loader gives for a cell.

    Raises
    ------
    DataError
        If it fails, or gives something else than rows.
    """
    where = f"shard {shard}, slice {slice}"
    try:
        given: Any = load(shard, slice)
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


def digested(given: Rows, wanted: ShardRecords, schema: Schema, partition: Partition) -> Block | None:
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
        rid = partition.identify(listed(content))
    identities = identities_of(rid, content, weight)
    known = np.flatnonzero(~_unseen(X, features))
    if len(known) == len(rows):
        return Block(features, targets, identities)
    return Block(take_rows(features, known), targets[known], identities[known])


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
    return X.tocsr()[rows] if is_sparse(X) else X[rows]


def _unseen(X: Any, features: Features) -> AnyArray:
    """Which rows have a category that the schema does not know: taken for missing, it would look like a value that is.

    Only of frames.
    """
    unseen = np.zeros(features.shape[0], dtype=bool)
    if is_frame(features):
        for name in features.select_dtypes("category").columns:
            unseen |= X[name].notna().to_numpy() & features[name].isna().to_numpy()
    return unseen
