"""Ensembles that grow: each step adds members, stored as a part of its own, and leaves the others alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unlearnkit.typing import FloatArray
from unlearnkit_sklearn.archives import broken
from unlearnkit_sklearn.base import SklearnLearner, checked

HEADER = "header"


@dataclass(frozen=True)
class Members:
    """What one step has added.

    Attributes
    ----------
    data : bytes
        As stored.
    content : object
        As decoded.
    """

    data: bytes
    content: Any


@dataclass(frozen=True)
class Grown:
    """An ensemble in the making.

    Attributes
    ----------
    header : estimator
        The ensemble without its members.
    members : tuple of Members
        One for each step that has added some.
    """

    header: Any
    members: tuple[Members, ...]


class GrownLearner(SklearnLearner):
    """Base of the learners whose state is a `Grown`."""

    def predict(self, state: Grown, X: Any) -> FloatArray:
        """What the ensemble of all members predicts."""
        return super().predict(self.whole(state), X)

    def whole(self, state: Grown) -> Any:
        """The ensemble with all its members, as an estimator of its own."""
        return self.join(copy.copy(state.header), [members.content for members in state.members])

    def save(self, state: Grown) -> dict[str, bytes]:
        """A header, and one part for the members of each step."""
        parts = {f"members-{i}": members.data for i, members in enumerate(state.members)}
        return {HEADER: self.storage.dump(state.header)} | parts

    def load(self, parts: Mapping[str, bytes]) -> Grown:
        """The ensemble behind the parts."""
        names = [f"members-{i}" for i in range(len(parts) - 1)]
        if len(parts) == 1 or set(parts) != {HEADER, *names}:
            raise broken(f"has the parts {sorted(parts)} instead of a header and members")
        header = checked(self.storage.load(parts[HEADER]), self.model)
        return Grown(header, tuple(Members(parts[name], self.unpack(parts[name])) for name in names))

    def added(self, state: Grown | None, header: Any, content: Any) -> Grown:
        """`state` with the members of one more step."""
        members = Members(self.pack(content), content)
        return Grown(header, (*(state.members if state else ()), members))

    def pack(self, content: Any) -> bytes:
        """The members of a step as bytes."""
        return self.storage.dump(content)

    def unpack(self, data: bytes) -> Any:
        """The members behind `pack`."""
        return self.storage.load(data)

    def join(self, ensemble: Any, contents: Sequence[Any]) -> Any:
        """Give `ensemble`, a copy of the header, its members."""
        raise NotImplementedError
