"""Two benchmarks run, small, and end in one JSON line; and the formulas behind the bands are right."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[1] / "benchmarks"
REAL = {"Adult, AUC", "Bank, AUC", "agaricus, acc.", "multiclass, acc.", "MNIST, acc."}


def last_line(script, *options):
    """What a script says in its last line."""
    call = [sys.executable, "-W", "error", str(SCRIPTS / script), "--quick", *options]
    done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def bands():
    """The script as a module. It imports what lies beside it."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        spec = importlib.util.spec_from_file_location("bands_script", SCRIPTS / "bands.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPTS))
    return module


def test_accuracy_ends_in_one_json_line():
    for framework in ("lightgbm", "xgboost", "torch", "pandas"):
        pytest.importorskip(framework)
    found = last_line("accuracy.py")
    arms = ("plain", "SISA", "one slice", "bagging", "by place")

    assert {row["data"] for row in found["rows"]} == {"digits, acc."} | (
        REAL if os.environ.get("UNLEARNKIT_DATA") else set()
    )
    assert all(0 <= row[arm] <= 1 for row in found["rows"] for arm in arms)
    for row in found["rows"]:
        assert math.isclose(row["lost"], 100 * (row["plain"] - row["SISA"]), abs_tol=0.006)


def test_bands_agree_with_requests_drawn_against_the_placement():
    found = last_line("bands.py")

    assert len(found["rows"]) == 18
    assert found["ok"] is True


def test_ledger_growth_compares_a_long_past_with_none():
    found = last_line("ledger_growth.py", "--kind", "memory", "--kind", "sqlite")

    assert [row["ledger"] for row in found["rows"]] == ["memory"] * 3 + ["sqlite"] * 3
    assert all(row["empty (ms)"] > 0 and row["full (ms)"] > 0 for row in found["rows"])


def test_scale_measures_each_size():
    for framework in ("lightgbm", "torch"):
        pytest.importorskip(framework)
    found = last_line("scale.py")
    figures = {(row["what"], row["rows"]): row["median"] for row in found["rows"]}

    assert all(value > 0 for value in figures.values())
    for what in ("fit, per row (us)", "peak memory of fit / data", "isolate one id (ms)", "repair (ms)"):
        assert {n for name, n in figures if name == what} == {4_000, 8_000}
    assert {row["goal"] for row in found["rows"]} == {1.2, 1.5, 4.0, 1e6, 1.05, None}


def test_planner_compares_what_it_expects_with_what_is_measured():
    for framework in ("lightgbm", "torch"):
        pytest.importorskip(framework)
    found = last_line("planner.py", "--repeat", "1")

    assert {row["model"] for row in found["rows"]} == {"LightGBM", "torch MLP"}
    assert all(row["expected (ms)"] > 0 and row["measured (ms)"] > 0 for row in found["rows"])
    assert all(row["steps"] == 1 for row in found["rows"] if (row["R"], row["K"]) == (1, 1))


def test_formula_of_uniform_cells(bands):
    for case in ((1, 1, 1), (20, 50, 8), (7, 3, 39)):
        assert math.isclose(bands.share(*bands.uniform(*case[:2]), case[2]), bands.published(*case), rel_tol=1e-12)


def test_one_request_costs_as_published(bands):
    assert math.isclose(bands.share(*bands.uniform(20, 50), 1), (2 / 3 + 1 / 150) / 20, rel_tol=1e-12)


@pytest.mark.parametrize("requests", [1, 8, 39])
def test_shards_of_equal_expected_erasures_cost_what_uniform_ones_do(bands, requests):
    banded, uniform = (bands.share(*bands.RULES[rule](20, 1), requests) for rule in ("erasures", "uniform"))

    assert math.isclose(banded, uniform, rel_tol=1e-9)


@pytest.mark.parametrize("rule", ["uniform", "erasures", "people", "root of p", "same size"])
def test_cells_hold_everybody_once(bands, rule):
    sizes, hits = bands.RULES[rule](5, 4)

    assert sizes.shape == hits.shape == (5, 4)
    assert np.allclose([sizes.sum(), hits.sum()], 1)
    assert (sizes > 0).all()


def test_requests_drawn_tell_a_wrong_placement(bands):
    seen, error = bands.simulated(bands.HashPartition(), 5, 10, 8, 20_000, 2_000)
    other = 100 * bands.share(*bands.RULES["people"](5, 10), 8)

    assert abs(seen - other) > 20 * error
