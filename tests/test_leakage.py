"""What around a SISA estimator learns from all records: each finding, its fixed version, and proof that it is real."""

from __future__ import annotations

import pickle
import types
import warnings
from functools import partial

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, TunedThresholdClassifierCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    StandardScaler,
)

from unlearnkit import Leak, LeakageWarning, SISAClassifier, SISARegressor, check_pipeline
from unlearnkit.carried import parameter_leaks, value_leaks
from unlearnkit.errors import CapabilityError, ParameterError
from unlearnkit.leakage import warn

SCALER = StandardScaler().fit([[0.0], [1.0]])
MEAN = np.array([1.0, 2.0, 3.0])
PLAIN_MEAN = [1.0, 2.0, 3.0]
FORGOTTEN = 7
PLANTED = 12345.678


class Sampler(BaseEstimator):
    """What imbalanced-learn's samplers look like."""

    def fit_resample(self, X, y):
        return X, y


class Scale(TransformerMixin, BaseEstimator):
    """A transformer of the user's own."""

    def __init__(self, mean=None):
        self.mean = mean


class Stateless(Scale):
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags


def centred(X):
    return X - MEAN


def centred_by_a_list(X):
    return X - np.asarray(PLAIN_MEAN)


def by_way_of(X):
    return centred(X)


def weighed(predictions, present):
    return np.tensordot(MEAN, predictions * present[:, None, None], 1)


def sisa(model=None, **options):
    model = LogisticRegression() if model is None else model
    return SISAClassifier(model, n_shards=2, n_slices=1, random_state=0, **options)


def regressor(model=None):
    return SISARegressor(Ridge() if model is None else model, n_shards=2, random_state=0)


def columns(transformer):
    return ColumnTransformer([("some", transformer, [0]), ("rest", "passthrough", [1, 2])])


def piped(*steps):
    return make_pipeline(*steps, sisa())


def piped_around(model):
    return make_pipeline(Normalizer(), sisa(model))


def parts(model):
    return [leak.part for leak in check_pipeline(model)]


# name: what leaks, the parts that are told of, and the same without a leak
CASES = {
    "scaler": (lambda: piped(StandardScaler()), ["model.steps[0] 'standardscaler'"], lambda: piped(Normalizer())),
    "selection by the target": (
        lambda: piped(SelectKBest(k=1)),
        ["model.steps[0] 'selectkbest'"],
        lambda: sisa(make_pipeline(SelectKBest(k=1), LogisticRegression())),
    ),
    "column transformer": (
        lambda: piped(columns(StandardScaler())),
        ["model.steps[0] 'columntransformer'.transformers[0] 'some'"],
        lambda: piped(columns(Normalizer())),
    ),
    "remainder": (
        lambda: piped(ColumnTransformer([("some", Normalizer(), [0])], remainder=MinMaxScaler())),
        ["model.steps[0] 'columntransformer'.remainder"],
        lambda: piped(ColumnTransformer([("some", Normalizer(), [0])], remainder="drop")),
    ),
    "union of texts": (
        lambda: piped(FeatureUnion([("hash", HashingVectorizer()), ("idf", TfidfVectorizer())])),
        ["model.steps[0] 'featureunion'.transformer_list[1] 'idf'"],
        lambda: piped(FeatureUnion([("hash", HashingVectorizer()), ("given", CountVectorizer(vocabulary=["a"]))])),
    ),
    "nested pipeline": (
        lambda: piped(make_pipeline(Normalizer(), MinMaxScaler())),
        ["model.steps[0] 'pipeline'.steps[1] 'minmaxscaler'"],
        lambda: piped(make_pipeline(Normalizer(), "passthrough")),
    ),
    "encoder": (
        lambda: piped(OneHotEncoder()),
        ["model.steps[0] 'onehotencoder'"],
        lambda: piped(OneHotEncoder(categories=[["a", "b"]]), OrdinalEncoder(categories=[[0, 1]] * 2)),
    ),
    "encoder that counts": (
        lambda: piped(OneHotEncoder(categories=[["a", "b"]], min_frequency=5)),
        ["model.steps[0] 'onehotencoder'"],
        lambda: piped(PolynomialFeatures()),
    ),
    "the user's transformer": (
        lambda: piped(Scale()),
        ["model.steps[0] 'scale'"],
        lambda: piped(Stateless()),
    ),
    "frozen part": (
        lambda: piped(FrozenEstimator(SCALER)),
        ["model.steps[0] 'frozenestimator'"],
        lambda: piped(FrozenEstimator(Normalizer())),
    ),
    "method of a fitted part": (
        lambda: piped(FunctionTransformer(SCALER.transform)),
        ["model.steps[0] 'functiontransformer'.func"],
        lambda: piped(FunctionTransformer(Normalizer().transform)),
    ),
    "numbers in a function": (
        lambda: piped(FunctionTransformer(centred)),
        ["model.steps[0] 'functiontransformer'.func (the global 'MEAN')"],
        lambda: piped(FunctionTransformer(centred_by_a_list)),
    ),
    "search": (
        lambda: GridSearchCV(sisa(), {"estimator__C": [1, 2]}),
        ["model"],
        lambda: sisa(GridSearchCV(LogisticRegression(), {"C": [1, 2]})),
    ),
    "candidates of a search": (
        lambda: GridSearchCV(Pipeline([("s", Normalizer()), ("m", sisa())]), [{"s": [StandardScaler(), Normalizer()]}]),
        ["model", "model.param_grid[0]['s'][0]"],
        lambda: sisa(GridSearchCV(Pipeline([("s", Normalizer()), ("m", LogisticRegression())]), {"m__C": [1, 2]})),
    ),
    "candidates inside the shards": (
        lambda: GridSearchCV(sisa(), {"estimator": [LogisticRegression(), make_pipeline(StandardScaler())]}),
        ["model"],
        sisa,
    ),
    "candidates that are ensembles": (
        lambda: GridSearchCV(Pipeline([("s", MinMaxScaler()), ("m", LogisticRegression())]), {"m": [sisa()]}),
        ["model", "model.estimator.steps[0] 's'"],
        sisa,
    ),
    "target transformer": (
        lambda: TransformedTargetRegressor(regressor(), transformer=StandardScaler()),
        ["model.transformer"],
        lambda: TransformedTargetRegressor(regressor(), func=np.log1p, inverse_func=np.expm1),
    ),
    "calibration": (
        lambda: CalibratedClassifierCV(sisa()),
        ["model"],
        lambda: sisa(CalibratedClassifierCV(LogisticRegression())),
    ),
    "tuned threshold": (
        lambda: TunedThresholdClassifierCV(sisa()),
        ["model"],
        lambda: FixedThresholdClassifier(sisa(), threshold=0.3),
    ),
    "stack": (
        lambda: StackingClassifier([("a", sisa()), ("b", sisa())]),
        ["model.final_estimator"],
        lambda: sisa(StackingClassifier([("a", LogisticRegression()), ("b", LogisticRegression())])),
    ),
    "below a final ensemble": (
        lambda: StackingClassifier([("a", LogisticRegression())], final_estimator=sisa()),
        ["model.estimators[0] 'a'"],
        lambda: VotingClassifier([("a", sisa())]),
    ),
    "vote": (
        lambda: VotingClassifier([("a", sisa()), ("b", LogisticRegression()), ("c", "drop")]),
        ["model.estimators[1] 'b'"],
        lambda: VotingClassifier([("a", sisa()), ("b", sisa())]),
    ),
    "bags": (
        lambda: BaggingClassifier(sisa()),
        ["model"],
        lambda: sisa(BaggingClassifier(LogisticRegression())),
    ),
    "cache": (
        lambda: Pipeline([("n", Normalizer()), ("m", sisa())], memory="folder"),
        ["model.memory"],
        lambda: Pipeline([("n", Normalizer()), ("m", sisa())]),
    ),
    "cache below": (
        lambda: piped(Pipeline([("n", Normalizer())], memory="folder")),
        ["model.steps[0] 'pipeline'.memory"],
        lambda: piped(Pipeline([("n", Normalizer())])),
    ),
    "resampling": (
        lambda: piped(Sampler()),
        ["model.steps[0] 'sampler'"],
        lambda: sisa(LogisticRegression(class_weight="balanced")),
    ),
    "aggregation": (
        lambda: sisa(aggregation=weighed),
        ["model.aggregation (the global 'MEAN')"],
        lambda: sisa(aggregation="vote"),
    ),
    "inside the ensemble": (
        lambda: piped_around(make_pipeline(FunctionTransformer(centred), LogisticRegression())),
        ["model.steps[1] 'sisaclassifier'.estimator.steps[0] 'functiontransformer'.func (the global 'MEAN')"],
        lambda: sisa(make_pipeline(FunctionTransformer(centred_by_a_list), LogisticRegression())),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_leaks_is_found(name):
    make, expected, _ = CASES[name]
    assert parts(make()) == expected


@pytest.mark.parametrize("name", CASES)
def test_what_is_fixed_is_not(name):
    assert check_pipeline(CASES[name][2]()) == ()


@pytest.mark.parametrize("name", CASES)
def test_a_leak_says_why_and_what_to_do(name):
    for leak in check_pipeline(CASES[name][0]()):
        assert len(leak.why) > 20
        assert len(leak.remedy) > 20
        assert not leak.why.endswith(".")
        assert not leak.remedy.endswith(".")


def test_the_remedy_names_the_user_s_own_classes():
    (leak,) = check_pipeline(make_pipeline(StandardScaler(), regressor()))
    assert "SISARegressor(make_pipeline(StandardScaler(...), Ridge(...)))" in leak.remedy
    assert "requires_fit" not in leak.remedy
    (leak,) = check_pipeline(piped(Scale()))
    assert "requires_fit=False" in leak.remedy


def test_the_pipeline_of_another_library_is_looked_into():
    """Imbalanced-learn has a pipeline and samplers of its own; others have no scikit-learn base at all."""

    class Chain(BaseEstimator):
        def __init__(self, steps):
            self.steps = steps

    assert parts(Chain([("draw", Sampler()), ("model", sisa())])) == ["model.steps[0] 'draw'"]
    assert parts(Chain([("norm", Normalizer()), ("model", sisa())])) == []


def test_a_model_without_an_ensemble_is_refused():
    with pytest.raises(ParameterError, match="no SISAClassifier or SISARegressor in this Pipeline"):
        check_pipeline(make_pipeline(StandardScaler(), LogisticRegression()))
    with pytest.raises(ParameterError, match="in this str"):
        check_pipeline("model")
    with pytest.raises(ParameterError, match="in this type"):
        check_pipeline(SISAClassifier)


def test_a_wrapped_model_that_cannot_be_is_refused_as_by_fit():
    with pytest.raises(CapabilityError, match="FrozenEstimator"):
        check_pipeline(piped_around(FrozenEstimator(LogisticRegression())))


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_fitted_or_changed(name):
    model = CASES[name][0]()
    before = pickle.dumps(model)
    check_pipeline(model)
    assert pickle.dumps(model) == before


def test_a_fitted_pipeline_is_checked_too():
    X, y = data()
    model = piped(StandardScaler()).fit(X, y)
    assert parts(model) == ["model.steps[0] 'standardscaler'"]


# -- what functions and objects hold


def closed_over(value):
    def function(X):
        return X, value

    return function


def with_default(X, value=MEAN, *, scaler=None):
    return X


def itself(n):
    def again(k):
        return again(k - 1) if k else n

    return again


def plain_object(**attributes):
    return types.SimpleNamespace(**attributes)


class Rows:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return index


class Weights:
    def state_dict(self):
        return {}


class Booster:
    def predict(self, X):
        return X


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (SCALER.transform, "f"),
        (closed_over(SCALER), "f (its variable 'value')"),
        (closed_over(MEAN), "f (its variable 'value')"),
        (with_default, "f (its default 'value')"),
        (partial(np.subtract, MEAN), "f (its arguments)"),
        (partial(np.subtract, x2=SCALER), "f (its argument 'x2')"),
        (by_way_of, "f (the global 'centred') (the global 'MEAN')"),
        (lambda X: [SCALER.transform(x) for x in X], "f (the global 'SCALER')"),
        (plain_object(inner=[{"scaler": SCALER}]), "f.inner[0]['scaler']"),
        (plain_object(data=Rows()), "f.data"),
        (Weights(), "f"),
        (Booster(), "f"),
    ],
)
def test_what_comes_along_is_found(value, part):
    (leak,) = value_leaks(value, "f")
    assert leak.part == part


@pytest.mark.parametrize(
    "value",
    [
        np.log1p,
        closed_over(None),
        closed_over(StandardScaler()),
        closed_over(FunctionTransformer()),
        closed_over([1.0, 2.0]),
        centred_by_a_list,
        itself(3),
        partial(np.subtract, 1.0),
        plain_object(a=1, b="text", c=[range(3)], d=np.float64(1.0)),
        SCALER,
        [SCALER, {"a": SCALER}],
        np.float64,
        Weights,
        MEAN,
    ],
)
def test_what_comes_along_unfitted_is_not(value):
    """Estimators that a clone reaches come back unfitted; arrays that are parameters may be the user's constants."""
    assert list(value_leaks(value, "f")) == []


def test_arrays_of_the_user_s_own_classes_are_told_of():
    assert [leak.part for leak in parameter_leaks(Scale(MEAN), "e")] == ["e.mean"]
    assert list(parameter_leaks(Scale(PLAIN_MEAN), "e")) == []


# -- the warning


def test_each_leak_is_a_warning():
    first, second = Leak("estimator.a", "it was fitted", "do this"), Leak("estimator.b", "it knows", "do that")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn([first, second])
        warn([])
    assert [w.category for w in caught] == [LeakageWarning] * 2
    assert str(caught[0].message).startswith("estimator.a: it was fitted. Forgetting")
    assert str(caught[1].message).endswith("Do that.")


def test_the_warning_points_at_whoever_called():
    def fit():
        warn([Leak("estimator", "it was fitted", "do this")])

    with pytest.warns(LeakageWarning) as caught:
        fit()
    assert caught[0].filename == __file__
    assert caught[0].lineno == fit.__code__.co_firstlineno + 4


# -- the findings are real: what is outside the shards still depends on the forgotten record


def data():
    """Rows in which record 7 stands far out."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = (X[:, 0] + rng.normal(scale=0.5, size=60) > 0).astype(int)
    X[FORGOTTEN] = 50.0
    return X, y


def without():
    X, y = data()
    return np.delete(X, FORGOTTEN, axis=0), np.delete(y, FORGOTTEN)


def test_a_scaler_outside_remembers():
    X, y = data()
    model = piped(StandardScaler()).fit(X, y)
    model[-1].forget([FORGOTTEN])
    remaining = piped(StandardScaler()).fit(*without())
    assert model[0].mean_[0] > remaining[0].mean_[0] + 0.5


def test_a_scaler_inside_does_not():
    X, y = data()
    ids = list(range(60))
    model = sisa(make_pipeline(StandardScaler(), LogisticRegression())).fit(X, y, ids=ids)
    model.forget([FORGOTTEN])
    kept = [i for i in ids if i != FORGOTTEN]
    remaining = model.pinned().fit(X[kept], y[kept], ids=kept)
    assert model.model_digest_ == remaining.model_digest_
    assert np.array_equal(model.predict_proba(X), remaining.predict_proba(X))


def test_a_target_transformer_outside_remembers():
    X, y = data()
    y = y.astype(float)
    y[FORGOTTEN] = 1000.0
    model = TransformedTargetRegressor(regressor(), transformer=StandardScaler()).fit(X, y)
    model.regressor_.forget([FORGOTTEN])
    assert model.transformer_.mean_[0] > np.delete(y, FORGOTTEN).mean() + 10


def test_a_calibration_outside_remembers():
    X, y = data()

    def calibrated(X, y):
        model = CalibratedClassifierCV(sisa(), cv=2, ensemble=False).fit(X, y)
        (fitted,) = model.calibrated_classifiers_
        return fitted.estimator, fitted.calibrators[0]

    ensemble, calibrator = calibrated(X, y)
    before = calibrator.a_, calibrator.b_
    ensemble.forget([FORGOTTEN])
    _, remaining = calibrated(*without())
    assert (calibrator.a_, calibrator.b_) == before != (remaining.a_, remaining.b_)


def test_a_final_estimator_outside_remembers():
    def stacked(X, y):
        return StackingClassifier([("a", sisa())], cv=2).fit(X, y)

    model = stacked(*data())
    before = model.final_estimator_.coef_.copy()
    model.estimators_[0].forget([FORGOTTEN])
    assert np.array_equal(model.final_estimator_.coef_, before)
    assert not np.array_equal(before, stacked(*without()).final_estimator_.coef_)


def test_a_search_outside_remembers():
    """One mislabelled record far out decides between two penalties, and the choice stays."""
    X = np.array([[-3.0], [-2.0], [-1.0], [1.0], [2.0], [3.0]] * 4)
    y = (X[:, 0] > 0).astype(int)
    X, y = np.vstack([X, [[-4.0]]]), np.append(y, 1)

    def searched(X, y):
        return GridSearchCV(SISAClassifier(LogisticRegression(), n_shards=1, random_state=0), GRID, cv=2).fit(X, y)

    model = searched(X, y)
    before = list(model.cv_results_["mean_test_score"])
    model.best_estimator_.forget([len(y) - 1])
    assert list(model.cv_results_["mean_test_score"]) == before
    assert before != list(searched(X[:-1], y[:-1]).cv_results_["mean_test_score"])


GRID = {"estimator__C": [1e-3, 1.0]}


def test_a_cache_keeps_the_row(tmp_path):
    X, y = data()
    X[FORGOTTEN] = PLANTED
    steps = [("same", FunctionTransformer()), ("model", sisa())]
    model = Pipeline(steps, memory=str(tmp_path)).fit(X, y)
    model[-1].forget([FORGOTTEN])
    planted = np.float64(PLANTED).tobytes()
    assert any(planted in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_voter_outside_remembers():
    def voting(X, y):
        return VotingClassifier([("a", sisa()), ("b", LogisticRegression())]).fit(X, y)

    model = voting(*data())
    model.estimators_[0].forget([FORGOTTEN])
    assert not np.array_equal(model.estimators_[1].coef_, voting(*without()).estimators_[1].coef_)
