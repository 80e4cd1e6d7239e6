"""Steps of the XGBoost learner: exact on resume, blind to later rows, and with one slice the bare model."""

import copy
import hashlib
import itertools
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier, XGBRFRegressor
from xgboost.core import XGBoostError

from unlearnkit.adapters import resolve
from unlearnkit.learner import Batch, Step
from unlearnkit_xgboost.training import COARSE, for_step

N, N_SLICES = 240, 4
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 6))
X[RNG.uniform(size=X.shape) < 0.05] = np.nan
SIGNAL = np.nan_to_num(X[:, 0] + X[:, 1] * X[:, 2])
BINARY = (SIGNAL > 0.2).astype(np.int64)
TRIPLE = np.digitize(SIGNAL, [-0.5, 0.5]).astype(np.int64)
VALUES = SIGNAL + 0.1 * RNG.normal(size=N) + 5
TWO_VALUES = np.column_stack([VALUES, -2 * VALUES])
WEIGHTS = RNG.uniform(0.5, 2.0, size=N)
# The last category appears in the last slice alone.
CODES = np.where(np.arange(N) < 0.8 * N, RNG.integers(0, 5, N), RNG.integers(0, 9, N))
LETTERS = pd.Categorical.from_codes(CODES, categories=list("zyxwvutsr"))
FRAME = pd.DataFrame({"a": X[:, 0], "letter": LETTERS, "count": RNG.integers(0, 9, N), "yes": SIGNAL > 0})
SPARSE = scipy.sparse.csr_matrix(np.where(np.isnan(X) | (np.abs(X) < 0.5), 0.0, X))
SMALL = {"n_estimators": 8, "max_depth": 3, "random_state": 3, "n_jobs": 1}
SAMPLED = {**SMALL, "subsample": 0.7, "colsample_bytree": 0.7, "colsample_bynode": 0.8}


def squared(y_true, y_pred):
    return y_pred - y_true, np.ones_like(y_true)


def logistic(y_true, y_pred, sample_weight=None):
    p = 1 / (1 + np.exp(-y_pred))
    weight = np.ones_like(y_true) if sample_weight is None else sample_weight
    return (p - y_true) * weight, p * (1 - p) * weight


SLICED = {
    "binary": (XGBClassifier(**SAMPLED), X, BINARY, None),
    "binary, weights": (XGBClassifier(**SAMPLED, scale_pos_weight=3), X, BINARY, WEIGHTS),
    "multiclass": (XGBClassifier(**SAMPLED, num_parallel_tree=2), X, TRIPLE, None),
    "softmax": (XGBClassifier(**SMALL, objective="multi:softmax"), X, TRIPLE, None),
    "vector leaves": (XGBClassifier(**SMALL, multi_strategy="multi_output_tree"), X, TRIPLE, None),
    "hinge": (XGBClassifier(**SMALL, objective="binary:hinge"), X, BINARY, None),
    "own objective": (XGBClassifier(**SMALL, objective=logistic), X, BINARY, WEIGHTS),
    "regression": (XGBRegressor(**SAMPLED, base_score=1.0), X, VALUES, WEIGHTS),
    "float32": (XGBRegressor(**SMALL, max_bin=16), X.astype(np.float32), VALUES, None),
    "integers": (XGBRegressor(**SMALL), RNG.integers(-9, 9, (N, 4)), VALUES, None),
    "own regression": (XGBRegressor(**SMALL, objective=squared), X, VALUES, None),
    "median": (XGBRegressor(**SMALL, objective="reg:absoluteerror"), X, VALUES, None),
    "quantile": (XGBRegressor(**SMALL, objective="reg:quantileerror", quantile_alpha=0.3), X, VALUES, None),
    "poisson": (XGBRegressor(**SMALL, objective="count:poisson"), X, np.abs(VALUES), None),
    "two outputs": (XGBRegressor(**SMALL), X, TWO_VALUES, None),
    "two outputs, vector leaves": (XGBRegressor(**SMALL, multi_strategy="multi_output_tree"), X, TWO_VALUES, None),
    "exact": (XGBClassifier(**SMALL, tree_method="exact", gamma=0.1), X, BINARY, None),
    "approx": (XGBClassifier(**SMALL, tree_method="approx"), X, BINARY, WEIGHTS),
    "leaf-wise": (XGBClassifier(**SMALL, grow_policy="lossguide", max_leaves=5), X, BINARY, None),
    "constraints": (
        XGBRegressor(**SMALL, monotone_constraints={"a": 1}, interaction_constraints=[["a", "count"], ["yes"]]),
        FRAME[["a", "count", "yes"]],
        VALUES,
        None,
    ),
    "feature weights": (XGBClassifier(**SAMPLED, feature_weights=np.arange(1.0, 7.0)), X, BINARY, None),
    "categories": (XGBClassifier(**SMALL, enable_categorical=True), FRAME, BINARY, WEIGHTS),
    "categories, one-hot": (XGBRegressor(**SMALL, enable_categorical=True, max_cat_to_onehot=99), FRAME, VALUES, None),
    "categories, approx": (XGBRegressor(**SMALL, enable_categorical=True, tree_method="approx"), FRAME, VALUES, None),
    "sparse": (XGBClassifier(**SAMPLED), SPARSE, BINARY, None),
    "other missing": (XGBClassifier(**SMALL, missing=-9.0), np.nan_to_num(X, nan=-9.0), BINARY, None),
}
SINGLE = {
    "forest": (XGBRFClassifier(n_estimators=5, max_depth=3, n_jobs=1), X, TRIPLE, None),
    "regression forest": (XGBRFRegressor(n_estimators=5, max_depth=3, n_jobs=1), X, VALUES, WEIGHTS),
    "dart": (XGBClassifier(**SMALL, booster="dart", rate_drop=0.5), X, BINARY, None),
    "linear": (XGBClassifier(n_estimators=8, n_jobs=1, booster="gblinear"), X, TRIPLE, None),
    "linear regression": (
        XGBRegressor(n_estimators=8, n_jobs=1, booster="gblinear", updater="coord_descent"),
        X,
        VALUES,
        None,
    ),
    "codes": (XGBRegressor(**SMALL, feature_types=["c"] * 2), RNG.integers(0, 9, (N, 2)), VALUES, None),
}
ALL = SLICED | SINGLE


def sliced(test):
    return pytest.mark.parametrize("case", SLICED)(test)


def everything(test):
    return pytest.mark.parametrize("case", ALL)(test)


def digest(stored):
    whole = hashlib.sha256()
    for parts in stored:
        for name in sorted(parts):
            whole.update(name.encode() + b"\0" + parts[name])
    return whole.hexdigest()


def bare_output(model, X):
    if isinstance(model, XGBRegressor):
        return model.predict(X)
    return model.predict_proba(X) if model.objective != "binary:hinge" else np.eye(2)[model.predict(X)]


@everything
def test_one_slice_is_the_bare_model(case, train, steps_of):
    model, X, y, weight = ALL[case]
    learner = resolve(model)
    (parts,) = train(learner, X, y, 1, weight)
    ((_, step),) = steps_of(X, y, 1)
    bare = copy.deepcopy(model).set_params(n_jobs=1, random_state=step.seeded(model.random_state))
    bare.fit(X, y, sample_weight=weight)
    np.testing.assert_array_equal(learner.predict(learner.load(parts), X), bare_output(bare, X))


@sliced
def test_scratch_is_only_a_cache(case, train):
    model, X, y, weight = SLICED[case]
    learner = resolve(model)
    assert train(learner, X, y, N_SLICES, weight) == train(learner, X, y, N_SLICES, weight, keep_scratch=False)


@sliced
def test_ignores_later_rows(case, train):
    model, X, y, weight = SLICED[case]

    def shuffled_rest(batch):
        order = np.arange(N)
        order[len(batch.y) :] = order[len(batch.y) :][::-1]
        return batch.X_shard.iloc[order] if hasattr(batch.X_shard, "iloc") else batch.X_shard[order]

    learner = resolve(model)
    stored = train(learner, X, y, N_SLICES, weight)
    assert train(learner, X, y, N_SLICES, weight, shard=lambda batch: batch.X) == stored
    assert train(learner, X, y, N_SLICES, weight, keep_scratch=False, shard=shuffled_rest) == stored


def all_digests(train):
    found = {}
    for case, (model, X, y, weight) in ALL.items():
        learner = resolve(model)
        n_slices = N_SLICES if learner.capabilities.resumable else 1
        found[case] = [digest(train(learner, X, y, n_slices, weight)), learner.fingerprint]
    return found


ELSEWHERE = """
import importlib.util, json, sys
def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
tests, drive = load(*sys.argv[1:3]), load(*sys.argv[3:5])
print(json.dumps(tests.all_digests(drive.train_shard)))
"""


def test_same_bytes_in_another_process(train):
    here = Path(__file__)
    names = [__name__, str(here), "drive", str(here.with_name("conftest.py"))]
    env = os.environ | {"PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", ELSEWHERE, *names], env=env, check=True, capture_output=True)
    assert json.loads(run.stdout) == all_digests(train)


@everything
def test_the_native_model_the_state_and_the_batch_stay_as_they_were(case, steps_of):
    model, X, y, weight = ALL[case]
    params, X_before, y_before = repr(model.get_params()), copy.deepcopy(X), y.copy()
    learner = resolve(model)
    classes = np.unique(y) if learner.capabilities.task == "classification" else None
    n_slices = N_SLICES if learner.capabilities.resumable else 1
    state, was = None, {}
    for batch, step in steps_of(X, y, n_slices, weight, classes=classes):
        after = learner.train(state, batch, step)
        if state is not None:
            assert learner.save(state) == was
            assert state.booster.save_raw("ubj") == learner.load(was).booster.save_raw("ubj")
        state, was = after, learner.save(after)
    assert not hasattr(model, "_Booster")
    assert repr(model.get_params()) == params
    assert type(X_before) is type(X)
    np.testing.assert_array_equal(y, y_before)
    assert pickle.dumps(X_before) == pickle.dumps(X)


@pytest.mark.parametrize("case", ["categories", "own objective", "feature weights", "dart"])
def test_learners_pickle(case, train):
    model, X, y, weight = ALL[case]
    learner = resolve(model)
    copied = pickle.loads(pickle.dumps(learner))
    assert copied.fingerprint == learner.fingerprint
    assert train(copied, X, y, 1, weight) == train(learner, X, y, 1, weight)


@everything
def test_saved_states_come_back_as_the_same_bytes(case, train):
    model, X, y, weight = ALL[case]
    learner = resolve(model)
    n_slices = N_SLICES if learner.capabilities.resumable else 1
    parts = train(learner, X, y, n_slices, weight)[-1]
    assert learner.save(learner.load(parts)) == parts


@sliced
def test_a_step_stores_its_own_trees_and_touches_no_others(case, train):
    model, X, y, weight = SLICED[case]
    stored = train(resolve(model), X, y, N_SLICES, weight)
    for before, after in itertools.pairwise(stored):
        kept = {name for name in before if after[name] == before[name]}
        assert kept >= set(before) - {"edges"}
        assert len(set(after) - set(before)) == 1


@pytest.mark.parametrize("case", ["binary", "multiclass", "two outputs, vector leaves", "exact", "categories, approx"])
def test_the_budget_is_the_same_whatever_the_slices(case, train):
    model, X, y, weight = SLICED[case]
    learner = resolve(model)
    for n_slices in (1, 3, 8):
        parts = train(learner, X, y, n_slices, weight)[-1]
        assert learner.load(parts).booster.num_boosted_rounds() == 8


@everything
def test_predictions_are_the_same_for_any_threads_and_any_rows_beside(case, train):
    model, X, y, weight = ALL[case]
    learner = resolve(model)
    n_slices = N_SLICES if learner.capabilities.resumable else 1
    parts = train(learner, X, y, n_slices, weight)[-1]
    state = learner.load(parts)
    whole = learner.predict(state, X)
    many = resolve(copy.deepcopy(model).set_params(n_jobs=4))
    assert many.fingerprint == learner.fingerprint
    np.testing.assert_array_equal(many.predict(many.load(parts), X), whole)
    few = [X.iloc[i : i + 1] if hasattr(X, "iloc") else X[i : i + 1] for i in range(5)]
    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(lambda rows: learner.predict(state, rows), few * 4))
    np.testing.assert_array_equal(np.concatenate(alone), np.concatenate([whole[:5]] * 4))


def test_two_shards_train_side_by_side_as_one_after_the_other(train):
    cases = ["binary", "multiclass", "categories", "own objective"] * 3

    def trained(case):
        model, X, y, weight = SLICED[case]
        return train(resolve(model), X, y, N_SLICES, weight)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(trained, cases)) == list(map(trained, cases))


def test_each_step_draws_its_own_rows_and_columns(steps_of):
    learner = resolve(XGBClassifier(**SAMPLED))
    (first, _), (second, _) = [(step.seeded(3), batch) for batch, step in steps_of(X, BINARY, 2)]
    assert first != second
    assert learner.fingerprint != resolve(XGBClassifier(**SAMPLED).set_params(random_state=4)).fingerprint


@pytest.mark.parametrize(
    ("params", "bins"),
    [
        ({}, [COARSE, None, None, None]),
        ({"max_bin": 99}, [99, 99, 99, 99]),
        ({"tree_method": "approx"}, [None, None, None, None]),
    ],
)
def test_bins_are_coarse_until_they_are_renewed_unless_their_number_is_given(params, bins, steps_of):
    native = XGBClassifier(n_estimators=8, **params)
    assert [for_step(native, batch, step).max_bin for batch, step in steps_of(X, BINARY, 4)] == bins


def test_numbers_beyond_single_precision_are_refused_as_by_the_bare_model(train):
    rows = np.nan_to_num(X)
    rows[7, 1] = 1e300
    model = XGBClassifier(**SMALL)
    for fit in (model.fit, lambda rows, y: train(resolve(model), rows, y, 4)):
        with pytest.raises(XGBoostError, match="inf"):
            fit(rows, BINARY)


@pytest.mark.parametrize("case", ["binary", "multiclass", "regression", "categories", "sparse", "approx", "exact"])
def test_slices_predict_about_as_well_as_the_bare_model(case, train):
    model, X, y, weight = SLICED[case]
    model = copy.deepcopy(model).set_params(n_estimators=40)
    learner = resolve(model)
    predictions = [
        learner.predict(learner.load(train(learner, X, y, n_slices, weight)[-1]), X) for n_slices in (1, N_SLICES)
    ]
    if isinstance(model, XGBRegressor):
        errors = [np.abs(p - y).mean() for p in predictions]
        assert errors[1] < 2 * errors[0] + 0.1
    else:
        hits = [(p.argmax(axis=1) == y).mean() for p in predictions]
        assert hits[1] > hits[0] - 0.1


def test_a_category_that_comes_late_is_not_taken_for_another(train):
    codes = np.repeat([0, 1, 0, 2, 0, 3, 0, 4], 50)
    letters = pd.DataFrame({"letter": pd.Categorical.from_codes(codes, categories=list("abcde"))})
    y = (codes == 4).astype(float)
    learner = resolve(XGBRegressor(n_estimators=40, enable_categorical=True, max_cat_to_onehot=1))
    predicted = learner.predict(learner.load(train(learner, letters, y, 4)[-1]), letters)
    assert predicted[codes == 4].min() > 0.5 > predicted[codes != 4].max()


def test_steps_after_the_last_slice_go_on_from_it(steps_of):
    learner = resolve(XGBClassifier(**SAMPLED))
    classes = np.unique(BINARY)
    ((whole, step),) = steps_of(X[:120], BINARY[:120], 1, classes=classes)
    state = learner.train(None, whole, step)
    later = Step(0, 1, Fraction(1), Fraction(2), Fraction(2), 99)
    runs = [
        learner.save(
            learner.train(
                learner.load(learner.save(state)), Batch(X, BINARY, None, 120, classes, np.ones(N), X, scratch), later
            )
        )
        for scratch in ({}, whole.scratch)
    ]
    assert runs[0] == runs[1]
    assert learner.load(runs[0]).booster.num_boosted_rounds() == 16


def test_early_stopping_watches_held_out_rows_of_the_prefix(steps_of):
    model = XGBClassifier(n_estimators=60, random_state=0, early_stopping_rounds=3)
    learner = resolve(model)
    noisy = np.where(RNG.uniform(size=N) < 0.2, 1 - BINARY, BINARY)
    ((batch, step),) = steps_of(X, noisy, 1, classes=np.arange(2))
    state = learner.train(None, batch, step)
    out = batch.u < 0.1
    bare = XGBClassifier(n_estimators=60, early_stopping_rounds=3, n_jobs=1, random_state=step.seeded(0))
    bare.fit(X[~out], noisy[~out], eval_set=[(X[out], noisy[out])], verbose=False)
    assert state.booster.num_boosted_rounds() == bare.best_iteration + 1 < 60
    np.testing.assert_array_equal(learner.predict(learner.load(learner.save(state)), X), bare.predict_proba(X))


@pytest.mark.parametrize("u", [np.zeros(N), np.ones(N), np.where(BINARY == 1, 0.0, 1.0)])
def test_early_stopping_leaves_rows_of_each_class_to_train_on(u, steps_of):
    learner = resolve(XGBClassifier(**SMALL, early_stopping_rounds=2))
    ((batch, step),) = steps_of(X, BINARY, 1, classes=np.arange(2))
    state = learner.train(None, Batch(X, BINARY, WEIGHTS, 0, np.arange(2), u, X), step)
    assert state.booster.num_boosted_rounds() == 8
    assert batch.n_old == 0


def test_a_softmax_objective_also_fits_a_prefix_of_two_classes(train):
    for objective in ("multi:softprob", "multi:softmax"):
        learner = resolve(XGBClassifier(**SMALL, objective=objective))
        predicted = learner.predict(learner.load(train(learner, X, BINARY, 2)[-1]), X)
        assert predicted.shape == (N, 2)
        np.testing.assert_allclose(predicted.sum(axis=1), 1, rtol=1e-6)


def test_a_fitted_model_is_taken_as_unfitted(train):
    model = XGBClassifier(**SAMPLED)
    fresh = train(resolve(model), X, BINARY, 2)
    booster = model.fit(X, BINARY).get_booster().save_raw("ubj")
    assert train(resolve(model), X, BINARY, 2) == fresh
    assert model.get_booster().save_raw("ubj") == booster
