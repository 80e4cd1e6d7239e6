"""The learner: every step trains its own small model on the scores of those before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearnkit.fingerprints import NEUTRAL, fingerprint
from unlearnkit.learner import Batch, Capabilities, Step
from unlearnkit.typing import Features, FloatArray
from unlearnkit_catboost.losses import n_scores, predicted, prior
from unlearnkit_catboost.matrix import Matrix, encode
from unlearnkit_catboost.model import Trees
from unlearnkit_catboost.parameters import neutral
from unlearnkit_catboost.settings import Settings, read
from unlearnkit_catboost.training import boosted

if TYPE_CHECKING:
    from catboost import CatBoost

# To be counted up when the same parameters would lead to other trees.
_SCHEME = "catboost-1"


@dataclass(frozen=True)
class CatBoostLearner:
    """A CatBoost classifier or regressor as a sum of small models, one for each slice.

    With one slice it trains what the bare estimator trains, given ``random_seed=step.seeded(...)`` and one thread.
    """

    settings: Settings
    fingerprint: str

    @classmethod
    def of(cls, model: CatBoost) -> CatBoostLearner:
        """The learner for an estimator, which is read and left as it is.

        Raises
        ------
        UnsupportedModelError
            For a ranker, a bare ``CatBoost``, or a subclass with a `fit` or `predict` of its own.
        CapabilityError
            For a parameter that could not keep its meaning.
        """
        settings = read(model)
        return cls(settings, f"{_SCHEME}:{fingerprint(model, neutral=NEUTRAL | neutral())}")

    @property
    def capabilities(self) -> Capabilities:
        """Resumable, unless a parameter concerns the whole model at once."""
        return self.settings.capabilities

    def train(self, state: Trees | None, batch: Batch, step: Step) -> Trees:
        """Add this step's trees, trained on the prefix from the scores that the others give it."""
        if state is not None and not step.units(self.settings.iterations):
            return state
        X = self._shard(batch)
        scores = None if state is None else self._scores(state, batch, X)
        model = boosted(self.settings, batch, step, X.head(len(batch.y)), scores)
        if state is None:
            zero = [0.0] * n_scores(self.settings.loss, batch)
            state = Trees(tuple(zero if model is not None else prior(self.settings.loss, batch)))
        return state if model is None else state.grown(model)

    def _shard(self, batch: Batch) -> Matrix:
        n = batch.X_shard.shape[0]
        if batch.scratch.get("rows") != n:
            batch.scratch.update(rows=n, matrix=encode(batch.X_shard, self.settings.cat_features), scores=None)
        matrix: Matrix = batch.scratch["matrix"]
        return matrix

    def _scores(self, state: Trees, batch: Batch, X: Matrix) -> FloatArray:
        """What the trees so far say of the prefix. The whole shard is scored, so the next step has few left to ask."""
        blocks, start, known = batch.scratch.get("scores") or ((), state.start, None)
        if start != state.start or state.blocks[: len(blocks)] != blocks:
            blocks, known = (), None
        scores = state.scores(X, after=len(blocks), onto=known)
        batch.scratch["scores"] = (state.blocks, state.start, scores)
        return scores[: len(batch.y)]

    def predict(self, state: Trees, X: Features) -> FloatArray:
        """Probabilities or votes of shape (n, k), or values of shape (n,) or (n, m)."""
        scores = state.scores(encode(X, self.settings.cat_features), threads=self.settings.threads)
        return predicted(self.settings.loss, self.settings.task, scores)

    def save(self, state: Trees) -> dict[str, bytes]:
        """Where the scores start, and the trees of each step."""
        return state.parts()

    def load(self, parts: Mapping[str, bytes]) -> Trees:
        """The state behind the parts, which are checked against their digests before CatBoost sees them."""
        return Trees.from_parts(parts)
