"""Modules, optimizers and schedulers made from their description, the same at every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from unlearnkit.errors import ParameterError, StateError
from unlearnkit.learner import Batch
from unlearnkit_torch.losses import is_binary
from unlearnkit_torch.names import DTYPES, OPTIMIZERS, SCHEDULERS, known
from unlearnkit_torch.runtime import OwnRandomness

if TYPE_CHECKING:
    from unlearnkit_torch.model import TorchModel


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the data say about the model: features, classes (None: regression), targets (None: one, of shape (n,))."""

    n_features: int | None
    n_classes: int | None
    n_targets: int | None

    @classmethod
    def of(cls, batch: Batch) -> Sizes:
        """The sizes that a batch shows; all batches of a model show the same."""
        n_features = batch.X.shape[1] if batch.X.ndim > 1 else None
        n_classes = None if batch.classes is None else len(batch.classes)
        return cls(n_features, n_classes, batch.y.shape[1] if batch.y.ndim > 1 else None)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Sizes:
        """The sizes as stored; StateError if they are no counts."""
        values = [facts[name] for name in ("n_features", "n_classes", "n_targets")]
        if not all(value is None or (type(value) is int and value >= 0) for value in values):
            raise StateError("Stored sizes are not counts; the model was left as it is. Rebuild the state.")
        return cls(*values)

    def facts(self) -> dict[str, int | None]:
        """The sizes as JSON."""
        return asdict(self)

    def outputs(self, model: TorchModel) -> int:
        """How many outputs the module has to have."""
        if self.n_classes is not None:
            return 1 if is_binary(model) else self.n_classes
        return self.n_targets or 1


def module_params(model: TorchModel, sizes: Sizes) -> dict[str, Any]:
    """The arguments of the module, with the sizes that it asks for."""
    params = dict(model.module_params or {})
    if model.n_features_as is not None:
        params[model.n_features_as] = sizes.n_features
    if model.n_outputs_as is not None:
        params[model.n_outputs_as] = sizes.outputs(model)
    return params


def build_module(model: TorchModel, sizes: Sizes, seed: int) -> nn.Module:
    """The module with the initial weights that belong to `seed`; always the same, whatever else runs.

    Also for states that are loaded: a module may hold random values that its ``state_dict`` does not show.
    """
    with torch.device("cpu"), OwnRandomness(seed):
        module = model.module(**module_params(model, sizes))
    if not isinstance(module, nn.Module):
        raise ParameterError(f"module returns a {type(module).__name__}, not a torch.nn.Module; nothing was trained.")
    if any(nn.parameter.is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        raise ParameterError(
            "module has lazy layers, whose weights have no shape before the first row; nothing was trained. "
            "Give the sizes, for instance by n_features_as."
        )
    return module.to(device=model.device, dtype=DTYPES[model.dtype])


def check_shapes(model: TorchModel, sizes: Sizes, stored: Mapping[str, Any]) -> None:
    """Compare stored weights with the module before any memory is taken for sizes that bytes claim.

    Raises
    ------
    StateError
        If the shapes differ.
    """
    if model.n_features_as is None and model.n_outputs_as is None:
        return
    try:
        with torch.device("meta"):
            state = model.module(**module_params(model, sizes)).state_dict()
    except Exception:  # noqa: BLE001
        # Some modules compute with real numbers when they are made; those are checked once they exist.
        return
    shapes = {name: tensor.shape for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
    if shapes != {name: stored[name].shape for name in shapes if name in stored}:
        raise StateError("Stored weights do not fit the module; the model was left as it is. Rebuild the state.")


def build_optimizer(model: TorchModel, module: nn.Module) -> Optimizer:
    """The optimizer over the parameters that are trained."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    make: Callable[..., Optimizer] = known(model.optimizer, OPTIMIZERS, "optimizer")
    return make(trained, **(model.optimizer_params or {}))


def build_scheduler(model: TorchModel, optimizer: Optimizer) -> LRScheduler | None:
    """The scheduler, told the number of its ticks where ``"total"`` asks for it."""
    if model.scheduler is None:
        return None
    params = dict(model.scheduler_params or {})
    for name in [name for name, value in params.items() if isinstance(value, str) and value == "total"]:
        params[name] = total_ticks(model)
    make: Callable[..., LRScheduler] = known(model.scheduler, SCHEDULERS, "scheduler")
    return make(optimizer, **params)


def total_ticks(model: TorchModel) -> int:
    """The ticks of the whole training, known beforehand unless they are counted in batches."""
    if model.scheduler_step == "batch":
        raise ParameterError(
            "scheduler_params ask for the 'total' of ticks, but with scheduler_step='batch' it depends on rows not yet "
            "seen; nothing was changed. Set scheduler_step to a number of ticks per epoch."
        )
    return model.epochs * ticks_per_epoch(model)


def ticks_per_epoch(model: TorchModel) -> int:
    """How often the scheduler ticks in an epoch over the shard."""
    return 1 if model.scheduler_step == "epoch" else int(model.scheduler_step)
