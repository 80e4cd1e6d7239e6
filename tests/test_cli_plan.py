"""``unlearnkit plan``, as a user sees it."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from unlearnkit.cli import app

pd = pytest.importorskip("pandas")
pytest.importorskip("unlearnkit_sklearn")

MODEL = "--model sklearn.naive_bayes:GaussianNB --target y --id-column who"
ASKED = "--requests-per-month 8 --deadline 15 --max-accuracy-loss 0.05 --shards 1,3 --slices 1,2 --seed 0"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 200))
    path = tmp_path_factory.mktemp("plan") / "people.csv"
    who = 7_654_000 + np.arange(200) // 2
    pd.DataFrame({"who": who, "a": a, "b": b, "y": np.where(a + b > 0, "yes", "no")}).to_csv(path, index=False)
    return path


def run(command, table, *more, code=0):
    result = CliRunner().invoke(app, [*f"plan {command} --data".split(), str(table), *map(str, more)])
    assert result.exit_code == code, result.output
    assert "7654" not in result.output
    return result


def test_json_is_the_whole_plan(table):
    found = json.loads(run(f"{MODEL} {ASKED}", table, "--json").stdout)

    assert [(c["n_shards"], c["n_slices"]) for c in found["candidates"]] == [(1, 1), (1, 2), (3, 1), (3, 2)]
    assert (found["n_records"], found["batch_size"], found["scoring"]) == (200, 4, "accuracy")
    assert (found["n_shards"], found["n_slices"]) in {(c["n_shards"], c["n_slices"]) for c in found["candidates"]}
    # Of 100 ids one leaves with its two rows.
    assert found["candidates"][0]["per_request"]["records"] == pytest.approx(198)
    assert found["chart"] is None


def test_people_get_a_table_the_reason_and_the_next_command(table):
    shown = run(f"{MODEL} {ASKED}", table).stdout
    marked = [line for line in shown.splitlines() if line.startswith("->")]

    assert len(marked) == 1
    shards, slices = marked[0].split()[1:3]
    assert f"unlearnkit fit ... --shards {shards} --slices {slices}" in shown
    assert "Measured on 200 of 200 rows" in shown


def test_what_was_not_tried_is_said(table):
    shown = run(f"{MODEL} {ASKED}".replace("--shards 1,3", "--shards 1,90"), table).stdout

    assert "Not tried: 90 x 1 (66 ids are too few for 90 slices)" in shown


@pytest.mark.parametrize("name", ["plan.svg", "plan.png"])
def test_chart_is_written(table, tmp_path, name):
    pytest.importorskip("matplotlib")
    found = json.loads(run(f"{MODEL} {ASKED} --json", table, "--chart", tmp_path / name).stdout)

    assert found["chart"] == str(tmp_path / name)
    assert (tmp_path / name).stat().st_size > 5_000


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (f"{MODEL} {ASKED} --shards 1,x", "--shards 1,x is not a list of numbers"),
        (f"{MODEL} {ASKED} --slices 0", "--slices 0 is not a list of numbers"),
        (f"{MODEL} {ASKED} --requests-per-month 0", "must be more than 0"),
        (f"{MODEL} {ASKED} --rows 2", "rows must be a whole number"),
        (f"{MODEL} {ASKED}".replace("--target y", "--target z"), "z"),
        (f"{MODEL} {ASKED}".replace("naive_bayes:GaussianNB", "linear_model:LogisticRegression"), "--slices 2"),
        (f"{MODEL} {ASKED} --scoring beauty", "beauty"),
    ],
)
def test_bad_input_is_one_line_and_code_2(table, options, said):
    found = run(options, table, code=2)

    assert said in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert found.stdout == ""


def test_what_is_needed_is_asked_for(table):
    found = run(MODEL, table, code=2)

    assert "--requests-per-month" in found.stderr
