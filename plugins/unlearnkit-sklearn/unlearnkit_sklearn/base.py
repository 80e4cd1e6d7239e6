"""What all scikit-learn learners share: the configuration, a prepared clone for each step, predictions, one part."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
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
from unlearnkit_sklearn.usercode import codes_of
from unlearnkit_sklearn.vocabulary import fill_vocabularies

# Raised when the same parameters would come to train another model.
SCHEME = 2
MODEL = "model"
_held = threading.local()


def digest(*parts: Any) -> str:
    """A fingerprint of several."""
    return hashlib.sha256(pack_json([SCHEME, *parts])).hexdigest()


@dataclass(frozen=True, slots=True)
class Finite:
    """Rows that were looked at, so that nobody has to do so for each state again.

    Attributes
    ----------
    rows : ndarray
        Of finite numbers, which stay so as float32, as which trees read them.
    """

    rows: AnyArray


# Of a sum of squares: the root of it is far below the largest float32.
_SMALL = 1e30


def are_finite(X: Features) -> bool:
    """Whether these are rows for `Finite`, as far as one sum tells: not if they are no floats in an array, or large."""
    return isinstance(X, np.ndarray) and X.dtype.kind == "f" and float(np.vdot(X, X)) < _SMALL


@contextmanager
def sequential(*, finite: bool = False) -> Iterator[None]:
    """One thread for BLAS, OpenMP and joblib: their number changes the last bits of float32 products and sums.

    Where all rows are known to be `finite`, estimators do not look at them again.
    """
    from joblib import parallel_config
    from sklearn import config_context

    if is_sequential(finite=finite):
        yield
        return
    before = getattr(_held, "finite", None)
    # What the user has set stays, unless these rows are asked about in the middle of others that were looked at.
    looking = config_context(assume_finite=finite) if finite or before else nullcontext()
    with parallel_config(backend="sequential"), one_thread(), looking:
        _held.finite = finite
        try:
            yield
        finally:
            _held.finite = before


def is_sequential(*, finite: bool = False) -> bool:
    """Whether this thread is inside `sequential`, for rows that are `finite` or not."""
    return getattr(_held, "finite", None) is finite


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
        # What the parts of a compound, or functions of the user's, hand on nobody has looked at.
        self._is_simple = type(model).__module__.startswith("sklearn.") and [*codes_of(model).values()] == [type(model)]

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
        """The rows, looked at once, and one thread for the predictions of all states."""
        # By now: threads of BLAS that have helped to look would wait for more, each on a processor that is wanted here.
        with one_thread():
            finite = self._is_simple and are_finite(X)
            with sequential(finite=finite):
                yield Finite(X) if finite else X

    def predict(self, state: Any, X: Any) -> FloatArray:
        """Probabilities, one-hot votes, or values."""
        finite = isinstance(X, Finite)
        rows = X.rows if finite else X
        if is_sequential(finite=finite):
            return self.answer(state, rows)
        with sequential(finite=finite):
            return self.answer(state, rows)

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
