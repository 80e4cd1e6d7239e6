"""Stored bytes: read with bounds, written canonically, never believed."""

import random
import struct

import numpy as np
import pandas as pd
import pytest
from xgboost import XGBClassifier, XGBRegressor

from unlearnkit.adapters import resolve
from unlearnkit.errors import StateError
from unlearnkit_xgboost import ubjson
from unlearnkit_xgboost.ubjson import Packed, Single

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4))
Y = (X[:, 0] > 0).astype(np.int64)
FRAME = pd.DataFrame({"x": X[:, 0], "c": pd.Categorical.from_codes(RNG.integers(0, 4, 200), categories=list("dcba"))})
SMALL = {"n_estimators": 4, "max_depth": 3, "n_jobs": 1}
MODELS = {
    "plain": (XGBClassifier(**SMALL), X, Y, 2),
    "categories": (XGBClassifier(**SMALL, enable_categorical=True), FRAME, Y, 2),
    "vector leaves": (XGBRegressor(**SMALL, multi_strategy="multi_output_tree"), X, X[:, :2] * 3, 2),
    "dart": (XGBClassifier(**SMALL, booster="dart"), X, Y, 1),
    "linear": (XGBRegressor(n_estimators=4, n_jobs=1, booster="gblinear"), X, X[:, 0], 1),
}


@pytest.fixture(params=MODELS)
def stored(request, train):
    model, X, y, n_slices = MODELS[request.param]
    learner = resolve(model)
    return learner, X, train(learner, X, y, n_slices)[-1]


@pytest.fixture
def plain(train):
    learner = resolve(XGBClassifier(**SMALL))
    return learner, train(learner, X, Y, 2)[-1]


def test_bytes_of_xgboost_come_back_as_they_were():
    for model in (XGBClassifier(n_estimators=150, max_depth=2), XGBClassifier(**SMALL, booster="dart")):
        raw = bytes(model.fit(X, Y).get_booster().save_raw("ubj"))
        assert ubjson.write(ubjson.read(raw)) == raw


def test_the_parts_together_are_one_native_model(plain):
    learner, parts = plain
    state = learner.load(parts)
    assert len(state.booster.get_dump()) == 4
    assert state.booster.save_raw("ubj") == learner.load(learner.save(state)).booster.save_raw("ubj")


def test_every_value_survives():
    document = {"a": [None, True, False, -5, 127, 300, -(2**40), 0.5, Single(struct.pack(">f", 1.5)), "ä"], "b": {}}
    document["c"] = Packed("l", struct.pack(">3i", 1, 2, -3))
    assert ubjson.read(ubjson.write(document)) == document
    np.testing.assert_array_equal(document["c"].numbers(), [1, 2, -3])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"junk",
        b"[",
        b"SL" + struct.pack(">q", 2**62),
        b"SL" + struct.pack(">q", -1),
        b"[#L" + struct.pack(">q", 2**62),
        b"[#L" + struct.pack(">q", 3) + b"ZZ",
        b"[$d#L" + struct.pack(">q", 2**61),
        b"[$x#L" + struct.pack(">q", 1) + b"1",
        b"[#d\0\0\0\0",
        b"[#i\x01" * 100,
        b"ZZ",
        b"SL" + struct.pack(">q", 1) + b"\xff",
        b"{i\x01aZi\x01aZ}",
    ],
)
def test_nonsense_is_refused(data):
    with pytest.raises(StateError, match="nothing in it was used"):
        ubjson.read(data)


@pytest.mark.parametrize("data", [b"", b"\x80\x04cos\nsystem\n", b"{}", b"{L\0\0\0\0\0\0\0\x07learner{}}", b"[#i\x00"])
def test_parts_that_are_no_model_are_refused(data, plain):
    learner, parts = plain
    for name in parts:
        with pytest.raises(StateError):
            learner.predict(learner.load({**parts, name: data}), X)
    with pytest.raises(StateError):
        learner.load({})


def changed(parts, name, change):
    document = ubjson.read(parts[name])
    change(document)
    return {**parts, name: ubjson.write(document)}


def point(tree, name, i, value):
    numbers = tree[name].numbers().copy()
    numbers[i] = value
    tree[name] = Packed(tree[name].kind, numbers.tobytes())


def pointing(parts, tree, name, i, value):
    """The parts of a model of two steps, of which the second has a tree whose node `i` says something else."""
    return changed(parts, "trees-00001", lambda part: point(part["trees"][tree], name, i, value))


@pytest.mark.parametrize(
    ("name", "i", "value"),
    [
        ("left_children", 0, 10**6),
        ("left_children", 1, 0),
        ("right_children", 0, 0),
        ("split_indices", 0, 4),
        ("split_indices", 0, -1),
    ],
)
@pytest.mark.parametrize("tree", [0, -1])
def test_trees_that_lead_nowhere_or_in_circles_are_refused(plain, name, i, value, tree):
    learner, parts = plain
    with pytest.raises(StateError):
        learner.predict(learner.load(pointing(parts, tree, name, i, value)), X)


def test_trees_are_checked_at_every_door(plain, steps_of):
    """Not when they are loaded: whoever uses them first has them checked, however few of them."""
    learner, parts = plain
    hostile = learner.load(pointing(parts, 0, "left_children", 0, 10**6))
    _, (later, step) = steps_of(X, Y, 2, classes=np.unique(Y))
    with pytest.raises(StateError):
        hostile.since(1)
    with pytest.raises(StateError):
        learner.joined([learner.load(parts), hostile])
    with pytest.raises(StateError):
        learner.train(learner.load({"model": parts["model"]}), later, step)
    with pytest.raises(StateError):
        learner.train(hostile, later, step)
    # The margin of the first step is known, so that only the trees of the second are read.
    first = {name: part for name, part in parts.items() if name != "trees-00001"}
    learner.train(learner.load(first), later, step)
    assert later.scratch["margin"][1] == learner.load(first).steps
    with pytest.raises(StateError):
        learner.train(hostile, later, step)


@pytest.mark.parametrize("value", ["1999999999", float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["num_class", "num_target", "num_feature"])
def test_absurd_counts_allocate_nothing(stored, name, value):
    learner, rows, parts = stored
    absurd = changed(parts, "model", lambda d: d["learner"]["learner_model_param"].update({name: value}))
    with pytest.raises(StateError):
        learner.predict(learner.load(absurd), rows)


def sized(parts, name, value):
    return changed(parts, "trees-00001", lambda p: p["trees"][0]["tree_param"].update({name: value}))


@pytest.mark.parametrize("name", ["num_nodes", "size_leaf_vector", "num_feature", "num_deleted"])
def test_a_tree_of_absurd_size_is_refused(plain, name):
    learner, parts = plain
    with pytest.raises(StateError):
        learner.predict(learner.load(sized(parts, name, float("inf"))), X)


def test_categories_out_of_order_are_refused(train):
    model, frame, y, n_slices = MODELS["categories"]
    learner = resolve(model)
    parts = train(learner, frame, y, n_slices)[-1]
    with pytest.raises(StateError):
        learner.predict(learner.load(changed(parts, "model", lambda d: point(cats(d), "sorted_idx", 0, 10**6))), frame)
    with pytest.raises(StateError):
        learner.predict(
            learner.load(changed(parts, "model", lambda d: point(cats(d)["enc"][1], "offsets", 2, 10**6))), frame
        )


def cats(document):
    return document["learner"]["gradient_booster"]["model"]["cats"]


def test_damaged_bytes_are_refused_or_harmless(stored):
    learner, rows, parts = stored
    dice = random.Random(3)
    refused = 0
    for _ in range(150):
        name = dice.choice(sorted(set(parts) - {"edges"}))
        damaged = bytearray(parts[name])
        damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        try:
            accepts_rows(learner, learner.load({**parts, name: bytes(damaged)}), rows)
        except StateError:
            refused += 1
    assert refused > 20


def accepts_rows(learner, state, rows):
    try:
        learner.predict(state, rows)
    except ValueError as error:
        if "feature_names mismatch" not in str(error):
            raise
