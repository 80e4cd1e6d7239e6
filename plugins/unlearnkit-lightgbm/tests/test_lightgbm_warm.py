"""A base: its raw scores are where training begins, and its trees are part of the model."""

import lightgbm
import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor

from unlearnkit import SISAClassifier
from unlearnkit.adapters import resolve
from unlearnkit.errors import CapabilityError, ParameterError, StateError

SMALL = {"n_estimators": 5, "num_leaves": 6, "min_child_samples": 5, "verbose": -1}
LABELS = np.array([10, 20, 30])


@pytest.fixture(scope="module")
def public(drive):
    rows = drive.rows_for("multiclass")
    return rows, LGBMClassifier(**SMALL).fit(rows.X, LABELS[rows.y])


def started(learner, parts, classes):
    return learner.load(learner.save(learner.start(parts, classes)))


@pytest.mark.parametrize("objective", [None, "multiclass"])
@pytest.mark.parametrize("places", [[0, 1, 2], [0, 1], [0, 2], [1, 2]])
@pytest.mark.parametrize("linear_tree", [False, True])
def test_a_shard_of_some_classes_starts_from_their_conditional_probabilities(
    linear_tree, places, objective, public, drive
):
    rows, _ = public
    base = LGBMClassifier(**SMALL, linear_tree=linear_tree).fit(rows.X, LABELS[rows.y])
    learner = drive.wrap(objective=objective)
    parts = learner.pack_base(base, 5, LABELS)
    start = started(learner, parts, LABELS[places])
    known = base.predict_proba(rows.X)[:, places]
    assert np.allclose(learner.predict(start, rows.X), known / known.sum(axis=1, keepdims=True))
    kept = np.isin(rows.y, places)
    own = drive.Rows(rows.X[kept], np.searchsorted(places, rows.y[kept]), LABELS[places])
    state = learner.train(start, drive.batch_of(own, kept.sum(), 0, {}), drive.step_of(0, 1))
    assert learner.predict(state, rows.X).shape == (360, len(places))
    assert learner.save(state)["trees-0000"] == learner.save(start)["trees-0000"]


def test_several_of_more_classes_keep_their_trees(drive):
    X, signal = drive.numbers()
    y = np.digitize(signal, [-1, 0, 1.5])
    base, learner = LGBMClassifier(**SMALL).fit(X, y), drive.wrap()
    start = started(learner, learner.pack_base(base, 5, np.arange(4)), np.array([0, 2, 3]))
    known = base.predict_proba(X)[:, [0, 2, 3]]
    assert np.allclose(learner.predict(start, X), known / known.sum(axis=1, keepdims=True))


def test_training_goes_on_as_lightgbm_does_from_an_init_score(drive):
    rows = drive.rows_for("real")
    base = LGBMRegressor(**SMALL).fit(rows.X[:100], rows.y[:100])
    learner = drive.wrap("LGBMRegressor", n_estimators=4)
    start = started(learner, learner.pack_base(base, 5, None), None)
    state = learner.train(start, drive.batch_of(rows, 360, 0, {}), drive.step_of(0, 1))
    bare = LGBMRegressor(
        **{**SMALL, "n_estimators": 4}, boost_from_average=False, deterministic=True, force_row_wise=True, n_jobs=1
    )
    scores = base.predict(rows.X)
    bare.set_params(random_state=drive.step_of(0, 1).seeded(None)).fit(rows.X, rows.y, init_score=scores)
    assert np.allclose(learner.predict(state, rows.X), bare.predict(rows.X) + scores)


@pytest.mark.parametrize("n_slices", [1, 3])
def test_forgetting_from_a_base_leaves_the_bytes_of_a_fit_without(n_slices, public):
    rows, base = public
    frame = pd.DataFrame(rows.X, columns=list("abcde"))
    # The last slices alone have all classes, so some steps start from a part of the base.
    y, ids = LABELS[rows.y], np.arange(360)
    some = slice(0, 40)
    model = SISAClassifier(LGBMClassifier(**SMALL), n_shards=2, n_slices=n_slices, random_state=0, base=base)
    model.fit(frame[some], y[some], ids=ids[some]).forget([3, 17])
    kept = np.setdiff1d(ids[some], [3, 17])
    fresh = model.pinned().fit(frame.iloc[kept], y[kept], ids=kept)
    assert fresh.model_digest_ == model.model_digest_
    assert np.array_equal(fresh.predict_proba(frame), model.predict_proba(frame))
    cold = SISAClassifier(LGBMClassifier(**SMALL), n_shards=2, n_slices=n_slices, random_state=0)
    cold.fit(frame[some], y[some], ids=ids[some])
    assert model.score(frame[40:], y[40:]) > cold.score(frame[40:], y[40:])


def test_equal_bases_give_equal_parts_however_they_come(public, drive):
    _, base = public
    parts = drive.wrap().pack_base(base, 5, LABELS)
    assert drive.wrap().pack_base(base.booster_, 5, LABELS) == parts
    assert drive.wrap().pack_base(lightgbm.Booster(model_str=base.booster_.model_to_string()), 5, LABELS) == parts


def fitted(kind=LGBMClassifier, **params):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 5)), np.arange(80) % 3
    target = y if kind is LGBMClassifier else y + 1.0
    return kind(**{**SMALL, **params}).fit(X, target)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (LGBMClassifier, "not fitted"),
        (lambda: "model.txt", "it is a str"),
        (fitted, "its classes are"),
        (lambda: fitted(LGBMRegressor), "trained for regression, and the model is for multiclass num_class:3"),
        (lambda: fitted().booster_, "trained on 5 features, and X has 4"),
        (lambda: fitted(boosting_type="rf", subsample=0.5, subsample_freq=1).booster_, "averaged"),
        (
            lambda: LGBMClassifier(**SMALL).fit(
                pd.DataFrame({"a": pd.Categorical(list("xyz") * 20)}), np.arange(60) % 3
            ),
            "vocabulary",
        ),
    ],
)
def test_a_base_that_does_not_fit_is_refused(base, message, drive):
    with pytest.raises(ParameterError, match=message):
        drive.wrap().pack_base(base(), 4 if "features" in message else 5, LABELS)


def test_parameters_that_cannot_start_warm_refuse(public):
    _, base = public
    forest = resolve(LGBMClassifier(boosting_type="rf", subsample=0.5, subsample_freq=1))
    with pytest.raises(CapabilityError, match="cannot be continued"):
        forest.pack_base(base, 5, LABELS)
    with pytest.raises(ParameterError, match="sigmoid"):
        resolve(LGBMClassifier(sigmoid=2.0)).pack_base(base, 5, LABELS)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("trees", b"split_feature=", b"split_feature=9 "),
        ("trees", b"Tree=14\n", b"Tree=14\n\n\n\nTree=15\n"),
        ("header", b"max_feature_idx=4", b"max_feature_idx=999999999"),
        ("header", b"num_class:3", b"num_class:4"),
        ("labels", b'"20",', b""),
        ("labels", b'"20"', b'"21"'),
        ("labels", b'"20"', b"20"),
    ],
)
def test_tampered_bases_are_state_errors(name, old, new, public, drive):
    _, base = public
    learner = drive.wrap()
    parts = learner.pack_base(base, 5, LABELS)
    assert old in parts[name]
    with pytest.raises(StateError):
        learner.start({**parts, name: parts[name].replace(old, new, 1)}, LABELS)
