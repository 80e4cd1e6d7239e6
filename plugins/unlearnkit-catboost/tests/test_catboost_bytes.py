"""Stored bytes: stable, without a trace of when and how they were made, and never believed."""

import hashlib
import random
import subprocess
import sys

import catboost
import numpy as np
import pandas as pd
import pytest
from catboost import CatBoost, CatBoostClassifier, CatBoostRegressor

from unlearnkit import load, wrap
from unlearnkit.adapters import resolve
from unlearnkit.errors import CodeNeededError, StateError
from unlearnkit_catboost import model as stored_form

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4))
Y = (X[:, 0] > 0).astype(np.int64)
THREE = np.digitize(X[:, 0], [-0.4, 0.4])
SMALL = {"iterations": 4, "depth": 3}


def framed(body):
    return stored_form._MAGIC + hashlib.sha256(body).digest() + body


@pytest.fixture
def stored(train):
    learner = resolve(CatBoostClassifier(**SMALL))
    return learner, train(learner, X, Y, 2)[-1]


def test_the_bytes_say_nothing_of_their_making(stored):
    learner, parts = stored
    for model in learner.load(parts).models:
        assert list(model.get_metadata()) == []
    for word in (b"train_finish_time", b"model_guid", b"learn_metrics_history"):
        assert not any(word in part for part in parts.values())


def test_a_part_is_an_ordinary_model(stored, tmp_path):
    """Whoever has the state can do without this plugin: after the frame it is a file of CatBoost's."""
    learner, parts = stored
    bodies = [parts[f"trees-{i:05}"][len(framed(b"")) :] for i in range(2)]
    (tmp_path / "first.cbm").write_bytes(bodies[0])
    native = CatBoost().load_model(str(tmp_path / "first.cbm"))
    assert native.tree_count_ == 2
    total = sum(CatBoost().load_model(blob=body).predict(X) for body in bodies)
    probabilities = learner.predict(learner.load(parts), X)[:, 1]
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-total)), rtol=1e-12)


def test_damage_anywhere_is_refused(stored):
    learner, parts = stored
    dice = random.Random(3)
    for _ in range(400):
        name = dice.choice(sorted(parts))
        damaged = bytearray(parts[name])
        at, value = dice.randrange(len(damaged)), dice.randrange(256)
        same = damaged[at] == value
        damaged[at] = value
        broken = {**parts, name: bytes(damaged)}
        # A score that is another number of the same length is a state, though not this one.
        if same or name == stored_form.START:
            continue
        with pytest.raises(StateError, match="damaged"):
            learner.load(broken)


def test_truncated_and_foreign_parts_are_refused(stored):
    learner, parts = stored
    blocks = sorted(set(parts) - {stored_form.START})
    for name in blocks:
        for bad in (b"", parts[name][:-1], parts[name] + b"\0", parts[name][len(framed(b"")) :], b"CBM1", b"\x80\x04."):
            with pytest.raises(StateError, match="nothing in it was used"):
                learner.load({**parts, name: bad})
    for gap in ({}, {"start": parts["start"], blocks[1]: parts[blocks[1]]}, {name: parts[name] for name in blocks}):
        with pytest.raises(StateError):
            learner.load(gap)


@pytest.mark.parametrize(
    "start", [b"", b"{}", b"[]", b"[1]", b"[NaN]", b"[Infinity]", b"[0.0 ]", b"[null]", b'["0.0"]']
)
def test_scores_that_start_nowhere_are_refused(start, stored):
    learner, parts = stored
    with pytest.raises(StateError):
        learner.load({**parts, "start": start})


def test_steps_of_two_models_do_not_mix(stored, train):
    learner, parts = stored
    other = resolve(CatBoostClassifier(**SMALL))
    foreign = train(other, X, THREE, 2)[-1]
    state = learner.load({**parts, "trees-00001": foreign["trees-00001"]})
    with pytest.raises(StateError, match="do not belong together"):
        learner.predict(state, X)


_NOISE = """
import hashlib, sys
import numpy as np
from unlearnkit.errors import StateError
from unlearnkit_catboost import model
learned, refused = np.random.default_rng(0), 0
for size in (0, 4, 8, 64, 1000, 5000):
    for head in (b"", b"CBM1", b"CBM1" + (size).to_bytes(4, "little")):
        body = head + learned.bytes(size)
        block = model._MAGIC + hashlib.sha256(body).digest() + body
        try:
            model.Trees.from_parts({"start": b"[0.0]", "trees-00000": block}).models
        except StateError:
            refused += 1
print(refused)
"""


def test_noise_with_the_right_digest_is_refused_and_kills_nothing():
    done = subprocess.run([sys.executable, "-c", _NOISE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "18"


FRAME = pd.DataFrame({"a": RNG.integers(0, 4, 120), "b": X[:, 0], "c": RNG.integers(0, 3, 120)})
MODELS = [
    CatBoostClassifier(**SMALL),
    CatBoostRegressor(**SMALL, loss_function="Quantile:alpha=0.2", random_seed=3, learning_rate=np.float32(0.1)),
    CatBoostClassifier(**SMALL, class_weights={0: 1.5, 1: 2}, cat_features=["a", 2]),
    CatBoostRegressor(**SMALL, monotone_constraints={"b": 1}, per_float_feature_quantization=["1:border_count=10"]),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_a_stored_model_is_built_again(model, tmp_path):
    fitted = wrap(model, n_shards=2, store=tmp_path / "store").fit(FRAME, Y, ids=range(len(Y)))
    stored = load(tmp_path / "store")
    assert type(stored.estimator) is type(model)
    assert repr(sorted(stored.estimator.get_params().items())) == repr(sorted(model.get_params().items()))
    np.testing.assert_array_equal(stored.predict(FRAME), fitted.predict(FRAME))
    stored.forget([3])
    assert stored.verify().exact


class Mine(CatBoostClassifier):
    pass


def test_user_code_has_to_be_given(tmp_path):
    fitted = wrap(Mine(**SMALL), n_shards=2, store=tmp_path / "store").fit(X, Y, ids=range(len(Y)))
    with pytest.raises(CodeNeededError, match="estimator="):
        load(tmp_path / "store").predict(X)
    given = load(tmp_path / "store", estimator=Mine(**SMALL))
    np.testing.assert_array_equal(given.predict(X), fitted.predict(X))


def test_the_library_exports_no_other_estimators():
    """Those that a stored model may name do nothing when they are made."""
    both = ("get_params", "set_params")
    found = {name for name in catboost.__all__ if all(hasattr(getattr(catboost, name), method) for method in both)}
    assert found == {"CatBoost", "CatBoostClassifier", "CatBoostRanker", "CatBoostRegressor"}


def test_making_a_model_touches_no_file(tmp_path, monkeypatch):
    """Whatever parameters a stored model has: files are read and written by `fit` alone."""
    monkeypatch.chdir(tmp_path)
    paths = ("train_dir", "snapshot_file", "input_borders", "output_borders")
    for kind in (CatBoostClassifier, CatBoostRegressor):
        kind(save_snapshot=True, allow_writing_files=True, **{name: str(tmp_path / name) for name in paths})
    catboost.CatBoostRanker(train_dir=str(tmp_path / "ranker"))
    catboost.CatBoost({"train_dir": str(tmp_path / "bare"), "input_borders": str(tmp_path / "borders")})
    assert list(tmp_path.iterdir()) == []
