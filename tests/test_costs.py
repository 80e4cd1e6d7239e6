"""The cost equations against simulation, over a seeded grid: S and R from 1 to 50, K from 1 to 100."""

import math

import numpy as np
import pytest

from unlearnkit import costs
from unlearnkit.partition import HashPartition

LARGE = 10**6
CORNERS = [(s, r, k) for s in (1, 50) for r in (1, 50) for k in (1, 100)]


def grid(n, seed):
    """The corners, and `n` more cases from all over the range."""
    rng = np.random.default_rng(seed)
    drawn = zip(rng.integers(1, 51, n), rng.integers(1, 51, n), rng.integers(1, 101, n), strict=True)
    return [*CORNERS, *((int(s), int(r), int(k)) for s, r, k in drawn)]


def lowest_hit(n_shards, n_slices, n_requests, draws, rng):
    """Of each draw and shard the first slice that requests hit, or R."""
    cells = rng.integers(0, n_shards * n_slices, (draws, n_requests))
    lowest = np.full((draws, n_shards), n_slices)
    np.minimum.at(lowest, (np.arange(draws)[:, None], cells // n_slices), cells % n_slices)
    return lowest


def simulated_share(n_shards, n_slices, lowest):
    """Presentations over those of a full build: step r shows slices 0..r, and is repeated from the first hit on."""
    shown = np.arange(1, n_slices + 1)
    from_here_on = np.append(np.cumsum(shown[::-1])[::-1], 0)
    return from_here_on[lowest].sum(axis=1).mean() / (n_shards * shown.sum())


def test_batches_cost_what_simulated_batches_do():
    rng = np.random.default_rng(1)
    worst = {"share": 0.0, "steps": 0.0, "records": 0.0}
    for s, r, k in grid(150, 0):
        lowest = lowest_hit(s, r, k, 2_000 + 300_000 // k, rng)
        worst["share"] = max(worst["share"], off(costs.batch_share(s, r, k), simulated_share(s, r, lowest)))
        worst["steps"] = max(worst["steps"], off(costs.batch_steps(s, r, k), (r - lowest).sum(axis=1).mean()))
        records = LARGE * (lowest < r).mean() - k
        worst["records"] = max(worst["records"], off(costs.batch_records(LARGE, s, k), records))

    assert max(worst.values()) < 0.01, worst


def test_requested_records_are_not_retrained():
    assert costs.batch_records(1000, 1, 100) == costs.batch_presentations(1000, 1, 1, 100) == 900


def test_one_request_costs_what_simulated_ones_do():
    rng = np.random.default_rng(2)
    for s, r, _ in grid(20, 3):
        share = simulated_share(s, r, lowest_hit(s, r, 1, 300_000, rng))
        assert off(costs.request_presentations(LARGE, s, r, epochs=4), 4 * LARGE * share) < 0.01


def test_sequential_requests_cost_what_simulated_ones_do():
    rng = np.random.default_rng(3)
    for s, _, k in grid(40, 4):
        n, draws = 400 * s, 40
        asking = [rng.choice(n, k, replace=False) % s for _ in range(draws)]
        # Each request trains what is left of its shard, without itself and those before it.
        left = [400 - 1 - np.array([(shards[:i] == shards[i]).sum() for i in range(k)]) for shards in asking]
        assert off(costs.sequential_records(n, s, k), np.mean([each.sum() for each in left])) < 0.01


def test_all_shards_abstain_as_often_as_simulated():
    rng = np.random.default_rng(4)
    cases = [(1, 7, 5), (2, 1, 3), (3, 2, 20), (5, 1, 20), (5, 10, 100), (10, 1, 39), (20, 1, 100), (4, 50, 100)]
    for s, r, k in cases:
        draws = 60_000
        seen = (lowest_hit(s, r, k, draws, rng) == 0).all(axis=1).mean()
        expected = costs.chance_all_abstain(s, r, k)
        assert abs(seen - expected) < 5 * math.sqrt(expected * (1 - expected) / draws) + 1e-4, (s, r, k)


@pytest.mark.parametrize(("s", "r", "k"), [(2, 1, 5), (3, 4, 9), (6, 2, 30)])
def test_chance_that_all_abstain_is_that_of_inclusion_and_exclusion(s, r, k):
    terms = ((-1) ** j * math.comb(s, j) * (1 - j / (s * r)) ** k for j in range(s + 1))

    assert math.isclose(costs.chance_all_abstain(s, r, k), sum(terms), rel_tol=1e-9)


def test_steps_of_the_actual_partition():
    # Few ids, so that cells are empty before and after: the formula counts that exactly.
    rng = np.random.default_rng(5)
    for s, r, k, n_ids in ((3, 4, 1, 30), (5, 10, 1, 200), (4, 5, 7, 60), (3, 4, 15, 30)):
        found = [steps_of(s, r, rng.permutation(n_ids)[:k], n_ids, seed) for seed in range(3_000)]
        assert off(costs.batch_steps(s, r, k, n_ids), np.mean(found)) < 0.03


def test_ids_count_where_slices_may_be_empty():
    assert off(costs.batch_steps(3, 4, 1, 30), costs.batch_steps(3, 4, 1)) > 0.05
    assert off(costs.batch_steps(3, 4, 1, 10**5), costs.batch_steps(3, 4, 1)) < 1e-9


def steps_of(n_shards, n_slices, asking, n_ids, seed):
    """Steps that a batch retrains in one placement of the ids."""
    place = HashPartition().bind(n_shards, n_slices, seed).place([i.to_bytes(8, "big") for i in range(n_ids)])
    first = np.full(n_shards, n_slices)
    np.minimum.at(first, place.shard[asking], place.slice[asking])
    staying = np.delete(np.arange(n_ids), asking)
    filled = np.zeros((n_shards, n_slices), dtype=bool)
    filled[place.shard[staying], place.slice[staying]] = True
    return (filled & (np.arange(n_slices) >= first[:, None])).sum()


def test_what_the_paper_says_of_purchase():
    assert math.isclose(1 / costs.batch_share(20, 50, 8), 4.23, abs_tol=0.005)
    assert math.isclose(1 / costs.batch_share(20, 1, 8), 2.97, abs_tol=0.005)


def test_share_is_the_expectation_over_the_lowest_slice():
    for s, r_max, k in grid(30, 6):
        reached = [(1 - (r - 1) / (s * r_max)) ** k for r in range(1, r_max + 2)]
        whole = r_max * (r_max + 1) / 2
        known = sum((reached[r - 1] - reached[r]) * (whole - r * (r - 1) / 2) / whole for r in range(1, r_max + 1))
        assert math.isclose(costs.batch_share(s, r_max, k), known, rel_tol=1e-9)


def test_presentations_of_one_request_are_the_published_ones():
    for s, r, _ in grid(30, 7):
        one = costs.batch_presentations(LARGE, s, r, 1)
        assert math.isclose(one, costs.request_presentations(LARGE - 1, s, r), rel_tol=1e-9)


def off(formula, seen):
    return abs(formula - seen) / seen
