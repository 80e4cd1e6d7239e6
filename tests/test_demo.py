"""The demonstration and the command line around it."""

import importlib.util
import io
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from unlearnkit import cli, demo
from unlearnkit.demo import table
from unlearnkit.demo.data import Data, diabetes, split
from unlearnkit.demo.measure import Numbers
from unlearnkit.errors import DataError

pd = pytest.importorskip("pandas")
pytest.importorskip("unlearnkit_sklearn")


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


def forest(data):
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(n_estimators=4, max_depth=3, random_state=0)


TINY = demo.Case("tiny forest", "sklearn", ("unlearnkit_sklearn",), forest, diabetes, n_slices=2, n_shards=2)


@pytest.fixture
def bundled(monkeypatch):
    """A demonstration of one small model."""
    monkeypatch.setattr(demo, "BUNDLED", (TINY,))


def frame(n=120, seed=0):
    rng = np.random.default_rng(seed)
    size, colour = rng.normal(size=n), rng.choice(["red", "green", "blue"], size=n)
    verdict = np.where(size + (colour == "red") + rng.normal(scale=0.3, size=n) > 0.5, "good", "bad")
    return pd.DataFrame(
        {
            "customer": [f"c{i}" for i in rng.integers(0, n // 2, size=n)],
            "size": np.where(rng.random(n) < 0.1, np.nan, size),
            "colour": colour,
            "odd [name]": rng.integers(0, 5, size=n),
            "member": rng.random(n) < 0.5,
            "remark": [f"text {i}" for i in range(n)],
            "nothing": None,
            "verdict": verdict,
        }
    )


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "shop.csv"
    frame().to_csv(path, index=False)
    return path


# -- bundled data --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("bundled")
def test_table_ends_with_the_verdict():
    result = run("demo")

    assert result.exit_code == 0, result.output
    assert "tiny forest" in result.stdout
    assert "2x2" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("The one line is exact")
    assert max(map(len, result.stdout.splitlines())) <= cli.PIPED_WIDTH


@pytest.mark.parametrize("width", [80, 100, 120])
def test_table_fits(width):
    from rich.console import Console

    lines = [demo.Line("encoder + LogisticRegression", "breast cancer", "exact", numbers=numbers())] * 2
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table.table(lines, width))
    text = console.export_text()

    assert "…" not in text
    assert all(word in text for word in ("Isolated", "1.0 ms", "Retrain", "exact"))
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.usefixtures("bundled")
def test_json_alone_is_printed():
    found = json.loads(run("demo", "--json").stdout)

    [line] = found["lines"]
    assert found["exact"] is True
    assert line["outcome"] == "exact"
    assert line["numbers"]["n_forgotten"] == 2
    assert line["numbers"]["same_digest"]
    assert line["numbers"]["same_predictions"]


@pytest.mark.parametrize("case", demo.BUNDLED, ids=lambda case: case.model)
def test_every_bundled_model_can_be_made(case):
    for name in case.needs:
        pytest.importorskip(name)

    assert hasattr(case.build(case.load()), "fit")


def test_only_chooses_by_name(monkeypatch):
    monkeypatch.setattr(demo, "BUNDLED", (TINY, replace(TINY, model="other")))

    assert [line["model"] for line in json.loads(run("demo", "--only", "TINY", "--json").stdout)["lines"]] == [
        "tiny forest"
    ]
    assert run("demo", "--only", "nobody").exit_code == 2


def test_missing_framework_is_a_line(monkeypatch):
    absent = replace(TINY, model="absent", extra="lightgbm", needs=("no_such_framework",))
    monkeypatch.setattr(demo, "BUNDLED", (TINY, absent))
    result = run("demo")

    assert result.exit_code == 0
    assert "absent: not installed: pip install 'unlearnkit[lightgbm]'" in result.stdout
    assert result.stdout.splitlines()[-1].endswith("1 not installed.")


def test_nothing_installed_is_no_success(monkeypatch):
    monkeypatch.setattr(demo, "BUNDLED", (replace(TINY, needs=("no_such_framework",)),))
    result = run("demo")

    assert result.exit_code == 1
    assert "Nothing was run" in result.stdout


def test_broken_framework_stops_no_other(monkeypatch):
    def broken(data):
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(demo, "BUNDLED", (replace(TINY, model="broken", build=broken), TINY))
    result = run("demo")

    assert result.exit_code == 1
    assert "broken: failed: OSError: libgomp.so.1" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("1 of 2 lines exact")


def test_a_difference_is_a_failure(monkeypatch):
    from unlearnkit import SISARegressor

    pinned = SISARegressor.pinned
    monkeypatch.setattr(SISARegressor, "pinned", lambda self: pinned(self).set_params(random_state=1))
    monkeypatch.setattr(demo, "BUNDLED", (TINY,))
    result = run("demo")

    assert result.exit_code == 1
    assert "DIFFERS" in result.stdout
    assert result.stdout.splitlines()[-1] == "0 of 1 lines exact: 1 differ, 0 failed."


@pytest.mark.parametrize("changed", [{"same_digest": False}, {"same_predictions": False}])
def test_digest_and_predictions_both_count(changed, monkeypatch):
    monkeypatch.setattr("unlearnkit.demo.measure.measure", lambda case, data: numbers(**changed))

    assert [line.outcome for line in demo.run([TINY])] == ["differs"]


def numbers(**changed):
    plain = Numbers("R2", 2, 2, 100, 2, 0.5, 0.5, 1.0, 0.1, 0.1, 0.2, same_digest=True, same_predictions=True)
    return replace(plain, **changed)


# -- a file ----------------------------------------------------------------------------------------------------------


def test_file_with_ids(csv):
    result = run("demo", "--data", csv, "--target", "verdict", "--id-column", "customer", "--only", "logistic")

    assert result.exit_code == 0, result.output
    assert "classification ('verdict' is not numeric)" in result.stdout
    assert "rows belong to the ids in 'customer'" in result.stdout
    assert "120 distinct texts: 'remark'" in result.stdout
    assert "empty: 'nothing'" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("The one line is exact")


@pytest.mark.parametrize("target", ["verdict", "size"])
def test_file_without_ids_by_every_framework(csv, target):
    for name in ("lightgbm", "xgboost", "torch"):
        pytest.importorskip(name)
    found = json.loads(run("demo", "--data", csv, "--target", target, "--json").stdout)

    assert [line["outcome"] for line in found["lines"]] == ["exact"] * 4, found
    assert "rows are addressed by their position in the file" in found["notes"]


def test_rows_of_an_id_stay_together():
    ids = np.arange(90) // 3
    train, test, gone = split(Data("d", np.zeros((90, 1)), np.tile([0, 1], 45), ids, "classification"))

    assert not set(train.ids) & set(test.ids)
    assert gone.sum() == 6
    assert len(set(train.ids[gone])) == 2


def test_positions_are_those_of_the_file(csv):
    data = demo.read_csv(csv, "verdict", max_rows=60).data

    assert data.ids is None
    assert set(data.handles) <= set(range(120))
    assert max(data.handles) > 60


def test_guesses(tmp_path):
    def guess(values):
        path = tmp_path / "t.csv"
        pd.DataFrame({"x": range(len(values)), "y": values}).to_csv(path, index=False)
        read = demo.read_csv(path, "y")
        return read.data.task, read.data.y.dtype.kind

    assert guess([1, 2, 3, 4] * 20) == ("classification", "i")
    assert guess(["a", "b"] * 40) == ("classification", "U")
    assert guess([True, False] * 40) == ("classification", "U")
    assert guess([0.5, 1.0] * 40) == ("regression", "f")
    assert guess(list(range(80))) == ("regression", "f")
    assert guess([1.0, 2.0, None, 2.0] * 20) == ("classification", "i")


def test_infinite_values_count_as_missing(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "1,0.5\ninf,1.5\n2,-inf\n" * 30)
    read = demo.read_csv(path, "y")

    assert read.data.X["x"].isna().sum() == 30
    assert len(read.data.y) == 60
    assert "infinite values, taken as missing: 60" in read.notes


@pytest.mark.parametrize("separator", [",", ";", "\t", ", "])
def test_separators(tmp_path, separator):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(separator.join(row) for row in [("x", "y")] + [("1", "a"), ("2", "b")] * 30))

    assert demo.read_csv(path, "y").data.X.columns.tolist() == ["x"]


def test_byte_order_mark(tmp_path):
    path = tmp_path / "t.csv"
    frame()[["size", "verdict"]].to_csv(path, index=False, encoding="utf-8-sig")

    assert demo.read_csv(path, "verdict").data.X.columns.tolist() == ["size"]


# -- what can go wrong -------------------------------------------------------------------------------------------------


def failing(*arguments):
    result = run("demo", *arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


def test_missing_file(tmp_path):
    assert "cannot be read" in failing("--data", tmp_path / "none.csv", "--target", "y")
    assert "cannot be read" in failing("--data", tmp_path, "--target", "y")


def test_missing_column(csv):
    assert "no column 'verdikt'" in failing("--data", csv, "--target", "verdikt")
    message = failing("--data", csv, "--target", "verdict", "--id-column", "id")
    assert "no column 'id'" in message
    assert "must be the header" in message
    assert "customer, size" in message


def test_options_that_do_not_fit(csv):
    assert "--target" in failing("--data", csv)
    assert "--data" in failing("--target", "y")
    assert "both target and id" in failing("--data", csv, "--target", "size", "--id-column", "size")
    assert "not numeric" in failing("--data", csv, "--target", "verdict", "--task", "regression")
    assert "distinct values" in failing("--data", csv, "--target", "remark")


def test_ids_that_are_missing(tmp_path):
    path = tmp_path / "t.csv"
    frame().assign(customer=[None, *range(119)]).to_csv(path, index=False)

    assert "1 of 120 ids are None or NaN" in failing("--data", path, "--target", "verdict", "--id-column", "customer")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a CSV table"),
        (b"a,b\n1,2\n", "too few"),
        (b"a,b\n1,2,3\n4\n5,6,7,8\n", "not a CSV table"),
        (b"a,b\n\xff\xfe,1\n", "not UTF-8"),
        (b"b\n" + b"1\n2\n" * 40, "no column that could be a feature"),
        (b"a,b\n" + b"1,1\n" * 80, "1 distinct values"),
    ],
)
def test_files_that_are_no_use(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_bytes(content)

    assert message in failing("--data", path, "--target", "b")


def test_pandas_missing(csv, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pandas" else find(name))

    with pytest.raises(DataError, match=r"unlearnkit\[pandas\]"):
        demo.read_csv(csv, "verdict")


# -- the command itself ------------------------------------------------------------------------------------------------


def test_plugins_are_listed():
    assert "sklearn.base.BaseEstimator" in run("plugins").stdout
    plugins = json.loads(run("plugins", "--json").stdout)["plugins"]
    assert "sklearn.base:BaseEstimator" in json.dumps(plugins)


def test_as_a_program(csv):
    command = [sys.executable, "-c", "from unlearnkit.cli import main; main()", "demo", "--data", csv]
    result = subprocess.run(
        [*command, "--target", "verdict", "--only", "encoder + log"], check=False, capture_output=True, text=True
    )

    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout.splitlines()[-1].startswith("The one line is exact")


def test_command_line_imports_no_framework():
    heavy = "sklearn", "pandas", "torch", "lightgbm", "xgboost"
    code = f"import sys, unlearnkit.cli; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert result.stdout.strip() == "[]"
