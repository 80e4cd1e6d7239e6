"""State dicts as safetensors and JSON: byte-stable, and nothing in the bytes can execute."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from unlearnkit.errors import CapabilityError, StateError
from unlearnkit.parts import pack_json, unpack_json

_DEEPEST = 32
_LARGEST = 2**31


def pack(trees: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, bytes]:
    """Named trees of dicts, lists, numbers and tensors as parts; the tensors of each tree are a part of their own.

    Parameters
    ----------
    trees : mapping of str to tree
        Such as ``{"module": module.state_dict()}``.
    facts : mapping
        What JSON can say by itself.
    """
    parts, described = {}, {}
    for name, tree in trees.items():
        tensors: dict[str, Tensor] = {}
        described[name] = _describe(tree, tensors, name)
        parts[f"{name}.safetensors"] = safetensors.torch.save(tensors)
    return {"state.json": pack_json({"trees": described, "facts": dict(facts)}), **parts}


def unpack(parts: Mapping[str, bytes], *names: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The trees of these names and the facts behind `pack`.

    Raises
    ------
    StateError
        If a part is missing or is not what it should be.
    """
    with nonsense_is_an_error():
        described = unpack_json(parts["state.json"])
        trees = {name: _restored(described["trees"][name], parts[f"{name}.safetensors"]) for name in names}
        return trees, dict(described["facts"])


def ratio(value: Any) -> Fraction:
    """A fraction stored as ``[numerator, denominator]``, small enough for a budget.

    Raises
    ------
    StateError
        If it is anything else.
    """
    if isinstance(value, list) and [type(part) for part in value] == [int, int] and value[1] > 0:
        fraction = Fraction(*value)
        if abs(fraction) < _LARGEST:
            return fraction
    raise StateError("A stored budget is not one; the model was left as it is. Rebuild the state from its records.")


def seed(value: Any) -> int:
    """A stored seed; StateError if it is none."""
    if type(value) is int and 0 <= value < 2**63:
        return value
    raise StateError("A stored seed is not one; the model was left as it is. Rebuild the state from its records.")


@contextmanager
def nonsense_is_an_error() -> Iterator[None]:
    """Turn whatever malformed bytes provoke into a StateError."""
    try:
        yield
    except StateError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RecursionError,
        RuntimeError,
        TypeError,
        ValueError,
        safetensors.SafetensorError,
    ) as error:
        raise StateError(
            f"The stored parts are not the state of this model ({type(error).__name__}: {error}); the model was left "
            "as it is. Rebuild the state from its records."
        ) from error


def _restored(tree: Any, data: bytes) -> Any:
    tensors = safetensors.torch.load(bytes(data))
    value = _rebuild(tree, tensors, 0)
    if tensors:
        raise StateError("Stored tensors belong to nothing; the model was left as it is. Rebuild the state.")
    return value


def _describe(value: Any, tensors: dict[str, Tensor], where: str) -> Any:
    if isinstance(value, Tensor):
        while where in tensors:
            where += "'"
        # Cloned: tied weights share memory, which safetensors refuses; contiguous: layout must not reach the bytes.
        tensors[where] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": where}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {"array": _describe(torch.tensor(value), tensors, where)}
    if isinstance(value, np.generic):
        return _describe(value.item(), tensors, where)
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list | tuple):
        items = [_describe(item, tensors, f"{where}.{i}") for i, item in enumerate(value)]
        return {"list" if isinstance(value, list) else "tuple": items}
    if isinstance(value, dict):
        kind = "counter" if isinstance(value, Counter) else "dict"
        # Sorted: the same entries in another order are the same state.
        keys = sorted(value, key=lambda key: (type(key).__name__, key))
        return {kind: [[_key(key, where), _describe(value[key], tensors, f"{where}.{key}")] for key in keys]}
    raise CapabilityError(
        f"{where} is a {type(value).__name__}, which cannot be stored without pickle; nothing was stored. "
        "Use an optimizer and a scheduler whose state is made of numbers and tensors."
    )


def _key(key: Any, where: str) -> str | int:
    if type(key) in (str, int):
        return key  # type: ignore[no-any-return]
    raise CapabilityError(f"{where} has a key of type {type(key).__name__}, which cannot be stored.")


def _rebuild(value: Any, tensors: dict[str, Tensor], depth: int) -> Any:
    if depth > _DEEPEST:
        raise StateError("Stored parts are nested too deeply; the model was left as it is. Rebuild the state.")
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors.pop(content)
    if kind == "array":
        return _rebuild(content, tensors, depth + 1).numpy()
    if kind in ("list", "tuple"):
        items = [_rebuild(item, tensors, depth + 1) for item in content]
        return items if kind == "list" else tuple(items)
    if kind in ("dict", "counter"):
        pairs = {key: _rebuild(item, tensors, depth + 1) for key, item in content}
        return Counter(pairs) if kind == "counter" else OrderedDict(pairs)
    raise StateError(f"Stored parts name a kind {kind!r}; the model was left as it is. Rebuild the state.")
