"""What classifier and regressor have in common: the life of a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import validate_data

from unlearnkit import adapters, aggregation, bundle
from unlearnkit.audit import audit_of, record_sides
from unlearnkit.containers import column
from unlearnkit.ensemble import SisaEnsemble
from unlearnkit.errors import AdapterError, CodeNeededError, ParameterError, SchemaError, UnlearnKitError
from unlearnkit.fitted import FittedModel, native_data
from unlearnkit.founding import bare_config
from unlearnkit.learner import Learner
from unlearnkit.loading import LoadRows
from unlearnkit.options import AUTO, takes_weights
from unlearnkit.receipts import Receipt
from unlearnkit.signatures import weights_if
from unlearnkit.store import Store, as_store


class SISAModel(FittedModel):
    """What classifier and regressor share."""

    # scikit-learn looks for them by these names.
    __metadata_request__fit = {"ids": True}  # noqa: RUF012
    __metadata_request__partial_fit = {"ids": True}  # noqa: RUF012

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
        X, y, sample_weight, ids = native_data(X, y, sample_weight, ids)
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
        load_rows: LoadRows | None = None,
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
        load_rows : callable or None
            Where the earlier rows are, for a model with ``data="external"``; see `forget`.

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
        `load`. While that has not been done, the same call again goes on, too, and adds nothing twice.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from unlearnkit import SISAClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = SISAClassifier(n_shards=3, random_state=0).fit(X[::2], y[::2])
        >>> clf.partial_fit(X[1::2], y[1::2]).forget(149).n_records
        1
        """
        X, y, sample_weight, ids = native_data(X, y, sample_weight, ids)
        if not self.__sklearn_is_fitted__():
            given = {"ids": ids, "probability": erasure_probability, "forgotten": forgotten, "classes": classes}
            return self._first_fit(X, y, sample_weight, **given)
        ensemble = self._current()
        self._check_features(X)
        self._check_classes(classes)
        options = {"probability": erasure_probability, "forgotten": forgotten, "load_rows": load_rows}
        ensemble.partial_fit(X, y, sample_weight, ids=ids, **options)
        return self

    def _check_classes(self, classes: Any) -> None:
        known = getattr(self, "classes_", None)
        if classes is not None and (known is None or set(column(classes)) != set(known.tolist())):
            raise SchemaError(
                "classes= are not those of the first call, which classes_ shows. Nothing was changed. Leave it out, or "
                "fit a new model if there are new classes."
            )

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
        self._positive_only = self._takes_none_below_zero()
        if ensemble.schema.labels is not None:
            self.classes_ = ensemble.schema.labels

    def forget(
        self,
        ids: Any,
        *,
        repair: bool = True,
        missing: str = "raise",
        load_rows: LoadRows | None = None,
        audit: tuple[Any, Any, Any, Any] | None = None,
    ) -> Receipt:
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
        load_rows : callable or None
            Where the rows are, for a model with ``data="external"``, which needs it to repair:
            ``load_rows(shard, slice)`` gives their `Rows`. Slices from ``partition_.n_slices`` on are of records that
            came later; any row of the shard may be in them. Rows beyond those that the model has digests of, such as
            forgotten ones, are left out.
        audit : tuple (X_in, y_in, X_out, y_out) or None
            Make a `membership_audit` of these rows before and after, and record both beside the request, if it has
            changed the model.

        Returns
        -------
        Receipt

        Raises
        ------
        UnknownRecordError
            If an id is unknown or of another type; nothing was changed.
        DataError, ParameterError
            If the rows to audit cannot be used, or are not four; nothing was changed.
        RowsNeededError
            If the model is to be repaired on rows that are kept elsewhere, and `load_rows` is missing; nothing was
            changed.
        RowsDifferError
            If a record to train on is not among the rows that were given, as it was. What was to be forgotten is
            forgotten, and `repair` trains later.

        Warns
        -----
        RuntimeWarning
            If a shard cannot be trained on what is left, which stays isolated; if an audit cannot be made or recorded
            once the request is carried out.

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
        before = None if audit is None else audit_of(self, audit)
        receipt = self._current().forget(column(ids), repair=repair, missing=missing, load_rows=load_rows)
        if before is not None:
            record_sides(self, receipt, before, audit)
        return receipt

    def rectify(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        ids: Any,
        repair: bool = True,
        load_rows: LoadRows | None = None,
    ) -> Receipt:
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
        load_rows : callable or None
            Where the other rows are, for a model with ``data="external"``; see `forget`.

        Returns
        -------
        Receipt
            ``receipt.kind == "rectification"``.

        Raises
        ------
        UnknownRecordError
            If an id has no record. Nothing was changed.
        DataError
            If there are no rows, they do not fit the schema, or the model was fitted without ids. Nothing was changed.

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
        X, y, sample_weight, ids = native_data(X, y, sample_weight, ids)
        self._check_features(X)
        return ensemble.rectify(X, y, sample_weight, ids=ids, repair=repair, load_rows=load_rows)

    def consolidate(self, *, refresh_schema: bool = False, load_rows: LoadRows | None = None) -> Self:
        """Rebuild into the slices that a fit would use: arrivals that have piled up go where the partition places them.

        The model serves as before until the new one is trained; then they are swapped. ``pinned()`` fitted on all
        records then gives the same bytes.

        Parameters
        ----------
        refresh_schema : bool
            Also drop categories and class labels that no record has any more. The whole model is trained again, and
            `classes_` may become shorter.
        load_rows : callable or None
            Where the rows are, for a model with ``data="external"``; see `forget`.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If fewer than two classes would be left. Nothing was changed.
        """
        self._current().consolidate(refresh_schema=refresh_schema, load_rows=load_rows)
        self._current()
        return self

    def repair(self, *, rebuild: bool = False, load_rows: LoadRows | None = None) -> tuple[Receipt, ...]:
        """Train the steps that isolated shards miss.

        Parameters
        ----------
        rebuild : bool
            Rebuild whole the shards that would train on from states of another environment, or have a damaged one.
        load_rows : callable or None
            Where the rows are, for a model with ``data="external"``; see `forget`.

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
        RowsNeededError
            If rows that are kept elsewhere are needed, and `load_rows` is missing; nothing was trained.
        RowsDifferError
            If a record is not among the rows that were given, as it was; nothing was trained on it.
        """
        return self._current().repair(rebuild=rebuild, load_rows=load_rows)

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
