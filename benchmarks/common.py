"""What the benchmarks share: alternating repetitions, one table, one JSON line."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all scripts have."""
    flags = argparse.ArgumentParser(description=description)
    flags.add_argument("--quick", action="store_true", help="small sizes: shows that it runs, proves nothing")
    flags.add_argument("--repeat", type=int, default=3, help="alternating repetitions")
    flags.add_argument("--data", type=Path, default=os.environ.get("UNLEARNKIT_DATA"), help="folder of real data sets")
    return flags


def arguments(flags: argparse.ArgumentParser | str | None) -> argparse.Namespace:
    return (flags if isinstance(flags, argparse.ArgumentParser) else parser(flags)).parse_args()


def seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def alternate(arms: Mapping[str, Callable[[], Any]], repeat: int) -> dict[str, list[float]]:
    """The seconds of each arm, the arms taking turns so that a slow minute hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(repeat):
        for name, arm in arms.items():
            touch_memory()
            times[name].append(seconds(arm))
    return times


def touch_memory(gigabytes: int = 2) -> None:
    """Use memory and give it back.

    A virtual machine gets a page from its host when it is first touched, which can take longer than training on it:
    seconds that say nothing about either arm.
    """
    np.empty(gigabytes * 2**30, dtype=np.uint8).fill(1)


def ratio(times: list[float], base: list[float]) -> dict[str, float]:
    """Median of the ratios of neighbouring repetitions, and their range."""
    ratios = [t / b for t, b in zip(times, base, strict=True)]
    return {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def report(title: str, rows: list[dict[str, Any]], **facts: Any) -> None:
    """A readable table and, as the last line, one JSON object."""
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console(width=120).print(table)
    print(json.dumps({"benchmark": title, "machine": machine(), "rows": rows, **facts}))


def machine() -> dict[str, Any]:
    return {"cpus": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
