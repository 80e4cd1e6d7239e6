"""Which parameters of a `TorchModel` make sense, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from unlearnkit.errors import CapabilityError, ParameterError
from unlearnkit_torch.construct import total_ticks
from unlearnkit_torch.names import DTYPES, INPUT_DTYPES, LOSSES, OPTIMIZERS, SCHEDULERS, known, output_of, refuse_live

if TYPE_CHECKING:
    from unlearnkit_torch.model import TorchModel

_COUNTS = ("epochs", "batch_size")
_UNSUPPORTED = (torch.optim.LBFGS, torch.optim.SparseAdam)


def check(model: TorchModel) -> None:
    """Refuse what cannot be kept exactly, or makes no sense.

    Raises
    ------
    CapabilityError, ParameterError
        Naming the parameter.
    """
    for name, value in model.get_params(deep=False).items():
        refuse_live(value, name)
    for name in _COUNTS:
        _check_count(name, getattr(model, name))
    if model.predict_batch_size is not None:
        _check_count("predict_batch_size", model.predict_batch_size)
    _check_callables(model)
    _check_choice("dtype", model.dtype, DTYPES)
    _check_choice("input_dtype", model.input_dtype or model.dtype, INPUT_DTYPES)
    _check_seed(model.random_state)
    _check_loss(model)
    _check_optimizer(model)
    _check_scheduler(model)


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ParameterError(f"{name}={value!r} is not a whole number of at least 1; nothing was changed.")


def _check_callables(model: TorchModel) -> None:
    if not callable(model.module):
        raise ParameterError(f"module={model.module!r} is not a class or function; nothing was changed.")
    if isinstance(model.module, type) and not issubclass(model.module, nn.Module):
        raise ParameterError(f"module={model.module!r} is not a torch.nn.Module; nothing was changed.")


def _check_choice(name: str, value: Any, allowed: Mapping[str, Any]) -> None:
    if value not in allowed:
        raise ParameterError(f"{name}={value!r} is not one of {', '.join(allowed)}; nothing was changed.")


def _check_seed(value: Any) -> None:
    if value is not None and not hasattr(value, "__index__"):
        raise CapabilityError(
            f"random_state={value!r} is a live random generator, which changes with use; nothing was changed. "
            "Give an int or None."
        )


def _check_loss(model: TorchModel) -> None:
    output = output_of(model.loss, model.output)
    classes = {name: cls for name, (cls, _) in LOSSES.items()}
    loss = known(model.loss, classes, "loss")
    if not callable(loss):
        raise ParameterError(f"loss={loss!r} is not a name, class or function; nothing was changed.")
    if loss in classes.values() and "weight" in (model.loss_params or {}):
        raise CapabilityError(
            "loss_params['weight'] goes by the place of a class, not by its label; nothing was changed. "
            "Use class_weight."
        )
    if model.class_weight is not None and output in ("values", "log_values"):
        raise ParameterError("class_weight is for classification; nothing was changed.")
    if isinstance(model.class_weight, str) and model.class_weight != "balanced":
        raise ParameterError(f"class_weight={model.class_weight!r} is not 'balanced' or a dict; nothing was changed.")


def _check_optimizer(model: TorchModel) -> None:
    optimizer = known(model.optimizer, OPTIMIZERS, "optimizer")
    if not (isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer)):
        raise ParameterError(f"optimizer={optimizer!r} is not a name or a torch.optim.Optimizer; nothing was changed.")
    if issubclass(optimizer, _UNSUPPORTED):
        raise CapabilityError(
            f"optimizer={optimizer.__name__} needs a closure or sparse gradients, which this loop does not have; "
            "nothing was changed. Use another optimizer, such as 'adam'."
        )


def _check_scheduler(model: TorchModel) -> None:
    if model.scheduler is not None and not callable(known(model.scheduler, SCHEDULERS, "scheduler")):
        raise ParameterError(f"scheduler={model.scheduler!r} is not a name, class or function; nothing was changed.")
    if model.scheduler_step not in ("epoch", "batch"):
        _check_count("scheduler_step", model.scheduler_step)
    if any(isinstance(value, str) and value == "total" for value in (model.scheduler_params or {}).values()):
        total_ticks(model)
