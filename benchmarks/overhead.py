"""The tax: fit and repair over the bare framework calls of the same steps, and slicing over not slicing.

The bare baseline gets prepared arrays, already split into shards and sorted, and one thread like the model.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import lightgbm as lgb
import numpy as np
import torch
from common import alternate, arguments, ratio, report, seconds
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits
from torch import nn

from unlearnkit import SISAClassifier, Step
from unlearnkit_torch import TorchModel

FIXED = {"deterministic": True, "force_row_wise": True, "n_jobs": 1, "verbose": -1}


def main() -> None:
    options = arguments(__doc__)
    rows = [
        *lightgbm_rows(5_000 if options.quick else 200_000, options.repeat),
        *torch_rows(4_000 if options.quick else 250_000, options.repeat),
        *slicing_rows(5_000 if options.quick else 200_000, options.repeat),
    ]
    if options.data is not None:
        rows.append(accuracy_row(Path(options.data), quick=options.quick))
    report("overhead: over the bare framework calls", rows, ok=all(row["ok"] for row in rows))


def row(what: str, found: dict[str, float], goal: float) -> dict[str, Any]:
    spread = f"{found['low']:.3f} .. {found['high']:.3f}"
    return {"what": what, "ratio": found["median"], "spread": spread, "goal": goal, "ok": found["median"] <= goal}


# -- LightGBM ----------------------------------------------------------------------------------------------------


def lightgbm_rows(n: int, repeat: int) -> list[dict[str, Any]]:
    X, y = make_classification(n, 50, n_informative=20, random_state=0)
    ids = np.arange(n)
    model = lgb.LGBMClassifier(n_estimators=100, **FIXED)
    sisa = SISAClassifier(model, n_shards=10, n_slices=1, random_state=0).fit(X, y, ids=ids)
    shards = prepared(sisa)

    def bare() -> None:
        for features, target in shards:
            lgb.LGBMClassifier(n_estimators=100, **FIXED).fit(features, target)

    times = alternate({"bare": bare, "fit": lambda: clone(sisa).fit(X, y, ids=ids)}, repeat)
    fit = row(f"LightGBM {n} x 50, S=10, R=1, 100 trees: fit", ratio(times["fit"], times["bare"]), 1.10)
    repair = repair_row("LightGBM: forget one id and repair", sisa, bare_lightgbm)
    return [fit, repair]


def bare_lightgbm(features: np.ndarray, target: np.ndarray) -> None:
    lgb.LGBMClassifier(n_estimators=100, **FIXED).fit(features, target)


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
    return row(what, ratio(ours, bare), 1.10)


def first_slice_ids(sisa: SISAClassifier, count: int) -> list[int]:
    candidates = list(range(2_000))
    cells = sisa.partition_.locate(candidates)
    return [i for i, (_, r) in zip(candidates, cells, strict=True) if r == 0][:count]


def slicing_rows(n: int, repeat: int) -> list[dict[str, Any]]:
    """Sliced over not sliced: like with like, and at the defaults, where only the sliced model has the guard.

    The guard against exploding leaves, ``max_delta_step``, makes finding a split dearer whatever the slicing.
    """
    X, y = make_classification(n, 50, n_informative=20, random_state=0)
    arms = {}
    for guard, slices in ((1, 1), (1, 10), (None, 1), (None, 10)):
        given = {} if guard is None else {"max_delta_step": guard}
        sisa = SISAClassifier(
            lgb.LGBMClassifier(n_estimators=100, **given, **FIXED), n_shards=10, n_slices=slices, random_state=0
        )
        arms[f"{guard}/{slices}"] = lambda sisa=sisa: clone(sisa).fit(X, y, ids=np.arange(n))
    times = alternate(arms, repeat)
    what = f"LightGBM {n} x 50, S=10: R=10 over R=1"
    return [
        row(f"{what}, max_delta_step=1", ratio(times["1/10"], times["1/1"]), 1.05),
        row(f"{what}, defaults", ratio(times["None/10"], times["None/1"]), 1.05),
    ]


def accuracy_row(data: Path, *, quick: bool) -> dict[str, Any]:
    """AUC lost on one-hot Adult by renewing bin edges once instead of at every step."""
    X, y, Xt, yt = one_hot_adult(data, 4_000 if quick else None)
    auc = {}
    for arm in ("renewed once", "fresh at every step"):
        model = lgb.LGBMClassifier(n_estimators=100, **FIXED)
        sisa = SISAClassifier(model, n_shards=20, n_slices=10, random_state=0)
        fresh = mock.patch.object(Step, "renews_edges", property(lambda step: step.start > 0))
        with fresh if arm.startswith("fresh") else mock.patch.dict({}):
            sisa.fit(X, y)
        auc[arm] = roc_auc_score(yt, sisa.predict_proba(Xt)[:, 1])
    lost = auc["fresh at every step"] - auc["renewed once"]
    spread = ", ".join(f"{arm} {value:.4f}" for arm, value in auc.items())
    what = "AUC lost, one-hot Adult, S=20, R=10"
    return {"what": what, "ratio": lost, "spread": spread, "goal": 0.003, "ok": lost <= 0.003}


def one_hot_adult(data: Path, limit: int | None) -> tuple[Any, Any, Any, Any]:
    import pandas as pd

    def read(name: str) -> Any:
        return pd.read_csv(data / "adult" / name, header=None, skipinitialspace=True, nrows=limit)

    train, test = read("adult_train.csv"), read("adult_test.csv")
    both = pd.get_dummies(pd.concat([train, test]).drop(columns=14)).astype(np.float64).to_numpy()
    target = pd.concat([train, test])[14].str.startswith(">50K").astype(int).to_numpy()
    return both[: len(train)], target[: len(train)], both[len(train) :], target[len(train) :]


# -- torch -------------------------------------------------------------------------------------------------------


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(600, 128), nn.Tanh(), nn.Linear(128, 2))


def torch_rows(n: int, repeat: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    X = (rng.random((n, 600)) < 0.3).astype(np.float32)
    y = (X[:, :20].sum(axis=1) > 6).astype(np.int64)
    ids = np.arange(n)
    model = TorchModel(module=net, loss="cross_entropy", optimizer="adam", epochs=5, batch_size=256)
    sisa = SISAClassifier(model, n_shards=10, n_slices=5, random_state=0).fit(X, y, ids=ids)
    steps = sisa._ensemble._build.plan.shards
    tensors = [(torch.from_numpy(f), torch.from_numpy(t)) for f, t in prepared(sisa)]

    def bare() -> None:
        for shard, (features, target) in enumerate(tensors):
            bare_torch(features, target, steps[shard])

    times = alternate({"bare": bare, "fit": lambda: clone(sisa).fit(X, y, ids=ids)}, repeat)
    fit = row(f"torch {n} x 600, S=10, R=5, 5 epochs: fit", ratio(times["fit"], times["bare"]), 1.10)

    def bare_shard(features: np.ndarray, target: np.ndarray) -> None:
        bare_torch(torch.from_numpy(features), torch.from_numpy(target), steps[0], len(features))

    return [fit, repair_row("torch: forget one id of a first slice and repair", sisa, bare_shard)]


def bare_torch(features: torch.Tensor, target: torch.Tensor, steps: Any, n: int | None = None) -> None:
    """A plain loop over the same prefixes for the same number of epochs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            module = net()
            optimizer = torch.optim.Adam(module.parameters())
            for planned in steps:
                plain_epochs(
                    module, optimizer, features, target, min(planned.n, n or planned.n), float(planned.step.epochs) * 5
                )
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
