"""The checks of learners that can start from a base: they pass for those that cannot, or not with their parameters."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np

from unlearnkit.errors import CapabilityError, StateError
from unlearnkit.learner import Warm
from unlearnkit.testing.probes import Trap, damaged, elsewhere, same, shape_of, trapped
from unlearnkit.testing.subject import SHORT, Shard, Subject, one_shard, pick
from unlearnkit.typing import AnyArray, FloatArray, Parts


def check_base_is_packed_alike(subject: Subject) -> None:
    """A base gives the same parts again, also in another process, and is left as it was."""
    if not _can_start_warm(subject):
        return
    base, shard = subject.base_model(), one_shard(subject)
    before = shape_of(base)
    parts = _packed(shard, base)
    assert same(_packed(shard, base), parts), "packing the same base again gave other bytes"
    assert same(elsewhere(_pack, (shard.learner, base, *_facts(shard))), parts), "another process packed other bytes"
    assert shape_of(base) == before, "packing changed the base"


def check_starts_from_the_base(subject: Subject) -> None:
    """A start is a function of the base and the classes, and what is trained on from it differs from a cold start."""
    if not _can_start_warm(subject):
        return
    shard = one_shard(subject)
    base = _packed(shard, subject.base_model())
    labels = shard.schema.labels
    start = _started(shard, base, labels)
    assert same(_started(shard, base, labels), start), "starting twice gave two states"
    assert not np.array_equal(_predicted(subject, shard, start), _predicted(subject, shard, None)), (
        "the base leaves no trace"
    )
    if labels is not None and not shard.learner.capabilities.absent_classes:
        two = _of_two_classes(subject)
        columns = _predicted(subject, two, _started(two, base, labels[:2])).shape[1]
        assert columns == 2, f"two classes seen after a warm start, {columns} columns predicted"  # noqa: PLR2004


def check_base_runs_no_code_and_is_no_nonsense(subject: Subject) -> None:
    """A packed base that is damaged is a StateError, and a pickle in place of a part is not executed."""
    if not _can_start_warm(subject):
        return
    shard = one_shard(subject)
    base, labels = _packed(shard, subject.base_model()), shard.schema.labels
    for name, trap in trapped(base):
        with contextlib.suppress(Exception):
            _started(shard, trap, labels)
        assert not Trap.sprung, f"start executed code from the bytes of part {name!r}"
    for nonsense in damaged(base):
        try:
            _started(shard, nonsense, labels)
        except StateError:
            continue
        except Exception as error:
            message = f"nonsense in a packed base raised {type(error).__name__} instead of StateError"
            raise AssertionError(message) from error
        raise AssertionError("start accepted nonsense")


def _can_start_warm(subject: Subject) -> bool:
    """Whether the learner has the ability, and with the parameters that it has."""
    if not isinstance(subject.make(), Warm):
        return False
    try:
        _packed(one_shard(subject), subject.base_model())
    except CapabilityError:
        return False
    return True


def _facts(shard: Shard) -> tuple[int, AnyArray | None]:
    return int(shard.records.X.shape[1]), shard.schema.labels


def _pack(arguments: tuple[Any, ...]) -> Parts:
    learner, *rest = arguments
    parts: Parts = learner.pack_base(*rest)
    return parts


def _packed(shard: Shard, base: Any) -> Parts:
    return _pack((shard.learner, base, *_facts(shard)))


def _started(shard: Shard, base: Parts, classes: AnyArray | None) -> Parts:
    """What the core trains on from: the start, stored and decoded."""
    learner: Any = shard.learner
    parts: Parts = learner.save(learner.load(learner.save(learner.start(base, classes))))
    return parts


def _predicted(subject: Subject, shard: Shard, start: Parts | None) -> FloatArray:
    """What the first step predicts, trained from these parts by a learner that has trained nothing before."""
    fresh = replace(shard, learner=subject.make())
    state = fresh.learner.load(fresh.train(shard.steps[0], start, {}))
    return fresh.learner.predict(state, shard.records.X)


def _of_two_classes(subject: Subject) -> Shard:
    y = np.asarray(subject.y)
    some = [np.flatnonzero(y == label)[: SHORT // 2] for label in np.unique(y)[:2]]
    rows = np.sort(np.concatenate(some))
    return one_shard(subject, n_slices=1, X=pick(subject.X, rows), y=y[rows])
