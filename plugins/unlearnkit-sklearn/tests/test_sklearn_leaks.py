"""Leaks inside a wrapped scikit-learn model: what is told of, what is not, and that it is real."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import SparseCoder
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_selection import SelectFromModel
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from unlearnkit import SISAClassifier
from unlearnkit.adapters import resolve
from unlearnkit.errors import CapabilityError

FORGOTTEN = 7
SCALER = StandardScaler().fit([[0.0], [1.0]])


class Kept(TransformerMixin, BaseEstimator):
    """A transformer that clones do not make forget."""

    def fit(self, X, y=None):
        if not hasattr(self, "mean_"):
            self.mean_ = X.mean(axis=0)
        return self

    def transform(self, X):
        return X - self.mean_

    def __sklearn_clone__(self):
        return self


class Centre(TransformerMixin, BaseEstimator):
    def __init__(self, mean=None):
        self.mean = mean

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X - np.asarray(self.mean)


class Honest(Kept):
    def __sklearn_clone__(self):
        return Honest()


def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = (X[:, 0] > 0).astype(int)
    X[FORGOTTEN] = 50.0
    return X, y, list(range(60))


def first(transformer):
    return make_pipeline(transformer, LogisticRegression())


def parts(model):
    return [leak.part for leak in resolve(model).capabilities.leaks]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (first(FunctionTransformer(SCALER.transform)), ["estimator.steps[0] 'functiontransformer'.func"]),
        (first(Kept()), ["estimator.steps[0] 'kept'"]),
        (first(Kept().fit(np.eye(3))), ["estimator.steps[0] 'kept'"]),
        (first(Centre(np.ones(3))), ["estimator.steps[0] 'centre'.mean"]),
        (first(SparseCoder(np.eye(3))), ["estimator.steps[0] 'sparsecoder'.dictionary"]),
        (first(KMeans(2, init=np.eye(2, 3))), ["estimator.steps[0] 'kmeans'.init"]),
        (
            first(FunctionTransformer(np.subtract, kw_args={"x2": np.ones(3)})),
            ["estimator.steps[0] 'functiontransformer'.kw_args['x2']"],
        ),
        (
            first(ColumnTransformer([("a", FunctionTransformer(SCALER.transform), [0])])),
            ["estimator.steps[0] 'columntransformer'.transformers[0] 'a'.func"],
        ),
        (
            KNeighborsClassifier(metric="mahalanobis", algorithm="brute", metric_params={"VI": np.eye(3)}),
            ["estimator.metric_params['VI']"],
        ),
        (TransformedTargetRegressor(Ridge(), func=SCALER.transform, inverse_func=abs), ["estimator.func"]),
        (
            make_pipeline(TransformedTargetRegressor(Ridge(), func=SCALER.transform, inverse_func=abs)),
            ["estimator.steps[0] 'transformedtargetregressor'.func"],
        ),
        (
            GridSearchCV(first(StandardScaler()), {"standardscaler": [Centre(np.ones(3)), Centre([1.0, 1.0, 1.0])]}),
            ["estimator.param_grid['standardscaler'][0].mean"],
        ),
    ],
    ids=lambda value: "" if isinstance(value, list) else repr(value)[:60],
)
def test_what_leaks_is_told_of(model, expected):
    assert parts(model) == expected


@pytest.mark.parametrize(
    "model",
    [
        first(StandardScaler().fit(np.eye(3))),
        RandomForestClassifier(5).fit(np.eye(3), [0, 1, 1]),
        first(FunctionTransformer(np.log1p)),
        first(Honest().fit(np.eye(3))),
        first(Centre([1.0, 1.0, 1.0])),
        first(KMeans(2, init="random")),
        first(OneHotEncoder(categories=[np.array(["a", "b"])])),
        GaussianNB(priors=np.array([0.5, 0.5])),
        LogisticRegression(class_weight={0: 1.0, 1: 5.0}),
        GridSearchCV(LogisticRegression(), {"C": np.logspace(-1, 1, 3)}),
        GradientBoostingRegressor(init=Ridge().fit(np.eye(3), [0, 1, 2])),
        StackingClassifier([("a", LogisticRegression().fit(np.eye(3), [0, 1, 1]))]),
    ],
    ids=lambda model: repr(model)[:60],
)
def test_what_is_fitted_anew_or_a_constant_is_not(model):
    assert parts(model) == []


@pytest.mark.parametrize(
    "model",
    [
        FrozenEstimator(LogisticRegression()),
        first(FrozenEstimator(SCALER)),
        first(SelectFromModel(LogisticRegression(), prefit=True)),
        CalibratedClassifierCV(FrozenEstimator(LogisticRegression())),
        StackingClassifier([("a", LogisticRegression())], cv="prefit"),
        VotingClassifier([("a", FrozenEstimator(LogisticRegression()))]),
    ],
    ids=lambda model: repr(model)[:60],
)
def test_what_is_known_to_be_fitted_is_refused(model):
    with pytest.raises(CapabilityError, match="forgetting would not be exact"):
        resolve(model)


# The library warns when such a model is fitted; here the point is what becomes of it.
@pytest.mark.filterwarnings("ignore::unlearnkit.LeakageWarning")
@pytest.mark.parametrize("make", [lambda X: first(Kept().fit(X)), lambda X: first(Centre(X.mean(axis=0)))])
def test_what_is_told_of_is_real(make):
    """Everything agrees with a refit by the same part, and not with one in which the part never saw the record."""
    X, y, ids = data()
    kept = [i for i in ids if i != FORGOTTEN]
    model = SISAClassifier(make(X), n_shards=2, n_slices=1, random_state=0).fit(X, y, ids=ids)
    model.forget([FORGOTTEN])
    honest = SISAClassifier(make(X[kept]), n_shards=2, n_slices=1, random_state=0).fit(X[kept], y[kept], ids=kept)
    assert model.model_digest_ == model.pinned().fit(X[kept], y[kept], ids=kept).model_digest_
    assert not np.allclose(model.predict_proba(X), honest.predict_proba(X))


def test_what_is_not_told_of_leaves_nothing():
    X, y, ids = data()
    kept = [i for i in ids if i != FORGOTTEN]

    def model(X):
        return SISAClassifier(first(StandardScaler().fit(X)), n_shards=2, n_slices=1, random_state=0)

    forgotten = model(X).fit(X, y, ids=ids)
    forgotten.forget([FORGOTTEN])
    honest = model(X[kept]).fit(X[kept], y[kept], ids=kept)
    assert np.array_equal(forgotten.predict_proba(X), honest.predict_proba(X))
