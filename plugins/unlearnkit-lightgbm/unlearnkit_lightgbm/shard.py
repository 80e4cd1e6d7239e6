"""The rows of one shard as LightGBM trains on them: binned once, scored once, kept in the scratch of the build."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

import lightgbm
import numpy as np
from sklearn.utils.class_weight import compute_sample_weight

from unlearnkit.learner import RENEW_EDGES_AT, Batch, Step
from unlearnkit.typing import BoolArray, FloatArray
from unlearnkit_lightgbm import bins
from unlearnkit_lightgbm.matrix import Matrix, encode
from unlearnkit_lightgbm.settings import Settings
from unlearnkit_lightgbm.state import Edges, Trees, decode

# Slices are of about equal size, never quite.
MARGIN = Fraction(11, 10)


@dataclass(frozen=True)
class Shard:
    """A batch, binned by some edges.

    The step of a whole budget trains on the Dataset that its edges come from; any other on a subset of the shard's,
    which is binned by them. Where edges cannot be had alone, a step that takes `fresh` ones trains on their Dataset,
    too. What a step trains on depends on the step and the kind of its rows, never on what scratch holds.
    """

    batch: Batch
    step: Step
    settings: Settings
    edges: Edges
    fresh: bool

    def __post_init__(self) -> None:
        if self.fresh:
            # A Dataset that was trained on keeps the scores it started from.
            for name in ("prefix", "shard"):
                self.batch.scratch.pop(name, None)

    def rows(self, mask: BoolArray | None, scores: FloatArray | None) -> lightgbm.Dataset:
        """The prefix, or the rows of it under a mask, with targets, weights and the scores to go on from."""
        own = self.fresh and not self._edges_alone
        dataset = self._cached("prefix", self._bin_prefix) if own else self._binned_shard()
        if mask is not None or not own:
            dataset = dataset.subset([], params=self._params())
            # To be given here they would have to be a list, whose numbers take more than the binned rows.
            chosen: Any = np.arange(len(self.batch.y)) if mask is None else np.flatnonzero(mask)
            dataset.used_indices = chosen.astype(np.int32)
            dataset.construct()
        y, weight, start = (a if a is None or mask is None else a[mask] for a in (self.batch.y, self._weight(), scores))
        return dataset.set_label(y).set_weight(weight).set_init_score(start)

    def scores(self, state: Trees | None) -> FloatArray | None:
        """The raw scores of the prefix, added up step by step; None where nothing was trained yet."""
        if state is None:
            return None
        header, blocks, total = self.batch.scratch.get("scores", (b"", (), None))
        if header != state.header or blocks != state.blocks[: len(blocks)]:
            blocks, total = (), None
        for block in state.blocks[len(blocks) :]:
            part = decode(state.header, (block,)).predict(self._matrix().values, raw_score=True, num_threads=1)
            total = part if total is None else total + part
        self.batch.scratch["scores"] = (state.header, state.blocks, total)
        return None if total is None else total[: len(self.batch.y)]

    def _matrix(self) -> Matrix:
        scratch = self.batch.scratch
        if "matrix" not in scratch:
            scratch["matrix"] = encode(self.batch.X_shard)
        matrix: Matrix = scratch["matrix"]
        return matrix

    def _cached(self, name: str, make: Callable[[], lightgbm.Dataset]) -> lightgbm.Dataset:
        scratch, recipe = self.batch.scratch, (self.edges, self._params())
        # A step of the whole budget bins as the bare estimator does, one that goes on from it does not.
        if name not in scratch or scratch[name][0] != recipe:
            scratch[name] = (recipe, make())
        dataset: lightgbm.Dataset = scratch[name][1]
        return dataset

    def _binned_shard(self) -> lightgbm.Dataset:
        binned = self._cached("shard", self._bin_shard)
        if binned.num_data() < len(self.batch.y):
            del self.batch.scratch["shard"]
            binned = self._cached("shard", self._bin_shard)
        return binned

    @property
    def _edges_alone(self) -> bool:
        return not self.step.whole and bins.are_enough(self._matrix().values, self.settings.params)

    def _bin_prefix(self) -> lightgbm.Dataset:
        n = self.edges.rows
        if self._edges_alone:
            return bins.edges_alone(self._matrix(), n, self._categories(), self._params())
        return self._dataset(self._matrix().values[:n]).construct()

    def _bin_shard(self) -> lightgbm.Dataset:
        prefix = self._cached("prefix", self._bin_prefix)
        return self._dataset(self._matrix().values[: self._reach()], reference=prefix).construct()

    def _reach(self) -> int:
        """The rows worth binning: edges that will be renewed soon serve the rows until then, give or take a few."""
        total = int(self._matrix().values.shape[0])
        if self.step.stop >= RENEW_EDGES_AT:
            return total
        width = self.step.stop - self.step.start
        last = width * (ceil(RENEW_EDGES_AT / width) - 1)
        return min(total, max(ceil(total * last * MARGIN), len(self.batch.y)))

    def _dataset(self, values: Any, reference: lightgbm.Dataset | None = None) -> lightgbm.Dataset:
        return lightgbm.Dataset(
            values,
            np.zeros(values.shape[0], dtype=np.float32),
            reference=reference,
            feature_name=self._matrix().names,
            categorical_feature=self._categories(),
            params=self._params(),
        )

    def _categories(self) -> list[Any]:
        # As in LightGBM, category columns of a frame outdo the parameter.
        return list(self._matrix().categories or self.settings.categories)

    def _params(self) -> dict[str, Any]:
        return self.settings.binning(self.step, self.edges.seed)

    def _weight(self) -> FloatArray | None:
        given, by_class = self.batch.sample_weight, self.settings.class_weight
        if by_class is None:
            return given
        weight: FloatArray = compute_sample_weight(self._by_code(by_class), self.batch.y)
        return weight if given is None else np.multiply(given, weight)

    def _by_code(self, by_class: Mapping[Any, float] | str) -> dict[int, float] | str:
        if isinstance(by_class, str) or self.batch.classes is None:
            return str(by_class)
        labels = self.batch.classes.tolist()
        return {code: by_class[label] for code, label in enumerate(labels) if label in by_class}
