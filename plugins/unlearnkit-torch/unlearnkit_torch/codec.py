"""State dicts as safetensors and JSON: byte-stable, and nothing in the bytes can execute."""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from math import prod
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
# By the order in which the library writes them.
_DTYPES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_NAMED = {name: dtype for dtype, name in _DTYPES.items()}
with warnings.catch_warnings():
    # torch warns once in a process of memory that must not be written to. Who asks for it here only reads: so that no
    # prediction brings the warning up, it is spent here.
    warnings.simplefilter("ignore")
    torch.frombuffer(b"1", dtype=torch.uint8)
_PLACES = {dtype: place for place, dtype in enumerate(_DTYPES)}


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
        parts[f"{name}.safetensors"] = pack_tensors(tensors)
    return {"state.json": pack_json({"trees": described, "facts": dict(facts)}), **parts}


def unpack(
    parts: Mapping[str, bytes], *names: str, in_place: Collection[str] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The trees of these names and the facts behind `pack`.

    Parameters
    ----------
    parts : mapping of str to bytes
    *names : str
    in_place : collection of str
        Trees whose tensors are to lie in the memory of their part, which they keep: they must only be read.

    Raises
    ------
    StateError
        If a part is missing or is not what it should be.
    """
    with nonsense_is_an_error():
        described = unpack_json(parts["state.json"])
        trees = {
            name: _restored(described["trees"][name], parts[f"{name}.safetensors"], in_place=name in in_place)
            for name in names
        }
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


def _restored(tree: Any, data: bytes, *, in_place: bool) -> Any:
    tensors = tensors_in_place(data) if in_place else safetensors.torch.load(bytes(data))
    value = _rebuild(tree, tensors, 0)
    if tensors:
        raise StateError("Stored tensors belong to nothing; the model was left as it is. Rebuild the state.")
    return value


def pack_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    r"""Contiguous tensors on the CPU as safetensors, byte for byte as the library writes them.

    Written here, as that takes less than half the time for small tensors, and tied weights need no copies.

    Examples
    --------
    >>> pack_tensors({"bias": torch.ones(1)})[8:]
    b'{"bias":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}       \x00\x00\x80?'
    """
    if not {tensor.dtype for tensor in tensors.values()} <= _DTYPES.keys() or sys.byteorder != "little":
        return safetensors.torch.save({name: tensor.clone() for name, tensor in tensors.items()})
    header, chunks, start = {}, [], 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (_PLACES[item[1].dtype], item[0])):
        chunk = _raw(tensor)
        stop = start + len(chunk)
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, stop],
        }
        chunks.append(chunk)
        start = stop
    head = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)
    return b"".join([len(head).to_bytes(8, "little"), head, *chunks])


def tensors_in_place(data: bytes) -> dict[str, Tensor]:
    r"""The tensors of `pack_tensors`, which lie in the memory of the bytes: they must only be read.

    Raises
    ------
    StateError
        If the bytes are not such tensors, one after the other without a gap.

    Examples
    --------
    >>> tensors_in_place(pack_tensors({"bias": torch.ones(2)}))
    {'bias': tensor([1., 1.])}
    """
    with nonsense_is_an_error():
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        if sys.byteorder != "little" or not all(entry["dtype"] in _NAMED for entry in header.values()):
            return safetensors.torch.load(bytes(data))
        found, end = {}, 0
        for name, entry in header.items():
            dtype, shape, bounds = _NAMED[entry["dtype"]], entry["shape"], entry["data_offsets"]
            count = prod(shape)
            if any(type(n) is not int or n < 0 for n in shape) or bounds != [end, end + count * dtype.itemsize]:
                raise StateError("Stored tensors do not lie where they say; the model was left as it is. Rebuild it.")
            found[name] = _at(data, start + end, count, dtype).reshape(shape)
            end = bounds[1]
        if start + end != len(data):
            raise StateError("Stored tensors are of another length; the model was left as it is. Rebuild the state.")
        return found


def _at(data: bytes, start: int, count: int, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(data, dtype=dtype, count=count, offset=start) if count else torch.empty(0, dtype=dtype)


def _raw(tensor: Tensor) -> memoryview:
    flat = tensor.reshape(-1)
    # Of no more than one number, the stride may be anything.
    flat = flat.clone(memory_format=torch.contiguous_format) if len(flat) < 2 else flat  # noqa: PLR2004
    raw: memoryview = flat.view(torch.uint8).numpy().data
    return raw


def _describe(value: Any, tensors: dict[str, Tensor], where: str) -> Any:
    if isinstance(value, Tensor):
        while where in tensors:
            where += "'"
        # Contiguous: layout must not reach the bytes.
        tensors[where] = value.detach().cpu().contiguous()
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
