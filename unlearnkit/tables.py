"""Tables in files: CSV and Parquet, in and out, through pandas."""

from __future__ import annotations

import csv
import importlib.util
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unlearnkit.errors import DataError, ParameterError
from unlearnkit.files import TEMPORARY
from unlearnkit.ids import is_missing
from unlearnkit.typing import AnyArray

if TYPE_CHECKING:
    import pandas as pd

CSV, PARQUET = (".csv", ".tsv", ".txt"), (".parquet", ".pq")
_SHOWN = 20
_WHOLE = re.compile(r"(0|-?[1-9][0-9]*)(\.0+)?")


def read_table(path: Path, ids: str | None = None) -> pd.DataFrame:
    """The rows of a file: Parquet if its name says so, else CSV with a header line.

    Parameters
    ----------
    path : Path
    ids : str or None
        A column of a CSV file to take as it is written: ``0042`` stays apart from ``42``, and ``NA`` is an id. Only an
        empty one is missing. See `ids_of`.

    Raises
    ------
    DataError
        If the file cannot be read, is no table, or has no rows.
    """
    _need("pandas", path, "pandas")
    frame = _read_parquet(path) if path.suffix.lower() in PARQUET else _read_csv(path, ids)
    if frame.empty:
        raise DataError(f"{path} has no rows below its header; nothing was done.")
    return frame


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write rows to a file, CSV or Parquet as its name says; a file of that name is replaced once all is written.

    Raises
    ------
    ParameterError
        If the name says neither.
    DataError
        If the file cannot be written.
    """
    check_writable(path)
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}{path.suffix}")
    try:
        if path.suffix.lower() in PARQUET:
            frame.to_parquet(temporary, index=False)
        else:
            frame.to_csv(temporary, index=False, sep="\t" if path.suffix.lower() == ".tsv" else ",")
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path} could not be written ({error.strerror or error}); nothing was changed.") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """See that a table could be written under this name, before time is spent on its rows.

    Raises
    ------
    ParameterError
        If the name says neither CSV nor Parquet.
    DataError
        If there is no such folder.
    """
    suffix = path.suffix.lower()
    if suffix not in (*CSV, *PARQUET):
        raise ParameterError(
            f"{path.name} is neither CSV nor Parquet by its name; nothing was done. Let it end in .csv or .parquet."
        )
    if suffix in PARQUET:
        _need("pyarrow", path, "store")
    if not path.parent.is_dir():
        raise DataError(f"There is no folder {path.parent}; nothing was done. Make it first.")


def check_columns(frame: pd.DataFrame, path: Path, wanted: Mapping[str, str]) -> None:
    """See that columns are there, and that none is used twice.

    Parameters
    ----------
    frame : DataFrame
    path : Path
        Where it is from.
    wanted : mapping of str to str
        What each is for, and its name.

    Raises
    ------
    DataError
        If one is missing.
    ParameterError
        If one is wanted for two things.
    """
    for name in wanted.values():
        if name not in frame.columns:
            raise DataError(
                f"{path} has no column {name!r}; nothing was done. "
                f"{'It has' if path.suffix.lower() in PARQUET else 'Its first line, which must be the header, names'}: "
                f"{', '.join(map(str, frame.columns[:_SHOWN]))}{', ...' if frame.shape[1] > _SHOWN else ''}"
            )
    uses: dict[str, str] = {}
    for use, name in wanted.items():
        if name in uses:
            raise ParameterError(f"The column {name!r} cannot be both {uses[name]} and {use}; nothing was done.")
        uses[name] = use


def ids_of(column: pd.Series[Any]) -> AnyArray:
    """The ids in a column: whole numbers if they all are, floats and text of such included, else as they are.

    Whole numbers come as floats from a file where one was missing once. Text with zeros in front is no number.

    Returns
    -------
    ndarray of shape (n,)
        Of objects; None where there is none.
    """
    values = [None if is_missing(value) else value for value in column.tolist()]
    present = [value for value in values if value is not None]
    if all(isinstance(value, str) and _WHOLE.fullmatch(value) for value in present):
        values = [None if value is None else int(value.partition(".")[0]) for value in values]
    elif all(isinstance(value, float) and value.is_integer() for value in present):
        values = [None if value is None else int(value) for value in values]
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def _read_csv(path: Path, ids: str | None) -> pd.DataFrame:
    import pandas as pd

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            start = file.read(1 << 16)
        separator = _separator(start)
        frame = pd.read_csv(
            path,
            sep=separator,
            encoding="utf-8-sig",
            skipinitialspace=True,
            low_memory=False,
            converters=None if ids is None else {ids: _marked},
        )
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; nothing was done. Convert it: iconv -t utf-8") from error
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise DataError(f"{path} is not a CSV table ({str(error).strip()}); nothing was done.") from error
    if not frame.index.equals(pd.RangeIndex(len(frame))):
        # pandas takes the first cells of rows that are longer than the header for labels.
        raise DataError(
            f"{path} is not a CSV table (its rows have more cells than the header has names); nothing was done."
        )
    if ids in frame.columns:
        frame[ids] = pd.Series([text[1:] or None for text in frame[ids]], dtype=object)
    return frame.astype({name: "boolean" for name in frame.columns if _is_boolean(frame[name])})


def _is_boolean(column: pd.Series[Any]) -> bool:
    """Whether pandas has read a column of booleans as objects, because one is missing."""
    present = column.dropna().tolist()
    return column.dtype == object and bool(present) and all(isinstance(value, bool) for value in present)


def _marked(text: str) -> str:
    # So that pandas does not take NA and the like for missing.
    return f"={text}"


def _separator(start: str) -> str:
    try:
        return csv.Sniffer().sniff(start.partition("\n")[0], delimiters=",;\t|").delimiter
    except csv.Error:
        return ","


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    _need("pyarrow", path, "store")
    import pyarrow as pa  # type: ignore[import-untyped]

    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except OSError as error:
        raise _unreadable(path, error) from error
    except (pa.ArrowException, ValueError, TypeError, NotImplementedError) as error:
        raise DataError(f"{path} is not a Parquet file that can be read here; nothing was done.") from error
    # Labels that pandas has written beside the columns are a column for everybody else.
    return frame if isinstance(frame.index, pd.RangeIndex) else frame.reset_index()


def _unreadable(path: Path, error: OSError) -> DataError:
    why = error.strerror or ("it is damaged, or not what its name says" if path.is_file() else "there is no such file")
    return DataError(f"{path} cannot be read ({why}); nothing was done.")


def _need(package: str, path: Path, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise DataError(
            f"To read or write {path} needs {package}, which is not installed; nothing was done. "
            f"Install it: pip install 'unlearnkit[{extra}]'"
        )
