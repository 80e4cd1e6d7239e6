"""The epochs of a skorch net that fall to one step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np
import torch
from skorch.dataset import get_len

from unlearnkit.learner import Step
from unlearnkit.typing import AnyArray, FloatArray
from unlearnkit_torch import budget
from unlearnkit_torch.skorch_rules import held_out


@dataclass(frozen=True, slots=True)
class Data:
    """The rows of a prefix as the net takes them, and a number in [0, 1) of each row's own."""

    X: AnyArray
    y: AnyArray
    u: FloatArray


def train_epochs(net: Any, data: Data, step: Step, owed: Fraction) -> Fraction:
    """Train as skorch's ``fit_loop`` does, and return the rows that rounding to batches left over.

    A step has its whole number of the net's ``max_epochs``; together they show the rows ``step.epochs`` times as
    often, so that an epoch is shorter in early slices and longer in late ones.
    """
    net.check_data(data.X, data.y)
    train, valid = _split(net, data, step)
    batches = _batches(net, train)
    epochs, passes = step.units(net.max_epochs), int(net.max_epochs) * step.epochs
    if epochs == 0 or not batches:
        return owed + passes * int(get_len(train))
    work = budget.plan(batches, passes, owed)
    stream = _endless(net.get_iterator(train, training=True), _smallest(net))
    validation = None if valid is None else net.get_iterator(valid, training=False)
    datasets = {"dataset_train": train, "dataset_valid": valid}
    for count in _shares(max(work.total, epochs), epochs):
        net.notify("on_epoch_begin", **datasets)
        net.run_single_epoch(islice(stream, count), training=True, prefix="train", step_fn=net.train_step)
        net.run_single_epoch(validation, training=False, prefix="valid", step_fn=net.validation_step)
        net.notify("on_epoch_end", **datasets)
    return work.owed


def _shares(total: int, parts: int) -> Iterator[int]:
    for part in range(parts):
        yield total * (part + 1) // parts - total * part // parts


def _split(net: Any, data: Data, step: Step) -> tuple[Any, Any]:
    """Rows to train on and rows to watch.

    All at once, as the net's own ``train_split`` has it; when sliced, or with too few rows for its folds, by a number
    of each row's own, so that a row is watched in every slice or in none.
    """
    share = held_out(net)
    if share is None or (step.whole and _has_folds(net, data.y, share)):
        return net.get_split_datasets(data.X, data.y)  # type: ignore[no-any-return]
    watched = data.u < share
    if watched.all() or not watched.any():
        return net.get_dataset(data.X, data.y), None
    return net.get_dataset(data.X[~watched], data.y[~watched]), net.get_dataset(data.X[watched], data.y[watched])


def _has_folds(net: Any, y: AnyArray, share: float) -> bool:
    rarest = np.unique(y, return_counts=True)[1].min() if net.train_split.stratified else len(y)
    return bool(rarest * share >= 1)


def _batches(net: Any, train: Any) -> tuple[budget.Bounds, ...]:
    """The batches of one pass, as the net's own iterator cuts them."""
    size = net.get_params_for("iterator_train").get("batch_size", net.batch_size)
    n = get_len(train)
    batches = budget.split(n, n if size == -1 else size)[: len(net.get_iterator(train, training=True))]
    return tuple((start, stop) for start, stop in batches if stop - start >= _smallest(net))


def _endless(iterator: Any, smallest: int) -> Iterator[Any]:
    while True:
        for batch in iterator:
            if get_len(batch[0]) >= smallest:
                yield batch


def _smallest(net: Any) -> int:
    """Two where batches are normalised: torch cannot train on one row then."""
    modules = (getattr(net, f"{name}_") for name in net._modules)  # noqa: SLF001
    kind = torch.nn.modules.batchnorm._BatchNorm  # noqa: SLF001
    return 2 if any(isinstance(part, kind) for module in modules for part in module.modules()) else 1
