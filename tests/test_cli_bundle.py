"""``export``, ``status --bundle`` and ``predict --bundle``."""

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from unlearnkit import Store, load
from unlearnkit.cli import app

pd = pytest.importorskip("pandas")
pytest.importorskip("sqlalchemy")
pytest.importorskip("unlearnkit_sklearn")

COLUMNS = "--target y --id-column who"
FIT = f"fit --model sklearn.linear_model:SGDClassifier --set loss=log_loss {COLUMNS} --shards 3 --slices 2"
BOTH = "status --store m.sisa --bundle m.bundle"
EXPORT = "export --store m.sisa --output m.bundle"


def run(command, *more, code=0):
    result = CliRunner().invoke(app, [*command.split(), *map(str, more)])
    assert result.exit_code == code, result.output
    assert all(line.startswith("unlearnkit: ") for line in result.stderr.splitlines())
    return result.stdout if code in (0, 1) else result.stderr


def told(command, code=0):
    return json.loads(run(command, "--json", code=code))


def table(n=60):
    a, b = np.random.default_rng(0).normal(size=(2, n))
    return pd.DataFrame({"who": np.arange(n) + 1000, "a": a, "b": b, "y": np.where(a + b > 0, "yes", "no")})


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    table().to_csv(folder / "train.csv", index=False)
    run(f"{FIT} --data", folder / "train.csv", "--store", folder / "m.sisa")
    run("export", "--store", folder / "m.sisa", "--output", folder / "m.bundle")
    return folder


@pytest.fixture
def at(exported, tmp_path, monkeypatch):
    shutil.copytree(exported, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_export_tells_what_it_wrote(at):
    found = told(EXPORT)

    assert found["digest"] == load("m.sisa").model_digest_ == load("m.bundle").model_digest_
    assert (found["model"], found["task"], found["shards"]) == ("SGDClassifier", "classification", 3)
    assert found["bytes"] == (at / "m.bundle").stat().st_size
    assert (found["last_request"], found["serving_shards"], found["degraded_shards"]) == (0, [0, 1, 2], [])
    assert "Digest" in run(EXPORT)


def test_predictions_from_a_bundle_are_those_of_the_store(at):
    of_store = run("predict --probabilities --store m.sisa --data train.csv")
    shutil.rmtree("m.sisa")

    assert run("predict --probabilities --bundle m.bundle --data train.csv") == of_store


def test_status_of_a_bundle_alone(at):
    shutil.rmtree("m.sisa")
    found, text = told("status --bundle m.bundle"), run("status --bundle m.bundle")

    assert found["findings"] == []
    assert found["bundle"]["digest"] == load("m.bundle").model_digest_
    assert "3 of 3 answer" in text
    assert "after request 0" in text
    assert "scikit-learn" in text


def test_current_outdated_stale_and_replaced(at):
    assert "m.bundle is current" in run(BOTH)
    run("add --store m.sisa --data train.csv")
    assert "m.bundle is outdated" in run(BOTH)
    run("forget --store m.sisa 1003 1004")
    run("forget --store m.sisa 1005 --no-repair")
    text = run(BOTH, code=1)
    assert "Stale: m.bundle; since it was exported 2 requests have removed or replaced records" in text
    assert "Replace it, and every copy of it: unlearnkit export --store m.sisa --output m.bundle" in text
    found = told(BOTH, code=1)
    assert (found["bundle"]["verdict"], found["bundle"]["requests_since"]) == ("stale", 2)
    assert len(found["findings"]) == 1
    run(EXPORT)
    assert told(BOTH)["bundle"]["verdict"] == "current"
    assert "waited for repair: shards" in run("status --bundle m.bundle")
    run("repair --store m.sisa")
    assert told(BOTH)["bundle"]["verdict"] == "outdated"


def test_requests_that_wait(at):
    run("forget --store m.sisa --record-only 1003")
    text = run(BOTH)

    assert "1 request is recorded and not carried out yet" in text
    assert "m.bundle may be stale" in text
    assert told(BOTH)["bundle"]["requests_waiting"] == 1
    run("repair --store m.sisa")
    assert told(BOTH, code=1)["bundle"]["verdict"] == "stale"


def test_status_needs_no_secret_and_no_framework(at, monkeypatch):
    shutil.rmtree(at / "m.sisa" / "keys")
    monkeypatch.setattr("unlearnkit.adapters.plugins", None)

    assert told(BOTH)["bundle"]["verdict"] == "current"


def test_a_bundle_of_another_model_is_a_finding(at):
    run(f"{FIT} --data train.csv --store other.sisa")
    text = run("status --store other.sisa --bundle m.bundle", code=1)

    assert "Foreign: m.bundle is not of this model" in text


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("status", 2, "either --store DIR or --bundle FILE"),
        ("predict --data train.csv", 2, "either --store DIR or --bundle FILE"),
        ("predict --data train.csv --store m.sisa --bundle m.bundle", 2, "either --store DIR or --bundle FILE"),
        ("predict --data train.csv --bundle none", 2, "no bundle at none"),
        ("status --bundle none", 2, "no bundle at none"),
        ("status --store m.sisa --bundle none", 3, "no bundle at 'none'"),
        ("status --store none --bundle m.bundle", 3, "no store at 'none'"),
        ("status --bundle train.csv", 3, "no bundle, or a damaged one"),
        ("predict --data train.csv --bundle train.csv", 3, "no bundle, or a damaged one"),
        ("export --store none --output new.bundle", 3, "no store at 'none'"),
        ("export --store m.sisa --output train.csv", 2, "is no bundle; nothing was written"),
        ("export --store m.sisa --output none/m.bundle", 2, "no folder"),
    ],
)
def test_what_is_refused(at, command, code, message):
    line = run(command, code=code)

    assert message in line
    assert len(line.splitlines()) == 1
    assert "fsck" not in line
    assert not (at / "new.bundle").exists()


def test_a_bundle_is_of_the_store_and_not_of_the_requests_that_wait(at):
    run("forget --store m.sisa --record-only 1003")
    run(EXPORT)

    assert Store.at("m.sisa").ledger.request(1).state == "purged"
    assert told("status --bundle m.bundle")["bundle"]["last_request"] == 1
