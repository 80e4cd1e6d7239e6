"""A small network for data of any width, as scikit-learn's checks need it."""

from __future__ import annotations

from torch import Tensor, nn

WIDTH = 64


class Padded(nn.Module):
    """One linear layer over the first `WIDTH` features; narrower data are filled up with zeros."""

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, n_outputs)

    def forward(self, X: Tensor) -> Tensor:
        X = X.reshape(len(X), -1).float()[:, :WIDTH]
        return self.layer(nn.functional.pad(X, (0, WIDTH - X.shape[1])))
