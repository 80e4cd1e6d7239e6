"""The scikit-learn faces of the ensemble: `SISAClassifier`, `SISARegressor`, `wrap` and `load`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if

from unlearnkit import adapters
from unlearnkit.base import SISAModel
from unlearnkit.bundle import open_bundle
from unlearnkit.external import STORED
from unlearnkit.options import delegated_of_kind, has_probabilities
from unlearnkit.partition import BandedPartition
from unlearnkit.store import Store, as_store
from unlearnkit.typing import AnyArray, FloatArray, Task


class SISAClassifier(ClassifierMixin, SISAModel):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier that forgets exactly: SISA training over any supported classifier.

    Parameters
    ----------
    estimator : object or None
        The model to wrap: a classifier of scikit-learn, LightGBM or XGBoost, a skorch net, a `TorchModel`, or
        whatever an installed plugin wraps. None means a decision tree. It is cloned, never changed.
    n_shards : int
        Constituents, each trained on the records of its shard alone. More make forgetting cheaper and each
        constituent weaker.
    n_slices : int or "auto"
        Checkpoints per constituent. "auto" is what the learner recommends.
    aggregation : {"auto", "mean", "vote"} or callable
        Mean of probabilities, majority of votes, or ``f(predictions (S, n, k), present (S,)) -> (n, k)``. "auto" is
        the mean where the model has probabilities.
    partition : HashPartition, BandedPartition or None
        Carries the secret that places records, and with bands a prior of who is likely to leave.
    schema : Schema or None
        Hold the data to this schema; None takes it from the first data.
    adapter : str or None
        Take this adapter whatever others claim.
    base : object or None
        A model trained on public data that every constituent starts from, where the wrapped model can: see its
        plugin. What the base was trained on is outside the guarantee, and receipts say so.
    store : path, Store or None
        Where the model lives: a folder, or a `Store`. None: in memory. A store holds one model and its life.
    data : {"stored", "external"}
        "external" leaves the rows where they are and keeps keyed digests of them alone: what trains is then told where
        to read them, by ``load_rows=``. Forgetting itself needs no rows.
    checkpoint_every : int
        Keep the states of every so-manieth slice, and of the last. More means less to store, and at a request unchanged
        steps to train again on the way to the changed ones.
    when_isolated : {"raise", "prior"}
        When every shard abstains, raise `NoConstituentError` or predict the class frequencies of what is left.
    n_jobs : int or None
        Shards side by side, through joblib. It never changes a byte.
    random_state : int or None
        Decides every step's seed. With an int and no partition the secret follows from it, and is then no secret.
    verbose : int
        1 shows a progress bar.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
    schema_, partition_, model_digest_, degraded_shards_, estimators_

    References
    ----------
    Bourtoule et al., "Machine Unlearning", IEEE Symposium on Security and Privacy, 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> clf = SISAClassifier(LogisticRegression(max_iter=5000), n_shards=4, random_state=0).fit(X, y)
    >>> receipt = clf.forget([3, 14, 159])
    >>> clf.verify().exact
    True
    """

    _task: Task = "classification"

    def __sklearn_tags__(self) -> Tags:
        return delegated_of_kind(super().__sklearn_tags__(), self._model())

    def predict(self, X: Any) -> AnyArray:
        """The likeliest class of each row.

        Parameters
        ----------
        X : array-like, CSR matrix or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)

        Raises
        ------
        NoConstituentError
            If every shard abstains and ``when_isolated="raise"``.
        """
        shares, labels = self._answers(X)
        assert labels is not None
        likeliest: AnyArray = labels[shares.argmax(axis=1)]
        return likeliest

    @available_if(has_probabilities)  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def predict_proba(self, X: Any) -> FloatArray:
        """The aggregated class probabilities, or shares of votes, of each row.

        Parameters
        ----------
        X : array-like, CSR matrix or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        return self._answers(X)[0]


class SISARegressor(RegressorMixin, SISAModel):  # type: ignore[misc]  # scikit-learn has no types
    """A regressor that forgets exactly: SISA training over any supported regressor.

    Parameters and attributes are those of `SISAClassifier`, without classes: ``aggregation`` is "mean" or a function
    ``f(predictions (S, n, ...), present (S,)) -> (n, ...)``, and ``when_isolated="prior"`` predicts the mean.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> reg = SISARegressor(n_shards=3, random_state=0).fit(X, y)
    >>> reg.forget(5, repair=False).repaired_at is None
    True
    >>> reg.predict(X[:2]).shape
    (2,)
    """

    _task: Task = "regression"

    def __sklearn_tags__(self) -> Tags:
        return delegated_of_kind(super().__sklearn_tags__(), self._model())

    def predict(self, X: Any) -> FloatArray:
        """The aggregated prediction for each row.

        Parameters
        ----------
        X : array-like, CSR matrix or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)

        Raises
        ------
        NoConstituentError
            If every shard abstains and ``when_isolated="raise"``.
        """
        return self._answers(X)[0]


def wrap(model: Any, **options: Any) -> SISAClassifier | SISARegressor:
    """`SISAClassifier` or `SISARegressor` around a model, whichever fits.

    Parameters
    ----------
    model : object
        Anything that an installed plugin wraps, fitted or not; it is cloned, never changed.
    **options
        Options of the estimator.

    Raises
    ------
    AdapterError
        If no single plugin wraps the model.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> wrap(Ridge(), n_shards=3)
    SISARegressor(estimator=Ridge(), n_shards=3)
    """
    task = adapters.resolve(model, options.get("adapter")).capabilities.task
    return SISAClassifier(model, **options) if task == "classification" else SISARegressor(model, **options)


def load(
    path: str | os.PathLike[str] | Store, *, estimator: Any = None, refresh_s: float = 1
) -> SISAClassifier | SISARegressor:
    """Open a model that lives in a store, and finish what a process that died has left undone; or open a bundle.

    Nothing in either can execute code, and nothing is imported by a name that is found there.

    Parameters
    ----------
    path : path or Store
        A folder is a store, and a file a bundle, as `SISAClassifier.export` writes it: its model predicts, and refuses
        everything else by a `StoreError`.
    estimator : object or None
        The wrapped model, or the whole estimator, where it has code of your own in it: a torch module, a custom
        transformer, a function. It must be what the store was fitted with.
    refresh_s : float
        How often, at most, predictions look whether another process has changed the store. Receipts name the longest
        that any reader has asked for.

    Returns
    -------
    SISAClassifier or SISARegressor
        As fitted.

    Raises
    ------
    StoreError
        If there is no store, or it holds no model.
    KeyMissingError
        If its secrets are neither in their files nor in the environment.
    CodeNeededError
        If `estimator` is not what the store was fitted with. Without it, what needs the code raises this error, and
        forgetting works all the same.
    StateError
        If something in the store is damaged.
    """
    if isinstance(path, str | os.PathLike) and Path(path).is_file():
        opened = open_bundle(path)
        found = _unopened(opened.manifest.settings, estimator, None)
        found._open_bundle(opened, given=estimator is not None)  # noqa: SLF001
        return found
    store = as_store(path)
    found = _unopened(store.settings(), estimator, path)
    found._open(store, given=estimator is not None, refresh_s=refresh_s)  # noqa: SLF001
    return found


def _unopened(settings: Mapping[str, Any], estimator: Any, store: Any) -> SISAClassifier | SISARegressor:
    """The estimator that settings tell of, before it is fitted."""
    own: Any = estimator if isinstance(estimator, SISAModel) else None
    remembered = settings["estimator"]
    kind = SISAClassifier if remembered["task"] == "classification" else SISARegressor
    return kind(
        own.estimator if own is not None else estimator,
        n_shards=settings["n_shards"],
        n_slices=settings["n_slices"],
        aggregation=own.aggregation if own is not None else settings["aggregation"],
        partition=_prior(settings),
        adapter=remembered["adapter"],
        store=store,
        data=settings.get("data", STORED),
        checkpoint_every=settings["context"].get("checkpoint_every", 1),
        when_isolated=settings["when_isolated"],
        random_state=settings["random_state"],
    )


def _prior(settings: Mapping[str, Any]) -> BandedPartition | None:
    """The option ``partition=`` without its secret, which is kept elsewhere."""
    known = settings["bands"]
    return None if known is None else BandedPartition(dict(known[1]), shards=known[0])
