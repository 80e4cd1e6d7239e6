"""Options that several commands have, and what is made of them."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from unlearnkit.errors import ParameterError

StorePath = Annotated[Path, typer.Option("--store", metavar="DIR", help="The folder that the model lives in.")]
StorePathOrNone = Annotated[
    Path | None, typer.Option("--store", metavar="DIR", help="The folder that the model lives in.")
]
BundlePath = Annotated[Path | None, typer.Option(metavar="FILE", help="A bundle, as `unlearnkit export` writes it.")]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="MODULE:CLASS", help="For a model with code of your own: what the store was fitted with."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the model: JSON, or else text. Repeatable."),
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Shards to train side by side; no byte depends on it.")]
Target = Annotated[str | None, typer.Option(metavar="COLUMN", help="The column to predict.")]
IdColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="The column that says whose row it is.")]
WeightColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of sample weights.")]
Probability = Annotated[
    str | None,
    typer.Option("--erasure-probability", metavar="COLUMN", help="The column of how likely each id asks for erasure."),
]
RowsPath = Annotated[
    Path | None,
    typer.Option(
        "--rows", metavar="PATH", help="Where the rows of a model are that keeps none: Parquet, one file or a folder."
    ),
]
Drop = Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="A column to leave out. Repeatable.")]


class Forgotten(StrEnum):
    """What to do about rows of ids that the store has forgotten."""

    raise_ = "raise"
    drop = "drop"
    readmit = "readmit"


OfForgotten = Annotated[
    Forgotten, typer.Option(help="About rows of ids that the store has forgotten: refuse, leave out, learn again.")
]


def built(name: str, settings: Sequence[str]) -> Any:
    """The model behind ``--model`` and ``--set``.

    Parameters
    ----------
    name : str
        ``module:attribute``, the attribute being a class, a function that returns a model, or a model.
    settings : sequence of str
        ``name=value``.

    Raises
    ------
    ParameterError
        If there is no such thing, or it does not take these parameters.
    """
    found, parameters = _imported(name), dict(map(_setting, settings))
    try:
        if callable(found):
            return found(**parameters)
        from sklearn.base import clone

        return clone(found).set_params(**parameters)
    except (TypeError, ValueError, AttributeError) as error:
        raise ParameterError(
            f"{name} could not be made with the parameters given ({error}); nothing was changed. Correct --set."
        ) from error


def optional(name: str | None, settings: Sequence[str] | None) -> Any:
    """The model of the user's own, or None if the store is to make it itself."""
    if name is not None:
        return built(name, settings or ())
    if settings:
        raise ParameterError("--set is for the model of --model, which is not given; nothing was changed.")
    return None


def prior_of(text: str) -> dict[float, float]:
    """The prior of ``--prior``: a JSON object of shares by probabilities, or the name of a file that has one.

    Raises
    ------
    ParameterError
        If it is neither.
    """
    try:
        content = text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8-sig")
        return {float(probability): float(share) for probability, share in json.loads(content).items()}
    except OSError as error:
        raise ParameterError(f"--prior {text} cannot be read ({error.strerror}); nothing was changed.") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ParameterError(
            'The prior is not a JSON object of shares by probabilities, such as {"0.001": 0.9, "0.05": 0.1}; nothing '
            "was changed."
        ) from error


def one_of(store: Path | None, bundle: Path | None) -> Path:
    """Where the model is.

    Raises
    ------
    ParameterError
        If both or neither are given, or the bundle is no file.
    """
    if store is not None and bundle is None:
        return store
    if bundle is None or store is not None:
        raise ParameterError("Give either --store DIR or --bundle FILE; nothing was done.")
    if not bundle.is_file():
        raise ParameterError(f"There is no bundle at {bundle}; nothing was done. Check the path.")
    return bundle


def _imported(name: str) -> Any:
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise ParameterError(
            f"--model {name} is not MODULE:CLASS, such as lightgbm:LGBMClassifier; nothing was changed."
        )
    # A program that is installed does not find modules of the folder it is called from by itself.
    if os.getcwd() not in sys.path:  # noqa: PTH109 - as the entries of sys.path are
        sys.path.append(os.getcwd())  # noqa: PTH109
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise ParameterError(
            f"--model {name} cannot be imported ({type(error).__name__}: {error}); nothing was changed. Install it, or "
            "call this from the folder it is in."
        ) from error
    return found


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ParameterError(f"--set {text} is not NAME=VALUE; nothing was changed.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
