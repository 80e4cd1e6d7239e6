"""Many models as one: each is a target of a native model with as many targets, which one call predicts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unlearnkit_xgboost import ubjson
from unlearnkit_xgboost.document import forest
from unlearnkit_xgboost.model import EDGES, MODEL, Model, decoded

if TYPE_CHECKING:
    from xgboost import Booster

# Of parts, which take a millisecond for each and are in memory a second time then.
MAX_BYTES = 64_000_000
# They turn each margin into a prediction by itself.
OBJECTIVES = frozenset(
    {
        *("binary:logistic", "reg:logistic", "reg:squarederror", "reg:squaredlogerror", "reg:absoluteerror"),
        *("reg:pseudohubererror", "count:poisson", "reg:gamma", "reg:tweedie"),
    }
)
_TREES, _ID = ubjson.key_bytes("trees") + b"[#L", ubjson.key_bytes("id")
_NUMBERED = re.compile(re.escape(_ID) + rb"(?:i.|I..|l.{4})", re.DOTALL)


def of(states: Sequence[Model]) -> Booster | None:
    """A model whose target i is what the booster of state i predicts, bit for bit.

    None where XGBoost has no such model: of several outputs, of another objective or booster. None, too, where it would
    save nothing, or would be of more than `MAX_BYTES`.
    """
    size = sum(len(part) for state in states for part in state.parts.values())
    if len(states) == 1 or size > MAX_BYTES or any(EDGES not in state.parts for state in states):
        return None
    for state in states:
        _ = state.booster  # checked by then: what is put together here goes to XGBoost as it is
    documents = [ubjson.read(state.parts[MODEL]) for state in states]
    intercepts = [_take_intercept(document) for document in documents]
    shared = documents[0]
    if not _single(shared) or any(ubjson.write(other) != ubjson.write(shared) for other in documents[1:]):
        return None
    shared["learner"]["learner_model_param"].update(num_target=str(len(states)), base_score=f"[{','.join(intercepts)}]")
    found = [_trees(state) for state in states]
    if any(trees is None for trees in found):
        return None
    assembled = _assembled(shared, [trees for trees in found if trees is not None])
    return None if assembled is None else decoded(assembled, states[0].nthread)


def _take_intercept(document: Any) -> str:
    taken: str = document["learner"]["learner_model_param"].pop("base_score")
    return taken.strip("[]")


def _single(document: Any) -> bool:
    learner = document["learner"]
    counts = learner["learner_model_param"]
    plain = learner["gradient_booster"]["name"] == "gbtree" and learner["objective"]["name"] in OBJECTIVES
    return plain and counts["num_class"] == "0" and counts["num_target"] == "1"


def _trees(state: Model) -> list[bytes] | None:
    """The bytes before the number of each tree, and those behind the last; None if they cannot be told.

    To read the trees and write them again would take ten times as long.
    """
    pieces = [b""]
    for step in state.steps:
        _, found, rest = step.partition(_TREES)
        n, own = int.from_bytes(rest[:8], "big"), _NUMBERED.split(rest[8:-1])
        # As many as there are trees, each of which was seen to have one: so none came about in an array of floats.
        if not found or not n == rest.count(_ID) == len(own) - 1:
            return None
        pieces[-1] += own[0]
        pieces += own[1:]
    return pieces


def _assembled(shared: Any, trees: Sequence[list[bytes]]) -> bytes | None:
    """The bytes of a model with these trees; None if it cannot be told where they belong."""
    counts = [len(pieces) - 1 for pieces in trees]
    where, n = forest(shared), sum(counts)
    where["tree_info"] = [target for target, count in enumerate(counts) for _ in range(count)]
    where["iteration_indptr"] = [0, n]
    where["gbtree_model_param"]["num_trees"] = str(n)
    empty = ubjson.write(shared)
    if empty.count(_TREES) != 1:
        return None
    head, found, rest = empty.partition(_TREES)
    out, number = [head, found, n.to_bytes(8, "big")], 0
    for first, *others in trees:
        out.append(first)
        for other in others:
            out += (_ID, b"l", number.to_bytes(4, "big"), other)
            number += 1
    return b"".join((*out, rest[8:]))
