"""The kit passes honest learners, and each check catches its mutant alone."""

import pytest

from unlearnkit.testing import CHECKS, RememberingLearner, Subject, check_learner, parametrize_with_checks
from unlearnkit.testing.mutants import MUTANTS

HONEST = [
    Subject.of(
        RememberingLearner(task, resumable=resumable, absent_classes=absent), name=f"{task}-{resumable}-{absent}"
    )
    for task, resumable, absent in [
        ("classification", True, False),
        ("classification", True, True),
        ("classification", False, False),
        ("regression", True, False),
    ]
]


@parametrize_with_checks(HONEST)
def test_honest_learners_pass(subject, check):
    check(subject)


def test_every_check_has_a_mutant():
    assert set(MUTANTS) == set(CHECKS)


@pytest.mark.parametrize("broken", CHECKS, ids=lambda check: check.__name__)
def test_mutant_fails_its_check_alone(broken):
    subject = Subject.of(MUTANTS[broken])
    failed = set()
    for check in CHECKS:
        try:
            check(subject)
        except AssertionError:
            failed.add(check)
    assert failed == {broken}


def test_check_learner_names_the_learner_and_the_check():
    mutant = MUTANTS[CHECKS[0]]
    with pytest.raises(AssertionError, match=r"Unexplained: check_capabilities_are_consistent: .*why_limited"):
        check_learner(mutant)


def test_expected_failures_must_fail():
    expected = {CHECKS[0].__name__: "known"}
    check_learner(MUTANTS[CHECKS[0]], expected_failures=expected)
    with pytest.raises(AssertionError, match="remove it from the list"):
        check_learner(RememberingLearner(), expected_failures=expected)
