"""The learner: every step trains its own small booster on the scores of those before it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np

from unlearnkit.carried import parameter_leaks
from unlearnkit.errors import UnsupportedModelError
from unlearnkit.fingerprints import NEUTRAL, fingerprint
from unlearnkit.learner import Batch, Capabilities, Leak, PredictAll, Step
from unlearnkit.typing import AnyArray, BoolArray, Features, FloatArray, Task
from unlearnkit_lightgbm import joint, text, warm
from unlearnkit_lightgbm.matrix import numbers
from unlearnkit_lightgbm.parameters import neutral, spellings
from unlearnkit_lightgbm.settings import Settings, read
from unlearnkit_lightgbm.shard import Shard
from unlearnkit_lightgbm.state import Edges, Trees

RECOMMENDED_SLICES = 5
HELD_OUT = 0.1
# Changes when the same parameters would train other trees.
_METHOD = b"unlearnkit-lightgbm additive 3:"


@dataclass(frozen=True)
class LightGBMLearner:
    """A LightGBM classifier or regressor as a sum of small boosters, one for each slice.

    With one slice it trains what the bare estimator trains, bit for bit, given ``random_state=step.seeded(...)``,
    ``n_jobs=1``, ``deterministic=True`` and ``force_row_wise=True``.
    """

    settings: Settings
    fingerprint: str
    leaks: tuple[Leak, ...] = ()

    @classmethod
    def of(cls, model: Any) -> LightGBMLearner:
        """The learner for an estimator, which is read and left as it is.

        Raises
        ------
        UnsupportedModelError
            For a ranker, a bare `LGBMModel`, or a subclass with a `fit` or `predict` of its own.
        CapabilityError
            For a parameter that could not keep its meaning.
        """
        settings = read(model, _task(model))
        identity = fingerprint(model, neutral=NEUTRAL | neutral())
        leaks = tuple(parameter_leaks(model, "estimator", learned=spellings("feature_contri")))
        return cls(settings, hashlib.sha256(_METHOD + identity.encode()).hexdigest(), leaks)

    @property
    def capabilities(self) -> Capabilities:
        """Resumable, unless a parameter concerns the whole model at once."""
        whole_only, rounds = self.settings.whole_only, self.settings.rounds
        return Capabilities(
            task=self.settings.task,
            resumable=not whole_only,
            max_slices=1 if whole_only else rounds,
            why_limited=whole_only or "every slice needs a tree of its own",
            recommended_slices=1 if whole_only else min(RECOMMENDED_SLICES, rounds),
            probabilities=self.settings.task == "classification",
            sample_weight=True,
            missing_values=True,
            sparse=True,
            frames=True,
            categorical=True,
            parallel="threads",
            leaks=self.leaks,
        )

    def train(self, state: Trees | None, batch: Batch, step: Step) -> Trees:
        """Add this step's trees. Bin edges come from the prefix at the first step, and again where they are renewed."""
        rounds = step.units(self.settings.rounds)
        if state is not None and not rounds:
            return state
        fresh = state is None or batch.n_old == 0 or step.renews_edges
        edges = Edges(len(batch.y), step.seeded(self.settings.seed)) if state is None or fresh else state.edges
        shard = Shard(batch, step, self.settings, edges, fresh=fresh)
        header, block = self._boost(shard, state, batch, step, rounds)
        return Trees(header, (*(state.blocks if state else ()), block), edges)

    def _boost(self, shard: Shard, state: Trees | None, batch: Batch, step: Step, rounds: int) -> tuple[bytes, bytes]:
        scores = shard.scores(state)
        n_classes = None if batch.classes is None else len(batch.classes)
        params = self.settings.training(step, n_classes, goes_on=scores is not None)
        if scores is not None:
            params["boost_from_average"] = False
        held = self._held_out(batch)
        if held is None:
            rows, valid = shard.rows(None, scores), None
        else:
            rows, valid = shard.rows(~held, scores), [shard.rows(held, scores)]
            params |= self.settings.stopping
        params |= self.settings.bagging(step, rows.num_data())
        booster = lightgbm.train(params, rows, rounds, valid_sets=valid, keep_training_booster=True)
        return text.split(booster.model_to_string())

    def _held_out(self, batch: Batch) -> BoolArray | None:
        """The rows that decide when to stop: a keyed hash of the record's own id picks them."""
        held: BoolArray = batch.u < HELD_OUT
        return held if self.settings.stopping and held.any() and not held.all() else None

    def sharing(self, X: Features) -> AbstractContextManager[Any]:
        """The rows as numbers: else LightGBM would convert them anew for every state."""
        return nullcontext(numbers(X))

    def predict(self, state: Trees, X: Features) -> FloatArray:
        """Probabilities (n, k), or values (n,)."""
        values = _values(state.booster, X)
        return _both(values) if self.settings.task == "classification" and values.ndim == 1 else values

    def joined(self, states: Sequence[Trees]) -> PredictAll | None:
        """One booster with an output for each state; see `unlearnkit_lightgbm.joint`."""
        booster = joint.of(states)
        if booster is None:
            return None
        answer = _both if self.settings.task == "classification" else np.asarray
        return lambda X: answer(_values(booster, X).T)

    def save(self, state: Trees) -> dict[str, bytes]:
        """The header, the trees of each step and the origin of the bin edges."""
        return state.parts()

    def load(self, parts: Mapping[str, bytes]) -> Trees:
        """The state behind the parts; the trees are checked in full when they are first used."""
        return Trees.from_parts(parts)

    def pack_base(self, base: Any, n_features: int, labels: AnyArray | None) -> dict[str, bytes]:
        """The trees of a fitted LightGBM estimator or Booster; see `unlearnkit_lightgbm.warm`."""
        return warm.pack(base, self.settings, n_features, labels)

    def start(self, base: Mapping[str, bytes], classes: AnyArray | None) -> Trees:
        """The trees of the base that speak of these classes, as if a step had trained them."""
        return warm.start(base, self.settings, classes)


def _values(booster: lightgbm.Booster, X: Features) -> FloatArray:
    # One thread: LightGBM's number of threads is global, and a training in another thread must not see it change.
    values: Any = booster.predict(numbers(X), num_iteration=-1, num_threads=1)
    found: FloatArray = values
    return found


def _both(positive: FloatArray) -> FloatArray:
    """The probabilities of two classes, as the last axis, from those of the second."""
    probabilities = np.empty((*positive.shape, 2))
    np.subtract(1.0, positive, out=probabilities[..., 0])
    probabilities[..., 1] = positive
    return probabilities


_TASKS: tuple[tuple[Any, Task], ...] = (
    (lightgbm.LGBMClassifier, "classification"),
    (lightgbm.LGBMRegressor, "regression"),
)
_METHODS = ("fit", "predict", "predict_proba", "_process_params")


def _task(model: Any) -> Task:
    for kind, task in _TASKS:
        if isinstance(model, kind):
            own = [name for name in _METHODS if getattr(type(model), name, None) is not getattr(kind, name, None)]
            if own:
                raise _unsupported(model, f"has its own {own[0]}, which training by slices would pass by")
            return task
    raise _unsupported(model, "is neither an LGBMClassifier nor an LGBMRegressor")


def _unsupported(model: Any, reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{type(model).__qualname__} {reason}; nothing was changed. Pass an LGBMClassifier or an LGBMRegressor."
    )
