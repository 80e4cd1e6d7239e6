"""The paper's table: K requests in one batch, against retraining the unsharded model with the same epochs.

Bourtoule et al., "Machine Unlearning", IEEE S&P 2021, tables of section VII; here S=20, R=50, 20 epochs, one thread.

Columns: *speed-up*, seconds of a plain loop over prepared tensors, over those of isolation and repair together.
*bound*, what the requests that were drawn leave at best: sample presentations of a whole training over those of the
steps trained again, read off the plans before and after. *of bound* and *spread*, the share of it that was reached.
*expect*, the bound for uniform requests by the cost equations of section V. *paper*, what was measured there.
*isol. ms*, time until no vote and no state is influenced by the records any more (`isolated_at` of the receipt; until
the call returns the rows that remain are copied, which counts as unlearning); *faster*, how often that goes into one
retrain. *lost*, points of accuracy on held-out rows, SISA against the plain model. A plain run comes before each
round of draws.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bands import published
from common import arguments, parser, ratio, report, seconds, touch_memory
from paper_cases import Case, purchase, svhn
from threadpoolctl import threadpool_limits
from torch import nn

from unlearnkit import SISAClassifier
from unlearnkit_torch import TorchModel

OF_BOUND, TIMES_FASTER = 0.95, 1_000


@dataclass(frozen=True)
class Draw:
    """One batch of requests, carried out on a fresh copy of the model."""

    plain: float
    isolate: float
    unlearn: float
    bound: float


def main() -> None:
    flags = parser(__doc__)
    flags.set_defaults(repeat=5)
    flags.add_argument("--part", choices=("purchase", "svhn"), help="one of the two workloads")
    options = arguments(flags)
    repeat = min(options.repeat, 2) if options.quick else options.repeat
    data = None if options.data is None else Path(options.data)
    rows = []
    if options.part != "svhn":
        rows += rows_of(purchase(quick=options.quick), repeat)
    if options.part != "purchase":
        rows += rows_of(svhn(data, quick=options.quick), repeat)
    report("paper: K requests in one batch against one retrain", rows, ok=all(row["ok"] for row in rows))


def rows_of(case: Case, repeat: int) -> list[dict[str, Any]]:
    model = sisa(case).fit(case.X, case.y, ids=np.arange(len(case.X)))
    tensors = torch.from_numpy(case.X.astype(np.float32)), torch.from_numpy(case.y)
    draws: dict[int, list[Draw]] = {requests: [] for requests in case.paper}
    for number in range(repeat):
        # Not for its seconds: memory that the copies below touch first is then there already.
        touch_memory(case.gigabytes)
        plain = Plain(case, *tensors)
        retrain = seconds(plain.fit)
        for requests, done in draws.items():
            done.append(unlearned(case, model, requests, number, retrain))
    lost = 100 * (plain.score(case.X_test, case.y_test) - float(np.mean(model.predict(case.X_test) == case.y_test)))
    return [row(case, requests, found, lost) for requests, found in draws.items()]


def row(case: Case, requests: int, draws: list[Draw], lost: float) -> dict[str, Any]:
    plain = [draw.plain for draw in draws]
    speedup = ratio(plain, [draw.unlearn for draw in draws])
    of_bound = ratio([draw.plain / draw.unlearn for draw in draws], [draw.bound for draw in draws])
    faster = ratio(plain, [draw.isolate for draw in draws])["median"]
    return {
        "shape": f"{case.name} {len(case.X) / 1_000:g}k",
        "K": requests,
        "speed-up": speedup["median"],
        "bound": statistics.median(draw.bound for draw in draws),
        "of bound": of_bound["median"],
        "spread": f"{of_bound['low']:.2f}..{of_bound['high']:.2f}",
        "expect": 1 / published(case.n_shards, case.n_slices, requests),
        "paper": case.paper[requests],
        "isol. ms": 1e3 * statistics.median(draw.isolate for draw in draws),
        "faster": faster,
        "lost": lost,
        "ok": bool(of_bound["median"] >= OF_BOUND and faster >= TIMES_FASTER and lost < case.most_lost),
    }


# -- the model ---------------------------------------------------------------------------------------------------


def sisa(case: Case) -> SISAClassifier:
    model = TorchModel(
        module=case.net,
        loss="cross_entropy",
        optimizer="sgd",
        optimizer_params={"lr": case.lr},
        epochs=case.epochs,
        batch_size=case.batch_size,
    )
    return SISAClassifier(model, n_shards=case.n_shards, n_slices=case.n_slices, random_state=0)


def unlearned(case: Case, model: SISAClassifier, requests: int, seed: int, retrain: float) -> Draw:
    """Isolation and repair for requests drawn among all ids."""
    ids = np.random.default_rng([seed, requests]).choice(len(case.X), size=requests, replace=False).tolist()
    mine = copy.deepcopy(model)
    before = {step.key for step in steps_of(mine)}
    began = datetime.now(UTC)
    forget = seconds(lambda: mine.forget(ids, repair=False))
    isolate = (mine.receipts()[-1].isolated_at - began).total_seconds()
    unlearn = forget + seconds(mine.repair)
    again = presentations(case, (step for step in steps_of(mine) if step.key not in before))
    return Draw(retrain, isolate, unlearn, float(case.epochs * len(case.X) / again))


def steps_of(model: SISAClassifier) -> Iterator[Any]:
    return (step for steps in model._ensemble._build.plan.shards for step in steps)


def presentations(case: Case, steps: Iterator[Any]) -> Fraction:
    """How often these steps show a row to the network."""
    return sum((case.epochs * step.step.epochs * step.n for step in steps), Fraction(0))


# -- the plain loop ----------------------------------------------------------------------------------------------


class Plain:
    """The unsharded model, trained by a plain loop over tensors that lie ready."""

    def __init__(self, case: Case, X: torch.Tensor, y: torch.Tensor) -> None:
        self.case, self.X, self.y = case, X, y

    def fit(self) -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with threadpool_limits(limits=1):
                self._fit()
        finally:
            torch.set_num_threads(before)

    def _fit(self) -> None:
        torch.manual_seed(0)
        self.module = self.case.net()
        optimizer = torch.optim.SGD(self.module.parameters(), lr=self.case.lr)
        loss_of = nn.CrossEntropyLoss()
        for _ in range(self.case.epochs):
            for chosen in torch.randperm(len(self.X)).split(self.case.batch_size):
                optimizer.zero_grad()
                loss = loss_of(self.module(self.X.index_select(0, chosen)), self.y.index_select(0, chosen))
                loss.backward()
                optimizer.step()

    def score(self, X: np.ndarray, y: np.ndarray) -> float:
        """Accuracy."""
        with torch.inference_mode():
            output = self.module.eval()(torch.from_numpy(X.astype(np.float32)))
        return float(np.mean(output.argmax(dim=1).numpy() == y))


if __name__ == "__main__":
    main()
