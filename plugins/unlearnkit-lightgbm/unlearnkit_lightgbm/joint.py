"""Many boosters as one: each is an output of a native model with as many outputs, which one call predicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

import lightgbm

from unlearnkit_lightgbm import text
from unlearnkit_lightgbm.state import Trees

# Of text, which takes some milliseconds for each and is in memory a second time then.
MAX_BYTES = 64_000_000
# What LightGBM adds to an output for this tree changes no bit of it.
_NOTHING = b"Tree=0\nnum_leaves=1\nnum_cat=0\nleaf_value=0\nis_linear=0\nshrinkage=1\n\n\n"


def of(states: Sequence[Trees]) -> lightgbm.Booster | None:
    """A model whose output i is what the booster of state i predicts, bit for bit.

    None where LightGBM has no such model (see `text.with_outputs`), where it would save nothing, or would be of more
    than `MAX_BYTES` of text.
    """
    header = text.with_outputs(states[0].header, len(states))
    alike = all(state.header == states[0].header for state in states)
    size = sum(len(block) for state in states for block in state.blocks)
    if header is None or not alike or len(states) == 1 or size > MAX_BYTES:
        return None
    for state in states:
        # Which checks its bytes in full.
        state.booster  # noqa: B018
    rounds = zip_longest(*map(_trees, states), fillvalue=_NOTHING)
    trees = [tree for of_round in rounds for tree in of_round]
    return lightgbm.Booster(model_str=text.assembled(header, list(map(len, trees)), trees))


def _trees(state: Trees) -> Iterator[bytes]:
    return (b"Tree=" + tree for block in state.blocks for tree in block.split(b"Tree=")[1:])
