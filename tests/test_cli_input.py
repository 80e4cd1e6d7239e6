"""What the commands refuse, in which words, and that no id is among them."""

import json
import re
import shutil
import sys
import warnings

import numpy as np
import pytest
from typer.testing import CliRunner

from unlearnkit import Store, errors
from unlearnkit.cli import app, output
from unlearnkit.ledger import Change

pd = pytest.importorskip("pandas")
pytest.importorskip("sqlalchemy")
pytest.importorskip("unlearnkit_sklearn")

FIT = ["fit", "--model", "sklearn.linear_model:SGDClassifier", "--set", "loss=log_loss", "--shards", "2"]
COLUMNS = ["--target", "y", "--id-column", "who"]
CANARY = "canary-4711"


def run(*arguments, stdin=None):
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)


def failing(*arguments, code=2, stdin=None):
    """The one line that an error is."""
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    return line.removeprefix("unlearnkit: ")


def table(n=40):
    rng = np.random.default_rng(0)
    a = rng.normal(size=n)
    ids = [CANARY, *(f"c-{i}" for i in range(1, n))]
    return pd.DataFrame({"who": ids, "a": a, "b": rng.normal(size=n), "y": np.where(a > 0, "yes", "no")})


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    table().to_csv(folder / "train.csv", index=False)
    result = run(*FIT, *COLUMNS, "--data", folder / "train.csv", "--store", folder / "m.sisa")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def at(fitted, tmp_path, monkeypatch):
    shutil.copytree(fitted, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


STORE = ["--store", "m.sisa"]
TRAIN = ["--data", "train.csv", *COLUMNS]
NEW = ["--store", "new.sisa"]


# -- usage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["forget", "--store"], "requires an argument"),
        (["forget", CANARY], "Missing option '--store'"),
        (["repair", *STORE, CANARY], "arguments that this command does not take"),
        (["receipt", "show", *STORE, CANARY], "'SEQ'"),
        (["forgett"], "No such command 'forgett'. Did you mean 'forget'? Nothing was changed."),
        (["fit", "--shards", "0"], "'--shards'"),
        (["forget", *STORE, "x", "--missing", "maybe"], "'--missing'"),
    ],
)
def test_usage(at, arguments, message):
    line = failing(*arguments)

    assert message in line
    assert re.search(r"[^.?][.?] Nothing was changed\. For help: unlearnkit", line)
    assert CANARY not in line


@pytest.mark.parametrize("arguments", [[], ["receipt"]])
def test_no_command_shows_the_commands(arguments):
    result = run(*arguments)

    assert result.exit_code == 2
    assert "verify" in result.stdout


@pytest.mark.parametrize(
    "command",
    [
        "fit",
        "predict",
        "forget",
        "repair",
        "verify",
        "fsck",
        "status",
        "plugins",
        "demo",
        "receipt show",
        "receipt verify",
    ],
)
def test_help_tells_the_exit_codes(command):
    text = " ".join(run(*command.split(), "--help").stdout.split())

    assert "Exit codes: 0 done; 1 a finding" in text
    assert "4 recorded, but not finished" in text
    assert "--json" in text


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "lightgbm"], "is not MODULE:CLASS"),
        (["--model", "no_such_module:Model"], "cannot be imported (ModuleNotFoundError"),
        (["--model", "sklearn.linear_model:Nope"], "cannot be imported (AttributeError"),
        (["--model", "builtins:dict"], "No installed plugin wraps"),
        (["--set", "nonsense"], "is not NAME=VALUE"),
        (["--set", "no_such=1"], "could not be made with the parameters given"),
        (["--slices", "many"], "neither a whole number nor auto"),
        (["--slices", "0"], "--slices 0 is not a whole number of at least 1"),
        (["--adapter", "nobody"], "no adapter named 'nobody'"),
        (["--data", "none.csv"], "none.csv cannot be read"),
        (["--target", "z"], "has no column 'z'"),
        (["--id-column", "y"], "cannot be both target and id"),
        (["--drop", "z"], "has no column 'z'"),
        (["--drop", "who"], "cannot be both id and left out"),
        (["--drop", "a", "--drop", "b"], "no column that is left as a feature"),
        (["--weight-column", "who", "--id-column", "a"], "not numeric"),
        (["--target", "a", "--drop", "y"], "continuous"),
        (["--target", "a"], "takes categories, or leave it out by --drop"),
    ],
)
def test_what_fit_refuses(at, arguments, message):
    assert message in failing(*FIT, *TRAIN, *NEW, *arguments)
    assert not (at / "new.sisa").exists()


def test_rows_without_target_or_id(at):
    table().assign(y=["yes", None] * 20).to_csv("gaps.csv", index=False)
    assert "20 of 40 rows of gaps.csv have no target" in failing(*FIT, "--data", "gaps.csv", *COLUMNS, *NEW)
    table().assign(who=[None, *range(39)]).to_csv("gaps.csv", index=False)
    assert "1 of 40 ids are None or NaN" in failing(*FIT, "--data", "gaps.csv", *COLUMNS, *NEW)
    assert not (at / "new.sisa").exists()


def test_parameters_are_json_or_text():
    from unlearnkit.cli.options import built

    settings = ["loss=log_loss", "alpha=0.5", "shuffle=false", "random_state=null"]
    model = built("sklearn.linear_model:SGDClassifier", settings)

    assert (model.loss, model.alpha, model.shuffle, model.random_state) == ("log_loss", 0.5, False, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", *STORE, "--shards", "0,5"], "not a list of shards from 0 to 1"),
        (["verify", *STORE, "--shards", "one"], "not a list of shards"),
        (["verify", *STORE, "--shards", "0", "--sample", "1"], "both choose"),
        (["verify", *STORE, "--target", "y"], "Without --data"),
        (["verify", *STORE, "--set", "alpha=1"], "--set is for the model of --model"),
        (["fsck", *STORE, "--data", "train.csv", "--target", "y"], "go with --repair"),
        (["fsck", *STORE, "--repair", "--target", "y"], "go with --repair"),
        (["predict", *STORE, "--data", "train.csv", "-o", "out.xlsx"], "neither CSV nor Parquet"),
        (["predict", *STORE, "--data", "train.csv", "-o", "none/out.csv"], "no folder none"),
        (["forget", *STORE], "Give ids as arguments"),
        (["forget", *STORE, CANARY, "--file", "ids.txt"], "not two"),
        (["forget", *STORE, "-", CANARY], "stands for all ids"),
        (["forget", *STORE, CANARY, "--id-column", "who"], "is a column of a --file"),
        (["forget", *STORE, "--file", "none.txt"], "cannot be read"),
        (["forget", *STORE, "--file", "train.csv", "--id-column", "z"], "has no column 'z'"),
        (["forget", *STORE, "--record-only", "--missing", "ignore", CANARY], "has no meaning"),
        (["forget", *STORE, CANARY, "--model", "none:Model"], "cannot be imported"),
    ],
)
def test_what_other_commands_refuse(at, arguments, message):
    assert message in failing(*arguments)
    assert Store.at("m.sisa").ledger.requests() == ()


def test_no_ids_in_what_was_given(at):
    (at / "ids.txt").write_text("\n \n")

    assert "no id in what was given" in failing("forget", *STORE, "--file", "ids.txt")
    assert "no id in what was given" in failing("forget", *STORE, "-", stdin="")


def test_rows_to_predict_that_lack_a_column(at):
    table().drop(columns=["b"]).to_csv("less.csv", index=False)

    assert "lacks 1 column that the model was fitted with: 'b'" in failing("predict", *STORE, "--data", "less.csv")


# -- the store ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "--data", "train.csv"],
        ["forget", CANARY],
        ["forget", "--record-only", CANARY],
        ["repair"],
        ["verify"],
        ["status"],
        ["receipt", "show", "1"],
        ["receipt", "export"],
    ],
)
def test_no_store_and_none_is_made(at, arguments):
    line = failing(*arguments, "--store", "none.sisa", code=3)

    assert "no store at 'none.sisa'" in line
    assert "unlearnkit fit makes one" in line
    assert not (at / "none.sisa").exists()


def test_missing_key(at):
    (at / "m.sisa" / "keys" / "partition.key").unlink()

    assert "partition secret is neither in" in failing("forget", *STORE, CANARY, code=3)
    assert run("status", *STORE).exit_code == 0


def test_damage_says_what_to_do(at):
    for blob in (at / "m.sisa" / "blobs").iterdir():
        blob.write_bytes(b"x" + blob.read_bytes()[1:])

    assert "unlearnkit fsck --repair" in failing("predict", *STORE, "--data", "train.csv", code=3)


def test_a_store_in_use(at):
    with Store.at("m.sisa").locks.repairer(wait=False):
        assert "Another thread or process is repairing" in failing(*FIT, *TRAIN, *STORE, code=3)


def test_code_of_the_users_own(at):
    (at / "own_model.py").write_text(
        "from sklearn.linear_model import SGDClassifier\n\n\nclass Own(SGDClassifier):\n    pass\n"
    )
    own = ["--model", "own_model:Own", "--set", "loss=log_loss"]
    assert run("fit", *own, "--shards", "2", *TRAIN, *NEW).exit_code == 0
    predict = ["predict", *NEW, "--data", "train.csv"]

    assert "--model module:Class, with --set as at its fit" in failing(*predict)
    assert run(*predict, *own).exit_code == 0
    assert "differ" in failing(*predict, *own, "--set", "alpha=0.5")
    # Forgetting needs no code, training does.
    result = run("forget", *NEW, CANARY, "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["requests"][0]["n_records"] == 1
    assert run("repair", *NEW, *own).exit_code == 0
    assert run("verify", *NEW, *own).exit_code == 0


def test_all_shards_isolated(at):
    ledger = Store.at("m.sisa").ledger
    keys = ledger.keys()
    ledger.apply(Change(keys=set()))
    ledger.apply(Change(keys=keys))

    failing("predict", *STORE, "--data", "train.csv", code=4)


# -- no id -------------------------------------------------------------------------------------------------------------


def test_no_id_is_ever_shown(at):
    (at / "ids.txt").write_text(f"{CANARY}\n")
    shown = ""
    for arguments in (
        ["forget", *STORE, CANARY, "unknown-" + CANARY],
        ["forget", *STORE, "--record-only", CANARY],
        ["receipt", "export", *STORE, "--subject", CANARY],
        ["status", *STORE],
        ["forget", *STORE, "--file", "ids.txt", "--json"],
        ["forget", *STORE, "-"],
        ["predict", *STORE, "--data", "train.csv"],
        [*FIT, *TRAIN, *STORE],
        [*FIT, *TRAIN, *STORE, "--forgotten", "drop"],
        ["verify", *STORE, *TRAIN],
        ["repair", *STORE, "--json"],
        ["receipt", "show", *STORE, "1"],
        ["receipt", "export", *STORE],
        ["receipt", "export", *STORE, "--subject", CANARY],
        ["receipt", "export", *STORE, "--subject", "unknown-" + CANARY],
        ["status", *STORE, "--json"],
        ["repair", *STORE, CANARY],
    ):
        result = run(*arguments, stdin=f"{CANARY}\n")
        assert result.exit_code in (0, 2), result.output
        shown += result.output
    assert "canary" not in shown
    assert Store.at("m.sisa").ledger.request(1).facts["n_records"] == 1


# -- words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("library", "command"),
    [
        ("pass missing='ignore' to skip", "pass --missing ignore to skip"),
        ('pass forgotten="drop" to', "pass --forgotten drop to"),
        ("use n_slices=4 or fewer", "use --slices 4 or fewer"),
        ("call repair(rebuild=True) now", "call unlearnkit repair --rebuild now"),
        ("Run repair().", "Run unlearnkit repair."),
        ("would: consolidate()", "would: unlearnkit consolidate"),
        ("partition=BandedPartition(...) needs erasure_probability,", "--prior needs --erasure-probability,"),
        ("two\n  lines", "two lines"),
    ],
)
def test_messages_speak_of_options(library, command):
    assert output.spoken(library) == command


def test_each_error_has_its_exit_code():
    kinds = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.UnlearnKitError)]
    found = {kind.__name__: output.code_of(kind("x")) for kind in kinds}
    others = {"TrainingError": 4, "EnvironmentChangedError": 4, "NoConstituentError": 4} | dict.fromkeys(
        ["StateError", "StoreError", "StoreInUseError", "KeyMissingError", "PredictOnlyError"], 3
    )

    assert {name: code for name, code in found.items() if code != 2} == others


def test_warnings_are_lines_and_prints_stay_off_standard_output(capsys):
    with output.readable():
        print("a framework talks")  # noqa: T201
        warnings.warn_explicit("Shard 1\ncannot be trained", RuntimeWarning, "f.py", 1, "unlearnkit.ensemble")
    shown = capsys.readouterr()

    assert shown.out == ""
    assert shown.err == "a framework talks\nunlearnkit: warning: Shard 1 cannot be trained\n"
