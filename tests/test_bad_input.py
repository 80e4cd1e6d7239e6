"""Bad input: one clear error each, and the model is left as it was."""

from __future__ import annotations

import numpy as np
import pytest

from unlearnkit import SISAClassifier
from unlearnkit.errors import (
    CapabilityError,
    DataError,
    DataTypeError,
    MissingPluginError,
    ParameterError,
    SchemaError,
    UnknownRecordError,
    UnlearnKitError,
    UnsupportedModelError,
)

N = 40
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))
Y = np.arange(N) % 2
IDS = [f"customer {i}" for i in range(N)]


@pytest.fixture
def clf():
    return SISAClassifier(n_shards=3, random_state=0).fit(X, Y, ids=IDS)


def holed(value):
    Z = X.copy()
    Z[3, 1] = value
    return Z


def booster():
    return type("LGBMClassifier", (), {"__module__": "lightgbm.sklearn"})()


CASES = {
    "unknown id": (lambda m: m.forget("customer 40"), UnknownRecordError),
    "one unknown among many": (lambda m: m.forget([*IDS[:3], "nobody"]), UnknownRecordError),
    "id of another type": (lambda m: m.forget(4.5), UnknownRecordError),
    "bytes for str": (lambda m: m.forget(b"customer 1"), UnknownRecordError),
    "None id": (lambda m: m.forget([None]), UnknownRecordError),
    "NaN id": (lambda m: m.forget(float("nan")), UnknownRecordError),
    "two-dimensional ids": (lambda m: m.forget(np.array([["a"]])), DataError),
    "unknown id, estimated": (lambda m: m.estimate("nobody"), UnknownRecordError),
    "other missing=": (lambda m: m.forget(IDS[0], missing="drop"), ParameterError),
    "None among ids": (lambda m: m.fit(X, Y, ids=[None, *IDS[1:]]), DataError),
    "NaN among ids": (lambda m: m.fit(X, Y, ids=np.r_[np.nan, np.arange(N - 1)]), DataError),
    "ids of two types": (lambda m: m.fit(X, Y, ids=[1, *IDS[1:]]), DataError),
    "bool ids": (lambda m: m.fit(X, Y, ids=[True] * N), DataError),
    "fewer ids": (lambda m: m.fit(X, Y, ids=IDS[1:]), DataError),
    "fewer targets": (lambda m: m.fit(X, Y[1:], ids=IDS), DataError),
    "fewer weights": (lambda m: m.fit(X, Y, np.ones(N - 1), ids=IDS), DataError),
    "negative weight": (lambda m: m.fit(X, Y, -np.ones(N), ids=IDS), DataError),
    "infinity": (lambda m: m.fit(holed(np.inf), Y, ids=IDS), DataError),
    "text": (lambda m: m.fit(X.astype(str), Y, ids=IDS), UnlearnKitError),
    "no rows": (lambda m: m.fit(X[:0], Y[:0], ids=[]), DataError),
    "no target": (lambda m: m.fit(X, None, ids=IDS), DataError),
    "one class only": (lambda m: m.fit(X, np.zeros(N), ids=IDS), DataError),
    "missing label": (lambda m: m.fit(X, [None, *Y[1:]], ids=IDS), DataError),
    "continuous labels": (lambda m: m.fit(X, X[:, 0], ids=IDS), DataError),
    "multi-output classification": (lambda m: m.fit(X, np.c_[Y, Y], ids=IDS), DataError),
    "a dict in a cell": (lambda m: m.fit(np.array([[{}]] * N, dtype=object), Y, ids=IDS), DataTypeError),
    "predicting other columns": (lambda m: m.predict(X[:, :2]), DataError),
    "predicting no rows": (lambda m: m.predict(X[:0]), DataError),
    "predicting infinity": (lambda m: m.predict(holed(np.inf)), DataError),
    "predicting one row as a vector": (lambda m: m.predict(X[0]), DataError),
    "verifying other columns": (lambda m: m.verify(X[:, :2], Y, ids=IDS), SchemaError),
    "verifying without ids": (lambda m: m.verify(X, Y), SchemaError),
    "verifying another class": (lambda m: m.verify(X, Y + 1, ids=IDS), SchemaError),
    "more slices than trees": (lambda m: m.set_params(n_slices=2).fit(X, Y, ids=IDS), CapabilityError),
    "no shards": (lambda m: m.set_params(n_shards=0).fit(X, Y, ids=IDS), ParameterError),
    "unsupported object": (lambda m: m.set_params(estimator=object()).fit(X, Y, ids=IDS), UnsupportedModelError),
}


@pytest.mark.parametrize("case", CASES, ids=CASES)
def test_one_clear_error_and_the_model_unchanged(clf, case):
    call, error = CASES[case]
    before, predicted = clf.model_digest_, clf.predict(X)
    with pytest.raises(error) as caught:
        call(clf)
    assert isinstance(caught.value, UnlearnKitError)
    assert "customer" not in str(caught.value)
    assert clf.model_digest_ == before
    assert (clf.predict(X) == predicted).all()
    assert clf.degraded_shards_ == ()


@pytest.mark.parametrize("n_jobs", [0, "2", 1.5])
def test_jobs_that_are_no_number_of_them(clf, n_jobs):
    before = clf.model_digest_
    clf.set_params(n_jobs=n_jobs)
    for call in (lambda: clf.fit(X, Y, ids=IDS), lambda: clf.predict(X), lambda: clf.forget(IDS[:1])):
        with pytest.raises(ParameterError, match="n_jobs"):
            call()
    assert clf.set_params(n_jobs=-1).model_digest_ == before
    assert clf.degraded_shards_ == ()


def test_a_missing_plugin(clf, monkeypatch):
    from unlearnkit import adapters

    only_sklearn = adapters.Plugins(
        [e for e in adapters.importlib.metadata.entry_points(group="unlearnkit") if e.name == "sklearn"]
    )
    monkeypatch.setattr(adapters, "plugins", lambda: only_sklearn)
    before = clf.model_digest_
    with pytest.raises(MissingPluginError, match="pip install"):
        clf.set_params(estimator=booster()).fit(X, Y, ids=IDS)
    assert clf.model_digest_ == before


def test_nan_where_it_is_not_allowed():
    from sklearn.linear_model import LogisticRegression

    model = SISAClassifier(LogisticRegression(), n_shards=2, random_state=0).fit(X, Y, ids=IDS)
    before = model.model_digest_
    for call in (lambda: model.fit(holed(np.nan), Y, ids=IDS), lambda: model.predict(holed(np.nan))):
        with pytest.raises(DataError, match="NaN"):
            call()
    assert model.model_digest_ == before
