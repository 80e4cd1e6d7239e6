from __future__ import annotations

import functools

import numpy as np
import pytest

from unlearnkit.aggregation import choose, one_hot
from unlearnkit.errors import ParameterError
from unlearnkit.learner import Capabilities

PROBABLE = Capabilities("classification", probabilities=True)
VOTING = Capabilities("classification")
REGRESSION = Capabilities("regression")
A = np.array([[0.9, 0.1], [0.4, 0.6]])
B = np.array([[0.2, 0.8], [0.2, 0.8]])


def trimmed(limit):
    def rule(predictions, present):
        return np.clip(predictions[present].mean(axis=0), limit, 1)

    return rule


def scaled(predictions, present, by):
    return predictions[present].mean(axis=0) * by


@pytest.mark.parametrize(("capabilities", "rule"), [(PROBABLE, "mean"), (VOTING, "vote"), (REGRESSION, "mean")])
def test_auto_is_the_mean_where_there_are_probabilities(capabilities, rule):
    assert choose("auto", capabilities).rule == rule


def test_an_abstaining_constituent_weighs_nothing():
    mean = choose("mean", PROBABLE)
    assert np.allclose(mean(iter([A, None, B])), (A + B) / 2)
    assert np.allclose(mean([None, B]), B)


def test_votes_count_once_each():
    assert choose("vote", PROBABLE)([A, B, B]).tolist() == [[1 / 3, 2 / 3], [0, 1]]


def test_the_first_of_equals_has_the_vote():
    assert one_hot(np.array([[0.5, 0.5]])).tolist() == [[1, 0]]


def test_the_predictions_stay_as_they_are():
    kept = A.copy()
    choose("mean", PROBABLE)([A, B])
    assert (kept == A).all()


def test_a_function_gets_all_shards_and_who_is_present():
    seen = {}

    def rule(predictions, present):
        seen.update(predictions=predictions, present=present)
        return predictions[present].max(axis=0)

    found = choose(rule, PROBABLE)([A, None, B])
    assert seen["present"].tolist() == [True, False, True]
    assert (seen["predictions"][1] == 0).all()
    assert (found == np.maximum(A, B)).all()


def test_functions_that_differ_have_another_identity():
    rules = [trimmed(0.1), trimmed(0.2), functools.partial(scaled, by=1), functools.partial(scaled, by=2), "mean"]
    assert len({choose(rule, PROBABLE).identity for rule in rules}) == len(rules)
    assert choose(trimmed(0.1), PROBABLE).identity == choose(trimmed(0.1), PROBABLE).identity


def test_a_function_of_another_shape_is_refused():
    with pytest.raises(ParameterError, match=r"shape \(2,\)"):
        choose(lambda predictions, present: predictions[0, :, 0], PROBABLE)([A, B])


@pytest.mark.parametrize(("option", "capabilities"), [("median", PROBABLE), ("vote", REGRESSION), (None, PROBABLE)])
def test_other_options_are_refused(option, capabilities):
    with pytest.raises(ParameterError, match="nothing was changed"):
        choose(option, capabilities)
