"""Pipelines: frozen transformers, encoders that know the schema, last steps of any kind."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.tree import DecisionTreeClassifier

from unlearnkit.errors import CapabilityError, StateError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

pd = pytest.importorskip("pandas")

COLOURS = ["red", "blue", "green", "violet"]


def table(n=120, seen=3, missing=()):
    """A frame whose colour column knows one colour more than its rows show."""
    rng = np.random.RandomState(0)
    colour = np.array(COLOURS, dtype=object)[rng.randint(0, seen, n)]
    colour[list(missing)] = None
    frame = pd.DataFrame(
        {
            "size": rng.rand(n),
            "colour": pd.Categorical(colour, categories=COLOURS),
            "level": pd.Categorical(rng.randint(0, 2, n), categories=[0, 1, 2]),
            "age": rng.rand(n),
        }
    )
    return frame, (frame["size"].to_numpy() + rng.rand(n) > 1).astype(np.int64)


def encoded(*last):
    return make_pipeline(
        ColumnTransformer(
            [
                ("hot", OneHotEncoder(), ["colour"]),
                ("number", OrdinalEncoder(), ["level"]),
                ("scale", StandardScaler(), ["size", "age"]),
            ]
        ),
        *last,
    )


def unknown_row(frame):
    other = frame.iloc[:2].copy()
    other["colour"] = pd.Categorical(["violet", "violet"], categories=COLOURS)
    other["level"] = pd.Categorical([2, 2], categories=[0, 1, 2])
    return other


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(StandardScaler(), SGDClassifier(max_iter=5)),
        make_pipeline(QuantileTransformer(n_quantiles=9), PCA(2, svd_solver="randomized"), GaussianNB()),
        make_pipeline(KBinsDiscretizer(3, strategy="uniform"), RandomForestClassifier(4)),
        make_pipeline(SelectKBest(k=2), FeatureUnion([("a", PCA(1)), ("b", "passthrough")]), GaussianNB()),
        make_pipeline("passthrough", GaussianNB()),
        make_pipeline(make_pipeline(StandardScaler(), PCA(2)), make_pipeline(StandardScaler(), GaussianNB())),
        Pipeline([("only", GaussianNB())]),
    ],
    ids=str,
)
def test_pipelines_resume_bit_by_bit(model, flowers, sisa):
    learner, rows = sisa.learner(model), sisa.rows(*flowers, 3)
    parts = sisa.build(learner, rows)
    assert parts == sisa.build(sisa.learner(model), rows, cold=True)
    assert learner.save(learner.load(parts[-1])) == parts[-1]
    assert len({p["transformers"] for p in parts}) == 1
    assert learner.predict(learner.load(parts[-1]), flowers[0]).shape == (150, 3)
    planted = flowers[0].copy()
    planted[rows.ends[1] :] = 99
    assert sisa.build(learner, sisa.Rows(planted, rows.y, rows.ends))[:2] == parts[:2]


def test_one_slice_is_the_bare_pipeline(flowers, sisa):
    model = make_pipeline(StandardScaler(), PCA(3), LogisticRegression())
    learner = sisa.learner(model)
    answer = learner.predict(learner.load(sisa.build(learner, sisa.rows(*flowers))[0]), flowers[0])
    np.testing.assert_array_equal(answer, model.fit(*flowers).predict_proba(flowers[0]))


def test_the_last_step_decides_on_slices(sisa):
    sliced, whole = (
        sisa.learner(make_pipeline(StandardScaler(), last)).capabilities
        for last in (RandomForestClassifier(4), DecisionTreeClassifier())
    )
    assert (sliced.max_slices, sliced.resumable) == (4, True)
    assert (whole.max_slices, whole.resumable) == (1, False)
    assert "anew" in whole.why_limited


def test_encoders_know_the_vocabulary(sisa):
    frame, y = table()
    learner = sisa.learner(encoded(SGDClassifier(loss="log_loss", max_iter=5)))
    state = learner.load(sisa.build(learner, sisa.rows(frame, y, 3))[-1])
    hot = state.transformers[0][1].named_transformers_["hot"]
    assert hot.categories_[0].tolist() == sorted(COLOURS)
    assert learner.predict(state, unknown_row(frame)).shape == (2, 2)


def test_a_vocabulary_that_all_rows_show_changes_nothing(sisa):
    frame, y = table(seen=4)
    frame["level"] = pd.Categorical(frame["level"].to_numpy(), categories=[0, 1])
    model = encoded(LogisticRegression())
    learner = sisa.learner(model)
    answer = learner.predict(learner.load(sisa.build(learner, sisa.rows(frame, y))[0]), frame)
    np.testing.assert_array_equal(answer, model.fit(frame, y).predict_proba(frame))


@pytest.mark.parametrize("missing", [(), (3, 5)])
@pytest.mark.parametrize(
    "encoder",
    [
        OneHotEncoder(),
        OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=2),
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
        make_pipeline(SimpleImputer(strategy="constant", fill_value="none"), OneHotEncoder()),
        OrdinalEncoder(),
        TargetEncoder(),
    ],
    ids=str,
)
def test_missing_categories(encoder, missing, sisa):
    frame, y = table(missing=missing)
    model = make_pipeline(
        ColumnTransformer([("c", encoder, make_column_selector("colour"))]),
        SimpleImputer(),
        GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2),
    )
    learner = sisa.learner(model)
    parts = sisa.build(learner, sisa.rows(frame, y))[0]
    assert parts == sisa.build(sisa.learner(model), sisa.rows(frame, y), cold=True)[0]
    others = pd.concat([unknown_row(frame), frame.iloc[:5]])
    others["colour"] = pd.Categorical(["violet", None, "red", "red", "red", None, "blue"], categories=COLOURS)
    answer = learner.predict(learner.load(parts), others)
    assert np.isfinite(answer).all()


def test_encoders_inside_a_search(sisa):
    frame, y = table()
    learner = sisa.learner(GridSearchCV(encoded(LogisticRegression()), {"logisticregression__C": [0.1, 1]}, cv=2))
    answer = learner.predict(learner.load(sisa.build(learner, sisa.rows(frame, y))[0]), unknown_row(frame))
    assert answer.shape == (2, 2)


def test_open_encoders_need_one_slice(flowers, sisa):
    codes = np.round(flowers[0])
    model = make_pipeline(OneHotEncoder(), SGDClassifier(max_iter=3))
    learner = sisa.learner(model)
    sisa.build(learner, sisa.rows(codes, flowers[1]))
    with pytest.raises(CapabilityError, match="onehotencoder__handle_unknown"):
        sisa.build(learner, sisa.rows(codes, flowers[1], 3))
    tolerant = make_pipeline(OneHotEncoder(handle_unknown="ignore"), SGDClassifier(max_iter=3))
    sisa.build(sisa.learner(tolerant), sisa.rows(codes, flowers[1], 3))


def test_missing_values_go_as_far_as_the_steps_take_them(sisa):
    def takes(*steps):
        return sisa.learner(make_pipeline(*steps)).capabilities.missing_values

    assert takes(SimpleImputer(), LogisticRegression())
    assert takes(StandardScaler(), SimpleImputer(), LogisticRegression())
    assert takes(ColumnTransformer([("i", SimpleImputer(), [0])]), LogisticRegression())
    assert takes(StandardScaler(), RandomForestClassifier())
    assert not takes(StandardScaler(), LogisticRegression())
    assert not takes(PCA(2), RandomForestClassifier())


def test_sparse_rows_and_text(sisa):
    frame = pd.DataFrame({"text": ["good dog", "bad cat", "good cow", "bad dog"] * 10, "n": np.arange(40.0)})
    y = np.array([1, 0] * 20)
    model = make_pipeline(
        ColumnTransformer([("t", TfidfVectorizer(stop_words=["a", "the"]), "text"), ("n", StandardScaler(), ["n"])]),
        SGDClassifier(max_iter=5),
    )
    learner = sisa.learner(model)
    parts = sisa.build(learner, sisa.rows(frame, y, 2))
    assert parts == sisa.build(sisa.learner(model), sisa.rows(frame, y, 2), cold=True)
    answer = learner.predict(learner.load(parts[-1]), frame)
    assert (answer.argmax(axis=1) == y).mean() > 0.7


def test_sparse_input(flowers, sisa):
    X = csr_matrix(np.where(flowers[0] > 3, flowers[0], 0))
    model = make_pipeline(StandardScaler(with_mean=False), SGDClassifier(max_iter=3))
    learner = sisa.learner(model)
    assert learner.capabilities.sparse
    parts = sisa.build(learner, sisa.rows(X, flowers[1], 2))
    assert learner.predict(learner.load(parts[-1]), X).shape == (150, 3)


class Shift(TransformerMixin, BaseEstimator):
    def __init__(self, by=1.0, function=None):
        self.by = by
        self.function = function

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return self.function(X) + self.by


@pytest.mark.parametrize(
    "step", [FunctionTransformer(np.log1p), FunctionTransformer(lambda X: X * 2), Shift(function=lambda X: X - 1)]
)
def test_code_of_the_user_goes_by_its_place(step, flowers, sisa):
    learner = sisa.learner(make_pipeline(step, GaussianNB()))
    parts = sisa.build(learner, sisa.rows(*flowers, 2))[-1]
    state = learner.load(parts)
    assert learner.predict(state, flowers[0]).shape == (150, 3)
    other = sisa.learner(make_pipeline(StandardScaler(), GaussianNB()))
    with pytest.raises(StateError):
        other.load(parts)


def test_parts_of_another_pipeline_are_rejected(flowers, sisa):
    learner = sisa.learner(make_pipeline(StandardScaler(), GaussianNB()))
    parts = sisa.build(learner, sisa.rows(*flowers))[0]
    for wrong in ({}, {**parts, "x": b""}, {"transformers": parts["transformers"]}, {**parts, "transformers": b"PK"}):
        with pytest.raises(StateError):
            learner.load(wrong)
