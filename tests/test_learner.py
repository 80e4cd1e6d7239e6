from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from unlearnkit.learner import Learner, Step
from unlearnkit.testing import RememberingLearner


def step(start, stop, seed=3):
    return Step(shard=0, slice=0, start=Fraction(start), stop=Fraction(stop), epochs=Fraction(1), seed=seed)


@given(st.integers(1, 40), st.integers(0, 500), st.data())
def test_units_add_up_whatever_the_cuts(n_slices, total, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, n_slices), min_size=1)))
    edges = [Fraction(c, n_slices) for c in [0, *cuts]]
    units = [step(a, b).units(total) for a, b in pairwise(edges)]
    assert min(units) >= 0
    assert sum(units) == total * cuts[-1] // n_slices


def test_units_are_exact():
    # In floats floor(50 * (29 / 50)) is 28.
    assert step(0, Fraction(29, 50)).units(50) == 29


def test_whole_means_all_at_once():
    assert step(0, 1).whole
    assert not step(0, Fraction(1, 2)).whole
    assert not step(Fraction(1, 2), 1).whole


def test_edges_are_renewed_once():
    for n_slices in range(1, 12):
        cuts = [Fraction(r, n_slices) for r in range(n_slices + 1)]
        renewed = sum(step(a, b).renews_edges for a, b in pairwise(cuts))
        assert renewed == (0 if n_slices <= 2 else 1)


def test_seeds_differ_by_step_and_by_model_and_fit_everywhere():
    seeds = {step(0, 1, seed).seeded(state) for seed in range(20) for state in (None, 0, 1)}
    assert len(seeds) == 60
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_a_learner_is_known_by_what_it_has():
    assert isinstance(RememberingLearner(), Learner)
    assert not isinstance(object(), Learner)
