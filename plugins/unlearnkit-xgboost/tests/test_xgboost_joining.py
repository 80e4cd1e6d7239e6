"""Boosters that are joined give the bits that each gives by itself, and what cannot be joined is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from xgboost import XGBClassifier, XGBRegressor

from unlearnkit import joining, wrap
from unlearnkit.errors import StateError
from unlearnkit_xgboost import joint, ubjson
from unlearnkit_xgboost.document import forest

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 5)).round(1)
X[RNG.random(X.shape) < 0.1] = np.nan
VALUES = np.nan_to_num(2 * X[:, 0] - X[:, 1]) + 0.1 * RNG.normal(size=400)
TWO, THREE, SIZES = VALUES > 0, np.digitize(VALUES, [-1, 1]), np.abs(VALUES) + 0.1
FRAME = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": pd.Categorical(np.array(["x", "y", "z"])[THREE])})
SMALL = {"n_estimators": 7, "max_depth": 3}
OF_CLASSES = ("binary:logistic",)
OF_VALUES = sorted(joint.OBJECTIVES - set(OF_CLASSES))
ALIKE = {
    "two classes": (XGBClassifier(**SMALL), X, TWO),
    "another missing": (XGBClassifier(**SMALL, missing=-1.0, n_jobs=2), np.nan_to_num(X), TWO),
    "parallel trees": (XGBClassifier(**SMALL, num_parallel_tree=2, subsample=0.5), X, TWO),
    "an intercept": (XGBRegressor(**SMALL, base_score=0.3), X, VALUES),
    "frame": (XGBClassifier(**SMALL, enable_categorical=True), FRAME, TWO),
    "sparse": (XGBClassifier(**SMALL), sparse.csr_matrix(np.where(X > 0.5, X, 0)), TWO),
    **{
        o: (XGBRegressor(**SMALL, objective=o), X, 1 / (1 + SIZES) if o == "reg:logistic" else SIZES) for o in OF_VALUES
    },
}
UNLIKE = {
    "three classes": (XGBClassifier(**SMALL), X, THREE),
    "hinge": (XGBClassifier(**SMALL, objective="binary:hinge"), X, TWO),
    "two values": (XGBRegressor(**SMALL), X, np.column_stack([VALUES, -VALUES])),
    "dart": (XGBClassifier(**SMALL, booster="dart", rate_drop=0.5), X, TWO),
    "linear": (XGBRegressor(n_estimators=4, booster="gblinear"), np.nan_to_num(X), VALUES),
}


def fitted(model, features, target, **options):
    found = wrap(model, n_shards=4, random_state=0, **options).fit(features, target)
    return found._ensemble.learner, found.estimators_


def assert_alike(learner, states, features):
    together = learner.joined(states)
    for n in (1, 7, joining.FEW_ROWS):
        rows = features[:n]
        alone = [learner.predict(state, rows) for state in states]
        with learner.sharing(rows) as read:
            found = list(together(read))
        assert [(p.dtype, p.shape, p.tobytes()) for p in found] == [(p.dtype, p.shape, p.tobytes()) for p in alone]


@pytest.mark.parametrize("name", ALIKE)
def test_bits_are_the_same(name):
    model, features, target = ALIKE[name]
    learner, states = fitted(model, features, target, n_slices=3)
    assert_alike(learner, states, features)


def test_values_that_xgboost_makes_no_matrix_of():
    learner, states = fitted(XGBClassifier(**SMALL), X, TWO, n_slices=3)
    assert_alike(learner, states, np.where(np.isnan(X), 1e300, X))


def test_boosters_of_unequal_length():
    learner, states = fitted(XGBClassifier(**SMALL), X, TWO, n_slices=3)
    parts = {name: part for name, part in states[0].parts.items() if name != "trees-00002"}
    assert_alike(learner, [learner.load(parts), *states], X)


@pytest.mark.parametrize("name", UNLIKE)
def test_what_has_no_such_model(name):
    learner, states = fitted(*UNLIKE[name], n_slices=1)
    assert learner.joined(states) is None


def test_nothing_is_joined_where_it_would_not_pay_or_cannot_be(monkeypatch):
    learner, states = fitted(XGBClassifier(**SMALL), X, TWO)
    assert learner.joined(states[:1]) is None
    other = fitted(XGBClassifier(**SMALL), X[:, :3], TWO)[1]
    assert learner.joined([states[0], other[0]]) is None
    assert learner.joined(states) is not None
    monkeypatch.setattr(joint, "MAX_BYTES", 1000)
    assert learner.joined(states) is None


@pytest.mark.parametrize("tail", [b"", b"l", b"l1234567"])
def test_an_array_that_looks_like_the_number_of_a_tree(tail):
    """What is found where no number is would be written over: then nothing is joined."""
    learner, states = fitted(XGBClassifier(**SMALL), X, TWO, n_slices=1)
    name = "trees-00000"
    trees = ubjson.read(states[0].parts[name])
    array = trees["trees"][1]["sum_hessian"]
    looks = (ubjson.key_bytes("id") + tail).rjust(len(array.data), b"\0")[-len(array.data) :]
    assert len(looks) == len(array.data) >= 20
    array.data = looks
    parts = states[0].parts | {name: ubjson.write(trees)}
    state = replace(states[0], parts=parts)
    assert learner.load(parts).parts == state.parts
    assert learner.joined([state, *states[1:]]) is None


def test_where_the_trees_belong_must_be_told():
    """A name that looks like the key of the trees."""
    learner, states = fitted(XGBClassifier(**SMALL), X, TWO, n_slices=1)
    odd = []
    for state in states:
        document = ubjson.read(state.parts["model"])
        document["learner"]["attributes"]["x"] = (ubjson.key_bytes("trees") + b"[#L").decode()
        odd.append(learner.load(state.parts | {"model": ubjson.write(document)}))
    assert learner.joined(odd) is None


CHANGES = {
    "a tree without a number": lambda trees: trees["trees"][1].pop("id"),
    "a piece too many": lambda trees: trees.update(more=1),
    "pieces in another order": lambda trees: trees.update(iteration_indptr=trees.pop("iteration_indptr")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_steps_that_xgboost_would_not_have_written_are_refused(change):
    learner, states = fitted(XGBClassifier(**SMALL), X, TWO, n_slices=1)
    trees = ubjson.read(states[0].parts["trees-00000"])
    CHANGES[change](trees)
    with pytest.raises(StateError):
        learner.predict(learner.load(states[0].parts | {"trees-00000": ubjson.write(trees)}), X)


def test_trees_beside_those_of_the_steps_are_refused():
    learner, states = fitted(XGBClassifier(**SMALL), X, TWO, n_slices=1)
    document = ubjson.read(states[0].parts["model"])
    forest(document)["trees"] = ubjson.read(states[0].parts["trees-00000"])["trees"]
    with pytest.raises(StateError):
        learner.predict(learner.load(states[0].parts | {"model": ubjson.write(document)}), X)


def test_sizes_are_told_in_one_way():
    written = ubjson.write({"id": 1})
    assert ubjson.read(written) == {"id": 1}
    assert ubjson.key_bytes("id") in written
    with pytest.raises(StateError):
        ubjson.read(written.replace(ubjson.key_bytes("id"), b"U\x02id"))
