"""Predictions: what a model costs over its constituents, each asked once by the framework's own call on the same state.

The bare arm gets a prepared array and one thread, and does not aggregate. Times of one thread are of the processor, so
that other work on the machine does not count; the gain from two jobs is by the clock.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import torch
import xgboost
from common import arguments, ratio, report, seconds
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits
from torch import nn

from unlearnkit import SISAClassifier
from unlearnkit_torch import TorchModel

SHARDS, FEATURES, GOAL, GAIN = 20, 50, 1.10, 1.6
# Over the rows: a framework's own conversion of them for one constituent at a time, and the predictions.
MEMORY = 1.0
MIN_TURN_S = 0.2
# A matrix of XGBoost's own pays for one row, and not for many.
FEW = 1_000
Bare = Callable[[list[Any], Any, np.ndarray], Callable[[], Any]]


def main() -> None:
    options = arguments(__doc__)
    size = 2_000 if options.quick else 20_000
    torch.set_num_threads(1)
    rows = [row for case in cases(quick=options.quick) for row in case_rows(case, size, options.repeat, options.quick)]
    facts = {"shards": SHARDS, "features": FEATURES, "batch": size}
    report("predict: over the constituents", rows, **facts, ok=all(row["ok"] for row in rows))


@dataclass(frozen=True)
class Case:
    """A model and the bare calls of its constituents."""

    name: str
    model: Any
    bare: Bare
    dtype: Any = np.float64


def cases(*, quick: bool) -> list[Case]:
    trees, forest = (10, 5) if quick else (100, 20)

    def torch_case(name: str, module: Any) -> Case:
        model = TorchModel(module=module, loss="cross_entropy", optimizer="adam", epochs=1 if quick else 3)
        return Case(name, model, bare_torch, np.float32)

    return [
        Case("LightGBM", lightgbm.LGBMClassifier(n_estimators=trees, verbose=-1), bare_lightgbm),
        Case("XGBoost", xgboost.XGBClassifier(n_estimators=trees, n_jobs=1), bare_xgboost),
        torch_case("torch", net),
        torch_case("torch, a class of one's own", Net),
        Case("tree", DecisionTreeClassifier(), bare_sklearn),
        Case("forest", RandomForestClassifier(forest), bare_forest),
        Case("hist. boosting", HistGradientBoostingClassifier(max_iter=trees), bare_sklearn),
        Case("logistic", LogisticRegression(), bare_sklearn),
    ]


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 64), nn.Tanh(), nn.Linear(64, 2))


class Net(nn.Module):
    """The same network as a class, of whose layers nobody knows in which order it calls them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(FEATURES, 64), nn.Linear(64, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.first(rows)))


# -- the bare calls --------------------------------------------------------------------------------------------------


def bare_lightgbm(states: list[Any], learner: Any, X: np.ndarray) -> Callable[[], Any]:  # noqa: ARG001
    boosters = [state.booster for state in states]
    return lambda: [booster.predict(X, num_threads=1) for booster in boosters]


def bare_xgboost(states: list[Any], learner: Any, X: np.ndarray) -> Callable[[], Any]:  # noqa: ARG001
    """Whichever is fastest: a matrix made once for few rows, the array in its place for many."""
    boosters = [state.booster for state in states]
    if len(X) > FEW:
        return lambda: [booster.inplace_predict(X) for booster in boosters]

    def few() -> list[np.ndarray]:
        matrix = xgboost.DMatrix(X, nthread=1)
        return [booster.predict(matrix) for booster in boosters]

    return few


def bare_torch(states: list[Any], learner: Any, X: np.ndarray) -> Callable[[], Any]:
    modules, tensor = [learner.module(state) for state in states], torch.from_numpy(X)

    def bare() -> list[np.ndarray]:
        with torch.inference_mode():
            return [torch.softmax(module(tensor), dim=1).numpy() for module in modules]

    return bare


def bare_sklearn(states: list[Any], learner: Any, X: np.ndarray) -> Callable[[], Any]:  # noqa: ARG001
    return lambda: [state.predict_proba(X) for state in states]


def bare_forest(states: list[Any], learner: Any, X: np.ndarray) -> Callable[[], Any]:
    return bare_sklearn([learner.whole(state) for state in states], learner, X)


# -- the rows of the table -------------------------------------------------------------------------------------------


def case_rows(case: Case, size: int, repeat: int, quick: bool) -> list[dict[str, Any]]:  # noqa: FBT001
    X, y = make_classification(size, FEATURES, n_informative=20, random_state=0)
    model = SISAClassifier(case.model, n_shards=SHARDS, random_state=0).fit(X.astype(case.dtype), y)
    batch = np.ascontiguousarray(X + 0.01, dtype=case.dtype)
    return [
        over_bare(case, model, batch, repeat, calls=1),
        over_bare(case, model, batch[:1], repeat, calls=5 if quick else 200),
        *two_jobs(case, model, batch, repeat, quick),
        *memory(case, model, batch, repeat),
    ]


def over_bare(case: Case, model: Any, X: np.ndarray, repeat: int, calls: int) -> dict[str, Any]:
    bare = case.bare(model.estimators_, model._ensemble.learner, X)
    with threadpool_limits(limits=1):
        arms = {"bare": bare, "ours": lambda: model.predict_proba(X)}
        times = turns(arms, repeat, calls, time.process_time)
    found = ratio(times["ours"], times["bare"])
    what = f"{case.name}, {len(X)} row{'s' if len(X) > 1 else ''}: over bare"
    return row(what, times["bare"], times["ours"], found, f"<= {GOAL}", ok=found["median"] <= GOAL)


def two_jobs(case: Case, model: Any, X: np.ndarray, repeat: int, quick: bool) -> list[dict[str, Any]]:  # noqa: FBT001
    """What two jobs gain, and beside it what two threads gain that ask the bare constituents."""

    def ask(jobs: int) -> None:
        model.set_params(n_jobs=jobs).predict_proba(X)

    states, learner = model.estimators_, model._ensemble.learner
    calls = [case.bare([state], learner, X) for state in states]

    def ask_bare(jobs: int) -> None:
        # OpenMP counts its threads for each thread that comes in.
        with ThreadPoolExecutor(jobs, initializer=partial(threadpool_limits, 1)) as pool:
            list(pool.map(lambda call: call(), calls))

    arms = {
        "one": partial(ask, 1),
        "two": partial(ask, 2),
        "bare": partial(ask_bare, 1),
        "bare, two": partial(ask_bare, 2),
    }
    with threadpool_limits(limits=1):
        # What takes some milliseconds is over before other work on the machine is evened out.
        calls_each = 1 if quick else max(1, int(MIN_TURN_S / seconds(arms["one"])))
        times = turns(arms, repeat, calls_each, time.perf_counter)
    model.set_params(n_jobs=None)
    gain, of_bare = ratio(times["one"], times["two"]), ratio(times["bare"], times["bare, two"])
    ok = gain["median"] >= GAIN or quick or (os.cpu_count() or 1) < 2
    what = f"{case.name}, {len(X)} rows: gain"
    return [
        row(f"{what} by n_jobs=2", times["one"], times["two"], gain, f">= {GAIN}", ok=ok),
        row(f"{what} of bare calls by two threads", times["bare"], times["bare, two"], of_bare, "", ok=True),
    ]


def memory(case: Case, model: Any, X: np.ndarray, repeat: int) -> list[dict[str, Any]]:
    """The most that a prediction takes besides the rows, as a share of theirs, and what the bare calls take."""
    bare = case.bare(model.estimators_, model._ensemble.learner, X)
    found = {"ours": (lambda: model.predict_proba(X)), "bare": bare}
    shares = {name: [grown(call) / X.nbytes for _ in range(repeat)] for name, call in found.items()}
    spreads = {n: {"median": float(np.median(s)), "low": min(s), "high": max(s)} for n, s in shares.items()}
    what = f"{case.name}, {len(X)} rows: memory besides them"
    return [
        row(what, [], [], spreads["ours"], f"<= {MEMORY}", ok=spreads["ours"]["median"] <= MEMORY),
        row(f"{what}, bare", [], [], spreads["bare"], "", ok=True),
    ]


def row(
    what: str, base: list[float], ours: list[float], found: dict[str, float], goal: str, *, ok: bool
) -> dict[str, Any]:
    spread = f"{found['low']:.3f} .. {found['high']:.3f}"
    ms = {name: 1e3 * float(np.median(times)) if times else "" for name, times in (("ms", base), ("ms ours", ours))}
    return {"what": what, **ms, "ratio": found["median"], "spread": spread, "goal": goal, "ok": ok}


def turns(
    arms: dict[str, Callable[[], Any]], repeat: int, calls: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds for each call of each arm, the arms taking turns, after one turn that does not count."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(repeat + 1):
        for name, arm in arms.items():
            began = clock()
            for _ in range(calls):
                arm()
            times[name].append((clock() - began) / calls)
    return {name: taken[1:] for name, taken in times.items()}


def grown(call: Callable[[], Any]) -> float:
    """The bytes by which the process is larger at the peak of a call than before, what the frameworks take included."""
    call()
    # What was freed before and kept by the allocator would hide what is taken now.
    ctypes.CDLL(None).malloc_trim(0)
    peak, done = [resident()], threading.Event()

    def watch() -> None:
        while not done.wait(0.0005):
            peak.append(resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    before = resident()
    call()
    done.set()
    watcher.join()
    return float(max(0, max(peak) - before))


def resident() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
