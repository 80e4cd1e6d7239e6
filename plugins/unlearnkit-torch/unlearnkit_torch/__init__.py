"""torch modules and skorch nets for unlearnkit. Importing this module imports neither framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unlearnkit.adapters import Adapter, Resolve, hookimpl
from unlearnkit.learner import Learner

if TYPE_CHECKING:
    from unlearnkit_torch.model import TorchModel

__all__ = ["TorchModel"]

_NETS = (
    *("classification", "regression", "resumable", "probabilities"),
    *("multi_output", "any_shape", "absent_classes"),
)

_TORCH = ("torch.nn", "torch.optim", "torch.optim.lr_scheduler")


def __getattr__(name: str) -> Any:
    """Import `TorchModel` when it is first asked for (PEP 562)."""
    if name == "TorchModel":
        from unlearnkit_torch.model import TorchModel

        return TorchModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _wrap_torch(model: Any, resolve: Resolve) -> Learner[Any]:  # noqa: ARG001
    from unlearnkit_torch.learner import TorchLearner

    return TorchLearner(model)


def _wrap_skorch(model: Any, resolve: Resolve) -> Learner[Any]:  # noqa: ARG001
    from unlearnkit_torch.skorch_learner import SkorchLearner

    return SkorchLearner(model)


@hookimpl
def unlearnkit_adapters() -> list[Adapter]:
    """Declare the adapters ``torch`` and ``skorch``."""
    skorch = (
        "skorch.classifier:NeuralNetClassifier",
        "skorch.classifier:NeuralNetBinaryClassifier",
        "skorch.regressor:NeuralNetRegressor",
    )
    return [
        Adapter(
            "torch",
            ("unlearnkit_torch.model:TorchModel",),
            _wrap_torch,
            ("unlearnkit_torch", *_TORCH),
            (*_NETS, "sample_weight"),
        ),
        Adapter("skorch", skorch, _wrap_skorch, ("skorch", "skorch.callbacks", *_TORCH), _NETS),
    ]
