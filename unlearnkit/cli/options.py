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
Drop = Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="A column to leave out. Repeatable.")]


class Forgotten(StrEnum):
    """What to do about rows of ids that the store has forgotten."""

    raise_ = "raise"
    drop = "drop"
    readmit = "readmit"


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
