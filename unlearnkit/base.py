"""What classifier and regressor have in common: options, life and looks of a fitted model."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import replace
from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from unlearnkit import adapters, aggregation, bundle
from unlearnkit.config import Config
from unlearnkit.containers import column, native, take_ids
from unlearnkit.ensemble import SisaEnsemble
from unlearnkit.environment import environment
from unlearnkit.errors import AdapterError, CapabilityError, CodeNeededError, DataError, ParameterError, UnlearnKitError
from unlearnkit.founding import bare_config
from unlearnkit.learner import Learner
from unlearnkit.notebook import NotebookView
from unlearnkit.partition import HashPartition, Partition, Placing
from unlearnkit.receipts import Estimate, Receipt, VerifyReport
from unlearnkit.schema import Schema
from unlearnkit.signatures import weights_if
from unlearnkit.store import Store, as_store
from unlearnkit.typing import Aggregate, AnyArray, FloatArray, Task
from unlearnkit.validation import is_sparse

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


def has_probabilities(model: SISAModel) -> bool:
    """Whether the wrapped model gives class probabilities."""
    try:
        return bool(model._learner().capabilities.probabilities)  # noqa: SLF001
    except CodeNeededError:
        # Nobody knows; who asks for them is told what is missing.
        return True


def takes_weights(model: SISAModel) -> bool:
    """Whether the wrapped model takes sample weights; yes where nobody knows: `fit` says what is missing."""
    try:
        return model._learner().capabilities.sample_weight  # noqa: SLF001
    except UnlearnKitError:
        return True


class SISAModel(NotebookView, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What classifier and regressor share."""

    # scikit-learn looks for them by these names.
    __metadata_request__fit = {"ids": True}  # noqa: RUF012
    __metadata_request__partial_fit = {"ids": True}  # noqa: RUF012
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
            base=self.base,
            estimator=self._remembered(),
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

    # -- life ----------------------------------------------------------------------------------------------------

    @weights_if(takes_weights)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        ids: Any = None,
        erasure_probability: Any = None,
        forgotten: str = "raise",
    ) -> Self:
        """Train one constituent for each shard, slice by slice.

        Parameters
        ----------
        X : array-like, CSR matrix or DataFrame of shape (n_samples, n_features)
            The features. Frames are kept whole for models that take them; their category vocabularies are frozen.
        y : array-like of shape (n_samples,), or (n_samples, n_outputs) for some regressors
            The targets.
        sample_weight : array-like of shape (n_samples,) or None
            Not negative. Records of weight zero are kept, and train nothing.
        ids : array-like of shape (n_samples,), column name or None
            Whose row each is: int, str, UUID or bytes. Rows that share an id are forgotten together. A column name
            takes that column out of the features of a frame. None: each row is addressed by the label of its unique
            index, or else by its position in this call.
        erasure_probability : array-like of shape (n_samples,), float or None
            How likely the person behind each row is to ask for erasure, one value per id. Only, and then always, with
            ``partition=BandedPartition(...)``.
        forgotten : {"raise", "drop", "readmit"}
            What to do about rows of ids that the store has forgotten: raise, leave them out, or learn them again.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the data cannot be used.
        CapabilityError
            If the model cannot honour an option exactly.
        ForgottenRecordError
            If there are rows of forgotten ids, and `forgotten` is "raise".
        StoreInUseError
            If the store holds another model, or another process is at work in it.
        TrainingError
            If a shard cannot be trained. In a store, the same call goes on from there.
            Whatever is raised, a model fitted before is left as it was.

        Warns
        -----
        DataWarning
            If several ids have exactly the same row, or there are too few ids for so many shards and slices.
        LeakageWarning
            If a part of the wrapped model has seen data before.

        Notes
        -----
        With a store, a fit that was cut short goes on where it stopped: call it again with the same data, or `load`.
        """
        X, y, sample_weight, ids = _native(X, y, sample_weight, ids)
        return self._first_fit(X, y, sample_weight, ids=ids, probability=erasure_probability, forgotten=forgotten)

    def _first_fit(self, X: Any, y: Any, sample_weight: Any, **options: Any) -> Self:
        self._check_sign(X)
        learner = adapters.resolve(self._model(), self.adapter)
        store = None if self.store is None else as_store(self.store)
        ensemble = SisaEnsemble(learner, self._config(learner), store)
        ensemble.fit(X, y, sample_weight, **options)
        validate_data(self, X, reset=True, skip_check_array=True)
        self._take(ensemble)
        return self

    @weights_if(takes_weights)
    def partial_fit(
        self,
        X: Any,
        y: Any,
        classes: Any = None,
        sample_weight: Any = None,
        *,
        ids: Any = None,
        erasure_probability: Any = None,
        forgotten: str = "raise",
    ) -> Self:
        """Add records. They become a new last slice of their shards, so only one step of each is trained.

        A model that was not fitted yet is fitted. What is left after any history of `fit`, `partial_fit`, `rectify`
        and `forget` equals, to the last bit, the same history without the forgotten records.

        Parameters
        ----------
        X : array-like, CSR matrix or DataFrame of shape (n_samples, n_features)
            With the columns and dtypes of the schema; a category that it does not know is refused.
        y : array-like of shape (n_samples,), or (n_samples, n_outputs) for some regressors
            Labels that are not in ``classes_`` are refused.
        classes : array-like of shape (n_classes,) or None
            All labels there will ever be, for the first call.
        sample_weight : array-like of shape (n_samples,) or None
        ids : array-like of shape (n_samples,), column name or None
            As for `fit`. An id that has records already gets more. Without ids, positions go on from those of
            earlier calls, and an index label that was used before is refused.
        erasure_probability : array-like of shape (n_samples,), float or None
        forgotten : {"raise", "drop", "readmit"}
            What to do about rows of ids that the model has forgotten.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the data cannot be used or do not fit the schema. Nothing was changed.
        ForgottenRecordError
            If there are rows of forgotten ids, and `forgotten` is "raise".

        Warns
        -----
        RuntimeWarning
            If a shard cannot be trained with its new records: they are kept, and it serves what it did.
        DataWarning
            If slices have piled up: time to `consolidate`.

        Notes
        -----
        Once the records are kept, an interruption loses nothing: `repair` trains on, and in a store so does the next
        `load`. The same call again after an interruption goes on, too, and adds nothing twice.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from unlearnkit import SISAClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = SISAClassifier(n_shards=3, random_state=0).fit(X[::2], y[::2])
        >>> clf.partial_fit(X[1::2], y[1::2]).forget(149).n_records
        1
        """
        X, y, sample_weight, ids = _native(X, y, sample_weight, ids)
        if not self.__sklearn_is_fitted__():
            given = {"ids": ids, "probability": erasure_probability, "forgotten": forgotten, "classes": classes}
            return self._first_fit(X, y, sample_weight, **given)
        ensemble = self._current()
        self._check_features(X)
        ensemble.partial_fit(X, y, sample_weight, ids=ids, probability=erasure_probability, forgotten=forgotten)
        return self

    def _open(self, store: Store, *, given: bool, refresh_s: float) -> None:
        """Be the model of a store. `given` says that the user has passed the estimator."""
        settings = store.settings()
        learner: Learner[Any] | UnlearnKitError
        try:
            if not given:
                self.estimator = _restored(settings)
            learner = self._same_learner(settings)
        except (CodeNeededError, AdapterError, ParameterError) as error:
            if given:
                raise
            learner = error
        config = bare_config(settings) if isinstance(learner, UnlearnKitError) else self._config(learner)
        self._become(SisaEnsemble(learner, config, store, refresh_s).open())

    def _open_bundle(self, opened: bundle.Bundle, *, given: bool) -> None:
        """Be the model of a bundle. `given` says that the user has passed the estimator."""
        settings = opened.manifest.settings
        if not given:
            self.estimator = _restored(settings)
        learner = self._same_learner(settings)
        model: Any = bundle.Exported(opened, learner, self._config(learner))
        self._become(model)

    def _become(self, ensemble: SisaEnsemble) -> None:
        schema = ensemble.schema
        self.n_features_in_ = schema.n_features
        if schema.feature_names is not None:
            self.feature_names_in_ = np.array(schema.feature_names, dtype=object)
        self._take(ensemble)

    def _same_learner(self, settings: Mapping[str, Any]) -> Learner[Any]:
        """The learner of the estimator, if it is the one that the store was fitted with."""
        learner = adapters.resolve(self._model(), self.adapter)
        if learner.fingerprint != settings["context"]["fingerprint"]:
            raise CodeNeededError(
                f"What is stored was fitted with another {settings['name']} than this one: parameters, or the code of "
                "the user's own in it, differ. Nothing was changed. Pass what it was fitted with as load(path, "
                "estimator=)."
            )
        rule = self.aggregation
        known = callable(rule) or rule in (AUTO, aggregation.MEAN, aggregation.VOTE)
        if not known or aggregation.choose(rule, learner.capabilities).identity != settings["aggregation"]:
            raise CodeNeededError(
                "What is stored was fitted with an aggregation function that is not here. Nothing was changed. Pass "
                "the whole estimator: load(path, estimator=SISAClassifier(..., aggregation=...))."
            )
        return learner

    def _take(self, ensemble: SisaEnsemble) -> None:
        self._ensemble = ensemble
        if ensemble.schema.labels is not None:
            self.classes_ = ensemble.schema.labels

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
        return self._current().forget(column(ids), repair=repair, missing=missing)

    def rectify(self, X: Any, y: Any, sample_weight: Any = None, *, ids: Any, repair: bool = True) -> Receipt:
        """Put records right (GDPR Art. 16): all rows of these ids become the given ones.

        The old rows are forgotten as `forget` does it, and the new ones take the place of the first of them. What is
        left equals, to the last bit, a model that was given the new rows in the first place, there.

        Parameters
        ----------
        X : array-like, CSR matrix or DataFrame of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), or (n_samples, n_outputs) for some regressors
        sample_weight : array-like of shape (n_samples,) or None
        ids : array-like of shape (n_samples,), or column name
            Every one must have records. An id may have more or fewer rows than before.
        repair : bool
            False stops once nothing served or stored was influenced by the old rows.

        Returns
        -------
        Receipt
            ``receipt.kind == "rectification"``.

        Raises
        ------
        UnknownRecordError
            If an id has no record. Nothing was changed.
        DataError
            If the data do not fit the schema, or the model was fitted without ids. Nothing was changed.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from unlearnkit import SISAClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = SISAClassifier(n_shards=3, random_state=0).fit(X, y, ids=range(150))
        >>> receipt = clf.rectify([[5.0, 3.4, 1.5, 0.2]], [0], ids=[7])
        >>> receipt.kind, receipt.n_records
        ('rectification', 1)
        """
        ensemble = self._current()
        X, y, sample_weight, ids = _native(X, y, sample_weight, ids)
        self._check_features(X)
        return ensemble.rectify(X, y, sample_weight, ids=ids, repair=repair)

    def consolidate(self, *, refresh_schema: bool = False) -> Self:
        """Rebuild into the slices that a fit would use: arrivals that have piled up go where the partition places them.

        The model serves as before until the new one is trained; then they are swapped. ``pinned()`` fitted on all
        records then gives the same bytes.

        Parameters
        ----------
        refresh_schema : bool
            Also drop categories and class labels that no record has any more. The whole model is trained again, and
            `classes_` may become shorter.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If fewer than two classes would be left. Nothing was changed.
        """
        self._current().consolidate(refresh_schema=refresh_schema)
        self._current()
        return self

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

    def verify(
        self,
        X: Any = None,
        y: Any = None,
        sample_weight: Any = None,
        *,
        ids: Any = None,
        erasure_probability: Any = None,
        shards: Collection[int] | None = None,
    ) -> VerifyReport:
        """Rebuild the model in an empty store and compare every stored state, byte for byte.

        Parameters
        ----------
        X, y, sample_weight, ids, erasure_probability
            All records to rebuild from, as for `fit`; None: those that the model keeps.
        shards : collection of int or None
            Check these shards only; None: all.

        Returns
        -------
        VerifyReport
            ``report.exact``, ``report.differing``.
        """
        X, y, sample_weight, ids = _native(X, y, sample_weight, ids)
        return self._current().verify(X, y, sample_weight, ids=ids, probability=erasure_probability, shards=shards)

    def receipts(self) -> tuple[Receipt, ...]:
        """The receipts of all requests, oldest first."""
        return self._current().receipts()

    def save(self, path: str | os.PathLike[str]) -> Self:
        """Write a model that was kept in memory as a store, and go on with it there.

        Requests that were carried out in memory keep their places, pseudonyms and tombstones; what has no receipt that
        is signed, because nothing was stored then, stays without one.

        Parameters
        ----------
        path : path
            A folder that is not there yet, or is empty.

        Returns
        -------
        self

        Raises
        ------
        StoreInUseError
            If there is a store.
        ParameterError
            If the model has a store already, or a function without an importable name. Nothing was written.
        """
        ensemble = self._current()
        if self.store is not None:
            raise ParameterError(
                f"The model lives in {ensemble.store!r} already; nothing was written. Copy the folder."
            )
        self.store = os.fspath(path)
        try:
            ensemble.config = replace(ensemble.config, estimator=self._remembered())
            ensemble.move(Store.at(path))
        except BaseException:
            self.store = None
            raise
        return self

    def export(self, path: str | os.PathLike[str]) -> Self:
        """Write a bundle: one file that predicts, without rows, ids and secrets.

        It holds the states that serve now, shards that wait for repair as they serve, and the digest of the model; what
        `load` opens predicts the same. A state may show single values by its nature, as a tree does in its thresholds.
        The file is a copy that no request reaches: ``unlearnkit status --bundle`` says whether records were forgotten
        since, so that it has to be replaced.

        Parameters
        ----------
        path : path
            A bundle of that name is replaced once the new one is written; any other file stays, and is an error.

        Returns
        -------
        self

        Raises
        ------
        CapabilityError
            If the states are rows of the training data by design, as with neighbours.
        NoConstituentError
            If there is nothing to predict with.
        ParameterError
            If another file is there, or the model has a function without an importable name. Nothing was written.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sklearn.datasets import load_iris
        >>> from unlearnkit import SISAClassifier, load
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = SISAClassifier(n_shards=3, random_state=0).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "iris.bundle")
        ...     same = load(clf.export(file) and file).predict(X) == clf.predict(X)
        >>> bool(same.all())
        True
        """
        model = self._current()
        bundle.write(model, path, self._as_fitted(model))
        return self

    def _as_fitted(self, model: SisaEnsemble) -> dict[str, Any]:
        """The estimator in plain values, as it was fitted."""
        if model.config.estimator:
            return model.config.estimator
        if adapters.resolve(self._model(), self.adapter).fingerprint != model.learner.fingerprint:
            raise ParameterError(
                "The parameters of the wrapped model were changed after its fit; nothing was written. Set them back, "
                "or fit again."
            )
        return self._described()

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
        return self._current().estimate(column(ids))

    def pinned(self) -> Self:
        """An unfitted clone that carries schema, seed, partition secret, bands and base.

        Fitted on the records that this model has left, it gives the same bytes: ``model_digest_`` is equal. So it does
        after `partial_fit` and `rectify`, if the same is done to it.
        """
        check_is_fitted(self)
        ensemble = self._ensemble
        twin: Self = clone(self)
        twin.set_params(
            n_slices=ensemble.config.n_slices,
            partition=ensemble.partition.option,
            schema=ensemble.schema,
            base=ensemble.packed_base,
            random_state=ensemble.config.seed,
            store=None,
        )
        return twin

    def __sklearn_clone__(self) -> Self:
        # scikit-learn would make an unfitted copy of the base, which is of use only fitted.
        given = self.get_params(deep=False)
        twin = type(self)(**{k: v if k == "base" else _copied(v) for k, v in given.items()})
        if hasattr(self, "_metadata_request"):
            twin._metadata_request = deepcopy(self._metadata_request)  # noqa: SLF001 - its own
        return twin

    def _current(self) -> SisaEnsemble:
        """The fitted ensemble, with the options that never change a result as they are set now."""
        check_is_fitted(self)
        ensemble = self._ensemble
        ensemble.config = replace(ensemble.config, n_jobs=self.n_jobs, verbose=int(self.verbose))
        ensemble.refresh()
        if ensemble.schema.labels is not None:
            self.classes_ = ensemble.schema.labels
        return ensemble

    def _check_sign(self, X: Any) -> None:
        """Refuse negative values for a model that says of itself that it takes none."""
        model = self._model()
        if not isinstance(model, BaseEstimator) or not get_tags(model).input_tags.positive_only:
            return
        values = X if is_sparse(X) else np.asarray(X)
        # What is no table of numbers is refused elsewhere, or is for the model to read.
        if values.dtype.kind in "fiu" and 0 not in values.shape:
            try:
                check_non_negative(values, type(self).__name__)
            except ValueError as error:
                raise DataError(f"{error}. Nothing was changed.") from error

    def _check_features(self, X: Any) -> None:
        self._check_sign(X)
        if getattr(X, "ndim", 0) == 2:  # noqa: PLR2004
            try:
                validate_data(self, X, reset=False, skip_check_array=True)
            except ValueError as error:
                raise DataError(f"{error}\nNothing was changed.") from error

    def _answers(self, X: Any) -> tuple[FloatArray, AnyArray | None]:
        """Aggregated predictions and the class labels of the columns: another thread may change both meanwhile."""
        ensemble, X = self._current(), native(X)
        self._check_features(X)
        return ensemble.answers(X)

    @property
    def schema_(self) -> Schema:
        """What is public knowledge about the data, kept through forgets."""
        return self._fitted().schema

    @property
    def partition_(self) -> Partition:
        """Where records belong; ``partition_.locate(ids)`` tells."""
        ensemble = self._fitted()
        return replace(ensemble.partition, _found=ensemble.locate)

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
        return self._current()


def _copied(value: Any) -> Any:
    """An unfitted copy of a parameter."""
    try:
        return clone(value, safe=False)
    except RuntimeError:
        # Some models keep a copy of a list that they were given, which scikit-learn's check takes for a fault.
        return type(value)(**deepcopy(value.get_params(deep=False)))


def _native(X: Any, y: Any, sample_weight: Any, ids: Any) -> tuple[Any, Any, Any, Any]:
    """Data of any library as numpy or pandas holds it, and the ids, where they are a column of it, taken out."""
    X, ids = take_ids(X, ids)
    return native(X), column(y), column(sample_weight), column(ids)


def _restored(settings: Mapping[str, Any]) -> Any:
    """The wrapped model, if a store knows how to make it."""
    from unlearnkit import models

    described = settings["estimator"]["model"]
    if described is None:
        raise CodeNeededError(
            f"The {settings['name']} that is stored takes code of your own, which is not stored; nothing was changed. "
            "Pass what it was fitted with as load(path, estimator=)."
        )
    return models.restore(described, adapters.plugins().adapters)


def _check_count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        auto = ' or "auto"' if name == "n_slices" else ""
        raise ParameterError(f"{name}={value!r} is not a whole number of at least 1{auto}; nothing was changed.")
    return int(value)
