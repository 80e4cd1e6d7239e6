"""Audit: whether somebody who asks the model can tell whose records it was trained on.

The attack is the simplest one that works: a record with a small loss was probably in the training data. How often it
is right is an estimate about this attack on these rows. That a model is exactly the one that never saw some records is
another statement, a proof, and only ``verify`` makes it.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from unlearnkit.charts import canvas
from unlearnkit.errors import DataError, ParameterError
from unlearnkit.ledger import Change, Request
from unlearnkit.policy import now
from unlearnkit.store import AUDIT
from unlearnkit.typing import AnyArray, FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from unlearnkit.receipts import Receipt

BEFORE: Literal["before"] = "before"
AFTER: Literal["after"] = "after"
CROSS_ENTROPY, ZERO_ONE, SQUARED_ERROR = "cross-entropy", "0/1", "squared error"
_LEAST_ROWS = 2
_SIDES = 4
_SIZE = (4.5, 4.5)
_SMALLEST = np.finfo(np.float64).tiny


@dataclass(frozen=True, slots=True)
class MembershipAudit:
    """The outcome of a membership-inference attack on a model.

    Attributes
    ----------
    auc : float
        The chance that a record from inside has the smaller loss of two, one from inside and one from outside; ties
        count half. 0.5: the attack learns nothing. 1.0: it is always right.
    low, high : float
        The confidence interval of `auc`.
    confidence : float
        Of the interval.
    n_in, n_out : int
        Rows.
    mean_loss_in, mean_loss_out : float
        In the unit of the loss.
    loss : {"cross-entropy", "0/1", "squared error"}
        Of the predicted probability of the label; of the label, for models without probabilities; of a regression,
        mean over its outputs.
    at : datetime
        When it was measured. UTC.
    model_digest : str or None
        Of the model that was asked; None for one that is not of unlearnkit.
    losses_in, losses_out : ndarray of shape (n_in,) and (n_out,)
        Of each row, in the order given. They stay in this object: neither `to_json` nor `record` writes them.
    """

    auc: float
    low: float
    high: float
    confidence: float
    n_in: int
    n_out: int
    mean_loss_in: float
    mean_loss_out: float
    loss: str
    at: datetime
    model_digest: str | None
    losses_in: FloatArray = field(repr=False, compare=False)
    losses_out: FloatArray = field(repr=False, compare=False)

    def to_json(self) -> str:
        """The figures as one JSON object, without anything of single rows."""
        return json.dumps(self._figures())

    def _figures(self) -> dict[str, Any]:
        figures = {name: value for name, value in asdict(self).items() if not name.startswith("losses_")}
        return figures | {"at": self.at.isoformat()}

    def plot(self, target: str | os.PathLike[str] | Axes, *, label: str = "") -> Axes:
        """Draw how many rows from inside the attack finds, for every share of false alarms that it puts up with.

        Parameters
        ----------
        target : path or matplotlib axes
            The file to write, in the format of its name; or axes, where a second audit can be drawn over a first.
        label : str
            Of the line.

        Raises
        ------
        ParameterError
            If matplotlib is not installed, or the file cannot be written.
        """
        false_alarms, found = _roc(self.losses_in, self.losses_out)
        told = f"AUC {self.auc:.3f} ({self.low:.3f} to {self.high:.3f})"
        with canvas(target, _SIZE) as axes:
            axes.plot(false_alarms, found, label=f"{label}: {told}" if label else told)
            axes.axline((0, 0), slope=1, color="grey", linewidth=0.8, linestyle="--")
            axes.set(xlabel="rows from outside taken for members", ylabel="rows from inside found", aspect="equal")
            axes.set(xlim=(0, 1), ylim=(0, 1))
            axes.legend(loc="lower right")
            drawn: Axes = axes
        return drawn

    def record(self, model: Any, receipt: Receipt | int) -> Literal["before", "after"]:
        """Put the figures down beside a request, in the ledger of the model that it was made to.

        Whether they are from before or after it follows from the digest of the model that was asked: nobody can
        mistake the one for the other. Another audit of the same side takes the place of this one. Only figures are
        kept, no rows, losses or ids; `unlearnkit report` shows them.

        Parameters
        ----------
        model : SISAClassifier or SISARegressor
        receipt : Receipt or int
            Of the request, or its number.

        Returns
        -------
        {"before", "after"}

        Raises
        ------
        ParameterError
            If there is no such request, it has not changed the model, or the model that was asked is neither one from
            before it nor one from after it.
        """
        store = _store_of(model)
        sequence = receipt if isinstance(receipt, int) else receipt.request_id
        with store.at_rest():
            side = self._side(store.ledger.requests(), sequence)
            noted = store.ledger.note(f"{AUDIT}{sequence}", {})
            store.ledger.apply(Change(notes={f"{AUDIT}{sequence}": noted | {side: self._figures()}}))
        return side

    def _side(self, requests: tuple[Request, ...], sequence: int) -> Literal["before", "after"]:
        own = next((request for request in requests if request.sequence == sequence), None)
        if own is None or "digest_isolated" not in own.facts:
            raise ParameterError(
                f"There is no request {sequence} that was carried out on this model; nothing was recorded. Give the "
                "receipt of the call of forget()."
            )
        # Requests that were carried out together share what was before the first and after the last.
        before = {r.facts.get("digest_before") for r in requests if r.sequence <= sequence}
        after = {r.facts.get(name) for r in requests if r.sequence >= sequence for name in _LEFT}
        sides = [side for side, digests in ((BEFORE, before), (AFTER, after)) if self.model_digest in digests]
        if not own.facts["n_records"] or len(sides) == len((BEFORE, AFTER)):
            raise ParameterError(
                f"Request {sequence} has not changed the model that was asked, so there is no before and after; "
                "nothing was recorded."
            )
        if self.model_digest is None or not sides:
            raise ParameterError(
                f"The audit is of a model that is not known from before or after request {sequence}; nothing was "
                "recorded. Audit the model just before forget(), and again when it has returned."
            )
        return sides[0]


_LEFT = ("digest_isolated", "digest_after")


def membership_audit(
    model: Any, X_in: Any, y_in: Any, X_out: Any, y_out: Any, *, confidence: float = 0.95
) -> MembershipAudit:
    """Attack a model: guess from its losses which records it was trained on, and say how good the guess is.

    Parameters
    ----------
    model : fitted classifier or regressor
        Of unlearnkit or any other with the methods of scikit-learn.
    X_in : array-like of shape (n_in, n_features)
        Records that the model was trained on, or that are said to be forgotten.
    y_in : array-like of shape (n_in,)
        What they were trained on with.
    X_out : array-like of shape (n_out, n_features)
        Records of the same kind that it has never seen. If they come from elsewhere, the audit measures that.
    y_out : array-like of shape (n_out,)
    confidence : float
        Of the interval.

    Returns
    -------
    MembershipAudit

    Raises
    ------
    DataError
        If there are fewer than two rows of a kind, or labels that the model does not know.
    ParameterError
        If `confidence` is not between 0 and 1.

    Notes
    -----
    The attack is the loss threshold of Yeom et al. (2018), over all thresholds at once: the area under its ROC curve.
    The interval is that of DeLong et al. (1988) on the logit scale; where the losses leave it no variance, as when all
    are told apart, that of Newcombe (2006, method 5). It takes the rows as independent: of several rows of one person
    give one.

    An AUC of 0.5 does not prove that records are forgotten. Stronger attacks exist (Carlini et al. 2022), and the
    average hides what a few rows give away; an AUC above 0.5 of forgotten records need not mean that they are still
    there: they may resemble those that are. Whether the model is the one that never saw them is what ``verify`` shows.

    References
    ----------
    Yeom, Giacomelli, Fredrikson, Jha, "Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting",
    IEEE Computer Security Foundations Symposium, 2018.

    DeLong, DeLong, Clarke-Pearson, "Comparing the Areas under Two or More Correlated Receiver Operating Characteristic
    Curves", Biometrics 44, 1988; by ranks as in Sun, Xu, IEEE Signal Processing Letters 21, 2014.

    Newcombe, "Confidence Intervals for an Effect Size Measure Based on the Mann-Whitney Statistic, Part 2", Statistics
    in Medicine 25, 2006.

    Carlini et al., "Membership Inference Attacks From First Principles", IEEE Symposium on Security and Privacy, 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from unlearnkit import SISAClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> clf = SISAClassifier(n_shards=2, random_state=0).fit(X[:400], y[:400])
    >>> before = membership_audit(clf, X[:100], y[:100], X[400:], y[400:])
    >>> receipt = clf.forget(range(100))
    >>> after = membership_audit(clf, X[:100], y[:100], X[400:], y[400:])
    >>> before.record(clf, receipt), after.record(clf, receipt)
    ('before', 'after')
    """
    if not 0 < confidence < 1:
        raise ParameterError(f"confidence={confidence} is not between 0 and 1; nothing was measured.")
    loss = _loss_of(model)
    inside, outside = _losses(model, X_in, y_in, loss, "in"), _losses(model, X_out, y_out, loss, "out")
    auc, low, high = _area(inside, outside, confidence)
    return MembershipAudit(
        auc=auc,
        low=low,
        high=high,
        confidence=confidence,
        n_in=len(inside),
        n_out=len(outside),
        mean_loss_in=float(inside.mean()),
        mean_loss_out=float(outside.mean()),
        loss=loss,
        at=now(),
        model_digest=getattr(model, "model_digest_", None),
        losses_in=inside,
        losses_out=outside,
    )


def audit_of(model: Any, rows: Any) -> MembershipAudit:
    """The `membership_audit` of rows given as (X_in, y_in, X_out, y_out).

    Raises
    ------
    ParameterError, DataError
        If they cannot be used.
    """
    if not isinstance(rows, tuple) or len(rows) != _SIDES:
        raise ParameterError("audit= takes (X_in, y_in, X_out, y_out); nothing was changed.")
    return membership_audit(model, *rows)


def record_sides(model: Any, receipt: Receipt, before: MembershipAudit, rows: Any) -> None:
    """Record the audit from before a request beside it, and one of now.

    Warns
    -----
    RuntimeWarning
        If one cannot be made or recorded: the request is carried out, and its receipt must not be lost for it.
    """
    try:
        before.record(model, receipt)
        audit_of(model, rows).record(model, receipt)
    except Exception as error:  # noqa: BLE001 - also what the wrapped model or a database raises
        warnings.warn(
            f"The request was carried out, but the audits beside it are not complete: {error}",
            RuntimeWarning,
            stacklevel=3,
        )


def recorded(notes: Mapping[str, Any]) -> dict[int, dict[str, dict[str, Any]]]:
    """The recorded audits among the notes of a ledger: of each request the figures before and after."""
    return {int(name.removeprefix(AUDIT)): found for name, found in notes.items() if name.startswith(AUDIT)}


def _store_of(model: Any) -> Any:
    ensemble = getattr(model, "_ensemble", None)
    if ensemble is None:
        raise ParameterError("This is no fitted model of unlearnkit with a ledger; nothing was recorded.")
    return ensemble.store


# -- losses -----------------------------------------------------------------------------------------------------------


def _loss_of(model: Any) -> str:
    from sklearn.base import is_classifier

    if not is_classifier(model):
        return SQUARED_ERROR
    return CROSS_ENTROPY if hasattr(model, "predict_proba") else ZERO_ONE


def _losses(model: Any, X: Any, y: Any, loss: str, which: str) -> FloatArray:
    """The loss of each row."""
    labels = np.asarray(y)
    if len(labels) < _LEAST_ROWS:
        raise DataError(f"There are {len(labels)} rows in y_{which}; nothing was measured. Give at least two of each.")
    answers = np.asarray(model.predict_proba(X) if loss == CROSS_ENTROPY else model.predict(X))
    if len(answers) != len(labels):
        raise DataError(
            f"X_{which} has {len(answers)} rows and y_{which} has {len(labels)}; nothing was measured. Give one label "
            "for each row."
        )
    if loss == SQUARED_ERROR:
        errors = (answers - labels.reshape(answers.shape)) ** 2
        return np.asarray(errors.reshape(len(errors), -1).mean(axis=1), dtype=np.float64)
    codes = _codes(model, labels, which)
    if loss == ZERO_ONE:
        return np.asarray(_codes(model, answers, which) != codes, dtype=np.float64)
    return np.asarray(-np.log(np.maximum(answers[np.arange(len(codes)), codes], _SMALLEST)), dtype=np.float64)


def _codes(model: Any, labels: AnyArray, which: str) -> AnyArray:
    known = {label: code for code, label in enumerate(np.asarray(model.classes_).tolist())}
    codes = np.array([known.get(label, -1) for label in labels.tolist()])
    if (codes < 0).any():
        raise DataError(
            f"{int((codes < 0).sum())} labels in y_{which} are of no class of the model; nothing was measured. Leave "
            "these rows out."
        )
    return codes


# -- area and interval ------------------------------------------------------------------------------------------------


def _area(inside: FloatArray, outside: FloatArray, confidence: float) -> tuple[float, float, float]:
    """The area under the ROC curve and its interval."""
    from scipy.stats import norm

    own, other = _shares(inside, outside)
    auc = float(own.mean())
    variance = float(own.var(ddof=1) / len(own) + other.var(ddof=1) / len(other))
    z = float(norm.ppf(0.5 + confidence / 2))
    if variance == 0 or not 0 < auc < 1:
        return auc, _lowest(auc, len(own), len(other), z), 1 - _lowest(1 - auc, len(own), len(other), z)
    # On the logit scale the interval cannot leave 0 to 1.
    logit, width = np.log(auc / (1 - auc)), z * np.sqrt(variance) / (auc * (1 - auc))
    low, high = (float(1 / (1 + np.exp(-edge))) for edge in (logit - width, logit + width))
    return auc, low, high


def _shares(inside: FloatArray, outside: FloatArray) -> tuple[FloatArray, FloatArray]:
    """For each row from inside the share of those from outside with a larger loss; for each of those the reverse."""
    from scipy.stats import rankdata

    n_in, n_out = len(inside), len(outside)
    ranks = rankdata(-np.concatenate([inside, outside]))
    own = (ranks[:n_in] - rankdata(-inside)) / n_out
    other = 1 - (ranks[n_in:] - rankdata(-outside)) / n_in
    return own, other


def _lowest(auc: float, n_in: int, n_out: int, z: float) -> float:
    """The lower end of Newcombe's interval: the least area that this one is not too far from."""
    from scipy.optimize import brentq

    mean = (n_in + n_out) / 2 - 1

    def distance(area: float) -> float:
        spread = 1 + mean * ((1 - area) / (2 - area) + area / (1 + area))
        return (auc - area) ** 2 - z**2 * area * (1 - area) * spread / (n_in * n_out)

    # At 0 and 1 themselves the variance is none, which is no solution.
    top = auc - 1e-9
    return float(brentq(distance, 0.0, top)) if top > 0 and distance(top) < 0 else 0.0


# -- plot -------------------------------------------------------------------------------------------------------------


def _roc(inside: FloatArray, outside: FloatArray) -> tuple[FloatArray, FloatArray]:
    """False alarms and hits for each threshold, from none to all."""
    edges = np.unique(np.concatenate([inside, outside]))
    rates = (np.searchsorted(np.sort(losses), edges, side="right") / len(losses) for losses in (outside, inside))
    false_alarms, found = (np.concatenate([[0.0], rate]) for rate in rates)
    return false_alarms, found
