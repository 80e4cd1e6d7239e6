"""Steps after the whole budget: more trees on the scores of those that are there."""

from dataclasses import replace
from fractions import Fraction

import pytest

from unlearnkit_lightgbm import text
from unlearnkit_lightgbm.settings import GUARD


def later(drive, learner, rows, ends, *, cache):
    """The parts after the slice of the fit, and after each that arrived."""
    scratch, parts, n_old = {}, [], 0
    for r, n in enumerate(ends):
        state = learner.load(parts[-1]) if parts else None
        step = replace(drive.step_of(r, 1), start=Fraction(r), stop=Fraction(r + 1))
        seen = rows if cache else drive.Rows(drive.first(rows.X, n), rows.y[:n], rows.labels)
        batch = drive.batch_of(seen, n, n_old, scratch if cache else {})
        parts.append(learner.save(learner.train(state, batch, step)))
        n_old = n
    return parts


# Rows too few to split a feature are what the bare estimator leaves out when it bins.
@pytest.mark.parametrize(
    "params", [{}, {"min_child_samples": 60}, {"linear_tree": True}, {"early_stopping_round": 1}, {"max_bin": 7}]
)
@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_an_arrival_has_the_bytes_of_a_training_in_one_go(kind, params, drive):
    learner, rows = drive.wrap(n_estimators=4, **params), drive.rows_for(kind)
    in_one_go = later(drive, learner, rows, (150, 250, 360), cache=True)
    assert in_one_go == later(drive, learner, rows, (150, 250, 360), cache=False)
    assert in_one_go[-1]["edges"] == in_one_go[0]["edges"]


def test_each_arrival_adds_its_share_of_the_trees(drive):
    learner, rows = drive.wrap("LGBMRegressor", n_estimators=4), drive.rows_for("real")
    last = later(drive, learner, rows, (120, 240, 360), cache=True)[-1]
    features = text.check_header(last["header"])
    assert [len(text.check_trees(last[f"trees-000{r}"], features)) for r in range(3)] == [4, 4, 4]


def test_what_goes_on_is_guarded_like_slices(drive):
    settings = drive.wrap().settings
    whole, beyond = (replace(drive.step_of(0, 1), start=Fraction(r), stop=Fraction(r + 1)) for r in (0, 1))
    assert settings.training(whole, 2)["lambda_l2"] == 0
    assert settings.training(beyond, 2)["lambda_l2"] == GUARD
    assert settings.training(whole, 2, goes_on=True)["lambda_l2"] == GUARD


def test_a_late_second_class_starts_with_the_budget_so_far(drive):
    learner, rows = drive.wrap(n_estimators=4), drive.rows_for("binary")
    step = replace(drive.step_of(1, 1), start=Fraction(0), stop=Fraction(2))
    state = learner.train(None, drive.batch_of(rows, 360, 0, {}), step)
    assert state.booster.num_trees() == 8


def test_an_averaged_forest_starts_anew(drive):
    capabilities = drive.wrap(boosting_type="rf", subsample=0.5, subsample_freq=1).capabilities
    assert not capabilities.resumable
    assert capabilities.max_slices == 1
