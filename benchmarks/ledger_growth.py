"""Whether a long past slows a request down: isolating one id with 100,000 finished requests in the ledger, or none.

In memory, in a SQLite file, and in PostgreSQL where it is installed (a server is started for it). Every finished
request has what a real one leaves behind: its facts, a tombstone, two statements. The two models take turns.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from common import arguments, parser, ratio, report
from sklearn.naive_bayes import GaussianNB

from unlearnkit import SISAClassifier, Store
from unlearnkit.ledger import REPAIRED, Change, Ledger, Request

GOAL = 1.2
KINDS = ("memory", "sqlite", "postgres")
BATCH = 2_000


def main() -> None:
    flags = parser(__doc__)
    flags.set_defaults(repeat=None)
    flags.add_argument("--kind", choices=KINDS, action="append", help="only this kind of ledger; may be repeated")
    options = arguments(flags)
    n_past, n_rows = (2_000, 600) if options.quick else (100_000, 10_000)
    requests = options.repeat or (6 if options.quick else 100)
    rows = growth(options.kind or KINDS, n_past=n_past, n_rows=n_rows, requests=requests)
    report(
        f"ledger growth: isolate one id with {n_past} finished requests and with none, {requests} requests each",
        rows,
        goal=GOAL,
        ok=all(row["times as long"] <= GOAL for row in rows),
    )


def growth(kinds: tuple[str, ...] = KINDS, *, n_past: int, n_rows: int, requests: int) -> list[dict[str, Any]]:
    """Rows of the table: for each kind of ledger, the time until isolated and until the receipt is signed."""
    rows = []
    with ExitStack() as stack:
        server = stack.enter_context(servers().running(fsync=True)) if "postgres" in kinds and has_server() else None
        for kind in kinds:
            if kind != "postgres" or server is not None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                rows += compared(kind, folder, server, n_past=n_past, n_rows=n_rows, requests=requests)
    return rows


def compared(kind: str, folder: Path, server: Any, *, n_past: int, n_rows: int, requests: int) -> list[dict[str, Any]]:
    """Forget the same ids with and without a past, in turns."""
    rng = np.random.default_rng(0)
    X, y, ids = rng.normal(size=(n_rows, 20)), rng.integers(0, 2, n_rows), np.arange(n_rows)
    models = {}
    for name in ("empty", "full"):
        store = None if kind == "memory" else made(folder / name, kind, server)
        model = SISAClassifier(GaussianNB(), n_shards=10, n_slices=1, random_state=0, store=store)
        models[name] = model.fit(X, y, ids=ids)
        # What a real request leaves behind is what the past consists of; and the first one warms up.
        model.forget(0)
    began = time.perf_counter()
    fill(models["full"]._ensemble.store.ledger, n_past)
    filled = time.perf_counter() - began
    if server is not None and kind == "postgres":
        # A server that has run for a while has its statistics.
        server.execute("VACUUM ANALYZE", database="full")
    times = in_turns(models, [int(i) for i in rng.permutation(np.arange(1, n_rows))[:requests]])
    assert models["full"].model_digest_ == models["empty"].model_digest_
    return [
        {
            "ledger": kind,
            "until": what,
            "empty (ms)": statistics.median(found["empty"]),
            "full (ms)": statistics.median(found["full"]),
            "times as long": statistics.median(found["full"]) / statistics.median(found["empty"]),
            "pairs": spread(found),
            "filled in (s)": filled,
        }
        for what, found in times.items()
    ]


def made(folder: Path, kind: str, server: Any) -> Store:
    """A store whose ledger is of this kind."""
    if kind == "sqlite":
        return Store.at(folder)
    return Store(folder / "blobs", server.create(folder.name), keys=folder / "keys")


def fill(ledger: Ledger, n: int) -> None:
    """Give a ledger a past of finished requests, each like the last one that it has."""
    (*_, last), statements = ledger.requests(REPAIRED), ledger.statements()[-2:]
    first = len(ledger.requests()) + 1
    for start in range(first, first + n, BATCH):
        numbers = range(start, min(start + BATCH, first + n))
        ledger.apply(
            Change(
                submitted=tuple(finished(last, number) for number in numbers),
                tombstones={pseudonym(last, number): number for number in numbers},
                statements=statements * len(numbers),
            )
        )


def finished(last: Request, number: int) -> Request:
    return replace(last, sequence=0, pseudonyms=frozenset([pseudonym(last, number)]))


def pseudonym(last: Request, number: int) -> str:
    (known,) = last.pseudonyms
    return f"{known[:-10]}{number:010x}"


def in_turns(models: Mapping[str, SISAClassifier], ids: list[int]) -> dict[str, dict[str, list[float]]]:
    """The milliseconds of each request until it was isolated, until it was signed, and of the processor alone."""
    measured = ("isolated", "signed", "signed, processor")
    times: dict[str, dict[str, list[float]]] = {what: {name: [] for name in models} for what in measured}
    for i, asked in enumerate(ids):
        for name in list(models)[:: 1 if i % 2 else -1]:
            for what, value in zip(measured, timed(models[name], asked), strict=True):
                times[what][name].append(1e3 * value)
            models[name].repair()
    return times


def timed(model: SISAClassifier, asked: int) -> tuple[float, float, float]:
    """The seconds that one request takes."""
    began, clock, used = datetime.now(UTC), time.perf_counter(), time.process_time()
    receipt = model.forget(asked, repair=False)
    signed, used = time.perf_counter() - clock, time.process_time() - used
    return (receipt.isolated_at - began).total_seconds(), signed, used


def spread(found: Mapping[str, list[float]]) -> str:
    pairs = ratio(found["full"], found["empty"])
    return f"{pairs['low']:.2f} .. {pairs['median']:.2f} .. {pairs['high']:.2f}"


def servers() -> ModuleType:
    """The module that starts a PostgreSQL server."""
    home = Path(__file__).parents[1] / "tests" / "postgres_server.py"
    spec = importlib.util.spec_from_file_location("postgres_server", home)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def has_server() -> bool:
    why = servers().lacking()
    if why:
        print(f"Without PostgreSQL: {why}")
    return not why


if __name__ == "__main__":
    main()
