"""Running a case: train, forget, repair, and compare with a model that was fitted apart."""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from unlearnkit.demo.cases import Case
from unlearnkit.demo.data import Data, split
from unlearnkit.errors import MissingPluginError, UnlearnKitError
from unlearnkit.estimators import wrap
from unlearnkit.threads import one_thread
from unlearnkit.typing import AnyArray, BoolArray

Outcome: TypeAlias = Literal["exact", "differs", "not installed", "failed"]


@dataclass(frozen=True)
class Numbers:
    """What was measured for one case: scores on held-out rows, and times.

    Attributes
    ----------
    score : {"accuracy", "R2"}
    n_shards, n_slices, n_records, n_forgotten : int
    plain_score, sisa_score : float
        Before forgetting.
    isolated_ms : float
        Milliseconds until nothing served or stored was influenced by the forgotten records.
    repair_s : float
        Seconds to train the missing steps.
    retrain_s : float
        Seconds to train the plain model on the remaining records.
    rebuild_s : float
        Seconds to build the whole SISA model on the remaining records.
    same_digest, same_predictions : bool
        Whether the repaired model equals the one built apart.
    """

    score: str
    n_shards: int
    n_slices: int
    n_records: int
    n_forgotten: int
    plain_score: float
    sisa_score: float
    isolated_ms: float
    repair_s: float
    retrain_s: float
    rebuild_s: float
    same_digest: bool
    same_predictions: bool


@dataclass(frozen=True)
class Line:
    """The outcome of one case; `numbers` is None, and `reason` says why, where nothing could be measured."""

    model: str
    data: str
    outcome: Outcome
    reason: str = ""
    numbers: Numbers | None = None


def run(cases: Sequence[Case], started: Callable[[str], None] = lambda _: None) -> Iterator[Line]:
    """The line of each case, one after the other.

    Parameters
    ----------
    cases : sequence of Case
    started : callable
        Told the name of each model before its turn.
    """
    for case in cases:
        started(case.model)
        yield _line(case)


def _line(case: Case) -> Line:
    missing = [name for name in case.needs if importlib.util.find_spec(name) is None]
    if missing:
        return Line(case.model, "", "not installed", f"pip install 'unlearnkit[{case.extra}]'")
    try:
        data = case.load()
        numbers = measure(case, data)
    except MissingPluginError as error:
        return Line(case.model, "", "not installed", str(error))
    except Exception as error:  # noqa: BLE001  # a broken framework may raise anything, and must not stop the others
        kind = "" if isinstance(error, UnlearnKitError) else f"{type(error).__name__}: "
        return Line(case.model, "", "failed", kind + str(error).strip().partition("\n")[0])
    exact = numbers.same_digest and numbers.same_predictions
    return Line(case.model, data.name, "exact" if exact else "differs", numbers=numbers)


def measure(case: Case, data: Data) -> Numbers:
    """Train, forget, and compare.

    Parameters
    ----------
    case : Case
    data : Data
    """
    # One thread for the plain models too: SISA steps always have one.
    with one_thread(), warnings.catch_warnings():
        # Whether a small network has converged is not what is shown here.
        warnings.simplefilter("ignore")
        return _measure(case, *split(data))


def _measure(case: Case, train: Data, test: Data, gone: BoolArray) -> Numbers:
    kept, model = train.take(~gone), case.build(train)
    plain = Plain(model, train)
    sisa = wrap(model, n_shards=case.n_shards, n_slices=case.n_slices, random_state=0)
    sisa.fit(train.X, train.y, ids=train.ids)
    scores = plain.score(test), sisa.score(test.X, test.y)
    receipt, isolated = timed(lambda: sisa.forget(train.handles[gone], repair=False))
    _, repair = timed(sisa.repair)
    _, retrain = timed(lambda: Plain(model, kept))
    reference, rebuild = timed(lambda: sisa.pinned().fit(kept.X, kept.y, ids=kept.ids))
    return Numbers(
        score="accuracy" if train.task == "classification" else "R2",
        n_shards=case.n_shards,
        n_slices=sisa.partition_.n_slices,
        n_records=len(train.y),
        n_forgotten=receipt.n_records,
        plain_score=scores[0],
        sisa_score=scores[1],
        isolated_ms=1000 * isolated,
        repair_s=repair,
        retrain_s=retrain,
        rebuild_s=rebuild,
        same_digest=sisa.model_digest_ == reference.model_digest_,
        same_predictions=np.array_equal(outputs(sisa, test.X), outputs(reference, test.X)),
    )


class Plain:
    """The bare model, fitted. It is given class codes, since not every framework takes labels.

    Parameters
    ----------
    model : object
    data : Data
    """

    def __init__(self, model: Any, data: Data) -> None:
        from sklearn.base import clone

        self.labels: AnyArray | None = None
        y = data.y
        if data.task == "classification":
            self.labels, y = np.unique(y, return_inverse=True)
        self.model = clone(model).fit(data.X, y)

    def score(self, data: Data) -> float:
        """Accuracy, or R2."""
        from sklearn.metrics import r2_score

        predicted = self.model.predict(data.X)
        if self.labels is None:
            return float(r2_score(data.y, predicted))
        return float(np.mean(self.labels[predicted] == data.y))


def outputs(model: Any, X: Any) -> AnyArray:
    """Probabilities where the model has them, else predictions."""
    return np.asarray((model.predict_proba if hasattr(model, "predict_proba") else model.predict)(X))


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` returns, and the seconds it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start
