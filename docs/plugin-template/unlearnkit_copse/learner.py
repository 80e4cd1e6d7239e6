"""The learner for copse models: each step grows stumps of its own, and none that is there is touched again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from copse import CopseClassifier, Stumps, grow

from unlearnkit import Batch, Capabilities, Step, fingerprint
from unlearnkit.errors import CapabilityError, ParameterError, StateError
from unlearnkit.parts import pack_array, pack_json, unpack_array, unpack_json
from unlearnkit.typing import AnyArray, Features, FloatArray

# To be counted up when the same parameters would lead to other stumps.
SCHEME = "copse-1"
ARRAYS = ("features", "cuts", "shares")


@dataclass(frozen=True)
class Wood:
    """The state: the stumps of each step so far, over so many features and classes."""

    n_features: int
    n_classes: int
    steps: tuple[Stumps, ...] = ()

    def with_step(self, stumps: Stumps) -> Wood:
        """One step further; this state stays as it is."""
        return Wood(self.n_features, self.n_classes, (*self.steps, stumps))


@dataclass(frozen=True)
class CopseLearner:
    """Trains, predicts, saves and loads for one configuration, and keeps nothing."""

    n_stumps: int
    smoothing: float
    random_state: int | None
    fingerprint: str

    @classmethod
    def of(cls, model: CopseClassifier) -> CopseLearner:
        """The learner for a model, which is read and left as it is."""
        if type(model).fit is not CopseClassifier.fit:
            raise CapabilityError(
                f"{type(model).__qualname__} has a fit of its own, which would not be called; nothing was changed. "
                "Pass a CopseClassifier."
            )
        n: Any = model.n_stumps
        if not isinstance(n, int) or n < 1:
            raise ParameterError(f"n_stumps must be a positive int, not {n!r}; nothing was changed.")
        return cls(n, model.smoothing, model.random_state, f"{SCHEME}:{fingerprint(model)}")

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return Capabilities(
            task="classification",
            resumable=True,
            max_slices=self.n_stumps,
            why_limited=f"each slice needs one of the {self.n_stumps} stumps",
            recommended_slices=min(5, self.n_stumps),
            probabilities=True,
            sample_weight=True,
            parallel="processes",
        )

    def train(self, state: Wood | None, batch: Batch, step: Step) -> Wood:
        """Grow the share of the stumps that falls to this step, on all rows so far."""
        n_classes = len(batch.classes) if batch.classes is not None else 0
        share = {"n": step.units(self.n_stumps), "seed": step.seeded(self.random_state)}
        stumps = grow(batch.X, batch.y, n_classes, **share, smoothing=self.smoothing, weight=batch.sample_weight)
        wood = Wood(batch.X.shape[1], n_classes) if state is None else state
        return wood.with_step(stumps)

    def predict(self, state: Wood, X: Features) -> FloatArray:
        """Probabilities of shape (n, k)."""
        n = sum(len(stumps.cuts) for stumps in state.steps)
        total = sum((stumps.total(X) for stumps in state.steps), np.zeros((len(X), state.n_classes)))
        probabilities: FloatArray = total / n
        return probabilities

    def save(self, state: Wood) -> dict[str, bytes]:
        """The sizes, and the arrays of each step under names of their own."""
        parts = {"sizes": pack_json([state.n_features, state.n_classes])}
        for i, stumps in enumerate(state.steps):
            parts |= {part_name(i, array): pack_array(getattr(stumps, array)) for array in ARRAYS}
        return parts

    def load(self, parts: Mapping[str, bytes]) -> Wood:
        """The state behind the parts, if it is one."""
        n_steps = (len(parts) - 1) // len(ARRAYS)
        wanted = {"sizes", *(part_name(i, array) for i in range(n_steps) for array in ARRAYS)}
        if n_steps < 1 or parts.keys() != wanted:
            raise nonsense("its parts are not complete")
        wood = Wood(*sizes(parts["sizes"]))
        for i in range(n_steps):
            arrays = [unpack_array(parts[part_name(i, array)]) for array in ARRAYS]
            wood = wood.with_step(checked(Stumps(*arrays), wood))
        return wood

    def pack_base(self, base: Any, n_features: int, labels: AnyArray | None) -> dict[str, bytes]:
        """A fitted model of copse's as parts, so that training can start from its stumps."""
        if labels is None or not is_fitted_on(base, n_features, labels):
            raise ParameterError(
                "base must be a CopseClassifier that was fitted on these features and classes; nothing was changed."
            )
        state = Wood(n_features, len(labels), (base.stumps_,))
        return self.save(state) | {"labels": pack_array(labels)}

    def start(self, base: Mapping[str, bytes], classes: AnyArray | None) -> Wood:
        """The state to train on from in a shard that sees these classes, perhaps not all of them."""
        if "labels" not in base or classes is None:
            raise nonsense("a base has labels")
        wood = self.load({name: part for name, part in base.items() if name != "labels"})
        columns = np.flatnonzero(np.isin(unpack_array(base["labels"]), classes))
        if len(columns) != len(classes) or columns.max() >= wood.n_classes:
            raise nonsense("its labels are others")
        shares = [stumps.shares[:, :, columns] for stumps in wood.steps]
        steps = [
            Stumps(stumps.features, stumps.cuts, some / some.sum(axis=2, keepdims=True))
            for stumps, some in zip(wood.steps, shares, strict=True)
        ]
        return Wood(wood.n_features, len(classes), tuple(steps))


def part_name(step: int, array: str) -> str:
    """What an array of a step is called."""
    return f"{step:05}-{array}"


def is_fitted_on(base: Any, n_features: int, labels: AnyArray) -> bool:
    """Whether this is a fitted model over so many features and these classes."""
    fitted = isinstance(base, CopseClassifier) and hasattr(base, "stumps_")
    return fitted and base.n_features_in_ == n_features and np.array_equal(base.classes_, labels)


def nonsense(what: str) -> StateError:
    """The error for parts that are no state."""
    return StateError(
        f"The stored parts are no copse ({what}); nothing in them was used. Rebuild the state from its records."
    )


def sizes(part: bytes) -> tuple[int, int]:
    """The numbers of features and classes."""
    match unpack_json(part):
        case [int(n_features), int(n_classes)] if n_features > 0 and n_classes > 0:
            return n_features, n_classes
    raise nonsense("it has no sizes")


def checked(stumps: Stumps, wood: Wood) -> Stumps:
    """The same stumps, if every row of the wood's features finds its way through them."""
    n = len(stumps.cuts) if stumps.cuts.ndim == 1 else -1
    if stumps.features.shape != (n,) or stumps.shares.shape != (n, 2, wood.n_classes):
        raise nonsense("its arrays do not belong together")
    kinds = (stumps.features.dtype.kind, stumps.cuts.dtype.kind, stumps.shares.dtype.kind)
    if n < 1 or kinds != ("i", "f", "f") or not np.isfinite(stumps.shares).all():
        raise nonsense("its arrays hold something else")
    if stumps.features.min() < 0 or stumps.features.max() >= wood.n_features:
        raise nonsense("it asks for a feature that is not there")
    return stumps
