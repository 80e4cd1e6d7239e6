"""The conformance kit over one model of each kind."""

import pytest
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from unlearnkit.testing import Subject, parametrize_with_checks

MODELS = [
    SGDClassifier(loss="log_loss", max_iter=20, tol=None),
    SGDRegressor(max_iter=20, tol=None),
    MLPClassifier((4,), max_iter=8),
    GaussianNB(),
    MultinomialNB(),
    RandomForestClassifier(6, max_depth=3),
    GradientBoostingRegressor(n_estimators=6, max_features=0.5),
    DecisionTreeClassifier(),
    LogisticRegression(),
    Ridge(),
    KNeighborsClassifier(2),
    HistGradientBoostingClassifier(max_iter=4, min_samples_leaf=3),
    Subject.of(make_pipeline(StandardScaler(), SGDClassifier(max_iter=20, tol=None)), name="scaler-sgd"),
    Subject.of(make_pipeline(StandardScaler(), DecisionTreeClassifier()), name="scaler-tree"),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(MODELS)
def test_conformance(subject, check):
    check(subject)
