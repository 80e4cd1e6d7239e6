"""What classifier and regressor have in common: options, life and looks of a fitted model."""

from __future__ import annotations

import secrets
from dataclasses import replace
from numbers import Integral
from typing import Any, Self

from sklearn.base import BaseEstimator, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from unlearnkit import adapters, aggregation
from unlearnkit.config import Config
from unlearnkit.ensemble import SisaEnsemble
from unlearnkit.environment import environment
from unlearnkit.errors import CapabilityError, DataError, ParameterError, UnlearnKitError
from unlearnkit.learner import Learner
from unlearnkit.partition import HashPartition, Partition
from unlearnkit.receipts import Estimate, Receipt, VerifyReport
from unlearnkit.schema import Schema
from unlearnkit.typing import Aggregate, FloatArray, Task

AUTO = "auto"


def has_probabilities(model: SISAModel) -> bool:
    """Whether the wrapped model gives class probabilities."""
    return bool(model._learner().capabilities.probabilities)  # noqa: SLF001


class SISAModel(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What classifier and regressor share."""

    __metadata_request__fit = {"ids": True}  # noqa: RUF012 - scikit-learn looks for it by this name
    _task: Task

    def __init__(
        self,
        estimator: Any = None,
        *,
        n_shards: int = 5,
        n_slices: int | str = AUTO,
        aggregation: str | Aggregate = AUTO,
        partition: HashPartition | None = None,
        schema: Schema | None = None,
        adapter: str | None = None,
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
        self.when_isolated = when_isolated
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    # -- configuration -------------------------------------------------------------------------------------------

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
        capabilities, name = learner.capabilities, type(self._model()).__name__
        if capabilities.task != self._task:
            other = "SISARegressor" if capabilities.task == "regression" else "SISAClassifier"
            raise ParameterError(f"{name} is for {capabilities.task}; nothing was changed. Use {other}, or wrap().")
        _check_count("n_shards", self.n_shards)
        if self.when_isolated not in ("raise", "prior"):
            raise ParameterError(f'when_isolated={self.when_isolated!r} is neither "raise" nor "prior".')
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
            n_jobs=self.n_jobs,
            verbose=int(self.verbose),
            environment=environment(self._model(), learner),
        )

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
        return tags

    # -- life ----------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, ids: Any = None) -> Self:
        """Train one constituent for each shard, slice by slice.

        Parameters
        ----------
        X : array-like, CSR matrix or DataFrame of shape (n_samples, n_features)
            The features. Frames are kept whole for models that take them; their category vocabularies are frozen.
        y : array-like of shape (n_samples,), or (n_samples, n_outputs) for some regressors
            The targets.
        sample_weight : array-like of shape (n_samples,) or None
            Not negative. Records of weight zero are kept, and train nothing.
        ids : array-like of shape (n_samples,) or None
            Whose row each is: int, str, UUID or bytes. Rows that share an id are forgotten together. None: each
            row is addressed by the label of its unique index, or else by its position in this call.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the data cannot be used.
        CapabilityError
            If the model cannot honour an option exactly.
        TrainingError
            If a shard cannot be trained.
            Whatever is raised, a model fitted before is left as it was.
        """
        learner = adapters.resolve(self._model(), self.adapter)
        ensemble = SisaEnsemble(learner, self._config(learner)).fit(X, y, sample_weight, ids=ids)
        validate_data(self, X, reset=True, skip_check_array=True)
        self._ensemble = ensemble
        if ensemble.schema.labels is not None:
            self.classes_ = ensemble.schema.labels
        return self

    def forget(self, ids: Any, *, repair: bool = True, missing: str = "raise") -> Receipt:
        """Forget all records of these ids, exactly.

        The model that is left equals, to the last bit, ``pinned()`` fitted on the records that remain. The affected
        shards stop serving what the records influenced at once; then their missing steps are trained again.

        Parameters
        ----------
        ids : id or array-like of ids
            As given to `fit`, or losslessly convertible to their type. Without ids: index labels, or positions in
            the original call, which never shift.
        repair : bool
            False stops once nothing served or stored was influenced by the records; `repair` trains later.
        missing : {"raise", "ignore"}
            What to do about ids that no record has and none ever had.

        Returns
        -------
        Receipt

        Raises
        ------
        UnknownRecordError
            If an id is unknown or of another type; nothing was changed.

        Warns
        -----
        RuntimeWarning
            If a shard cannot be trained on what is left. It stays isolated.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from unlearnkit import SISAClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = SISAClassifier(n_shards=3, random_state=0).fit(X, y, ids=range(1000, 1150))
        >>> receipt = clf.forget([1007, "1100"])
        >>> receipt.n_records, receipt.repaired_at is not None
        (2, True)
        """
        return self._current().forget(ids, repair=repair, missing=missing)

    def repair(self, *, rebuild: bool = False) -> tuple[Receipt, ...]:
        """Train the steps that isolated shards miss.

        Parameters
        ----------
        rebuild : bool
            Rebuild whole the shards that would train on from states of another environment, or have a damaged one.

        Returns
        -------
        tuple of Receipt
            Of the requests that were due.

        Raises
        ------
        TrainingError
            If a shard cannot be trained; it stays isolated, the others are repaired.
        EnvironmentChangedError
            If library versions or the processor have changed since; nothing was trained.
        """
        return self._current().repair(rebuild=rebuild)

    # -- look ----------------------------------------------------------------------------------------------------

    def verify(self, X: Any = None, y: Any = None, sample_weight: Any = None, *, ids: Any = None) -> VerifyReport:
        """Rebuild the model in an empty store and compare every stored state, byte for byte.

        Parameters
        ----------
        X, y, sample_weight, ids
            The records to rebuild from, as for `fit`; None: those that the model keeps.

        Returns
        -------
        VerifyReport
            ``report.exact``, ``report.differing``.
        """
        return self._current().verify(X, y, sample_weight, ids=ids)

    def estimate(self, ids: Any) -> Estimate:
        """What forgetting these ids would cost. A dry run: nothing is changed.

        Parameters
        ----------
        ids : id or array-like of ids

        Returns
        -------
        Estimate

        Raises
        ------
        UnknownRecordError
            If an id is unknown or of another type.
        """
        return self._current().estimate(ids)

    def pinned(self) -> Self:
        """An unfitted clone that carries schema, seed and partition secret.

        Fitted on the records that this model has left, it gives the same bytes: ``model_digest_`` is equal.
        """
        check_is_fitted(self)
        config = self._ensemble.config
        twin: Self = clone(self)
        twin.set_params(
            n_slices=config.n_slices,
            partition=HashPartition(self._ensemble.partition.secret),
            schema=self._ensemble.schema,
            random_state=config.seed,
        )
        return twin

    def _current(self) -> SisaEnsemble:
        """The fitted ensemble, with the options that never change a result as they are set now."""
        check_is_fitted(self)
        ensemble = self._ensemble
        ensemble.config = replace(ensemble.config, n_jobs=self.n_jobs, verbose=int(self.verbose))
        return ensemble

    def _aggregated(self, X: Any) -> FloatArray:
        ensemble = self._current()
        if getattr(X, "ndim", 0) == 2:  # noqa: PLR2004
            try:
                validate_data(self, X, reset=False, skip_check_array=True)
            except ValueError as error:
                raise DataError(f"{error}\nNothing was changed.") from error
        features = ensemble.features(X)
        if features.shape[0] == 0:
            # As the bare models say, each in its own place: some frameworks fail on no rows.
            raise DataError(f"Found array with 0 sample(s) (shape={features.shape}) while a minimum of 1 is required.")
        return ensemble.predict(features)

    @property
    def schema_(self) -> Schema:
        """What is public knowledge about the data, kept through forgets."""
        return self._fitted().schema

    @property
    def partition_(self) -> Partition:
        """Where records belong; ``partition_.locate(ids)`` tells."""
        return self._fitted().partition

    @property
    def model_digest_(self) -> str:
        """SHA-256 over schema, aggregation and every stored state: equal for equal models, whatever their history."""
        return self._fitted().model_digest

    @property
    def degraded_shards_(self) -> tuple[int, ...]:
        """Shards that wait for repair, or cannot be trained on the records that are left."""
        return self._fitted().degraded_shards

    @property
    def estimators_(self) -> list[Any]:
        """The constituents, one for each shard: the learner's state, a class code if constant, None if it abstains."""
        return self._fitted().constituents

    def _fitted(self) -> SisaEnsemble:
        # AttributeError, so that hasattr() tells the truth about an unfitted model.
        if not self.__sklearn_is_fitted__():
            raise AttributeError(f"This {type(self).__name__} is not fitted yet; call fit first.")
        return self._ensemble


def _check_count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        auto = ' or "auto"' if name == "n_slices" else ""
        raise ParameterError(f"{name}={value!r} is not a whole number of at least 1{auto}; nothing was changed.")
    return int(value)
