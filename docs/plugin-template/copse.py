"""A made-up library, as small as it can be and still be worth wrapping: a wood of random stumps.

Each stump cuts the rows in two, at a value of a feature that are both drawn by chance, and holds the shares of the
classes on either side. Delete this file from a plugin of your own: it stands for the framework that you wrap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Stumps:
    """Some stumps: the feature and the cut of each, and the shares (n, 2, k) of the classes below and above it."""

    features: np.ndarray[Any, Any]
    cuts: np.ndarray[Any, Any]
    shares: np.ndarray[Any, Any]

    def total(self, X: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The sum over the stumps of the shares that each row is given, of shape (n_rows, k)."""
        total = np.zeros((len(X), self.shares.shape[2]))
        for feature, cut, shares in zip(self.features, self.cuts, self.shares, strict=True):
            total += shares[(X[:, feature] > cut).astype(int)]
        return total


def grow(X: Any, codes: Any, n_classes: int, *, n: int, seed: int, smoothing: float, weight: Any = None) -> Stumps:
    """`n` stumps that are drawn by `seed`."""
    rng = np.random.default_rng(seed)
    features = rng.integers(X.shape[1], size=n)
    cuts = X[rng.integers(len(X), size=n), features].astype(float)
    shares = np.empty((n, 2, n_classes))
    for i in range(n):
        above = X[:, features[i]] > cuts[i]
        for side in (0, 1):
            rows = above == side
            inside = None if weight is None else weight[rows]
            counts = np.bincount(codes[rows], weights=inside, minlength=n_classes) + smoothing
            shares[i, side] = counts / counts.sum()
    return Stumps(features, cuts, shares)


class CopseClassifier:
    """The mean of many random stumps."""

    def __init__(self, n_stumps: int = 50, smoothing: float = 1.0, random_state: int | None = None) -> None:
        self.n_stumps = n_stumps
        self.smoothing = smoothing
        self.random_state = random_state

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002 - scikit-learn's way
        """The parameters."""
        return {name: getattr(self, name) for name in ("n_stumps", "smoothing", "random_state")}

    def set_params(self, **params: Any) -> CopseClassifier:
        """Change parameters."""
        vars(self).update(params)
        return self

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CopseClassifier:
        """Grow the stumps."""
        self.classes_, codes = np.unique(y, return_inverse=True)
        seed = 0 if self.random_state is None else self.random_state
        self.n_features_in_ = X.shape[1]
        facts = {"n": self.n_stumps, "seed": seed, "smoothing": self.smoothing, "weight": sample_weight}
        self.stumps_ = grow(X, codes, len(self.classes_), **facts)
        return self

    def predict_proba(self, X: Any) -> Any:
        """The mean of the shares."""
        return self.stumps_.total(X) / len(self.stumps_.cuts)

    def predict(self, X: Any) -> Any:
        """The likeliest class."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]
