"""A bundle predicts as its model did, holds nothing of anybody, and takes in nothing that it should not."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import struct
import zipfile
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from unlearnkit import HashPartition, Store, archive, load, wrap
from unlearnkit.blobs import blob_name
from unlearnkit.bundle import is_bundle, open_bundle, unpacked
from unlearnkit.errors import (
    CapabilityError,
    CodeNeededError,
    NoConstituentError,
    ParameterError,
    PredictOnlyError,
    StateError,
    StoreError,
)
from unlearnkit.manifest import digest_of
from unlearnkit.standing import standing

pytest.importorskip("unlearnkit_sklearn")

N = 90
IDS = np.arange(N) + 730_000_000_123


def records():
    """Rows of which each number is like no other."""
    rng = np.random.default_rng(4)
    X = np.round(rng.normal(size=(N, 4)) * 1000, 3) + rng.integers(1, 9, (N, 4)) / 10_000
    return X, np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")


def sgd():
    return SGDClassifier(loss="log_loss", max_iter=3, tol=None)


def fitted(model=None, **options):
    X, y = records()
    options = {"n_shards": 3, "random_state": 1, **options}
    return wrap(sgd() if model is None else model, **options).fit(X, y, ids=IDS)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "m.bundle"


# -- the same model ----------------------------------------------------------------------------------------------------


def with_frame(X):
    pd = pytest.importorskip("pandas")
    return pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "kind": pd.Categorical(np.where(X[:, 2] > 0, "up", "down"))})


def lightgbm():
    pytest.importorskip("unlearnkit_lightgbm")
    return pytest.importorskip("lightgbm").LGBMClassifier(n_estimators=6, num_leaves=4, min_child_samples=2, verbose=-1)


def xgboost():
    pytest.importorskip("unlearnkit_xgboost")
    return pytest.importorskip("xgboost").XGBRegressor(n_estimators=4, max_depth=2)


def torch():
    nn = pytest.importorskip("torch").nn
    plugin = pytest.importorskip("unlearnkit_torch")
    return plugin.TorchModel(nn.Linear, n_features_as="in_features", n_outputs_as="out_features", epochs=1)


CASES = {
    "sgd": (sgd, np.asarray, lambda X, y: y),
    "votes": (lambda: SGDClassifier(max_iter=3, tol=None), np.asarray, lambda X, y: y),
    "scaled, sparse": (lambda: make_pipeline(StandardScaler(with_mean=False), sgd()), sp.csr_matrix, lambda X, y: y),
    # Of a class with two rows most shards know nothing, and some have one class only.
    "one class": (GaussianNB, np.asarray, lambda X, y: (np.arange(N) < 2).astype(int)),
    "several targets": (Ridge, np.asarray, lambda X, y: X[:, :2] / 100),
    "lightgbm": (lightgbm, with_frame, lambda X, y: y),
    "xgboost": (xgboost, np.asarray, lambda X, y: X[:, 0]),
    "torch": (torch, lambda X: X.astype(np.float32), lambda X, y: y),
}


def answers(model, X):
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


@pytest.mark.parametrize("case", CASES)
def test_what_is_loaded_predicts_the_same(file, case):
    make, container, target = CASES[case]
    X, y = records()
    X, y = container(X), target(X, y)
    model = wrap(make(), n_shards=3, random_state=1).fit(X, y, ids=IDS).export(file)
    found = load(file)

    assert type(found) is type(model)
    assert np.array_equal(found.predict(X), model.predict(X))
    assert np.array_equal(answers(found, X), answers(model, X))
    assert found.score(X, y) == model.score(X, y)
    assert found.model_digest_ == model.model_digest_
    assert found.schema_ == model.schema_
    assert found.degraded_shards_ == ()
    assert len(found.estimators_) == 3
    for name in ("classes_", "feature_names_in_", "n_features_in_"):
        assert np.array_equal(getattr(found, name, None), getattr(model, name, None))


def test_constants_and_shards_that_do_not_know_all_classes_are_among_the_cases():
    X, _ = records()
    model = wrap(GaussianNB(), n_shards=3, random_state=1).fit(X, CASES["one class"][2](X, None), ids=IDS)
    assert any(isinstance(state, int) for state in model.estimators_)


def test_rows_that_do_not_fit_are_refused_as_by_the_model(file):
    X, y = records()
    model = wrap(sgd(), n_shards=2, random_state=0).fit(X, y).export(file)
    with pytest.raises(ValueError, match="expecting 4 features") as own:
        model.predict(X[:, :3])
    with pytest.raises(ValueError, match="expecting 4 features") as loaded:
        load(file).predict(X[:, :3])
    assert str(own.value) == str(loaded.value)


def test_the_same_model_gives_the_same_bytes(file, tmp_path):
    pytest.importorskip("sqlalchemy")
    model = fitted(store=tmp_path / "m.sisa").export(file)
    first = file.read_bytes()
    load(tmp_path / "m.sisa").export(file)
    assert file.read_bytes() == first
    pickle.loads(pickle.dumps(model)).export(tmp_path / "other.bundle")
    assert (tmp_path / "other.bundle").read_bytes() == first


def test_it_is_a_file_that_any_program_for_zip_files_opens(file):
    model = fitted().export(file)
    with zipfile.ZipFile(file) as opened:
        assert opened.testzip() is None
        manifest = json.loads(opened.read(opened.namelist()[0]))
        # The time of day would make equal models differ.
        assert {entry.date_time for entry in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert manifest["model_digest"] == model.model_digest_
    assert manifest["epoch"] == model._ensemble.store.ledger.epoch
    assert is_bundle(file)


def test_it_travels_and_is_fitted_anew(file, tmp_path):
    X, y = records()
    model = fitted().export(file)
    found = load(file)
    joblib.dump(found, tmp_path / "m.joblib")
    file.unlink()
    for there in (pickle.loads(pickle.dumps(found)), joblib.load(tmp_path / "m.joblib")):
        assert np.array_equal(there.predict_proba(X), model.predict_proba(X))
        with pytest.raises(PredictOnlyError):
            there.forget(IDS[0])
    twin = clone(found)
    assert not hasattr(twin, "classes_")
    assert twin.fit(X, y, ids=IDS).model_digest_ == model.model_digest_
    assert twin.forget(int(IDS[0])).n_records == 1
    assert found.fit(X, y, ids=IDS).verify().exact


REFUSED = {
    "forget": lambda model, X, y: model.forget(1),
    "partial_fit": lambda model, X, y: model.partial_fit(X, y, ids=IDS),
    "rectify": lambda model, X, y: model.rectify(X, y, ids=IDS),
    "consolidate": lambda model, X, y: model.consolidate(),
    "repair": lambda model, X, y: model.repair(),
    "verify": lambda model, X, y: model.verify(),
    "receipts": lambda model, X, y: model.receipts(),
    "estimate": lambda model, X, y: model.estimate(1),
    "pinned": lambda model, X, y: model.pinned(),
    "partition_": lambda model, X, y: model.partition_,
    "save": lambda model, X, y: model.save("never.sisa"),
    "export": lambda model, X, y: model.export("never.bundle"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_does_nothing_but_predict(file, what, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    X, y = records()
    model = fitted().export(file)
    found = load(file)
    with pytest.raises(StoreError, match=r"loaded from a bundle.* Load its store"):
        REFUSED[what](found, X, y)
    assert np.array_equal(found.predict_proba(X), model.predict_proba(X))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.bundle"]


def test_looking_at_it_does_not_fail(file):
    fitted().export(file)
    found = load(file)
    assert not hasattr(found, "partition_")
    assert "SGDClassifier" in repr(found)
    assert "SGDClassifier" in found._repr_html_()


# -- what serves -------------------------------------------------------------------------------------------------------


def test_a_shard_that_waits_for_repair_is_exported_as_it_serves(file):
    X, _ = records()
    model = fitted(n_slices=3)
    model.forget(IDS[:2], repair=False)
    model.export(file)
    found = load(file)

    assert found.degraded_shards_ == model.degraded_shards_ != ()
    assert np.array_equal(found.predict_proba(X), model.predict_proba(X))
    assert found.model_digest_ == model.model_digest_
    model.repair()
    assert not np.array_equal(found.predict_proba(X), model.predict_proba(X))


def test_what_was_recorded_is_carried_out_first(file, tmp_path):
    pytest.importorskip("sqlalchemy")
    path = tmp_path / "m.sisa"
    model = fitted(store=path)
    Store.at(path).submit([[int(IDS[0])]])
    model.export(file)
    assert Store.at(path).ledger.request(1).state == "purged"
    assert open_bundle(file).manifest.sequence == 1
    assert load(file).degraded_shards_ != ()


def all_abstain(**options):
    model = fitted(n_slices=1, **options)
    model.forget(IDS[:40], repair=False)
    assert all(state is None for state in model.estimators_)
    return model


def test_nothing_is_written_when_every_shard_abstains(file):
    with pytest.raises(NoConstituentError, match="nothing was written"):
        all_abstain().export(file)
    assert not file.exists()


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_prior_goes_along_if_it_serves(file, task):
    X, _ = records()
    if task == "regression":
        model = wrap(Ridge(), n_shards=2, random_state=0, when_isolated="prior").fit(X, X[:, :2], ids=IDS)
        model.forget(IDS[:40], repair=False)
    else:
        model = all_abstain(when_isolated="prior")
    model.export(file)
    found = load(file)
    assert np.array_equal(answers(found, X), answers(model, X))
    assert np.array_equal(answers(pickle.loads(pickle.dumps(found)), X), answers(model, X))
    model.repair()
    assert open_bundle(model.export(file) and file).manifest.prior is None


def test_states_that_are_rows_are_refused(file):
    X, y = records()
    model = wrap(KNeighborsClassifier(3), n_shards=2, random_state=0).fit(X, y)
    with pytest.raises(CapabilityError, match="a bundle must hold none"):
        model.export(file)
    assert not file.exists()


def test_a_base_is_named(file):
    X, y = records()
    base = lightgbm().fit(X[:30], y[:30])
    model = wrap(lightgbm(), n_shards=2, random_state=0, base=base).fit(X[30:], y[30:], ids=IDS[30:]).export(file)
    manifest = open_bundle(file).manifest
    assert manifest.settings["context"]["base"] == model._ensemble._build.plan.base
    assert np.array_equal(load(file).predict_proba(X), model.predict_proba(X))


# -- the user's own code -----------------------------------------------------------------------------------------------


def doubled(X):
    return X * 2


def most(predictions, present):
    return predictions[present].max(axis=0)


def own_code():
    return make_pipeline(FunctionTransformer(doubled), LogisticRegression())


def test_code_of_the_users_own_is_passed_as_for_a_store(file):
    X, _ = records()
    model = fitted(own_code()).export(file)
    with pytest.raises(CodeNeededError, match="load"):
        load(file)
    with pytest.raises(CodeNeededError, match="parameters"):
        load(file, estimator=LogisticRegression())
    assert np.array_equal(load(file, estimator=own_code()).predict_proba(X), model.predict_proba(X))


def test_a_function_that_aggregates_is_passed_as_for_a_store(file):
    X, _ = records()
    model = fitted(aggregation=most).export(file)
    with pytest.raises(CodeNeededError, match="aggregation"):
        load(file)
    found = load(file, estimator=wrap(sgd(), aggregation=most))
    assert np.array_equal(found.predict_proba(X), model.predict_proba(X))
    with pytest.raises(ParameterError, match="import"):
        fitted(aggregation=lambda predictions, present: predictions[present].max(axis=0)).export(file)


def test_parameters_that_were_changed_after_the_fit_are_noticed(file):
    model = fitted()
    model.set_params(estimator__alpha=0.5)
    with pytest.raises(ParameterError, match="changed after its fit"):
        model.export(file)
    assert not file.exists()


# -- where it is written -----------------------------------------------------------------------------------------------


def test_an_older_bundle_is_replaced_and_nothing_else(file, tmp_path):
    model = fitted().export(file)
    before = file.read_bytes()
    model.forget(int(IDS[0]))
    model.export(str(file))
    assert file.read_bytes() != before
    assert load(file).model_digest_ == model.model_digest_
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path, "notes.txt")
    for place in (other, tmp_path / "photos.zip", tmp_path, tmp_path / "none" / "m.bundle"):
        with pytest.raises(ParameterError, match="nothing was written"):
            model.export(place)
    assert other.read_text() == "mine"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_disk_that_is_full_leaves_the_older_one(file, monkeypatch):
    model = fitted().export(file)
    before = file.read_bytes()
    model.forget(int(IDS[0]))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unlearnkit.files.os.fsync", full)
    with pytest.raises(StoreError, match="Free some space"):
        model.export(file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


# -- nothing of anybody ------------------------------------------------------------------------------------------------


def forms(value):
    """How a number may be written."""
    texts = [repr(float(value)), *(f"{value:.{d}g}" for d in (8, 9, 17)), repr(float(np.float32(value)))]
    return [np.array(value, kind).tobytes() for kind in ("<f8", ">f8", "<f4", ">f4")] + [t.encode() for t in texts]


def names(value):
    text = str(value)
    return [text.encode(), text.encode("utf-16-le"), *(np.array(value, kind).tobytes() for kind in ("<i8", ">i8"))]


# One that does not follow from the seed, which a bundle names.
SECRET = {"partition": HashPartition(b"a secret of its own, of 32 bytes"), "random_state": 1}


def secrets_of(model):
    keys = model._ensemble.store.secrets
    return [model._ensemble.partition.secret, *keys.pseudonym_keys]


def made_of_records(model):
    """Addresses, hashes and digests by which records are found and described, and the keys made of them."""
    build = model._ensemble._build
    found = [key.encode() for key in build.plan.keys]
    for shard in range(build.records.n_shards):
        rows = build.records.shard(shard)
        found += [one.tobytes() for hashes in (rows.rid, rows.content, rows.u) for one in hashes]
        found += [facts.digest.encode() for facts in build.records.facts(shard)]
    return found


def written(needle):
    return [needle, needle.hex().encode()]


def layers(data):
    """The bytes of a file, and of what is packed in it."""
    found = [data]
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            found += [layer for name in opened.namelist() for layer in layers(opened.read(name))]
    return found


def held(data, needles):
    whole = b"\0between\xff".join(layers(data))
    return sum(needle in whole for needle in needles)


@pytest.mark.parametrize("make", [sgd, GaussianNB, lambda: make_pipeline(StandardScaler(), sgd()), torch])
def test_no_row_no_id_and_no_secret_is_in_it(file, make):
    X, y = records()
    X = X.astype(np.float32)
    model = wrap(make(), n_shards=3, **SECRET).fit(X, y, ids=IDS)
    model.forget(IDS[:3], repair=False)
    model.export(file)
    data = file.read_bytes()
    rows = [form for value in X.ravel() for form in forms(value) if len(form) > 3]
    ids = [form for one in IDS for form in names(one)]
    secrets = [form for secret in secrets_of(model) for form in written(secret)]
    traces = [form for one in made_of_records(model) for form in written(one)]
    # The search finds what there is: in the model itself, and in a bundle that somebody has hidden it in.
    assert held(pickle.dumps(model._ensemble._build), rows) > 300
    assert held(pickle.dumps(model._ensemble.store.secrets), secrets) >= 1
    leaky = archive.pack([("manifest", data), ("blobs", rows[0] + ids[0] + secrets[0] + traces[0])])
    assert min(held(leaky, needles) for needles in (rows, ids, secrets, traces)) >= 1
    assert held(data, rows) == 0
    assert held(data, ids) == 0
    assert held(data, secrets) == 0
    assert held(data, traces) == 0


def test_of_a_forest_there_are_thresholds_and_no_rows(file):
    X, y = records()
    model = wrap(RandomForestClassifier(5), n_shards=3, **SECRET).fit(X, y, ids=IDS).export(file)
    data = file.read_bytes()
    whole = [b"".join(np.array(value, kind).tobytes() for value in row[:2]) for row in X for kind in ("<f4", "<f8")]
    assert held(data, whole) == 0
    assert held(data, [form for one in IDS for form in names(one)]) == 0
    assert held(data, [form for secret in secrets_of(model) for form in written(secret)]) == 0


# -- damaged and hostile -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The bytes of a bundle with three slices, and what it predicts."""
    file = tmp_path_factory.mktemp("sound") / "m.bundle"
    model = fitted(n_slices=3).export(file)
    return file.read_bytes(), model.predict_proba(records()[0])


def refused(file, data):
    file.write_bytes(data)
    with pytest.raises(StateError) as error:
        load(file)
    assert "no bundle" in str(error.value) or "format" in str(error.value)
    return str(error.value)


def test_any_damage_is_noticed_or_does_no_harm(file, sound):
    data, predicted = sound
    X, _ = records()
    rng = np.random.default_rng(0)
    noticed = 0
    # Every byte of the structure of a zip file is near its ends or around a name.
    places = {*range(200), *range(len(data) - 200, len(data)), *rng.integers(0, len(data), 400).tolist()}
    for place in sorted(places):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        try:
            found = unpacked(bytes(damaged))
        except StateError:
            noticed += 1
            continue
        assert found.manifest == unpacked(data).manifest
        assert found.blobs == unpacked(data).blobs
    assert noticed > 0.8 * len(places)
    file.write_bytes(data)
    assert np.array_equal(load(file).predict_proba(X), predicted)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_part_of_a_bundle_is_none(file, sound, share):
    data, _ = sound
    refused(file, data[: int(share * len(data))])
    refused(file, data[int(share * len(data)) + 1 :])


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


def zipped(members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as opened:
        for name, content in members:
            opened.writestr(name, content)
    return buffer.getvalue()


def remade(data, change=lambda manifest: None, blobs=None):
    """A bundle with another manifest, every digest of its members right."""
    members = archive.unpack(data)
    manifest = json.loads(members["manifest"][0])
    manifest = change(manifest) or manifest
    own = members["blobs"] if blobs is None else blobs
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    return archive.pack([("manifest", text), *(("blobs", blob) for blob in own)])


def test_remade_without_a_change_is_sound(file, sound):
    data, predicted = sound
    file.write_bytes(remade(data))
    assert np.array_equal(load(file).predict_proba(records()[0]), predicted)


def test_foreign_files_are_refused(file, canary, sound):
    data, _ = sound
    payload = pickle.dumps(Payload(canary))
    name = zipfile.ZipFile(io.BytesIO(data)).namelist()[0]
    foreign = [
        b"",
        b"PK\x03\x04",
        b"some text\n",
        payload,
        zipped([("a.txt", b"a")]),
        zipped([(name, payload)]),
        archive.pack([("manifest", payload)]),
        archive.pack([("manifest", b"{}"), ("manifest", b"[]")]),
        archive.pack([("manifest", b"[" * 100_000)]),
        archive.pack([("manifest", b"null")]),
        archive.pack([("manifest", b"[]")]),
        archive.pack([("manifest", b'{"format": 1}')]),
        archive.pack([("manifest", b"\xff\xfe")]),
        remade(data, blobs=[]),
        remade(data, blobs=[*archive.unpack(data)["blobs"], b"and one more"]),
        archive.pack([("manifest", archive.unpack(data)["manifest"][0]), ("notes", b"and a note")]),
    ]
    for other in foreign:
        refused(file, other)
    with pytest.raises(StoreError, match="no store"):
        load(file.with_name("none.bundle"))
    with pytest.raises(StoreError, match="no bundle"):
        open_bundle(file.with_name("none.bundle"))


def test_a_member_that_is_not_what_its_name_says_is_not_parsed(file, sound):
    data, _ = sound
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        members = [(name, opened.read(name)) for name in opened.namelist()]
    name, text = members[0]
    changed = re.sub(rb'"epoch":(\d+)', rb'"epoch":1\1', text)
    assert changed != text
    unpacked(zipped(members))
    refused(file, zipped([(name, changed), *members[1:]]))


def test_nothing_in_a_bundle_is_compressed(file, sound):
    data, _ = sound
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as opened,
        # Without any effect: what is unpacked is smaller than the file.
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=0) as other,
    ):
        for name in opened.namelist():
            other.writestr(name, opened.read(name))
    assert "compressed" in refused(file, buffer.getvalue())


def test_another_format_is_named(file, sound):
    assert "format" in refused(file, remade(sound[0], lambda manifest: manifest | {"format": 2}))


def at(*path):
    """A change of the manifest: a value in its place."""

    def put(value):
        def change(manifest):
            place = manifest
            for name in path[:-1]:
                place = place[name]
            place[path[-1]] = value

        return change

    return put


WRONG = {
    "digest": at("model_digest")("0" * 64),
    "state": at("states", 0, 2, 0, 1)("0" * 64),
    "state that does not serve": lambda m: m["states"].pop(1) and None,
    "part": at("states", 0, 2, 0, 0)("other"),
    "aggregation": at("settings", "aggregation")("vote"),
    "schema": lambda m: at("settings", "schema")(m["settings"]["schema"].replace("<f8", "<f4"))(m),
    "no schema": at("settings", "schema")("{}"),
    "schema digest": at("settings", "context", "schema_digest")("0" * 64),
    "number of classes": at("settings", "context", "n_classes")(3),
    "regression": at("settings", "context", "n_classes")(None),
    "task": at("settings", "estimator", "task")("regression"),
    "shards": at("settings", "n_shards")(4),
    "many shards": at("settings", "n_shards")(10**12),
    "no such slice": at("serving", 0, 0)(7),
    "no shard serves": at("serving")([None, None, None]),
    "a shard less": lambda m: m["serving"].pop() and None,
    "no such class": at("serving", 0, 1)([0, 5]),
    "classes in no order": at("serving", 0, 1)([1, 0]),
    "classes twice": at("serving", 0, 1)([0, 0]),
    "no class": at("serving", 0, 1)([]),
    "no classes": at("serving", 0, 1)(None),
    "constant of two classes": at("serving", 0, 2)(True),
    "constant that is a number": at("serving", 0, 2)(0),
    "a shard that is a truth": at("states", 0, 0)(False),
    "a slice that is none": at("states", 0, 1)(-1),
    "more about a shard": lambda m: m["serving"][0].append(1),
    "prior": at("prior")([0.5]),
    "prior that is none": at("prior")([float("nan"), 0.5]),
    "epoch": at("epoch")("7"),
    "a truth for a number": at("sequence")(False),
    "sequence without its time": at("sequence")(3),
    "time without its sequence": at("received_at")("2026-01-01T00:00:00+00:00"),
    "no time": lambda m: m.update(sequence=1, received_at="yesterday"),
    "no settings": at("settings")({}),
    "settings missing": lambda m: m["settings"].pop("secret_id") and None,
    "context with more": at("settings", "context", "more")(1),
    "no states": at("states")({}),
    "states twice": lambda m: m["states"].append(m["states"][0]),
    "degraded": at("degraded")(3),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_manifest_that_contradicts_itself_is_refused(file, sound, what):
    data, _ = sound
    changed = remade(data, WRONG[what])
    assert changed != remade(data)
    refused(file, changed)


def planted(data, part, shard=0, place=0):
    """A bundle in which a part of the state that a shard serves is that, all digests right."""
    members = archive.unpack(data)
    manifest = json.loads(members["manifest"][0])
    served = next(s for s in manifest["states"] if s[:2] == [shard, manifest["serving"][shard][0]])
    old = served[2][place][1]
    served[2][place][1] = blob_name(part)
    states = {(s, r): tuple(map(tuple, parts)) for s, r, parts in manifest["states"]}
    manifest["model_digest"] = digest_of(manifest["settings"], states)
    blobs = [part if blob_name(blob) == old else blob for blob in members["blobs"]]
    return archive.pack([("manifest", json.dumps(manifest).encode()), *(("blobs", blob) for blob in blobs)])


def test_a_state_that_is_none_runs_no_code(file, sound, canary):
    data, _ = sound
    payload = pickle.dumps(Payload(canary))
    for part in (payload, b"", zipped([("schema.json", payload), ("data.pkl", payload)])):
        refused(file, planted(data, part))


def test_a_state_that_is_found_to_be_none_when_it_is_first_used(file):
    """Boosters are: the error is the bundle's all the same, which has no records to rebuild anything from."""
    pytest.importorskip("unlearnkit_xgboost")
    booster = pytest.importorskip("xgboost").XGBClassifier(n_estimators=2, max_depth=2, n_jobs=1)
    fitted(booster).export(file)
    file.write_bytes(planted(file.read_bytes(), b"{}", place=1))
    X, _ = records()
    model = load(file)
    for ask in (model.predict, model.predict_proba, model._ensemble.predict):
        with pytest.raises(StateError, match=r"no bundle.*Export it again"):
            ask(X)


@pytest.mark.parametrize("part", [b"1", b"7", b"-1", b"null", b"[]", b"0.0"])
def test_a_constant_of_another_class_is_refused(file, part):
    X, _ = records()
    model = wrap(GaussianNB(), n_shards=3, random_state=1).fit(X, CASES["one class"][2](X, None), ids=IDS).export(file)
    data, shard = file.read_bytes(), model.estimators_.index(0)
    file.write_bytes(planted(data, b"0", shard))
    assert load(file).estimators_[shard] == 0
    refused(file, planted(data, part, shard))


def test_a_description_of_the_model_runs_no_code(file, sound, canary):
    data, _ = sound
    described = {"estimator": {"class": "os:system", "parameters": {"command": f"touch '{canary}'"}}}
    file.write_bytes(remade(data, at("settings", "estimator", "model")(described)))
    with pytest.raises(CodeNeededError):
        load(file)


@contextmanager
def bounded(headroom=128 << 20):
    """No more memory than there is, and a little."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + headroom, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


BOMB = 1 << 29


def bomb(name):
    """An archive with a member of this many zeros."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as opened,
        opened.open(name, "w", force_zip64=True) as member,
    ):
        for _ in range(BOMB >> 22):
            member.write(bytes(1 << 22))
    return buffer.getvalue()


def test_an_archive_that_unpacks_without_end_takes_no_memory(sound):
    name = f"manifest/{'0' * 64}"
    deflated = bomb(name)
    # Says that it is not compressed, or that it is small.
    lying = deflated.replace(struct.pack("<H", 8), struct.pack("<H", 0))
    small = deflated.replace(struct.pack("<Q", BOMB), struct.pack("<Q", 100))
    # A size of 2 GiB where there are some bytes: local header, central header.
    data, _ = sound
    first = zipfile.ZipFile(io.BytesIO(data)).infolist()[0]
    size = struct.pack("<I", first.file_size)
    large = data.replace(size + size, struct.pack("<I", 0x7FFFFFF0) * 2)
    assert large != data
    with bounded():
        for hostile in (deflated, lying, small, large):
            with pytest.raises(StateError):
                unpacked(hostile)
        with pytest.raises(MemoryError):
            bytearray(256 << 20)


def test_members_that_share_their_bytes_are_refused():
    """Each member is the next with its header: every name is right, and they unpack to far more than the file."""
    content, places, entries, n = bytes(1 << 16), [], [], 20
    for _ in range(n):
        one = archive.pack([("blobs", content)])
        with zipfile.ZipFile(io.BytesIO(one)) as opened:
            start = opened.start_dir
        entries.append(one[start:-22])
        content = one[:start]
        places.append(len(content))
    # Where each begins in the outermost.
    directory = b"".join(
        entry[:42] + struct.pack("<I", len(content) - place) + entry[46:]
        for entry, place in zip(entries, places, strict=True)
    )
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, n, n, len(directory), len(content), 0)
    hostile = content + directory + end
    with zipfile.ZipFile(io.BytesIO(hostile)) as opened:
        assert sum(len(opened.read(name)) for name in opened.namelist()) > 10 * len(hostile)
    with pytest.raises(StateError, match="larger than the file"):
        archive.unpack(hostile)


# -- how it stands to its model ----------------------------------------------------------------------------------------


def verdict(file, model, requests=0, waiting=0):
    found = standing(open_bundle(file).manifest, model._ensemble.store)
    assert (found.requests, found.waiting) == (requests, waiting)
    return found.verdict


@pytest.fixture
def stored(tmp_path):
    pytest.importorskip("sqlalchemy")
    return fitted(n_slices=2, store=tmp_path / "m.sisa")


def test_current_outdated_and_stale(stored, file):
    X, y = records()
    stored.export(file)
    assert verdict(file, stored) == "current"
    stored.partial_fit(X[:5] + 0.5, y[:5], ids=IDS[:5] + 1000)
    assert verdict(file, stored) == "outdated"
    stored.consolidate()
    assert verdict(file, stored) == "outdated"
    stored.export(file)
    assert verdict(file, stored) == "current"
    stored.forget(IDS[0], repair=False)
    assert verdict(file, stored, requests=1) == "stale"
    stored.repair()
    stored.rectify(X[1:2] + 1, y[1:2], ids=IDS[1:2])
    assert verdict(file, stored, requests=2) == "stale"
    stored.export(file)
    assert verdict(file, stored) == "current"


def test_a_repair_outdates_what_was_exported_before_it(stored, file):
    stored.forget(IDS[0], repair=False)
    stored.export(file)
    assert verdict(file, stored) == "current"
    stored.repair()
    assert verdict(file, stored) == "outdated"


def test_requests_that_wait_and_those_that_find_nothing(stored, file):
    stored.forget(IDS[0])
    stored.export(file)
    stored._ensemble.store.submit([[int(IDS[0])], [4711]])
    assert verdict(file, stored, waiting=2) == "current"
    stored.repair()
    # One was forgotten before, and nobody had the other: the bundle has learned from neither.
    assert verdict(file, stored) == "current"
    stored._ensemble.store.submit([[int(IDS[1])]])
    assert verdict(file, stored, waiting=1) == "current"
    stored.repair()
    assert verdict(file, stored, requests=1) == "stale"


def test_a_prior_is_of_the_records_of_its_moment(file, tmp_path):
    pytest.importorskip("sqlalchemy")
    model = all_abstain(when_isolated="prior", store=tmp_path / "m.sisa")
    model.export(file)
    assert verdict(file, model) == "current"
    model.forget(IDS[50:60], repair=False)
    assert verdict(file, model, requests=1) == "stale"


def test_a_bundle_of_another_model_is_told_apart(file, tmp_path):
    pytest.importorskip("sqlalchemy")
    model = fitted(store=tmp_path / "m.sisa").export(file)
    seed = fitted(random_state=2, store=tmp_path / "seed.sisa")
    parameter = fitted(sgd().set_params(alpha=0.5), store=tmp_path / "parameter.sisa")
    secret = fitted(random_state=None, store=tmp_path / "secret.sisa")
    assert {verdict(file, other) for other in (seed, parameter, secret)} == {"foreign"}
    # Of the same seed, but not of the same life.
    model.forget(IDS[0])
    model.export(file)
    twin = fitted(store=tmp_path / "twin.sisa")
    assert verdict(file, twin) == "foreign"
    twin.forget(IDS[1])
    assert verdict(file, twin) == "foreign"
    assert verdict(file, model) == "current"


def test_a_model_that_is_saved_is_still_the_same(file, tmp_path):
    pytest.importorskip("sqlalchemy")
    model = fitted()
    model.forget(IDS[0])
    model.export(file)
    model.save(tmp_path / "m.sisa")
    assert verdict(file, model) == "current"
    model.forget(IDS[1])
    assert verdict(file, model, requests=1) == "stale"
