"""What users hold tables in, and what the core makes of it."""

from __future__ import annotations

import datetime as dt
import decimal
import subprocess
import sys
import textwrap
import uuid

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest
import scipy.sparse as sp

from unlearnkit.containers import column, native, take_ids
from unlearnkit.errors import DataError, DataTypeError

EMAIL = "alice@example.org"


def every_type():
    """A polars frame with a column of each type that can be a feature; the second row is missing."""
    day = pd.Timestamp("2020-01-02 03:04:05").to_pydatetime()
    return pl.DataFrame(
        {
            "int": [2**60 + 1, None],
            "float": [1.5, None],
            "truth": [False, None],
            "text": ["b", None],
            "date": [day.date(), None],
            "time": [day, None],
            "span": [dt.timedelta(seconds=1), None],
            "decimal": [decimal.Decimal("1.50"), None],
            "nothing": [None, None],
            "codes": pl.Series(["b", None], dtype=pl.Categorical),
            "enum": pl.Series(["b", None], dtype=pl.Enum(["z", "b"])),
            "small": pl.Series([1, None], dtype=pl.UInt8),
            "half": pl.Series([1.5, None], dtype=pl.Float16),
        }
    )


KINDS = {
    "int": "Int64",
    "float": "float64",
    "truth": "boolean",
    "text": "object",
    "date": "datetime64[s]",
    "time": "datetime64[us]",
    "span": "timedelta64[us]",
    "decimal": "float64",
    "nothing": "float64",
    "codes": "category",
    "enum": "category",
    "small": "UInt8",
    "half": "float16",
}
FRAMES = {
    "polars": lambda frame: frame,
    "pyarrow": lambda frame: frame.to_arrow(),
    "batch": lambda frame: frame.to_arrow().to_batches()[0],
    "chunks": lambda frame: pa.concat_tables([frame[:1].to_arrow(), frame[1:].to_arrow()], promote_options="default"),
}


def table(**columns):
    return pa.table(
        {name: pa.array(values) if isinstance(values, list) else values for name, values in columns.items()}
    )


def dictionary(codes, values, *, ordered=False):
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(values), ordered=ordered)


# -- frames ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_columns_of_every_type_keep_their_values_and_what_is_missing(make):
    X = native(make(every_type()))
    assert isinstance(X.index, pd.RangeIndex)
    assert X.dtypes.astype(str).to_dict() == KINDS
    assert X.iloc[1].isna().all()
    assert X.drop(columns="nothing").iloc[0].tolist() == [
        2**60 + 1,
        1.5,
        False,
        "b",
        pd.Timestamp("2020-01-02"),
        pd.Timestamp("2020-01-02 03:04:05"),
        pd.Timedelta(1, "s"),
        1.5,
        "b",
        "b",
        1,
        1.5,
    ]
    assert X["enum"].cat.categories.tolist() == ["z", "b"]
    assert (X["enum"].cat.ordered, X["codes"].cat.ordered) == (True, False)


@pytest.mark.parametrize("make", [lambda frame: frame, pl.DataFrame.to_arrow], ids=["polars", "pyarrow"])
def test_columns_without_missing_values_are_plain(make):
    X = native(make(every_type()[:1].drop("nothing")))
    assert X.drop(columns=["text", "codes", "enum"]).dtypes.map(lambda d: isinstance(d, np.dtype)).all()
    assert (X["int"].dtype, X["truth"].dtype, X["small"].dtype) == ("int64", "bool", "uint8")
    assert len(native(make(every_type().clear()))) == 0


def test_a_vocabulary_depends_neither_on_order_nor_on_what_the_process_has_read():
    pl.Series(["never in the frame"], dtype=pl.Categorical)
    values = ["rome", "bern", None, "oslo"]
    frames = [
        pl.DataFrame({"c": pl.Series(order, dtype=pl.Categorical)})
        for order in (values, values[::-1], sorted(values, key=str))
    ]
    frames += [frame.to_arrow() for frame in frames]
    frames += [table(c=dictionary([2, 0, None, 1], ["bern", "oslo", "rome", "nowhere"]))]
    for frame in frames:
        assert native(frame)["c"].cat.categories.tolist() == ["bern", "oslo", "rome"]


def test_chunks_with_vocabularies_of_their_own_share_one():
    chunks = pa.chunked_array([dictionary([0, 1], ["b", "a"]), dictionary([0, None], ["c"])])
    codes = native(table(c=chunks))["c"].cat
    assert (codes.categories.tolist(), codes.codes.tolist()) == (["a", "b", "c"], [1, 0, 2, -1])


def test_a_dictionary_of_numbers_is_a_category_of_numbers():
    assert native(table(c=pa.array([3, 1, None]).dictionary_encode()))["c"].cat.categories.tolist() == [1, 3]


def test_an_order_that_chunks_do_not_agree_on_is_refused():
    same, other = dictionary([0], ["b", "a"], ordered=True), dictionary([0], ["a", "b"], ordered=True)
    assert native(table(c=pa.chunked_array([same, same])))["c"].cat.categories.tolist() == ["b", "a"]
    with pytest.raises(DataTypeError, match="Column 'c'"):
        native(table(c=pa.chunked_array([same, other])))
    assert native(table(c=pa.chunked_array([], same.type)))["c"].cat.categories.tolist() == []


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([[1]]),
        pl.Series([{"a": 1}]),
        pl.Series([dt.time(1)]),
        pl.Series([b"a"]),
        pl.Series([pd.Timestamp("2020-01-01").to_pydatetime()]).dt.replace_time_zone("UTC"),
        pl.Series([1], dtype=pl.Int128),
        pa.array([[1]]),
        pa.array([{"a": 1}]),
        pa.array([dt.time(1)]),
        pa.array([b"a"]),
        pa.array([pd.Timestamp("2020-01-01").to_pydatetime()], pa.timestamp("us", "UTC")),
        pa.array([uuid.UUID(int=1).bytes], pa.uuid()),
        dictionary([0], [[1]]),
    ],
    ids=lambda values: str(values.dtype if isinstance(values, pl.Series) else values.type),
)
def test_a_column_that_is_no_feature_is_named(values):
    make = pl.DataFrame if isinstance(values, pl.Series) else pa.table
    with pytest.raises(DataTypeError, match=r"Column 'odd' is of type .*nothing was changed"):
        native(make({"odd": values}))


@pytest.mark.parametrize(
    ("X", "method"),
    [
        (pl.LazyFrame({"a": [1]}), "collect"),
        (table(a=[1]).to_reader(), "read_all"),
        (pyarrow.dataset.dataset(table(a=[1])), "to_table"),
    ],
    ids=["LazyFrame", "RecordBatchReader", "Dataset"],
)
def test_what_holds_no_rows_yet_is_refused(X, method):
    for read in (native, column, lambda X: take_ids(X, "a")):
        with pytest.raises(DataTypeError, match=rf"Give \.{method}\(\)"):
            read(X)


def test_frames_with_odd_columns_are_refused():
    with pytest.raises(DataError, match="same name"):
        native(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]))
    with pytest.raises(DataError, match=r"__index_level_0__.*preserve_index=False"):
        native(pa.Table.from_pandas(pd.DataFrame({"a": [1]}, index=["x"])))


def test_without_pandas_there_is_a_word_about_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(DataError, match=r"pip install 'unlearnkit\[pandas\]'"):
        native(pl.DataFrame({"a": [1]}))


# -- what is left alone, and tensors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "X",
    [np.zeros((2, 1)), [[1]], sp.eye(2).tocsr(), sp.coo_array(np.eye(2)), pd.DataFrame({"a": [1]}), None, 3, []],
)
def test_what_the_core_knows_is_left_alone(X):
    assert native(X) is X
    assert column(X) is X


def test_tensors_become_arrays():
    torch = pytest.importorskip("torch")
    for dtype in (torch.float64, torch.float32, torch.float16, torch.int64, torch.bool):
        tensor = torch.ones(2, 1, dtype=dtype)
        assert str(native(tensor).dtype) == str(dtype).removeprefix("torch.")
    weights = torch.nn.Parameter(torch.ones(2, 1))
    assert native(weights).tolist() == [[1.0], [1.0]]
    assert weights.requires_grad
    assert native([torch.ones(2, requires_grad=True), torch.zeros(2)]).tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert column([torch.tensor(1), torch.tensor(0)]).tolist() == [1, 0]


def test_a_float_format_that_numpy_lacks_becomes_one_that_holds_it():
    torch = pytest.importorskip("torch")
    tensor = torch.tensor([[1.0, 3.140625]], dtype=torch.bfloat16)
    array = native(tensor)
    assert array.dtype == np.float32
    assert array.tolist() == [[1.0, 3.140625]]


def test_a_tensor_without_an_array_is_refused():
    torch = pytest.importorskip("torch")
    for tensor in (torch.eye(2).to_sparse(), torch.ones(2, device="meta")):
        with pytest.raises(DataTypeError, match=r"does not convert to an array: .* Nothing was changed"):
            native(tensor)


# -- targets, weights and ids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [pl.Series, pa.array, lambda values: pa.chunked_array([values[:1], values[1:]])])
@pytest.mark.parametrize(
    "values", [[1, 0], [2**60 + 1, None], [True, None], ["b", "a"], ["b", None], [1.5, 2.0], [b"a", None]]
)
def test_columns_become_arrays_of_the_same_values(make, values):
    array = column(make(values))
    assert isinstance(array, np.ndarray)
    assert array.tolist() == values


def test_values_that_are_no_feature_may_be_ids():
    named = uuid.UUID(int=5)
    assert column(pa.array([named.bytes], pa.uuid())).tolist() == [named]
    assert column(pl.Series(["b", "a"], dtype=pl.Categorical)).tolist() == ["b", "a"]
    assert column(pl.Series([decimal.Decimal(5), None])).tolist()[0] == 5.0


def test_a_frame_of_targets_becomes_a_matrix():
    for make in (pl.DataFrame, pa.table):
        assert column(make({"a": [1.0, 2.0], "b": [3, 4]})).tolist() == [[1.0, 3.0], [2.0, 4.0]]


def test_an_object_with_an_array_is_one():
    class Lazy:
        def __array__(self, dtype=None, copy=None):
            return np.arange(3)

    assert column(Lazy()).tolist() == [0, 1, 2]
    lazy = Lazy()
    assert take_ids(pd.DataFrame({"a": [1]}), lazy)[1] is lazy
    assert column(np.float64(2)) == 2


# -- ids by the name of a column -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [pd.DataFrame, pl.DataFrame, pa.table, lambda columns: pa.table(columns).to_batches()[0]],
    ids=["pandas", "polars", "pyarrow", "batch"],
)
def test_a_column_of_ids_is_taken_out_of_the_features(make):
    X = make({"age": [30, 40], "customer": ["x", "y"], "income": [1.5, 2.5]})
    rest, ids = take_ids(X, "customer")
    assert native(rest).to_dict("list") == {"age": [30, 40], "income": [1.5, 2.5]}
    assert list(ids) == ["x", "y"]
    assert list(native(X).columns) == ["age", "customer", "income"]


def test_ids_that_could_be_no_feature_are_taken_out_before_anybody_looks():
    X = pa.table({"a": [1, 2], "who": pa.array([uuid.UUID(int=i).bytes for i in (1, 2)], pa.uuid())})
    rest, ids = take_ids(X, "who")
    assert native(rest).columns.tolist() == ["a"]
    assert ids.tolist() == [uuid.UUID(int=1), uuid.UUID(int=2)]


@pytest.mark.parametrize("label", [0, np.int64(0), ("a", "b"), 1.5, dt.date(2020, 1, 1)])
def test_a_label_need_not_be_a_string(label):
    other = ("a", "c") if isinstance(label, tuple) else 7
    X = pd.DataFrame([[5, 1], [6, 2]]).set_axis(pd.Index([label, other], tupleize_cols=False), axis=1)
    rest, ids = take_ids(X, label)
    assert (list(rest.columns), ids.tolist()) == ([other], [5, 6])


@pytest.mark.parametrize("ids", [None, [1, 2], (1, 2), np.array([1, 2]), pd.Series([1, 2]), range(2), {1, 2}])
def test_ids_of_rows_are_no_label(ids):
    X = pd.DataFrame({"a": [1, 2]})
    assert take_ids(X, ids)[0] is X
    assert take_ids(X, ids)[1] is ids


@pytest.mark.parametrize("X", [np.zeros((2, 1)), [[1], [2]], sp.eye(2).tocsr(), pd.Series([1, 2])])
@pytest.mark.parametrize("ids", [EMAIL, 7, uuid.UUID(int=7), b"id"])
def test_a_label_needs_a_frame(X, ids):
    with pytest.raises(DataError, match="one id for each row, or a frame") as caught:
        take_ids(X, ids)
    assert str(ids) not in str(caught.value)


@pytest.mark.parametrize(
    ("X", "ids", "match"),
    [
        (pd.DataFrame({"customer_id": [1]}), "customerid", r"Near it are \['customer_id'\]"),
        (pl.DataFrame({"customer_id": [1]}), "customer", r"Near it are \['customer_id'\]"),
        (pd.DataFrame({"a": [1]}), EMAIL, "nor one of a similar name"),
        (pd.DataFrame({"a": [1]}), 7, "nor one of a similar name"),
        (pd.DataFrame({"a": [1]}).rename_axis("who"), "who", "name of the index.*reset_index"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "a", "several columns"),
        (pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), "a", "several columns"),
    ],
)
def test_a_column_of_ids_has_to_be_there_once(X, ids, match):
    with pytest.raises(DataError, match=match) as caught:
        take_ids(X, ids)
    assert EMAIL not in str(caught.value)


# -- processes -------------------------------------------------------------------------------------------------------


def run(script):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120, check=False
    )


def test_no_library_is_imported_for_what_is_not_its_own():
    done = run("""
        import sys
        import numpy as np
        from unlearnkit.containers import column, native, take_ids
        native(np.zeros((2, 1))), native([[1]]), column([1, 2]), take_ids(np.zeros((2, 1)), [1, 2])
        print(sorted({"polars", "pyarrow", "torch", "pandas"} & sys.modules.keys()))
    """)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("kind", ["Categorical", 'Enum(["bern", "oslo", "rome"])'])
def test_categories_of_polars_do_not_kill_a_process_with_lightgbm(kind):
    pytest.importorskip("lightgbm")
    done = run(f"""
        import polars as pl
        from lightgbm import LGBMClassifier
        from unlearnkit import SISAClassifier

        cities = ["rome", "oslo", "bern", None] * 30
        X = pl.DataFrame({{"city": pl.Series(cities, dtype=pl.{kind}), "n": [i * 0.5 for i in range(120)]}})
        y = [int(city == "rome") for city in cities]
        params = {{"min_data_per_group": 1, "min_child_samples": 1, "cat_smooth": 1, "verbose": -1}}
        model = SISAClassifier(LGBMClassifier(learning_rate=1, **params), n_shards=2, random_state=0)
        model.fit(X, y, ids=range(120)).forget([3])
        print("result", model.predict(X).sum())
    """)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "result 30\n"
