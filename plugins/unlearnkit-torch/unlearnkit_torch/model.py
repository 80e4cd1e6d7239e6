"""`TorchModel`: a torch model described by its parts, so that it can be trained again from any prefix of its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import ClassifierTags, RegressorTags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from unlearnkit.typing import AnyArray, FloatArray

if TYPE_CHECKING:
    from unlearnkit_torch.learner import TorchLearner, TorchState


def _classifies(model: TorchModel) -> bool:
    return model.task == "classification"


class TorchModel(BaseEstimator):  # type: ignore[misc]
    """A torch model as a declaration: what to build, how to train it, for how long.

    `SISAClassifier` and `SISARegressor` read it; its own `fit` trains one plain model by the same loop, to compare.

    Parameters
    ----------
    module : subclass of torch.nn.Module, or function that returns a module
        Called as ``module(**module_params)`` for each model. Its weights have to come from torch's random numbers.
    module_params : dict or None
        Arguments of `module`.
    n_features_as, n_outputs_as : str or None
        Names of arguments under which `module` is told the size of X's second axis, and the number of outputs:
        classes (1 for the binary losses) or targets.
    loss : str, class or function
        ``"cross_entropy"``, ``"nll"``, ``"bce_with_logits"``, ``"bce"``, ``"multi_margin"``, ``"mse"``, ``"l1"``,
        ``"smooth_l1"``, ``"huber"``; a class called as ``loss(**loss_params)``; or a function
        ``f(output, target)`` that returns a scalar, or one value per row (needed for weights).
    loss_params : dict or None
        Arguments of the loss.
    output : str
        What the module returns: ``"logits"``, ``"log_probabilities"``, ``"probabilities"``, ``"scores"`` (classes by
        the largest), ``"values"`` or ``"log_values"`` (regression). ``"auto"`` goes by the loss, if it is torch's.
    optimizer : str or class
        ``"adam"``, ``"adamw"``, ``"sgd"``, ``"rmsprop"``, ... or a subclass of ``torch.optim.Optimizer``.
    optimizer_params : dict or None
        Arguments of the optimizer, such as ``{"lr": 0.01}``.
    scheduler : str, class, function or None
        ``"step"``, ``"multistep"``, ``"exponential"``, ``"cosine"``, ``"cosine_restarts"``, ``"linear"``,
        ``"polynomial"``, ``"constant"``, ``"onecycle"``, ``"plateau"`` (by the training loss), a class, or a function
        ``f(optimizer, **scheduler_params)``.
    scheduler_params : dict or None
        Arguments of the scheduler. The text ``"total"`` as a value stands for the ticks of the whole training.
    scheduler_step : "epoch", "batch" or int
        When the scheduler ticks: once per epoch over the shard, after each batch, or so many times per epoch.
    epochs : int
        Passes over the rows.
    batch_size : int
        Rows of a batch.
    class_weight : dict, "balanced" or None
        Weights by label; "balanced" is counted on the rows trained on, never on later ones.
    max_grad_norm : float or None
        Clip the norm of the gradient.
    dtype : {"float32", "float64"}
        Of the weights, of X and of regression targets.
    input_dtype : str or None
        Of X if it differs, such as ``"int64"`` for embeddings.
    device : str
        Where to train and predict. States are exact on one kind of device.
    predict_batch_size : int or None
        Rows of a batch when predicting; None: as many as take a mebibyte, but from 64 to 4,096.
    random_state : int or None
        Seed of weights, order and noise.

    Examples
    --------
    >>> import torch
    >>> model = TorchModel(torch.nn.Linear, n_features_as="in_features", n_outputs_as="out_features", epochs=50)
    >>> model.fit([[0.0], [1.0], [2.0], [3.0]], ["a", "a", "b", "b"]).predict([[0.0]]).shape
    (1,)
    """

    def __init__(
        self,
        module: Callable[..., Any],
        *,
        module_params: Mapping[str, Any] | None = None,
        n_features_as: str | None = None,
        n_outputs_as: str | None = None,
        loss: str | Callable[..., Any] = "cross_entropy",
        loss_params: Mapping[str, Any] | None = None,
        output: str = "auto",
        optimizer: str | Callable[..., Any] = "adam",
        optimizer_params: Mapping[str, Any] | None = None,
        scheduler: str | Callable[..., Any] | None = None,
        scheduler_params: Mapping[str, Any] | None = None,
        scheduler_step: str | int = "epoch",
        epochs: int = 10,
        batch_size: int = 128,
        class_weight: Mapping[Any, float] | str | None = None,
        max_grad_norm: float | None = None,
        dtype: str = "float32",
        input_dtype: str | None = None,
        device: str = "cpu",
        predict_batch_size: int | None = None,
        random_state: int | None = None,
    ) -> None:
        self.module = module
        self.module_params = module_params
        self.n_features_as = n_features_as
        self.n_outputs_as = n_outputs_as
        self.loss = loss
        self.loss_params = loss_params
        self.output = output
        self.optimizer = optimizer
        self.optimizer_params = optimizer_params
        self.scheduler = scheduler
        self.scheduler_params = scheduler_params
        self.scheduler_step = scheduler_step
        self.epochs = epochs
        self.batch_size = batch_size
        self.class_weight = class_weight
        self.max_grad_norm = max_grad_norm
        self.dtype = dtype
        self.input_dtype = input_dtype
        self.device = device
        self.predict_batch_size = predict_batch_size
        self.random_state = random_state

    @property
    def task(self) -> str:
        """``"classification"`` or ``"regression"``, by `output` and `loss`."""
        from unlearnkit_torch.names import output_of

        return "regression" if output_of(self.loss, self.output) in ("values", "log_values") else "classification"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "classifier" if _classifies(self) else "regressor"
        tags.classifier_tags = ClassifierTags() if _classifies(self) else None
        tags.regressor_tags = None if _classifies(self) else RegressorTags()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train one plain model on all rows at once.

        Parameters
        ----------
        X : array-like of shape (n, ...)
        y : array-like of shape (n,), or (n, m) for regression
            Labels of any kind, or numbers.
        sample_weight : array-like of shape (n,) or None
        """
        from unlearnkit_torch.plain import fit_plain

        features, targets = np.ascontiguousarray(X), np.asarray(y)
        if _classifies(self):
            self.classes_, targets = np.unique(targets, return_inverse=True)
        self.n_features_in_ = features.shape[-1]
        self._learner, self._state = fit_plain(self, features, targets, sample_weight)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_state")

    def _output(self, X: Any) -> FloatArray:
        check_is_fitted(self)
        learner: TorchLearner = self._learner
        state: TorchState = self._state
        return learner.predict(state, np.ascontiguousarray(X))

    def predict(self, X: Any) -> AnyArray:
        """Labels, or values of shape (n,) or (n, m)."""
        output: AnyArray = self._output(X)
        return self.classes_[output.argmax(axis=1)] if _classifies(self) else output

    @available_if(_classifies)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> FloatArray:
        """Probabilities of shape (n, k), columns as in ``classes_`` (one-hot if the module returns scores)."""
        return self._output(X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy, or R2 for regression."""
        score = accuracy_score if _classifies(self) else r2_score
        return float(score(y, self.predict(X), sample_weight=sample_weight))
