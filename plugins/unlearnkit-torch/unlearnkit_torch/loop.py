"""The training loop: batches gathered from tensors that lie ready, nothing per row in Python."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isinf
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from unlearnkit_torch.budget import Work
from unlearnkit_torch.losses import BatchLoss
from unlearnkit_torch.runtime import fill_restored, stop_filling

if TYPE_CHECKING:
    from unlearnkit_torch.model import TorchModel


@dataclass(frozen=True, slots=True)
class Rows:
    """Features, targets and weights (None: all 1) on the device; only the first rows of X may be the batch's.

    Attributes
    ----------
    dtype : torch.dtype
        What X becomes, batch by batch where it is narrower.
    """

    X: Tensor
    y: Tensor
    weight: Tensor | None
    dtype: torch.dtype

    def take(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The rows of an index, as new tensors."""
        weight = None if self.weight is None else self.weight.index_select(0, index)
        return self.X.index_select(0, index).to(self.dtype), self.y.index_select(0, index), weight


@dataclass(slots=True)
class Trainer:
    """A module in training, with all that moves while it trains.

    Attributes
    ----------
    losses : list of float
        Sum and number of the batch losses since the last tick, for a scheduler that watches them.
    tried : bool
        Whether the module has trained on a batch.
    """

    model: TorchModel
    module: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler | None
    loss: BatchLoss
    losses: list[float]
    tried: bool = False

    def run(self, rows: Rows, work: Work, ticks: Iterator[int], order: torch.Generator) -> None:
        """Train on the batches of `work`; each takes the scheduler forward by the next of `ticks`."""
        self.module.train()
        with fill_restored():
            for index in shuffled(work, order, rows.X.device):
                # The first batch shows, by NaN in all weights, a module that reads memory before it writes there.
                if self.tried:
                    stop_filling()
                self._batch(*rows.take(index))
                self.tried = True
                if self.scheduler is not None:
                    self.tick(next(ticks))
        self._drop_gradients()

    def _batch(self, X: Tensor, y: Tensor, weight: Tensor | None) -> None:
        self._drop_gradients()
        loss = self.loss(self.module(X), y, weight)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.model.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.model.max_grad_norm)
        self.optimizer.step()
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.losses = [self.losses[0] + loss.item(), self.losses[1] + 1]

    def _drop_gradients(self) -> None:
        if type(self.optimizer).zero_grad is not Optimizer.zero_grad:
            self.optimizer.zero_grad(set_to_none=True)
            return
        # What it does, without what it does around that for profilers, which small batches feel.
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def tick(self, times: int) -> None:
        """Move the scheduler on; one that has a fixed number of steps stays at its last rate."""
        for _ in range(times):
            if isinstance(self.scheduler, ReduceLROnPlateau):
                self._tick_plateau(self.scheduler)
            elif self.scheduler is not None and not _is_over(self.scheduler):
                self.scheduler.step()

    def _tick_plateau(self, scheduler: ReduceLROnPlateau) -> None:
        total, count = self.losses
        if count:
            scheduler.step(total / count)
            self.losses = [0.0, 0.0]


def _is_over(scheduler: LRScheduler) -> bool:
    total: Any = getattr(scheduler, "total_steps", float("inf"))
    # Torch counts the first rate as a step: at the number of all of them it is one past the last.
    return not isinf(total) and scheduler.last_epoch >= total - 1


def shuffled(work: Work, order: torch.Generator, device: torch.device) -> Iterator[Tensor]:
    """The row numbers of each batch: every pass goes through the rows in a new order."""
    n = work.batches[-1][1] if work.batches else 0
    for number in range(work.passes + (1 if work.rest else 0)):
        # Drawn on the CPU whatever the device: one sequence of random numbers everywhere.
        places = torch.randperm(n, generator=order, device="cpu").to(device)
        bounds = work.batches if number < work.passes else work.batches[: work.rest]
        for start, stop in bounds:
            yield places[start:stop]
