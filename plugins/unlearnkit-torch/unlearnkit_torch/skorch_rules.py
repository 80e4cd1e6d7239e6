"""What of a skorch net keeps its meaning when training is cut into steps, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import skorch.callbacks as known_callbacks
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit
from torch import nn
from torch.nn.modules.loss import _Loss

from unlearnkit.errors import CapabilityError, ParameterError
from unlearnkit_torch.names import refuse_live

# Their state is the history, or is stored (LRScheduler).
_CONTINUE = ("BatchScoring", "EpochScoring", "GradientNormClipping", "LRScheduler", "PassthroughScoring")
# They watch the clock or print.
_DROPPED = ("EpochTimer", "PrintLog")
_ONE_FIT = ("EarlyStopping", "Freezer", "Initializer", "ParamMapper", "Unfreezer")
_OF_SKORCH = tuple(cls for cls in vars(known_callbacks).values() if isinstance(cls, type) and cls is not Callback)


def check(net: Any) -> None:
    """Refuse what cannot be kept exactly.

    Raises
    ------
    CapabilityError, ParameterError
        Naming the parameter.
    """
    for name, value in net.get_params(deep=False).items():
        refuse_live(value, name)
    if net.compile:
        raise CapabilityError("compile=True trains by code made anew on each machine; nothing was changed. Drop it.")
    if isinstance(net.max_epochs, bool) or not hasattr(net.max_epochs, "__index__") or net.max_epochs < 1:
        raise ParameterError(f"max_epochs={net.max_epochs!r} is not a whole number of at least 1; nothing was changed.")
    for iterator in ("iterator_train", "iterator_valid"):
        if getattr(net, f"{iterator}__num_workers", 0):
            raise CapabilityError(f"{iterator}__num_workers starts processes for rows in memory; set it to 0.")
    for name, callback in _callbacks(net):
        if _kind(callback) in _OF_SKORCH and _kind(callback).__name__ not in (*_CONTINUE, *_DROPPED, *_ONE_FIT):
            raise CapabilityError(
                f"callbacks: {name} is a {_kind(callback).__name__}, which reads or writes outside the model, or "
                "changes it by the rows it sees; nothing was changed. Leave it out."
            )


def obstacle(net: Any) -> str:
    """Why training cannot go on from a stored state; empty if it can."""
    for name, callback in _callbacks(net):
        if _kind(callback) not in _OF_SKORCH or _kind(callback).__name__ in _ONE_FIT:
            return f"the callback {name} keeps a state of its own that a stored model does not have"
    if net.train_split is not None and held_out(net) is None:
        return "train_split would hold out other rows in every slice (give train_split=None, or ValidSplit(5))"
    return ""


def held_out(net: Any) -> float | None:
    """The share of rows that ``train_split`` holds out, None if it has no share to name."""
    split = net.train_split
    if type(split) is not ValidSplit or not isinstance(split.cv, int | float | None):
        return None
    folds = 5 if split.cv is None else split.cv
    return float(folds) if folds < 1 else 1 / float(folds)


def silenced(net: Any) -> Any:
    """The net without the callbacks that print or watch the clock: times would make every state unique."""
    net.set_params(verbose=0)
    if net.callbacks == "disable":
        return net
    for name, callback in net.get_default_callbacks():
        if _kind(callback).__name__ in _DROPPED:
            net.set_params(**{f"callbacks__{name}": None})
    if net.callbacks:
        net.set_params(callbacks=[item for item in net.callbacks if _kind(_bare(item)).__name__ not in _DROPPED])
    return net


def gives_probabilities(net: Any) -> bool:
    """Whether ``predict_proba`` gives probabilities and ``predict`` is their maximum."""
    if getattr(net, "threshold", 0.5) != 0.5:  # noqa: PLR2004
        return False
    if callable(net.predict_nonlinearity):
        return True
    losses = (nn.NLLLoss, nn.BCELoss)
    by_auto = (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss) if net.predict_nonlinearity == "auto" else ()
    return (
        isinstance(net.criterion, type)
        and issubclass(net.criterion, _Loss)
        and issubclass(net.criterion, (*losses, *by_auto))
    )


def _callbacks(net: Any) -> Iterator[tuple[str, Any]]:
    if net.callbacks == "disable":
        return
    for item in [*net.get_default_callbacks(), *(net.callbacks or [])]:
        callback = _bare(item)
        yield (item[0] if isinstance(item, list | tuple) else _kind(callback).__name__), callback
    for name, value in vars(net).items():
        # A callback exchanged by set_params(callbacks__name=...).
        if name.startswith("callbacks__") and isinstance(value, Callback):
            yield name, value


def _bare(item: Any) -> Any:
    return item[1] if isinstance(item, list | tuple) else item


def _kind(callback: Any) -> type:
    return callback if isinstance(callback, type) else type(callback)
