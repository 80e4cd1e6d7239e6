"""The learner of skorch nets: their own training code, a share of the epochs at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from skorch import NeuralNetBinaryClassifier, NeuralNetRegressor
from skorch.callbacks import EarlyStopping

from unlearnkit.errors import StateError
from unlearnkit.fingerprints import fingerprint
from unlearnkit.learner import Batch, Capabilities, Step
from unlearnkit.typing import AnyArray, Features, FloatArray
from unlearnkit_torch import skorch_rules, skorch_state, warm
from unlearnkit_torch.codec import nonsense_is_an_error, pack, ratio, seed, unpack
from unlearnkit_torch.leaks import skorch_leaks
from unlearnkit_torch.losses import check_two, of_known_classes
from unlearnkit_torch.names import plain
from unlearnkit_torch.runtime import OwnRandomness, derive, global_randomness, pinned
from unlearnkit_torch.skorch_loop import Data, train_epochs

_BIRTH = 0


@dataclass(frozen=True, slots=True)
class SkorchState:
    """A net and all that training on needs.

    Attributes
    ----------
    net : skorch.NeuralNet
        Initialised; only read.
    training : dict
        State of optimizers and schedulers.
    history : tuple of bytes
        The epochs that each step added, as JSON.
    birth : int
        The seed of the initial weights.
    owed : Fraction
        Rows left over by rounding to batches.
    n_classes, n_targets : int or None
        Classes (None: regression); targets (None: one, of shape (n,)).
    """

    net: Any
    training: dict[str, Any]
    history: tuple[bytes, ...]
    birth: int
    owed: Fraction
    n_classes: int | None
    n_targets: int | None


class SkorchLearner:
    """Trains and applies a skorch net as its user has configured it.

    Parameters
    ----------
    net : skorch.NeuralNetClassifier, NeuralNetBinaryClassifier or NeuralNetRegressor
        Cloned, never changed.

    Raises
    ------
    CapabilityError, ParameterError
        For a parameter whose meaning cannot be kept.
    """

    def __init__(self, net: Any) -> None:
        skorch_rules.check(net)
        self.net = skorch_rules.silenced(clone(net))
        self.fingerprint = fingerprint([type(net), plain(self.net.get_params(deep=False))])
        regresses = isinstance(net, NeuralNetRegressor)
        obstacle = skorch_rules.obstacle(self.net)
        max_slices = 1 if obstacle else int(self.net.max_epochs)
        self.capabilities = Capabilities(
            task="regression" if regresses else "classification",
            resumable=not obstacle,
            max_slices=max_slices,
            why_limited=obstacle or "each slice needs at least one of the max_epochs",
            recommended_slices=min(5, max_slices),
            probabilities=not regresses and skorch_rules.gives_probabilities(self.net),
            multi_output=regresses,
            any_shape=True,
            absent_classes=not regresses,
            parallel="processes",
            leaks=tuple(skorch_leaks(net)),
        )

    def train(self, state: SkorchState | None, batch: Batch, step: Step) -> SkorchState:
        """Train for the step's share of ``max_epochs``, from new weights if there is no state."""
        seeded = step.seeded(None)
        birth = derive(seeded, "weights") if state is None else state.birth
        n_classes = None if batch.classes is None else len(batch.classes)
        noise = global_randomness(derive(seeded, "noise"), torch.device(self.net.device or "cpu"))
        with pinned(), torch.inference_mode(mode=False), torch.enable_grad(), noise:
            net = self._net(birth, n_classes)
            if state is not None:
                skorch_state.restore_modules(net, skorch_state.modules(state.net))
                skorch_state.restore_optimizers(net, state.training)
                net.history_ = skorch_state.unpack_history(state.history)
            seen = len(net.history)
            owed = self._fit(net, self._targets(net, batch), batch, step, state)
            return SkorchState(
                net=net,
                training=skorch_state.training(net),
                history=(*(state.history if state else ()), skorch_state.pack_history(net.history[seen:])),
                birth=birth,
                owed=owed,
                n_classes=n_classes,
                n_targets=batch.y.shape[1] if batch.y.ndim > 1 else None,
            )

    def _net(self, birth: int, n_classes: int | None) -> Any:
        net = clone(self.net)
        if n_classes is not None and hasattr(net, "classes"):
            net.set_params(classes=list(range(n_classes)))
        with torch.device("cpu"), OwnRandomness(birth):
            net.initialize()
        skorch_state.make_lasting(net)
        return net

    def _targets(self, net: Any, batch: Batch) -> AnyArray:
        if isinstance(net, NeuralNetBinaryClassifier):
            check_two(batch, "NeuralNetBinaryClassifier")
            return batch.y.astype(np.float32)
        if batch.classes is not None:
            return batch.y
        y = batch.y.astype(_dtype(net))
        return y[:, None] if y.ndim == 1 and _returns_a_column(net, batch.X) else y

    def _fit(self, net: Any, y: AnyArray, batch: Batch, step: Step, state: SkorchState | None) -> Fraction:
        X = np.require(batch.X, requirements="W")
        net.notify("on_train_begin", X=X, y=y)
        # A base has no steps behind it, and no schedule under way.
        if state is not None and state.history:
            skorch_state.restore_schedulers(net, state.training)
            # Again: a scheduler sets the rate when it is made.
            skorch_state.restore_optimizers(net, state.training)
        try:
            owed = train_epochs(net, Data(X, y, batch.u), step, Fraction(0) if state is None else state.owed)
        except KeyboardInterrupt:
            # skorch's way to stop; the user's Ctrl-C must not pass for it and leave half a model.
            if not _stopped_early(net):
                raise
            owed = Fraction(0)
        net.notify("on_train_end", X=X, y=y)
        return owed

    def predict(self, state: SkorchState, X: Features) -> FloatArray:
        """Probabilities, votes or values, by the net's own ``predict_proba``."""
        X = np.require(X, requirements="W")
        # Even predicting draws random numbers (a DataLoader's base seed): not from those of a training thread.
        with pinned(), OwnRandomness(0):
            output = state.net.predict_proba(X)
        output = np.asarray(output, dtype=np.float64)
        if state.n_classes is None:
            return output.reshape(len(X)) if state.n_targets is None else output
        output = of_known_classes(output, state.n_classes)
        return output if self.capabilities.probabilities else _votes(state.net, output)

    def save(self, state: SkorchState) -> dict[str, bytes]:
        """Weights and training state as safetensors, a part of history per step, the rest as JSON."""
        facts = {
            "birth": state.birth,
            "owed": list(state.owed.as_integer_ratio()),
            "n_classes": state.n_classes,
            "n_targets": state.n_targets,
            "steps": len(state.history),
        }
        history = {f"history.{i}.json": block for i, block in enumerate(state.history)}
        return {**pack({"module": skorch_state.modules(state.net), "training": state.training}, facts), **history}

    def load(self, parts: Mapping[str, bytes]) -> SkorchState:
        """A state from its parts; the net is built from the configuration, not from the bytes."""
        trees, facts = unpack(parts, "module", "training")
        with nonsense_is_an_error():
            history = tuple(bytes(parts[f"history.{i}.json"]) for i in range(facts["steps"]))
            skorch_state.unpack_history(history)
            n_classes, n_targets = _count(facts["n_classes"]), _count(facts["n_targets"])
            birth, owed = seed(facts["birth"]), ratio(facts["owed"])
            if set(trees["training"]) != {"optimizers", "schedulers"}:
                raise StateError("The stored training state is incomplete; the model was left as it is. Rebuild it.")
            if (n_classes is None) != (self.capabilities.task == "regression"):
                raise StateError(
                    "The stored state is for another task; the model was left as it is. Rebuild the state."
                )
            with pinned():
                net = self._net(birth, n_classes)
                skorch_state.restore_modules(net, trees["module"])
            return SkorchState(net, trees["training"], history, birth, owed, n_classes, n_targets)

    def pack_base(self, base: Any, n_features: int, labels: AnyArray | None) -> dict[str, bytes]:  # noqa: ARG002
        """The weights of a fitted net, of a module or of a ``state_dict``; nothing of its optimizer and history.

        Raises
        ------
        ParameterError
            If they do not fit the net.
        """
        n_classes = None if labels is None else len(labels)
        with pinned():
            net = self._net(_BIRTH, n_classes)
            for name, weights in skorch_state.modules_of(base, skorch_state.modules(net)).items():
                warm.take_over(getattr(net, f"{name}_"), weights)
        return pack({"module": skorch_state.modules(net)}, {"n_classes": n_classes})

    def start(self, base: Mapping[str, bytes], classes: AnyArray | None) -> SkorchState:
        """The weights of the base, with optimizers that have not moved yet."""
        trees, facts = unpack(base, "module")
        with nonsense_is_an_error(), pinned():
            n_classes = _count(facts["n_classes"])
            if n_classes != (None if classes is None else len(classes)):
                raise StateError("The packed base is for other classes; nothing was changed. Pass base= again.")
            net = self._net(_BIRTH, n_classes)
            skorch_state.restore_modules(net, trees["module"])
        training = {"optimizers": skorch_state.optimizers(net), "schedulers": {}}
        return SkorchState(net, training, (), _BIRTH, Fraction(0), n_classes, None)


def _dtype(net: Any) -> Any:
    dtypes = [parameter.dtype for _, parameter in net.get_all_learnable_params()]
    return np.float64 if torch.float64 in dtypes else np.float32


def _returns_a_column(net: Any, X: Features) -> bool:
    with OwnRandomness(0):
        output = next(iter(net.forward_iter(np.array(X[:1]))))
    return bool((output[0] if isinstance(output, tuple) else output).ndim > 1)


def _stopped_early(net: Any) -> bool:
    stoppers = [callback for _, callback in net.callbacks_ if isinstance(callback, EarlyStopping)]
    return any(stopper.misses_ == stopper.patience for stopper in stoppers)


def _votes(net: Any, output: FloatArray) -> FloatArray:
    binary = isinstance(net, NeuralNetBinaryClassifier)
    codes = (output[:, 1] > net.threshold).astype(np.int64) if binary else output.argmax(axis=1)
    votes: FloatArray = np.eye(output.shape[1])[codes]
    return votes


def _count(value: Any) -> int | None:
    if value is None or (type(value) is int and 0 <= value < 2**20):
        return value
    raise StateError("A stored size is not a count; the model was left as it is. Rebuild the state.")
