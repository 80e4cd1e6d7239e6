"""The command line with rows that stay in Parquet files."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from unlearnkit import load
from unlearnkit.cli import app

pd = pytest.importorskip("pandas")
pytest.importorskip("sqlalchemy")
pytest.importorskip("pyarrow")
pytest.importorskip("unlearnkit_sklearn")

COLUMNS = "--target y --id-column who"
FIT = f"fit --model sklearn.linear_model:SGDClassifier --set loss=log_loss {COLUMNS} --shards 3 --slices 2 --seed 0"


def run(command, *more, code=0):
    result = CliRunner().invoke(app, [*command.split(), *map(str, more)])
    assert result.exit_code == code, result.output
    return result


def told(command, *more, code=0):
    return json.loads(run(command, *more, "--json", code=code).stdout)


def table(start=0, n=60):
    rng = np.random.default_rng(start)
    a, b = rng.normal(size=(2, n))
    return pd.DataFrame({"who": np.arange(start, start + n) + 1000, "a": a, "b": b, "y": np.where(a > b, "yes", "no")})


@pytest.fixture
def folder(tmp_path):
    table().to_parquet(tmp_path / "rows.parquet")
    run(f"{FIT} --external --data", tmp_path / "rows.parquet", "--store", tmp_path / "m.sisa")
    return tmp_path


def digest_without(folder, *gone):
    rows = table()
    rows = rows[~rows["who"].isin(gone)]
    pinned = load(folder / "m.sisa").pinned()
    return pinned.fit(rows[["a", "b"]], rows["y"], ids=rows["who"]).model_digest_


def test_forget_repairs_from_the_file(folder):
    told("forget 1003 1004 --store", folder / "m.sisa", "--rows", folder / "rows.parquet")
    assert load(folder / "m.sisa").model_digest_ == digest_without(folder, 1003, 1004)
    assert told("verify --store", folder / "m.sisa", "--rows", folder / "rows.parquet")["exact"]


def test_without_rows_it_is_forgotten_and_repair_is_due(folder):
    result = run("forget 1003 --store", folder / "m.sisa", code=4)
    assert "--rows PATH" in result.stderr
    assert "load_rows" not in result.stderr
    assert "due" in result.stdout
    assert "--rows PATH" in run("repair --store", folder / "m.sisa", code=4).stderr
    run("verify --store", folder / "m.sisa", code=2)
    # Columns may have other names there.
    other = table().rename(columns={"who": "id", "y": "answer"})
    other.to_parquet(folder / "other.parquet")
    named = ("--rows", folder / "other.parquet", "--target", "answer", "--id-column", "id")
    told("repair --store", folder / "m.sisa", *named)
    assert load(folder / "m.sisa").model_digest_ == digest_without(folder, 1003)


def test_rows_that_differ_leave_the_repair_due(folder):
    changed = table()
    changed["a"] += 1
    changed.to_parquet(folder / "changed.parquet")
    result = run("forget 1003 --store", folder / "m.sisa", "--rows", folder / "changed.parquet", code=4)
    assert "are not among the rows" in result.stderr
    told("repair --store", folder / "m.sisa", "--rows", folder / "changed.parquet", code=4)
    told("repair --store", folder / "m.sisa", "--rows", folder / "rows.parquet")
    assert load(folder / "m.sisa").model_digest_ == digest_without(folder, 1003)


def test_records_are_added_put_right_and_consolidated(folder):
    table(60, 20).to_parquet(folder / "more.parquet")
    rows = ("--rows", folder / "rows.parquet")
    run("add --store", folder / "m.sisa", "--data", folder / "more.parquet", code=2)
    assert told("add --store", folder / "m.sisa", "--data", folder / "more.parquet", *rows)["added"] == 20
    both = pd.concat([table(), table(60, 20)])
    right = both[both["who"].isin([1003, 1065])].assign(a=0.5)
    right.to_parquet(folder / "right.parquet")
    both = pd.concat([both[~both["who"].isin([1003, 1065])], right])
    both.to_parquet(folder / "rows.parquet")
    told("rectify --store", folder / "m.sisa", "--data", folder / "right.parquet", *rows)
    told("consolidate --store", folder / "m.sisa", *rows)
    assert told("verify --store", folder / "m.sisa", *rows)["exact"]
    fitted = load(folder / "m.sisa").pinned().fit(both[["a", "b"]], both["y"], ids=both["who"])
    assert fitted.model_digest_ == load(folder / "m.sisa").model_digest_
    assert told("fsck --store", folder / "m.sisa")["findings"] == []


def test_rows_are_for_models_that_keep_none(tmp_path):
    table().to_parquet(tmp_path / "rows.parquet")
    run(f"{FIT} --data", tmp_path / "rows.parquet", "--store", tmp_path / "m.sisa")
    result = run("verify --store", tmp_path / "m.sisa", "--rows", tmp_path / "rows.parquet", code=2)
    assert "fit --external" in result.stderr
    run("repair --target y --store", tmp_path / "m.sisa", code=2)
