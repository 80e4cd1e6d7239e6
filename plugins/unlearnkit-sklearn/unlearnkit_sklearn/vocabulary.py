"""Encoders that know all categories of the schema, so that none breaks on one that its own rows lack.

In a shard of some thousand rows a rare category is missing more often than not; an encoder that learns its categories
from the rows would then raise on the first other row. The vocabularies of category columns are fixed by the schema,
the same in every shard, so that using them gives away nothing about a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearnkit.errors import CapabilityError
from unlearnkit.typing import AnyArray, Features

ENCODERS = frozenset({"OneHotEncoder", "OrdinalEncoder"})
# They hand all rows and columns on to the estimators in these parameters.
SAME_COLUMNS = ("estimator", "estimators", "regressor")


@dataclass(frozen=True)
class Columns:
    """The columns that reach an encoder.

    Attributes
    ----------
    frame : DataFrame or None
        Their rows in the prefix; None after a step that may have changed them.
    vocabularies : tuple of (ndarray or None)
        The sorted categories of each column, where the schema names them.
    missing : tuple of bool
        Whether a column of the prefix has missing values.
    """

    frame: Any
    vocabularies: tuple[AnyArray | None, ...]
    missing: tuple[bool, ...]

    def chosen(self, indices: list[int]) -> Columns:
        """These columns alone."""
        frame = None if self.frame is None else self.frame.iloc[:, indices]
        pick = [(self.vocabularies[i], self.missing[i]) for i in indices]
        return Columns(frame, tuple(v for v, _ in pick), tuple(m for _, m in pick))

    def imputed(self, fill: Any) -> Columns:
        """These columns with nothing missing; `fill`, unless None, is a category of its own."""
        names = tuple(v if v is None or fill is None else _sorted([*v.tolist(), fill]) for v in self.vocabularies)
        return Columns(None, names, (False,) * len(names))


def fill_vocabularies(model: Any, X: Features) -> None:
    """Give the encoders inside an unfitted `model` the categories of the columns that they will get.

    Parameters
    ----------
    model : estimator
        Changed in place.
    X : Features
        The rows of the prefix. Without category columns there is nothing to fill.
    """
    columns = _columns(X)
    if columns is not None:
        _fill(model, columns)


def _columns(X: Features) -> Columns | None:
    if not hasattr(X, "dtypes") or not hasattr(X, "iloc"):
        return None
    kinds = list(X.dtypes)
    vocabularies = tuple(_sorted(kind.categories.tolist()) if hasattr(kind, "categories") else None for kind in kinds)
    if not any(v is not None for v in vocabularies):
        return None
    return Columns(X, vocabularies, tuple(X.isna().any().tolist()))


def _sorted(values: list[Any]) -> AnyArray:
    """Distinct values in the order of the encoders, which is numpy's."""
    texts = not values or isinstance(values[0], str)
    return np.unique(np.asarray(values, dtype=object if texts else None))


def _fill(model: Any, columns: Columns) -> None:
    kind = type(model).__name__
    if kind in ENCODERS:
        _fill_encoder(model, columns)
    elif kind == "Pipeline":
        _fill_pipeline(model, columns)
    elif kind == "ColumnTransformer":
        for transformer, chosen in _routed(model, columns):
            _fill(transformer, chosen)
    elif kind == "FeatureUnion":
        for _, transformer in model.transformer_list:
            _fill(transformer, columns)
    elif getattr(model, "max_features", None) in (None, 1.0) or not kind.startswith("Bagging"):
        _fill_inner(model, columns)


def _fill_inner(model: Any, columns: Columns) -> None:
    for name in SAME_COLUMNS:
        value = getattr(model, name, None)
        for inner in [pair[1] for pair in value] if isinstance(value, list) else [value]:
            if hasattr(inner, "get_params") and not isinstance(inner, type):
                _fill(inner, columns)


def _fill_pipeline(pipeline: Any, columns: Columns) -> None:
    for _, step in pipeline.steps:
        if step is None or step == "passthrough":
            continue
        _fill(step, columns)
        after = _after(step, columns)
        if after is None:
            return
        columns = after


def _after(step: Any, columns: Columns) -> Columns | None:
    """What a step makes of its columns, if they stay the same columns."""
    if type(step).__name__ != "SimpleImputer" or step.add_indicator:
        return None
    if columns.frame is None or bool(columns.frame.isna().all().any()):
        return None
    fill = ("missing_value" if step.fill_value is None else step.fill_value) if step.strategy == "constant" else None
    return columns.imputed(fill)


def _routed(transformer: Any, columns: Columns) -> Iterator[tuple[Any, Columns]]:
    """The estimators of a ColumnTransformer with their columns."""
    from sklearn.utils._indexing import _get_column_indices

    if columns.frame is None:
        return
    rest = set(range(len(columns.vocabularies)))
    for _, inner, wanted in transformer.transformers:
        names = wanted(columns.frame) if callable(wanted) else wanted
        indices = list(_get_column_indices(columns.frame, names))
        rest -= set(indices)
        if hasattr(inner, "get_params"):
            yield inner, columns.chosen(indices)
    if hasattr(transformer.remainder, "get_params"):
        yield transformer.remainder, columns.chosen(sorted(rest))


def _fill_encoder(encoder: Any, columns: Columns) -> None:
    if not isinstance(encoder.categories, str) or encoder.categories != "auto" or not columns.vocabularies:
        return
    named = [vocabulary is not None for vocabulary in columns.vocabularies]
    if not any(named) or (columns.frame is None and not all(named)):
        return
    learnt = [None] * len(named) if all(named) else _learnt(encoder, columns)
    ordinal = type(encoder).__name__ == "OrdinalEncoder"
    categories = [
        _with_missing(vocabulary, missing=missing) if vocabulary is not None else own
        for vocabulary, missing, own in zip(columns.vocabularies, columns.missing, learnt, strict=True)
    ]
    encoder.set_params(categories=categories)
    if all(named) and encoder.handle_unknown == "error":
        _tolerate_missing(encoder, ordinal=ordinal)


def _tolerate_missing(encoder: Any, *, ordinal: bool) -> None:
    """Let a missing value pass that this prefix lacks: it is all that can be unknown, the schema refuses the rest."""
    if not ordinal:
        encoder.set_params(handle_unknown="ignore")
    elif np.dtype(encoder.dtype).kind == "f" or not np.isnan(encoder.encoded_missing_value):
        encoder.set_params(handle_unknown="use_encoded_value", unknown_value=encoder.encoded_missing_value)


def _learnt(encoder: Any, columns: Columns) -> list[Any]:
    """The categories that the encoder finds by itself, for the columns without a vocabulary."""
    from sklearn.base import clone

    return list(clone(encoder).fit(columns.frame).categories_)


def _with_missing(vocabulary: AnyArray, *, missing: bool) -> AnyArray:
    if not missing:
        return vocabulary
    if vocabulary.dtype == object:
        return np.asarray([*vocabulary.tolist(), np.nan], dtype=object)
    return np.append(vocabulary.astype(np.float64), np.nan)


def refuse_open_encoders(model: Any) -> None:
    """Raise for an encoder inside a prepared `model` that would break on a category of a later slice.

    Raises
    ------
    CapabilityError
        Names the parameter.
    """
    for path, value in sorted(model.get_params(deep=True).items()):
        if type(value).__name__ not in ENCODERS or value.handle_unknown != "error":
            continue
        if isinstance(value.categories, str) and value.categories == "auto":
            raise CapabilityError(
                f"{path}__handle_unknown='error' with {path}__categories='auto' would fail on the first category that "
                "the first slice lacks. Nothing was changed. Give the column the dtype category, list its categories, "
                "set handle_unknown, or use n_slices=1."
            )
