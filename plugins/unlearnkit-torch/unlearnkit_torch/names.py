"""The short names of losses, optimizers and schedulers, and what each loss expects of the module's output."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from unlearnkit.errors import CapabilityError, ParameterError

OUTPUTS = ("logits", "log_probabilities", "probabilities", "scores", "values", "log_values")

LOSSES: dict[str, tuple[type[nn.Module], str]] = {
    "cross_entropy": (nn.CrossEntropyLoss, "logits"),
    "nll": (nn.NLLLoss, "log_probabilities"),
    "bce_with_logits": (nn.BCEWithLogitsLoss, "logits"),
    "bce": (nn.BCELoss, "probabilities"),
    "multi_margin": (nn.MultiMarginLoss, "scores"),
    "mse": (nn.MSELoss, "values"),
    "l1": (nn.L1Loss, "values"),
    "smooth_l1": (nn.SmoothL1Loss, "values"),
    "huber": (nn.HuberLoss, "values"),
}

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adadelta": torch.optim.Adadelta,
    "adagrad": torch.optim.Adagrad,
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "adamw": torch.optim.AdamW,
    "asgd": torch.optim.ASGD,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rmsprop": torch.optim.RMSprop,
    "rprop": torch.optim.Rprop,
    "sgd": torch.optim.SGD,
}

SCHEDULERS: dict[str, type[torch.optim.lr_scheduler.LRScheduler]] = {
    "constant": torch.optim.lr_scheduler.ConstantLR,
    "cosine": torch.optim.lr_scheduler.CosineAnnealingLR,
    "cosine_restarts": torch.optim.lr_scheduler.CosineAnnealingWarmRestarts,
    "exponential": torch.optim.lr_scheduler.ExponentialLR,
    "linear": torch.optim.lr_scheduler.LinearLR,
    "multistep": torch.optim.lr_scheduler.MultiStepLR,
    "onecycle": torch.optim.lr_scheduler.OneCycleLR,
    "plateau": torch.optim.lr_scheduler.ReduceLROnPlateau,
    "polynomial": torch.optim.lr_scheduler.PolynomialLR,
    "step": torch.optim.lr_scheduler.StepLR,
}

DTYPES = {"float32": torch.float32, "float64": torch.float64}
INPUT_DTYPES = {**DTYPES, "int64": torch.int64, "int32": torch.int32, "uint8": torch.uint8, "bool": torch.bool}
NARROW = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.float16, torch.float32)
"""From which torch can gather rows on every device."""


def known(value: Any, table: Mapping[str, Any], parameter: str) -> Any:
    """The entry of `table` that a name stands for; anything but a string stands for itself.

    Raises
    ------
    ParameterError
        If there is no such name.
    """
    if not isinstance(value, str):
        return value
    if value in table:
        return table[value]
    raise ParameterError(f"{parameter}={value!r} is not one of {', '.join(sorted(table))}; nothing was changed.")


def dtype_name(dtype: Any) -> str:
    """``"float32"`` for itself and for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def output_of(loss: Any, output: str) -> str:
    """What the module's output means: as told, or by the loss.

    Raises
    ------
    ParameterError
        If `output` is "auto" and the loss is not one of torch's that are known here, or if there is no such name.
    """
    if output in OUTPUTS:
        return output
    by_loss = dict(LOSSES.values())
    cls = known(loss, {name: cls for name, (cls, _) in LOSSES.items()}, "loss")
    if output == "auto" and isinstance(cls, type) and cls in by_loss:
        return by_loss[cls]
    if output == "auto":
        raise ParameterError(
            f"What the module's output means cannot be told from loss={loss!r}; nothing was changed. "
            f"Set output to one of {', '.join(OUTPUTS)}."
        )
    raise ParameterError(f"output={output!r} is not 'auto' or one of {', '.join(OUTPUTS)}; nothing was changed.")


def refuse_live(value: Any, parameter: str) -> None:
    """Refuse objects that bring weights or state of unknown origin, at any depth of a parameter.

    Raises
    ------
    CapabilityError
        Naming the parameter.
    """
    if isinstance(value, nn.Module):
        raise CapabilityError(
            f"{parameter} is an instance of {type(value).__name__}, and nobody knows which records shaped it; nothing "
            "was changed. Give the class (or a function that builds it) and its arguments instead."
        )
    if isinstance(value, torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler | torch.Generator):
        raise CapabilityError(
            f"{parameter} is a live {type(value).__name__}, which changes with use; nothing was changed. "
            "Give the class and its arguments instead."
        )
    if isinstance(value, torch.utils.data.Dataset | torch.utils.data.DataLoader | torch.utils.data.Sampler):
        raise CapabilityError(
            f"{parameter} is a {type(value).__name__} that carries rows of its own, which could not be forgotten; "
            "nothing was changed. Give the class instead."
        )
    if isinstance(value, Mapping):
        for key, item in value.items():
            refuse_live(item, f"{parameter}[{key!r}]")
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            refuse_live(item, parameter)
    elif isinstance(value, partial):
        refuse_live([value.args, value.keywords], parameter)


def plain(value: Any) -> Any:
    """`value` with tensors as arrays and torch's dtypes and devices as text, for the fingerprint."""
    if isinstance(value, torch.Tensor):
        return ("tensor", str(value.dtype), value.detach().cpu().to_dense().numpy(force=True))
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
