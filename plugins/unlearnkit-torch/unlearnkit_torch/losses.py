"""The loss of a batch with its weights, and what the module's output means for a prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from unlearnkit.errors import ParameterError
from unlearnkit.learner import Batch
from unlearnkit.typing import AnyArray, FloatArray
from unlearnkit_torch.names import DTYPES, LOSSES, known

if TYPE_CHECKING:
    from unlearnkit_torch.model import TorchModel

BINARY = (nn.BCEWithLogitsLoss, nn.BCELoss)
_CLASSES = {name: cls for name, (cls, _) in LOSSES.items()}
BatchLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def is_binary(model: TorchModel) -> bool:
    """Whether one output stands for both classes."""
    return known(model.loss, _CLASSES, "loss") in BINARY


def targets(model: TorchModel, batch: Batch) -> Tensor:
    """The targets as the loss wants them: int64 codes, or numbers."""
    codes = batch.classes is not None and not is_binary(model)
    if is_binary(model):
        check_two(batch, f"loss={model.loss!r}")
    return torch.tensor(batch.y, dtype=torch.int64 if codes else DTYPES[model.dtype], device=model.device)


def check_two(batch: Batch, parameter: str) -> None:
    """Raise ParameterError if there are more than two classes for a loss that knows two."""
    if batch.classes is not None and len(batch.classes) > 2:  # noqa: PLR2004
        raise ParameterError(f"{parameter} is for two classes, not {len(batch.classes)}; nothing was trained.")


def weights(model: TorchModel, batch: Batch) -> Tensor | None:
    """Sample weight times class weight of each row, None if all are 1."""
    parts = [batch.sample_weight, _class_weights(model, batch)]
    given = [part for part in parts if part is not None]
    if not given:
        return None
    return torch.tensor(np.prod(given, axis=0), dtype=DTYPES[model.dtype], device=model.device)


def _class_weights(model: TorchModel, batch: Batch) -> FloatArray | None:
    if model.class_weight is None or batch.classes is None:
        return None
    if model.class_weight == "balanced":
        return _balanced(batch)[batch.y]
    labels = batch.classes.tolist()
    table = dict(model.class_weight)  # type: ignore[arg-type]
    strangers = [label for label in table if label not in labels]
    if strangers:
        raise ParameterError(f"class_weight names {strangers!r}, but the classes are {labels!r}; nothing was trained.")
    return np.array([table.get(label, 1.0) for label in labels])[batch.y]


def _balanced(batch: Batch) -> FloatArray:
    """``total / (classes present * total of the class)``, as in scikit-learn."""
    totals = np.bincount(batch.y, weights=batch.sample_weight, minlength=len(batch.classes))  # type: ignore[arg-type]
    present = totals > 0
    factors = np.ones(len(totals))
    factors[present] = totals.sum() / (present.sum() * totals[present])
    return factors


def batch_loss(model: TorchModel, *, weighted: bool) -> BatchLoss:
    """The loss as a function of output, target and weights, with values shaped like the target."""
    loss = known(model.loss, _CLASSES, "loss")
    params = _params(model)
    if loss in _CLASSES.values():
        return _of_torch(loss, params, model, weighted=weighted)
    criterion = loss(**params) if isinstance(loss, type) else lambda output, target: loss(output, target, **params)
    return _reduced(criterion, params.get("reduction", "mean"))


def _params(model: TorchModel) -> dict[str, Any]:
    params = dict(model.loss_params or {})
    for name in params.keys() & {"weight", "pos_weight"}:
        params[name] = torch.as_tensor(params[name], dtype=DTYPES[model.dtype], device=model.device)
    return params


def _of_torch(loss: type[nn.Module], params: dict[str, Any], model: TorchModel, *, weighted: bool) -> BatchLoss:
    # One score per class needs codes; everything else compares number with number.
    aligned = is_binary(model) or issubclass(loss, nn.MSELoss | nn.L1Loss | nn.SmoothL1Loss | nn.HuberLoss)
    reduction = params.pop("reduction", "mean")
    criterion = loss(**params, reduction="none" if weighted else reduction)
    reduced = _reduced(criterion, reduction)
    if not aligned:
        return reduced
    return lambda output, target, weight: reduced(_align(output, target), target, weight)


def _align(output: Tensor, target: Tensor) -> Tensor:
    if output.shape == target.shape:
        return output
    if output.numel() == target.numel() and output.shape[0] == target.shape[0]:
        return output.reshape(target.shape)
    raise ParameterError(
        f"The module returns {tuple(output.shape)} where the targets are {tuple(target.shape)}; nothing was trained. "
        "Give it as many outputs as there are targets (one for a binary loss)."
    )


def _reduced(criterion: Callable[[Tensor, Tensor], Tensor], reduction: str) -> BatchLoss:
    def loss(output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        values = criterion(output, target)
        if weight is None:
            return values if values.ndim == 0 else values.mean()
        if values.ndim == 0:
            raise ParameterError(
                "The loss returns one number for the whole batch, so rows cannot be weighted; nothing was trained. "
                "Return one value per row, or fit without weights."
            )
        rows = values.reshape(len(weight), -1).mean(dim=1) * weight
        return rows.sum() if reduction == "sum" else rows.sum() / weight.sum()

    return loss


def predictions(output: Tensor, meaning: str, n_classes: int | None, n_targets: int | None) -> AnyArray:
    """Probabilities or one-hot votes of shape (n, k), or values of shape (n,) or (n, m), from the module's output."""
    if n_classes is None:
        values = output.exp() if meaning == "log_values" else output
        return values.reshape(len(output) if n_targets is None else (len(output), n_targets)).numpy(force=True)
    return of_known_classes(_probabilities(output, meaning).numpy(force=True), n_classes)


def all_predictions(
    outputs: list[Tensor], meaning: str, n_classes: int | None, n_targets: int | None
) -> Iterable[FloatArray]:
    """`predictions` of several outputs as float64: in one go where it is known to change no bit.

    That is so for softmax on the CPU, which goes row by row; other kernels take some numbers at a time, and the last
    ones, which are fewer, in another way.
    """
    shape = outputs[0].shape
    plain = meaning == "logits" and len(shape) == 2 and shape[1] == n_classes and shape[1] > 1  # noqa: PLR2004
    together = _stacked(outputs) if plain and outputs[0].device.type == "cpu" else None
    if together is None:
        return [predictions(o, meaning, n_classes, n_targets).astype(np.float64, copy=False) for o in outputs]
    return torch.softmax(together, dim=2).numpy(force=True).astype(np.float64, copy=False)


def _stacked(outputs: list[Tensor]) -> Tensor | None:
    """The outputs as one; None if they are not of one shape, which takes longer to ask each than torch to say."""
    try:
        return torch.stack(outputs)
    except RuntimeError:
        return None


def of_known_classes(output: AnyArray, n_classes: int) -> AnyArray:
    """The columns of classes that the records have: a module may have outputs for more, never for fewer.

    Raises
    ------
    ParameterError
        If there are fewer columns than classes.
    """
    if output.ndim != 2 or output.shape[1] < n_classes:  # noqa: PLR2004
        raise ParameterError(
            f"The module returns {output.shape} for {n_classes} classes. Give it one output per class."
        )
    if output.shape[1] == n_classes:
        return output
    kept = output[:, :n_classes]
    total = kept.sum(axis=1, keepdims=True)
    uniform = np.full_like(kept, 1 / n_classes)
    return np.divide(kept, total, out=uniform, where=total > 0)  # type: ignore[no-any-return]


def _probabilities(output: Tensor, meaning: str) -> Tensor:
    if output.numel() == output.shape[0]:
        positive = _SINGLE[meaning](output.reshape(-1))
        return torch.stack([1 - positive, positive], dim=1)
    return _SEVERAL[meaning](output)


def _one_hot(scores: Tensor) -> Tensor:
    return nn.functional.one_hot(scores.argmax(dim=1), scores.shape[1]).to(scores.dtype)


def _same(values: Tensor) -> Tensor:
    return values


_SINGLE: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": torch.sigmoid,
    "log_probabilities": torch.exp,
    "probabilities": _same,
    "scores": lambda scores: (scores > 0).to(scores.dtype),
}
_SEVERAL: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda logits: torch.softmax(logits, dim=1),
    "log_probabilities": torch.exp,
    "probabilities": _same,
    "scores": _one_hot,
}
