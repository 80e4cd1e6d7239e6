"""Column names, categories and class labels as text, and back.

They are values of many types, and a stored schema has to give back the very same ones. The text is read by the type
that stands beside it: nothing is evaluated, and no type is looked up by a name from the text.
"""

from __future__ import annotations

import datetime as dt
import decimal
import fractions
import json
import re
import uuid
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from unlearnkit.errors import StateError

_SCALARS: dict[str, Callable[[Any], Any]] = {
    name: getattr(np, name)
    for name in (
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "datetime64"),
    )
}
_TEXTS: dict[str, Callable[[Any], Any]] = {"str_": np.str_, "bytes_": np.bytes_}
_CONSTANTS = {"True": True, "False": False, "None": None, "np.True_": np.True_, "np.False_": np.False_}
_STRING = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.))")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'", '"': '"'}
_ITEM = re.compile(rf"{_STRING}|[^'\",()\s]+")
_LONG = 1000
_NUMPY = re.compile(r"np\.(\w+)\((.*)\)", re.DOTALL)
_NUMBERS = re.compile(r"([\[(])([-+.\deinfa]+), ([-+.\deinfa]+)([\])])")
_ZONE = re.compile(r"(?!dateutil)[A-Za-z][\w+\-/:]*")
_SIDES: dict[str, Literal["both", "left", "right", "neither"]] = {
    "[]": "both",
    "[)": "left",
    "(]": "right",
    "()": "neither",
}
_PYTHON = (int, float, str, bool, type(None))
_OF_LIBRARY = (dt.date, dt.datetime, dt.time, decimal.Decimal, fractions.Fraction, uuid.UUID)


def name_to_json(name: Any) -> Any:
    """A column's name: its repr where that says all, else as `to_json` writes values."""
    if type(name) is tuple:
        says_all = bool(name) and all(type(i) in _PYTHON for i in name) and len(repr(name)) <= _LONG
    else:
        says_all = type(name) in (*_PYTHON, bytes) or _is_scalar(name)
    return repr(name) if says_all else to_json(name)


def name_from_json(written: Any) -> Any:
    """The column's name that `name_to_json` wrote.

    Raises
    ------
    StateError
        If it did not write this.
    """
    if not isinstance(written, str):
        return from_json(written)
    return _read(_tuple if written.startswith("(") else _plain, written, written, name_to_json)


def to_json(value: Any) -> list[str]:
    """A category or class label as the name of its type and a text.

    A type that is not known here is named in full: its values cannot be read back.
    """
    kind = type(value)
    if kind in (*_PYTHON, bytes):
        return [kind.__name__, repr(value)]
    if isinstance(value, np.generic):
        return [kind.__name__, repr(value) if isinstance(value, float | str) else str(value)]
    if kind is tuple:
        return ["tuple", json.dumps([to_json(item) for item in value])]
    if kind in _OF_LIBRARY:
        return [kind.__name__, str(value)]
    if kind.__module__.partition(".")[0] == "pandas" and kind.__name__ in _PANDAS:
        return [kind.__name__, _PANDAS[kind.__name__](value)]
    return [f"{kind.__module__}.{kind.__qualname__}", repr(value) if isinstance(value, int | str) else str(value)]


def from_json(written: Any) -> Any:
    """The value that `to_json` wrote.

    Raises
    ------
    StateError
        If it did not write this, or if values of this type cannot be read back.
    """
    match written:
        case [str(tag), str(text)]:
            if tag not in _READERS:
                raise StateError(
                    f"The schema has values of type {tag[-80:]!r}, which cannot be read back from a store; nothing was "
                    "executed. Make the categories strings or numbers."
                )
            return _read(_READERS[tag], text, written, to_json)
    raise StateError(f"{str(written)[:80]!r} is no value of a schema; nothing was executed. Restore it from a backup.")


def _read(reader: Callable[[str], Any], text: str, written: Any, write: Callable[[Any], Any]) -> Any:
    try:
        value = reader(text)
        same = write(value) == written
    except StateError:
        raise
    except (ValueError, TypeError, ArithmeticError, LookupError, OSError, RecursionError, Warning) as error:
        raise StateError(f"{text[:80]!r} is no value of a schema; nothing was executed.") from error
    if not same:
        raise StateError(f"{text[:80]!r} is no value of a schema; nothing was executed. Restore it from a backup.")
    return value


# -- text to values --------------------------------------------------------------------------------------------------


def _plain(text: str) -> Any:
    """The value of a plain type, Python's or numpy's, with this repr."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[:1] in ("'", '"'):
        return _unescaped(text)
    if text[:1] == "b":
        return _unescaped(text[1:]).encode("latin-1")
    if found := _NUMPY.fullmatch(text):
        return (_SCALARS | _TEXTS)[found[1]](_plain(found[2]))
    return _number(text)


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _unescaped(text: str) -> str:
    if not re.fullmatch(_STRING, text, re.DOTALL):
        raise ValueError(text)
    return _ESCAPE.sub(_character, text[1:-1])


def _character(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2] or escape[3]
    return chr(int(code, 16)) if code else _ESCAPED[escape[4]]


def _tuple(text: str) -> tuple[Any, ...]:
    if len(text) > _LONG:
        raise ValueError(text)
    return tuple(map(_plain, _ITEM.findall(text)))


def _timestamp(text: str) -> Any:
    import pandas as pd

    moment, _, zone = text.partition(" ")
    naive = pd.Timestamp(np.datetime64(moment))
    if not zone:
        return naive
    if not _ZONE.fullmatch(zone):
        raise ValueError(zone)
    return naive.tz_localize("UTC").tz_convert(zone)


def _timedelta(text: str) -> Any:
    import pandas as pd

    count, _, unit = text.partition(" ")
    duration: Any = np.array(int(count), f"m8[{unit}]")[()]
    return pd.Timedelta(duration)


def _interval(text: str) -> Any:
    import pandas as pd

    if found := _NUMBERS.fullmatch(text):
        return pd.Interval(_number(found[2]), _number(found[3]), _SIDES[found[1] + found[4]])
    closed, left, right = json.loads(text)
    return pd.Interval(from_json(left), from_json(right), closed)


def _period(text: str) -> Any:
    import pandas as pd

    ordinal, _, freq = text.partition(" ")
    return pd.Period(ordinal=int(ordinal), freq=freq)


_READERS: dict[str, Callable[[str], Any]] = {
    **_SCALARS,
    **dict.fromkeys(("int", "float", "str", "bool", "NoneType", "bytes", "float64", "str_"), _plain),
    "bytes_": lambda text: np.bytes_(_plain(text)),
    "tuple": lambda text: tuple(from_json(item) for item in json.loads(text)),
    "date": dt.date.fromisoformat,
    "datetime": dt.datetime.fromisoformat,
    "time": dt.time.fromisoformat,
    "Decimal": decimal.Decimal,
    "Fraction": fractions.Fraction,
    "UUID": uuid.UUID,
    "Timestamp": _timestamp,
    "Timedelta": _timedelta,
    "Interval": _interval,
    "Period": _period,
}


# -- values to text --------------------------------------------------------------------------------------------------


def _is_scalar(value: Any) -> bool:
    return isinstance(value, np.bool_ | np.str_ | np.bytes_) or type(value).__name__ in _SCALARS


def _timestamp_text(value: Any) -> str:
    # In UTC with all digits of its unit: the plain text tells neither the unit nor the time zone.
    zone = "" if value.tz is None else f" {value.tz}"
    return f"{value.to_numpy()}{zone}"


def _timedelta_text(value: Any) -> str:
    return f"{value.to_numpy().astype(np.int64)} {value.unit}"


def _interval_text(value: Any) -> str:
    bounds = [b.item() if isinstance(b, np.generic) else b for b in (value.left, value.right)]
    if all(type(b) in (int, float) for b in bounds):
        return str(value)
    return json.dumps([value.closed, *map(to_json, bounds)])


_PANDAS: dict[str, Callable[[Any], str]] = {
    "Timestamp": _timestamp_text,
    "Timedelta": _timedelta_text,
    "Interval": _interval_text,
    "Period": lambda value: f"{value.ordinal} {value.freqstr}",
}
