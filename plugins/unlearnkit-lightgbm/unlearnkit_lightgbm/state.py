"""The state of a sliced model: the trees of every step as text, and where the bin edges came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import lightgbm

from unlearnkit.errors import StateError
from unlearnkit.parts import pack_json, unpack_json
from unlearnkit_lightgbm import text

MAX = 2**31


@dataclass(frozen=True)
class Edges:
    """Where bin edges come from: the first `rows` of the shard, with this seed for LightGBM's sample of them."""

    rows: int
    seed: int


@dataclass(frozen=True)
class Trees:
    """The trees of all steps so far; their raw scores add up.

    Attributes
    ----------
    header : bytes
        The head of LightGBM's text, the same for all steps.
    blocks : tuple of bytes
        The trees that each step added, possibly fewer than it was asked for.
    edges : Edges
        The bin edges that the next step goes on with.
    """

    header: bytes
    blocks: tuple[bytes, ...]
    edges: Edges

    @cached_property
    def booster(self) -> lightgbm.Booster:
        """All trees as one native model.

        Raises
        ------
        StateError
            If the bytes are no LightGBM model.
        """
        return decode(self.header, self.blocks)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the decoded model behind: the bytes say it all."""
        return {"header": self.header, "blocks": self.blocks, "edges": self.edges}

    def parts(self) -> dict[str, bytes]:
        """One part for each step, one for the header that they share, one for the bin edges."""
        trees = {_name(i): block for i, block in enumerate(self.blocks)}
        return {"header": self.header, "edges": pack_json([self.edges.rows, self.edges.seed]), **trees}

    @classmethod
    def from_parts(cls, parts: Mapping[str, bytes]) -> Trees:
        """The state behind the parts; trees stay undecoded until they are used, and are checked in full then.

        Raises
        ------
        StateError
            If parts are missing, are too many, or do not look like a model.
        """
        names = [_name(i) for i in range(len(parts) - 2)]
        if not names or parts.keys() != {"header", "edges", *names}:
            msg = f"The parts {sorted(parts)} are no LightGBM state; the model was left as it is."
            raise StateError(msg)
        text.check_header(parts["header"])
        blocks = tuple(parts[name] for name in names)
        for block in blocks:
            text.check_frame(block)
        return cls(parts["header"], blocks, _edges(parts["edges"]))


def decode(header: bytes, blocks: Sequence[bytes]) -> lightgbm.Booster:
    """The native model behind some blocks of trees, checked before LightGBM reads it."""
    model = text.join(header, blocks)
    try:
        return lightgbm.Booster(model_str=model)
    except lightgbm.basic.LightGBMError as error:
        raise text.nonsense(str(error)) from error


def _edges(part: bytes) -> Edges:
    match unpack_json(part):
        case [int(rows), int(seed)] if 0 < rows < MAX and 0 <= seed < MAX and pack_json([rows, seed]) == part:
            return Edges(rows, seed)
    msg = "A stored part names no bin edges; the model was left as it is. Rebuild the state from its records."
    raise StateError(msg)


def _name(step: int) -> str:
    return f"trees-{step:04d}"
