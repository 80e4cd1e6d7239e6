"""What must hold for every model, whatever it is."""

import copy
import hashlib
import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Perceptron, Ridge, SGDClassifier, SGDRegressor
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from unlearnkit import SISAClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SLICED = {
    "sgd": SGDClassifier(max_iter=7),
    "sgd averaged": SGDClassifier(loss="log_loss", average=20, class_weight="balanced", max_iter=7),
    "sgd adaptive": SGDClassifier(learning_rate="adaptive", eta0=0.1, penalty="elasticnet", max_iter=9, tol=0.1),
    "sgd regressor": SGDRegressor(max_iter=7, average=True),
    "perceptron": Perceptron(max_iter=7),
    "mlp": MLPClassifier((8,), max_iter=5),
    "mlp momentum": MLPClassifier((8,), solver="sgd", learning_rate="adaptive", batch_size=16, max_iter=5),
    "mlp regressor": MLPRegressor(hidden_layer_sizes=(8,), max_iter=5),
    "gaussian": GaussianNB(),
    "multinomial": MultinomialNB(),
    "bernoulli": BernoulliNB(binarize=3.0),
    "complement": ComplementNB(norm=True),
    "categorical": CategoricalNB(),
    "forest": RandomForestClassifier(7),
    "forest regressor": RandomForestRegressor(7, max_samples=0.5),
    "extra trees": ExtraTreesClassifier(7, class_weight="balanced_subsample"),
    "bagging": BaggingClassifier(n_estimators=7, max_features=0.5),
    "bagging regressor": BaggingRegressor(Ridge(), n_estimators=7),
    "boosting": GradientBoostingRegressor(n_estimators=7, subsample=0.6),
    "boosting huber": GradientBoostingRegressor(n_estimators=7, loss="huber", max_features=2),
}
WHOLE = {
    "tree": DecisionTreeClassifier(max_features=2),
    "svc": SVC(),
    "knn": KNeighborsClassifier(),
    "logistic": LogisticRegression(),
    "ridge": Ridge(solver="sag"),
    "hist": HistGradientBoostingClassifier(max_iter=3, max_features=0.5),
    "boosting classifier": GradientBoostingClassifier(n_estimators=3, subsample=0.5),
    "stacking": StackingClassifier([("nb", GaussianNB()), ("tree", DecisionTreeClassifier())], cv=2),
    "search": GridSearchCV(DecisionTreeClassifier(max_features=1), {"max_depth": [2, 3]}, cv=KFold(2, shuffle=True)),
}
MODELS = SLICED | WHOLE
each = pytest.mark.parametrize("name", MODELS)


@pytest.fixture
def data(name, flowers, patients):
    return flowers if is_classifier(MODELS[name]) else patients


def n_slices(name):
    return 3 if name in SLICED else 1


@each
def test_one_slice_is_the_bare_model(name, data, sisa):
    model = MODELS[name]
    learner = sisa.learner(model)
    rows = sisa.rows(*data)
    step = sisa.step_of(rows, 0)
    bare = clone(model)
    if "random_state" in bare.get_params():
        bare.set_params(random_state=step.seeded(bare.random_state))
    elif name in {"stacking", "search"}:
        pytest.skip("seeds of inner models are the adapter's choice")
    bare.fit(*data)
    predicted = learner.predict(learner.load(sisa.build(learner, rows)[0]), data[0])
    if learner.capabilities.probabilities:
        expected = bare.predict_proba(data[0])
    elif is_classifier(model):
        expected = np.eye(3)[bare.predict(data[0])]
    else:
        expected = bare.predict(data[0])
    np.testing.assert_array_equal(predicted, expected)


@each
def test_same_rows_same_bytes(name, data, sisa):
    rows = sisa.rows(*data, n_slices(name))
    parts = sisa.build(sisa.learner(MODELS[name]), rows)
    junk = [np.random.RandomState(0).rand(999) for _ in range(50)]
    del junk
    again = sisa.build(pickle.loads(pickle.dumps(sisa.learner(MODELS[name]))), rows, cold=True)
    assert parts == again


@each
def test_states_survive_their_bytes(name, data, sisa):
    learner = sisa.learner(MODELS[name])
    parts = sisa.build(learner, sisa.rows(*data, n_slices(name)))[-1]
    state = learner.load(parts)
    predicted = learner.predict(state, data[0])
    assert learner.save(state) == parts
    np.testing.assert_array_equal(learner.predict(pickle.loads(pickle.dumps(state)), data[0]), predicted)


@pytest.mark.parametrize("name", SLICED)
def test_later_rows_do_not_matter(name, data, sisa):
    learner = sisa.learner(MODELS[name])
    rows = sisa.rows(*data, 3)
    parts = sisa.build(learner, rows)
    planted = rows.X.copy()
    planted[rows.ends[1] :] = 77.0
    assert sisa.build(learner, sisa.Rows(planted, rows.y, rows.ends))[:2] == parts[:2]


@pytest.mark.parametrize("name", SLICED)
def test_forgetting_repeats_only_the_steps_behind(name, data, sisa):
    learner = sisa.learner(MODELS[name])
    rows = sisa.rows(*data, 3)
    parts, fewer = sisa.build(learner, rows), sisa.build(learner, rows.without(rows.ends[1] + 3))
    assert fewer[:2] == parts[:2]
    assert fewer[2] != parts[2]


@each
def test_nothing_given_is_changed(name, data, sisa):
    model = clone(MODELS[name]).fit(*data)
    before = copy.deepcopy(vars(model))
    learner = sisa.learner(model)
    seen = []

    def tamper(batch):
        batch.X.setflags(write=False)
        batch.y.setflags(write=False)
        seen.append((batch.y, batch.y.copy()))
        return batch

    X, y = data[0].copy(), data[1].copy()
    parts = sisa.build(learner, sisa.rows(X, y, n_slices(name)), tamper=tamper)
    np.testing.assert_array_equal(X, data[0])
    assert all(np.array_equal(*pair) for pair in seen)
    assert set(vars(model)) == set(before)
    assert model.get_params(deep=False).keys() == clone(MODELS[name]).get_params(deep=False).keys()
    state = learner.load(parts[-1])
    learner.train(state if n_slices(name) > 1 else None, *next_step(sisa, data))
    assert learner.save(state) == parts[-1]


def next_step(sisa, data):
    rows = sisa.rows(*data, 3)
    labels = np.arange(3) if data[1].dtype.kind == "i" else None
    return sisa.batch_of(rows, 2, rows.ends[1], {}, labels), sisa.step_of(rows, 2)


@pytest.mark.parametrize("name", SLICED)
def test_weights_are_used(name, data, sisa):
    learner = sisa.learner(MODELS[name])
    if not learner.capabilities.sample_weight:
        pytest.skip("takes no weights")
    weight = np.where(data[1] > np.median(data[1]), 9.0, 0.5)
    plain, weighted = (sisa.build(learner, sisa.rows(*data, 3, weight=w))[-1] for w in (None, weight))
    assert plain != weighted


SCRIPT = """
import json, sys, warnings
sys.path[:0] = [{tests!r}]
warnings.simplefilter("ignore")
import conftest, test_sklearn_learners as t
print(json.dumps(t.digests(conftest)))
"""


def digests(sisa):
    from sklearn.datasets import load_diabetes, load_iris

    found = {}
    for name, model in MODELS.items():
        X, y = load_iris(return_X_y=True) if is_classifier(model) else load_diabetes(return_X_y=True)
        order = np.random.RandomState(1).permutation(len(y))[:120]
        y = y[order].astype(np.int64 if is_classifier(model) else np.float64)
        parts = sisa.build(sisa.resolve(model), sisa.rows(np.ascontiguousarray(X[order]), y, n_slices(name)))
        found[name] = [{k: hashlib.sha256(v).hexdigest() for k, v in p.items()} for p in parts]
    return found


def test_another_process_trains_the_same_bytes(sisa):
    folder = str(Path(__file__).parent)
    env = {**os.environ, "PYTHONHASHSEED": "4711"}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(tests=folder)], env=env, capture_output=True, text=True, check=True
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        sisa.resolve = sisa.learner
        here = json.loads(json.dumps(digests(sisa)))
    there = json.loads(result.stdout.splitlines()[-1])
    assert {n for n in here if here[n] != there[n]} == set()


def test_listing_the_plugin_imports_no_framework():
    code = "import sys, unlearnkit_sklearn as u; u.unlearnkit_adapters(); print('sklearn' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_fewer_rows_than_neighbours_leave_a_shard_isolated_and_the_others_answering():
    rng = np.random.default_rng(0)
    X, y, ids = rng.normal(size=(60, 3)), np.arange(60) % 2, np.arange(1000, 1060)
    clf = SISAClassifier(KNeighborsClassifier(5), n_shards=3, n_slices=1, random_state=0).fit(X, y, ids=ids)
    shards = np.array([shard for shard, _ in clf.partition_.locate(ids)])
    with pytest.warns(RuntimeWarning, match="Shard 1 cannot be trained"):
        receipt = clf.forget(ids[shards == 1][3:])
    assert list(receipt.untrainable_shards) == [1]
    assert len(clf.predict(X)) == len(X)
