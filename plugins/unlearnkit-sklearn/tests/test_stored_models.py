"""Models of scikit-learn as a store describes them: back by the plugin's list of modules alone."""

import json

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Perceptron, Ridge, SGDClassifier, SGDRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import CategoricalNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from unlearnkit.errors import CodeNeededError
from unlearnkit.fingerprints import fingerprint
from unlearnkit.models import describe, restore

COLUMNS = ColumnTransformer(
    [
        ("hot", OneHotEncoder(categories=[["red", "blue"]], handle_unknown="ignore"), ["colour"]),
        ("rank", OrdinalEncoder(dtype=np.float32, categories=[np.array(["a", "b"], dtype=object)]), ["level"]),
        ("text", TfidfVectorizer(stop_words=["a", "the"], ngram_range=(1, 2)), "text"),
        ("scale", make_pipeline(SimpleImputer(missing_values=np.nan), StandardScaler()), ["size", "age"]),
    ],
    transformer_weights={"hot": 2.0},
)
MODELS = [
    SGDClassifier(loss="log_loss", max_iter=20, tol=None, class_weight={0: 1.0, 1: 2.5}),
    SGDRegressor(average=True),
    Perceptron(),
    MLPClassifier((4, 3), max_iter=8),
    GaussianNB(priors=np.array([0.25, 0.75])),
    MultinomialNB(),
    CategoricalNB(min_categories=[2, 3]),
    RandomForestClassifier(6, max_depth=3, monotonic_cst=[0, 1]),
    ExtraTreesRegressor(random_state=np.int64(4)),
    GradientBoostingClassifier(init="zero"),
    HistGradientBoostingClassifier(categorical_features="from_dtype", interaction_cst=[{0, 1}]),
    DecisionTreeClassifier(class_weight={"a": 1, "b": 2}),
    LogisticRegression(),
    Ridge(alpha=np.array([0.5])),
    KNeighborsClassifier(2, metric_params={"p": 3}),
    SVC(),
    LinearDiscriminantAnalysis(),
    GaussianProcessClassifier(ConstantKernel(2.0) * RBF([1.0, 2.0]) + WhiteKernel()),
    AdaBoostClassifier(DecisionTreeClassifier(max_depth=1)),
    BaggingClassifier(make_pipeline(StandardScaler(), LogisticRegression())),
    StackingClassifier([("a", GaussianNB()), ("b", DecisionTreeClassifier())], LogisticRegression()),
    VotingRegressor([("a", Ridge()), ("b", "drop")]),
    OneVsRestClassifier(LogisticRegression()),
    CalibratedClassifierCV(GaussianNB()),
    TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
    GridSearchCV(make_pipeline(StandardScaler(), SGDClassifier()), {"sgdclassifier__alpha": np.logspace(-3, 0, 4)}),
    make_pipeline(COLUMNS, RandomForestClassifier(4)),
    make_pipeline(SelectKBest(k=2), FeatureUnion([("a", PCA(1)), ("b", "passthrough")]), GaussianNB()),
    make_pipeline(QuantileTransformer(n_quantiles=9), KBinsDiscretizer(3), TargetEncoder(), MultinomialNB()),
    make_pipeline(FunctionTransformer(np.log), "passthrough", make_pipeline(StandardScaler(), GaussianNB())),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_a_stored_model_is_built_again(model):
    before = fingerprint(model)
    other = restore(json.loads(json.dumps(describe(model), allow_nan=False)))
    assert type(other) is type(model)
    assert fingerprint(other) == fingerprint(model) == before


class Mine(BaseEstimator):
    pass


def function(x):
    return x


@pytest.mark.parametrize(
    "part", [Mine(), FunctionTransformer(function), FrozenEstimator(StandardScaler()), FunctionTransformer(np.sum)]
)
def test_user_code_and_functions_have_to_be_given(part):
    assert describe(make_pipeline(part, GaussianNB())) is None


def test_what_was_fitted_before_is_not_restored():
    frozen = {"estimator": {"class": "sklearn.frozen._frozen:FrozenEstimator", "parameters": {"estimator": None}}}
    with pytest.raises(CodeNeededError, match=r"FrozenEstimator.*load\(path, estimator=...\)"):
        restore(frozen)
