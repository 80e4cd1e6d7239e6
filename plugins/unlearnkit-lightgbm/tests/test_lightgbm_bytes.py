"""Stored bytes: nothing in them is executed, and LightGBM reads only what was checked."""

import pickle
import random

import numpy as np
import pytest

from unlearnkit.errors import StateError


class Trap:
    def __reduce__(self):
        return exec, ("raise SystemExit('code from the bytes was executed')",)


@pytest.fixture(scope="module")
def trained(drive):
    learner = drive.wrap(n_estimators=3, categorical_feature=[4], min_data_per_group=5)
    return learner, drive.build(learner, drive.rows_for("multiclass"), 3)[-1]


@pytest.fixture(scope="module")
def linear(drive):
    learner = drive.wrap("LGBMRegressor", n_estimators=3, linear_tree=True)
    return learner, drive.build(learner, drive.rows_for("real"), 3)[-1]


def test_what_is_loaded_is_saved_as_the_same_bytes(trained, linear):
    for learner, parts in (trained, linear):
        assert learner.save(learner.load(parts)) == parts


@pytest.mark.parametrize("name", ["header", "edges", "trees-0000", "trees-0002"])
def test_load_runs_no_code_and_rejects_garbage(trained, name):
    learner, parts = trained
    whole = parts[name]
    for bad in (pickle.dumps(Trap()), b"", b"\0" * 40, whole[:-2], whole[: len(whole) // 2], whole + b"\0"):
        with pytest.raises(StateError):
            learner.load({**parts, name: bad})


def test_parts_must_be_complete(trained):
    learner, parts = trained
    for wrong in ({}, {"header": b""}, {**parts, "more": b""}, {k: v for k, v in parts.items() if k != "trees-0001"}):
        with pytest.raises(StateError):
            learner.load(wrong)


HOSTILE = [
    ("header", b"num_class=3", b"num_class=999999"),
    ("header", b"num_class:3", b"num_class:7"),
    ("header", b"num_tree_per_iteration=3", b"num_tree_per_iteration=1"),
    ("header", b"max_feature_idx=4", b"max_feature_idx=999999999"),
    ("header", b"objective=multiclass num_class:3", b"objective=lambdarank"),
    ("header", b"Column_0", b"Column_\xff"),
    ("trees-0000", b"num_leaves=6", b"num_leaves=131072"),
    ("trees-0000", b"num_leaves=6", b"num_leaves=-1"),
    ("trees-0000", b"split_feature=", b"split_feature=77 "),
    ("trees-0000", b"left_child=", b"left_child=0 "),
    ("trees-0000", b"leaf_value=", b"leaf_value=nul"),
    ("trees-0000", b"threshold=", b"threshold=1..2 "),
    ("trees-0000", b"shrinkage=", b"shrinkage=1\n\nshrinkage="),
    ("trees-0000", b"shrinkage=", b"num_leaves=6\nshrinkage="),
    ("trees-0000", b"is_linear=0", b"is_linear=1"),
]


@pytest.mark.parametrize(("name", "old", "new"), HOSTILE)
def test_absurd_counts_and_indices_never_reach_lightgbm(trained, drive, name, old, new):
    learner, parts = trained
    assert old in parts[name]
    with pytest.raises(StateError):
        learner.predict(learner.load({**parts, name: parts[name].replace(old, new, 1)}), drive.rows_for("real").X)


@pytest.mark.parametrize(
    ("key", "shift"), [(b"left_child", 1), (b"right_child", 9), (b"cat_boundaries", 5), (b"num_cat", 3)]
)
def test_links_between_nodes_are_checked(trained, drive, key, shift):
    learner, parts = trained
    block = next(n for n in parts if n.startswith("trees") and b"cat_boundaries=" in parts[n])
    start = parts[block].index(key + b"=") + len(key) + 1
    stop = parts[block].index(b"\n", start)
    values = b" ".join(b"%d" % (int(v) + shift) for v in parts[block][start:stop].split())
    forged = parts[block][:start] + values + parts[block][stop:]
    with pytest.raises(StateError):
        learner.predict(learner.load({**parts, block: forged}), drive.rows_for("real").X)


def test_random_damage_is_refused_or_predicts(trained, linear, drive, capfd):
    X = drive.rows_for("real").X
    rng = random.Random(0)
    for learner, parts in (trained, linear):
        for _ in range(300):
            name = rng.choice(sorted(parts))
            data = bytearray(parts[name])
            where = rng.randrange(len(data))
            data[where : where + rng.randrange(3)] = rng.choice([b"9", b"-", b"\n", b"nan", b"=", b" "])
            try:
                prediction = learner.predict(learner.load({**parts, name: bytes(data)}), X)
            except StateError:
                continue
            assert isinstance(prediction, np.ndarray)
    capfd.readouterr()
