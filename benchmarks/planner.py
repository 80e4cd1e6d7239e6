"""What the planner expects of a request beside what requests take: LightGBM and a torch MLP on Adult.

The planner sees the training rows of Adult and tries on a subsample. Then a model is fitted on all rows for each
choice, and ids drawn at random are forgotten, each request by itself and in batches of five. Seconds are those of a
whole call of `forget`; steps and records are those that it retrains. Each repetition has a plan, a partition and
requests of its own: seconds are the medians over repetitions of the mean over requests. Without real data a synthetic
table of the same size takes its place.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import torch
from common import arguments, parser, report, touch_memory
from real_data import adult
from sklearn.base import clone
from sklearn.datasets import make_classification
from torch import nn

from unlearnkit import ShardingPlan, plan_sharding, wrap
from unlearnkit.errors import DataWarning
from unlearnkit_torch import TorchModel

EPOCHS = 5
BATCHES = (1, 5)
CLOSE = 1.5


@dataclass(frozen=True)
class Sizes:
    """What to run."""

    rows: int | None
    tried: int
    shards: tuple[int, ...]
    slices: tuple[int, ...]
    asked: tuple[int, ...]
    requests: int
    trees: int


FULL = Sizes(None, 10_000, (1, 2, 5, 10, 20), (1, 5), (5, 20), 12, 100)
QUICK = Sizes(1_500, 600, (1, 4), (1, 3), (4,), 3, 10)


class Net(nn.Module):
    """Two layers."""

    def __init__(self, n_features: int = 14) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.layers(X)


def main() -> None:
    flags = parser(__doc__)
    flags.set_defaults(repeat=5)
    options = arguments(flags)
    sizes = QUICK if options.quick else FULL
    X, y, source = rows(options.data, sizes.rows)
    torch.set_num_threads(1)
    # Adult has some equal rows; how many is no concern of this benchmark.
    warnings.simplefilter("ignore", DataWarning)
    models: dict[str, tuple[Callable[[], Any], Any]] = {
        "LightGBM": (lambda: lgb.LGBMClassifier(n_estimators=sizes.trees, n_jobs=1, verbose=-1), X),
        "torch MLP": (lambda: TorchModel(Net, n_features_as="n_features", epochs=EPOCHS, batch_size=64), scaled(X)),
    }
    found = [row for name, (make, of_it) in models.items() for row in compared(name, make(), of_it, y, sizes, options)]
    report(
        f"planner: one request and batches, {source}, {len(y)} rows, median of {options.repeat}",
        found,
        ok=all(row["ok"] for row in found),
    )


def rows(folder: Path | None, n: int | None) -> tuple[np.ndarray, np.ndarray, str]:
    """Adult as numbers, categories as their codes; NaN where it has none."""
    if folder is None:
        X, y = make_classification(n or 32_561, 14, n_informative=8, random_state=0)
        return X, y, "synthetic"
    data = adult(Path(folder))
    data = data if n is None else data.head(n)
    frame = data.X.apply(lambda c: c.cat.codes.astype(float).where(c.notna()) if c.dtype == "category" else c)
    return frame.to_numpy(dtype=np.float64), data.y, "Adult"


def scaled(X: np.ndarray) -> np.ndarray:
    """The same on one scale and without NaN; the scale is taken as public."""
    full = np.nan_to_num(X, nan=-1.0)
    return ((full - full.mean(axis=0)) / (full.std(axis=0) + 1e-9)).astype(np.float32)


def compared(name: str, model: Any, X: Any, y: np.ndarray, sizes: Sizes, options: Any) -> list[dict[str, Any]]:
    """A row for each choice: what plans expect, and what models take."""
    cases = [(s, r, k) for s in sizes.asked for r in sizes.slices for k in BATCHES]
    expected: dict[Any, list[Any]] = {case: [] for case in cases}
    measured: dict[Any, list[Any]] = {case: [] for case in cases}
    for seed in range(options.repeat):
        touch_memory(1)
        plan = planned(model, X, y, sizes, seed)
        for s, r in dict.fromkeys(case[:2] for case in cases):
            sisa = wrap(clone(model), n_shards=s, n_slices=r, n_jobs=1, random_state=seed)
            sisa.fit(X, y, ids=np.arange(len(y)))
            asking = np.random.default_rng(seed).permutation(len(y)).tolist()
            candidate = next(c for c in plan.candidates if (c.n_shards, c.n_slices) == (s, r))
            for k, cost in zip(BATCHES, (candidate.per_request, candidate.per_batch), strict=True):
                batches = [[asking.pop() for _ in range(k)] for _ in range(sizes.requests)]
                expected[s, r, k].append(cost)
                measured[s, r, k].append(np.array([forgotten(sisa, batch) for batch in batches]))
    return [line(name, case, expected[case], measured[case], strict=not options.quick) for case in cases]


def planned(model: Any, X: Any, y: np.ndarray, sizes: Sizes, seed: int) -> ShardingPlan:
    """A plan for single requests and for the larger batches."""
    return plan_sharding(
        model,
        X,
        y,
        requests_per_month=BATCHES[-1],
        deadline=30,
        max_accuracy_loss=0.01,
        n_shards=sizes.shards,
        n_slices=sizes.slices,
        rows=sizes.tried,
        random_state=seed,
    )


def forgotten(sisa: Any, batch: list[int]) -> tuple[float, float, float]:
    """Steps, records and seconds of a request."""
    estimate = sisa.estimate(batch)
    began = time.perf_counter()
    sisa.forget(batch)
    return estimate.n_steps, estimate.presentations, time.perf_counter() - began


def line(name: str, case: Any, expected: list[Any], measured: list[Any], *, strict: bool) -> dict[str, Any]:
    each = np.concatenate(measured)
    steps, records, _ = each.mean(axis=0)
    error = each.std(axis=0) / np.sqrt(len(each))
    taken = [found[:, 2].mean() for found in measured]
    ratios = [cost.seconds / found for cost, found in zip(expected, taken, strict=True)]
    wanted = expected[0]
    counts = abs(steps - wanted.steps) < 4 * error[0] + 0.01 * wanted.steps
    shown = abs(records - wanted.records) < 4 * error[1] + 0.03 * wanted.records
    return {
        "model": name,
        **dict(zip("SRK", case, strict=True)),
        "steps": wanted.steps,
        "(seen)": float(steps),
        "records": wanted.records,
        "(seen) ": float(records),
        "expected (ms)": 1000 * statistics.median(cost.seconds for cost in expected),
        "measured (ms)": 1000 * float(statistics.median(taken)),
        "ratio": float(statistics.median(ratios)),
        "spread": f"{min(ratios):.2f} .. {max(ratios):.2f}",
        "ok": bool(not strict or (counts and shown and 1 / CLOSE < statistics.median(ratios) < CLOSE)),
    }


if __name__ == "__main__":
    main()
