"""What a fitted model tells of itself."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from unlearnkit.containers import column, native, take_ids
from unlearnkit.ensemble import SisaEnsemble
from unlearnkit.errors import DataError
from unlearnkit.external import STORED
from unlearnkit.loading import LoadRows
from unlearnkit.options import Options
from unlearnkit.partition import Partition
from unlearnkit.receipts import Estimate, Receipt, VerifyReport
from unlearnkit.schema import Schema
from unlearnkit.typing import AnyArray, FloatArray
from unlearnkit.validation import is_sparse


class FittedModel(Options):
    """A model that can be asked, looked at and verified."""

    # Whether rows have to be looked at for negative values; a fit knows it.
    _positive_only: bool = True

    def verify(
        self,
        X: Any = None,
        y: Any = None,
        sample_weight: Any = None,
        *,
        ids: Any = None,
        erasure_probability: Any = None,
        shards: Collection[int] | None = None,
        load_rows: LoadRows | None = None,
    ) -> VerifyReport:
        """Rebuild the model in an empty store and compare every stored state, byte for byte.

        Parameters
        ----------
        X, y, sample_weight, ids, erasure_probability
            All records to rebuild from, as for `fit`; None: those that the model keeps.
        shards : collection of int or None
            Check these shards only; None: all.
        load_rows : callable or None
            Where the rows are, for a model with ``data="external"`` that is given none; see `forget`.

        Returns
        -------
        VerifyReport
            ``report.exact``, ``report.differing``.
        """
        X, y, sample_weight, ids = native_data(X, y, sample_weight, ids)
        return self._current().verify(
            X, y, sample_weight, ids=ids, probability=erasure_probability, shards=shards, load_rows=load_rows
        )

    def receipts(self) -> tuple[Receipt, ...]:
        """The receipts of all requests, oldest first."""
        return self._current().receipts()

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
        """An unfitted clone that carries schema, seed, partition secret, bands and base, and lives in memory.

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
            data=STORED,
        )
        return twin

    @property
    def schema_(self) -> Schema:
        """What is public knowledge about the data, kept through forgets."""
        return self._fitted().schema

    @property
    def partition_(self) -> Partition:
        """Where records belong; ``partition_.locate(ids)`` tells."""
        ensemble = self._fitted()
        return replace(ensemble.partition, lookup=ensemble.locate)

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

    def _current(self) -> SisaEnsemble:
        """The fitted ensemble, with the options that never change a result as they are set now."""
        if not self.__sklearn_is_fitted__():
            check_is_fitted(self)
        ensemble = self._ensemble
        config = ensemble.config
        if (config.n_jobs, config.verbose) != (self.n_jobs, int(self.verbose)):
            ensemble.config = replace(config, n_jobs=self._jobs(), verbose=int(self.verbose))
        ensemble.refresh()
        if ensemble.schema.labels is not None:
            self.classes_ = ensemble.schema.labels
        return ensemble

    def _takes_none_below_zero(self) -> bool:
        model = self._model()
        return isinstance(model, BaseEstimator) and bool(get_tags(model).input_tags.positive_only)

    def _check_sign(self, X: Any) -> None:
        """Refuse negative values for a model that says of itself that it takes none."""
        if not self._takes_none_below_zero():
            return
        values = X if is_sparse(X) else np.asarray(X)
        # What is no table of numbers is refused elsewhere, or is for the model to read.
        if values.dtype.kind in "fiu" and 0 not in values.shape:
            try:
                check_non_negative(values, type(self).__name__)
            except ValueError as error:
                raise DataError(f"{error}. Nothing was changed.") from error

    def _check_features(self, X: Any) -> None:
        if self._positive_only:
            self._check_sign(X)
        if getattr(X, "ndim", 0) == 2 and not self._is_plain(X):  # noqa: PLR2004
            try:
                validate_data(self, X, reset=False, skip_check_array=True)
            except ValueError as error:
                raise DataError(f"{error}\nNothing was changed.") from error

    def _is_plain(self, X: Any) -> bool:
        """Whether it is an array with the right number of features, none of which ever had a name.

        scikit-learn would find no fault with it, and take longer to say so than a prediction of one row takes.
        """
        return type(X) is np.ndarray and X.shape[1] == self.n_features_in_ and not hasattr(self, "feature_names_in_")

    def _answers(self, X: Any) -> tuple[FloatArray, AnyArray | None]:
        """Aggregated predictions and the class labels of the columns: another thread may change both meanwhile."""
        ensemble, X = self._current(), native(X)
        self._check_features(X)
        return ensemble.answers(X)


def native_data(X: Any, y: Any, sample_weight: Any, ids: Any) -> tuple[Any, Any, Any, Any]:
    """Data of any library as numpy or pandas holds it, and the ids, where they are a column of it, taken out."""
    X, ids = take_ids(X, ids)
    return native(X), column(y), column(sample_weight), column(ids)
