"""What all scikit-learn learners share: the configuration, a prepared clone for each step, predictions, one part."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from unlearnkit.fingerprints import fingerprint
from unlearnkit.learner import Batch, Capabilities, Step
from unlearnkit.parts import pack_json
from unlearnkit.threads import one_thread
from unlearnkit.typing import AnyArray, Features, FloatArray
from unlearnkit_sklearn.labels import translate
from unlearnkit_sklearn.params import pin
from unlearnkit_sklearn.storage import Storage, parts_named
from unlearnkit_sklearn.vocabulary import fill_vocabularies

# Raised when the same parameters would come to train another model.
SCHEME = 2
MODEL = "model"
_held = threading.local()


def digest(*parts: Any) -> str:
    """A fingerprint of several."""
    return hashlib.sha256(pack_json([SCHEME, *parts])).hexdigest()


@contextmanager
def sequential() -> Iterator[None]:
    """One thread for BLAS, OpenMP and joblib: their number changes the last bits of float32 products and sums."""
    from joblib import parallel_config

    if is_sequential():
        yield
        return
    with parallel_config(backend="sequential"), one_thread():
        _held.here = True
        try:
            yield
        finally:
            _held.here = False


def is_sequential() -> bool:
    """Whether this thread is inside `sequential`."""
    return bool(getattr(_held, "here", False))


class SklearnLearner:
    """Base of the learners of this adapter: it knows all but how to train.

    Parameters
    ----------
    model : estimator
        Cloned, never changed.
    capabilities : Capabilities
    """

    def __init__(self, model: Any, capabilities: Capabilities) -> None:
        from sklearn.base import clone

        self.capabilities = capabilities
        self.fingerprint = digest(type(self).__name__, fingerprint(model))
        self.model = clone(model)

    @property
    def is_classifier(self) -> bool:
        """Whether targets are class codes."""
        return self.capabilities.task == "classification"

    @property
    def storage(self) -> Storage:
        """How states are stored."""
        return Storage(self.model)

    def prepared(self, batch: Batch, step: Step) -> Any:
        """An unfitted clone with seeds set, labels as codes, and encoders that know the vocabularies of the schema."""
        from sklearn.base import clone

        model = clone(self.model)
        if batch.classes is not None:
            translate(model, batch.classes)
        pin(model, step, batch.y)
        fill_vocabularies(model, batch.X)
        return model

    def train(self, state: Any, batch: Batch, step: Step) -> Any:
        """Train a step; each learner in its own way."""
        raise NotImplementedError

    @contextmanager
    def sharing(self, X: Features) -> Iterator[Features]:
        """The rows as they are, and one thread for the predictions of all states."""
        with sequential():
            yield X

    def predict(self, state: Any, X: Features) -> FloatArray:
        """Probabilities, one-hot votes, or values."""
        if is_sequential():
            return self.answer(state, X)
        with sequential():
            return self.answer(state, X)

    def answer(self, model: Any, X: Features) -> FloatArray:
        """What a fitted estimator predicts, in the form that the core wants."""
        if self.capabilities.probabilities:
            return np.asarray(model.predict_proba(X))
        predicted = np.asarray(model.predict(X))
        return np.eye(len(model.classes_))[predicted] if self.is_classifier else predicted

    def save(self, state: Any) -> dict[str, bytes]:
        """The estimator as one part."""
        return {MODEL: self.storage.dump(state)}

    def load(self, parts: Mapping[str, bytes]) -> Any:
        """The estimator behind the part."""
        (data,) = parts_named(parts, MODEL)
        return checked(self.storage.load(data), self.model)


def checked(state: Any, model: Any) -> Any:
    """`state`, if it is an estimator of the type of `model`.

    Raises
    ------
    StateError
        If it is anything else.
    """
    from unlearnkit_sklearn.archives import broken

    if type(state) is not type(model):
        raise broken(f"is a {type(state).__name__} where a {type(model).__name__} was expected")
    return state


def weights_of(batch: Batch, start: int = 0) -> dict[str, AnyArray]:
    """The keyword argument for the weights from row `start` on; none for a batch without weights."""
    return {} if batch.sample_weight is None else {"sample_weight": batch.sample_weight[start:]}


def codes_of_batch(batch: Batch) -> AnyArray:
    """The class codes 0..k-1."""
    assert batch.classes is not None
    return np.arange(len(batch.classes))
