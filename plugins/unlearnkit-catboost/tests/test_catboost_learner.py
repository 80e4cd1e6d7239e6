"""Steps of the CatBoost learner: exact on resume, blind to later rows, and with one slice the bare model."""

import itertools
import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from catboost import CatBoostClassifier, CatBoostRegressor

from unlearnkit import SISAClassifier, SISARegressor
from unlearnkit.adapters import resolve
from unlearnkit.errors import DataTypeError, ParameterError
from unlearnkit_catboost.model import Trees

N = 240
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 5))
X[RNG.uniform(size=X.shape) < 0.05] = np.nan
SIGNAL = np.nan_to_num(X[:, 0] + X[:, 1] * X[:, 2])
BINARY = np.where(SIGNAL > 0.2, "yes", "no")
TRIPLE = np.digitize(SIGNAL, [-0.5, 0.5]) * 10
VALUES = SIGNAL + 0.1 * RNG.normal(size=N) + 5
TWO_VALUES = np.column_stack([VALUES, -2 * VALUES])
WEIGHTS = RNG.uniform(0.5, 2.0, size=N)
LETTERS = RNG.integers(0, 9, N)
FRAME = pd.DataFrame(
    {
        "letter": pd.Categorical.from_codes(LETTERS, list("zyxwvutsr")),
        "a": X[:, 0],
        "shop": RNG.choice(["north", "south", "east", None], N),
        "count": RNG.integers(0, 5, N),
        "yes": np.nan_to_num(X[:, 1]) > 0,
    }
)
LETTER_SIGNAL = LETTERS % 3 + SIGNAL > 1
SPARSE = scipy.sparse.csr_matrix(np.where(np.isnan(X) | (np.abs(X) < 0.5), 0.0, X))
SMALL = {"iterations": 8, "depth": 3, "random_seed": 3, "thread_count": 1}
QUIET = {"logging_level": "Silent", "allow_writing_files": False}

SLICED = {
    "binary": (CatBoostClassifier(**SMALL), X, BINARY, None),
    "binary, weights": (CatBoostClassifier(**SMALL, scale_pos_weight=3), X, BINARY, WEIGHTS),
    "class weights": (CatBoostClassifier(**SMALL, class_weights=(1, 4)), X, BINARY, None),
    "balanced": (CatBoostClassifier(**SMALL, auto_class_weights="Balanced"), X, TRIPLE, WEIGHTS),
    "multiclass": (CatBoostClassifier(**SMALL, rsm=0.6), X, TRIPLE, None),
    "one against all": (CatBoostClassifier(**SMALL, loss_function="MultiClassOneVsAll"), X, TRIPLE, None),
    "ordered": (CatBoostClassifier(**SMALL, boosting_type="Ordered"), FRAME, BINARY, None),
    "depthwise": (CatBoostClassifier(**SMALL, grow_policy="Depthwise"), X, BINARY, WEIGHTS),
    "leaf-wise": (CatBoostClassifier(**SMALL, grow_policy="Lossguide", max_leaves=5), X, BINARY, None),
    "bayesian": (CatBoostClassifier(**SMALL, bootstrap_type="Bayesian", bagging_temperature=2), X, BINARY, None),
    "regression": (CatBoostRegressor(**SMALL), X, VALUES, WEIGHTS),
    "no average": (CatBoostRegressor(**SMALL, boost_from_average=False), X, VALUES, None),
    "quantile": (CatBoostRegressor(**SMALL, loss_function="Quantile:alpha=0.3"), X, VALUES, None),
    "poisson": (CatBoostRegressor(**SMALL, loss_function="Poisson"), X, np.abs(VALUES), None),
    "constraints": (CatBoostRegressor(**SMALL, monotone_constraints="(1,0)"), FRAME[["a", "count"]], VALUES, None),
    "categories": (CatBoostClassifier(**SMALL, max_ctr_complexity=2), FRAME, LETTER_SIGNAL, WEIGHTS),
    "categories of three": (CatBoostClassifier(**SMALL), FRAME, TRIPLE, None),
    "categories, regression": (CatBoostRegressor(**SMALL), FRAME, VALUES, None),
    "categories, one-hot": (CatBoostRegressor(**SMALL, one_hot_max_size=99), FRAME, VALUES, None),
    "numbers as categories": (CatBoostClassifier(**SMALL, cat_features=("count",)), FRAME, BINARY, None),
    "sparse": (CatBoostClassifier(**SMALL), SPARSE, BINARY, None),
}
SINGLE = {
    "langevin": (CatBoostRegressor(**SMALL, langevin=True), X, VALUES, WEIGHTS),
    "shrinking": (CatBoostClassifier(**SMALL, model_shrink_rate=0.1), X, TRIPLE, None),
    "first use": (CatBoostRegressor(**SMALL, first_feature_use_penalties="0:1.0,1:1.0"), X, VALUES, None),
    "two targets": (CatBoostRegressor(**SMALL, loss_function="MultiRMSE"), X, TWO_VALUES, None),
}
# CatBoost takes category columns and missing values in them only when they are text.
BARE = {name: SLICED[name] for name in SLICED if SLICED[name][1] is not FRAME} | SINGLE


def estimator(model, n_slices):
    kind = SISAClassifier if isinstance(model, CatBoostClassifier) else SISARegressor
    return kind(model, n_shards=2, n_slices=n_slices, random_state=1)


def answers(model, rows):
    return model.predict_proba(rows) if hasattr(model, "predict_proba") else model.predict(rows)


def pick(rows, chosen):
    return rows.loc[chosen] if hasattr(rows, "loc") else rows[chosen]


@pytest.mark.parametrize("name", SLICED | SINGLE)
def test_forget_equals_refit(name):
    model, rows, y, weight = (SLICED | SINGLE)[name]
    ids, gone = np.arange(N) // 2, [3, 50, 91]
    keep = ~np.isin(ids, gone)
    kept_weight = None if weight is None else weight[keep]
    fitted = estimator(model, 3 if name in SLICED else 1).fit(rows, y, weight, ids=ids)
    before = fitted.model_digest_
    fitted.forget(gone)
    reference = fitted.pinned().fit(pick(rows, keep), y[keep], kept_weight, ids=ids[keep])
    assert fitted.model_digest_ == reference.model_digest_ != before
    np.testing.assert_array_equal(answers(fitted, rows), answers(reference, rows))


@pytest.mark.parametrize("name", SLICED)
def test_later_rows_and_scratch_leave_no_trace(name, train):
    model, rows, y, weight = SLICED[name]
    learner = resolve(model)
    ends = [90, 160, N]
    stored = train(learner, rows, y, 3, weight, ends=ends)
    assert train(learner, rows, y, 3, weight, ends=ends, keep_scratch=False) == stored
    labels = set(y.tolist())
    assert learner.capabilities.task == "regression" or set(y[:160].tolist()) == labels
    short = train(
        learner, pick(rows, np.arange(N) < 160), y[:160], 3, None if weight is None else weight[:160], ends=ends[:2]
    )
    assert short == stored[:2]


@pytest.mark.parametrize("name", BARE)
def test_one_slice_is_the_bare_model(name, train, first_step):
    model, rows, y, weight = BARE[name]
    learner = resolve(model)
    parts = train(learner, rows, y, 1, weight)[-1]
    bare = type(model)(**model.get_params() | QUIET | {"random_seed": first_step.seeded(3)})
    bare.fit(rows, y, sample_weight=weight)
    expected = bare.predict_proba(rows) if learner.capabilities.probabilities else bare.predict(rows)
    predicted = learner.predict(learner.load(parts), rows)
    if learner.capabilities.task == "classification" and not learner.capabilities.probabilities:
        expected = np.asarray(expected == bare.classes_, dtype=float)
    np.testing.assert_allclose(predicted, expected, rtol=1e-12, atol=1e-15)


def test_categories_are_what_text_is_to_the_bare_model(train, first_step):
    frame = FRAME.drop(columns="shop")
    parts = train(resolve(CatBoostClassifier(**SMALL)), frame, LETTER_SIGNAL, 1)[-1]
    bare = CatBoostClassifier(**SMALL | QUIET | {"random_seed": first_step.seeded(3)})
    bare.fit(frame.astype({"letter": str}), LETTER_SIGNAL, cat_features=["letter"])
    learner = resolve(CatBoostClassifier(**SMALL))
    mine = learner.predict(learner.load(parts), frame)
    np.testing.assert_allclose(mine, bare.predict_proba(frame.astype({"letter": str})), rtol=1e-12)


def test_a_category_that_is_new_is_to_the_ensemble_what_it_is_to_the_bare_model():
    """It is no missing value, which this model has learned about."""
    lost = np.arange(N) % 3 == 0
    frame = FRAME[["a", "letter"]].assign(letter=FRAME["letter"].where(~lost))
    clf = SISAClassifier(CatBoostClassifier(**SMALL), n_shards=1, n_slices=1, random_state=1).fit(frame, lost)
    (native,) = clf.estimators_[0].models
    new = frame.assign(letter=pd.Categorical(["never"] * N))
    scores = native.predict(new.astype({"letter": str}), prediction_type="RawFormulaVal")
    np.testing.assert_allclose(clf.predict_proba(new)[:, 1], 1 / (1 + np.exp(-scores)), rtol=1e-12)
    missing = frame.assign(letter=pd.Categorical([None] * N, categories=["z"]))
    assert (clf.predict_proba(missing)[:, 1] > clf.predict_proba(new)[:, 1] + 0.1).all()


def test_the_order_of_a_vocabulary_is_no_matter(train):
    frame = FRAME.assign(letter=FRAME["letter"].cat.set_categories(["never", *"rstuvwxyz"]))
    learner = resolve(CatBoostClassifier(**SMALL))
    assert train(learner, frame, LETTER_SIGNAL, 3) == train(learner, FRAME, LETTER_SIGNAL, 3)


def test_a_missing_and_an_unknown_category_are_predicted(train):
    learner = resolve(CatBoostClassifier(**SMALL))
    state = learner.load(train(learner, FRAME, LETTER_SIGNAL, 3)[-1])
    odd = FRAME.head(3).assign(letter=pd.Categorical([None, "?", "z"], categories=["z", "?"]))
    assert np.isfinite(learner.predict(state, odd)).all()


def test_a_step_has_the_learning_rate_of_the_whole_model(train, first_step):
    """CatBoost chooses it by the number of trees: a step of a third of them must not have three times as much."""
    learner = resolve(CatBoostClassifier(iterations=9, depth=3))
    first = learner.load(train(learner, X, BINARY, 3)[0])
    third = N // 3
    (model,) = first.models
    assert model.tree_count_ == 3
    bare = CatBoostClassifier(iterations=9, depth=3, thread_count=1, random_seed=first_step.seeded(None), **QUIET)
    bare.fit(X[:third], BINARY[:third])
    expected = bare.predict(X, prediction_type="RawFormulaVal", ntree_end=3)
    np.testing.assert_array_equal(model.predict(X, prediction_type="RawFormulaVal"), expected)


def test_the_trees_of_a_model_are_shared_out(train):
    learner = resolve(CatBoostClassifier(**SMALL))
    stored = train(learner, X, BINARY, 3, n_steps=4)
    trees = [[m.tree_count_ for m in learner.load(parts).models] for parts in stored]
    assert trees == [[2], [2, 3], [2, 3, 3], [2, 3, 3, 2]]


def test_a_step_leaves_earlier_parts_alone(train):
    stored = train(resolve(CatBoostClassifier(**SMALL)), X, TRIPLE, 4)
    for earlier, later in itertools.pairwise(stored):
        assert later.items() > earlier.items()


def test_rows_that_nothing_tells_apart_are_no_error(train):
    for model, y in ((CatBoostClassifier(**SMALL), BINARY), (CatBoostRegressor(**SMALL), VALUES)):
        learner = resolve(model)
        rows = np.nan_to_num(X.copy())
        rows[:80] = 1.0
        stored = train(learner, rows, y, 3)
        start = learner.predict(learner.load(stored[0]), rows)
        assert len(stored[0]) == 1
        assert len(stored[2]) == 3
        mean = y[:80].mean() if learner.capabilities.task == "regression" else (y[:80] == "yes").mean()
        np.testing.assert_allclose(start if start.ndim == 1 else start[:, 1], mean)


def test_targets_that_are_all_equal_are_no_error(train):
    learner = resolve(CatBoostRegressor(**SMALL))
    state = learner.load(train(learner, X, np.full(N, 7.5), 1)[-1])
    np.testing.assert_array_equal(learner.predict(state, X), np.full(N, 7.5))


def test_two_rows_are_enough(train):
    learner = resolve(CatBoostRegressor(**SMALL))
    for n in (1, 2, 3):
        state = learner.load(train(learner, X[:n, [3]], VALUES[:n], 1)[-1])
        assert np.isfinite(learner.predict(state, X[:, [3]])).all()


def test_nothing_is_written_to_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = CatBoostClassifier(iterations=4, train_dir="logs", allow_writing_files=True)
    estimator(model, 2).fit(X, BINARY).forget([3])
    assert list(tmp_path.iterdir()) == []


def test_threads_change_no_bit(train):
    one, many = (resolve(CatBoostClassifier(**SMALL | {"thread_count": n})) for n in (1, 4))
    parts = train(one, X, BINARY, 3)[-1]
    assert train(many, X, BINARY, 3)[-1] == parts
    assert one.fingerprint == many.fingerprint
    np.testing.assert_array_equal(one.predict(one.load(parts), X), many.predict(many.load(parts), X))


def test_steps_draw_anew(train):
    """With the same rows in two steps, one seed for both would draw the same bags."""
    learner = resolve(CatBoostRegressor(**SMALL, bootstrap_type="Bernoulli", subsample=0.5, learning_rate=1e-6))
    first, second = learner.load(train(learner, X, VALUES, 2, ends=[N, N])[-1]).models
    assert not np.allclose(first.get_leaf_values(), second.get_leaf_values(), rtol=1e-3)


@pytest.mark.parametrize(
    ("frame", "cat_features", "error"),
    [
        (FRAME, ["nowhere"], ParameterError),
        (FRAME, [5], ParameterError),
        (FRAME, ["a"], DataTypeError),
        (SPARSE, [0], DataTypeError),
        (FRAME.assign(a=pd.Timestamp("2020-01-01")), [], DataTypeError),
    ],
)
def test_features_that_do_not_suit_are_refused(frame, cat_features, error, train):
    with pytest.raises(error, match="nothing was changed"):
        train(resolve(CatBoostClassifier(**SMALL, cat_features=cat_features)), frame, BINARY, 1)


def test_class_weights_are_found_by_the_label(train, first_step):
    """The weights of a shard that has seen two of three classes, and those of the bare model."""
    weights = {20: 5.0, 0: 1.0, 10: 2.0}
    learner = resolve(CatBoostClassifier(**SMALL, class_weights=weights))
    for seen, given in (([0, 10, 20], (1.0, 2.0, 5.0)), ([10, 20], (2.0, 5.0))):
        rows, y = X[np.isin(TRIPLE, seen)], TRIPLE[np.isin(TRIPLE, seen)]
        bare = CatBoostClassifier(**SMALL | QUIET | {"random_seed": first_step.seeded(3)}, class_weights=given).fit(
            rows, y
        )
        predicted = learner.predict(learner.load(train(learner, rows, y, 1)[-1]), rows)
        np.testing.assert_allclose(predicted, bare.predict_proba(rows), rtol=1e-12)


def test_models_that_scikit_learn_cannot_clone_forget_too():
    """CatBoost copies lists and dicts that it is given, so `pinned`, which clones, is done by hand."""
    model = CatBoostClassifier(**SMALL, class_weights={"yes": 4, "no": 1}, cat_features=["count"])
    fitted = estimator(model, 3).fit(FRAME, BINARY, ids=np.arange(N))
    fitted.forget([7, 8])
    keep = ~np.isin(np.arange(N), [7, 8])
    reference = estimator(model, 3).set_params(schema=fitted.schema_)
    reference.fit(FRAME[keep], BINARY[keep], ids=np.arange(N)[keep])
    assert fitted.model_digest_ == reference.model_digest_


@pytest.mark.parametrize("name", ["multiclass", "categories", "regression", "langevin"])
def test_records_that_arrive_later_are_exact_too(name):
    """The steps of what arrives lie beyond the budget; a model of one slice starts anew."""
    model, rows, y, _ = (SLICED | SINGLE)[name]
    ids, gone = np.arange(N), [3, 50, 200, 201]
    first, keep = ids < 180, ~np.isin(ids, gone)
    fitted = estimator(model, 3 if name in SLICED else 1).fit(pick(rows, first), y[first], ids=ids[first])
    once = fitted.model_digest_
    fitted.partial_fit(pick(rows, ~first), y[~first], ids=ids[~first])
    assert fitted.model_digest_ != once
    fitted.forget(gone)
    reference = fitted.pinned().fit(pick(rows, first & keep), y[first & keep], ids=ids[first & keep])
    reference.partial_fit(pick(rows, ~first & keep), y[~first & keep], ids=ids[~first & keep])
    assert fitted.model_digest_ == reference.model_digest_
    np.testing.assert_array_equal(answers(fitted, rows), answers(reference, rows))


def test_lists_may_be_given_as_tuples(train):
    """As such scikit-learn can clone them; CatBoost itself wants lists."""
    learners = [
        resolve(CatBoostRegressor(**SMALL, monotone_constraints=kind([1, 0, 0, 0, 0]))) for kind in (list, tuple)
    ]
    assert train(learners[0], X, VALUES, 2) == train(learners[1], X, VALUES, 2)


def test_a_class_without_weight_is_refused(train):
    with pytest.raises(ParameterError, match="class_weights gives no weight for 1"):
        train(resolve(CatBoostClassifier(**SMALL, class_weights={0: 1, 10: 2})), X, TRIPLE, 1)


def test_a_state_travels_without_its_decoded_models(train):
    learner = resolve(CatBoostClassifier(**SMALL))
    state = learner.load(train(learner, X, BINARY, 2)[-1])
    before = learner.predict(state, X)
    other = pickle.loads(pickle.dumps(state))
    assert isinstance(other, Trees)
    assert "models" not in vars(other)
    np.testing.assert_array_equal(learner.predict(other, X), before)
