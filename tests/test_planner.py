"""The planner: what it expects is what happens, what it recommends is what was asked for."""

import json
import math
import sys
import threading
from datetime import timedelta

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, make_classification
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from unlearnkit import SISAClassifier, costs, plan_sharding
from unlearnkit.errors import CapabilityError, DataError, ParameterError
from unlearnkit.planner import Asked, Size, _expected
from unlearnkit.rates import Rates, rates
from unlearnkit.sharding import Candidate, Cost, reason, recommended
from unlearnkit.trials import Trial, attempt, fold_of, sample_of, subsample, watching

pytest.importorskip("unlearnkit_sklearn")

ASKED = {"requests_per_month": 12, "deadline": 10, "max_accuracy_loss": 0.05, "random_state": 0}
SGD = SGDClassifier(loss="log_loss", max_iter=5, tol=None)
ONE = Rates(per_step=0, per_record=1, per_row=0, per_call=0, per_call_row=0, bytes_per_shard=0, bytes_per_row=0)


@pytest.fixture(scope="module")
def planned():
    X, y = make_classification(600, 8, random_state=0)
    return plan_sharding(SGD, X, y, n_shards=[1, 3, 6], n_slices=[1, 4], **ASKED)


# -- expectations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_shards", "n_slices"), [(3, 4), (5, 2), (2, 1)])
def test_steps_and_records_are_those_of_real_models_on_average(n_shards, n_slices):
    # Every id of several partitions, by the dry run of the model itself.
    X, y = make_classification(60, 4, random_state=0)
    model = GaussianNB()
    found = []
    for seed in range(12):
        clf = SISAClassifier(SGD if n_slices > 1 else model, n_shards=n_shards, n_slices=n_slices, random_state=seed)
        clf.fit(X, y, ids=range(60))
        found += [(e.n_steps, e.presentations) for e in map(clf.estimate, range(60))]
    expected = _expected((n_shards, n_slices), ONE, Size(60, 60), 1)

    steps, records = np.mean(found, axis=0)
    assert abs(steps - expected.steps) < 0.05 * steps
    assert abs(records - expected.records) < 0.05 * records


def test_batches_of_real_models_cost_what_is_expected():
    X, y = make_classification(120, 4, random_state=0)
    rng = np.random.default_rng(0)
    found = []
    for seed in range(20):
        clf = SISAClassifier(SGD, n_shards=4, n_slices=3, random_state=seed).fit(X, y, ids=range(120))
        batches = (rng.permutation(120)[:5] for _ in range(15))
        found += [(e.n_steps, e.presentations) for e in map(clf.estimate, batches)]
    expected = _expected((4, 3), ONE, Size(120, 120), 5)

    assert np.allclose(np.mean(found, axis=0), (expected.steps, expected.records), rtol=0.04)


def test_presentations_of_an_estimate_are_the_rows_of_the_shard_where_there_is_one_slice():
    X, y = make_classification(60, 4, random_state=0)
    clf = SISAClassifier(GaussianNB(), n_slices=1, n_shards=3, random_state=0).fit(X, y, ids=range(60))
    found = clf.estimate(7)
    (shard,) = found.shards

    assert found.presentations == sum(s == shard for s, _ in clf.partition_.locate(range(60))) - 1


def test_month_is_made_of_requests_and_batches(planned):
    assert planned.batch_size == 4
    for one in planned.candidates:
        assert math.isclose(one.month_singly.steps, 12 * one.per_request.steps)
        assert math.isclose(one.month_batched.seconds, 3 * one.per_batch.seconds)
        assert one.month_batched.records <= one.month_singly.records * 1.0001
        assert one.chance_all_abstain == costs.chance_all_abstain(one.n_shards, one.n_slices, 4)


def test_a_deadline_shorter_than_the_gaps_makes_batches_of_one():
    assert Asked(2, 3, 0.1).batch_size == 1
    assert Asked(100, 0, 0.1).batch_size == 1


def test_rows_of_one_id_go_together():
    several = _expected((4, 1), ONE, Size(1000, 100), 10)

    assert math.isclose(several.records, 900 * costs.batch_share(4, 1, 10))


# -- rates ---------------------------------------------------------------------------------------------------------


def test_rates_are_found_again():
    rng = np.random.default_rng(0)
    n, first = rng.uniform(50, 5000, (2, 200))
    first = np.where(rng.random(200) < 0.3, first, 0)
    noise = rng.normal(1, 0.03, 200)
    steps = np.c_[(0.01 + 2e-5 * n + 1e-5 * first) * noise, np.ones(200), n, first]
    shards = np.c_[100 + 3 * n, np.ones(200), n]
    found = rates([Trial(0.0, steps, np.empty((0, 3)), shards)])

    assert np.allclose((found.per_step, found.per_record, found.per_row), (0.01, 2e-5, 1e-5), rtol=0.1)
    assert np.allclose((found.bytes_per_shard, found.bytes_per_row), (100, 3), rtol=0.05)
    assert (found.per_call, found.per_call_row) == (0, 0)


def test_with_one_slice_all_is_per_record():
    n = np.array([100.0, 200, 400, 1000])
    found = rates([Trial(0.0, np.c_[0.001 * n, np.ones(4), n, n], np.empty((0, 3)), np.empty((0, 3)))])

    assert math.isclose(found.per_record, 0.001, rel_tol=1e-3)
    assert found.per_row == 0


def test_every_trained_step_is_timed(planned):
    assert all(one.fit_seconds > 0 and one.per_request.seconds > 0 for one in planned.candidates)
    assert all(one.storage_bytes > 0 for one in planned.candidates)


# -- rows ----------------------------------------------------------------------------------------------------------


def test_rows_of_an_id_are_in_one_fold_and_classes_in_all():
    rng = np.random.default_rng(0)
    ids = np.repeat(np.arange(60), 3)
    labels = np.repeat(np.arange(60) % 3, 3)
    folds = fold_of(labels, ids, 4, rng)

    assert all(len({*folds[ids == one]}) == 1 for one in range(60))
    assert all({*labels[folds == fold]} == {0, 1, 2} for fold in range(4))
    assert np.bincount(folds).tolist() == [45] * 4


def test_a_subsample_has_all_rows_of_an_id():
    ids = [f"person {i % 50}" for i in range(200)]
    some = subsample(sample_of(np.arange(400).reshape(200, 2), np.zeros(200), None, ids), 41, np.random.default_rng(0))

    assert np.bincount(some.ids).tolist() == [4] * 10


def test_ids_may_be_a_column(planned):
    pd = pytest.importorskip("pandas")
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    found = plan_sharding(
        GaussianNB(),
        X.assign(who=np.arange(569) // 2),
        y,
        ids="who",
        n_shards=[1, 3],
        n_slices=[1],
        scoring="roc_auc",
        **ASKED,
    )

    assert isinstance(X, pd.DataFrame)
    assert found.scoring == "roc_auc"
    assert found.candidates[0].per_request.records == 569 * (1 - 1 / 285)


# -- recommend -----------------------------------------------------------------------------------------------------


def candidate(n_shards, lost, seconds, silent=0.0, n_slices=1):
    cost = Cost(1, 1, seconds)
    return Candidate(n_shards, n_slices, 0.9 - lost, 0.01, lost, 0.01, lost, cost, cost, cost, cost, 9, 9, silent)


def test_the_cheapest_that_loses_little_enough_is_recommended():
    many = [candidate(1, 0, 100), candidate(5, 0.01, 30), candidate(20, 0.03, 10)]

    assert recommended(many, 0.02).n_shards == 5
    assert recommended(many, 0.05).n_shards == 20
    assert "the cheapest choice that loses at most 0.02 (2 of 3 do; it loses 0.0100);" in reason(many, 0.02, 1, 1)


def test_of_those_as_cheap_the_most_accurate_is_recommended():
    assert recommended([candidate(5, 0.002, 10.3), candidate(20, 0.01, 10)], 0.02).n_shards == 5
    assert recommended([candidate(5, 0.01, 10.3, 0.4), candidate(20, 0.01, 10)], 0.02).n_shards == 20


def test_the_least_loss_is_recommended_and_said_where_nothing_fits():
    many = [candidate(5, 0.04, 30), candidate(20, 0.03, 10)]

    assert recommended(many, 0.02).n_shards == 20
    assert reason(many, 0.02, 1, 1).startswith("No choice loses at most 0.02: 20 shards of 1 slice lose least, 0.0300")


def test_it_is_said_if_no_sharding_fits():
    assert "No sharding loses at most 0" in reason([candidate(1, 0, 100), candidate(5, 0.04, 30)], 0, 1, 1)


def test_it_is_said_if_shards_will_be_much_larger():
    many = [candidate(1, 0, 100), candidate(5, 0.01, 30)]

    assert "12.0 times larger" in reason(many, 0.02, 1, 12)
    assert "times larger" not in reason(many, 0.02, 1, 1.5)


def test_the_plan_holds_what_was_asked_and_measured(planned):
    assert planned.chosen in planned.candidates
    assert (planned.chosen.n_shards, planned.chosen.n_slices) == (planned.n_shards, planned.n_slices)
    assert [(c.n_shards, c.n_slices) for c in planned.candidates] == [(1, 1), (1, 4), (3, 1), (3, 4), (6, 1), (6, 4)]
    assert planned.candidates[0].accuracy_lost == 0
    assert all(math.isclose(c.accuracy + c.accuracy_lost, planned.candidates[0].accuracy) for c in planned.candidates)
    assert (planned.rows_measured, planned.n_records, planned.scoring) == (600, 600, "accuracy")


def test_accuracy_is_that_of_the_model_itself():
    X, y = make_classification(300, 8, random_state=0)
    found = plan_sharding(GaussianNB(), X, y, n_shards=[1, 4], **ASKED)
    folds = fold_of(y, np.arange(300), 3, np.random.default_rng(0))
    bare = np.mean(
        [GaussianNB().fit(X[folds != f], y[folds != f]).score(X[folds == f], y[folds == f]) for f in range(3)]
    )

    assert math.isclose(found.candidates[0].accuracy, bare, abs_tol=1e-12)


def test_a_subsample_brackets_what_is_lost_on_all_rows():
    X, y = make_classification(900, 8, random_state=0)
    found = plan_sharding(GaussianNB(), X, y, n_shards=[1, 2, 6], n_slices=[1], rows=300, **ASKED)

    assert found.rows_measured == 300
    # 6 shards of all rows are as large as 1.33 of the 200 that a fold trains on.
    one, two, six = found.candidates
    share = math.log(6 * 200 / 900) / math.log(2)
    assert math.isclose(six.accuracy_lost_at_size, share * two.accuracy_lost, abs_tol=1e-12)
    assert one.accuracy_lost_at_size == one.accuracy_lost == 0


def test_regressors_are_planned_too():
    X, y = load_diabetes(return_X_y=True)
    found = plan_sharding(Ridge(alpha=0.01), X, y, n_shards=[1, 4], **ASKED)

    assert found.scoring == "R2"
    assert {c.n_slices for c in found.candidates} == {1}


def test_options_of_a_given_model_are_kept():
    X, y = make_classification(200, 4, random_state=0)
    model = SISAClassifier(LogisticRegression(), aggregation="vote", n_shards=7)
    found = plan_sharding(model, X, y, n_shards=[2], **ASKED)

    assert [c.n_shards for c in found.candidates] == [2]
    assert model.n_shards == 7
    assert not hasattr(model, "classes_")


def test_what_cannot_be_trained_is_left_out_and_said():
    X, y = make_classification(90, 4, random_state=0)
    found = plan_sharding(KNeighborsClassifier(20), X, y, n_shards=[1, 8, 50], **ASKED)

    assert [c.n_shards for c in found.candidates] == [1]
    assert found.left_out.keys() == {"8 x 1", "50 x 1"}
    assert "too few" in found.left_out["50 x 1"]
    assert "cannot be trained" in found.left_out["8 x 1"]


def test_one_seed_gives_one_choice_of_rows():
    X, y = make_classification(400, 4, random_state=0)
    one, other = (plan_sharding(GaussianNB(), X, y, n_shards=[1, 3], n_slices=[1], rows=200, **ASKED) for _ in range(2))

    assert [c.accuracy for c in one.candidates] == [c.accuracy for c in other.candidates]


def test_deadline_may_be_a_timedelta():
    X, y = make_classification(100, 4, random_state=0)
    found = plan_sharding(GaussianNB(), X, y, n_shards=[1, 2], **ASKED | {"deadline": timedelta(days=5)})

    assert found.batch_size == 2


# -- show ----------------------------------------------------------------------------------------------------------


def test_json_has_every_figure(planned):
    facts = json.loads(planned.to_json())

    assert facts["n_shards"] == planned.n_shards
    assert facts["candidates"][1]["per_request"]["steps"] == planned.candidates[1].per_request.steps


def test_table_for_notebooks_shows_every_candidate(planned):
    html = planned._repr_html_()

    assert html.count("<tr") == 1 + len(planned.candidates)
    assert html.count("font-weight:700") == 1
    assert planned.reason in html


@pytest.mark.parametrize("name", ["plan.svg", "plan.png"])
def test_chart_is_drawn(planned, tmp_path, name):
    pytest.importorskip("matplotlib")
    axes = planned.plot(tmp_path / name)

    assert (tmp_path / name).stat().st_size > 5_000
    assert {text.get_text() for text in axes.texts} == {"S=1", "S=3", "S=6"}
    circle = next(line for line in axes.lines if str(line.get_label()).startswith("recommended"))
    assert (circle.get_xdata()[0], circle.get_ydata()[0]) == (
        planned.chosen.month_batched.seconds,
        planned.chosen.accuracy,
    )


def test_chart_says_what_is_wrong(planned, tmp_path):
    pytest.importorskip("matplotlib")
    for target in (tmp_path / "no folder" / "plan.svg", tmp_path / "plan.nothing"):
        with pytest.raises(ParameterError, match="could not be written"):
            planned.plot(target)


def test_shards_of_one_class_say_nothing_of_the_size_of_states():
    X = np.random.default_rng(0).normal(size=(60, 3))
    whole = sample_of(X, np.arange(60) < 3, None, None)
    model = SISAClassifier(SGD, n_shards=20, n_slices=1, random_state=0)
    found = attempt(model, whole, whole, lambda *_: 1.0, np.random.default_rng(0))
    fitted = SISAClassifier(SGD, n_shards=20, n_slices=1, random_state=0).fit(X, np.arange(60) < 3, ids=range(60))
    trained = [state for state in fitted.estimators_ if state is not None and not isinstance(state, int)]
    assert 0 < len(found.states) == len(trained) < 20
    assert found.states[:, 0].min() > 0.8 * found.states[:, 0].max()


def test_chart_needs_matplotlib(planned, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    with pytest.raises(ParameterError, match="pip install"):
        planned.plot(tmp_path / "plan.svg")


# -- refuse --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"requests_per_month": 0}, "requests_per_month"),
        ({"requests_per_month": float("nan")}, "requests_per_month"),
        ({"deadline": -1}, "deadline"),
        ({"deadline": "soon"}, "deadline"),
        ({"max_accuracy_loss": -0.1}, "max_accuracy_loss"),
        ({"n_shards": []}, "n_shards"),
        ({"n_shards": [0]}, "n_shards"),
        ({"n_slices": [1.5]}, "n_slices"),
        ({"cv": 1}, "cv"),
        ({"rows": 2}, "rows"),
        ({"requests_per_month": 1000, "deadline": 30}, "would leave none"),
    ],
)
def test_bad_options_are_refused(change, named):
    X, y = make_classification(100, 4, random_state=0)

    with pytest.raises(ParameterError, match=named) as found:
        plan_sharding(GaussianNB(), X, y, **ASKED | change)
    assert "othing was" in str(found.value) or "nothing was" in str(found.value)


@pytest.mark.parametrize("scoring", ["beauty", 7, "roc_auc", lambda *_, **__: float("nan")])
def test_scores_that_cannot_be_had_are_refused(scoring):
    X, y = make_classification(150, 8, n_informative=4, n_classes=3, random_state=0)

    with pytest.raises(ParameterError, match="scor"):
        plan_sharding(GaussianNB(), X, y, n_shards=[1, 2], n_slices=[1], scoring=scoring, **ASKED)


def test_slices_that_a_model_cannot_have_are_refused():
    X, y = make_classification(100, 4, random_state=0)

    with pytest.raises(CapabilityError, match="n_slices=5"):
        plan_sharding(LogisticRegression(), X, y, n_slices=[1, 5], **ASKED)


def test_bad_data_are_refused():
    X, y = make_classification(100, 4, random_state=0)

    with pytest.raises(DataError, match="same number of rows"):
        plan_sharding(GaussianNB(), X, y[:-1], **ASKED)
    with pytest.raises(DataError, match="None of the choices"):
        plan_sharding(GaussianNB(), X, y, n_shards=[60], **ASKED)
    with pytest.raises(DataError, match="ids"):
        plan_sharding(GaussianNB(), X, y, ids=[None] * 100, **ASKED)
    with pytest.raises(DataError):
        plan_sharding(GaussianNB(), np.where(X > 1, np.nan, X), y, **ASKED)


def test_other_threads_steps_are_not_counted():
    X, y = make_classification(60, 4, random_state=0)
    with watching() as watch:
        thread = threading.Thread(target=lambda: SISAClassifier(GaussianNB(), n_slices=1, n_shards=2).fit(X, y))
        thread.start()
        thread.join()
        assert watch.seen == []
        SISAClassifier(GaussianNB(), n_slices=1, n_shards=2).fit(X, y)
    assert len(watch.seen) == 2
