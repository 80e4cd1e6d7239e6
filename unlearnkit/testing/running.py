"""Running the checks: all on one model, or as parametrised tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from unlearnkit.testing.checks import CHECKS
from unlearnkit.testing.subject import Subject

if TYPE_CHECKING:
    import pytest


def check_learner(model: Any, X: Any = None, y: Any = None, *, expected_failures: Mapping[str, str] = {}) -> None:
    """Run every check on a model.

    Parameters
    ----------
    model : object
        A model that an installed plugin wraps, a `Learner`, or a `Subject`.
    X, y : array-like or None
        At least 90 rows that suit it; None means four non-negative numbers per row, with three classes or a positive
        target.
    expected_failures : mapping of str to str
        Names of checks that are known to fail, each with the reason.

    Raises
    ------
    AssertionError
        If a check fails, or one that is expected to fail does not.

    Examples
    --------
    >>> from unlearnkit.testing import RememberingLearner, check_learner
    >>> check_learner(RememberingLearner())
    """
    subject = Subject.of(model, X, y)
    for check in CHECKS:
        name = check.__name__
        try:
            check(subject)
        except AssertionError as error:
            if name not in expected_failures:
                raise AssertionError(f"{subject.name}: {name}: {error}") from error
        else:
            if name in expected_failures:
                raise AssertionError(f"{subject.name}: {name} passes, but is expected to fail: remove it from the list")


def parametrize_with_checks(models: Iterable[Any], expected_failures: Mapping[str, str] = {}) -> pytest.MarkDecorator:
    """A pytest decorator that gives a test every pair of ``(subject, check)``.

    Parameters
    ----------
    models : iterable of object
        Models, learners or subjects.
    expected_failures : mapping of str to str
        Names of checks that are known to fail, each with the reason. They are strict: one that passes is a failure.

    Examples
    --------
    >>> from unlearnkit.testing import RememberingLearner, parametrize_with_checks
    >>> @parametrize_with_checks([RememberingLearner()])
    ... def test_conformance(subject, check):
    ...     check(subject)
    """
    import pytest

    def marks(name: str) -> list[pytest.MarkDecorator]:
        reason = expected_failures.get(name)
        return [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError)]

    subjects = [Subject.of(model) for model in models]
    pairs = [
        pytest.param(s, c, id=f"{s.name}-{c.__name__.removeprefix('check_')}", marks=marks(c.__name__))
        for s in subjects
        for c in CHECKS
    ]
    return pytest.mark.parametrize(("subject", "check"), pairs)
