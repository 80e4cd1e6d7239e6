"""The contract between the core and a model: what an adapter has to provide.

A learner holds configuration only. State goes in and comes out, so that the core alone decides what is kept,
what is trained on from what, and what is destroyed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from math import floor
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from unlearnkit.typing import AnyArray, Features, FloatArray, Task

State = TypeVar("State")
State_co = TypeVar("State_co", covariant=True)

RENEW_EDGES_AT = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Leak:
    """A part that saw records before the shards did, so that forgetting them here leaves what it learned.

    Attributes
    ----------
    part : str
        Where it is, as the user would write it: ``estimator.steps[0] 'scale'``, ``estimator.calibrator``.
    why : str
        What it took from which data, as a sentence without its full stop.
    remedy : str
        What to do instead, as a sentence without its full stop.

    Examples
    --------
    >>> print(Leak("estimator.prefit", "it was fitted before", "fit it inside"))
    estimator.prefit: it was fitted before. Fit it inside.
    """

    part: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.part}: {self.why}. {self.remedy[:1].upper()}{self.remedy[1:]}."


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a learner can do. Declared by the adapter, never sniffed by the core.

    Attributes
    ----------
    task : {"classification", "regression"}
        Classifiers get codes 0..k-1 as targets, regressors floats.
    resumable : bool
        A step may train on from the state of the step before. If not, every step starts from None with the
        whole budget. Records that arrive by ``partial_fit`` are a step after the whole budget (start >= 1), so a
        learner of one slice is resumable too if a state that had its whole budget can be trained on.
    max_slices : int or None
        The largest ``n_slices`` that makes sense: 1 where slicing cannot work, the number of trees or iterations
        where each step needs one, None where there is no limit.
    why_limited : str
        The reason for ``max_slices``, as the end of the sentence "at most N slices, because ...".
    recommended_slices : int
        What ``n_slices="auto"`` means: a constant of the learner, never of the data.
    probabilities : bool
        ``predict`` gives class probabilities; otherwise one-hot votes.
    sample_weight, missing_values, sparse, multi_output : bool
        The model takes weights, NaN in X, CSR matrices, targets of shape (n, m) (regression only).
    frames : bool
        The model wants a DataFrame whole. Otherwise the core hands over the values of a numeric frame.
    categorical : bool
        With ``frames``: columns of category dtype are welcome.
    unseen_categories : {"missing", "kept", "refused"}
        What becomes, in rows to predict, of a category outside the schema's vocabulary: as the bare model does, take
        it for a missing value, get it as it is (the dtype then has it after those of the schema), or refuse the rows.
    any_shape : bool
        X may have more than two dimensions (images, sequences).
    absent_classes : bool
        The model can be told of all classes of the schema though its rows show fewer. It then always gets all of
        them, is called for prefixes of one class too, and never restarts because of a new one.
    parallel : {"threads", "processes"}
        How shards train side by side: threads where the framework releases the GIL.
    stores_training_rows : bool
        The state contains training rows by design (neighbours, support vectors).
    leaks : tuple of Leak
        Parts of the wrapped model that saw data before the shards do. `fit` warns of each.
    """

    task: Task
    resumable: bool = False
    max_slices: int | None = 1
    why_limited: str = ""
    recommended_slices: int = 1
    probabilities: bool = False
    sample_weight: bool = False
    missing_values: bool = False
    sparse: bool = False
    multi_output: bool = False
    frames: bool = False
    categorical: bool = False
    unseen_categories: Literal["missing", "kept", "refused"] = "missing"
    any_shape: bool = False
    absent_classes: bool = False
    parallel: Literal["threads", "processes"] = "processes"
    stores_training_rows: bool = False
    leaks: tuple[Leak, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of slices 0..r of one shard, in canonical order.

    Attributes
    ----------
    X : array of shape (n, ...), CSR matrix or DataFrame
        The features, in the dtypes of the schema.
    y : ndarray of shape (n,) or (n, m)
        int64 codes 0..k-1 (classification) or float64 targets.
    sample_weight : ndarray of shape (n,) or None
        Positive weights; None when the model was fitted without.
    n_old : int
        The rows that the given state has seen; 0 means that this step is the first.
    classes : ndarray of shape (k,) or None
        The labels behind the codes; None for regression.
    u : ndarray of shape (n,)
        Uniform in [0, 1), a keyed hash of the record's id: hold out rows with ``u < fraction`` and the choice
        depends on no other record.
    X_shard : like X, with at least n rows
        The features of the whole shard; its first n rows are X. For row-wise work only, such as binning by edges
        that are already fixed: no state may depend on the rows after n.
    scratch : dict
        Shared by the steps of one shard within one build. A pure cache: emptied, the results are the same.
    """

    X: Features
    y: AnyArray
    sample_weight: FloatArray | None
    n_old: int
    classes: AnyArray | None
    u: FloatArray
    X_shard: Features
    scratch: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One unit of training: one more slice, and the share of the budget that goes with it.

    Attributes
    ----------
    shard, slice : int
        Where, counted from 0.
    start, stop : Fraction
        The interval (start, stop] of the budget, 1 being the whole. ``start == 0`` and ``stop == 1`` means all at
        once: then train as the bare model would. Records that arrived later take it beyond 1.
    epochs : Fraction
        Epochs over the prefix for each epoch of the wrapped model, e.g. 2/(R+1) times (r+1)/R of the rows add up
        to one epoch over the shard.
    seed : int
        Below 2**31, a function of the model's seed, shard and slice. Mix it with the model's own ``random_state``
        by `seeded`.
    """

    shard: int
    slice: int
    start: Fraction
    stop: Fraction
    epochs: Fraction
    seed: int

    @property
    def whole(self) -> bool:
        """Whether this step has the whole budget at once."""
        return self.start == 0 and self.stop == 1

    @property
    def renews_edges(self) -> bool:
        """Whether this step takes new bin edges though it trains on from a state."""
        return 0 < self.start < RENEW_EDGES_AT <= self.stop

    def units(self, total: int) -> int:
        """The trees (or other indivisible units) of a budget of `total` that fall to this step.

        Examples
        --------
        >>> from fractions import Fraction
        >>> step = Step(shard=0, slice=1, start=Fraction(1, 3), stop=Fraction(2, 3), epochs=Fraction(1), seed=0)
        >>> step.units(10)
        3
        """
        return floor(total * self.stop) - floor(total * self.start)

    def seeded(self, random_state: int | None) -> int:
        """The seed of this step for a model with this `random_state`, below 2**31."""
        text = f"{self.seed}:{random_state}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") % 2**31


@runtime_checkable
class Learner(Protocol[State]):
    """One kind of model behind one face. Learners pickle, and never change after they are made.

    Attributes
    ----------
    capabilities : Capabilities
    fingerprint : str
        A digest of all that decides what `train` does; see `unlearnkit.fingerprints.fingerprint`.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        ...

    @property
    def fingerprint(self) -> str:
        """What decides its results."""
        ...

    def train(self, state: State | None, batch: Batch, step: Step) -> State:
        """Train on from `state` (None: start), which stays as it was, and return the new state."""
        ...

    def predict(self, state: State, X: Features) -> FloatArray:
        """Probabilities or one-hot votes of shape (n, k) (classifier), values (n,) or (n, m) (regressor)."""
        ...

    def save(self, state: State) -> dict[str, bytes]:
        """The state as named parts. A part that a step left alone comes back as the same bytes."""
        ...

    def load(self, parts: Mapping[str, bytes]) -> State:
        """The state behind the parts. Never executes code from the bytes.

        Raises StateError on nonsense: here, or where the state is used first, if to look takes long.
        """
        ...


@runtime_checkable
class Sharing(Protocol):
    """What a learner can do besides, to predict the same rows from many states at the price of once."""

    def sharing(self, X: Features) -> AbstractContextManager[Any]:
        """Read the rows once for all states, and hold what all predictions need, such as one thread for BLAS.

        ``with learner.sharing(X) as rows`` gives rows that `predict` takes in the place of `X`, with the same bits as
        its answer. Other threads may predict them, too, meanwhile: what is held for one thread only is to be taken
        again by `predict` in another.
        """
        ...


PredictAll: TypeAlias = Callable[[Any], Iterable[FloatArray]]
"""What gives, for some rows, the prediction of each of several states, in their order."""


@runtime_checkable
class Joining(Protocol):
    """What a learner can do besides, to predict few rows from many states in one call.

    For one row, twenty calls into a framework may take longer than all that they do there.
    """

    def joined(self, states: Sequence[Any]) -> PredictAll | None:
        """What predicts from all of these states at once, with the bits that `predict` has for each of them.

        It is called in the place of `predict`: with rows as they are shared, where the learner shares them, and from
        any thread. The states have been predicted from before, and stay as they are.

        Parameters
        ----------
        states : sequence of object
            One or more.

        Returns
        -------
        callable or None
            None if these states cannot be joined, or not at a price worth paying: then each is asked for itself.
        """
        ...


@runtime_checkable
class Warm(Protocol[State_co]):
    """What a learner can do besides, to honour ``base=``: start from a model that was trained elsewhere.

    Everywhere that training would start from None it then starts from the base, with ``n_old == 0``.
    """

    def pack_base(self, base: Any, n_features: int, labels: AnyArray | None) -> dict[str, bytes]:
        """The user's base model as named parts, from which `start` works without it.

        Equal models give equal parts: their digest is part of every key.

        Parameters
        ----------
        base : object
            What the user passed as ``base=``; never changed.
        n_features : int
            Of the data that are to be trained on.
        labels : ndarray of shape (k,) or None
            All class labels of the schema; None for regression.

        Raises
        ------
        ParameterError
            If no training can start from it: not fitted, another architecture, other features or classes.
        """
        ...

    def start(self, base: Mapping[str, bytes], classes: AnyArray | None) -> State_co:
        """The state to train on from, for a shard that sees these classes; `base` are the parts of `pack_base`.

        Never executes code from the bytes; raises StateError on nonsense.
        """
        ...


@lru_cache(maxsize=64)
def is_able(kind: Any, ability: Any) -> bool:
    """Whether learners of a class have an ability. To look takes longer than a prediction of some."""
    return issubclass(kind, ability)
