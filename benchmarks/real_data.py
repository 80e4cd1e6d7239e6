"""The real data of the benchmarks, each with the test rows by which models are judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

TEST_EVERY = 5


@dataclass(frozen=True)
class Split:
    """Rows to train on, in the order of the file, and rows to judge by."""

    name: str
    metric: str
    X: Any
    y: np.ndarray
    X_test: Any
    y_test: np.ndarray

    def head(self, n: int) -> Split:
        """At most n rows of each part, evenly spaced: files are ordered, so the first n would not do."""
        train, test = spaced(len(self.y), n), spaced(len(self.y_test), n)
        return replace(
            self,
            X=rows_of(self.X, train),
            y=self.y[train],
            X_test=rows_of(self.X_test, test),
            y_test=self.y_test[test],
        )


def rows_of(X: Any, rows: np.ndarray) -> Any:
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def spaced(n: int, wanted: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, wanted)).astype(np.int64))


def hold_out(name: str, metric: str, X: Any, y: np.ndarray) -> Split:
    """Every fifth row of the file is a test row, so that both parts cover the file from end to end, in its order."""
    test = np.arange(len(y)) % TEST_EVERY == TEST_EVERY - 1
    train, test = np.flatnonzero(~test), np.flatnonzero(test)
    return Split(name, metric, rows_of(X, train), y[train], rows_of(X, test), y[test])


def adult(folder: Path) -> Split:
    """32,561 + 16,281 people; categories kept, "?" is missing. The split is the source's own."""
    import pandas as pd

    files = [folder / "adult" / f"adult_{part}.csv" for part in ("train", "test")]
    parts = [pd.read_csv(file, header=None, skipinitialspace=True, na_values="?") for file in files]
    both = pd.concat(parts, ignore_index=True).rename(columns="c{}".format)
    y = both.pop("c14").str.startswith(">50K").to_numpy(dtype=np.int64)
    X, n = with_categories(both), len(parts[0])
    return Split("Adult", "AUC", X.iloc[:n], y[:n], X.iloc[n:], y[n:])


def bank(folder: Path) -> Split:
    """45,211 calls in the order in which they were made: 3 % say yes in the first tenth, 47 % in the last."""
    import pandas as pd

    X = pd.read_csv(folder / "bank_marketing" / "bank-full.csv")
    y = X.pop("y").eq("yes").to_numpy(dtype=np.int64)
    return hold_out("Bank", "AUC", with_categories(X), y)


def with_categories(X: Any) -> Any:
    """The text columns as categories, with the vocabulary of all rows, which is public."""
    text = X.select_dtypes(exclude="number").columns
    return X.astype(dict.fromkeys(text, "category"))


def agaricus(folder: Path) -> Split:
    """6,513 + 1,611 mushrooms, 126 sparse indicators."""
    from sklearn.datasets import load_svmlight_file

    (X, y), (X_test, y_test) = (
        load_svmlight_file(str(folder / "xgboost_agaricus" / f"agaricus.txt.{part}"), n_features=127)
        for part in ("train", "test")
    )
    return Split("agaricus", "acc.", X, y.astype(np.int64), X_test, y_test.astype(np.int64))


def multiclass(folder: Path) -> Split:
    """LightGBM's example: 7,000 + 500 rows, 28 numbers, five classes."""
    home = folder / "lightgbm_examples" / "multiclass_classification"
    train, test = (np.loadtxt(home / f"multiclass.{part}") for part in ("train", "test"))
    return Split(
        "multiclass", "acc.", train[:, 1:], train[:, 0].astype(np.int64), test[:, 1:], test[:, 0].astype(np.int64)
    )


def mnist(folder: Path) -> Split:
    """60,000 + 10,000 handwritten digits, sorted by class."""

    def read(part: str) -> tuple[np.ndarray, np.ndarray]:
        with np.load(folder / "mnist" / f"{part}.npz") as file:
            pixels, labels = file["x"], file["y"]
        return pixels.reshape(len(labels), -1) / np.float32(255), labels.astype(np.int64)

    return Split("MNIST", "acc.", *read("train"), *read("test"))


def digits(folder: Path | None) -> Split:  # noqa: ARG001
    """1,797 small digits that come with scikit-learn."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return hold_out("digits", "acc.", X, y.astype(np.int64))


LOADERS: dict[str, Callable[..., Split]] = {
    load.__name__: load for load in (digits, adult, bank, agaricus, multiclass, mnist)
}
