"""How cost grows with the rows: fit, isolate and repair at one to ten million rows, in shards of one size, in a folder.

Each size is fitted in a process of its own, so that peak memory is its own; so is that of forgetting, in a process that
has loaded the model. What counts as data is X, y and ids. The learner is cheap, so that the share of the core shows.
Besides: ids placed a second, and one request for a third of all records against a build of all. Figures of the
processor alone are for machines that others use as well; they have no goal.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, parser, report, touch_memory
from lightgbm import LGBMClassifier
from torch import nn

from unlearnkit import HashPartition, SISAClassifier, load
from unlearnkit.ids import checked_ids
from unlearnkit_torch import TorchModel

N_FEATURES, N_SLICES = 20, 5
FULL_BATCH = 250_000
MILLION = 1_000_000
FLAT, FIT_MEMORY, FORGET_MEMORY, IDS_PER_SECOND, BATCH = 1.2, 1.5, 4.0, 1e6, 1.05


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--rows", default="1,3,10", help="sizes in millions of rows, with commas between them")
    flags.add_argument("--shard", type=int, default=50_000, help="rows of a shard")
    flags.add_argument("--requests", type=int, default=15, help="single requests at each size")
    flags.add_argument("--child", help=argparse.SUPPRESS)
    options = arguments(flags)
    if options.child is not None:
        call, *given = json.loads(options.child)
        print(json.dumps(CHILDREN[call](*given)))
        return
    sizes = [int(float(size) * MILLION) for size in options.rows.split(",")]
    shard, requests, repeat, n_batch = options.shard, options.requests, options.repeat, FULL_BATCH
    if options.quick:
        sizes, shard, requests, repeat, n_batch = [4_000, 8_000], 1_000, 3, 1, 2_500
    with tempfile.TemporaryDirectory() as folder:
        stores = {n: Path(folder, str(n)) for n in sizes}
        rows = [
            *fits(stores, shard, repeat),
            *single_requests(stores, requests),
            *memory_of_requests(stores if not options.quick else {sizes[0]: stores[sizes[0]]}, shard, requests),
            *hashing(min(sizes[0], MILLION), repeat),
            *together(Path(folder), n_batch, shard, repeat),
        ]
    title = f"scale: {', '.join(f'{n:,}' for n in sizes)} x {N_FEATURES} float32, shards of {shard:,}, R={N_SLICES}"
    report(title, rows, ok=all(row["ok"] is not False for row in rows))


# -- growth -----------------------------------------------------------------------------------------------------------


def fits(stores: dict[int, Path], shard: int, repeat: int) -> list[dict[str, Any]]:
    """Time and memory of a fit of each size, the sizes taking turns."""
    found: dict[int, list[dict[str, float]]] = {n: [] for n in stores}
    for turn in range(repeat):
        for n, path in stores.items():
            touch_memory()
            # The last one stays, to be asked to forget.
            last = turn + 1 == repeat
            found[n].append(child("fit", str(path if last else f"{path}-{turn}"), n, shard))
            if not last:
                shutil.rmtree(f"{path}-{turn}")
    of = {name: {n: [f[name] for f in own] for n, own in found.items()} for name in ("us", "cpu_us", "memory")}
    return [
        *flat("fit, per row (us)", of["us"]),
        *flat("fit, per row, processor (us)", of["cpu_us"], goal=None),
        *(within("peak memory of fit / data", n, values, FIT_MEMORY) for n, values in of["memory"].items()),
    ]


def child(*call: Any) -> Any:
    """What a function gives that is called in a process of its own."""
    # A script of its own: a fork would have the memory of this process.
    command = [sys.executable, __file__, "--child", json.dumps(call)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def fit(path: str, n: int, shard: int) -> dict[str, float]:
    """Fit n rows into a store: time, and peak memory over the size of the data."""
    warm_up()
    X, y, ids = data(n)
    clf = model(n, shard, path)
    size = X.nbytes + y.nbytes + ids.nbytes
    with_data = resident()
    began, cpu = time.perf_counter(), time.process_time()
    clf.fit(X, y, ids=ids)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"us": 1e6 * seconds / n, "cpu_us": 1e6 * cpu / n, "memory": (size + peak() - with_data) / size}


def single_requests(stores: dict[int, Path], requests: int) -> list[dict[str, Any]]:
    """Milliseconds of single requests, the models taking turns."""
    models = {n: load(path, refresh_s=0) for n, path in stores.items()}
    chosen = {n: np.random.default_rng(0).permutation(n)[: requests + 2].tolist() for n in models}
    goals = {
        "isolate one id (ms)": FLAT,
        "isolate, processor (ms)": None,
        "purge and sign, processor (ms)": None,
        "repair (ms)": FLAT,
        "repair, processor (ms)": None,
    }
    found: dict[str, dict[int, list[float]]] = {what: {n: [] for n in models} for what in goals}
    for turn in range(requests + 2):
        for n, clf in models.items():
            times = one_request(clf, chosen[n][turn])
            # The first ones import what is needed.
            for what, value in zip(goals, times, strict=True) if turn > 1 else ():
                found[what][n].append(1e3 * value)
    return [row for what, goal in goals.items() for row in flat(what, found[what], goal)]


def one_request(clf: SISAClassifier, chosen: int) -> tuple[float, ...]:
    """Seconds until isolated, on the clock and of the processor, of purge, and of repair."""
    marks: list[float] = []
    eraser = type(clf._ensemble._eraser)
    purge = eraser.purge

    def marked(*given: Any) -> Any:
        marks.append(time.process_time())
        return purge(*given)

    began, cpu = datetime.now(UTC), time.process_time()
    eraser.purge = marked
    try:
        receipt = clf.forget(chosen, repair=False)
    finally:
        eraser.purge = purge
    purged, wall = time.process_time(), time.perf_counter()
    clf.repair()
    isolated = (receipt.isolated_at - began).total_seconds()
    repaired = time.process_time() - purged
    return isolated, marks[0] - cpu, purged - marks[0], time.perf_counter() - wall, repaired


def memory_of_requests(stores: dict[int, Path], shard: int, requests: int) -> list[dict[str, Any]]:
    found = {n: child("memory", str(path), n, shard, requests) for n, path in stores.items()}
    return [within("peak memory of forget / shard", n, grown, FORGET_MEMORY) for n, grown in found.items()]


def memory(path: str, n: int, shard: int, requests: int) -> list[float]:
    """Peak memory of forgetting one id after the other, repair included, over the size of a shard."""
    warm_up()
    clf = load(path)
    bytes_of_shard = shard * (4 * N_FEATURES + 16)
    chosen = np.random.default_rng(1).permutation(n)[:requests]
    before, grown = resident(), []
    for i in chosen.tolist():
        clf.forget(i)
        grown.append((peak() - before) / bytes_of_shard)
    return grown


# -- ids, and many at once --------------------------------------------------------------------------------------------


def hashing(n: int, repeat: int) -> list[dict[str, Any]]:
    """Ids placed a second: checked, made bytes, hashed, and turned into shard, slice and the rest."""
    partition = HashPartition().bind(20, N_SLICES, 0)
    kinds = {"int": np.arange(n), "str": [f"person-{i}" for i in range(n)]}
    rows = []
    for kind, ids in kinds.items():
        rates = [n / both_clocks(lambda ids=ids: place(partition, ids, n))[1] for _ in range(max(5, repeat))]
        ok = statistics.median(rates) >= IDS_PER_SECOND
        rows.append(row(f"{kind} ids placed a second", n, rates, IDS_PER_SECOND, ok))
    return rows


def place(partition: Any, ids: Any, n: int) -> None:
    column = checked_ids(ids, n)
    for start in range(0, n, 1 << 16):
        partition.place(column.encoded(slice(start, start + (1 << 16))))


def together(folder: Path, n: int, shard: int, repeat: int) -> list[dict[str, Any]]:
    """One request for 8 of 25 records against a build of all, and against one of those that are left.

    By two models: LightGBM at its defaults, which is through in seconds, and the network of `paper.py` on the shape of
    its Purchase data, whose build takes half a minute.
    """
    rows = []
    for name, kind in (("LightGBM", boosted), ("MLP 600-128-2", network)):
        found = [batch(folder / f"{name}-{turn}", n, kind(n, shard)) for turn in range(repeat)]
        what = f"{name}: forget {8 * n // 25:,} in one request / build of"
        goals = {"all": BATCH, "all, processor": None, "the rest": None, "the rest, processor": None}
        rows += [
            row(f"{what} {of}", n, [f[of] for f in found], goal, None if goal is None else median(found, of) <= goal)
            for of, goal in goals.items()
        ]
    return rows


def boosted(n: int, shard: int) -> tuple[Any, np.ndarray, np.ndarray]:
    X, y, _ = data(n)
    return partial(model, n, shard, n_estimators=100), X, y


def network(n: int, shard: int) -> tuple[Any, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = (rng.random((n, 600), dtype=np.float32) < 0.3).astype(np.uint8)
    mlp = TorchModel(
        module=mlp_600,
        loss="cross_entropy",
        optimizer="sgd",
        optimizer_params={"lr": 0.1},
        epochs=20 if n >= FULL_BATCH else 1,
        batch_size=256,
    )

    def sisa(path: str) -> SISAClassifier:
        return SISAClassifier(mlp, n_shards=max(2, n // shard), n_slices=N_SLICES, random_state=0, store=path)

    return sisa, X, (X[:, :300].sum(axis=1) > X[:, 300:].sum(axis=1)).astype(np.int64)


def mlp_600() -> nn.Module:
    return nn.Sequential(nn.Linear(600, 128), nn.Tanh(), nn.Linear(128, 2))


def median(found: list[dict[str, float]], name: str) -> float:
    return statistics.median(f[name] for f in found)


def batch(path: Path, n: int, given: tuple[Any, np.ndarray, np.ndarray]) -> dict[str, float]:
    sisa, X, y = given
    ids = np.arange(n)
    clf = sisa(f"{path}-all")
    whole = both_clocks(lambda: clf.fit(X, y, ids=ids))
    gone = np.random.default_rng(1).permutation(n)[: 8 * n // 25]
    forgotten = both_clocks(lambda: clf.forget(gone))
    rest = np.setdiff1d(ids, gone)
    other = sisa(f"{path}-rest").set_params(schema=clf.schema_)
    anew = both_clocks(lambda: other.fit(X[rest], y[rest], ids=rest))
    assert clf.model_digest_ == other.model_digest_
    return {
        "all": forgotten[0] / whole[0],
        "all, processor": forgotten[1] / whole[1],
        "the rest": forgotten[0] / anew[0],
        "the rest, processor": forgotten[1] / anew[1],
    }


def both_clocks(call: Callable[[], Any]) -> tuple[float, float]:
    began, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - began, time.process_time() - cpu


# -- what they share --------------------------------------------------------------------------------------------------


def model(n: int, shard: int, path: str, **settings: int) -> SISAClassifier:
    learner = LGBMClassifier(n_jobs=1, verbose=-1, **settings or {"n_estimators": 10, "num_leaves": 7})
    return SISAClassifier(learner, n_shards=max(2, n // shard), n_slices=N_SLICES, random_state=0, store=path)


def data(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows made piece by piece: a larger array on the way would leave its memory to the fit."""
    rng = np.random.default_rng(0)
    X = np.empty((n, N_FEATURES), dtype=np.float32)
    for start in range(0, n, 100_000):
        X[start : start + 100_000] = rng.standard_normal(X[start : start + 100_000].shape, dtype=np.float32)
    return X, (X[:, 0] + X[:, 1] > 0).astype(np.int64), np.arange(n)


def warm_up() -> None:
    """Import whatever a fit and a request need, so that it does not count."""
    with tempfile.TemporaryDirectory() as folder:
        X, y, ids = data(2_000)
        model(2_000, 1_000, str(Path(folder, "warm"))).fit(X, y, ids=ids).forget(7)


def resident() -> int:
    """Bytes in memory now; from here on the peak is counted anew."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def peak() -> int:
    return status("VmHWM")


def status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def flat(what: str, found: dict[int, list[float]], goal: float | None = FLAT) -> Iterator[dict[str, Any]]:
    """Rows that say whether a figure of each size is at most 20 % above that of the smallest."""
    base = statistics.median(next(iter(found.values())))
    for n, values in found.items():
        times = statistics.median(values) / base
        yield row(what, n, values, goal, None if goal is None else times <= goal) | {"of the smallest": round(times, 3)}


def within(what: str, n: int, values: list[float], goal: float) -> dict[str, Any]:
    return row(what, n, values, goal, max(values) <= goal)


def row(what: str, n: int, values: list[float], goal: float | None, ok: bool | None) -> dict[str, Any]:  # noqa: FBT001
    spread = f"{min(values):.4g} .. {max(values):.4g}"
    middle = statistics.median(values)
    return {"what": what, "rows": n, "median": middle, "spread": spread, "of the smallest": "", "goal": goal, "ok": ok}


CHILDREN = {"fit": fit, "memory": memory}


if __name__ == "__main__":
    main()
