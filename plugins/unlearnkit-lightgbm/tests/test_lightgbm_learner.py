"""What a step trains: the bare model's bits with one slice, and nothing but the prefix with more."""

import os
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.datasets import load_digits

from unlearnkit.errors import DataTypeError
from unlearnkit_lightgbm.bins import edges_alone
from unlearnkit_lightgbm.matrix import encode
from unlearnkit_lightgbm.settings import COARSE, GUARD, Settings

PLANTED = 12345.678


def pull(y, scores):
    return scores - y, np.ones_like(scores)


def weighted_pull(y, scores, weight):
    return (scores - y) * weight, weight


CASES = [
    ("LGBMClassifier", {}, "binary"),
    ("LGBMClassifier", {"subsample": 0.6, "subsample_freq": 1, "colsample_bytree": 0.6}, "binary"),
    ("LGBMClassifier", {"data_sample_strategy": "goss", "learning_rate": 0.5}, "binary"),
    ("LGBMClassifier", {"boosting_type": "dart", "class_weight": "balanced"}, "multiclass"),
    ("LGBMClassifier", {"objective": "multiclassova", "extra_trees": True}, "multiclass"),
    ("LGBMClassifier", {"objective": "cross_entropy", "is_unbalance": True}, "binary"),
    ("LGBMClassifier", {"linear_tree": True}, "binary"),
    ("LGBMClassifier", {"use_quantized_grad": True}, "binary"),
    ("LGBMClassifier", {"categorical_feature": [4], "min_data_per_group": 5}, "multiclass"),
    ("LGBMClassifier", {"sigmoid": 2.0, "scale_pos_weight": 3.0, "force_col_wise": True}, "binary"),
    ("LGBMRegressor", {"monotone_constraints": [1, 0, 0, 0, 0], "path_smooth": 1.0}, "real"),
    ("LGBMRegressor", {"objective": "regression_l1", "max_bin": 15}, "real"),
    ("LGBMRegressor", {"objective": "quantile", "alpha": 0.3}, "real"),
    ("LGBMRegressor", {"objective": "huber", "reg_sqrt": False}, "real"),
    ("LGBMRegressor", {"objective": "mape"}, "positive"),
    ("LGBMRegressor", {"objective": "poisson"}, "positive"),
    ("LGBMRegressor", {"objective": "gamma"}, "positive"),
    ("LGBMRegressor", {"objective": "tweedie", "tweedie_variance_power": 1.2}, "positive"),
    ("LGBMRegressor", {"objective": "cross_entropy_lambda"}, "unit"),
    ("LGBMRegressor", {"reg_sqrt": True, "linear_tree": True}, "real"),
    ("LGBMRegressor", {"objective": pull}, "real"),
]
cases = pytest.mark.parametrize(("kind", "params", "target"), CASES)


def native(model, X):
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


@cases
@pytest.mark.filterwarnings("ignore:categorical_feature keyword")
def test_one_slice_is_the_bare_model_bit_for_bit(drive, kind, params, target):
    rows = drive.rows_for(target)
    model = getattr(lightgbm, kind)(n_estimators=8, num_leaves=6, min_child_samples=5, **params)
    learner = drive.wrap(kind, **params)
    got = drive.predict(learner, drive.build(learner, rows, 1), rows.X)
    assert np.array_equal(got, native(drive.bare(model, rows), rows.X))


@cases
def test_scratch_is_only_a_cache(drive, kind, params, target):
    rows, learner = drive.rows_for(target), drive.wrap(kind, **params)
    assert drive.build(learner, rows, 4) == drive.build(learner, rows, 4, cache=False)


@cases
def test_later_rows_leave_no_trace(drive, kind, params, target):
    rows, learner = drive.rows_for(target), drive.wrap(kind, **params)
    seen = drive.ends(len(rows.y), 4)[2]
    X = rows.X.copy()
    X[seen:, :4] = PLANTED
    altered = drive.build(learner, replace(rows, X=X), 4, until=3)
    assert altered == drive.build(learner, rows, 4, until=3)


def test_statistics_of_the_rows_are_not_in_the_header(drive):
    rows = drive.rows_for("binary")
    X = rows.X.copy()
    X[0, 1] = PLANTED
    header = drive.build(drive.wrap(), replace(rows, X=X), 4)[0]["header"]
    assert b"12345" not in header
    assert b"feature_infos" not in header


def test_each_slice_adds_one_part_and_leaves_the_others(drive):
    parts = drive.build(drive.wrap(), drive.rows_for("multiclass"), 4)
    for r, now in enumerate(parts):
        assert set(now) == {"header", "edges", *(f"trees-{i:04d}" for i in range(r + 1))}
        for name in parts[r - 1] if r else ():
            assert now[name] == parts[r - 1][name] or name == "edges"
    assert len({now["edges"] for now in parts}) == 2


def test_checkpoints_are_no_larger_than_one_model(drive):
    rows, learner = drive.rows_for("binary"), drive.wrap(n_estimators=40, num_leaves=31)
    blobs = {data for parts in drive.build(learner, rows, 10) for data in parts.values()}
    model = learner.load(drive.build(learner, rows, 10)[-1]).booster.model_to_string()
    assert sum(map(len, blobs)) < 1.2 * len(model)


def test_repair_from_the_middle_is_bitwise(drive):
    rows, learner = drive.rows_for("binary"), drive.wrap(subsample=0.5, subsample_freq=1)
    whole = drive.build(learner, rows, 4)
    first, second = drive.ends(len(rows.y), 4)[1:3]
    batch = drive.batch_of(rows, second, first, {})
    again = learner.train(learner.load(whole[1]), batch, drive.step_of(2, 4))
    assert learner.save(again) == whole[2]


def test_a_new_class_starts_anew_with_the_budget_so_far(drive):
    rows, learner = drive.rows_for("multiclass"), drive.wrap()
    scratch = {}
    two = replace(rows, y=np.minimum(rows.y, 1), labels=rows.labels[:2])
    learner.train(None, drive.batch_of(two, 90, 0, scratch), drive.step_of(0, 4))
    restart = drive.step_of(1, 4, start=Fraction(0))
    after = learner.train(None, drive.batch_of(rows, 180, 0, scratch), restart)
    fresh = learner.train(None, drive.batch_of(rows, 180, 0, {}), restart)
    assert learner.save(after) == learner.save(fresh)
    assert after.booster.num_trees() == 4 * 3


def test_bags_differ_from_step_to_step(drive):
    steps = [drive.step_of(r, 4) for r in range(2)]
    for given in ({"random_state": 0}, {"bagging_seed": 3}, {"feature_fraction_seed": 3}):
        settings = drive.wrap(**given).settings
        one, two = (settings.training(step, 2) for step in steps)
        assert any(one[name] != two[name] for name in one if name.endswith("seed") and name in given | {"seed": 0})


@pytest.mark.parametrize("n", [2, 3, 7, 30])
def test_prefixes_too_small_to_split(drive, n):
    X, y = np.random.default_rng(0).normal(size=(n, 3)), np.arange(n) % 2
    rows = drive.Rows(X, y, np.array([0, 1]))
    learner = drive.wrap(n_estimators=6, min_child_samples=20)
    parts = drive.build(learner, rows, 2)
    assert parts == drive.build(learner, rows, 2, cache=False)
    assert np.isfinite(drive.predict(learner, parts, X)).all()


def test_features_that_appear_late_are_used_after_the_edges_are_renewed(drive):
    X, signal = drive.numbers(600)
    X[:120] = 0.0
    rows = drive.Rows(X, (signal > 1).astype(int), np.array([0, 1]))
    learner = drive.wrap(n_estimators=40)
    state = learner.load(drive.build(learner, rows, 5)[-1])
    assert state.booster.feature_importance().sum() > 0


@pytest.mark.parametrize("kind", ["double", "float", "count", "frame"])
@pytest.mark.parametrize("sample", [200_000, 100])
@pytest.mark.parametrize("filtered", [False, True])
def test_edges_alone_are_those_of_a_dataset(kind, sample, filtered):
    X, y = frame()
    doubles = encode(X.drop(columns="a b")).values  # noqa: PD011
    doubles[::5, 0] = 1e-36
    # Columns that exclude each other are bundled.
    doubles = np.column_stack((doubles, np.eye(20)[np.arange(len(y)) * 7 % 20] * (1 + np.arange(len(y))[:, None] % 3)))
    counts = np.random.default_rng(0).integers(-(2**40), 2**40, (len(y), 4))
    made = {"double": doubles, "float": doubles.astype(np.float32), "count": counts, "frame": X}
    matrix = encode(made[kind])
    params = {
        "bin_construct_sample_cnt": sample,
        "feature_pre_filter": filtered,
        "min_data_in_leaf": 3,
        "num_threads": 1,
        "min_data_in_bin": 1,
        "max_bin": 63,
        "seed": 3,
        "verbosity": -1,
    }
    categories = ["word"] if kind == "frame" else [1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = lightgbm.Dataset(
            matrix.values[:240],  # noqa: PD011
            y[:240],
            feature_name=matrix.names,
            categorical_feature=categories,
            params=dict(params),
        )
        plain.construct()
    models = []
    for reference in (plain, edges_alone(matrix, 240, categories, params)):
        names = {"feature_name": matrix.names}
        binned = lightgbm.Dataset(matrix.values, y, reference=reference, params=dict(params), **names)
        trained = lightgbm.train({**params, "min_data_per_group": 5}, binned, 10)
        models.append(trained.model_to_string())
    assert models[0] == models[1]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n_features", [1, 20])
@pytest.mark.parametrize("n", [40, 100])
def test_edges_alone_leave_the_rows_as_they_are(order, n_features, n):
    X = np.array(np.random.default_rng(0).normal(size=(100, n_features)), order=order)
    before = X.copy()
    edges_alone(replace(encode(X), values=X), n, [], {"verbosity": -1})
    assert np.array_equal(X, before)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_sparse_rows(drive, dtype):
    X = sparse.random(400, 30, 0.1, format="csr", random_state=0) * 10
    y = (np.asarray(X[:, :5].sum(axis=1)).ravel() > 3).astype(int)
    rows = drive.Rows(X.astype(dtype), y, np.array([0, 1]))
    parts = drive.build(drive.wrap(), rows, 4)
    assert parts == drive.build(drive.wrap(), rows, 4, cache=False)
    ones = sparse.csr_matrix(np.ones((100, 30), dtype=dtype))
    altered = replace(rows, X=sparse.vstack([rows.X[:300], ones]).tocsr())
    assert parts[:3] == drive.build(drive.wrap(), altered, 4, until=3)


def frame(n=300):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a b": rng.normal(size=n), "count": rng.integers(0, 50, n), "flag": rng.random(n) > 0.5})
    X["word"] = pd.Categorical(rng.choice(list("xyzw"), n), categories=list("wxyzq"))
    X["size"] = pd.Categorical(rng.choice(list("lmh"), n), categories=list("lmh"), ordered=True)
    X["maybe"] = pd.array(rng.integers(0, 9, n), dtype="Int64")
    X.loc[::9, "word"] = X.loc[::7, "a b"] = X.loc[3, "maybe"] = None
    return X, ((X["word"].cat.codes % 2 + X["count"] / 25 + rng.random(n)) > 2).to_numpy(dtype=int)


def test_frames_with_categories_are_the_bare_model_bit_for_bit(drive):
    X, y = frame()
    rows = drive.Rows(X, y, np.array(["n", "y"]))
    model = lightgbm.LGBMClassifier(n_estimators=8, num_leaves=6, min_child_samples=5)
    learner = drive.wrap()
    parts = drive.build(learner, rows, 1)
    assert np.array_equal(drive.predict(learner, parts, X), drive.bare(model, rows).predict_proba(X))
    assert learner.load(parts[-1]).booster.feature_name()[0] == "a_b"
    assert drive.build(learner, rows, 4) == drive.build(learner, rows, 4, cache=False)


def test_text_columns_are_named(drive):
    X, y = frame(40)
    X["remark"] = [f"remark {i}" for i in range(40)]
    with pytest.raises(DataTypeError, match="remark"):
        drive.build(drive.wrap(), drive.Rows(X, y, np.array([0, 1])), 1)


def test_class_weights_go_by_label(drive):
    weight = np.random.default_rng(0).random(360) + 0.1
    rows = drive.rows_for("multiclass", weight)
    by_label = {10: 5.0, 30: 0.5}
    model = lightgbm.LGBMClassifier(n_estimators=8, num_leaves=6, min_child_samples=5, class_weight=by_label)
    learner = drive.wrap(class_weight=by_label | {99: 7.0})
    parts = drive.build(learner, rows, 1)
    assert np.array_equal(drive.predict(learner, parts, rows.X), drive.bare(model, rows).predict_proba(rows.X))


def test_a_custom_objective_may_take_weights(drive):
    weight = np.random.default_rng(0).random(360) + 0.1
    rows = drive.rows_for("real", weight)
    model = lightgbm.LGBMRegressor(n_estimators=8, num_leaves=6, min_child_samples=5, objective=weighted_pull)
    learner = drive.wrap("LGBMRegressor", objective=weighted_pull)
    assert np.array_equal(
        drive.predict(learner, drive.build(learner, rows, 1), rows.X), drive.bare(model, rows).predict(rows.X)
    )


@pytest.mark.parametrize("n_slices", [1, 3])
def test_early_stopping_looks_at_held_out_rows_of_the_prefix(drive, n_slices):
    rows = drive.rows_for("binary")
    learner = drive.wrap(n_estimators=300, early_stopping_rounds=3)
    parts = drive.build(learner, rows, n_slices)
    assert parts == drive.build(learner, rows, n_slices, cache=False)
    assert n_slices <= learner.load(parts[-1]).booster.num_trees() < 300


def test_the_guard_is_for_sliced_log_losses_and_can_be_overridden(drive):
    whole, part = drive.step_of(0, 1), drive.step_of(0, 4)
    default: Settings = drive.wrap().settings
    assert default.training(whole, 2)["lambda_l2"] == 0
    assert default.training(part, 2)["lambda_l2"] == GUARD
    assert drive.wrap(reg_lambda=0.2).settings.training(part, 2)["lambda_l2"] == 0.2
    for own in ({"max_delta_step": 2.0}, {"max_leaf_output": 0}):
        assert drive.wrap(**own).settings.training(part, 2)["lambda_l2"] == 0
    assert drive.wrap("LGBMRegressor").settings.training(part, None)["lambda_l2"] == 0


def test_bins_are_coarse_until_they_are_renewed_unless_their_number_is_given(drive):
    steps = [drive.step_of(r, 5) for r in range(5)]
    default, own = drive.wrap().settings, drive.wrap(max_bins=99).settings
    assert [default.binning(step, 0).get("max_bin") for step in steps] == [COARSE, COARSE, None, None, None]
    assert "max_bin" not in default.binning(drive.step_of(0, 1), 0)
    assert [own.binning(step, 0)["max_bin"] for step in steps] == [99] * 5


def test_a_sure_checkpoint_does_not_make_leaves_explode(drive):
    X, y = load_digits(return_X_y=True)
    rows = drive.Rows(X[:700], y[:700], np.arange(10))
    largest = {}
    for name, own in (("guarded", {}), ("not guarded", {"max_delta_step": 0})):
        learner = drive.wrap(n_estimators=150, num_leaves=31, min_child_samples=5, **own)
        state = learner.load(drive.build(learner, rows, 5)[-1])
        largest[name] = np.abs(state.booster.predict(X, raw_score=True)).max()
    assert largest["guarded"] < 30 < largest["not guarded"]


def test_threads_side_by_side_train_the_same_bytes(drive):
    kinds = [{"linear_tree": True}, {"use_quantized_grad": True}, {"subsample": 0.5, "subsample_freq": 1}]
    learners = [drive.wrap(n_estimators=20, **params) for params in kinds]
    rows = drive.rows_for("binary")
    alone = [drive.build(learner, rows, 4) for learner in learners]
    with ThreadPoolExecutor(3) as pool:
        beside = list(pool.map(lambda learner: drive.build(learner, rows, 4), learners * 2))
    assert beside == alone * 2


SCRIPT = """
import hashlib, importlib.util, sys
spec = importlib.util.spec_from_file_location("conftest_by_path", sys.argv[1])
driver = importlib.util.module_from_spec(spec)
sys.modules["conftest_by_path"] = driver
spec.loader.exec_module(driver)
learner = driver.wrap(subsample=0.6, subsample_freq=1, bagging_seed=3)
parts = driver.build(learner, driver.rows_for("multiclass"), 4)
print(learner.fingerprint, hashlib.sha256(repr([sorted(p.items()) for p in parts]).encode()).hexdigest())
"""


def test_another_process_leaves_the_same_bytes():
    conftest = str(Path(__file__).with_name("conftest.py"))
    environments = [{**os.environ, "PYTHONHASHSEED": seed} for seed in ("1", "2")]
    runs = [
        subprocess.run([sys.executable, "-c", SCRIPT, conftest], env=env, capture_output=True, text=True, check=True)
        for env in environments
    ]
    assert len({run.stdout for run in runs}) == 1


def test_nothing_that_is_handed_in_changes(drive):
    rows, learner = drive.rows_for("binary"), drive.wrap()
    before = pickle.dumps(rows), pickle.dumps(learner)
    state = learner.train(None, drive.batch_of(rows, 90, 0, {}), drive.step_of(0, 4))
    kept = pickle.dumps(state)
    learner.predict(state, rows.X)
    learner.train(state, drive.batch_of(rows, 180, 90, {}), drive.step_of(1, 4))
    assert (pickle.dumps(rows), pickle.dumps(learner)) == before
    assert pickle.dumps(state) == kept


@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize("share", [{"subsample": 0.8}, {"subsample": 0.1}, {"neg_bagging_fraction": 0.05}])
def test_a_slice_of_few_rows_has_no_empty_bag(drive, share, n):
    learner = drive.wrap("LGBMRegressor", subsample_freq=1, **share)
    rng = np.random.default_rng(0)
    rows = drive.Rows(rng.normal(size=(n, 3)), rng.normal(size=n))
    assert np.isfinite(drive.predict(learner, drive.build(learner, rows, 5), rows.X)).all()
