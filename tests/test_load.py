"""Opening a store: with the library's models by themselves, with the user's code only if it is given, never by name."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from unlearnkit import SISAClassifier, Store, load, wrap
from unlearnkit.ensemble import SisaEnsemble
from unlearnkit.errors import CodeNeededError, StateError, UnlearnKitError
from unlearnkit.ledger import Change
from unlearnkit.store import SETTINGS


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 4)).astype(np.float32)
    return X, (X[:, 0] + X[:, 1] > 0).astype(int), np.arange(1000, 1090)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.sisa"


def outputs(model, X):
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


def fitted(path, model, data, **options):
    X, y, ids = data
    known = {"n_shards": 2, "n_slices": 1, "random_state": 0} | options
    return wrap(model, store=path, **known).fit(X, y, ids=ids)


# -- models of libraries ---------------------------------------------------------------------------------------------


def lightgbm():
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=4, min_child_samples=3, verbose=-1)


def xgboost():
    from xgboost import XGBRegressor

    return XGBRegressor(n_estimators=4, max_depth=2)


def torch():
    from torch.nn import Linear

    from unlearnkit_torch import TorchModel

    return TorchModel(
        Linear,
        n_features_as="in_features",
        n_outputs_as="out_features",
        epochs=2,
        scheduler="step",
        scheduler_params={"step_size": 1},
    )


def skorch():
    from skorch import NeuralNetClassifier
    from torch.nn import CrossEntropyLoss, Linear
    from torch.optim import Adam

    module = {"module__in_features": 4, "module__out_features": 2}
    return NeuralNetClassifier(
        Linear, **module, criterion=CrossEntropyLoss, optimizer=Adam, max_epochs=2, train_split=None, verbose=0
    )


LIBRARY = [
    GaussianNB,
    Ridge,
    lambda: KNeighborsClassifier(3, weights="distance"),
    lambda: RandomForestClassifier(4, max_depth=3),
    lambda: SGDClassifier(loss="log_loss", class_weight={0: 1.0, 1: 2.5}),
    lambda: make_pipeline(StandardScaler(), LogisticRegression(C=0.5)),
    lambda: make_pipeline(FunctionTransformer(np.tanh), GaussianNB()),
    lightgbm,
    xgboost,
    torch,
    skorch,
]


@pytest.mark.parametrize("make", LIBRARY, ids=lambda make: getattr(make, "__name__", "?"))
def test_a_model_of_a_library_needs_nothing_but_its_store(path, data, make):
    X, _, ids = data
    clf = fitted(path, make(), data)
    clf.forget(ids[0], repair=False)
    for given in ({}, {"estimator": make()}, {"estimator": wrap(make(), n_shards=7)}):
        again = load(path, **given)
        assert type(again) is type(clf)
        assert np.array_equal(outputs(again, X), outputs(clf, X))
        assert again.get_params()["n_shards"] == 2
        assert type(again.estimator) is type(make())
        assert again.estimator.get_params().keys() == make().get_params().keys()
    assert again.forget(ids[1]).repaired_at is not None
    assert load(path).verify().exact
    clf.repair()
    assert load(path).model_digest_ == clf.model_digest_


def test_what_was_loaded_is_configured_as_it_was_fitted(path, data):
    X, y, ids = data
    clf = SISAClassifier(
        GaussianNB(var_smoothing=1e-3),
        n_shards=4,
        n_slices=2,
        aggregation="vote",
        when_isolated="prior",
        random_state=3,
        store=path,
    ).fit(X, y, ids=ids)
    again = load(path)
    ours, theirs = again.get_params(), clf.get_params()
    for params in (ours, theirs):
        params.pop("estimator")
        params["store"] = str(params["store"])
    assert ours == theirs
    assert again.pinned().fit(X, y, ids=ids).model_digest_ == clf.model_digest_
    # And a fit goes on with the store.
    assert load(path).fit(X, y, ids=ids).model_digest_ == clf.model_digest_


# -- the user's own code ---------------------------------------------------------------------------------------------


def net():
    from torch import nn

    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def user_torch(hidden=None):
    from unlearnkit_torch import TorchModel

    return TorchModel(net, epochs=2)


class Squares(TransformerMixin, BaseEstimator):
    """A transformer of the user's own."""

    def __init__(self, scale=1.0):
        self.scale = scale

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.hstack([X, self.scale * X**2])


def doubled(X):
    return 2 * X


def tripled(X):
    return 3 * X


def first(predictions, present):
    return predictions[np.flatnonzero(present)[0]]


def last(predictions, present):
    return predictions[np.flatnonzero(present)[-1]]


OWN = {
    "torch module": (user_torch, GaussianNB),
    "function": (
        lambda: make_pipeline(FunctionTransformer(doubled), GaussianNB()),
        lambda: make_pipeline(FunctionTransformer(tripled), GaussianNB()),
    ),
    "transformer": (
        lambda: make_pipeline(Squares(2.0), GaussianNB()),
        lambda: make_pipeline(Squares(3.0), GaussianNB()),
    ),
    "aggregation": (
        lambda: SISAClassifier(GaussianNB(), aggregation=first),
        lambda: SISAClassifier(GaussianNB(), aggregation=last),
    ),
}


@pytest.fixture(params=OWN)
def own(request, path, data):
    """A fitted model with code of the user's own, what opens its store, and something else."""
    make, other = OWN[request.param]
    model = make()
    aggregation = {}
    if isinstance(model, SISAClassifier):
        model, aggregation = model.estimator, {"aggregation": model.aggregation}
    return fitted(path, model, data, **aggregation), make, other


def test_with_the_code_it_is_as_any_other(own, path, data):
    X, _, ids = data
    clf, make, _ = own
    again = load(path, estimator=make())
    assert np.array_equal(again.predict_proba(X), clf.predict_proba(X))
    assert again.forget(ids[0]).repaired_at is not None
    assert again.verify().exact


def test_without_the_code_it_forgets_all_the_same(own, path, data):
    X, _, ids = data
    clf, make, _ = own
    again = load(path)
    assert again.degraded_shards_ == ()
    assert again.model_digest_ == clf.model_digest_
    assert again.classes_.tolist() == [0, 1]
    assert again.n_features_in_ == 4
    assert "SISAClassifier" in repr(again)
    assert again.estimate(ids[0]).n_records == 1
    receipt = again.forget(ids[0], repair=False)
    assert receipt.purged_at is not None
    assert len(again.degraded_shards_) == 1
    for call in (
        lambda: again.predict(X),
        lambda: again.predict_proba(X),
        again.repair,
        again.verify,
    ):
        with pytest.raises(CodeNeededError, match="estimator="):
            call()
    # It is forgotten before it turns out that it cannot be repaired.
    with pytest.raises(CodeNeededError, match="estimator="):
        again.forget(ids[1])
    assert again.receipts()[-1].purged_at is not None
    # It asked for a repair: whoever opens the store with the code finishes it.
    whole = load(path, estimator=make())
    assert [r.repaired_at is not None for r in whole.receipts()] == [True, True]
    clf.repair()
    rest = np.arange(90) > 1
    twin = whole.pinned().fit(X[rest], data[1][rest], ids=ids[rest])
    assert twin.model_digest_ == whole.model_digest_
    assert clf.model_digest_ == whole.model_digest_


def test_other_code_is_refused(own, path, data):
    clf, _, other = own
    before = clf.model_digest_
    with pytest.raises(CodeNeededError, match="fitted with"):
        load(path, estimator=other())
    assert clf.model_digest_ == before
    assert clf.receipts() == ()


def test_parameters_that_differ_are_refused(path, data):
    fitted(path, GaussianNB(), data)
    with pytest.raises(CodeNeededError, match="parameters"):
        load(path, estimator=GaussianNB(var_smoothing=1e-5))
    with pytest.raises(UnlearnKitError):
        load(path, estimator=Ridge())
    with pytest.raises(UnlearnKitError):
        load(path, estimator=object())


def eye():
    from torch import nn

    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))


def test_images_go_through_a_store(path, data):
    from unlearnkit_torch import TorchModel

    _, y, ids = data
    images = np.random.default_rng(1).normal(size=(90, 1, 4, 4)).astype(np.float32)
    options = {"n_shards": 2, "n_slices": 2, "random_state": 0}
    clf = wrap(TorchModel(eye, epochs=2), store=path, **options).fit(images, y, ids=ids)
    memory = wrap(TorchModel(eye, epochs=2), **options).fit(images, y, ids=ids)
    assert clf.model_digest_ == memory.model_digest_
    load(path).forget(ids[:2], repair=False)
    again = load(path, estimator=TorchModel(eye, epochs=2))
    again.repair()
    memory.forget(ids[:2])
    assert again.model_digest_ == memory.model_digest_
    assert np.array_equal(again.predict_proba(images), memory.predict_proba(images))
    assert again.verify().exact


# -- nothing by name -------------------------------------------------------------------------------------------------

EVIL = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
from sklearn.naive_bayes import GaussianNB as Model
def f(*a, **k): Path(__file__).with_name("ran").touch()
"""


def named(**found):
    return {"estimator": {"class": "sklearn.naive_bayes:GaussianNB", "parameters": {}} | found}


HOSTILE = {
    "module": named(**{"class": "evil:Model"}),
    "function": named(**{"class": "evil:f"}),
    "submodule": named(**{"class": "sklearn.evil:Model"}),
    "system": named(**{"class": "os:system", "parameters": {"command": "touch ran"}}),
    "through a library": named(**{"class": "sklearn.naive_bayes:np.f"}),
    "parameter": named(parameters={"priors": {"class": "evil:Model"}}),
    "unknown parameter": named(parameters={"evil": 1}),
    "not a model": named(**{"class": "sklearn.naive_bayes:abstractmethod"}),
    "no tag": "evil:Model",
    "list": ["evil:Model"],
    "empty": {},
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_nothing_is_imported_by_a_name_from_the_store(tmp_path, path, data, monkeypatch, hostile):
    fitted(path, GaussianNB(), data)
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "evil.py").write_text(EVIL)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)
    ledger = Store.at(path).ledger
    settings = ledger.note(SETTINGS)
    settings["estimator"] = settings["estimator"] | {"model": hostile}
    ledger.apply(Change(notes={SETTINGS: settings}))
    modules = set(sys.modules)
    try:
        model = load(path)
    except UnlearnKitError as error:
        assert isinstance(error, CodeNeededError | StateError)  # noqa: PT017 - either way nothing ran
    else:
        with pytest.raises(CodeNeededError):
            model.predict(data[0])
    assert "evil" not in sys.modules
    assert not (folder / "ran").exists()
    assert not any(name.split(".")[-1] == "evil" for name in set(sys.modules) - modules)
    # With the model given, its description is not needed.
    assert load(path, estimator=GaussianNB()).verify().exact


def test_an_adapter_that_is_not_here_is_named(path, data):
    fitted(path, GaussianNB(), data)
    ledger = Store.at(path).ledger
    settings = ledger.note(SETTINGS)
    settings["estimator"] = settings["estimator"] | {"adapter": "nowhere"}
    ledger.apply(Change(notes={SETTINGS: settings}))
    model = load(path)
    with pytest.raises(CodeNeededError, match="nowhere"):
        model.predict(data[0])
    assert model.forget(data[2][0], repair=False).purged_at is not None


# -- what it costs ---------------------------------------------------------------------------------------------------

HEAVY = ("sklearn", "pandas", "pyarrow", "joblib", "lightgbm", "xgboost", "torch", "skorch", "unlearnkit_sklearn")
RECORD = """
import sys, json
from unlearnkit.store import Store
sequences = Store.at(sys.argv[1]).submit([[int(i)] for i in sys.argv[2:]])
print(json.dumps([sequences, sorted(sys.modules)]))
"""
ISOLATE = """
import sys, json
from unlearnkit.ensemble import SisaEnsemble
from unlearnkit.store import Store
model = SisaEnsemble.without_learner(Store.at(sys.argv[1]))
print(json.dumps([[r.request_id for r in model.receipts() if r.purged_at], sorted(sys.modules)]))
"""


def run(code, *arguments, options=()):
    command = [sys.executable, *options, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def heavy(modules):
    return {name for name in HEAVY if name in modules}


def test_recording_a_request_imports_no_framework(path, data):
    fitted(path, lightgbm(), data)
    (sequences, modules), told = run(RECORD, path, 1000, 1001, options=("-X", "importtime"))
    assert sequences == [1, 2]
    assert heavy(modules) == set()
    # Nor was anything imported and thrown away.
    imported = {line.split("|")[-1].strip() for line in told.splitlines() if line.startswith("import time:")}
    assert "unlearnkit.store" in imported
    assert heavy(imported) == set()
    (purged, modules), _ = run(ISOLATE, path)
    assert purged == [1, 2]
    assert heavy(modules) <= {"joblib"}
    assert load(path).repair()


def test_opening_without_its_model_leaves_the_rest_to_load(path, data):
    clf = fitted(path, GaussianNB(), data)
    opened = SisaEnsemble.without_learner(Store.at(path))
    assert opened.forget(data[2][0], repair=False).purged_at is not None
    with pytest.raises(CodeNeededError, match="load"):
        opened.repair()
    assert opened.degraded_shards != ()
    clf.repair()
    assert opened.store.ledger.checkpoints().keys() == opened.store.ledger.keys()
