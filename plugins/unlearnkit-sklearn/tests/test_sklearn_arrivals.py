"""Records that arrive after the whole budget: which models go on from a state, and what going on means for them."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import (
    BaggingRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression, Perceptron, SGDClassifier, SGDRegressor
from sklearn.naive_bayes import CategoricalNB, GaussianNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from unlearnkit.errors import CapabilityError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

GOING_ON = [
    SGDClassifier(max_iter=4, tol=None, average=True),
    SGDClassifier(max_iter=4, learning_rate="adaptive", eta0=0.1),
    SGDRegressor(max_iter=4),
    Perceptron(max_iter=4),
    MLPClassifier((3,), max_iter=4),
    MLPRegressor(hidden_layer_sizes=(3,), max_iter=4, solver="sgd", learning_rate="invscaling"),
    GaussianNB(),
    RandomForestClassifier(4, max_depth=3),
    BaggingRegressor(n_estimators=4),
    GradientBoostingRegressor(n_estimators=4),
    make_pipeline(StandardScaler(), SGDClassifier(max_iter=4)),
]
STARTING_ANEW = [
    SGDClassifier(early_stopping=True),
    MLPClassifier(early_stopping=True),
    MLPClassifier(solver="lbfgs"),
    RandomForestClassifier(4, oob_score=True),
    GradientBoostingRegressor(n_iter_no_change=2),
    GradientBoostingClassifier(),
    HistGradientBoostingClassifier(),
    LogisticRegression(),
    make_pipeline(StandardScaler(), LogisticRegression()),
]


def later(sisa, learner, data, r, parts, n_slices=1):
    """The parts after slice r, trained on from the parts of the one before; None: from nothing."""
    start = Fraction(0) if parts is None else Fraction(r, n_slices)
    stop = Fraction(r + 1, n_slices)
    a, b = start * n_slices, stop * n_slices
    epochs = (b * (b + 1) - a * (a + 1)) / (b * (n_slices + 1))
    step = replace(sisa.step_of(data, r), start=start, stop=stop, epochs=epochs)
    labels = np.arange(int(data.y.max()) + 1) if learner.capabilities.task == "classification" else None
    batch = sisa.batch_of(data, r, 0 if parts is None else data.ends[r - 1], {}, labels)
    return learner.save(learner.train(None if parts is None else learner.load(parts), batch, step))


@pytest.mark.parametrize("model", GOING_ON, ids=lambda model: type(model).__name__)
def test_what_can_go_on_is_resumable(model, sisa, flowers):
    learner = sisa.learner(model)
    assert learner.capabilities.resumable
    data = sisa.rows(*flowers, 3)
    once = later(sisa, learner, data, 1, later(sisa, learner, data, 0, None))
    assert later(sisa, learner, data, 1, later(sisa, learner, data, 0, None)) == once
    # A shard whose first slice had one class only starts here, with the budget of both.
    both = later(sisa, learner, data, 1, None)
    assert both == later(sisa, learner, data, 1, None) != once
    assert np.isfinite(learner.predict(learner.load(both), data.X)).all()


@pytest.mark.parametrize("model", STARTING_ANEW, ids=lambda model: type(model).__name__)
def test_what_cannot_go_on_is_not_resumable(model, sisa):
    capabilities = sisa.learner(model).capabilities
    assert not capabilities.resumable
    assert capabilities.max_slices == 1
    assert capabilities.why_limited


def test_later_slices_add_their_share(sisa, flowers):
    data = sisa.rows(*flowers, 3)
    forest = sisa.learner(RandomForestClassifier(4))
    parts = None
    for r, trees in enumerate((4, 8, 12)):
        parts = later(sisa, forest, data, r, parts)
        assert len(forest.whole(forest.load(parts)).estimators_) == trees
    linear = sisa.learner(SGDClassifier(max_iter=4, tol=None))
    parts, updates = None, 1
    for r, rows in enumerate(data.ends):
        parts = later(sisa, linear, data, r, parts)
        updates += 4 * rows
        assert linear.load(parts).t_ == updates


def test_counts_after_an_arrival_are_those_of_all_rows(sisa, flowers):
    X, y = flowers
    data = sisa.rows(np.floor(X), y, 2)
    for model in (GaussianNB(), CategoricalNB(min_categories=9)):
        learner = sisa.learner(model)
        went_on = later(sisa, learner, data, 1, later(sisa, learner, data, 0, None))
        at_once = sisa.build(learner, sisa.rows(data.X, y))[-1]
        expected = learner.predict(learner.load(at_once), data.X)
        assert np.allclose(learner.predict(learner.load(went_on), data.X), expected)


def test_a_frozen_encoder_meets_only_what_it_knows(sisa):
    frame = pd.DataFrame({"word": np.array(["a", "b"] * 20 + ["c"] * 10, dtype=object)})
    y = np.arange(50) % 2
    learner = sisa.learner(make_pipeline(OneHotEncoder(), SGDClassifier(max_iter=3)))
    data = sisa.Rows(frame, y, (20, 40, 50))
    known = later(sisa, learner, data, 1, later(sisa, learner, data, 0, None))
    assert learner.predict(learner.load(known), frame[:40]).shape == (40, 2)
    with pytest.raises(ValueError, match="unknown categories"):
        later(sisa, learner, data, 2, known)
    # A start beyond the budget is fitted on all there is; one inside it would meet the rest unprepared.
    assert later(sisa, learner, data, 2, None)
    with pytest.raises(CapabilityError, match="handle_unknown"):
        later(sisa, learner, data, 0, None, n_slices=2)
