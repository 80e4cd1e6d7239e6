"""What shards and slices cost in accuracy: SISA against the plain model and against bagging, on real data.

The plain model has the same hyper-parameters and all rows. Bagging has as many members as SISA has shards, each with a
random 1/S of the rows, drawn without replacement: what the size of a shard costs by itself. *One slice* is SISA without
slices. *By place* is what shards would be if they were cut from the file as it lies. *Lost* is in points, hundredths,
against the plain model of the same seed. ``--repeat`` is the number of seeds, each with a partition of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, parser, report, seconds
from joblib import Parallel, delayed
from real_data import LOADERS, Split, rows_of
from sklearn.metrics import accuracy_score, roc_auc_score

from unlearnkit import SISAClassifier
from unlearnkit.errors import DataWarning

SHARDS = (5, 10, 20)
GOAL_SHARDS, GOAL_POINTS = 5, 1.0


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--only", nargs="*", choices=sorted(LOADERS), help="these data sets")
    flags.add_argument("--jobs", type=int, default=-1, help="processes for shards and members; no result depends on it")
    options = arguments(flags)
    options.jobs = 1 if options.quick else options.jobs
    # Adult has some equal rows; how many is no concern of this benchmark.
    warnings.simplefilter("ignore", DataWarning)
    found = []
    for case in cases(options):
        before, took = len(found), seconds(lambda case=case: found.extend(rows(case, options)))
        lost = ", ".join(f"{row['lost']} (S={row['S']})" for row in found[before:])
        print(f"{case.data}, {case.model}, {took:.0f} s, points lost: {lost}", flush=True)
    judged = [row["ok"] for row in found if row["ok"] != "-"]
    report(
        "accuracy: what shards cost",
        found,
        goal_points=GOAL_POINTS,
        judged=len(judged),
        ok=all(judged) if judged else None,
    )


# -- models ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A kind of model on a data set; `seeds`: at most so many, as it is slow.

    `judged`: whether it is to lose less than a point in five shards.
    """

    data: str
    model: str
    make: Callable[[int], Any]
    judged: bool = True
    seeds: int = 100


def cases(options: Any) -> list[Case]:
    trees, epochs, few = (10, 2, 1) if options.quick else (100, 10, 5)
    every = [
        Case("digits", "random forest", lambda seed: forest(seed, trees), judged=False),
        Case("adult", "LightGBM", lambda seed: lightgbm(seed, trees)),
        Case("adult", "XGBoost", lambda seed: xgboost(seed, trees)),
        Case("adult", "one-hot, logistic", logistic),
        Case("bank", "LightGBM", lambda seed: lightgbm(seed, trees)),
        Case("bank", "hist. boosting", lambda seed: hist(seed, trees)),
        Case("agaricus", "XGBoost", lambda seed: xgboost(seed, trees)),
        Case("multiclass", "LightGBM", lambda seed: lightgbm(seed, trees), judged=False),
        Case("mnist", f"CNN {epochs} x 32", lambda seed: cnn(seed, epochs, 32), seeds=2),
        Case("mnist", f"CNN {few} x 128", lambda seed: cnn(seed, few, 128), judged=False, seeds=1),
    ]
    there = {"digits"} if options.data is None else set(LOADERS)
    return [case for case in every if case.data in there.intersection(options.only or LOADERS)]


def forest(seed: int, trees: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=trees, random_state=seed)


def lightgbm(seed: int, trees: int) -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=trees, random_state=seed, n_jobs=1, verbose=-1)


def xgboost(seed: int, trees: int) -> Any:
    from xgboost import XGBClassifier

    return XGBClassifier(n_estimators=trees, learning_rate=0.1, enable_categorical=True, random_state=seed, n_jobs=1)


def hist(seed: int, trees: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    # Left to itself it stops early on more than 10,000 rows only: another model for a shard than for the whole.
    return HistGradientBoostingClassifier(max_iter=trees, early_stopping=False, random_state=seed)


def logistic(seed: int) -> Any:
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include="category")),
        (StandardScaler(), make_column_selector(dtype_include="number")),
    )
    return make_pipeline(columns, LogisticRegression(max_iter=1000, random_state=seed))


def cnn(seed: int, epochs: int, batch: int) -> Any:
    from unlearnkit_torch import TorchModel

    return TorchModel(
        network,
        epochs=epochs,
        batch_size=batch,
        optimizer_params={"lr": 2e-3},
        predict_batch_size=4096,
        random_state=seed,
    )


def network() -> Any:
    """Two convolutions, 28,000 weights."""
    from torch import nn

    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 8, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(400, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


# -- arms --------------------------------------------------------------------------------------------------------


def rows(case: Case, options: Any) -> list[dict[str, Any]]:
    """One row for each number of shards."""
    data = LOADERS[case.data](options.data and Path(options.data))
    data = data.head(1_000) if options.quick else data
    seeds = range(1 if options.quick else min(options.repeat, case.seeds))
    plain = [committee(case, data, [np.arange(len(data.y))], seed, 1) for seed in seeds]
    numbers = SHARDS[:1] if options.quick else SHARDS
    return [row(case, data, shards, seeds, plain, options.jobs) for shards in numbers]


def row(case: Case, data: Split, shards: int, seeds: Iterable[int], plain: list[float], jobs: int) -> dict[str, Any]:
    sliced = [sisa(case, data, shards, "auto", seed, jobs) for seed in seeds]
    n_slices, scores = sliced[0][0], [score for _, score in sliced]
    whole = scores if n_slices == 1 else [sisa(case, data, shards, 1, seed, jobs)[1] for seed in seeds]
    bagging = [committee(case, data, drawn(len(data.y), shards, seed), seed, jobs) for seed in seeds]
    position = committee(case, data, np.array_split(np.arange(len(data.y)), shards), 0, jobs)
    lost = [100 * (p - s) for p, s in zip(plain, scores, strict=True)]
    judged = case.judged and shards == GOAL_SHARDS
    return {
        "data": f"{data.name}, {data.metric}",
        "model": case.model,
        "S": shards,
        "R": n_slices,
        "plain": float(np.mean(plain)),
        "SISA": float(np.mean(scores)),
        "one slice": float(np.mean(whole)),
        "bagging": float(np.mean(bagging)),
        "by place": position,
        "lost": round(float(np.mean(lost)), 2),
        "spread": f"{min(lost):.2f} .. {max(lost):.2f}",
        "ok": bool(np.mean(lost) <= GOAL_POINTS) if judged else "-",
    }


def sisa(case: Case, data: Split, shards: int, slices: int | str, seed: int, jobs: int) -> tuple[int, float]:
    model = SISAClassifier(case.make(seed), n_shards=shards, n_slices=slices, n_jobs=jobs, random_state=seed)
    model.fit(data.X, data.y, ids=np.arange(len(data.y)))
    return model.partition_.n_slices, score(data, model.classes_, model.predict_proba(data.X_test))


def drawn(n: int, members: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.sort(rng.choice(n, size=n // members, replace=False)) for _ in range(members)]


def committee(case: Case, data: Split, parts: Iterable[np.ndarray], seed: int, jobs: int) -> float:
    """Bare models, each on its part of the rows, and the mean of their probabilities."""
    classes = np.unique(data.y)
    total = np.zeros((len(data.y_test), len(classes)))
    calls = (
        delayed(trained)(case.make(1000 * member + seed), rows_of(data.X, part), data.y[part], data.X_test)
        for member, part in enumerate(parts)
    )
    for seen, probability in Parallel(n_jobs=jobs)(calls):
        total[:, np.searchsorted(classes, seen)] += probability
    return score(data, classes, total)


def trained(model: Any, X: Any, y: np.ndarray, X_test: Any) -> tuple[np.ndarray, Any]:
    """The classes of a bare model, and its probabilities; of one class it is sure."""
    seen = np.unique(y)
    return seen, model.fit(X, y).predict_proba(X_test) if len(seen) > 1 else 1.0


def score(data: Split, classes: np.ndarray, probability: np.ndarray) -> float:
    if data.metric == "AUC":
        return float(roc_auc_score(data.y_test, probability[:, 1]))
    return float(accuracy_score(data.y_test, classes[np.argmax(probability, axis=1)]))


if __name__ == "__main__":
    main()
