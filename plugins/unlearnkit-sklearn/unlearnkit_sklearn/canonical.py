"""skops archives with everything taken out that differs between equal objects: times, addresses, clocks, padding."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from unlearnkit_sklearn import archives, usercode

SCHEMA = "schema.json"
# Wall-clock times, addresses, live generators, uninitialised memory, scorers: none is needed to predict or train on.
VOLATILE = frozenset(
    {
        "_best_coefs",
        "_best_intercepts",
        "_checked_cv_orig",
        "_curve_scorer",
        "_feature_subsample_rng",
        "_random_state",
        "_rng",
        "_stop_words_id",
        "cv_results_",
        "refit_time_",
        "scorer_",
    }
)
# Only of these can it matter whether two places hold one object or two equal ones. Not of arrays: whether scikit-learn
# copies one depends on how its memory came about, which is another matter in a worker process.
MUTABLE = frozenset({"DictNode", "ListNode", "ObjectNode", "RandomStateNode", "SetNode", "TreeNode"})

# Trees of neighbours count the work of their queries, at these places of their state.
COUNTING = frozenset({"KDTree", "KDTree32", "KDTree64", "BallTree", "BallTree32", "BallTree64"})
COUNTERS = slice(7, 11)

Node = dict[str, Any]


def is_node(value: Any) -> bool:
    """Whether a value of the schema describes an object."""
    return isinstance(value, dict) and isinstance(value.get("__loader__"), str)


def nodes(value: Any) -> Iterator[Node]:
    """All nodes of a schema, parents first."""
    if is_node(value):
        yield value
    if isinstance(value, dict):
        for item in value.values():
            yield from nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from nodes(item)


def canonical(data: bytes, codes: Mapping[str, Any]) -> bytes:
    """The same state as `data` in bytes that depend on the state alone.

    Parameters
    ----------
    data : bytes
        As ``skops.io.dumps`` has just written it, with the objects still alive.
    codes : mapping of str to object
        The user's functions and classes, see `usercode.codes_of`.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members[SCHEMA])
    return _Rewriter(schema, members, codes).archive()


class _Rewriter:
    """One pass over a schema, in its own order."""

    def __init__(self, schema: Node, members: Mapping[str, bytes], codes: Mapping[str, Any]) -> None:
        self.members = members
        self.code_names = {id(code): name for name, code in codes.items()}
        self.class_names = {(c.__module__, c.__name__): n for n, c in codes.items() if _is_foreign(c)}
        self.files: dict[bytes, str] = {}
        self.ids: dict[int, int] = {}
        schema = _without_volatile(schema)
        self.schema = {"__root__": schema, "protocol": schema.pop("protocol")}
        uses = Counter(n["__id__"] for n in nodes(schema) if n["__loader__"] in MUTABLE and "__id__" in n)
        self.shared = {key for key, count in uses.items() if count > 1}

    def archive(self) -> bytes:
        root = self._value(self.schema["__root__"])
        root["protocol"] = self.schema["protocol"]
        text = json.dumps(root, separators=(",", ":"), ensure_ascii=True).encode()
        return archives.pack({SCHEMA: text} | {name: content for content, name in self.files.items()})

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._value(item) for item in value]
        if not isinstance(value, dict):
            return value
        return self._node(value) if is_node(value) else {key: self._value(item) for key, item in value.items()}

    def _node(self, node: Node) -> Node:
        new = {key: self._value(item) for key, item in node.items() if key not in {"__id__", "file"}}
        if node.get("__id__") in self.shared and node["__loader__"] in MUTABLE:
            new["__id__"] = self.ids.setdefault(node["__id__"], len(self.ids) + 1)
        if "file" in node:
            new["file"] = self._file(node["file"])
        self._rename(node, new)
        _sort_sets(new)
        if node["__class__"] in COUNTING and node["__loader__"] == "ObjectNode":
            for counter in new["content"]["content"][COUNTERS]:
                counter["content"] = "0"
        return new

    def _rename(self, node: Node, new: Node) -> None:
        """Call user code by its place in the model: its own name may be a lambda's, or differ between processes."""
        if node["__loader__"] in {"FunctionNode", "TypeNode"}:
            name = self.code_names.get(node["__id__"])
        else:
            name = self.class_names.get((node["__module__"], node["__class__"]))
        if name is not None:
            new.update(__module__=usercode.__name__, __class__=name)

    def _file(self, name: str) -> str:
        content = _clean(name, self.members[name])
        ending = name.rpartition(".")[2]
        return self.files.setdefault(content, f"{len(self.files)}.{ending}")


def _is_foreign(code: Any) -> bool:
    return isinstance(code, type) and code.__module__ not in {"builtins", "numpy"}


def _without_volatile(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_volatile(item) for item in value]
    if not isinstance(value, dict):
        return value
    if is_node(value) and value["__loader__"] == "DictNode":
        keys = [key in VOLATILE for key in value["content"]]
        kinds = value["key_types"]
        kept = [kind for kind, volatile in zip(kinds["content"], keys, strict=True) if not volatile]
        content = {key: item for key, item in value["content"].items() if key not in VOLATILE}
        value = {**value, "content": content, "key_types": {**kinds, "content": kept}}
    return {key: _without_volatile(item) for key, item in value.items() if key != "_skops_version"}


def _sort_sets(node: Node) -> None:
    """Sets have the order of their hashes, which differs between processes."""
    if node["__loader__"] == "SetNode":
        node["content"].sort(key=json.dumps)
    elif node["__loader__"] == "ConstructorFromReduceNode" and node["__class__"] == "frozenset":
        node["content"]["content"][0]["content"].sort(key=json.dumps)


def _clean(name: str, content: bytes) -> bytes:
    if name.endswith(".npz"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archives.pack({member: archive.read(member) for member in archive.namelist()})
    return _without_padding(content) if name.endswith(".npy") else content


def _without_padding(content: bytes) -> bytes:
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype.names is None:
        return content
    buffer = io.BytesIO()
    np.save(buffer, without_padding(array), allow_pickle=False)
    return buffer.getvalue()


def without_padding(array: Any) -> Any:
    """A copy of a structured array in which the bytes between the fields are zero."""
    # Not zeros_like, which fills the fields alone.
    clean = np.zeros(array.shape, dtype=array.dtype)
    for name in array.dtype.names:
        clean[name] = array[name]
    return clean
