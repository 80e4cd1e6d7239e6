"""The two workloads of the paper's table in small: what is trained on, and what is trained."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.cluster import MiniBatchKMeans
from torch import nn


@dataclass(frozen=True)
class Case:
    """One workload.

    Attributes
    ----------
    X, y : ndarray
        As the model gets them; a loop without it gets float32 tensors.
    X_test, y_test : ndarray
        Held out.
    net : callable
        Makes the module.
    paper : dict of int to float or None
        Requests in one batch, and the speed-up that the paper measured for as many.
    most_lost : float
        The points of accuracy that sharding may cost; inf where nothing is promised.
    gigabytes : int
        Memory that the arms need, about.
    """

    name: str
    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    net: Callable[[], nn.Module]
    batch_size: int
    lr: float
    n_shards: int
    n_slices: int
    epochs: int
    paper: dict[int, float | None]
    most_lost: float
    gigabytes: int


# -- Purchase: baskets of binary features, two clusters as classes -----------------------------------------------


def purchase(*, quick: bool) -> Case:
    n, n_test = (4_000, 1_000) if quick else (250_000, 25_000)
    X = baskets(n + n_test)
    y = (
        MiniBatchKMeans(2, random_state=0, batch_size=4_096, n_init=3)
        .fit_predict(X.astype(np.float32))
        .astype(np.int64)
    )
    return Case(
        name="Purchase",
        X=X[:n],
        y=y[:n],
        X_test=X[n:],
        y_test=y[n:],
        net=basket_net,
        batch_size=256,
        lr=0.1,
        n_shards=4 if quick else 20,
        n_slices=5 if quick else 50,
        epochs=2 if quick else 20,
        paper={1: None, 8: 4.63, 39: 1.36},
        most_lost=2.0,
        gigabytes=0 if quick else 2,
    )


def baskets(n: int, n_products: int = 600, n_types: int = 100, seed: int = 0) -> np.ndarray:
    """Who bought what: customers of some types, each with its own taste, (n, n_products) of 0 and 1."""
    rng = np.random.default_rng(seed)
    taste = rng.beta(0.3, 1.2, size=(n_types, n_products)).astype(np.float32)
    types = rng.integers(n_types, size=n)
    X = np.empty((n, n_products), dtype=np.uint8)
    for rows in np.array_split(np.arange(n), max(1, n // 10_000)):
        X[rows] = rng.random((len(rows), n_products), dtype=np.float32) < taste[types[rows]]
    return X


def basket_net() -> nn.Module:
    return nn.Sequential(nn.Linear(600, 128), nn.Tanh(), nn.Linear(128, 2))


# -- SVHN: small colour images -----------------------------------------------------------------------------------


def svhn(data: Path | None, *, quick: bool) -> Case:
    n, n_test = (300, 100) if quick else (12_000, 2_000)
    found = data is not None and (data / "cifar10").is_dir()
    X, y = cifar(data / "cifar10" / "train_jpeg.npz", n) if found else drawn_images(n, seed=0)
    X_test, y_test = cifar(data / "cifar10" / "test_jpeg.npz", n_test) if found else drawn_images(n_test, seed=1)
    return Case(
        name="CIFAR-10" if found else "patterns",
        X=X,
        y=y,
        X_test=X_test,
        y_test=y_test,
        net=WideResNet,
        batch_size=64,
        lr=0.05,
        n_shards=4 if quick else 20,
        n_slices=5 if quick else 50,
        epochs=2 if quick else 20,
        paper={18: 2.45},
        most_lost=float("inf"),
        gigabytes=0 if quick else 2,
    )


def cifar(path: Path, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n images drawn from the file, which is ordered; channels first, and their classes."""
    with np.load(path) as stored:
        jpeg, offsets, y = stored["jpeg"], stored["offsets"], stored["y"].astype(np.int64)
    chosen = np.random.default_rng(0).choice(len(y), size=n, replace=False)
    images = [np.asarray(Image.open(io.BytesIO(jpeg[offsets[i] : offsets[i + 1]].tobytes()))) for i in chosen]
    return centred(np.stack(images).transpose(0, 3, 1, 2)), y[chosen]


def drawn_images(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten blurred patterns under noise."""
    patterns = np.random.default_rng(7).integers(256, size=(10, 3, 8, 8)).repeat(4, axis=2).repeat(4, axis=3)
    rng = np.random.default_rng(seed)
    y = rng.integers(10, size=n)
    noisy = patterns[y] + rng.normal(0, 80, size=(n, 3, 32, 32))
    return centred(noisy.clip(0, 255)), y


def centred(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels, dtype=np.float32) / 64 - 2


class WideResNet(nn.Module):
    """Three wide residual blocks on images halved at the start: small enough for one core."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.norm = nn.GroupNorm(8, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.norm(self.blocks(self.stem(X))))
        return self.head(features.mean(dim=(2, 3)))


class Block(nn.Module):
    """Normalise, rectify, convolve, twice; and the input added."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, n_in), nn.GroupNorm(8, n_out)
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.skip = nn.Identity() if n_in == n_out else nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        inside = self.conv1(torch.relu(self.norm1(X)))
        return self.skip(X) + self.conv2(torch.relu(self.norm2(inside)))
