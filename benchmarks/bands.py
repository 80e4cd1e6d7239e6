"""What a prior on who will ask is worth: retrained records of bands against uniform sharding.

The prior of three countries of Bourtoule et al. 2021, section VIII: 77 % of people ask with probability 3e-6, 10 % with
3e-5, 13 % with 6e-6. K requests are drawn with these probabilities and handled as one batch. Costs are presentations of
records, as shares of one full build; the few records that are forgotten are not subtracted.

*Uniform* is `HashPartition`; *erasures* and *people* are the two ways of `BandedPartition` to make shards (sorted, of
equal expected erasures; or alike, with only the slices in order), all by formula and by drawing requests against the
placement of real ids. The others are formulas of what else could be done with the same prior: sorted people cut into
shards of equal sums of the root of p, or of equal size.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from common import arguments, report

from unlearnkit.costs import batch_share as published
from unlearnkit.partition import BandedPartition, HashPartition

PRIOR = {3e-6: 0.7717, 6e-6: 0.1282, 3e-5: 0.1001}
SHARDS, SLICES, REQUESTS = (5, 20, 50), (1, 10), (1, 8, 39)


def main() -> None:
    options = arguments(__doc__)
    people, draws = (20_000, 10_000) if options.quick else (200_000, 50_000)
    rows = [row(*case, people, draws) for case in product(SHARDS, SLICES, REQUESTS)]
    report(
        f"bands: % of a full build, K requests in one batch, {people} people, {draws} draws",
        rows,
        prior=PRIOR,
        ok=all(row["ok"] for row in rows),
    )


def row(n_shards: int, n_slices: int, requests: int, people: int, draws: int) -> dict[str, Any]:
    expected = {name: 100 * share(*rule(n_shards, n_slices), requests) for name, rule in RULES.items()}
    kinds = {"uniform": HashPartition(), **{way: BandedPartition(PRIOR, shards=way) for way in ("erasures", "people")}}
    seen = {name: simulated(kind, n_shards, n_slices, requests, people, draws) for name, kind in kinds.items()}
    known = 100 * published(n_shards, n_slices, requests)
    return {
        "S": n_shards,
        "R": n_slices,
        "K": requests,
        "uniform": expected["uniform"],
        "(drawn)": seen["uniform"][0],
        "erasures": expected["erasures"],
        "(drawn) ": seen["erasures"][0],
        "saved": saved(expected, "erasures"),
        "people": expected["people"],
        "(drawn)  ": seen["people"][0],
        "saved ": saved(expected, "people"),
        "root of p": expected["root of p"],
        "same size": expected["same size"],
        "ok": bool(
            abs(expected["uniform"] - known) < 1e-9 * known
            and all(abs(mean - expected[name]) < 5 * error + 0.005 * mean for name, (mean, error) in seen.items())
        ),
    }


def saved(expected: dict[str, float], name: str) -> float:
    """Percent of what uniform sharding costs."""
    return round(100 * (1 - expected[name] / expected["uniform"]), 1)


# -- formulas ----------------------------------------------------------------------------------------------------


def share(sizes: np.ndarray, hits: np.ndarray, requests: int) -> float:
    """Expected presentations over those of a full build, from what each cell has of the records and of the requests.

    Step r of a shard shows the records of slices 0..r for 2 / (R + 1) of the epochs, and is repeated when a request
    falls into one of these slices.
    """
    repeated = 1 - (1 - np.cumsum(hits, axis=1)) ** requests
    return float((step_costs(sizes) * repeated).sum() / step_costs(sizes).sum())


def step_costs(sizes: np.ndarray) -> np.ndarray:
    return np.cumsum(sizes, axis=1) * 2 / (sizes.shape[1] + 1)


Cells = tuple[np.ndarray, np.ndarray]


def uniform(n_shards: int, n_slices: int) -> Cells:
    same = np.full((n_shards, n_slices), 1 / (n_shards * n_slices))
    return same, same


def spread(n_shards: int, n_slices: int) -> Cells:
    sizes, hits = cut(np.linspace(0, 1, 2), n_slices)
    return tuple(np.repeat(each, n_shards, axis=0) / n_shards for each in (sizes, hits))


def sorted_by(weight: Callable[[np.ndarray], np.ndarray]) -> Callable[[int, int], Cells]:
    """People in order of p, cut into shards of equal sums of a function of p."""

    def cells(n_shards: int, n_slices: int) -> Cells:
        sums, people = line(weight)
        return cut(np.interp(np.arange(n_shards + 1) / n_shards, sums, people), n_slices)

    return cells


def line(weight: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the sum of the weights, and of people, up to the end of each band, the least likely first."""
    p, shares = np.array(sorted(PRIOR.items())).T
    return tuple(np.concatenate([[0], np.cumsum(part) / part.sum()]) for part in (weight(p) * shares, shares))


def cut(shards: np.ndarray, n_slices: int) -> Cells:
    """Shards between these places on the line of people, and slices of equal size within them."""
    within = np.arange(n_slices + 1) / n_slices
    edges = shards[:-1, None] + np.diff(shards)[:, None] * within
    erasures, people = line(lambda p: p)
    return np.diff(edges, axis=1), np.diff(np.interp(edges, people, erasures), axis=1)


RULES: dict[str, Callable[[int, int], Cells]] = {
    "uniform": uniform,
    "erasures": sorted_by(lambda p: p),
    "people": spread,
    "root of p": sorted_by(np.sqrt),
    "same size": sorted_by(np.ones_like),
}


# -- simulation --------------------------------------------------------------------------------------------------


def simulated(
    kind: HashPartition | BandedPartition, n_shards: int, n_slices: int, requests: int, people: int, draws: int
) -> tuple[float, float]:
    """Mean and standard error of what batches cost, in percent, for people placed by the library."""
    rng = np.random.default_rng(people)
    p = np.repeat(list(PRIOR), np.diff(np.round(np.cumsum([0, *PRIOR.values()]) * people).astype(int)))
    place = kind.bind(n_shards, n_slices, 0).place([i.to_bytes(8, "big") for i in range(people)], p)
    sizes = np.zeros((n_shards, n_slices))
    np.add.at(sizes, (place.shard, place.slice), 1)
    asking = np.searchsorted(np.cumsum(p) / p.sum(), rng.random((draws, requests)))
    lowest = np.full((draws, n_shards), n_slices)
    np.minimum.at(lowest, (np.arange(draws)[:, None], place.shard[asking]), place.slice[asking])
    costs = step_costs(sizes)
    from_here_on = np.concatenate([np.cumsum(costs[:, ::-1], axis=1)[:, ::-1], np.zeros((n_shards, 1))], axis=1)
    spent = 100 * from_here_on[np.arange(n_shards), lowest].sum(axis=1) / costs.sum()
    return float(spent.mean()), float(spent.std() / np.sqrt(draws))


if __name__ == "__main__":
    main()
