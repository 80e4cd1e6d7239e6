"""A base: the weights of a model that was trained elsewhere, taken over by a module of the same shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from unlearnkit.errors import ParameterError
from unlearnkit.typing import AnyArray
from unlearnkit_torch.model import TorchModel


def weights_of(base: Any) -> Mapping[str, Any]:
    """The ``state_dict`` of a module, of a fitted `TorchModel`, or the one given.

    Raises
    ------
    ParameterError
        If it is none of them.
    """
    if isinstance(base, TorchModel):
        if not base.__sklearn_is_fitted__():
            raise refusal("it is a TorchModel that is not fitted", "Fit it on public data first")
        return base._state.weights.state_dict()  # noqa: SLF001
    if isinstance(base, nn.Module):
        weights: dict[str, Any] = base.state_dict()
        return weights
    if isinstance(base, Mapping):
        return base
    raise refusal(f"it is a {type(base).__name__}", "Give a module, its state_dict, or a fitted model of this kind")


def take_over(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """Put the weights into the module.

    Raises
    ------
    ParameterError
        If names or shapes differ.
    """
    try:
        module.load_state_dict(weights)
    except (AttributeError, RuntimeError, TypeError) as error:
        raise refusal(
            f"its weights do not fit the module ({error})",
            "Use the same architecture, with as many outputs, and sizes in module_params where they are not those of y",
        ) from error


def check_labels(base: Any, labels: AnyArray | None) -> None:
    """Raise ParameterError if a fitted `TorchModel` knows other classes than there are."""
    own = getattr(base, "classes_", None) if isinstance(base, TorchModel) else None
    if labels is not None and own is not None and not np.array_equal(own, labels):
        reason = f"its classes are {np.asarray(own).tolist()}, and those of y are {np.asarray(labels).tolist()}"
        raise refusal(reason, "Train it on the same")


def refusal(reason: str, instead: str) -> ParameterError:
    """The error for a base that no training can start from."""
    return ParameterError(f"No training can start from base: {reason}; nothing was changed. {instead}.")
