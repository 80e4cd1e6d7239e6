"""The learner of `TorchModel`."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor, nn
from torch.optim import Optimizer

from unlearnkit.errors import StateError
from unlearnkit.fingerprints import fingerprint
from unlearnkit.learner import Batch, Capabilities, PredictAll, Step
from unlearnkit.typing import AnyArray, Features, FloatArray
from unlearnkit_torch import budget, construct, losses, reuse, warm
from unlearnkit_torch.codec import nonsense_is_an_error, pack, ratio, seed, unpack
from unlearnkit_torch.direct import Together
from unlearnkit_torch.leaks import torch_leaks
from unlearnkit_torch.loop import Rows, Trainer
from unlearnkit_torch.names import INPUT_DTYPES, NARROW, dtype_name, output_of, plain
from unlearnkit_torch.rules import check
from unlearnkit_torch.runtime import derive, global_randomness, is_predicting, pinned, predicting
from unlearnkit_torch.weights import Layout, Weights, copied, layout

if TYPE_CHECKING:
    from unlearnkit_torch.model import TorchModel

# What a module of a base draws when it is made is overwritten, but for values that its state_dict does not show.
_BIRTH = 0
# The size of a batch that is predicted, and the fewest and most rows of one.
_BATCH_BYTES, _AT_ONCE = 1 << 20, (64, 4_096)
# For each learner what fitted its module the last time: to see it again takes no module.
_fitted: WeakKeyDictionary[TorchLearner, tuple[construct.Sizes, Layout | None]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class TorchState:
    """A module and all that training on needs.

    Attributes
    ----------
    weights : Weights
        Only read. A module is made of them when they first predict.
    training : dict
        State of optimizer and scheduler, and the losses since the last tick.
    birth : int
        The seed of the initial weights.
    position, owed : Fraction
        Where the schedule stands, in epochs; rows left over by rounding to batches.
    """

    weights: Weights
    training: dict[str, Any]
    sizes: construct.Sizes
    birth: int
    position: Fraction
    owed: Fraction


class TorchLearner:
    """Trains and applies the module that a `TorchModel` describes.

    Parameters
    ----------
    model : TorchModel
        Cloned, never changed.

    Raises
    ------
    CapabilityError, ParameterError
        For a parameter whose meaning cannot be kept.
    """

    def __init__(self, model: TorchModel) -> None:
        self.model: TorchModel = clone(model)
        self.model.dtype = dtype_name(self.model.dtype)
        self.model.input_dtype = None if self.model.input_dtype is None else dtype_name(self.model.input_dtype)
        self.model.device = str(self.model.device)
        check(self.model)
        self._input_dtype = INPUT_DTYPES[self.model.input_dtype or self.model.dtype]
        self._numpy_dtype = torch.empty(0, dtype=self._input_dtype, device="cpu").numpy().dtype
        self.meaning = output_of(self.model.loss, self.model.output)
        self.fingerprint = fingerprint([type(model), plain(self.model.get_params(deep=False))])
        classifies = self.model.task == "classification"
        self.capabilities = Capabilities(
            task="classification" if classifies else "regression",
            resumable=True,
            max_slices=None,
            recommended_slices=5,
            probabilities=classifies and self.meaning != "scores",
            sample_weight=True,
            multi_output=not classifies,
            any_shape=True,
            absent_classes=classifies,
            parallel="processes",
            leaks=tuple(torch_leaks(self.model)),
        )

    def train(self, state: TorchState | None, batch: Batch, step: Step) -> TorchState:
        """Train for the step's share of the epochs, from new weights if there is no state."""
        seeded = step.seeded(self.model.random_state)
        birth = derive(seeded, "weights") if state is None else state.birth
        sizes = construct.Sizes.of(batch)
        device = torch.device(self.model.device)
        with pinned(), torch.inference_mode(mode=False), torch.enable_grad():
            spare = self._spare(state, batch.scratch, sizes, birth)
            with global_randomness(derive(seeded, "noise"), device):
                if state is not None:
                    spare.load(state.weights.state_dict())
                trainer = self._trainer(spare.module, state, weighted=self._weighted(batch))
                trainer.tried = spare.tried
                position, owed = self._run(trainer, state, batch, step)
            weights = reuse.leave(batch.scratch, replace(spare, tried=trainer.tried))
            return TorchState(weights, _training(trainer), sizes, birth, position, owed)

    def _spare(
        self, state: TorchState | None, scratch: dict[str, Any], sizes: construct.Sizes, birth: int
    ) -> reuse.Spare:
        """A module to train in; only a new one has the weights that a start is from."""
        purpose = (sizes, birth)
        found = reuse.left(scratch, purpose)
        if found is not None and state is not None:
            return found
        # What it draws from other generators than torch's belongs to its birth, too: a step may not tell modules apart.
        with global_randomness(birth, torch.device(self.model.device)):
            return reuse.Spare.of(construct.build_module(self.model, sizes, birth), purpose)

    def _weighted(self, batch: Batch) -> bool:
        return batch.sample_weight is not None or self.model.class_weight is not None

    def _trainer(self, module: nn.Module, state: TorchState | None, *, weighted: bool) -> Trainer:
        optimizer = construct.build_optimizer(self.model, module)
        scheduler = construct.build_scheduler(self.model, optimizer)
        trainer = Trainer(
            model=self.model,
            module=module,
            optimizer=optimizer,
            scheduler=scheduler,
            loss=losses.batch_loss(self.model, weighted=weighted),
            losses=[0.0, 0.0],
        )
        if state is not None:
            _resume(trainer, state)
        return trainer

    def _run(self, trainer: Trainer, state: TorchState | None, batch: Batch, step: Step) -> tuple[Fraction, Fraction]:
        position, owed = (Fraction(0), Fraction(0)) if state is None else (state.position, state.owed)
        smallest = 2 if _normalises_batches(trainer.module) else 1
        batches = budget.split(len(batch.y), self.model.batch_size, smallest)
        work = budget.plan(batches, self.model.epochs * step.epochs, owed)
        length = budget.advance(step, self.model.epochs)
        seeded = derive(step.seeded(self.model.random_state), "order")
        order = torch.Generator(device="cpu").manual_seed(seeded)
        rows = Rows(
            X=self._features(batch),
            y=losses.targets(self.model, batch),
            weight=losses.weights(self.model, batch),
            dtype=self._input_dtype,
        )
        trainer.run(rows, work, self._ticks(position, length, work.total), order)
        if work.total == 0 and self.model.scheduler_step != "batch":
            _tick_without_batches(trainer, budget.missed_ticks(position, length, construct.ticks_per_epoch(self.model)))
        return position + length, work.owed

    def _ticks(self, position: Fraction, length: Fraction, batches: int) -> Any:
        if self.model.scheduler_step == "batch":
            return iter([1] * batches)
        return budget.ticks(position, length, construct.ticks_per_epoch(self.model), batches)

    def _features(self, batch: Batch) -> Tensor:
        """The rows of the whole shard on the device, once per build; batches index only the first ones."""
        key = "unlearnkit_torch.X"
        if key not in batch.scratch:
            batch.scratch[key] = self._tensor(batch.X_shard)
        features: Tensor = batch.scratch[key]
        return features

    def _tensor(self, X: Features) -> Tensor:
        with warnings.catch_warnings():
            # Rows may be mapped read-only: torch warns of writing to them, and nothing here does.
            warnings.filterwarnings("ignore", message=".*not writable.*")
            rows = torch.as_tensor(X)
        # A batch of narrow numbers is read and converted faster than one of wide numbers is read.
        narrow = rows.dtype in NARROW and rows.element_size() < self._input_dtype.itemsize
        return rows.to(device=self.model.device, dtype=rows.dtype if narrow else self._input_dtype)

    def module(self, state: TorchState) -> nn.Module:
        """The module of a state, in eval mode; only to be read."""
        return state.weights.made(lambda tensors: self._restored(state.sizes, state.birth, tensors))

    def sharing(self, X: Features) -> AbstractContextManager[Any]:
        """Rows of one batch as a tensor, more as they are; torch's switches are held for the predictions of all."""
        return predicting(lambda: self._rows(X) if len(X) <= self._batch_size(X) else X)

    def predict(self, state: TorchState, X: Features) -> FloatArray:
        """Probabilities, votes or values, in batches."""
        if is_predicting():
            return self._answer(state, X)
        with predicting():
            return self._answer(state, X)

    def joined(self, states: Sequence[TorchState]) -> PredictAll | None:
        """The modules one after the other, and once what would else be done around each of them."""
        sizes = states[0].sizes
        if any(state.sizes != sizes for state in states):
            return None
        together = Together([self.module(state) for state in states])

        def predict_all(X: Any) -> Iterable[FloatArray]:
            if not isinstance(X, Tensor) or not is_predicting():
                return [self.predict(state, X) for state in states]
            return losses.all_predictions(together(X), self.meaning, sizes.n_classes, sizes.n_targets)

        return predict_all

    def _answer(self, state: TorchState, X: Features) -> FloatArray:
        # Not by len(), which takes a tensor as long as a small layer.
        module, size, n = self.module(state), self._batch_size(X), X.shape[0]
        if 0 < n <= size:
            return self._predict(module, state.sizes, X).astype(np.float64, copy=False)
        chunks = [self._predict(module, state.sizes, X[i : i + size]) for i in range(0, n, size)]
        columns = state.sizes.n_targets if state.sizes.n_classes is None else state.sizes.n_classes
        empty = np.empty((0,) if columns is None else (0, columns))
        return np.concatenate([empty, *chunks])

    def _batch_size(self, X: Any) -> int:
        """How many of these rows are predicted at once: by default those that take a mebibyte.

        Of short rows that is enough that threads do not wait for each other between layers, of long ones so few that
        what the layers make of them stays small.
        """
        given = self.model.predict_batch_size
        if given is not None:
            return int(given)
        least, most = _AT_ONCE
        width: int = math.prod(X.shape[1:]) * self._input_dtype.itemsize
        return min(max(_BATCH_BYTES // max(width, 1), least), most)

    def _predict(self, module: nn.Module, sizes: construct.Sizes, X: Features) -> FloatArray:
        # A copy, even of a tensor that is shared: a module may write into what it is given.
        rows = X.clone() if isinstance(X, Tensor) else self._rows(X)
        return losses.predictions(module(rows), self.meaning, sizes.n_classes, sizes.n_targets)

    def _rows(self, X: Features) -> Tensor:
        # Copied: kernels may take another path for memory that is aligned in another way.
        if self._is_as_it_should_be(X):
            return torch.from_numpy(X).clone(memory_format=torch.contiguous_format)
        return torch.tensor(X, dtype=self._input_dtype, device=self.model.device)

    def _is_as_it_should_be(self, X: Features) -> bool:
        """Whether only a copy is wanted, which is made in half the time; torch warns of arrays that are read-only."""
        return X.dtype == self._numpy_dtype and self.model.device == "cpu" and X.flags.writeable

    def save(self, state: TorchState) -> dict[str, bytes]:
        """Weights and training state as safetensors, the rest as JSON."""
        facts = {
            **state.sizes.facts(),
            "birth": state.birth,
            "position": list(state.position.as_integer_ratio()),
            "owed": list(state.owed.as_integer_ratio()),
        }
        return pack({"module": state.weights.state_dict(), "training": state.training}, facts)

    def load(self, parts: Mapping[str, bytes]) -> TorchState:
        """A state from its parts; the module is built from the configuration, not from the bytes."""
        trees, facts = unpack(parts, "module", "training", in_place=("module",))
        with nonsense_is_an_error():
            sizes, birth = construct.Sizes.from_facts(facts), seed(facts["birth"])
            position, owed = ratio(facts["position"]), ratio(facts["owed"])
            if (sizes.n_classes is None) != (self.capabilities.task == "regression"):
                raise StateError(
                    "The stored state is for another task; the model was left as it is. Rebuild the state."
                )
            _check_training(trees["training"])
            weights = self._accepted(sizes, birth, trees["module"])
        return TorchState(weights, trees["training"], sizes, birth, position, owed)

    def pack_base(self, base: Any, n_features: int, labels: AnyArray | None) -> dict[str, bytes]:
        """The weights of a module, a ``state_dict`` or a fitted `TorchModel`; nothing of its optimizer.

        Raises
        ------
        ParameterError
            If they do not fit the module, or the classes are others.
        """
        warm.check_labels(base, labels)
        sizes = construct.Sizes(n_features, None if labels is None else len(labels), None)
        weights = warm.weights_of(base)
        with pinned():
            module = construct.build_module(self.model, sizes, _BIRTH)
            warm.take_over(module, weights)
        return pack({"module": module.state_dict()}, sizes.facts())

    def start(self, base: Mapping[str, bytes], classes: AnyArray | None) -> TorchState:
        """The weights of the base, with an optimizer and a schedule that have not moved yet."""
        trees, facts = unpack(base, "module")
        with nonsense_is_an_error(), torch.inference_mode(mode=False), torch.enable_grad():
            sizes = construct.Sizes.from_facts(facts)
            if sizes.n_classes != (None if classes is None else len(classes)):
                raise StateError("The packed base is for other classes; nothing was changed. Pass base= again.")
            construct.check_shapes(self.model, sizes, trees["module"])
            module = self._restored(sizes, _BIRTH, trees["module"])
            training = _training(self._trainer(module, None, weighted=False))
        return TorchState(Weights(module), training, sizes, _BIRTH, Fraction(0), Fraction(0))

    def _accepted(self, sizes: construct.Sizes, birth: int, tensors: Mapping[str, Any]) -> Weights:
        """Stored weights that are known to fit the module: by their layout, or because one was made of them."""
        found = layout(tensors)
        if found is not None and _fitted.get(self) == (sizes, found):
            return Weights(None, tensors)
        construct.check_shapes(self.model, sizes, tensors)
        module = self._restored(sizes, birth, tensors)
        _fitted[self] = (sizes, found)
        return Weights(module)

    def _restored(self, sizes: construct.Sizes, birth: int, weights: Mapping[str, Any]) -> nn.Module:
        with pinned(), torch.inference_mode(mode=False), torch.enable_grad():
            module = construct.build_module(self.model, sizes, birth)
            # Copies: code of the user's own may be called with them.
            module.load_state_dict(copied(weights))
            return module.eval()


def _normalises_batches(module: nn.Module) -> bool:
    """Whether a batch of one row cannot be trained on."""
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())  # noqa: SLF001


def _tick_without_batches(trainer: Trainer, times: int) -> None:
    with warnings.catch_warnings():
        # torch takes a scheduler that moves before the optimizer for a mistake; here there was nothing to train on.
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        trainer.tick(times)


def _training(trainer: Trainer) -> dict[str, Any]:
    scheduler = None if trainer.scheduler is None else trainer.scheduler.state_dict()
    return {"optimizer": trainer.optimizer.state_dict(), "scheduler": scheduler, "losses": list(trainer.losses)}


def _resume(trainer: Trainer, state: TorchState) -> None:
    training = state.training
    if trainer.scheduler is not None:
        trainer.scheduler.load_state_dict(copy.deepcopy(training["scheduler"]))
    # After the scheduler, whose constructor has set the learning rate back to its first value.
    trainer.optimizer.load_state_dict(_of_its_own(trainer.optimizer, training["optimizer"]))
    trainer.losses = list(training["losses"])


def _of_its_own(optimizer: Optimizer, stored: dict[str, Any]) -> dict[str, Any]:
    """What the optimizer may write to: torch copies the groups itself, and takes the tensors as they are."""
    if type(optimizer).load_state_dict is not Optimizer.load_state_dict:
        return copy.deepcopy(stored)
    return stored | {"state": copy.deepcopy(stored["state"])}


def _check_training(training: Any) -> None:
    if set(training) != {"optimizer", "scheduler", "losses"} or set(training["optimizer"]) != {"state", "param_groups"}:
        raise StateError("The stored training state is incomplete; the model was left as it is. Rebuild the state.")
    if len(training["losses"]) != 2:  # noqa: PLR2004
        raise StateError("The stored losses are not a sum and a number; the model was left as it is.")
