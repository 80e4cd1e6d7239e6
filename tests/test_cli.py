"""The commands on a store, from fit to receipts, as a user sees them."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from typer.testing import CliRunner

from unlearnkit import Store, fsck, load
from unlearnkit.cli import app
from unlearnkit.ledger import Change
from unlearnkit.statements import verify_chain

pd = pytest.importorskip("pandas")
pytest.importorskip("sqlalchemy")
pytest.importorskip("unlearnkit_sklearn")

COLUMNS = "--target y --id-column who"
FIT = f"fit --model sklearn.linear_model:SGDClassifier --set loss=log_loss {COLUMNS} --shards 3 --slices 2"


def run(command, *more, code=0, stdin=None):
    """What a command prints on standard output; on standard error nothing, or one line for each message."""
    result = CliRunner().invoke(app, [*command.split(), *map(str, more)], input=stdin)
    assert result.exit_code == code, result.output
    assert all(line.startswith("unlearnkit: ") for line in result.stderr.splitlines())
    assert (code in (0, 1)) or result.stderr
    return result.stdout


def told(command, *more, code=0, stdin=None):
    """The JSON that a command prints, and nothing else."""
    return json.loads(run(command, *more, "--json", code=code, stdin=stdin))


def table(n=60, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n))
    return pd.DataFrame({"who": np.arange(n) + 1000, "a": a, "b": b, "y": np.where(a + b > 0, "yes", "no")})


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    table().to_csv(folder / "train.csv", index=False)
    run(f"{FIT} --seed 0 --copy", "backups of the bank", "--data", folder / "train.csv", "--store", folder / "m.sisa")
    return folder


@pytest.fixture
def at(fitted, tmp_path):
    """A folder with a fitted store and the file it was fitted on; for commands ``--store``."""
    shutil.copytree(fitted, tmp_path, dirs_exist_ok=True)
    return tmp_path


def store(at):
    return ["--store", at / "m.sisa"]


# -- fit ---------------------------------------------------------------------------------------------------------------


def test_fit_tells_what_it_made(at):
    found = told(f"{FIT} --data", at / "train.csv", "--store", at / "other.sisa", "--slices", "auto")

    assert found["model"] == "SGDClassifier"
    assert (found["records"], found["shards"]) == (60, 3)
    assert found["slices"] == load(at / "other.sisa").partition_.n_slices
    assert found["digest"] == load(at / "other.sisa").model_digest_
    assert found["degraded_shards"] == []


def test_the_same_fit_again_goes_on(at):
    before = load(at / "m.sisa").model_digest_
    ledger = Store.at(at / "m.sisa").ledger
    lost = sorted(ledger.checkpoints())[:2]
    ledger.apply(Change(keys=ledger.keys() - set(lost)))
    found = told(f"{FIT} --data", at / "train.csv", *store(at))

    assert found["digest"] == before
    assert found["degraded_shards"] == []
    assert set(lost) <= Store.at(at / "m.sisa").ledger.checkpoints().keys()


def test_another_fit_is_refused(at):
    run(f"{FIT} --set alpha=0.5 --data", at / "train.csv", *store(at), code=3)


def test_forgotten_rows_are_refused_left_out_or_learned_again(at):
    run("forget 1003 1005", *store(at))
    digest = load(at / "m.sisa").model_digest_
    run(f"{FIT} --data", at / "train.csv", *store(at), code=2)

    assert told(f"{FIT} --forgotten drop --data", at / "train.csv", *store(at))["digest"] == digest
    assert told(f"{FIT} --forgotten readmit --data", at / "train.csv", *store(at))["records"] == 60


def test_policy_is_kept_and_can_be_declared_anew(at):
    run(f"{FIT} --days-to-answer 45 --regime CCPA --data", at / "train.csv", *store(at))
    declared = Store.at(at / "m.sisa").declared

    assert (declared.days_to_answer, declared.regime, declared.copies) == (45, "CCPA", ("backups of the bank",))


def test_parquet_weights_and_left_out_columns(at):
    frame = table().assign(w=np.arange(60) % 3, note="x")
    frame.to_parquet(at / "train.parquet")
    run(f"{FIT} --weight-column w --drop note --data", at / "train.parquet", "--store", at / "p.sisa")
    model = load(at / "p.sisa")

    assert model.feature_names_in_.tolist() == ["a", "b"]
    assert model.schema_.weighted
    assert told(
        f"verify {COLUMNS} --weight-column w --drop note --data", at / "train.parquet", "--store", at / "p.sisa"
    )["exact"]


def test_text_columns_are_categories_where_the_model_takes_them(at):
    pytest.importorskip("unlearnkit_lightgbm")
    pytest.importorskip("lightgbm")
    table().assign(colour=["red", "green", "blue"] * 20).to_csv(at / "c.csv", index=False)
    lightgbm = FIT.replace("sklearn.linear_model:SGDClassifier --set loss=log_loss", "lightgbm:LGBMClassifier")
    run(f"{lightgbm} --set n_estimators=4 --set min_child_samples=2 --data", at / "c.csv", "--store", at / "c.sisa")

    assert load(at / "c.sisa").schema_.columns[-1].categories == ("blue", "green", "red")
    assert len(run("predict --data", at / "c.csv", "--store", at / "c.sisa").splitlines()) == 61
    run(f"{FIT} --data", at / "c.csv", "--store", at / "no.sisa", code=2)
    assert not (at / "no.sisa").exists()


# -- predict -----------------------------------------------------------------------------------------------------------


def test_predictions_are_in_the_order_of_the_rows_and_name_nobody(at):
    shuffled = table()[["y", "b", "who", "a"]].sample(frac=1, random_state=0)
    shuffled.to_csv(at / "new.csv", index=False)
    model = load(at / "m.sisa")
    printed = run("predict --probabilities --data", at / "new.csv", *store(at)).splitlines()
    run("predict --probabilities --data", at / "new.csv", *store(at), "--output", at / "out.parquet")
    written = pd.read_parquet(at / "out.parquet")

    assert printed[0] == "prediction,probability_no,probability_yes"
    assert [line.split(",")[0] for line in printed[1:]] == model.predict(shuffled[["a", "b"]]).tolist()
    assert written.columns.tolist() == printed[0].split(",")
    np.testing.assert_array_equal(written["probability_no"], model.predict_proba(shuffled[["a", "b"]])[:, 0])
    assert told("predict --data", at / "new.csv", *store(at))["prediction"] == written["prediction"].tolist()
    assert told("predict --data", at / "new.csv", *store(at), "-o", at / "o.csv") == {
        "rows": 60,
        "output": str(at / "o.csv"),
    }


def test_a_regressor(at):
    table().assign(y=np.arange(60) / 7).to_csv(at / "r.csv", index=False)
    run(
        FIT.replace("SGDClassifier --set loss=log_loss", "Ridge").replace("--slices 2", ""),
        "--data",
        at / "r.csv",
        "--store",
        at / "r.sisa",
    )

    assert len(told("predict --data", at / "r.csv", "--store", at / "r.sisa")["prediction"]) == 60
    run("predict --probabilities --data", at / "r.csv", "--store", at / "r.sisa", code=2)


# -- forget, repair ----------------------------------------------------------------------------------------------------


def test_forget_and_what_is_left_is_exact(at):
    found = told("forget 1003 1005 1003", *store(at))
    [receipt] = found["requests"]

    assert (receipt["n_ids"], receipt["n_records"]) == (2, 2)
    assert receipt["repaired_at"] is not None
    model, kept = load(at / "m.sisa"), table().query("who not in (1003, 1005)")
    reference = model.pinned().fit(kept[["a", "b"]], kept["y"].to_numpy(), ids=kept["who"].to_numpy())
    assert model.model_digest_ == reference.model_digest_ == receipt["digest_after"]


@pytest.mark.parametrize("source", ["lines", "csv", "parquet", "stdin", "file from stdin"])
def test_ids_from_everywhere(at, source):
    ids = [1003, 1005]
    if source == "lines":
        (at / "ids.txt").write_text("\ufeff1003\r\n\r\n1005\r\n", encoding="utf-8")
        arguments, stdin = ["--file", at / "ids.txt"], None
    elif source == "csv":
        (at / "ids.csv").write_text("reason,customer\nx,1003.0\ny,1005.0\n")
        arguments, stdin = ["--file", at / "ids.csv", "--id-column", "customer"], None
    elif source == "parquet":
        pd.DataFrame({"customer": ids}).to_parquet(at / "ids.parquet")
        arguments, stdin = ["--file", at / "ids.parquet", "--id-column", "customer"], None
    else:
        arguments, stdin = ["-"] if source == "stdin" else ["--file", "-"], "1003\n1005\n"
    [receipt] = told("forget --no-repair", *store(at), *arguments, stdin=stdin)["requests"]

    assert receipt["n_records"] == 2
    assert receipt["purged_at"] is not None
    assert receipt["repaired_at"] is None


def test_one_request_for_each_id(at):
    receipts = told("forget --separately 1003 1005 1003", *store(at))["requests"]

    assert [(r["request_id"], r["n_records"]) for r in receipts] == [(1, 1), (2, 1)]
    assert all(r["repaired_at"] is not None for r in receipts)


def test_unknown_ids_are_refused_or_skipped(at):
    before = Store.at(at / "m.sisa").ledger.requests()
    run("forget 1003 77", *store(at), code=2)
    run("forget --separately 1003 77", *store(at), code=2)
    run("forget not-a-number", *store(at), code=2)
    run("forget --record-only not-a-number", *store(at), code=2)
    assert Store.at(at / "m.sisa").ledger.requests() == before
    [one] = told("forget --missing ignore 1003 77", *store(at))["requests"]
    first, second = told("forget --missing ignore --separately 1005 78", *store(at))["requests"]

    assert (one["n_records"], one["skipped"]) == (1, [1])
    assert (first["n_records"], second["rejected"]) == (1, "no record of this model has any of its ids")


def test_what_was_forgotten_before_is_counted(at):
    run("forget 1003", *store(at))

    assert "1 forgotten before" in run("forget 1003 1005", *store(at))


def test_recorded_requests_are_carried_out_by_repair(at):
    assert "1 id recorded, due by" in run("forget --record-only 1003", *store(at))
    run("forget --record-only --separately 1005 1006", *store(at))
    receipts = told("repair", *store(at))["requests"]

    assert [r["n_records"] for r in receipts] == [1, 1, 1]
    assert run("repair", *store(at)) == "Nothing was due.\n"


def test_forgotten_but_not_trained(at, monkeypatch):
    from sklearn.linear_model import SGDClassifier

    def failing(self, *_, **__):
        raise ValueError("out of luck")

    with monkeypatch.context() as patched:
        patched.setattr(SGDClassifier, "partial_fit", failing)
        patched.setattr(SGDClassifier, "fit", failing)
        result = CliRunner().invoke(app, ["forget", "1003", *map(str, store(at))])
        assert result.exit_code == 4
        assert "records are forgotten, but the model could not be trained again" in result.stderr
        assert "Repair is due" in result.stdout
        run("repair", *store(at), code=4)
        assert "cannot be trained" in run("status", *store(at))

    assert Store.at(at / "m.sisa").ledger.request(1).state == "purged"
    assert "Repaired" in run("repair", *store(at))


def test_another_environment_needs_a_rebuild(at, monkeypatch):
    run("forget --no-repair 1003 1004 1005", *store(at))
    monkeypatch.setattr("unlearnkit.environment._version", lambda name: "0.0" if name == "scipy" else "1.0")
    run("repair", *store(at), code=4)

    assert "scipy" in run("status", *store(at))
    assert told("repair --rebuild", *store(at))["requests"][0]["rebuilt_shards"]
    assert told("status", *store(at))["degraded_shards"] == {}


# -- verify ------------------------------------------------------------------------------------------------------------


def test_verify_from_the_store_and_from_the_file(at):
    run("forget 1003 1005", *store(at))
    own, given = told("verify", *store(at)), told(f"verify {COLUMNS} --data", at / "train.csv", *store(at))

    assert own["exact"] is given["exact"] is True
    assert own["digest"] == given["rebuilt_digest"] == load(at / "m.sisa").model_digest_
    assert given["rows_left_out"] == 2
    assert run("verify", *store(at)).startswith("Exact: 6 states rebuilt")


def test_verify_some_shards(at):
    assert told("verify --shards 0,2", *store(at))["shards"] == [0, 2]
    assert len(told("verify --sample 2", *store(at))["shards"]) == 2
    assert told("verify --sample 9", *store(at))["shards"] == [0, 1, 2]


def test_what_is_not_exact_is_a_finding_and_says_what_to_do(at):
    run("forget --no-repair 1003", *store(at))
    assert "Train them: unlearnkit repair" in run("verify", *store(at), code=1)
    run("repair", *store(at))
    other = table()
    other.loc[7, "a"] += 1
    other.to_csv(at / "other.csv", index=False)
    text = run(f"verify {COLUMNS} --data", at / "other.csv", *store(at), code=1)

    assert "NOT EXACT" in text
    assert "Different: shard" in text
    assert told(f"verify {COLUMNS} --data", at / "other.csv", *store(at), code=1)["differing"]


def test_another_environment_is_told_apart_from_a_difference(at, monkeypatch):
    monkeypatch.setattr("unlearnkit.environment._version", lambda name: "0.0" if name == "scipy" else "1.0")
    found = told("verify", *store(at))

    assert found["exact"] is True
    assert found["same_environment"] is False
    assert found["changed"]["scipy"][1] == "0.0"
    assert "environment is another" in run("verify", *store(at))


# -- status, fsck ------------------------------------------------------------------------------------------------------


def test_status(at):
    run("forget --no-repair 1003", *store(at))
    run("forget --record-only 1005", *store(at))
    found, text = told("status", *store(at)), run("status", *store(at))

    assert found["requests"] == {"received": 1, "isolated": 0, "purged": 1, "repaired": 0, "rejected": 0}
    assert [r["sequence"] for r in found["open"]] == [1, 2]
    assert found["overdue"] == []
    assert "59 in 3 shards of 2 slices" in text
    assert "here" in text
    assert "the same" in text


def test_a_missed_deadline_is_a_finding(at):
    run("forget --record-only 1003", *store(at))
    ledger = Store.at(at / "m.sisa").ledger
    request = ledger.request(1)
    late = {"due_at": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}
    ledger.apply(Change(requests=(replace(request, facts=request.facts | late),)))

    assert told("status", *store(at), code=1)["overdue"] == [1]
    assert "Overdue: 1. Carry them out: unlearnkit repair" in run("status", *store(at), code=1)
    run("repair", *store(at))
    run("status", *store(at))


def test_a_lost_blob_is_a_finding(at):
    next((at / "m.sisa" / "blobs").iterdir()).unlink()

    assert "Missing: 1 blob" in run("status", *store(at), code=1)


def test_fsck_shows_what_is_wrong(at, monkeypatch):
    wrong = fsck.Finding("mode", "keys/signing.key", "others may read it", "Run repair(), or chmod 600.")
    monkeypatch.setattr(fsck, "check", lambda store: (wrong, replace(wrong, place="keys/pseudonym.key")))
    text = run("fsck", *store(at), code=1)

    assert "WRONG   keys/signing.key: others may read it" in text
    assert "Run unlearnkit repair, or chmod 600." in text
    assert told("fsck", *store(at), code=1)["findings"][0]["kind"] == "mode"
    assert text.count("WRONG") == 2
    assert text.count("chmod") == 1


def test_fsck_finds_what_is_damaged(at):
    assert run("fsck", *store(at)) == "Nothing is wrong.\n"
    blob = next((at / "m.sisa" / "blobs").iterdir())
    blob.write_bytes(b"x" + blob.read_bytes())

    assert blob.name[:12] in run("fsck", *store(at), code=1)


def test_fsck_repairs_by_the_model_and_a_file(at, monkeypatch):
    given = {}

    def heal(store, *, opener, data):
        given.update(model=opener(store), data=data)
        return (fsck.Finding("blob", "x", "y", "z", healed=True),)

    monkeypatch.setattr(fsck, "heal", heal)
    assert "healed  x: y" in run(f"fsck --repair {COLUMNS} --data", at / "train.csv", *store(at))
    assert given["model"].model_digest_ == load(at / "m.sisa").model_digest_
    assert given["data"].ids.tolist() == list(range(1000, 1060))
    assert len(given["data"].X) == len(given["data"].y) == 60


# -- receipts ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def erased(at):
    run("forget 1003 1004", *store(at))
    run("forget 1005", *store(at))
    return at


def test_show(erased):
    found = told("receipt show 2", *store(erased))

    assert found["request_id"] == 2
    assert found["state"] == "repaired"
    assert "digest after" in run("receipt show 2", *store(erased))
    run("receipt show 3", *store(erased), code=2)


def test_export_and_verify_without_the_store(erased):
    run("receipt export", *store(erased), "-o", erased / "all.jsonl")
    shutil.copy(erased / "m.sisa" / "keys" / "signing.pub", erased / "auditor.pub")
    public = (erased / "auditor.pub").read_text()
    shutil.rmtree(erased / "m.sisa")
    lines = (erased / "all.jsonl").read_text().splitlines()
    arguments = ["--key", erased / "auditor.pub"]

    assert verify_chain(lines, public) == []
    assert told("receipt verify", erased / "all.jsonl", *arguments)["statements"] == 4
    assert "every signature holds" in run("receipt verify -", *arguments, stdin="\n".join(lines) + "\n")
    run("receipt verify --expect 4", erased / "all.jsonl", *arguments)
    assert "last were removed" in run("receipt verify --expect 5", erased / "all.jsonl", *arguments, code=1)
    (erased / "cut.jsonl").write_text("\n".join(lines[:1] + lines[2:]) + "\n")
    assert told("receipt verify", erased / "cut.jsonl", *arguments, code=1)["findings"]
    (erased / "changed.jsonl").write_text(lines[0].replace("a", "b", 1) + "\n")
    run("receipt verify", erased / "changed.jsonl", *arguments, code=1)
    run("receipt verify", erased / "all.jsonl", "--key", erased / "all.jsonl", code=2)
    run("receipt verify", erased / "none.jsonl", *arguments, code=2)


def test_export_of_one_request(erased):
    lines = run("receipt export 2", *store(erased)).splitlines()
    (erased / "one.jsonl").write_text("\n".join(lines) + "\n")

    assert len(lines) == 2
    run("receipt verify", erased / "one.jsonl", "--key", erased / "m.sisa" / "keys" / "signing.pub")
    assert len(told("receipt export", *store(erased))["statements"]) == 4
    run("forget --record-only 1006", *store(erased))
    run("receipt export 3", *store(erased), code=2)


def test_the_version_for_a_data_subject(erased):
    text = run("receipt export --subject -", *store(erased), stdin="1005\n")

    assert "Your erasure request (number 2)" in text
    assert "backups of the bank" in text
    assert "shard" not in text
    [found] = told("receipt export --subject 1003", *store(erased))["requests"]
    assert found["request"] == 1
    assert len(found["pseudonyms"]) == 1
    run("receipt export --subject 1006", *store(erased), code=2)
    run("receipt export --subject - ", *store(erased), stdin="1003\n1005\n", code=2)
    run("receipt export --subject 1003 2", *store(erased), code=2)
    run("forget --record-only 1006", *store(erased))
    run("receipt export --subject 1006", *store(erased), code=2)
