"""Tables in files."""

import datetime as dt
import importlib.util

import numpy as np
import pytest

from unlearnkit.errors import DataError, ParameterError
from unlearnkit.tables import check_columns, check_writable, ids_of, read_table, write_table

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")


def frame():
    return pd.DataFrame({"a": [1, 2, 3], "b": [0.5, None, 1.5], "c": ["x", "y", None]})


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet", "t.PQ"])
def test_what_is_written_is_read(tmp_path, name):
    write_table(frame(), tmp_path / name)

    pd.testing.assert_frame_equal(read_table(tmp_path / name), frame())
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    write_table(frame(), tmp_path / "t.parquet")
    before = (tmp_path / "t.parquet").read_bytes()
    broken = pd.DataFrame({"a": [1, "x", dt.date(2020, 1, 1)]})

    with pytest.raises(Exception, match=r"t\.parquet|x|str|int"):
        write_table(broken, tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_names_that_say_nothing_are_refused(tmp_path):
    with pytest.raises(ParameterError, match=r"neither CSV nor Parquet.*\.csv"):
        check_writable(tmp_path / "out.xlsx")
    with pytest.raises(DataError, match="no folder"):
        check_writable(tmp_path / "none" / "out.csv")


def test_a_folder_is_no_table(tmp_path):
    (tmp_path / "t.csv").mkdir()

    with pytest.raises(DataError, match="could not be written"):
        write_table(frame(), tmp_path / "t.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", None, "cannot be read"),
        ("t.parquet", None, "cannot be read"),
        ("t.parquet", b"PAR1 but no more", "not a Parquet file"),
        ("t.csv", b"", "not a CSV table"),
        ("t.csv", b"a,b\n", "no rows"),
        ("t.csv", b"a,b\n1,2,3\n4,5,6\n", "more cells than the header"),
        ("t.csv", b"a,b\n1,2\n3,4,5\n", "not a CSV table"),
        ("t.csv", b"a,b\n\xff\xfe,1\n", "not UTF-8"),
    ],
)
def test_files_that_are_no_use(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(DataError, match=message) as caught:
        read_table(tmp_path / name)
    assert "nothing was done" in str(caught.value)


def test_missing_libraries_are_named(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    write_table(frame(), tmp_path / "t.parquet")
    for package, extra in (("pyarrow", "store"), ("pandas", "pandas")):
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, gone=package: None if name == gone else find(name)
        )
        with pytest.raises(DataError, match=rf"unlearnkit\[{extra}\]"):
            read_table(tmp_path / "t.parquet")


def test_labels_of_a_parquet_file_are_a_column(tmp_path):
    pd.DataFrame({"a": [1, 2]}, index=pd.Index([7, 9], name="who")).to_parquet(tmp_path / "t.parquet")

    assert read_table(tmp_path / "t.parquet").columns.tolist() == ["who", "a"]


def test_booleans_with_a_gap_are_numbers_to_a_model(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\nTrue,x\n,y\nFalse,z\n")

    assert str(read_table(tmp_path / "t.csv")["a"].dtype) == "boolean"


@pytest.mark.parametrize(
    ("written", "ids"),
    [
        (["1", "20", "-3"], [1, 20, -3]),
        (["1.0", "20", "3.00"], [1, 20, 3]),
        (["9007199254740993"], [9007199254740993]),
        (["0042", "42"], ["0042", "42"]),
        (["NA", "null", "nan"], ["NA", "null", "nan"]),
        (["a", "1"], ["a", "1"]),
        (["1.5", "2"], ["1.5", "2"]),
        (["7", "", "8"], [7, None, 8]),
    ],
)
def test_ids_are_taken_as_they_are_written(tmp_path, written, ids):
    (tmp_path / "t.csv").write_text("id;x\n" + "".join(f"{one};1\n" for one in written))

    found = ids_of(read_table(tmp_path / "t.csv", "id")["id"]).tolist()
    assert found == ids
    assert list(map(type, found)) == list(map(type, ids))


def test_ids_of_other_columns():
    assert ids_of(pd.Series([1.0, np.nan, 3.0])).tolist() == [1, None, 3]
    assert ids_of(pd.Series([1, None], dtype="Int64")).tolist() == [1, None]
    assert ids_of(pd.Series([1.5, 2.0])).tolist() == [1.5, 2.0]
    assert ids_of(pd.Series([b"x", b"y"])).tolist() == [b"x", b"y"]


def test_columns_are_there_and_used_once(tmp_path):
    check_columns(frame(), tmp_path / "t.csv", {"target": "a", "id": "c"})

    with pytest.raises(DataError, match=r"no column 'd'.*first line, which must be the header, names: a, b, c"):
        check_columns(frame(), tmp_path / "t.csv", {"target": "d"})
    with pytest.raises(DataError, match=r"no column 'd'.*It has: a, b, c"):
        check_columns(frame(), tmp_path / "t.parquet", {"target": "d"})
    with pytest.raises(ParameterError, match="'a' cannot be both target and id"):
        check_columns(frame(), tmp_path / "t.csv", {"target": "a", "id": "a"})
