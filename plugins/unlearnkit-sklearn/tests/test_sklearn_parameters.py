"""Parameters keep their meaning, or are refused by name."""

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.feature_selection import SelectFromModel
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import CategoricalNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from unlearnkit.errors import CapabilityError, DataError, ParameterError, UnsupportedModelError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FITTED = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
LABELS = np.array(["ant", "bee", "cat"])
WEIGHTS = {"ant": 1.0, "bee": 5.0, "cat": 2.0}


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (CalibratedClassifierCV(FrozenEstimator(FITTED)), "estimator"),
        (make_pipeline(SelectFromModel(FITTED, prefit=True), LogisticRegression()), "prefit"),
        (StackingClassifier([("a", LogisticRegression())], cv="prefit"), "cv"),
        (make_pipeline(StandardScaler(), LogisticRegression(), memory="cache"), "memory"),
        (make_pipeline(StandardScaler(), LogisticRegression(), transform_input=["w"]), "transform_input"),
        (SVC(kernel="precomputed"), "kernel"),
        (KNeighborsClassifier(metric="precomputed"), "metric"),
        (GridSearchCV(LogisticRegression(), {}, refit=False), "refit"),
        (SelfTrainingClassifier(LogisticRegression()), "SelfTrainingClassifier"),
        (MultiOutputClassifier(LogisticRegression()), "MultiOutputClassifier"),
        (make_pipeline(LogisticRegression(), StandardScaler()), "standardscaler"),
        (make_pipeline(StandardScaler(), "passthrough"), "passthrough"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_exact_is_refused_by_name(model, named, sisa):
    with pytest.raises(CapabilityError, match=named):
        sisa.learner(model)


@pytest.mark.parametrize("model", [KMeans(), StandardScaler(), IsolationForest(), LogisticRegression])
def test_what_predicts_no_target_is_unsupported(model, sisa):
    with pytest.raises(UnsupportedModelError):
        sisa.learner(model)


def test_live_generators_are_refused(sisa):
    with pytest.raises(ParameterError, match="random_state"):
        sisa.learner(RandomForestClassifier(random_state=np.random.RandomState(0)))


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (SGDClassifier(early_stopping=True), "early_stopping"),
        (MLPClassifier(early_stopping=True), "early_stopping"),
        (MLPClassifier(solver="lbfgs"), "lbfgs"),
        (GradientBoostingRegressor(n_iter_no_change=3), "n_iter_no_change"),
        (GradientBoostingClassifier(), "hold back"),
        (HistGradientBoostingClassifier(), "bins"),
        (RandomForestClassifier(oob_score=True), "oob_score"),
        (DecisionTreeClassifier(), "anew"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_one_slice_says_why(model, why, sisa):
    capabilities = sisa.learner(model).capabilities
    assert (capabilities.max_slices, capabilities.resumable) == (1, False)
    assert why in capabilities.why_limited


def test_a_subclass_is_only_fitted(sisa):
    class Stubborn(RandomForestClassifier):
        pass

    assert sisa.learner(Stubborn()).capabilities.max_slices == 1


def test_forests_need_a_tree_for_each_slice(sisa):
    capabilities = sisa.learner(RandomForestClassifier(3)).capabilities
    assert (capabilities.max_slices, capabilities.recommended_slices) == (3, 3)


@pytest.mark.parametrize("R", [1, 2, 3, 5, 7])
def test_slicing_keeps_the_number_of_trees(R, flowers, sisa):
    learner = sisa.learner(RandomForestClassifier(7))
    state = learner.load(sisa.build(learner, sisa.rows(*flowers, R))[-1])
    assert len(learner.whole(state).estimators_) == 7


@pytest.mark.parametrize("R", [2, 3, 4])
def test_slicing_keeps_the_number_of_epochs(R, flowers, sisa):
    X, y = flowers[0][:144], flowers[1][:144]
    learner = sisa.learner(SGDClassifier(max_iter=12, tol=None))
    updates = learner.load(sisa.build(learner, sisa.rows(X, y, R))[-1]).t_ - 1
    # Each step may leave less than one row of its last pass undone.
    assert 0 <= 12 * len(y) - updates < R


def test_tolerance_stops_a_step(flowers, sisa):
    patient, hasty = (sisa.learner(SGDClassifier(max_iter=60, tol=tol, n_iter_no_change=2)) for tol in (None, 1e9))
    rows = sisa.rows(*flowers, 2)
    steps = [learner.load(sisa.build(learner, rows)[-1]).t_ for learner in (patient, hasty)]
    # The first epoch of a step always improves on nothing.
    assert steps[1] - 1 == 3 * rows.ends[0] + 3 * rows.ends[1] < steps[0] - 1


def test_adaptive_rates_are_carried_on(flowers, sisa):
    learner = sisa.learner(SGDClassifier(learning_rate="adaptive", eta0=0.5, max_iter=40, tol=1e9))
    rates = [learner.load(parts).eta0 for parts in sisa.build(learner, sisa.rows(*flowers, 3))]
    assert 0.5 > rates[0] > rates[1] > rates[2] >= 1e-7


@pytest.mark.parametrize("loss", ["hinge", "modified_huber", "squared_hinge", "perceptron"])
def test_objectives_agree_with_scikit_learn(loss, flowers, sisa):
    from unlearnkit_sklearn.linear import objective

    X, y = flowers
    keep = y < 2
    X, y = X[keep], y[keep]
    model = SGDClassifier(loss=loss, alpha=0.01, max_iter=5, tol=None).fit(X, y)
    margins = model.decision_function(X)
    signs = np.where(y == 1, 1.0, -1.0)
    losses = [model._loss_function_.py_loss(sign, margin) for sign, margin in zip(signs, margins, strict=True)]
    batch = sisa.batch_of(sisa.rows(X, y), 0, 0, {}, np.arange(2))
    expected = np.mean(losses) + 0.01 * 0.5 * np.square(model.coef_).sum()
    assert objective(model, batch) == pytest.approx(expected)


@pytest.mark.parametrize("loss", ["huber", "epsilon_insensitive", "squared_epsilon_insensitive", "squared_error"])
def test_regression_objectives_fall(loss, patients, sisa):
    from unlearnkit_sklearn.linear import objective

    X, y = patients
    y = (y - y.mean()) / y.std()
    batch = sisa.batch_of(sisa.rows(X, y), 0, 0, {}, None)
    values = [objective(SGDRegressor(loss, max_iter=n, tol=None, random_state=0).fit(X, y), batch) for n in (1, 50)]
    assert values[1] < values[0]


@pytest.mark.parametrize(
    "make",
    [
        lambda w: SGDClassifier(class_weight=w, max_iter=5),
        lambda w: RandomForestClassifier(4, class_weight=w),
        lambda w: BaggingClassifier(DecisionTreeClassifier(class_weight=w, max_depth=2), n_estimators=4),
        lambda w: GridSearchCV(LogisticRegression(), {"class_weight": [w]}, cv=2),
        lambda w: make_pipeline(StandardScaler(), LogisticRegression(class_weight=w)),
    ],
)
def test_class_weights_speak_of_labels(make, flowers, sisa):
    X, y = flowers
    rows = sisa.rows(X, y)
    by_label = sisa.learner(make({**WEIGHTS, "dog": 9.0}))
    by_code = sisa.learner(make({0: 1.0, 1: 5.0, 2: 2.0}))
    plain = sisa.learner(make(None))
    parts = [sisa.build(learner, rows, LABELS[: y.max() + 1])[0] for learner in (by_label, plain)]
    parts.append(sisa.build(by_code, rows)[0])
    states = [learner.load(p) for learner, p in zip((by_label, plain, by_code), parts, strict=True)]
    answers = [learner.predict(s, X) for learner, s in zip((by_label, plain, by_code), states, strict=True)]
    np.testing.assert_array_equal(answers[0], answers[2])
    assert not np.array_equal(answers[0], answers[1])


def test_binary_problems_inside_keep_their_own_weights(flowers, sisa):
    X, y = flowers
    model = OneVsRestClassifier(LogisticRegression(class_weight={0: 1.0, 1: 7.0}))
    learner = sisa.learner(model)
    answer = learner.predict(learner.load(sisa.build(learner, sisa.rows(X, y), LABELS)[0]), X)
    np.testing.assert_array_equal(answer, model.fit(X, y).predict_proba(X))


def test_a_constant_speaks_of_labels(flowers, sisa):
    learner = sisa.learner(DummyClassifier(strategy="constant", constant="bee"))
    answer = learner.predict(learner.load(sisa.build(learner, sisa.rows(*flowers), LABELS)[0]), flowers[0])
    assert (answer.argmax(axis=1) == 1).all()


@pytest.mark.parametrize(
    "model", [GaussianNB(priors=[0.2, 0.3, 0.5]), LinearDiscriminantAnalysis(priors=[0.2, 0.3, 0.5])]
)
def test_priors_need_all_classes(model, flowers, sisa):
    X, y = flowers
    learner = sisa.learner(model)
    sisa.build(learner, sisa.rows(X, y))
    with pytest.raises(DataError, match="priors has 3 entries"):
        sisa.build(learner, sisa.rows(X[y < 2], y[y < 2]))


def test_gaussian_smoothing_is_that_of_the_prefix(flowers, sisa):
    X, y = flowers
    learner = sisa.learner(GaussianNB(var_smoothing=0.1))
    sliced = learner.predict(learner.load(sisa.build(learner, sisa.rows(X, y, 4))[-1]), X)
    np.testing.assert_allclose(sliced, GaussianNB(var_smoothing=0.1).fit(X, y).predict_proba(X), rtol=1e-9)


def test_unseen_categories_count_as_seen_zero_times(sisa):
    X, y = np.array([[0, 1], [1, 0], [0, 0], [1, 1]]), np.array([0, 1, 0, 1])
    learner = sisa.learner(CategoricalNB())
    answer = learner.predict(learner.load(sisa.build(learner, sisa.rows(X, y))[0]), np.array([[5, 0], [0, 1]]))
    # One of three smoothed counts per class stands for the unseen one, then the second feature decides.
    np.testing.assert_allclose(answer[0], [0.5, 0.5])
    np.testing.assert_array_equal(answer[1], CategoricalNB().fit(X, y).predict_proba([[0, 1]])[0])
    assert np.isfinite(answer).all()


def test_inputs_may_not_be_overwritten(patients, sisa):
    learner = sisa.learner(LinearRegression(copy_X=False))
    X = patients[0].copy()
    sisa.build(learner, sisa.rows(X, patients[1]))
    np.testing.assert_array_equal(X, patients[0])


def test_unseeded_searches_do_not_depend_on_the_global_generator(flowers, sisa):
    model = RandomizedSearchCV(
        make_pipeline(StandardScaler(), DecisionTreeClassifier()),
        {"decisiontreeclassifier": [DecisionTreeClassifier(max_features=1), DecisionTreeClassifier(splitter="random")]},
        n_iter=2,
        cv=2,
    )
    learner, found = sisa.learner(model), []
    for seed in (0, 1):
        np.random.seed(seed)  # noqa: NPY002
        found.append(sisa.build(learner, sisa.rows(*flowers)))
    assert found[0] == found[1]


def test_own_seeds_count(flowers, sisa):
    rows = sisa.rows(*flowers)
    parts = [sisa.build(sisa.learner(RandomForestClassifier(3, random_state=s)), rows) for s in (None, 0, 1)]
    assert parts[0] != parts[1] != parts[2]


def test_n_jobs_never_matters(flowers, sisa):
    rows = sisa.rows(*flowers, 2)
    alone, beside = (sisa.learner(RandomForestClassifier(4, n_jobs=n)) for n in (None, 2))
    assert alone.fingerprint == beside.fingerprint
    assert sisa.build(alone, rows) == sisa.build(beside, rows)


def test_capabilities_are_those_of_the_model(sisa):
    def capable(model):
        return sisa.learner(model).capabilities

    assert capable(KNeighborsClassifier()).stores_training_rows
    assert capable(make_pipeline(StandardScaler(), SVC())).stores_training_rows
    assert not capable(SVC()).probabilities
    assert capable(LogisticRegression()).probabilities
    assert capable(LogisticRegression()).sparse
    assert not capable(GaussianNB()).sparse
    assert capable(HistGradientBoostingClassifier()).missing_values
    assert capable(Ridge()).multi_output
    assert not capable(KNeighborsClassifier()).sample_weight
    assert capable(GridSearchCV(Ridge(), {})).sample_weight


def test_several_targets(patients, sisa):
    X, y = patients
    both = np.column_stack([y, -y])
    learner = sisa.learner(Ridge())
    answer = learner.predict(learner.load(sisa.build(learner, sisa.rows(X, both))[0]), X)
    np.testing.assert_array_equal(answer, Ridge().fit(X, both).predict(X))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_passive_aggressive_models_go_on(flowers, sisa):
    from sklearn.linear_model import PassiveAggressiveClassifier

    model = PassiveAggressiveClassifier(max_iter=5, C=0.1)
    learner, rows = sisa.learner(model), sisa.rows(*flowers, 3)
    assert sisa.build(learner, rows) == sisa.build(sisa.learner(model), rows, cold=True)


def test_callers_threads_do_not_matter(sisa):
    from threadpoolctl import threadpool_limits

    rng = np.random.RandomState(0)
    X, y = rng.rand(1500, 300).astype(np.float32), rng.randint(0, 2, 1500)
    learner = sisa.learner(MLPClassifier((128,), max_iter=1))
    answers = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            state = learner.load(sisa.build(learner, sisa.rows(X, y))[0])
            answers.append(learner.predict(state, X))
    np.testing.assert_array_equal(*answers)


def test_boosters_inside_are_refused(sisa):
    lightgbm = pytest.importorskip("lightgbm")
    with pytest.raises(CapabilityError, match="LGBMClassifier"):
        sisa.learner(BaggingClassifier(lightgbm.LGBMClassifier()))
