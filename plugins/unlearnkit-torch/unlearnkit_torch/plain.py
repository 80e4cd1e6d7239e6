"""A plain model by the learner of the SISA one: a single step with the whole budget."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from unlearnkit.learner import Batch, Step
from unlearnkit.typing import AnyArray
from unlearnkit_torch.learner import TorchLearner, TorchState

if TYPE_CHECKING:
    from unlearnkit_torch.model import TorchModel


def fit_plain(model: TorchModel, X: AnyArray, y: AnyArray, sample_weight: Any) -> tuple[TorchLearner, TorchState]:
    """The learner of `model`, and its state after all rows at once."""
    learner = TorchLearner(model)
    classes = getattr(model, "classes_", None) if learner.capabilities.task == "classification" else None
    seed = np.random.SeedSequence().generate_state(1)[0] % 2**31 if model.random_state is None else 0
    step = Step(shard=0, slice=0, start=Fraction(0), stop=Fraction(1), epochs=Fraction(1), seed=int(seed))
    return learner, learner.train(None, _batch(X, y, sample_weight, classes), step)


def _batch(X: AnyArray, y: AnyArray, sample_weight: Any, classes: AnyArray | None) -> Batch:
    weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    targets = y.astype(np.float64 if classes is None else np.int64)
    return Batch(
        X=X, y=targets, sample_weight=weight, n_old=0, classes=classes, u=np.zeros(len(y)), X_shard=X, scratch={}
    )
