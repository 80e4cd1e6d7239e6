"""Fitted estimators as bytes and back: skops with an allow-list, in canonical form."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearnkit.errors import CapabilityError, StateError
from unlearnkit.parts import unpack_array
from unlearnkit_sklearn import archives, trees, usercode
from unlearnkit_sklearn.allowed import ALLOWED
from unlearnkit_sklearn.canonical import SCHEMA, canonical, nodes


@dataclass(frozen=True)
class Storage:
    """How the states of one wrapped model are stored.

    Attributes
    ----------
    model : estimator
        Its parameters say which functions and classes of the user may stand in a state.
    """

    model: Any

    def dump(self, value: Any) -> bytes:
        """`value` as bytes; equal values give equal bytes, in every process.

        Raises
        ------
        CapabilityError
            If it holds an object that could not be read back safely.
        """
        import skops.io

        codes = usercode.codes_of(self.model)
        try:
            data = canonical(skops.io.dumps(value), codes)
        except TypeError as error:
            raise _unstorable(self.model, str(error)) from error
        unknown = set(skops.io.get_untrusted_types(data=data)) - ALLOWED - _names(codes)
        if unknown:
            raise _unstorable(self.model, f"it keeps {', '.join(sorted(unknown))}")
        return data

    def load(self, data: bytes) -> Any:
        """The value behind `dump`. Nothing named in the bytes is imported that the allow-list lacks.

        Raises
        ------
        StateError
            If the bytes are not such a value.
        """
        import skops.io

        members = archives.unpack(data)
        schema = _schema(members)
        codes = usercode.codes_of(self.model)
        try:
            trusted = sorted(_named(schema) & (ALLOWED | _names(codes)))
            _check_arrays(members)
            _check_trees(schema, members)
            with usercode.known(codes):
                return skops.io.loads(data, trusted=trusted)
        except StateError:
            raise
        except Exception as error:
            # Whatever a crafted schema makes skops or a type's __setstate__ raise, it is a bad state.
            raise archives.broken(f"cannot be read ({type(error).__name__}: {error})") from error


def _names(codes: Mapping[str, Any]) -> set[str]:
    return {f"{usercode.__name__}.{name}" for name in codes}


def _named(schema: Any) -> set[str]:
    return {f"{node['__module__']}.{node['__class__']}" for node in nodes(schema)}


def _schema(members: Mapping[str, bytes]) -> Any:
    try:
        return json.loads(members[SCHEMA])
    except (KeyError, ValueError, RecursionError) as error:
        raise archives.broken("has no readable schema") from error


def _check_arrays(members: Mapping[str, bytes]) -> None:
    for name, content in members.items():
        if name.endswith(".npy"):
            archives.check_npy(content)
        elif name.endswith(".npz"):
            for inner in archives.unpack(content).values():
                archives.check_npy(inner)


def _check_trees(schema: Any, members: Mapping[str, bytes]) -> None:
    for node in nodes(schema):
        if node["__loader__"] == "TreeNode":
            content = node["content"]["content"]
            array = unpack_array(members[content["nodes"]["file"]])
            n_features = json.loads(node["__reduce__"]["args"]["content"][0]["content"])
            trees.check_nodes(array, np.asarray([len(array)]), n_features)
        elif node["__class__"] == "TreePredictor":
            content = node["content"]["content"]
            trees.check_predictor(unpack_array(members[content["nodes"]["file"]]))


def _unstorable(model: Any, why: str) -> CapabilityError:
    return CapabilityError(
        f"A fitted {type(model).__name__} cannot be stored without pickle: {why}. Nothing was changed. "
        "Leave that part out, or use another model."
    )


def parts_named(parts: Mapping[str, bytes], *expected: str) -> Iterator[bytes]:
    """The parts with these names, if there are no others.

    Raises
    ------
    StateError
        If parts are missing or foreign.
    """
    if set(parts) != set(expected):
        raise archives.broken(f"has the parts {sorted(parts)} instead of {sorted(expected)}")
    return iter([parts[name] for name in expected])
