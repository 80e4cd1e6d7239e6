from __future__ import annotations

import copy
import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from unlearnkit import HashPartition, SISAClassifier, SISARegressor, adapters, wrap
from unlearnkit.errors import CapabilityError, DataError, MissingPluginError, NoConstituentError, UnlearnKitError


@pytest.fixture
def data(helpers):
    return helpers.rows(80)


@pytest.fixture
def clf(remember, data):
    X, y, ids = data
    return SISAClassifier(remember(), n_shards=3, random_state=0).fit(X, y, ids=ids)


def pinned_without(model, data, gone):
    X, y, ids = data
    keep = ~np.isin(ids, gone)
    return model.pinned().fit(X[keep], y[keep], ids=ids[keep])


def test_forgetting_equals_a_pinned_fit_without(clf, data):
    X, _, ids = data
    for gone in (ids[:1], ids[1:4], ids[4:9]):
        clf.forget(gone)
    fresh = pinned_without(clf, data, ids[:9])
    assert fresh.model_digest_ == clf.model_digest_
    assert (fresh.predict_proba(X) == clf.predict_proba(X)).all()
    assert clf.verify().exact


@pytest.mark.parametrize("random_state", [None, 3])
def test_pinned_carries_the_frozen_context(remember, data, random_state):
    X, y, ids = data
    clf = SISAClassifier(remember(), n_shards=4, random_state=random_state).fit(X, y, ids=ids)
    clf.forget(ids[0])
    twin = clf.pinned()
    assert not hasattr(twin, "_ensemble")
    assert twin.partition.secret == clf.partition_.secret
    assert twin.schema is clf.schema_
    assert pinned_without(clf, data, ids[:1]).model_digest_ == clf.model_digest_
    # A pinned clone of a pinned clone is no different.
    assert pinned_without(twin.fit(X, y, ids=ids), data, ids[:1]).model_digest_ == clf.model_digest_


def test_without_a_random_state_models_differ(remember, data):
    X, y, ids = data
    one, other = (SISAClassifier(remember(), n_shards=3).fit(X, y, ids=ids) for _ in range(2))
    assert one.model_digest_ != other.model_digest_
    assert one.partition_.secret != other.partition_.secret


def test_the_fit_is_a_function_of_the_set_of_records(remember, data):
    X, y, ids = data
    order = np.random.default_rng(1).permutation(80)
    one = SISAClassifier(remember(), random_state=0).fit(X, y, ids=ids)
    other = SISAClassifier(remember(), random_state=0).fit(X[order], y[order], ids=ids[order])
    assert one.model_digest_ == other.model_digest_


def test_a_secret_can_be_given(remember, data):
    X, y, ids = data
    secret = b"a secret of my own, long enough"
    clf = SISAClassifier(remember(), partition=HashPartition(secret), random_state=0).fit(X, y, ids=ids)
    assert clf.partition_.secret == secret


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_jobs_never_change_a_byte(data, n_jobs, backend):
    X, y, ids = data
    digests = set()
    for options in ({"n_jobs": n_jobs}, {}):
        model = SISAClassifier(n_shards=3, random_state=0, **options)
        with joblib.parallel_config(backend, n_jobs=None if options else n_jobs):
            model.fit(X, y, ids=ids).forget(ids[:3])
        digests.add(model.model_digest_)
    alone = SISAClassifier(n_shards=3, random_state=0).fit(X, y, ids=ids)
    alone.forget(ids[:3])
    assert digests == {alone.model_digest_}


# -- scikit-learn ----------------------------------------------------------------------------------------------------


def test_what_is_fitted_is_there_and_what_is_not_says_so(clf, data):
    X, _, _ = data
    assert clf.classes_.tolist() == [0, 1]
    assert clf.n_features_in_ == 3
    assert len(clf.estimators_) == 3
    assert clf.degraded_shards_ == ()
    unfitted = clone(clf)
    for name in ("schema_", "partition_", "model_digest_", "degraded_shards_", "estimators_"):
        assert hasattr(clf, name)
        assert not hasattr(unfitted, name)
    for call in (
        lambda: unfitted.predict(X),
        lambda: unfitted.forget(1),
        unfitted.repair,
        unfitted.verify,
        lambda: unfitted.estimate(1),
        unfitted.pinned,
    ):
        with pytest.raises(NotFittedError):
            call()


def through_joblib(model):
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


@pytest.mark.parametrize("duplicate", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, through_joblib])
def test_a_fitted_model_travels(clf, data, duplicate):
    _X, _, ids = data
    clf.forget(ids[0], repair=False)
    other = duplicate(clf)
    assert other.model_digest_ == clf.model_digest_
    assert other.degraded_shards_ == clf.degraded_shards_
    other.repair()
    assert other.model_digest_ == pinned_without(clf, data, ids[:1]).model_digest_
    assert clf.degraded_shards_


def test_a_clone_is_unfitted_and_the_wrapped_model_unchanged(data):
    X, y, ids = data
    tree = DecisionTreeClassifier(max_depth=3).fit(X, y)
    before = pickle.dumps(tree)
    clf = SISAClassifier(tree, random_state=0).fit(X, y, ids=ids)
    clf.forget(ids[0])
    assert pickle.dumps(tree) == before
    assert not hasattr(clone(clf), "_ensemble")


def test_search_validation_and_pipelines(data):
    X, y, ids = data
    grid = GridSearchCV(
        SISAClassifier(DecisionTreeClassifier(), random_state=0), {"estimator__max_depth": [1, 2]}, cv=2
    )
    assert grid.fit(X, y, ids=ids).best_estimator_.forget(ids[0]).n_records == 1
    found = cross_validate(SISAClassifier(random_state=0), X, y, params={"ids": ids}, cv=2, return_estimator=True)
    assert all(e.schema_.explicit_ids for e in found["estimator"])
    pipeline = make_pipeline(StandardScaler(), SISAClassifier(random_state=0))
    pipeline.fit(X, y, sisaclassifier__ids=ids)
    assert pipeline[-1].forget(ids[0]).n_records == 1


def test_ids_are_routed_by_default(data):
    X, y, ids = data
    with sklearn.config_context(enable_metadata_routing=True):
        found = cross_validate(SISAClassifier(random_state=0), X, y, params={"ids": ids}, cv=2, return_estimator=True)
    assert all(e.schema_.explicit_ids for e in found["estimator"])


def test_a_failed_fit_leaves_the_model_as_it_was(clf, data):
    X, y, ids = data
    before = clf.model_digest_
    for wrong in ((X[:, :2], y[:5], ids), (X, y, ids[:5]), (np.full_like(X, np.inf), y, ids)):
        with pytest.raises(DataError):
            clf.fit(wrong[0], wrong[1], ids=wrong[2])
        assert clf.model_digest_ == before
        assert clf.n_features_in_ == 3
        assert clf.predict(X).shape == (80,)


def test_a_second_fit_starts_anew(clf, data):
    X, y, ids = data
    clf.forget(ids[0])
    clf.fit(X, y, ids=ids)
    assert clf.forget(ids[0]).already_forgotten == 0


def test_feature_names(remember, data):
    X, y, ids = data
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    clf = SISAClassifier(remember(), random_state=0).fit(frame, y, ids=ids)
    assert clf.feature_names_in_.tolist() == ["a", "b", "c"]
    with pytest.raises(DataError, match="feature names"):
        clf.predict(frame[["b", "a", "c"]])
    with pytest.raises(DataError, match="missing"):
        clf.predict(frame[["a", "b"]])
    with pytest.raises(DataError, match="2 features"):
        clf.predict(X[:, :2].tolist())


@pytest.mark.parametrize("labels", [["no", "yes"], [-1, 1], [False, True], [0.0, 2.0]])
def test_labels_come_back_as_they_were(remember, data, labels):
    X, y, ids = data
    y = np.array(labels)[y]
    clf = SISAClassifier(remember(), random_state=0).fit(X, y, ids=ids)
    assert clf.classes_.dtype == y.dtype
    assert set(clf.predict(X)) <= set(labels)
    assert 0 <= clf.score(X, y) <= 1


def test_probabilities_where_the_model_has_them(data, helpers, install):
    from sklearn.svm import LinearSVC

    X, y, _ = data
    assert hasattr(SISAClassifier(), "predict_proba")
    assert not hasattr(SISAClassifier(LinearSVC()), "predict_proba")
    votes = SISAClassifier(LinearSVC(), n_shards=3, random_state=0).fit(X, y)
    assert set(votes.predict(X)) <= {0, 1}


def test_a_plain_object_can_be_wrapped(data, helpers, install):
    """A model of a stranger's plugin need not be a scikit-learn estimator."""
    from unlearnkit.adapters import Adapter
    from unlearnkit.testing import RememberingLearner

    class Plain:
        pass

    adapter = Adapter("plain", (helpers.type_name(Plain),), lambda model, resolve: RememberingLearner())
    install(helpers.plugin("plain", unlearnkit_adapters=lambda: [adapter]))
    X, y, ids = data
    clf = wrap(Plain(), n_shards=2, random_state=0).fit(X, y, ids=ids)
    assert clf.forget(ids[0]).n_records == 1
    assert clf.__sklearn_tags__().input_tags.sparse
    assert clone(clf).fit(X, y, ids=ids).model_digest_ != clf.model_digest_


def test_a_model_without_plugin_can_be_looked_at():
    stranger = SISAClassifier(object())
    assert "SISAClassifier" in repr(stranger)
    assert not stranger.__sklearn_tags__().input_tags.sparse
    assert not hasattr(stranger, "predict_proba")


def test_wrap_takes_whichever_fits(remember):
    assert isinstance(wrap(remember()), SISAClassifier)
    assert isinstance(wrap(remember("regression"), n_shards=2), SISARegressor)


def test_a_regression(remember, data):
    X, _, ids = data
    y = X[:, 0] * 2
    model = SISARegressor(remember("regression"), n_shards=2, when_isolated="prior", random_state=0).fit(X, y, ids=ids)
    assert not hasattr(model, "classes_")
    model.forget(ids, repair=False)
    with pytest.raises(NoConstituentError):
        model.predict(X)


# -- options ---------------------------------------------------------------------------------------------------------


def test_auto_slices_are_the_learners(remember, data):
    X, y, ids = data
    assert SISAClassifier(remember(), random_state=0).fit(X, y, ids=ids).partition_.n_slices == 3
    assert SISAClassifier(remember(resumable=False), random_state=0).fit(X, y, ids=ids).partition_.n_slices == 1


def test_more_slices_than_there_can_be(data):
    X, y, _ = data
    with pytest.raises(
        CapabilityError, match="n_slices=2 is too many: DecisionTreeClassifier takes at most 1, because"
    ):
        SISAClassifier(n_slices=2).fit(X, y)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_shards": 0}, "n_shards=0"),
        ({"n_shards": 2.0}, "n_shards=2.0"),
        ({"n_shards": True}, "n_shards=True"),
        ({"n_slices": "many"}, '"auto"'),
        ({"n_slices": 0}, "n_slices=0"),
        ({"aggregation": "median"}, "median"),
        ({"when_isolated": "guess"}, "guess"),
        ({"random_state": np.random.RandomState(0)}, "RandomState"),
        ({"adapter": "nope"}, "nope"),
        ({"partition": HashPartition(b"short")}, "16 to 64"),
    ],
)
def test_options_that_make_no_sense(remember, data, options, match):
    X, y, _ = data
    with pytest.raises(UnlearnKitError, match=match):
        SISAClassifier(remember(), **options).fit(X, y)


@pytest.mark.parametrize(("face", "task"), [(SISAClassifier, "regression"), (SISARegressor, "classification")])
def test_the_wrong_face(remember, data, face, task):
    X, y, _ = data
    with pytest.raises(UnlearnKitError, match="Use SISA"):
        face(remember(task)).fit(X, y)


def test_verbose_shows_a_bar(remember, data, capsys):
    X, y, _ = data
    clf = SISAClassifier(remember(), verbose=1, random_state=0).fit(X, y)
    clf.forget(0)
    clf.verify()
    err = capsys.readouterr().err
    assert "Training" in err
    assert "Repairing" in err
    assert "Verifying" in err


# -- data ------------------------------------------------------------------------------------------------------------


def test_sparse_rows(remember, data):
    import scipy.sparse as sp

    X, y, ids = data
    clf = SISAClassifier(remember(), random_state=0).fit(sp.csr_matrix(X), y, ids=ids)
    clf.forget(ids[:2])
    assert clf.pinned().fit(sp.coo_matrix(X[2:]), y[2:], ids=ids[2:]).model_digest_ == clf.model_digest_
    assert clf.predict(X).shape == (80,)


def test_without_any_plugin(data, monkeypatch):
    X, y, _ = data
    empty = adapters.Plugins([])
    monkeypatch.setattr(adapters, "plugins", lambda: empty)
    with pytest.raises(MissingPluginError, match=r"pip install 'unlearnkit\[sklearn\]'"):
        SISAClassifier().fit(X, y)


def test_options_that_change_no_result_count_as_they_are_set_now(capsys):
    X, y = load_iris(return_X_y=True)
    clf = SISAClassifier(n_shards=3, random_state=0).fit(X, y)
    clf.forget(1)
    assert "Repairing" not in capsys.readouterr().err
    clf.set_params(verbose=1, n_jobs=2).forget(2)
    assert "Repairing" in capsys.readouterr().err
