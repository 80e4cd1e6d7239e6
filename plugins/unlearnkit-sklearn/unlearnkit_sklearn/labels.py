"""Parameters that speak of class labels, translated into the codes that the wrapped model is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from unlearnkit.errors import DataError
from unlearnkit.typing import AnyArray
from unlearnkit_sklearn.params import GRIDS, last_name

PRIORS = frozenset({"priors", "class_prior"})
# Their inner models see the binary targets "this class or not", and their weights speak of those.
BINARY_INSIDE = frozenset({"OneVsRestClassifier", "OneVsOneClassifier", "OutputCodeClassifier"})
SINGLE_LABELS = frozenset({("DummyClassifier", "constant"), ("RadiusNeighborsClassifier", "outlier_label")})


def translate(model: Any, classes: AnyArray) -> None:
    """Rewrite class weights and other labels of `model`, at every depth, for codes ``0..k-1``.

    Parameters
    ----------
    model : estimator
        Changed in place.
    classes : ndarray of shape (k,)
        The labels behind the codes.

    Raises
    ------
    DataError
        If the rows lack a class that a parameter needs.
    """
    labels = list(classes.tolist())
    changes = dict(_changes(model, labels, ""))
    model.set_params(**changes)


def _changes(model: Any, labels: list[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in sorted(model.get_params(deep=False).items()):
        path = prefix + name
        if name == "class_weight" and isinstance(value, Mapping):
            yield path, _weights(value, labels)
        elif name in GRIDS:
            yield path, _grid(value, labels)
        elif name in PRIORS and value is not None and not isinstance(value, str):
            _check_priors(path, value, labels)
        elif value is not None and _is_label(model, name, value):
            yield path, _code(path, value, labels)
    if type(model).__name__ not in BINARY_INSIDE:
        for name, inner in _inner(model):
            yield from _changes(inner, labels, f"{prefix}{name}__")


def _inner(model: Any) -> Iterator[tuple[str, Any]]:
    """The estimators right below `model`, by the names that ``set_params`` takes."""
    for name, value in sorted(model.get_params(deep=True).items()):
        if "__" not in name and hasattr(value, "get_params") and not isinstance(value, type):
            yield name, value


def _weights(value: Mapping[Any, float], labels: list[Any]) -> dict[int, float]:
    return {code: value[label] for code, label in enumerate(labels) if label in value}


def _grid(grid: Any, labels: list[Any]) -> Any:
    if isinstance(grid, list | tuple):
        return [_grid(one, labels) for one in grid]
    if not isinstance(grid, Mapping):
        return grid
    return {path: _tried(path, values, labels) for path, values in grid.items()}


def _tried(path: str, values: Any, labels: list[Any]) -> Any:
    if last_name(path) != "class_weight" or not isinstance(values, list | tuple):
        return values
    return [_weights(v, labels) if isinstance(v, Mapping) else v for v in values]


def _check_priors(path: str, value: Any, labels: list[Any]) -> None:
    if len(value) != len(labels):
        raise DataError(
            f"{path} has {len(value)} entries, but the rows of this shard show {len(labels)} classes ({labels}), so it "
            "is open which entries they mean. Nothing was changed. Use fewer shards or slices, or no priors."
        )


def _is_label(model: Any, name: str, value: Any) -> bool:
    if name == "pos_label":
        return True
    return (type(model).__name__, name) in SINGLE_LABELS and not (isinstance(value, str) and value == "most_frequent")


def _code(path: str, value: Any, labels: list[Any]) -> int:
    if value not in labels:
        raise DataError(
            f"{path}={value!r} names a class that the rows of this shard lack (they show {labels}). "
            "Nothing was changed. Use fewer shards, or another label."
        )
    return labels.index(value)
