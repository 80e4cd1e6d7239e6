"""A CSV file as rows for the demonstration."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unlearnkit.demo.data import Data
from unlearnkit.errors import DataError
from unlearnkit.ids import encode_ids
from unlearnkit.tables import check_columns, ids_of, read_table
from unlearnkit.typing import AnyArray, Task

if TYPE_CHECKING:
    import pandas as pd

FEW_VALUES = 20
MOST_CLASSES = 100
MOST_CATEGORIES = 100
FEWEST_ROWS = 40


@dataclass(frozen=True)
class Read:
    """The rows of a file.

    Attributes
    ----------
    data : Data
    notes : tuple of str
        What was decided about the file, for the reader to check.
    """

    data: Data
    notes: tuple[str, ...]


def read_csv(
    path: Path, target: str, id_column: str | None = None, *, task: Task | None = None, max_rows: int | None = None
) -> Read:
    """Read a CSV file with a header line.

    Parameters
    ----------
    path : Path
    target : str
        The column to predict.
    id_column : str or None
        Whose row it is; None: rows are addressed by their position in the file, counted from 0.
    task : {"classification", "regression"} or None
        None guesses from the target: numbers of more than 20 distinct values, or with a fraction, mean regression.
    max_rows : int or None
        Draw so many rows at random if there are more.

    Raises
    ------
    DataError
        If the file cannot be used.
    """
    frame, n_infinite = _finite(read_table(path, id_column))
    check_columns(frame, path, {"target": target} | ({} if id_column is None else {"id": id_column}))
    n_read = len(frame)
    frame = _sample(frame[frame[target].notna()], max_rows)
    ids = None if id_column is None else _ids(frame[id_column])
    y, task, why = _target(frame[target], task)
    X, left_out = _features(frame.drop(columns=[target] if id_column is None else [target, id_column]))
    notes = (
        f"{path.name}: {len(frame):,} of {n_read:,} rows, features: {X.shape[1]}, {task} ({why})",
        "rows are addressed by their position in the file"
        if ids is None
        else f"rows belong to the ids in {id_column!r}",
        *([f"infinite values, taken as missing: {n_infinite:,}"] if n_infinite else []),
        *left_out,
    )
    return Read(Data(path.name, X, y, ids, task), notes)


def _finite(frame: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Without infinities, which half of the models refuse, and how many there were."""
    infinite = frame.isin([np.inf, -np.inf])
    return frame.mask(infinite), int(infinite.to_numpy().sum())


def _sample(frame: pd.DataFrame, max_rows: int | None) -> pd.DataFrame:
    if len(frame) < FEWEST_ROWS:
        raise DataError(
            f"{len(frame)} rows with a target are too few to show anything; nothing was done. "
            f"Give at least {FEWEST_ROWS}."
        )
    if max_rows is None or len(frame) <= max_rows:
        return frame
    return frame.sample(max(max_rows, FEWEST_ROWS), random_state=0).sort_index()


def _ids(column: pd.Series) -> AnyArray:
    ids = ids_of(column)
    encode_ids(ids, len(ids))  # raises now what every model would raise later
    return ids


def _target(column: pd.Series, task: Task | None) -> tuple[AnyArray, Task, str]:
    guessed, why = _guess(column)
    if task is None:
        task = guessed
    else:
        why = "as asked"
    if task == "regression":
        if guessed == "classification" and column.dtype.kind not in "iuf":
            raise DataError(f"The target {column.name!r} is not numeric; nothing was done. Regression needs numbers.")
        return column.to_numpy(dtype=np.float64), task, why
    if not 2 <= column.nunique() <= MOST_CLASSES:  # noqa: PLR2004
        raise DataError(
            f"The target {column.name!r} has {column.nunique():,} distinct values; nothing was done. "
            f"Classification needs 2 to {MOST_CLASSES}."
        )
    whole = column.dtype.kind in "iuf" and bool((column % 1 == 0).all())
    return (
        (column.to_numpy(dtype=np.int64) if whole else column.astype(str).to_numpy(dtype=object).astype(str)),
        task,
        why,
    )


def _guess(column: pd.Series) -> tuple[Task, str]:
    n = column.nunique()
    if column.dtype.kind not in "iuf":
        return "classification", f"{column.name!r} is not numeric"
    if n <= FEW_VALUES and bool((column % 1 == 0).all()):
        return "classification", f"{column.name!r} has {n} distinct whole numbers"
    return "regression", f"{column.name!r} has {n:,} distinct numbers"


def _features(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Numbers as they are, short vocabularies as categories; what is neither is left out, and named."""
    import pandas as pd

    columns: dict[str, Any] = {}
    left_out: list[str] = []
    for name in frame.columns:
        column = frame[name]
        if column.notna().sum() == 0:
            left_out.append(f"left out, empty: {name!r}")
        elif column.dtype.kind == "b":
            columns[name] = column.astype(np.float64 if column.isna().any() else np.int8)
        elif column.dtype.kind in "iuf":
            columns[name] = column
        elif column.nunique() <= MOST_CATEGORIES:
            text = column.astype(object).where(column.isna(), column.astype(str))
            columns[name] = text.astype(pd.CategoricalDtype(sorted(set(text.dropna()))))
        else:
            left_out.append(f"left out, {column.nunique():,} distinct texts: {name!r}")
    if not columns:
        raise DataError("The file has no column that could be a feature; nothing was done.")
    return pd.DataFrame(columns).set_axis(_plain_names(list(columns)), axis=1), left_out


def _plain_names(names: list[str]) -> list[str]:
    """Names without the characters that LightGBM and XGBoost refuse."""
    plain = [re.sub(r'[][{}<>,:"\\]', "_", str(name)) for name in names]
    return plain if len(set(plain)) == len(plain) else [f"{name}_{i}" for i, name in enumerate(plain)]
