"""What an estimator is told before it is fitted, and what it says of itself to scikit-learn."""

from __future__ import annotations

import os
import secrets
from copy import deepcopy
from numbers import Integral
from typing import Any, Self

from sklearn.base import BaseEstimator, clone
from sklearn.utils import Tags, get_tags

from unlearnkit import adapters, aggregation
from unlearnkit.config import Config
from unlearnkit.ensemble import SisaEnsemble
from unlearnkit.environment import environment
from unlearnkit.errors import CapabilityError, CodeNeededError, ParameterError, UnlearnKitError
from unlearnkit.external import EXTERNAL, STORED
from unlearnkit.learner import Learner
from unlearnkit.notebook import NotebookView
from unlearnkit.partition import HashPartition, Placing
from unlearnkit.schema import Schema
from unlearnkit.store import Store
from unlearnkit.typing import Aggregate, Task

AUTO = "auto"


def delegated(tags: Tags, model: Any) -> Tags:
    """The tags with what the wrapped model says of itself, if it is one of scikit-learn's kind."""
    if not isinstance(model, BaseEstimator):
        return tags
    own = get_tags(model)
    tags.input_tags.positive_only = own.input_tags.positive_only
    tags.target_tags.positive_only = own.target_tags.positive_only
    tags.non_deterministic = own.non_deterministic
    return tags


def delegated_of_kind(tags: Tags, model: Any) -> Tags:
    """The same for tags that scikit-learn's mixins give to classifiers or regressors alone."""
    if not isinstance(model, BaseEstimator):
        return tags
    own = get_tags(model)
    if tags.classifier_tags is not None and own.classifier_tags is not None:
        tags.classifier_tags.poor_score = own.classifier_tags.poor_score
        tags.classifier_tags.multi_class = own.classifier_tags.multi_class
    if tags.regressor_tags is not None and own.regressor_tags is not None:
        tags.regressor_tags.poor_score = own.regressor_tags.poor_score
    return tags


def has_probabilities(model: Options) -> bool:
    """Whether the wrapped model gives class probabilities."""
    try:
        return bool(model._learner().capabilities.probabilities)  # noqa: SLF001
    except CodeNeededError:
        # Nobody knows; who asks for them is told what is missing.
        return True


def takes_weights(model: Options) -> bool:
    """Whether the wrapped model takes sample weights; yes where nobody knows: `fit` says what is missing."""
    try:
        return model._learner().capabilities.sample_weight  # noqa: SLF001
    except UnlearnKitError:
        return True


class Options(NotebookView, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The options of a model, and the wrapped model."""

    _task: Task
    _ensemble: SisaEnsemble

    def __init__(
        self,
        estimator: Any = None,
        *,
        n_shards: int = 5,
        n_slices: int | str = AUTO,
        aggregation: str | Aggregate = AUTO,
        partition: Placing | None = None,
        schema: Schema | None = None,
        adapter: str | None = None,
        base: Any = None,
        store: str | os.PathLike[str] | Store | None = None,
        data: str = STORED,
        checkpoint_every: int = 1,
        when_isolated: str = "raise",
        n_jobs: int | None = None,
        random_state: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.n_shards = n_shards
        self.n_slices = n_slices
        self.aggregation = aggregation
        self.partition = partition
        self.schema = schema
        self.adapter = adapter
        self.base = base
        self.store = store
        self.data = data
        self.checkpoint_every = checkpoint_every
        self.when_isolated = when_isolated
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _model(self) -> Any:
        """The wrapped model: the one given, or a decision tree."""
        if self.estimator is not None:
            return self.estimator
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        return DecisionTreeClassifier() if self._task == "classification" else DecisionTreeRegressor()

    def _learner(self) -> Learner[Any]:
        if self.__sklearn_is_fitted__():
            return self._ensemble.learner
        return adapters.resolve(self._model(), self.adapter)

    def _config(self, learner: Learner[Any]) -> Config:
        capabilities, name, n_jobs = learner.capabilities, type(self._model()).__name__, self._jobs()
        if capabilities.task != self._task:
            other = "SISARegressor" if capabilities.task == "regression" else "SISAClassifier"
            raise ParameterError(f"{name} is for {capabilities.task}; nothing was changed. Use {other}, or wrap().")
        _check_count("n_shards", self.n_shards)
        _check_count("checkpoint_every", self.checkpoint_every)
        if self.when_isolated not in ("raise", "prior"):
            raise ParameterError(f'when_isolated={self.when_isolated!r} is neither "raise" nor "prior".')
        self._check_data()
        given: Any = self.random_state
        if given is not None and not isinstance(given, Integral):
            raise ParameterError(
                f"random_state is a {type(given).__name__}, which changes with use; nothing was changed. "
                "Give an int or None."
            )
        seed = secrets.randbits(31) if given is None else int(given)
        return Config(
            name=name,
            n_shards=int(self.n_shards),
            n_slices=self._resolved_slices(learner, name),
            aggregation=aggregation.choose(self.aggregation, capabilities),
            partition=HashPartition() if self.partition is None else self.partition,
            schema=self.schema,
            when_isolated=self.when_isolated,
            seed=seed,
            random_state=None if given is None else seed,
            n_jobs=n_jobs,
            verbose=int(self.verbose),
            environment=environment(self._model(), learner),
            base=self.base,
            checkpoint_every=int(self.checkpoint_every),
            data=self.data,
            estimator=self._remembered(),
        )

    def _jobs(self) -> int | None:
        """How many jobs are asked for; a ParameterError if that is no number of them."""
        given: Any = self.n_jobs
        if given is None:
            return None
        if not isinstance(given, Integral) or given == 0:
            raise ParameterError(
                f"n_jobs={given!r} is no number of jobs; nothing was changed. Give a whole number other than 0 (-1: "
                "all processors), or None."
            )
        return int(given)

    def _check_data(self) -> None:
        """Refuse what `data` cannot be."""
        if self.data not in (STORED, EXTERNAL):
            raise ParameterError(f'data={self.data!r} is neither "stored" nor "external"; nothing was changed.')
        if self.data == EXTERNAL and self.when_isolated == "prior" and self._task == "regression":
            raise CapabilityError(
                'when_isolated="prior" predicts the mean of the targets, which data="external" does not keep; nothing '
                'was changed. Use when_isolated="raise", or keep the rows with the model.'
            )

    def _remembered(self) -> dict[str, Any]:
        """How a store remembers this estimator."""
        return {} if self.store is None else self._described()

    def _described(self) -> dict[str, Any]:
        """The estimator in plain values."""
        from unlearnkit import models
        from unlearnkit.fingerprints import refuse_unimportable

        # What has no importable name could never be matched again.
        refuse_unimportable(self._model())
        refuse_unimportable(self.aggregation)
        return {"task": self._task, "adapter": self.adapter, "model": models.describe(self._model())}

    def _resolved_slices(self, learner: Learner[Any], name: str) -> int:
        capabilities, asked = learner.capabilities, self.n_slices
        limit = capabilities.max_slices if capabilities.resumable else 1
        if asked == AUTO:
            return min(capabilities.recommended_slices, limit or capabilities.recommended_slices)
        count = _check_count("n_slices", asked)
        if limit is not None and count > limit:
            reason = f", because {capabilities.why_limited}" if capabilities.why_limited else ""
            raise CapabilityError(
                f"n_slices={count} is too many: {name} takes at most {limit}{reason}. Nothing was changed; "
                f"use n_slices={limit} or fewer, and more shards instead."
            )
        return count

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_ensemble")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        try:
            capabilities = self._learner().capabilities
        except UnlearnKitError:
            # Without its plugin nothing is known of the model; fit says so.
            return tags
        tags.input_tags.sparse = capabilities.sparse
        tags.input_tags.allow_nan = capabilities.missing_values
        tags.input_tags.categorical = capabilities.categorical
        return delegated(tags, self._model())

    def __sklearn_clone__(self) -> Self:
        # scikit-learn would make an unfitted copy of the base, which is of use only fitted.
        given = self.get_params(deep=False)
        twin = type(self)(**{k: v if k == "base" else _copied(v) for k, v in given.items()})
        if hasattr(self, "_metadata_request"):
            twin._metadata_request = deepcopy(self._metadata_request)  # noqa: SLF001 - its own
        return twin


def _copied(value: Any) -> Any:
    """An unfitted copy of a parameter."""
    try:
        return clone(value, safe=False)
    except RuntimeError:
        # Some models keep a copy of a list that they were given, which scikit-learn's check takes for a fault.
        return type(value)(**deepcopy(value.get_params(deep=False)))


def _check_count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        auto = ' or "auto"' if name == "n_slices" else ""
        raise ParameterError(f"{name}={value!r} is not a whole number of at least 1{auto}; nothing was changed.")
    return int(value)
