"""The console script in processes of its own: what it imports, and how it ends."""

import json
import os
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from unlearnkit.cli import app

pytest.importorskip("sqlalchemy")
pd = pytest.importorskip("pandas")
pytest.importorskip("unlearnkit_sklearn")

MAIN = "import sys; from unlearnkit.cli import main; sys.argv[0] = 'unlearnkit'; main()"
# To import one of these would take most of the time of recording a request.
HEAVY = {
    "scipy",
    "matplotlib",
    "sklearn",
    "joblib",
    "pandas",
    "pyarrow",
    "lightgbm",
    "xgboost",
    "torch",
    "skorch",
    "skops",
}


def unlearnkit(*arguments, **options):
    command = [sys.executable, "-c", MAIN, *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("process")
    frame = pd.DataFrame({"who": range(1000, 1040), "a": [i % 7 for i in range(40)], "y": [i % 2 for i in range(40)]})
    frame.to_csv(folder / "train.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def fitted(folder):
    rows = ["--data", folder / "train.csv", "--target", "y", "--id-column", "who", "--store", folder / "m.sisa"]
    command = ["fit", "--model", "sklearn.linear_model:SGDClassifier", "--shards", 2, "--slices", 2, *rows]
    assert CliRunner().invoke(app, list(map(str, command))).exit_code == 0
    return folder / "m.sisa"


def test_looking_and_recording_import_no_framework(fitted, tmp_path):
    exported = unlearnkit("forget", "--store", fitted, "1001", "--no-repair")
    assert exported.returncode == 0, exported.stderr
    commands = [
        ["status", "--store", fitted],
        ["forget", "--record-only", "--store", fitted, "1003"],
        ["receipt", "show", "--store", fitted, "1"],
        ["receipt", "export", "--store", fitted, "-o", tmp_path / "r.jsonl"],
        ["receipt", "verify", tmp_path / "r.jsonl", "--key", fitted / "keys" / "signing.pub"],
    ]
    lines = [
        "import sys, time",
        "from unlearnkit.cli import app",
        f"for command in {[list(map(str, command)) for command in commands]}:",
        "    code = app(command, standalone_mode=False)",
        f"    print(code, sorted({HEAVY} & set(sys.modules)), file=sys.stderr)",
    ]
    result = subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, capture_output=True, text=True)

    assert result.stderr.splitlines() == ["0 []"] * len(commands)


def test_forgetting_imports_no_framework_that_trains(fitted):
    code = (
        "import sys; from unlearnkit.cli import app;"
        f"app(['forget', '--no-repair', '--store', {str(fitted)!r}, '1007'], standalone_mode=False);"
        "print('sklearn' in sys.modules, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert result.stderr == "False\n"


def test_errors_are_one_line(tmp_path):
    result = unlearnkit("status", "--store", tmp_path / "none")

    assert result.returncode == 3
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1


def test_a_fault_is_no_finding(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import unlearnkit.store\nunlearnkit.store.Store.settings = lambda self: 1 / 0\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    result = unlearnkit("status", "--store", tmp_path, env=environment)

    assert result.returncode == 70
    assert "ZeroDivisionError" in result.stderr
    assert "This is a fault in unlearnkit" in result.stderr


CUT_SHORT = """\
import os, signal
from sklearn.linear_model import SGDClassifier

# A shell that starts something in the background has it ignore interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
calls = 0


class Own(SGDClassifier):
    def fit(self, X, y, **more):
        global calls
        calls += 1
        print("step", calls)
        if calls == int(os.environ.get("AT", 0)):
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))
        return super().fit(X, y, **more)
"""


def test_a_fit_that_was_interrupted_goes_on(folder, tmp_path, monkeypatch):
    (tmp_path / "cut_short.py").write_text(CUT_SHORT)
    rows = ["--data", folder / "train.csv", "--target", "y", "--id-column", "who", "--store", "cut.sisa"]
    command = ["fit", "--model", "cut_short:Own", "--shards", 3, "--json", *rows]

    variables = {"AT": "2", "SIGNAL": str(int(signal.SIGINT))}
    interrupted = unlearnkit(*command, cwd=tmp_path, env=os.environ | variables)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    done = CliRunner().invoke(app, list(map(str, command)))

    assert interrupted.returncode == 130, interrupted.stderr
    assert interrupted.stderr.splitlines()[-1].startswith("unlearnkit: Interrupted.")
    # What the model prints is no result; the first call has kept one of three steps.
    assert done.stderr.splitlines() == ["step 1", "step 2"]
    assert json.loads(done.stdout)["degraded_shards"] == []
