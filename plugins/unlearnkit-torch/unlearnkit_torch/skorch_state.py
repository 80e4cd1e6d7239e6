"""The parts of a skorch net that training on needs, as plain trees, and its history as JSON."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from skorch import NeuralNet
from skorch.callbacks import LRScheduler
from skorch.history import History
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from unlearnkit.errors import CapabilityError, StateError
from unlearnkit.parts import pack_json, unpack_json
from unlearnkit_torch.warm import refusal, weights_of


def modules(net: Any) -> dict[str, Any]:
    """The weights of all modules and criteria."""
    names = [*net._modules, *net._criteria]  # noqa: SLF001
    found = {name: getattr(net, f"{name}_") for name in names}
    return {name: module.state_dict() for name, module in found.items() if isinstance(module, nn.Module)}


def modules_of(base: Any, own: Mapping[str, Any]) -> dict[str, Any]:
    """The weights of all modules of a fitted skorch net; those of a module stand for that of the net.

    Parameters
    ----------
    base : object
    own : mapping
        What the net that is to be trained has itself.

    Raises
    ------
    ParameterError
        If there are none in the base.
    """
    if not isinstance(base, NeuralNet):
        return {**own, "module": weights_of(base)}
    if not base.initialized_:
        raise refusal("it is a net that is not fitted", "Fit it on public data first")
    found = modules(base)
    if found.keys() != own.keys():
        raise refusal(f"it has the modules {sorted(found)}, and the net has {sorted(own)}", "Use the same kind of net")
    return found


def training(net: Any) -> dict[str, Any]:
    """The state of all optimizers and learning-rate schedulers."""
    return {"optimizers": optimizers(net), "schedulers": {name: s.state_dict() for name, s in _schedulers(net).items()}}


def optimizers(net: Any) -> dict[str, Any]:
    """The state of all optimizers."""
    return {name: getattr(net, f"{name}_").state_dict() for name in net._optimizers}  # noqa: SLF001


def restore_modules(net: Any, stored: Mapping[str, Any]) -> None:
    """Put stored weights into an initialised net; StateError if they are not its own."""
    if set(stored) != set(modules(net)):
        raise StateError("The stored modules are not those of the net; the model was left as it is. Rebuild the state.")
    for name, weights in stored.items():
        getattr(net, f"{name}_").load_state_dict(weights)


def restore_optimizers(net: Any, stored: Mapping[str, Any]) -> None:
    """Put the stored state of the optimizers into an initialised net."""
    for name, state in stored["optimizers"].items():
        getattr(net, f"{name}_").load_state_dict(copy.deepcopy(state))


class LastingOneCycle(OneCycleLR):
    """One cycle that stays at its last rate when training goes on beyond it.

    Torch's own rises again for a step, as it counts the first rate too, and then raises.
    """

    def step(self, epoch: int | None = None) -> None:
        """Move on, up to the end."""
        if self.last_epoch < self.total_steps - 1:
            super().step(epoch)


def make_lasting(net: Any) -> None:
    """Let an initialised net train on for longer than its schedule."""
    for _, callback in net.callbacks_:
        if isinstance(callback, LRScheduler) and callback.policy_ is OneCycleLR:
            callback.policy_ = LastingOneCycle


def restore_schedulers(net: Any, stored: Mapping[str, Any]) -> None:
    """Put the stored state into the schedulers, which skorch makes when training begins.

    skorch finds their place from the history alone, which does for a rate per epoch, not for one per batch or one
    that watches a score.
    """
    for name, scheduler in _schedulers(net).items():
        scheduler.load_state_dict(copy.deepcopy(stored["schedulers"][name]))


def _schedulers(net: Any) -> dict[str, Any]:
    callbacks = {name: callback for name, callback in net.callbacks_ if isinstance(callback, LRScheduler)}
    return {name: callback.lr_scheduler_ for name, callback in callbacks.items()}


def pack_history(epochs: Sequence[Any]) -> bytes:
    """Some epochs of a history as JSON."""
    return pack_json([_plain(epoch) for epoch in epochs])


def unpack_history(blocks: Sequence[bytes]) -> History:
    """The history behind the blocks of all steps."""
    parts = [unpack_json(block) for block in blocks]
    epochs = [epoch for part in parts for epoch in part]
    complete = all(isinstance(epoch, dict) and isinstance(epoch.get("batches"), list) for epoch in epochs)
    if not complete or not all(isinstance(part, list) for part in parts):
        raise StateError("The stored history has no epochs; the model was left as it is. Rebuild the state.")
    return History(epochs)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    value = value.item() if isinstance(value, np.generic) else value
    try:
        json.dumps(value)
    except TypeError as error:
        raise CapabilityError(
            f"A callback put a {type(value).__name__} into the history, which cannot be stored; nothing was stored. "
            "Record numbers and text."
        ) from error
    return value
