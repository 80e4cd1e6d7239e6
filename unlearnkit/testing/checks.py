"""The checks: what every learner must do so that forgetting is exact.

Each is a plain function, named after the property, that raises AssertionError if the subject lacks it. A check of
something that the learner does not claim to do passes.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from unlearnkit.data import ShardRecords
from unlearnkit.errors import StateError
from unlearnkit.learner import Capabilities, Learner
from unlearnkit.testing.arriving import check_goes_on_beyond_the_budget
from unlearnkit.testing.joining import check_joining_changes_no_bit
from unlearnkit.testing.probes import Trap, damaged, elsewhere, pickled, same, shape_of, trapped
from unlearnkit.testing.sharing import check_sharing_changes_no_bit
from unlearnkit.testing.starting import (
    check_base_is_packed_alike,
    check_base_runs_no_code_and_is_no_nonsense,
    check_starts_from_the_base,
)
from unlearnkit.testing.subject import SHORT, Subject, one_shard, pick, train_last
from unlearnkit.typing import Parts
from unlearnkit.validation import is_frame

Check = Callable[[Subject], None]

PLANTED = 12345.678
_HISTORIES = 5


def check_capabilities_are_consistent(subject: Subject) -> None:
    """What is declared makes sense: a reason for every limit, no more slices than can be had."""
    declared = subject.make().capabilities
    assert isinstance(declared, Capabilities), f"capabilities are a {type(declared).__name__}"
    assert declared.task in ("classification", "regression"), f"unknown task {declared.task!r}"
    assert declared.recommended_slices >= 1, "recommended_slices must be at least 1"
    if declared.max_slices is not None:
        assert declared.why_limited, "max_slices is limited, but why_limited does not say why"
    if not declared.resumable:
        assert declared.max_slices == 1, "a learner that is not resumable has one slice"
        assert declared.recommended_slices == 1, "a learner that is not resumable recommends one slice"
    if declared.absent_classes:
        assert declared.task == "classification", "absent_classes is for classifiers"


def check_fingerprint_is_stable(subject: Subject) -> None:
    """Two learners of one configuration have one fingerprint, before and after use, and in another process."""
    one, other = subject.make(), subject.make()
    shard = replace(one_shard(subject), learner=other)
    shard.last()
    assert one.fingerprint == other.fingerprint, "the fingerprint changed with use, or from one learner to the next"
    assert one.fingerprint == elsewhere(_fingerprint, one), "the fingerprint is another one in another process"


def check_learner_pickles(subject: Subject) -> None:
    """A learner travels to a worker process and back, and trains the same bytes."""
    shard = one_shard(subject)
    travelled = replace(shard, learner=pickled(shard.learner))
    assert travelled.last() == shard.last(), "after pickling the learner trains other bytes"


def check_learner_never_changes(subject: Subject) -> None:
    """Training and predicting leave no trace in the learner or in the wrapped model."""
    shard = one_shard(subject)
    before = shape_of(shard.learner), shape_of(subject.original)
    state = shard.learner.load(shard.last())
    shard.learner.predict(state, shard.records.X)
    after = shape_of(shard.learner), shape_of(subject.original)
    assert before == after, "the learner or the wrapped model changed: state goes in and comes out, nothing is kept"


def check_train_leaves_its_inputs_alone(subject: Subject) -> None:
    """Training on from a state leaves that state, and the rows, as they were."""
    shard = one_shard(subject)
    records_before = pickle.dumps(shard.records)
    states = list(shard.states())
    assert pickle.dumps(shard.records) == records_before, "train changed the rows that it was given"
    for (_, parts), (step, _) in pairwise(states):
        if step.parent is not None:
            state = shard.learner.load(parts)
            before = shard.learner.save(state)
            shard.learner.train(state, shard.batch(step, {}), step.step)
            assert same(shard.learner.save(state), before), "train changed the state that it was given"


def check_predict_leaves_the_state_alone(subject: Subject) -> None:
    """Predicting changes nothing in the state, and predicting again gives the same."""
    shard = one_shard(subject)
    state = shard.learner.load(shard.last())
    before = shard.learner.save(state)
    first = shard.learner.predict(state, shard.records.X)
    second = shard.learner.predict(state, shard.records.X)
    assert np.array_equal(first, second), "predicting twice gave two answers"
    assert same(shard.learner.save(state), before), "predict changed the state"


def check_predictions_have_the_right_shape(subject: Subject) -> None:
    """Probabilities or one-hot votes of shape (n, k) whose rows sum to 1, or finite values for each row."""
    shard = one_shard(subject)
    n, classes = len(shard.records), shard.schema.classes
    predicted = np.asarray(shard.learner.predict(shard.learner.load(shard.last()), shard.records.X))
    assert predicted.dtype.kind == "f", f"predictions are {predicted.dtype}, not floats"
    assert np.isfinite(predicted).all(), "predictions are not finite"
    if classes is None:
        wanted = (n,) if shard.schema.n_outputs is None else (n, shard.schema.n_outputs)
        assert predicted.shape == wanted, f"predictions have shape {predicted.shape}, not {wanted}"
        return
    assert predicted.shape == (n, len(classes)), f"predictions have shape {predicted.shape}, not {(n, len(classes))}"
    assert (predicted >= 0).all(), "a probability is negative"
    assert np.allclose(predicted.sum(axis=1), 1, atol=1e-5), "the rows of the predictions do not sum to 1"
    if not shard.learner.capabilities.probabilities:
        assert np.isin(predicted, (0, 1)).all(), "without probabilities the predictions must be one-hot votes"


def check_knows_only_the_classes_of_the_prefix(subject: Subject) -> None:
    """A prefix of two of the classes gives two columns (all columns with `absent_classes`)."""
    learner = subject.make()
    if learner.capabilities.task != "classification":
        return
    labels = np.unique(np.asarray(subject.y))
    two = np.flatnonzero(np.isin(np.asarray(subject.y), labels[:2]))
    shard = one_shard(subject, n_slices=1, X=pick(subject.X, two), y=np.asarray(subject.y)[two])
    predicted = shard.learner.predict(shard.learner.load(shard.last()), shard.records.X)
    assert predicted.shape[1] == 2, f"two classes seen, {predicted.shape[1]} columns predicted"  # noqa: PLR2004


def check_sample_weight_is_used(subject: Subject) -> None:
    """Rows of large weight pull the predictions to their side."""
    learner = subject.make()
    if not learner.capabilities.sample_weight:
        return
    X, y = subject.rows(SHORT, seed=1)
    order = np.argsort(np.asarray(y), kind="stable")
    half = len(order) // 2
    low, high = order[:half], order[-half:]
    # The same features with a low and with a high target: nothing but the weights can decide between them.
    twice, targets = pick(X, np.concatenate([low, low])), np.asarray(y)[np.concatenate([low, high])]
    heavy = np.arange(2 * half) < half
    pulled = [_pull(subject, twice, targets, np.where(side, 100.0, 0.01)) for side in (heavy, ~heavy)]
    assert pulled[0] < pulled[1], "weights are accepted, but the predictions do not follow them"


def check_resume_is_bitwise(subject: Subject) -> None:
    """Decoding and encoding a state gives the same bytes, and training on from it does not depend on how often."""
    shard = one_shard(subject)
    parts: Parts | None = None
    for step in shard.steps:
        start = None if step.parent is None else parts
        once = shard.train(step, start, {})
        again = shard.learner.save(shard.learner.load(once))
        assert same(again, once), "a state that is loaded and saved has other bytes"
        assert same(shard.train(step, start, {}), once), "training on from the same bytes gave another state"
        parts = once


def check_scratch_is_only_a_cache(subject: Subject) -> None:
    """With the scratch emptied before every step, the states have the same bytes."""
    shard = one_shard(subject)
    kept, emptied = list(shard.states()), list(shard.states(keep_scratch=False))
    for (step, parts), (_, other) in zip(kept, emptied, strict=True):
        assert same(parts, other), f"the state of slice {step.slice} depends on what scratch held"


def check_ignores_later_rows(subject: Subject) -> None:
    """Rows of later slices may be altered or taken away; the states of earlier ones keep their bytes."""
    shard = one_shard(subject)
    states = list(shard.states())
    for i, (step, parts) in enumerate(states):
        for altered in _altered(shard.records, step.n):
            other = list(replace(shard.with_records(altered), steps=shard.steps[: i + 1]).states())[-1][1]
            assert same(parts, other), f"the state of slice {step.slice} depends on rows of later slices"
            assert not _planted(other), f"a value of a later row is in the state of slice {step.slice}"


def check_ignores_global_random_state(subject: Subject) -> None:
    """The global random generator decides nothing, and is left as it was."""
    shard = one_shard(subject)
    with _numpy_seed(1):
        one = shard.last()
    with _numpy_seed(2):
        other = shard.last()
    assert same(one, other), "the state depends on numpy's global random state: use step.seeded()"


def check_same_bytes_in_another_process(subject: Subject) -> None:
    """A fresh process, with other hash seeds, trains the same bytes."""
    shard = one_shard(subject)
    travelled = replace(shard, learner=pickled(shard.learner))
    assert same(travelled.last(), elsewhere(train_last, shard)), "another process trained other bytes"


def check_n_jobs_never_changes_a_byte(subject: Subject) -> None:
    """Shards trained side by side, in the way that the learner prefers, have the bytes of one after the other."""
    X, y = subject.rows(SHORT, seed=2)
    alone = subject.ensemble(2, subject.n_slices).fit(X, y, ids=range(len(y)))
    beside = subject.ensemble(2, subject.n_slices, n_jobs=2).fit(X, y, ids=range(len(y)))
    assert alone.model_digest == beside.model_digest, "n_jobs=2 trained other bytes"


def check_load_runs_no_code(subject: Subject) -> None:
    """A pickle in place of a part is not executed."""
    shard = one_shard(subject)
    parts = shard.last()
    for name, trap in trapped(parts):
        with contextlib.suppress(Exception):
            shard.learner.load(trap)
        assert not Trap.sprung, f"load executed code from the bytes of part {name!r}"


def check_load_rejects_nonsense(subject: Subject) -> None:
    """Missing, empty, truncated and random parts are a StateError."""
    shard = one_shard(subject)
    for nonsense in damaged(shard.last()):
        try:
            state = shard.learner.load(nonsense)
            shard.learner.predict(state, shard.records.X)
        except StateError:
            continue
        except Exception as error:
            message = f"nonsense in a stored state raised {type(error).__name__} instead of StateError"
            raise AssertionError(message) from error
        raise AssertionError("load accepted nonsense")


def check_forget_equals_refit(subject: Subject) -> None:
    """Random histories of requests leave the bytes and predictions of a fit without the records."""
    for seed in range(_HISTORIES):
        _run_history(subject, np.random.default_rng(seed))


CHECKS: tuple[Check, ...] = (
    check_capabilities_are_consistent,
    check_fingerprint_is_stable,
    check_learner_pickles,
    check_learner_never_changes,
    check_train_leaves_its_inputs_alone,
    check_predict_leaves_the_state_alone,
    check_predictions_have_the_right_shape,
    check_knows_only_the_classes_of_the_prefix,
    check_sample_weight_is_used,
    check_resume_is_bitwise,
    check_scratch_is_only_a_cache,
    check_ignores_later_rows,
    check_ignores_global_random_state,
    check_same_bytes_in_another_process,
    check_n_jobs_never_changes_a_byte,
    check_sharing_changes_no_bit,
    check_joining_changes_no_bit,
    check_load_runs_no_code,
    check_load_rejects_nonsense,
    check_goes_on_beyond_the_budget,
    check_base_is_packed_alike,
    check_starts_from_the_base,
    check_base_runs_no_code_and_is_no_nonsense,
    check_forget_equals_refit,
)


def _run_history(subject: Subject, rng: np.random.Generator) -> None:
    X, y = subject.rows(SHORT, seed=int(rng.integers(1000)))
    ids = rng.integers(0, max(2, len(y) // 2), size=len(y))
    n_shards, n_slices = int(rng.integers(2, 4)), int(rng.integers(1, subject.n_slices + 1))
    model = subject.ensemble(n_shards, n_slices).fit(X, y, ids=ids)
    alive = np.ones(len(y), dtype=bool)
    for _ in range(2):
        known = np.unique(ids[alive])
        gone = rng.choice(known, size=min(len(known) - 1, int(rng.integers(1, 4))), replace=False)
        receipt = model.forget(gone)
        assert receipt.shards, "a request must hit a shard to show anything"
        alive &= ~np.isin(ids, gone)
        rows = rng.permutation(np.flatnonzero(alive))
        refit = subject.ensemble(n_shards, n_slices, schema=model.schema).fit(pick(X, rows), y[rows], ids=ids[rows])
        assert model.model_digest == refit.model_digest, "after forget the states differ from a fit without the records"
        features = model.features(X)
        assert np.array_equal(model.predict(features), refit.predict(features)), "equal states, other predictions"


def _pull(subject: Subject, X: Any, y: Any, weight: Any) -> float:
    """The mean prediction of a model with these weights, of the target or of the rank of the class."""
    shard = one_shard(subject, n_slices=1, X=X, y=y, sample_weight=weight)
    predicted = shard.learner.predict(shard.learner.load(shard.last()), shard.records.X)
    if shard.schema.classes is None:
        return float(predicted.mean())
    return float((predicted @ np.arange(predicted.shape[1])).mean())


def _altered(records: ShardRecords, n: int) -> Iterator[ShardRecords]:
    """The same first n rows, with the others planted with a value, and with the others gone."""
    if n == records.n_active:
        return
    yield replace(records, X=_plant(records.X, n))
    yield records.take(np.arange(n), n)


def _plant(X: Any, n: int) -> Any:
    if is_frame(X):
        numbers = [c for c in X.columns if getattr(X[c].dtype, "kind", "") in "fiu"]
        planted = X.copy()
        planted[numbers] = planted[numbers].astype(object)
        planted.loc[planted.index[n:], numbers] = int(PLANTED)
        return planted.astype({c: X[c].dtype for c in numbers})
    planted = X.copy()
    planted[n:] = PLANTED
    return planted.tocsr() if hasattr(planted, "tocsr") else planted


def _planted(parts: Parts) -> bool:
    traces = [np.float64(PLANTED).tobytes(), np.float32(PLANTED).tobytes(), str(PLANTED).encode()]
    return any(trace in data for data in parts.values() for trace in traces)


def _fingerprint(learner: Learner[Any]) -> str:
    return learner.fingerprint


@contextlib.contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    planted: Any = np.random.get_state()  # noqa: NPY002
    try:
        yield
        left: Any = np.random.get_state()  # noqa: NPY002
        assert np.array_equal(planted[1], left[1]), "training used up numpy's global random state"
    finally:
        np.random.set_state(before)  # noqa: NPY002
