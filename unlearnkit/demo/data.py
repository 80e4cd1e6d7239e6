"""The rows that the demonstration works on, and how they are divided."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unlearnkit.typing import AnyArray, BoolArray, Task

HELD_OUT = 4
FORGOTTEN_IDS = 2


@dataclass(frozen=True)
class Data:
    """Rows to demonstrate on.

    Attributes
    ----------
    name : str
    X : ndarray or DataFrame of shape (n, n_features)
    y : ndarray of shape (n,)
    ids : ndarray of shape (n,) or None
        None: a row is addressed by the label of the frame's index.
    task : {"classification", "regression"}
    """

    name: str
    X: Any
    y: AnyArray
    ids: AnyArray | None
    task: Task

    def take(self, rows: BoolArray) -> Data:
        """Only these rows."""
        X = self.X.loc[rows] if hasattr(self.X, "loc") else self.X[rows]
        return replace(self, X=X, y=self.y[rows], ids=None if self.ids is None else self.ids[rows])

    @property
    def handles(self) -> AnyArray:
        """What `forget` is called with, for each row."""
        return np.asarray(self.X.index) if self.ids is None else self.ids

    @property
    def categories(self) -> list[str]:
        """The category columns of a frame."""
        dtypes = getattr(self.X, "dtypes", None)
        return [] if dtypes is None else [name for name, dtype in dtypes.items() if str(dtype) == "category"]

    @property
    def numbers(self) -> list[str]:
        """The other columns of a frame."""
        return [name for name in self.X.columns if name not in self.categories]


def split(data: Data) -> tuple[Data, Data, BoolArray]:
    """Rows to train on, held-out rows, and which of the former will be forgotten.

    All rows of an id go the same way. Held-out rows of a class that is never trained on are left out.
    """
    owners = np.unique(data.handles.astype(str), return_inverse=True)[1]
    order = np.random.default_rng(0).permutation(owners.max() + 1)
    held_out = np.isin(owners, order[: len(order) // HELD_OUT])
    gone = np.isin(owners, order[-FORGOTTEN_IDS:])
    known = np.isin(data.y, data.y[~held_out]) if data.task == "classification" else held_out
    return data.take(~held_out), data.take(held_out & known), gone[~held_out]


def digits() -> Data:
    """1,797 handwritten digits."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return Data("digits", (X / 16).astype(np.float32), y, _numbers(len(y)), "classification")


def breast_cancer() -> Data:
    """569 tumours, 30 measurements."""
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    return Data("breast cancer", X, y, _numbers(len(y)), "classification")


def breast_cancer_frame() -> Data:
    """The same as a frame, with the radius in fixed classes as a category."""
    import pandas as pd
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    size = pd.cut(X["mean radius"], [0, 12, 15, 20, np.inf], labels=["small", "medium", "large", "huge"])
    return Data(
        "breast cancer",
        X.assign(size=size.astype(str).astype("category")),
        y.to_numpy(),
        _numbers(len(y)),
        "classification",
    )


def diabetes() -> Data:
    """442 patients, and the progress of their disease."""
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True)
    return Data("diabetes", X, y, _numbers(len(y)), "regression")


def diabetes_frame() -> Data:
    """The same as a frame in its own units, with the sex as a category."""
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    return Data(
        "diabetes",
        X.assign(sex=X["sex"].map({1.0: "1", 2.0: "2"}).astype("category")),
        y.to_numpy(),
        _numbers(len(y)),
        "regression",
    )


def _numbers(n: int) -> AnyArray:
    """Ids that are not positions, so that nobody takes the one for the other."""
    return np.arange(1001, 1001 + n)
