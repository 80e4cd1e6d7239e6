"""``add``, ``rectify``, ``consolidate`` and what ``status`` and ``receipt`` say of them."""

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from unlearnkit import SISAClassifier, Store, load
from unlearnkit.cli import app
from unlearnkit.ledger import Change
from unlearnkit.partition import HashPartition

pd = pytest.importorskip("pandas")
pytest.importorskip("sqlalchemy")
pytest.importorskip("unlearnkit_sklearn")

COLUMNS = "--target y --id-column who"
FIT = f"fit --model sklearn.linear_model:SGDClassifier --set loss=log_loss {COLUMNS} --shards 3 --slices 2"
PRIOR = '{"0.001": 0.67, "0.05": 0.33}'


def run(command, *more, code=0, stdin=None):
    result = CliRunner().invoke(app, [*command.split(), *map(str, more)], input=stdin)
    assert result.exit_code == code, result.output
    assert all(line.startswith("unlearnkit: ") for line in result.stderr.splitlines())
    return result.stdout


def told(command, *more, code=0):
    return json.loads(run(command, *more, "--json", code=code))


def refused(command, *more, code=2):
    result = CliRunner().invoke(app, [*command.split(), *map(str, more)])
    assert (result.exit_code, result.stdout) == (code, "")
    [line] = result.stderr.splitlines()
    return line


def table(start=0, n=60):
    rng = np.random.default_rng(start)
    a, b = rng.normal(size=(2, n))
    who = np.arange(start, start + n) + 1000
    return pd.DataFrame(
        {"who": who, "a": a, "b": b, "p": np.where(who % 3, 0.001, 0.05), "y": np.where(a + b > 0, "yes", "no")}
    )


@pytest.fixture(scope="module")
def fitted_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arrivals")
    table().to_csv(folder / "train.csv", index=False)
    table(60, 30).drop(columns="p").to_csv(folder / "week2.csv", index=False)
    run(f"{FIT} --drop p --seed 0 --data", folder / "train.csv", "--store", folder / "m.sisa")
    return folder


@pytest.fixture
def at(fitted_once, tmp_path, monkeypatch):
    shutil.copytree(fitted_once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


STORE = ["--store", "m.sisa"]


def given(frame, columns=("a", "b")):
    return frame[list(columns)], frame["y"].to_numpy()


def replayed(*parts):
    """The model that got these tables one after the other."""
    model = load("m.sisa").pinned()
    for part in parts:
        X, y = given(part)
        model.partial_fit(X, y, ids=part["who"].to_numpy())
    return model


# -- add ---------------------------------------------------------------------------------------------------------------


def test_records_are_added_with_the_columns_of_the_fit(at):
    found = told("add --data week2.csv", *STORE)

    assert (found["added"], found["records"], found["degraded_shards"]) == (30, 90, [])
    assert found["digest"] == replayed(table(), table(60, 30)).model_digest_
    assert told("verify", *STORE)["exact"]
    assert told("status", *STORE)["arrived"] == {"0": 1, "1": 1, "2": 1}
    assert "30 records added; the model has 120 records" in run("add --data week2.csv", *STORE)


def test_what_was_added_is_forgotten_as_all_else(at):
    run("add --data week2.csv", *STORE)
    run("forget 1003 1071", *STORE)
    kept = [part[~part["who"].isin([1003, 1071])] for part in (table(), table(60, 30))]

    assert load("m.sisa").model_digest_ == replayed(*kept).model_digest_


def test_columns_may_be_named_and_others_are_ignored(at):
    named = table(60, 30).rename(columns={"who": "customer", "y": "left"}).assign(note="x")
    named.to_parquet("week2.parquet")
    found = told("add --target left --id-column customer --data week2.parquet", *STORE)

    assert found["digest"] == replayed(table(), table(60, 30)).model_digest_


def test_rows_of_forgotten_ids_are_refused_left_out_or_learned_again(at):
    run("forget 1003", *STORE)
    again = pd.concat([table()[3:4], table(60, 5)])
    again.to_csv("again.csv", index=False)
    before = Store.at("m.sisa").ledger.cells()

    assert "forgotten by this model" in refused("add --data again.csv", *STORE)
    assert Store.at("m.sisa").ledger.cells() == before
    assert told("add --forgotten drop --data again.csv", *STORE)["added"] == 5
    assert told("add --forgotten readmit --data again.csv", *STORE)["added"] == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="a"), "lacks 1 column that the model was fitted with: 'a'"),
        (lambda frame: frame.drop(columns="who"), "no column 'who'"),
        (lambda frame: frame.assign(y="perhaps"), "not among the 2 classes"),
        (lambda frame: frame.assign(a="x"), "a"),
        (lambda frame: frame[:0], "no rows"),
    ],
)
def test_records_that_do_not_fit_change_nothing(at, change, message):
    change(table(60, 5)).to_csv("bad.csv", index=False)
    before = Store.at("m.sisa").ledger.cells()
    for command in ("add", "rectify"):
        assert message in refused(f"{command} --data bad.csv", *STORE)
    assert Store.at("m.sisa").ledger.cells() == before


def test_a_store_that_was_not_fitted_here_needs_the_names(at):
    frame = table()
    X, y = given(frame)
    SISAClassifier(n_shards=2, store="own.sisa", partition=HashPartition(b"sixteen bytes or more")).fit(
        X, y, ids=frame["who"].to_numpy()
    )
    for command in ("add --data week2.csv", "rectify --data train.csv", "verify --data train.csv"):
        assert "--data needs --target" in refused(command, "--store", "own.sisa")
    columns = "--target y --id-column who --store own.sisa"
    assert told(f"add --data week2.csv {columns}")["records"] == 90
    assert told(f"rectify --data train.csv {columns}")["requests"][0]["n_records"] == 60


def test_positions_go_on_without_ids(at):
    table()[["a", "b", "y"]].to_csv("bare.csv", index=False)
    table(60, 30)[["a", "b", "y"]].to_csv("more.csv", index=False)
    run(f"{FIT.replace('--id-column who', '')} --data bare.csv --store bare.sisa")
    run("add --data more.csv --store bare.sisa")

    assert told("forget 59 60 89 --store bare.sisa")["requests"][0]["n_records"] == 3
    assert "unknown" in run("forget --missing ignore 0 90 --store bare.sisa")
    assert "without ids" in refused("rectify --data more.csv --store bare.sisa")


def test_kept_but_not_trained(at, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("unlearnkit.environment._version", lambda name: "0.0" if name == "scipy" else "1.0")
        result = CliRunner().invoke(app, ["add", "--data", "week2.csv", *STORE])
    assert result.exit_code == 4
    assert "The records are kept, but the model could not be trained on them" in result.stderr
    assert "30 records added" in result.stdout
    assert "Not trained on all of their records: shards 0, 1, 2" in result.stdout
    run("repair", *STORE)
    assert load("m.sisa").model_digest_ == replayed(table(), table(60, 30)).model_digest_


# -- rectify -----------------------------------------------------------------------------------------------------------


def corrected():
    frame = table()
    frame.loc[3:4, "a"] += 5
    frame.loc[3:4, "y"] = "yes"
    return frame


def test_records_are_replaced_exactly(at):
    corrected()[3:5].to_csv("fix.csv", index=False)
    [receipt] = told("rectify --data fix.csv", *STORE)["requests"]

    assert (receipt["kind"], receipt["n_ids"], receipt["n_records"]) == ("rectification", 2, 2)
    assert receipt["repaired_at"] is not None
    assert receipt["digest_after"] == load("m.sisa").model_digest_ == replayed(corrected()).model_digest_
    assert told("verify", *STORE)["exact"]


def test_replaced_now_and_trained_later(at):
    corrected()[3:5].to_csv("fix.csv", index=False)
    text = run("rectify --no-repair --data fix.csv", *STORE)

    assert "Request 1: 2 records of 2 ids replaced" in text
    assert "Repair is due: unlearnkit repair" in text
    assert Store.at("m.sisa").ledger.request(1).state == "purged"
    assert "2 records of 2 ids replaced" in run("repair", *STORE)
    assert load("m.sisa").model_digest_ == replayed(corrected()).model_digest_


def test_replaced_but_not_trained(at, monkeypatch):
    corrected()[3:5].to_csv("fix.csv", index=False)
    run("forget --no-repair 1010", *STORE)
    with monkeypatch.context() as patched:
        patched.setattr("unlearnkit.environment._version", lambda name: "0.0" if name == "scipy" else "1.0")
        result = CliRunner().invoke(app, ["rectify", "--data", "fix.csv", *STORE])
    assert result.exit_code == 4
    assert "The records are replaced, but the model could not be trained again" in result.stderr
    assert "2 records of 2 ids replaced" in result.stdout


def test_ids_without_records_are_refused(at):
    table(55, 10).to_csv("fix.csv", index=False)
    line = refused("rectify --data fix.csv", *STORE)

    assert "5 of 10 ids have no record to replace" in line
    assert line.endswith("Add records of new ids with unlearnkit add.")
    assert Store.at("m.sisa").ledger.requests() == ()


def test_the_receipts_of_a_rectification(at):
    corrected()[3:5].to_csv("fix.csv", index=False)
    run("rectify --data fix.csv", *STORE)
    run("receipt export -o all.jsonl", *STORE)
    run("receipt verify all.jsonl --key m.sisa/keys/signing.pub --expect 2")
    shown, statements = told("receipt show 1", *STORE), told("receipt export", *STORE)["statements"]
    text = run("receipt export --subject -", *STORE, stdin="1003\n")

    assert shown["kind"] == "rectification"
    assert "rectification" in run("receipt show 1", *STORE)
    assert len(statements) == 2
    assert "Your rectification request (number 1)" in text
    assert "replaced by the corrected ones" in text
    assert "completed again with the corrected data" in text
    [version] = told("receipt export --subject 1003", *STORE)["requests"]
    assert version["outcome"] == "rectified"
    assert "No request has removed records of this id" in refused("receipt export --subject 1005", *STORE)


# -- consolidate, status -----------------------------------------------------------------------------------------------


def test_consolidate(at):
    run("add --data week2.csv", *STORE)
    found = told("consolidate", *STORE)

    assert (found["records"], found["degraded_shards"]) == (90, [])
    assert found["digest"] == replayed(pd.concat([table(), table(60, 30)])).model_digest_
    assert told("status", *STORE)["arrived"] == {}
    assert "Consolidated; the model has 90 records and 6 steps" in run("consolidate", *STORE)


def test_consolidate_drops_what_no_record_has(at):
    three = table().assign(y=lambda frame: np.where(frame["who"] == 1007, "perhaps", frame["y"]))
    three.to_csv("three.csv", index=False)
    run(f"{FIT} --drop p --data three.csv --store three.sisa")
    run("forget 1007 --store three.sisa")
    run("consolidate --store three.sisa")
    assert load("three.sisa").classes_.tolist() == ["no", "perhaps", "yes"]
    run("consolidate --refresh-schema --store three.sisa")
    assert load("three.sisa").classes_.tolist() == ["no", "yes"]


@pytest.mark.filterwarnings("ignore::unlearnkit.errors.DataWarning")
def test_status_says_what_has_piled_up_and_shrunk(at):
    assert "none since the fit" in run("status", *STORE)
    run("add --data week2.csv", *STORE)
    assert "3 slices in 3 shards, most in shard 0: 1" in run("status", *STORE)
    Store.at("m.sisa").ledger.apply(Change(notes={"built": [1000, 10, 10]}))
    text = run("status", *STORE)

    assert "Shrunken: shard 0 has fewer than half of the records that it was built with." in text
    assert told("status", *STORE)["upkeep"][0].startswith("Shrunken: shard 0")
    model = load("m.sisa")
    for i in range(11):
        model.partial_fit(*given(table(61 + i, 1)), ids=[1003])
    assert max(told("status", *STORE)["arrived"].values()) == 12
    assert "Put their records where a fit would: unlearnkit consolidate" in run("status", *STORE)


# -- bands -------------------------------------------------------------------------------------------------------------


def banded(code=0, prior=PRIOR, store="bands.sisa"):
    return run(FIT, "--erasure-probability", "p", "--data", "train.csv", "--store", store, "--prior", prior, code=code)


def test_a_prior_makes_bands(at):
    (at / "prior.json").write_text(PRIOR)
    banded()
    banded(prior="prior.json")
    model = load("bands.sisa")
    table(60, 30).to_csv("week2p.csv", index=False)
    run("add --data week2p.csv --store bands.sisa")
    corrected()[3:5].drop(columns="p").to_csv("fix.csv", index=False)
    run("rectify --data fix.csv --store bands.sisa")
    assert model.partition_.bands.probabilities == (0.001, 0.05)
    both = pd.concat([corrected(), table(60, 30)])
    both.to_csv("both.csv", index=False)
    run("consolidate --store bands.sisa")
    assert told("verify --data both.csv --store bands.sisa")["exact"]


def test_a_prior_may_leave_the_shards_alike(at):
    call = ("--erasure-probability", "p", "--data", "train.csv", "--prior", PRIOR)
    run(FIT, *call, "--store", "alike.sisa", "--prior-shards", "people")
    assert load("alike.sisa").partition_.bands.shards == "people"


def test_what_is_refused_about_bands(at):
    assert "for models with --prior" in refused(f"{FIT} --erasure-probability p --data train.csv --store new.sisa")
    assert "--prior needs --erasure-probability" in refused(
        f"{FIT} --drop p --data train.csv --store new.sisa --prior", PRIOR
    )
    for wrong in ("none.json", "[1]", '{"a": 1}', '{"0.1": "x"}', '{"0": 1}', "{}", '{"0.1"'):
        line = refused(f"{FIT} --erasure-probability p --data train.csv --store new.sisa --prior", wrong)
        assert "prior" in line.lower()
    banded()
    assert "partition" in refused(f"{FIT} --drop p --data train.csv --store bands.sisa", code=3)
    assert "no column 'p'" in refused("add --data week2.csv --store bands.sisa")
    assert not (at / "new.sisa").exists()
