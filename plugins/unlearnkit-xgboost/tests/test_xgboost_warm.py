"""A base: its margin is where training begins, and its trees are part of the model."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from xgboost import Booster, XGBClassifier, XGBRegressor

from unlearnkit import SISAClassifier
from unlearnkit.adapters import resolve
from unlearnkit.errors import CapabilityError, ParameterError, StateError
from unlearnkit.learner import Batch, Step

SMALL = {"n_estimators": 4, "max_depth": 3}
LABELS = np.array(["a", "b", "c"])
WHOLE = Step(0, 0, Fraction(0), Fraction(1), Fraction(1), 5)


def batch(X, y, classes=None):
    return Batch(X, y, None, 0, classes, np.linspace(0, 0.99, len(y)), X)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    return X, np.digitize(X[:, 0] + X[:, 1] * X[:, 2], [-0.5, 0.7])


@pytest.fixture(scope="module")
def public(rows):
    X, y = rows
    return XGBClassifier(n_estimators=5, max_depth=3, num_parallel_tree=2, subsample=0.7, random_state=1).fit(X, y)


def started(learner, parts, classes):
    return learner.load(learner.save(learner.start(parts, classes)))


@pytest.mark.parametrize("objective", ["binary:logistic", "multi:softprob", "multi:softmax"])
@pytest.mark.parametrize("places", [[0, 1, 2], [0, 1], [0, 2], [1, 2]])
def test_a_shard_of_some_classes_starts_from_their_conditional_probabilities(places, objective, rows, public):
    X, y = rows
    learner = resolve(XGBClassifier(**SMALL, objective=objective))
    parts = learner.pack_base(public, 4, LABELS)
    start = started(learner, parts, LABELS[places])
    known = public.predict_proba(X)[:, places]
    assert np.allclose(learner.predict(start, X), known / known.sum(axis=1, keepdims=True), atol=1e-6)
    kept = np.isin(y, places)
    state = learner.train(start, batch(X[kept], np.searchsorted(places, y[kept]), LABELS[places]), WHOLE)
    assert learner.predict(state, X).shape == (300, len(places))
    assert learner.save(state)["trees-00000"] == learner.save(start)["trees-00000"]


def test_several_of_more_classes_keep_their_trees(rows):
    X, _ = rows
    y = np.digitize(X[:, 0], [-1, 0, 1])
    base, learner = XGBClassifier(**SMALL).fit(X, y), resolve(XGBClassifier(**SMALL))
    start = started(learner, learner.pack_base(base, 4, np.arange(4)), np.array([0, 2, 3]))
    known = base.predict_proba(X)[:, [0, 2, 3]]
    assert np.allclose(learner.predict(start, X), known / known.sum(axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("kind", [XGBClassifier, XGBRegressor])
def test_training_goes_on_as_xgboost_does_from_a_model(kind, rows):
    X, y = rows
    y = y if kind is XGBClassifier else X[:, 0] + X[:, 1]
    base = kind(n_estimators=3, max_depth=2).fit(X[:90], y[:90])
    # Over bins XGBoost itself looks up the trees of the base by the bins of the new rows; here they see the rows.
    params = {**SMALL, "tree_method": "exact"}
    learner = resolve(kind(**params))
    labels = LABELS if kind is XGBClassifier else None
    state = learner.train(started(learner, learner.pack_base(base, 4, labels), labels), batch(X, y, labels), WHOLE)
    bare = kind(**params).fit(X, y, xgb_model=base)
    expected = bare.predict_proba(X) if labels is not None else bare.predict(X)
    assert np.allclose(learner.predict(state, X), expected, atol=1e-5)


def test_categories_of_the_rows_go_with_a_base_of_numbers(rows):
    X, y = rows
    coded = np.column_stack([X[:, :3], X[:, 3] <= 0])
    base = XGBClassifier(n_estimators=3, max_depth=2).fit(coded, y)
    words = pd.Categorical(np.where(X[:, 3] > 0, "u", "v"), categories=["u", "v", "w"])
    frame = pd.DataFrame(X, columns=list("abcd")).assign(d=words)
    learner = resolve(XGBClassifier(**SMALL, enable_categorical=True))
    start = started(learner, learner.pack_base(base, 4, LABELS), LABELS)
    state = learner.load(learner.save(learner.train(start, batch(frame, y, LABELS), WHOLE)))
    assert np.allclose(learner.predict(start, frame), base.predict_proba(coded), atol=1e-6)
    assert (learner.predict(state, frame).argmax(axis=1) == y).mean() > base.score(coded, y)


@pytest.mark.parametrize("n_slices", [1, 3])
def test_forgetting_from_a_base_leaves_the_bytes_of_a_fit_without(n_slices, rows, public):
    X, y = rows
    ids, some = np.arange(300), slice(0, 40)
    model = SISAClassifier(XGBClassifier(**SMALL), n_shards=2, n_slices=n_slices, random_state=0, base=public)
    model.fit(X[some], LABELS[y[some]], ids=ids[some]).forget([3, 17])
    kept = np.setdiff1d(ids[some], [3, 17])
    fresh = model.pinned().fit(X[kept], LABELS[y[kept]], ids=kept)
    assert fresh.model_digest_ == model.model_digest_
    assert np.array_equal(fresh.predict_proba(X), model.predict_proba(X))
    cold = SISAClassifier(XGBClassifier(**SMALL), n_shards=2, n_slices=n_slices, random_state=0)
    cold.fit(X[some], LABELS[y[some]], ids=ids[some])
    assert model.score(X[40:], LABELS[y[40:]]) > cold.score(X[40:], LABELS[y[40:]])


def test_equal_bases_give_equal_parts_however_they_come(rows, public):
    learner = resolve(XGBClassifier(**SMALL))
    parts = learner.pack_base(public, 4, LABELS)
    booster = public.get_booster()
    assert learner.pack_base(booster, 4, LABELS) == parts
    named = Booster(model_file=bytearray(booster.save_raw("ubj")))
    named.feature_names = list("abcd")
    named.set_attr(note="trained in spring")
    assert learner.pack_base(named, 4, LABELS) == parts
    assert named.feature_names == list("abcd")


def test_a_base_that_stopped_early_ends_at_its_best_round(rows):
    X, y = rows
    base = XGBClassifier(n_estimators=40, early_stopping_rounds=2, learning_rate=1.0)
    base.fit(X[:150], y[:150], eval_set=[(X[150:], y[150:])], verbose=False)
    assert base.best_iteration + 1 < base.get_booster().num_boosted_rounds()
    learner = resolve(XGBClassifier(**SMALL))
    start = started(learner, learner.pack_base(base, 4, LABELS), LABELS)
    assert np.allclose(learner.predict(start, X), base.predict_proba(X), atol=1e-6)


def fitted(kind=XGBClassifier, **params):
    rng = np.random.default_rng(0)
    return kind(**{**SMALL, **params}).fit(rng.normal(size=(60, 4)), np.arange(60) % 3)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (XGBClassifier, "not fitted"),
        (lambda: "model.ubj", "it is a str"),
        (lambda: fitted(booster="dart"), "its booster is dart"),
        (lambda: fitted(XGBRegressor), "trained for reg:squarederror, and the model is for multi:softprob"),
        (lambda: fitted(multi_strategy="multi_output_tree"), "all classes at once"),
        (lambda: XGBClassifier().fit(np.eye(4), [0, 1, 2, 3]), "it knows 4 classes, and y has 3"),
        (lambda: XGBClassifier().fit(np.eye(5)[:3], [0, 1, 2]), "trained on 5 features, and X has 4"),
        (
            lambda: XGBClassifier(enable_categorical=True).fit(
                pd.DataFrame({n: pd.Categorical(list("xyz") * 5) for n in "abcd"}), np.arange(15) % 3
            ),
            "vocabulary",
        ),
    ],
)
def test_a_base_that_does_not_fit_is_refused(base, message):
    with pytest.raises(ParameterError, match=message):
        resolve(XGBClassifier(**SMALL)).pack_base(base(), 4, LABELS)


def test_parameters_that_cannot_start_warm_refuse(public):
    with pytest.raises(CapabilityError, match="dart rescales"):
        resolve(XGBClassifier(booster="dart")).pack_base(public, 4, LABELS)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("model", b"base_score", b"base_scare"),
        ("labels", b'"b",', b""),
        ("labels", b'"b"', b'"x"'),
        ("labels", b'"b"', b"2"),
    ],
)
def test_tampered_bases_are_state_errors(name, old, new, public):
    learner = resolve(XGBClassifier(**SMALL))
    parts = learner.pack_base(public, 4, LABELS)
    assert old in parts[name]
    with pytest.raises(StateError):
        learner.start({**parts, name: parts[name].replace(old, new, 1)}, LABELS[:2])
