"""What a command is given to work on: ids, and the rows of a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearnkit.errors import DataError, ParameterError
from unlearnkit.ledger import Change
from unlearnkit.store import Store
from unlearnkit.typing import AnyArray

if TYPE_CHECKING:
    import pandas as pd

    from unlearnkit.parquet import ParquetRows

STDIN = "-"
_NOTE = "columns"
_SHOWN = 20


def requested(ids: Sequence[str] | None, file: Path | None, id_column: str | None) -> list[Any]:
    """The ids of a request: from the arguments, a file, or standard input for ``-``.

    Raises
    ------
    ParameterError
        If there is none, or they come from two places.
    DataError
        If the file cannot be read.
    """
    ids = list(ids or ())
    if bool(ids) == (file is not None):
        raise ParameterError("Give ids as arguments, or by --file, or - to read them from standard input; not two.")
    if id_column is not None and (file is None or str(file) == STDIN):
        raise ParameterError("--id-column is a column of a --file; nothing was changed.")
    if STDIN in ids and len(ids) > 1:
        raise ParameterError("- stands for all ids, read from standard input; nothing was changed. Leave the rest out.")
    found: list[Any]
    if ids == [STDIN] or str(file) == STDIN:
        found = _lines(sys.stdin.read())
    elif file is None:
        found = ids
    else:
        found = _lines(text_of(file)) if id_column is None else _column(file, id_column)
    if not found:
        raise ParameterError("There is no id in what was given; nothing was changed.")
    return found


def text_of(path: Path) -> str:
    """The text of a file; ``-`` is standard input.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    if str(path) == STDIN:
        return sys.stdin.read()
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); nothing was done.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; nothing was done.") from error


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _column(path: Path, name: str) -> list[Any]:
    from unlearnkit.tables import check_columns, ids_of, read_table

    frame = read_table(path, name)
    check_columns(frame, path, {"id": name})
    return list(ids_of(frame[name]))


@dataclass(frozen=True)
class Rows:
    """The records in a file, as ``fit`` takes them.

    Attributes
    ----------
    X : DataFrame
    y : ndarray of shape (n,)
    weight, ids, probability : ndarray of shape (n,) or None
    """

    X: pd.DataFrame
    y: AnyArray
    weight: AnyArray | None
    ids: AnyArray | None
    probability: AnyArray | None = None


@dataclass(frozen=True)
class Columns:
    """What the columns of a file are, but for the features.

    Attributes
    ----------
    target, id, weight, probability : str or None
    drop : tuple of str
        Columns to leave out.
    """

    target: str | None = None
    id: str | None = None
    weight: str | None = None
    probability: str | None = None
    drop: Sequence[str] = ()

    def remember(self, store: Store) -> None:
        """Keep them with a model, for files that come later."""
        store.apply(Change(notes={_NOTE: asdict(self)}))


def columns_of(store: Store, **given: Any) -> Columns:
    """The columns as given, or else as they were at the fit, if that was by the command line."""
    remembered = store.ledger.note(_NOTE, {})
    return Columns(**remembered | {name: value for name, value in given.items() if value})


def loader_of(path: Path | None, store: Store, **named: Any) -> ParquetRows | None:
    """What reads the rows of a model that keeps none; None if no path is given.

    Parameters
    ----------
    path : Path or None
        A Parquet file, or a folder of such files.
    store : Store
    **named : str or None
        Columns of the file, where they are not those of the fit.

    Raises
    ------
    ParameterError
        If the target is not named, or a column is missing.
    DataError
        If the file cannot be read.
    """
    if path is None:
        return None
    columns, settings = columns_of(store, **named), store.settings()
    if columns.target is None:
        raise ParameterError("--rows needs --target COLUMN, the column to predict; nothing was done.")
    from unlearnkit.parquet import ParquetRows

    schema = json.loads(settings["schema"])
    return ParquetRows(
        path,
        partition=store.partition(settings, schema["id_type"] if schema["explicit_ids"] else None),
        target=columns.target,
        ids=columns.id,
        sample_weight=columns.weight,
        erasure_probability=columns.probability,
        columns=schema["feature_names"],
    )


def features_of(sisa: Any, frame: pd.DataFrame, path: Path) -> Any:
    """The columns that the model was fitted with, whatever else the file has."""
    if not hasattr(sisa, "feature_names_in_"):
        return frame.to_numpy()
    names = sisa.feature_names_in_.tolist()
    missing = [name for name in names if name not in frame.columns]
    if missing:
        some = f"{', '.join(map(repr, missing[:_SHOWN]))}{', ...' if len(missing) > _SHOWN else ''}"
        lacks = "1 column" if len(missing) == 1 else f"{len(missing):,} columns"
        raise DataError(f"{path} lacks {lacks} that the model was fitted with: {some}; nothing was done.")
    return frame[names]


def rows_of(path: Path, columns: Columns) -> Rows:
    """The records in a file.

    Raises
    ------
    DataError
        If a column is missing, or a row has no target.
    ParameterError
        If the target is not named, or a column is to be two things.
    """
    from unlearnkit.tables import check_columns, ids_of, read_table

    if columns.target is None:
        raise ParameterError("--data needs --target COLUMN, the column to predict; nothing was done.")
    frame = read_table(path, columns.id)
    uses = {
        "target": columns.target,
        "id": columns.id,
        "weight": columns.weight,
        "erasure probability": columns.probability,
    }
    named = {use: name for use, name in uses.items() if name is not None}
    check_columns(frame, path, named | {f"left out ({i})": name for i, name in enumerate(columns.drop, 1)})
    X = frame.drop(columns=[*named.values(), *columns.drop])
    if not X.shape[1]:
        raise DataError(f"{path} has no column that is left as a feature; nothing was done.")
    return Rows(
        X,
        _target(frame[columns.target], path),
        None if columns.weight is None else _numbers(frame[columns.weight], "weights"),
        None if columns.id is None else ids_of(frame[columns.id]),
        None if columns.probability is None else _numbers(frame[columns.probability], "erasure probabilities"),
    )


def _target(column: pd.Series[Any], path: Path) -> AnyArray:
    empty = int(column.isna().sum())
    if empty:
        raise DataError(
            f"{empty:,} of {len(column):,} rows of {path} have no target ({column.name!r}); nothing was done. Fill it "
            "in, or leave these rows out."
        )
    kind = column.dtype.kind
    if kind == "b":
        return column.to_numpy(dtype=bool)
    return column.to_numpy() if kind in "iuf" else column.astype(str).to_numpy(dtype=object).astype(str)


def _numbers(column: pd.Series[Any], what: str) -> AnyArray:
    import numpy as np

    if column.dtype.kind not in "biuf":
        raise DataError(f"The column of {what} ({column.name!r}) is not numeric; nothing was done.")
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def remaining(rows: Rows, store: Store) -> tuple[Rows, int]:
    """The rows whose ids the store has not forgotten, and how many others there are."""
    settings, tombstones = store.settings(), store.ledger.tombstones()
    if not tombstones:
        return rows, 0
    addresses = store.addresses(settings)
    handles: list[Any] = (rows.X.index if rows.ids is None else rows.ids).tolist()
    distinct = list(dict.fromkeys(handles))
    named = addresses.pseudonyms([bytes.fromhex(address) for address in addresses.items(distinct)])
    gone = {one for one, names in zip(distinct, named, strict=True) if not tombstones.keys().isdisjoint(names)}
    keep = [handle not in gone for handle in handles]
    kept = replace(
        rows,
        X=rows.X[keep],
        y=rows.y[keep],
        weight=None if rows.weight is None else rows.weight[keep],
        ids=None if rows.ids is None else rows.ids[keep],
        probability=None if rows.probability is None else rows.probability[keep],
    )
    return kept, len(keep) - sum(keep)
