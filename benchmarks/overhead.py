"""The tax: fit and repair over the bare framework calls of the same steps, and slicing over not slicing.

The bare baseline gets prepared arrays, already split into shards and sorted, and one thread like the model.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import lightgbm as lgb
import numpy as np
import torch
import xgboost as xgb
from common import alternate, arguments, ratio, report, seconds
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits
from torch import nn

import unlearnkit_lightgbm.settings as lightgbm_settings
import unlearnkit_xgboost.training as xgboost_training
from unlearnkit import SISAClassifier, Step
from unlearnkit_torch import TorchModel

TREE_GOAL = 1.05
FIXED = {"deterministic": True, "force_row_wise": True, "n_jobs": 1, "verbose": -1}


def main() -> None:
    options = arguments(__doc__)
    n, trees = (2_000, 10) if options.quick else (200_000, 100)
    # The times of boosters scatter by as much as the tax that is looked for.
    often = options.repeat if options.quick else 2 * options.repeat + 1
    boosters = {
        "LightGBM": lgb.LGBMClassifier(n_estimators=trees, **FIXED),
        "XGBoost": xgb.XGBClassifier(n_estimators=trees, n_jobs=1),
    }
    rows = [
        *tree_rows("LightGBM", boosters["LightGBM"], n, often),
        *tree_rows("XGBoost", boosters["XGBoost"], n, often),
        *tree_rows("RandomForest", RandomForestClassifier(trees, n_jobs=1), n // 4, options.repeat),
        *torch_rows(4_000 if options.quick else 250_000, options.repeat),
        slicing_row("LightGBM", boosters["LightGBM"], 0.95, n, often),
        slicing_row("XGBoost", boosters["XGBoost"], 1.0, n, often),
    ]
    if options.data is not None:
        adult = one_hot_adult(Path(options.data), 2_000 if options.quick else None)
        rows += [accuracy_row(name, model, adult) for name, model in boosters.items()]
    report("overhead: over the bare framework calls", rows, ok=all(row["ok"] for row in rows))


def row(what: str, found: dict[str, float], goal: float, step_s: float | str = "") -> dict[str, Any]:
    spread = f"{found['low']:.3f} .. {found['high']:.3f}"
    ok = found["median"] <= goal
    return {"what": what, "ratio": found["median"], "spread": spread, "goal": goal, "ok": ok, "s a step": step_s}


def seconds_a_step(bare: list[float], steps: int) -> float:
    """Seconds of the bare calls of one step: a tax is a fixed price, which short steps would drown in."""
    return float(np.median(bare)) / steps


# -- trees -------------------------------------------------------------------------------------------------------


def tree_rows(name: str, model: Any, n: int, repeat: int) -> list[dict[str, Any]]:
    """With one slice the steps are the bare calls themselves, so that nothing but the tax is in the ratio."""
    X, y = make_classification(n, 50, n_informative=20, random_state=0)
    ids = np.arange(n)
    sisa = SISAClassifier(model, n_shards=10, n_slices=1, random_state=0).fit(X, y, ids=ids)
    shards = prepared(sisa)

    def bare_shard(features: np.ndarray, target: np.ndarray) -> None:
        clone(model).fit(features, target)

    def bare() -> None:
        for features, target in shards:
            bare_shard(features, target)

    times = alternate({"bare": bare, "fit": lambda: clone(sisa).fit(X, y, ids=ids)}, repeat)
    what = f"{name} {n} x 50, S=10, R=1, {model.n_estimators} trees: fit"
    return [
        row(what, ratio(times["fit"], times["bare"]), TREE_GOAL, seconds_a_step(times["bare"], len(shards))),
        repair_row(f"{name}: forget one id and repair", sisa, bare_shard),
    ]


def prepared(sisa: SISAClassifier) -> list[tuple[np.ndarray, np.ndarray]]:
    """The arrays of each shard, as the model sorted them."""
    records = sisa._ensemble._build.records
    return [(shard.X, shard.y) for shard in map(records.shard, range(records.n_shards))]


def repair_row(what: str, sisa: SISAClassifier, bare_shard: Callable[..., None], repeat: int = 7) -> dict[str, Any]:
    """Forget one id of each of some shards, all steps of a shard at stake, against the bare calls for that shard."""
    bare, ours = [], []
    for i in first_slice_ids(sisa, repeat):
        shard = sisa.partition_.locate([i])[0][0]
        bare.append(seconds(lambda s=shard: bare_shard(*prepared(sisa)[s])))
        ours.append(seconds(lambda i=i: sisa.forget(i)))
    return row(what, ratio(ours, bare), TREE_GOAL)


def first_slice_ids(sisa: SISAClassifier, count: int) -> list[int]:
    candidates = list(range(2_000))
    cells = sisa.partition_.locate(candidates)
    return [i for i, (_, r) in zip(candidates, cells, strict=True) if r == 0][:count]


def slicing_row(name: str, model: Any, goal: float, n: int, repeat: int) -> dict[str, Any]:
    """Sliced over not sliced, at the framework's defaults."""
    X, y = make_classification(n, 50, n_informative=20, random_state=0)
    arms = {}
    for slices in (1, 10):
        sisa = SISAClassifier(model, n_shards=10, n_slices=slices, random_state=0)
        arms[str(slices)] = lambda sisa=sisa: clone(sisa).fit(X, y, ids=np.arange(n))
    times = alternate(arms, repeat)
    return row(f"{name} {n} x 50, S=10, defaults: R=10 over R=1", ratio(times["10"], times["1"]), goal)


def accuracy_row(name: str, model: Any, adult: tuple[Any, Any, Any, Any]) -> dict[str, Any]:
    """AUC lost on one-hot Adult by renewing bin edges once instead of at every step, with all bins."""
    X, y, Xt, yt = adult
    auc = {}
    for arm in ("renewed once", "fresh at every step"):
        sisa = SISAClassifier(model, n_shards=20, n_slices=10, random_state=0)
        with fresh_edges() if arm.startswith("fresh") else ExitStack():
            sisa.fit(X, y)
        auc[arm] = roc_auc_score(yt, sisa.predict_proba(Xt)[:, 1])
    lost = auc["fresh at every step"] - auc["renewed once"]
    spread = ", ".join(f"{arm} {value:.4f}" for arm, value in auc.items())
    what = f"{name}: AUC lost, one-hot Adult, S=20, R=10"
    return {"what": what, "ratio": lost, "spread": spread, "goal": 0.003, "ok": lost <= 0.003, "s a step": ""}


def fresh_edges() -> ExitStack:
    """As if nothing were saved on bins: new edges at every step, none of them coarse."""
    stack = ExitStack()
    stack.enter_context(mock.patch.object(Step, "renews_edges", property(lambda step: step.start > 0)))
    stack.enter_context(mock.patch.object(lightgbm_settings, "COARSE", 255))
    stack.enter_context(mock.patch.object(xgboost_training, "COARSE", 256))
    return stack


def one_hot_adult(data: Path, limit: int | None) -> tuple[Any, Any, Any, Any]:
    import pandas as pd

    def read(name: str) -> Any:
        return pd.read_csv(data / "adult" / name, header=None, skipinitialspace=True, nrows=limit)

    train, test = read("adult_train.csv"), read("adult_test.csv")
    both = pd.get_dummies(pd.concat([train, test]).drop(columns=14)).astype(np.float64).to_numpy()
    target = pd.concat([train, test])[14].str.startswith(">50K").astype(int).to_numpy()
    return both[: len(train)], target[: len(train)], both[len(train) :], target[len(train) :]


# -- torch -------------------------------------------------------------------------------------------------------


TORCH_GOAL = 1.05
# So that a step takes the fifth of a second that the goal is for.
EPOCHS = 10


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(600, 128), nn.Tanh(), nn.Linear(128, 2))


def torch_rows(n: int, repeat: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    X = (rng.random((n, 600)) < 0.3).astype(np.float32)
    y = (X[:, :20].sum(axis=1) > 6).astype(np.int64)
    ids = np.arange(n)
    model = TorchModel(module=net, loss="cross_entropy", optimizer="adam", epochs=EPOCHS, batch_size=256)
    sisa = SISAClassifier(model, n_shards=10, n_slices=5, random_state=0).fit(X, y, ids=ids)
    steps = sisa._ensemble._build.plan.shards
    tensors = [(torch.from_numpy(f), torch.from_numpy(t)) for f, t in prepared(sisa)]

    def bare() -> None:
        for shard, (features, target) in enumerate(tensors):
            bare_torch(features, target, steps[shard])

    times = alternate({"bare": bare, "fit": lambda: clone(sisa).fit(X, y, ids=ids)}, repeat)
    what = f"torch {n} x 600, S=10, R=5, {EPOCHS} epochs: fit"
    step_s = seconds_a_step(times["bare"], sum(map(len, steps)))
    fit = row(what, ratio(times["fit"], times["bare"]), TORCH_GOAL, step_s)

    def bare_shard(features: np.ndarray, target: np.ndarray) -> None:
        bare_torch(torch.from_numpy(features), torch.from_numpy(target), steps[0], len(features))

    repair = repair_row("torch: forget one id of a first slice and repair", sisa, bare_shard)
    return [fit, {**repair, "goal": TORCH_GOAL, "ok": repair["ratio"] <= TORCH_GOAL}]


def bare_torch(features: torch.Tensor, target: torch.Tensor, steps: Any, n: int | None = None) -> None:
    """A plain loop over the same prefixes for the same number of epochs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            module = net()
            optimizer = torch.optim.Adam(module.parameters())
            for planned in steps:
                rows, epochs = min(planned.n, n or planned.n), float(planned.step.epochs) * EPOCHS
                plain_epochs(module, optimizer, features, target, rows, epochs)
    finally:
        torch.set_num_threads(before)


def plain_epochs(module: nn.Module, optimizer: Any, features: Any, target: Any, n: int, epochs: float) -> None:
    batches = round(epochs * -(-n // 256))
    loss_of = nn.CrossEntropyLoss()
    while batches > 0:
        order = torch.randperm(n)
        for start in range(0, n, 256):
            chosen = order[start : start + 256]
            optimizer.zero_grad()
            loss_of(module(features[chosen]), target[chosen]).backward()
            optimizer.step()
            batches -= 1
            if batches == 0:
                return


if __name__ == "__main__":
    main()
