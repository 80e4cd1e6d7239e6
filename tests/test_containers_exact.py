"""Exact forgetting over everything that users hold tables in: the same bytes from every container, and after a forget
the bytes of a fit without the records.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from unlearnkit import SISAClassifier
from unlearnkit.errors import SchemaError

N = 120
GONE = (1003, 1013, 1020, 1077)


def lightgbm(**params):
    module = pytest.importorskip("lightgbm")
    return module.LGBMClassifier(n_estimators=4, min_child_samples=3, verbose=-1, **params)


def xgboost(**params):
    return pytest.importorskip("xgboost").XGBClassifier(n_estimators=4, max_depth=3, **params)


def catboost():
    return pytest.importorskip("catboost").CatBoostClassifier(iterations=4, depth=3, verbose=False)


def pipeline():
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    encoder = OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer((encoder, ["city"]), (numbers, ["age", "income", "member", "visits"]))
    return make_pipeline(columns, LogisticRegression())


MIXED = {
    "lightgbm": (lightgbm, 2),
    "xgboost": (lambda: xgboost(enable_categorical=True), 2),
    "catboost": (catboost, 2),
    "hgb": (lambda: HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=3, random_state=0), 1),
    "pipeline": (pipeline, 1),
}


@functools.cache
def mixed():
    """Numbers, truth values and categories, with missing values, as lists."""
    rng = np.random.default_rng(0)
    city = [None if i % 17 == 5 else ("oslo", "rome", "bern")[c] for i, c in enumerate(rng.integers(0, 3, N))]
    income = np.round(rng.normal(size=N), 6).tolist()
    columns = {
        "city": city,
        "age": [None if i % 13 == 3 else float(a) for i, a in enumerate(rng.integers(18, 90, N))],
        "income": income,
        "member": (rng.random(N) < 0.5).tolist(),
        # One value alone is missing, and forgotten.
        "visits": [None if i == 3 else int(v) for i, v in enumerate(rng.integers(0, 9, N))],
    }
    return columns, [int(i + (c == "rome") > 0.3) for i, c in zip(income, city, strict=True)]


def pandas(**dtypes):
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in mixed()[0].items()})
    defaults = {"city": object, "age": "float64", "income": "float64", "member": bool, "visits": "float64"}
    return frame.astype(defaults | dtypes)


def polars(city=pl.String):
    return pl.DataFrame(mixed()[0]).with_columns(pl.col("city").cast(city))


ARROW = {"city": pd.ArrowDtype(pa.string()), "age": "double[pyarrow]", "member": "bool[pyarrow]"}
CONTAINERS = {
    "object": pandas,
    "str": lambda: pandas(city="str"),
    "string": lambda: pandas(city="string"),
    "category": lambda: pandas(city="category"),
    "nullable": lambda: pandas(city="string", age="Float64", income="Float64", member="boolean", visits="Int64"),
    "arrow": lambda: pandas(**ARROW, income="double[pyarrow]", visits="int64[pyarrow]"),
    "polars": polars,
    "polars-categorical": lambda: polars(pl.Categorical),
    "pyarrow": lambda: polars().to_arrow(),
    "pyarrow-dictionary": lambda: polars(pl.Categorical).to_arrow(),
    "pyarrow-batch": lambda: polars().rechunk().to_arrow().combine_chunks().to_batches()[0],
}
# Another schema: the order is declared.
ORDERED = {"polars-enum": lambda: polars(pl.Enum(["rome", "nowhere", "bern", "oslo"]))}


def those(X, keep):
    """The rows of any container."""
    if isinstance(X, pl.DataFrame | pl.Series):
        return X.filter(pl.Series(keep))
    if hasattr(X, "filter") and hasattr(X, "schema"):
        return X.filter(pa.array(keep))
    return list(itertools.compress(X, keep)) if isinstance(X, list) else X[keep]


def new(make, n_slices):
    return SISAClassifier(make(), n_shards=2, n_slices=n_slices, random_state=0)


def assert_exact(model, X, y, ids, ask=None):
    """Forgetting leaves the bytes and predictions of a fit without the records, and forgets something."""
    keep = ~np.isin(np.asarray(ids), GONE)
    fitted = model.fit(X, y, ids=ids)
    before = fitted.model_digest_
    assert fitted.forget(GONE).n_records == len(GONE)
    reference = fitted.pinned().fit(those(X, keep), those(y, keep), ids=those(ids, keep))
    assert fitted.model_digest_ == reference.model_digest_ != before
    ask = X if ask is None else ask
    assert np.array_equal(fitted.predict_proba(ask), reference.predict_proba(ask))
    return before, fitted


@functools.cache
def digest_of(name):
    """The digest over frames of pandas with strings as objects."""
    make, n_slices = MIXED[name]
    return new(make, n_slices).fit(pandas(), mixed()[1], ids=list(range(1000, 1000 + N))).model_digest_


@pytest.mark.parametrize("container", CONTAINERS | ORDERED)
@pytest.mark.parametrize("name", MIXED)
def test_forgetting_is_exact_in_every_frame(name, container):
    make, n_slices = MIXED[name]
    ids = list(range(1000, 1000 + N))
    before, fitted = assert_exact(new(make, n_slices), (CONTAINERS | ORDERED)[container](), mixed()[1], ids)
    if container in CONTAINERS:
        assert before == digest_of(name)
    # The one value that was missing is gone; the column still is what it was declared as.
    assert {c.name: c.dtype for c in fitted.schema_.columns}["visits"] == "<f8"
    # Every container is asked in every other.
    assert np.array_equal(fitted.predict(pandas()), fitted.predict(polars()))


@pytest.mark.parametrize("container", ["category", "polars", "pyarrow", "nullable"])
def test_ids_by_the_name_of_a_column(container):
    X = CONTAINERS[container]()
    ids = list(range(1000, 1000 + N))
    if isinstance(X, pd.DataFrame):
        X = X.assign(customer=ids)
    elif isinstance(X, pl.DataFrame):
        X = X.with_columns(customer=pl.Series(ids))
    else:
        X = X.append_column("customer", pa.array(ids))
    fitted = new(*MIXED["lightgbm"]).fit(X, mixed()[1], ids="customer")
    assert fitted.model_digest_ == digest_of("lightgbm")
    assert list(fitted.feature_names_in_) == ["city", "age", "income", "member", "visits"]
    assert fitted.forget(1003).n_records == 1


# -- targets, weights and ids ----------------------------------------------------------------------------------------

COLUMNS = {
    "list": list,
    "array": np.array,
    "series": pd.Series,
    "nullable": lambda values: pd.Series(values, dtype="Float64" if isinstance(values[0], float) else "Int64"),
    "arrow": lambda values: pd.Series(pa.array(values).to_pandas(), dtype=pd.ArrowDtype(pa.array(values).type)),
    "polars": pl.Series,
    "pyarrow": pa.array,
    "chunks": lambda values: pa.chunked_array([values[:7], values[7:]]),
    "tensor": lambda values: pytest.importorskip("torch").tensor(values),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_targets_weights_and_ids_in_every_column(kind):
    make, y, ids = COLUMNS[kind], mixed()[1], list(range(1000, 1000 + N))
    weight = [1.0 + i % 3 for i in range(N)]
    fits = [new(*MIXED["lightgbm"]).fit(pandas(), wrap(y), wrap(weight), ids=wrap(ids)) for wrap in (list, make)]
    assert fits[0].model_digest_ == fits[1].model_digest_
    assert fits[1].forget(make(list(GONE))).n_records == len(GONE)


# -- arrays ----------------------------------------------------------------------------------------------------------


class Lazy:
    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)

    def __getitem__(self, rows):
        return Lazy(self.values[rows])


ARRAYS = {
    "array": np.array,
    "fortran": np.asfortranarray,
    "view": lambda X: np.repeat(X, 2, axis=0)[::2],
    "list": lambda X: X.tolist(),
    "rows": list,
    "tensor": lambda X: pytest.importorskip("torch").tensor(X, requires_grad=True),
    "object": Lazy,
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("make", [lightgbm, SGDClassifier], ids=["lightgbm", "sgd"])
def test_forgetting_is_exact_in_every_array(make, kind):
    X = np.round(np.random.default_rng(1).normal(size=(N, 4)), 6)
    y, ids = (X[:, 0] > 0).astype(int), np.arange(1000, 1000 + N)
    model = new(make, 2)
    fitted = model.fit(ARRAYS[kind](X), y, ids=ids)
    assert fitted.model_digest_ == new(make, 2).fit(X, y, ids=ids).model_digest_
    fitted.forget(GONE)
    keep = ~np.isin(ids, GONE)
    reference = fitted.pinned().fit(those(ARRAYS[kind](X), keep), y[keep], ids=ids[keep])
    assert fitted.model_digest_ == reference.model_digest_
    assert np.array_equal(fitted.predict(ARRAYS[kind](X)), reference.predict(X))


def test_half_precision_tensors():
    torch = pytest.importorskip("torch")
    X = torch.tensor(np.random.default_rng(1).normal(size=(N, 4)), dtype=torch.bfloat16)
    y = (X[:, 0] > 0).int()
    fitted = new(SGDClassifier, 2).fit(X, y, ids=torch.arange(N))
    assert fitted.model_digest_ == new(SGDClassifier, 2).fit(X.float().numpy(), y.numpy(), ids=range(N)).model_digest_


# -- sparse rows -----------------------------------------------------------------------------------------------------


@functools.cache
def hashed():
    """Sparse rows as a hasher makes them of words, which looks at each row alone."""
    rng = np.random.default_rng(2)
    words = [[f"w{w}" for w in rng.integers(0, 40, 6)] for _ in range(N)]
    X = FeatureHasher(n_features=32, input_type="string").transform(words)
    # To XGBoost a stored zero is a number and no entry is a missing value; some formats store none.
    X.eliminate_zeros()
    return X, np.arange(N) % 2


FORMATS = ["csr", "csc", "coo", "bsr", "lil", "dok", "dia"]
SPARSE = [f"{form}_{kind}" for form in FORMATS for kind in ("matrix", "array")]


@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")
@pytest.mark.parametrize("name", ["lightgbm", "xgboost", "sgd"])
def test_forgetting_is_exact_in_every_sparse_format(name):
    make = {"lightgbm": lightgbm, "xgboost": xgboost, "sgd": lambda: SGDClassifier(loss="log_loss")}[name]
    X, y = hashed()
    ids = np.arange(1000, 1000 + N)
    digest, fitted = assert_exact(new(make, 2), X.tocsr(), y, ids)
    others = [getattr(sp, form)(X) for form in SPARSE] if name != "sgd" else [sp.coo_array(X)]
    assert {new(make, 2).fit(other, y, ids=ids).model_digest_ for other in others} == {digest}
    assert len({fitted.predict(other).tobytes() for other in others}) == 1


def test_forgetting_is_exact_behind_a_hashing_pipeline():
    rng = np.random.default_rng(3)
    # More different texts than a vocabulary may have: they are rows, and not part of the schema.
    n = 1100
    texts = [f"{i} " + " ".join(f"w{w}" for w in rng.integers(0, 30, 5)) for i in range(n)]
    y, ids = [int("w1 " in text) for text in texts], np.arange(1000, 1000 + n)
    columns = make_column_transformer((HashingVectorizer(n_features=64), "text"))
    digests = set()
    for X in (pd.DataFrame({"text": texts}), pl.DataFrame({"text": texts})):
        model = new(lambda: make_pipeline(columns, SGDClassifier(loss="log_loss", max_iter=5, tol=None)), 2)
        before, fitted = assert_exact(model, X, y, ids)
        digests.add(before)
        assert texts[0] not in fitted.schema_.to_json()
    assert len(digests) == 1


# -- what does not fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MIXED, "array"])
def test_columns_in_another_order_are_refused_in_every_call(name):
    make, n_slices = MIXED.get(name, (LogisticRegression, 1))
    X = polars()[["income", "member"]] if name == "array" else polars()
    y, ids = mixed()[1], list(range(1000, 1000 + N))
    fitted = new(make, n_slices).fit(X, y, ids=ids)
    wrong = X[X.columns[::-1]]
    for call in (
        lambda: fitted.predict(wrong),
        lambda: fitted.pinned().fit(wrong, y, ids=ids),
        lambda: fitted.verify(wrong, y, ids=ids),
    ):
        with pytest.raises((SchemaError, ValueError), match=r"(another|same) order"):
            call()


@pytest.mark.parametrize("name", ["lightgbm", "hgb"])
def test_an_unseen_category_is_what_the_wrapped_model_makes_of_it(name):
    # One shard with one slice trains what the bare model trains.
    params = {"min_data_per_group": 1, "cat_smooth": 1} if name == "lightgbm" else {}
    make = (lambda: lightgbm(**params)) if name == "lightgbm" else MIXED["hgb"][0]
    X, y = pandas(city="category"), mixed()[1]
    ask = X.assign(city=pd.Categorical(["rome", "paris", None] * (N // 3), categories=["paris", "rome"]))
    ours = SISAClassifier(make(), n_shards=1, n_slices=1, random_state=0).fit(X, y, ids=range(N))
    assert np.array_equal(ours.predict_proba(ask), ours.predict_proba(ask.assign(city=ask["city"].astype(object))))
    bare = make().fit(X, y)
    assert np.allclose(ours.predict_proba(ask), bare.predict_proba(ask), atol=1e-6)


@pytest.mark.parametrize("container", CONTAINERS | ORDERED)
def test_a_history_in_a_store_is_exact_in_every_frame(container, tmp_path):
    """Arrivals and rectifications, with the ids as a column, in whatever the frames are of."""
    X, y = (CONTAINERS | ORDERED)[container](), mixed()[1]
    ids = list(range(1000, 1000 + N))
    first, later, wrong = ([lo <= i < hi for i in range(N)] for lo, hi in ((0, 80), (80, N), (40, 44)))
    other = [not target for target in y]

    def history(model, without=()):
        def rows(chosen):
            keep = [c and i not in without for c, i in zip(chosen, ids, strict=True)]
            return those(X, keep), those(y, keep), those(ids, keep)

        for chosen, call in ((first, model.fit), (later, model.partial_fit)):
            part, target, own = rows(chosen)
            call(part, target, ids=own)
        part, _, own = rows(wrong)
        model.rectify(part, [other[i - 1000] for i in own], ids=own)
        return model

    model = new(lightgbm, 2).set_params(store=tmp_path / "a.sisa")
    history(model)
    gone = (*GONE, 1041, 1090)
    assert model.forget(gone).n_records == len(gone)
    twin = history(model.pinned(), without=gone)
    assert model.model_digest_ == twin.model_digest_
    assert np.array_equal(model.predict_proba(X), twin.predict_proba(X))
    assert model.verify().exact
