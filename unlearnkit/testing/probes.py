"""What several checks have in common: comparing parts, another process, bytes that should be refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import joblib
import numpy as np

from unlearnkit.learner import Learner
from unlearnkit.typing import FloatArray, Parts


def same(one: Parts, other: Parts) -> bool:
    """Whether two states have the same parts with the same bytes."""
    return dict(one) == dict(other)


def elsewhere(function: Callable[..., Any], argument: Any) -> Any:
    """The result of a call in a worker process, which is a fresh interpreter with its own hash seed."""
    # With the settings of the build, so that both can share their workers: starting one takes seconds.
    parallel = joblib.Parallel(n_jobs=2, backend="loky", max_nbytes=None)
    return parallel([joblib.delayed(function)(argument)] * 2)[-1]


def pickled(learner: Learner[Any]) -> Learner[Any]:
    """The learner after a journey."""
    copy: Learner[Any] = pickle.loads(pickle.dumps(learner))  # noqa: S301
    return copy


def shape_of(thing: Any) -> bytes:
    """Something that differs when `thing` has changed."""
    try:
        return pickle.dumps(thing)
    except (pickle.PicklingError, TypeError, AttributeError):
        return repr(thing).encode()


def bits_of(predictions: Iterable[FloatArray]) -> list[tuple[Any, ...]]:
    """What is equal for predictions of the same type, shape and bits alone."""
    found = map(np.asarray, predictions)
    return [(p.dtype.str, p.shape, p.tobytes()) for p in found]


def damaged(parts: Parts) -> Iterator[Parts]:
    """No parts, foreign ones, and each part in turn empty, cut off, or random."""
    noise = np.random.default_rng(0).bytes(64)
    yield {}
    yield {"no such part": noise}
    for name, data in parts.items():
        for bad in (b"", data[: len(data) // 2], noise):
            yield {**parts, name: bad}


def trapped(parts: Parts) -> Iterator[tuple[str, Parts]]:
    """The parts with a pickle in place of each in turn, and the name of that one; the trap is set anew for each."""
    for name in parts:
        Trap.sprung = False
        yield name, {**parts, name: pickle.dumps(Trap())}


class Trap:
    """Sets a flag when it is unpickled."""

    sprung = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _spring, ()


def _spring() -> None:
    Trap.sprung = True
