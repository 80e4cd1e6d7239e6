"""The promise itself, through the public estimators."""

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from unlearnkit import SISAClassifier, SISARegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize(
    "model",
    [
        SGDClassifier(max_iter=5, loss="log_loss"),
        MLPClassifier((5,), max_iter=3),
        GaussianNB(),
        RandomForestClassifier(4),
        DecisionTreeClassifier(),
        KNeighborsClassifier(3),
        make_pipeline(StandardScaler(), MLPClassifier((5,), max_iter=3)),
    ],
    ids=str,
)
def test_forgetting_equals_never_having_seen(model, flowers):
    X, y = flowers
    clf = SISAClassifier(model, n_shards=2, random_state=0).fit(X, y, ids=np.arange(len(y)))
    for gone in ([3], [70, 71, 140]):
        clf.forget(gone)
    kept = np.setdiff1d(np.arange(len(y)), [3, 70, 71, 140])
    order = np.random.RandomState(1).permutation(kept)
    reference = clf.pinned().fit(X[order], y[order], ids=order)
    assert clf.model_digest_ == reference.model_digest_
    np.testing.assert_array_equal(clf.predict_proba(X), reference.predict_proba(X))


def test_regression(patients):
    X, y = patients
    reg = SISARegressor(GradientBoostingRegressor(n_estimators=8), n_shards=2, n_slices=3, random_state=0)
    reg.fit(X, y, ids=np.arange(len(y))).forget([5])
    reference = reg.pinned().fit(np.delete(X, 5, 0), np.delete(y, 5), ids=np.delete(np.arange(len(y)), 5))
    assert reg.model_digest_ == reference.model_digest_


def test_frames_with_rare_categories():
    pd = pytest.importorskip("pandas")
    rng = np.random.RandomState(0)
    frame = pd.DataFrame({"job": rng.choice(["a", "b", "c"], 120), "age": rng.rand(120)})
    frame.loc[7, "job"] = "rare"
    y = np.where(frame["age"] > 0.5, "yes", "no")
    model = make_pipeline(
        ColumnTransformer([("job", OneHotEncoder(), ["job"])], remainder="passthrough"), LogisticRegression()
    )
    clf = SISAClassifier(model, n_shards=4, random_state=0).fit(frame, y, ids=np.arange(120))
    clf.forget([7])
    reference = clf.pinned().fit(frame.drop(index=7), np.delete(y, 7), ids=np.delete(np.arange(120), 7))
    assert clf.model_digest_ == reference.model_digest_
    assert set(clf.predict(frame)) == {"no", "yes"}
