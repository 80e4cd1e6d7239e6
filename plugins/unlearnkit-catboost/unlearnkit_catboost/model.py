"""A trained model as named parts: where its scores start, and for each step the trees that it added.

The scores of the steps add up, so a step costs the store no more than its own trees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from unlearnkit.errors import StateError
from unlearnkit.parts import pack_json, unpack_json
from unlearnkit.typing import FloatArray
from unlearnkit_catboost.matrix import Matrix

if TYPE_CHECKING:
    from catboost import CatBoost

START = "start"
_MAGIC = b"unlearnkit-catboost 1\n"
_DIGEST = hashlib.sha256().digest_size
_MAX_SCORES = 1 << 16


@dataclass(frozen=True)
class Trees:
    """The trees of all steps so far; their scores add up.

    Attributes
    ----------
    start : tuple of float
        The scores before the first tree.
    blocks : tuple of bytes
        The trees that each step added, in CatBoost's own format.
    """

    start: tuple[float, ...]
    blocks: tuple[bytes, ...] = ()

    @cached_property
    def models(self) -> tuple[CatBoost, ...]:
        """The native models of the steps.

        Raises
        ------
        StateError
            If the bytes are no CatBoost model.
        """
        return tuple(map(_decoded, self.blocks))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the decoded models behind: the bytes say it all."""
        return {"start": self.start, "blocks": self.blocks}

    def grown(self, model: CatBoost) -> Trees:
        """With the trees of one more step."""
        return Trees(self.start, (*self.blocks, _encoded(model)))

    def scores(self, X: Matrix, *, threads: int = 1, after: int = 0, onto: FloatArray | None = None) -> FloatArray:
        """The scores of shape (n, s) of the rows of X.

        Parameters
        ----------
        X : Matrix
        threads : int
            Never changes a bit.
        after, onto : int, ndarray or None
            The scores of the first so many steps, if they are known.
        """
        n = X.values.shape[0]
        total: FloatArray = np.tile(self.start, (n, 1)) if onto is None else onto
        if n == 0 or not self.blocks[after:]:
            return total
        pool = X.pool()
        for model in self.models[after:]:
            total = total + self._of(model, pool, total.shape, threads)
        return total

    def _of(self, model: CatBoost, pool: Any, shape: tuple[int, ...], threads: int) -> FloatArray:
        scores: FloatArray = model.predict(pool, prediction_type="RawFormulaVal", thread_count=threads)
        if scores.size != shape[0] * shape[1]:
            raise nonsense("its steps do not belong together")
        return scores.reshape(shape)

    def parts(self) -> dict[str, bytes]:
        """One part for each step, and one for where the scores start."""
        return {START: pack_json(list(self.start))} | {_name(i): block for i, block in enumerate(self.blocks)}

    @classmethod
    def from_parts(cls, parts: Mapping[str, bytes]) -> Trees:
        """The state behind the parts, whose trees are decoded when they are first used.

        Raises
        ------
        StateError
            If parts are missing, too many or damaged.
        """
        names = [_name(i) for i in range(len(parts) - 1)]
        if parts.keys() != {START, *names}:
            raise nonsense("parts are missing, or of another model")
        blocks = tuple(parts[name] for name in names)
        for block in blocks:
            _unframed(block)
        return cls(_start(parts[START]), blocks)


def nonsense(what: str) -> StateError:
    """The error for bytes that are no state of this plugin."""
    return StateError(
        f"A stored part is not a CatBoost model ({what}); nothing in it was used. Rebuild the state from its records."
    )


def _name(step: int) -> str:
    return f"trees-{step:05}"


def _start(part: bytes) -> tuple[float, ...]:
    start = unpack_json(part)
    if not isinstance(start, list) or not 1 <= len(start) <= _MAX_SCORES:
        raise nonsense("its scores start nowhere")
    if not all(type(score) is float and np.isfinite(score) for score in start) or pack_json(start) != part:
        raise nonsense("its scores start nowhere")
    return tuple(start)


def _encoded(model: CatBoost) -> bytes:
    """The bytes of the model alone: not when it was made, by which random name, nor how its loss went."""
    metadata = model.get_metadata()
    for name in list(metadata):
        del metadata[name]
    body: bytes = model._serialize_model()  # noqa: SLF001 - the public way leads through a file
    return _MAGIC + hashlib.sha256(body).digest() + body


def _decoded(block: bytes) -> CatBoost:
    from catboost import CatBoost, CatBoostError

    model = CatBoost()
    try:
        model.load_model(blob=_unframed(block))
    except CatBoostError as error:
        raise nonsense("CatBoost refuses it") from error
    return model


def _unframed(block: bytes) -> bytes:
    """The native bytes, if they are as they were written: CatBoost's own reader crashes on damaged ones."""
    head = len(_MAGIC) + _DIGEST
    body = block[head:]
    if block[:head] != _MAGIC + hashlib.sha256(body).digest():
        raise nonsense("it is damaged, or was written by something else")
    return body
