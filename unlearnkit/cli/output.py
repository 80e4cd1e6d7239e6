"""What a command prints, and how it ends.

The result goes to standard output, as text for people or as one JSON object; everything else goes to standard error.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console

from unlearnkit.errors import (
    EnvironmentChangedError,
    NoConstituentError,
    StateError,
    StoreError,
    TrainingError,
    UnlearnKitError,
)

DONE, FINDING, BAD_INPUT, UNUSABLE, UNFINISHED, INTERRUPTED, FAULT = 0, 1, 2, 3, 4, 130, 70
EXIT_CODES = """\
Exit codes: 0 done; 1 a finding, such as a difference, damage or a missed deadline; 2 bad input or usage, nothing was
changed; 3 the store cannot be used: missing, damaged, in use, or a key is missing; 4 recorded, but not finished: what
was to be forgotten is forgotten, but training failed or is due."""
PIPED_WIDTH = 120

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

# Messages speak to callers of the library: the same thing on the command line.
_QUOTED = re.compile(r"""\b([a-z_]+)=(["'])([a-z]+)\2""")
_OPTIONS = {"n_shards": "shards", "n_slices": "slices", "random_state": "seed", "n_jobs": "jobs"}
_SPOKEN = {
    "load(path, estimator=...)": "--model module:Class, with --set as at its fit",
    "load(path, estimator=)": "--model module:Class, with --set as at its fit",
    "repair(rebuild=True)": "unlearnkit repair --rebuild",
    "repair()": "unlearnkit repair",
    "consolidate()": "unlearnkit consolidate",
    "partition=BandedPartition(...)": "--prior",
    "erasure_probability": "--erasure-probability",
    "(partial_fit adds some, rectify corrects them)": "(unlearnkit add adds some, unlearnkit rectify corrects them)",
    "with partial_fit": "with unlearnkit add",
    "or choose a model that takes categories": "choose a model that takes categories, or leave it out by --drop",
    "a fit with store= makes one": "unlearnkit fit makes one",
    "(data='external')": "(fit --external)",
    "Pass load_rows=, a function from shard and slice to their rows; unlearnkit.parquet.ParquetRows is one for Parquet "
    "files.": "Say where they are, in Parquet: --rows PATH",
    "load_rows= is for models with data='external'": "--rows is for models of fit --external",
    "rectify() puts records right, forget() takes them out": "unlearnkit rectify puts records right, unlearnkit forget "
    "takes them out",
}


@contextmanager
def readable() -> Iterator[None]:
    """Do the work of a command: what libraries print and warn of goes to standard error, and an error is one line."""
    # Some frameworks print while they train. Only the result belongs on standard output.
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", category=RuntimeWarning, module="unlearnkit")
        warnings.showwarning = _warn
        try:
            yield
        except UnlearnKitError as error:
            say(f"{error}{_advice(error)}")
            raise typer.Exit(code_of(error)) from error


def code_of(error: UnlearnKitError) -> int:
    """The exit code that an error means."""
    if isinstance(error, TrainingError | EnvironmentChangedError | NoConstituentError):
        return UNFINISHED
    return UNUSABLE if isinstance(error, StoreError | StateError) else BAD_INPUT


def _advice(error: UnlearnKitError) -> str:
    # A bundle has no records to be put right from.
    if isinstance(error, StateError) and not re.search("fsck|bundle", str(error)):
        return " See what is damaged: unlearnkit fsck; put it right: unlearnkit fsck --repair"
    return ""


def say(message: str) -> None:
    """One line on standard error."""
    print(f"unlearnkit: {spoken(message)}", file=sys.stderr)  # noqa: T201


def spoken(message: str) -> str:
    """A message of the library on one line, its options as those of the command line."""
    text = " ".join(message.split())
    for library, command in _SPOKEN.items():
        text = text.replace(library, command)
    for name, option in _OPTIONS.items():
        text = re.sub(rf"\b{name}=(?=\d)", f"--{option} ", text)
    return _QUOTED.sub(lambda found: f"--{found[1].replace('_', '-')} {found[3]}", text)


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    say(f"warning: {message}")


def finish(facts: Any, lines: Any, *, as_json: bool, code: int = DONE) -> None:
    """Print the result and end with this exit code.

    Parameters
    ----------
    facts : dict or dataclass
        The result as JSON.
    lines : sequence
        The result for people: text, or what rich prints.
    as_json : bool
    code : int
    """
    if as_json:
        print(json.dumps(facts, indent=1, default=_plain))  # noqa: T201
    else:
        show(*lines)
    raise typer.Exit(code)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def show(*parts: Any) -> None:
    """Print text and tables on standard output."""
    console = page()
    with console.capture() as printed:
        for part in parts:
            # A command in a sentence must not be broken in two.
            console.print(part, markup=False, soft_wrap=isinstance(part, str))
    # Tables are filled up with spaces.
    print("\n".join(line.rstrip() for line in printed.get().splitlines()))  # noqa: T201


def page() -> Console:
    """A terminal as wide as it is, or a pipe as wide as a table."""
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)


def on_terminal() -> bool:
    """Whether somebody may be looking at a bar on standard error."""
    return sys.stderr.isatty()


def moment(time: datetime | None) -> str:
    """A time for people."""
    return "-" if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"
