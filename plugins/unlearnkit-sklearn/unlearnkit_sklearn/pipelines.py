"""Pipelines: transformers are fitted once, on the first slice that is trained, and frozen; the last step learns on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unlearnkit.errors import CapabilityError
from unlearnkit.fingerprints import fingerprint
from unlearnkit.learner import Batch, Learner, Step
from unlearnkit.typing import Features, FloatArray
from unlearnkit_sklearn.archives import broken
from unlearnkit_sklearn.base import digest, sequential
from unlearnkit_sklearn.labels import translate
from unlearnkit_sklearn.leaks import inner_leaks, leaks
from unlearnkit_sklearn.params import is_estimator, pin
from unlearnkit_sklearn.storage import Storage
from unlearnkit_sklearn.tags import pipeline_capabilities
from unlearnkit_sklearn.vocabulary import fill_vocabularies, refuse_open_encoders

TRANSFORMERS = "transformers"
INNER = "model/"


@dataclass(frozen=True)
class Piped:
    """The state of a pipeline.

    Attributes
    ----------
    transformers : list of (str, transformer)
        Frozen since the first step.
    data : bytes
        The same, as stored.
    inner : object
        The state of the last step's learner.
    """

    transformers: list[tuple[str, Any]]
    data: bytes
    inner: Any


class PipelineLearner:
    """A pipeline around the learner of its last step, which may be another plugin's.

    Parameters
    ----------
    model : Pipeline
    inner : Learner
        For the last step.
    """

    def __init__(self, model: Any, inner: Learner[Any]) -> None:
        from sklearn.base import clone
        from sklearn.pipeline import Pipeline

        last = inner_leaks(inner.capabilities.leaks, len(model.steps) - 1, model.steps[-1][0])
        if not model.steps[:-1]:
            # An empty pipeline does not validate: a step that does nothing stands in.
            model = Pipeline([("nothing", "passthrough"), *model.steps])
        self.model = clone(Pipeline(model.steps[:-1]))
        self.inner = inner
        known = replace(pipeline_capabilities(self.model, inner.capabilities), leaks=(*leaks(self.model), *last))
        self.capabilities = known
        self.fingerprint = digest("pipeline", fingerprint(self.model), inner.fingerprint)

    @property
    def storage(self) -> Storage:
        """How the transformers are stored."""
        return Storage(self.model)

    def train(self, state: Piped | None, batch: Batch, step: Step) -> Piped:
        """Fit the transformers if this is the first step, and train the last step's learner on what they give."""
        if state is None:
            transformers, X = self._fit(batch, step)
            data = self.storage.dump(transformers)
        else:
            transformers, data = state.transformers, state.data
            X = self._transform(transformers, batch.X)
        # Of the prefix alone, and nothing cached: the bits of a row may depend on the number of rows around it.
        inner_batch = replace(batch, X=X, X_shard=X, scratch={})
        inner = self.inner.train(None if state is None else state.inner, inner_batch, step)
        return Piped(transformers, data, inner)

    def _fit(self, batch: Batch, step: Step) -> tuple[list[tuple[str, Any]], Features]:
        from sklearn.base import clone

        pipeline = clone(self.model)
        if batch.classes is not None:
            translate(pipeline, batch.classes)
        pin(pipeline, step, batch.y)
        fill_vocabularies(pipeline, batch.X)
        # Fitted on less than all slices that there were to begin with, they would meet the rest unprepared.
        if step.stop < 1 and self.capabilities.resumable:
            refuse_open_encoders(pipeline)
        X = batch.X
        with sequential():
            for transformer in _active(pipeline.steps):
                # fit_transform, not fit and transform: they differ where targets are encoded by cross-fitting.
                X = transformer.fit_transform(X, batch.y)
        return list(pipeline.steps), _plain(X, frames=self.inner.capabilities.frames)

    def _transform(self, transformers: list[tuple[str, Any]], X: Features) -> Features:
        with sequential():
            for transformer in _active(transformers):
                X = transformer.transform(X)
        return _plain(X, frames=self.inner.capabilities.frames)

    @contextmanager
    def sharing(self, X: Features) -> Iterator[Features]:
        """The rows as they are, and one thread for the predictions of all states."""
        with sequential():
            yield X

    def predict(self, state: Piped, X: Features) -> FloatArray:
        """What the last step predicts from the transformed rows."""
        return self.inner.predict(state.inner, self._transform(state.transformers, X))

    def save(self, state: Piped) -> dict[str, bytes]:
        """The transformers, and the parts of the last step."""
        parts = self.inner.save(state.inner)
        return {TRANSFORMERS: state.data} | {INNER + name: data for name, data in parts.items()}

    def load(self, parts: Mapping[str, bytes]) -> Piped:
        """The state behind the parts."""
        if TRANSFORMERS not in parts or any(n != TRANSFORMERS and not n.startswith(INNER) for n in parts):
            raise broken(f"has the parts {sorted(parts)} instead of those of a pipeline")
        transformers = self.storage.load(parts[TRANSFORMERS])
        if not _same_steps(transformers, self.model.steps):
            raise broken("holds the transformers of another pipeline")
        inner = {n.removeprefix(INNER): data for n, data in parts.items() if n != TRANSFORMERS}
        return Piped(transformers, parts[TRANSFORMERS], self.inner.load(inner))


def wrap_pipeline(model: Any, resolve: Any) -> PipelineLearner:
    """The learner of a pipeline.

    Raises
    ------
    CapabilityError
        If it does not end with a model.
    """
    name, last = model.steps[-1]
    if last is None or last == "passthrough" or not is_estimator(last) or not hasattr(last, "predict"):
        raise CapabilityError(
            f"The last step of the pipeline, {name!r}, predicts nothing. Nothing was changed. "
            "End the pipeline with a classifier or regressor."
        )
    return PipelineLearner(model, resolve(last))


def _active(steps: list[tuple[str, Any]]) -> Iterator[Any]:
    return (step for _, step in steps if step is not None and step != "passthrough")


def _same_steps(found: Any, expected: list[tuple[str, Any]]) -> bool:
    if not isinstance(found, list) or len(found) != len(expected):
        return False
    pairs = zip(found, expected, strict=True)
    return all(isinstance(f, tuple) and f[0] == e[0] and type(f[1]) is type(e[1]) for f, e in pairs)


def _plain(X: Features, *, frames: bool) -> Features:
    """The transformed rows in a form that the core would hand to a learner."""
    import scipy.sparse

    if scipy.sparse.issparse(X):
        rows = _csr_matrix(X)
        rows.sum_duplicates()
        return rows
    if hasattr(X, "iloc") and (frames or not _is_numeric(X)):
        return X
    return np.ascontiguousarray(X)


def _csr_matrix(X: Any) -> Any:
    from scipy.sparse import csr_matrix

    return csr_matrix(X)


def _is_numeric(frame: Any) -> bool:
    return all(getattr(kind, "kind", "O") in "biuf" for kind in frame.dtypes)
