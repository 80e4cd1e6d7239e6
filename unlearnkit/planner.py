"""The planner: how many shards and slices a model should have before it ever forgets a record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import check_scoring

from unlearnkit import costs
from unlearnkit.errors import CapabilityError, DataError, ParameterError
from unlearnkit.estimators import SISAClassifier, SISARegressor, wrap
from unlearnkit.learner import Capabilities
from unlearnkit.rates import Rates, rates
from unlearnkit.sharding import DAYS_IN_MONTH, Candidate, Cost, ShardingPlan, reason, recommended
from unlearnkit.trials import WHOLE, Choice, Course, Sample, Trial, fold_of, of_a_sample, sample_of, subsample
from unlearnkit.typing import FloatArray

SLICES = (1, 5, 10)
ROWS = 20_000
"""What is tried unless the caller says otherwise."""


def plan_sharding(
    model: Any,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    ids: Any = None,
    requests_per_month: float,
    deadline: float | timedelta,
    max_accuracy_loss: float,
    n_shards: Iterable[int] = (1, 2, 5, 10, 20, 50),
    n_slices: Iterable[int] | None = None,
    cv: int = 3,
    scoring: Any = None,
    rows: int | None = None,
    random_state: int | None = None,
    verbose: int = 0,
) -> ShardingPlan:
    """Recommend numbers of shards and slices: what each costs in accuracy, and in work when records are forgotten.

    Accuracy is measured by cross-validation on a subsample, and so is how long steps take. The expectations of the
    cost equations (`unlearnkit.costs`) make of it what requests cost on all rows.

    Parameters
    ----------
    model : object
        The model to wrap, or a `SISAClassifier` or `SISARegressor` whose other options are kept.
    X : array-like, CSR matrix or DataFrame of shape (n_samples, n_features)
        All rows that the model is to be fitted on: their number is planned for.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    sample_weight : array-like of shape (n_samples,) or None
    ids : array-like of shape (n_samples,), column name or None
        Whose row each is; requests are for ids. Rows of an id are never on both sides of a fold.
    requests_per_month : float
        Expected, in 30 days.
    deadline : float or timedelta
        How long repair may wait, in days: requests that come meanwhile are repaired as one batch.
    max_accuracy_loss : float
        What may be lost against the model without shards and slices, in units of the score.
    n_shards, n_slices : iterable of int
        What to try. ``n_slices=None`` tries 1, 5, 10 and what the learner recommends, where it can go on from states.
    cv : int
        Folds.
    scoring : str, callable or None
        As in scikit-learn; None is the model's own: accuracy, or R2.
    rows : int or None
        The size of the subsample; None: at most 20,000.
    random_state : int or None
    verbose : int
        1 shows a progress bar.

    Returns
    -------
    ShardingPlan

    Raises
    ------
    ParameterError
        If an option makes no sense.
    CapabilityError
        If the model cannot be sliced as asked.
    DataError
        If the data cannot be used, or are too few for any of the choices. Nothing is changed by any of it.

    Notes
    -----
    A fold trains on (cv - 1) / cv of the subsample, so shards are smaller there than they will be. Learning curves
    flatten: as a rule a choice loses less on more rows than was measured, and the measured loss, which decides, is on
    the safe side. ``accuracy_lost_at_size`` is on the other. More `rows` bring them together.
    Seconds are extrapolated as linear in presentations, steps and rows of a shard, and bytes in the rows of a shard.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.naive_bayes import GaussianNB
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> plan = plan_sharding(
    ...     GaussianNB(), X, y, requests_per_month=2, deadline=15, max_accuracy_loss=1.0, n_shards=[1, 4], n_slices=[1],
    ...     random_state=0,
    ... )
    >>> [candidate.per_request.steps for candidate in plan.candidates]
    [1.0, 1.0]
    """
    sisa = _unfitted(model)
    asked = _asked(requests_per_month, deadline, max_accuracy_loss)
    _at_least(2, cv=cv)
    choices = _choices(sisa, n_shards, n_slices)
    rng = np.random.default_rng(random_state)
    whole = sample_of(X, y, sample_weight, ids)
    n_ids = int(whole.ids.max()) + 1
    if asked.batch_size >= n_ids:
        raise ParameterError(
            f"{asked.batch_size:,.0f} requests within a deadline would leave none of {n_ids:,} ids; nothing was tried. "
            "Lower requests_per_month= or deadline=."
        )
    some = subsample(whole, ROWS if rows is None else _at_least(2 * cv, rows=rows), rng)
    held = _with_schema(sisa, some)
    scorer = _scorer(held, scoring)
    labels = some.y if isinstance(sisa, SISAClassifier) else None
    course = Course(held, some, fold_of(labels, some.ids, cv, rng), scorer, rng)
    trials, left_out = course.run(choices, shown=verbose > 0)
    found = {c: trials[c] for c in choices if c in trials}
    if not found:
        raise DataError(
            f"None of the choices could be tried on {len(some.y):,} rows ({next(iter(left_out.values()))}); nothing "
            "was changed. Give more rows=, or fewer n_shards= and n_slices=."
        )
    size = Size(len(whole.y), n_ids)
    of_slices = {r: rates([t for c, many in trials.items() if c[1] == r for t in many]) for r in {c[1] for c in found}}
    enlarged = size.n_records / (len(some.y) * (1 - 1 / cv))
    candidates = tuple(
        _candidate(c, trials, of_slices[c[1]], size, asked, of_real_size=_of_real_size(c, trials, enlarged))
        for c in found
    )
    chosen = recommended(candidates, asked.max_accuracy_loss)
    return ShardingPlan(
        n_shards=chosen.n_shards,
        n_slices=chosen.n_slices,
        reason=reason(candidates, asked.max_accuracy_loss, asked.batch_size, enlarged),
        candidates=candidates,
        n_records=size.n_records,
        rows_measured=len(some.y),
        scoring=_name_of(scoring, sisa),
        requests_per_month=asked.requests_per_month,
        deadline_days=asked.deadline_days,
        max_accuracy_loss=asked.max_accuracy_loss,
        batch_size=asked.batch_size,
        seconds_per_step=of_slices[chosen.n_slices].per_step,
        seconds_per_record=of_slices[chosen.n_slices].per_record,
        left_out={f"{s} x {r}": why for (s, r), why in left_out.items()},
    )


# -- what is asked -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller expects and accepts."""

    requests_per_month: float
    deadline_days: float
    max_accuracy_loss: float

    @property
    def batch_size(self) -> float:
        """Requests that come within the deadline; one at least, which no batching makes cheaper."""
        return max(1.0, self.requests_per_month * self.deadline_days / DAYS_IN_MONTH)


@dataclass(frozen=True, slots=True)
class Size:
    """What is planned for."""

    n_records: int
    n_ids: int


def _asked(requests_per_month: Any, deadline: Any, max_accuracy_loss: Any) -> Asked:
    days = deadline.total_seconds() / timedelta(days=1).total_seconds() if isinstance(deadline, timedelta) else deadline
    given = {"requests_per_month": requests_per_month, "deadline": days, "max_accuracy_loss": max_accuracy_loss}
    for name, value in given.items():
        if not isinstance(value, Real) or not 0 <= float(value) < math.inf:
            raise ParameterError(f"{name} must be a number, not negative and finite; got {value!r}. Nothing was tried.")
    if not requests_per_month:
        raise ParameterError("requests_per_month must be more than 0; nothing was tried. Without any, keep one shard.")
    return Asked(float(requests_per_month), float(days), float(max_accuracy_loss))


def _at_least(least: int, **given: Any) -> int:
    ((name, value),) = given.items()
    if type(value) is bool or not isinstance(value, Integral) or value < least:
        raise ParameterError(f"{name} must be a whole number from {least:,} on; got {value!r}. Nothing was tried.")
    return int(value)


def _unfitted(model: Any) -> SISAClassifier | SISARegressor:
    """The model in shards, kept in memory and trained on one core, so that what is timed is its own."""
    sisa = model if isinstance(model, SISAClassifier | SISARegressor) else wrap(model)
    twin: SISAClassifier | SISARegressor = clone(sisa)
    twin.set_params(store=None, data="stored", checkpoint_every=1, n_jobs=1, verbose=0, partition=None)
    return twin


def _choices(sisa: Any, n_shards: Iterable[int], n_slices: Iterable[int] | None) -> list[Choice]:
    able: Capabilities = sisa._learner().capabilities  # noqa: SLF001
    shards = sorted({_at_least(1, n_shards=s) for s in _several(n_shards, "n_shards")})
    if n_slices is None:
        return list(product(shards, _sensible(able)))
    slices = sorted({_at_least(1, n_slices=r) for r in _several(n_slices, "n_slices")})
    most = _most(able)
    if most is not None and slices[-1] > most:
        raise CapabilityError(
            f"n_slices={slices[-1]} is more than this model can have: {most}"
            f"{f', because {able.why_limited}' if able.why_limited else ''}. Nothing was tried. Leave n_slices= out."
        )
    return list(product(shards, slices))


def _several(given: Any, name: str) -> list[Any]:
    found = [given] if isinstance(given, Integral) else list(given)
    if not found:
        raise ParameterError(f"{name} is empty; nothing was tried. Give at least one number, or leave it out.")
    return found


def _most(able: Capabilities) -> int | None:
    return able.max_slices if able.resumable else 1


def _sensible(able: Capabilities) -> list[int]:
    most = _most(able)
    return sorted({min(r, most or r) for r in (*SLICES, able.recommended_slices)}) if able.resumable else [1]


def _scorer(sisa: Any, scoring: Any) -> Any:
    try:
        return check_scoring(sisa, scoring=scoring)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"scoring={scoring!r} is nothing that scikit-learn scores by; nothing was tried. Give a name from "
            "sklearn.metrics.get_scorer_names(), a function, or leave it out."
        ) from error


def _name_of(scoring: Any, sisa: Any) -> str:
    if scoring is None:
        return "accuracy" if isinstance(sisa, SISAClassifier) else "R2"
    return scoring if isinstance(scoring, str) else str(getattr(scoring, "__name__", "score"))


def _with_schema(sisa: Any, some: Sample) -> Any:
    """The model held to the schema of the whole subsample: a fold need not have every class and category."""
    whole = clone(sisa).set_params(n_shards=1, n_slices=1)
    with of_a_sample():
        whole.fit(some.X, some.y, ids=some.ids, **some.weights)
    return clone(sisa).set_params(schema=whole.schema_)


# -- expect --------------------------------------------------------------------------------------------------------


def _lost(choice: Choice, trials: Mapping[Choice, Sequence[Trial]]) -> FloatArray:
    """What a choice loses against the model without shards and slices, in each fold."""
    return np.array([w.score - t.score for w, t in zip(trials[WHOLE], trials[choice], strict=True)])


def _of_real_size(choice: Choice, trials: Mapping[Choice, Sequence[Trial]], enlarged: float) -> float:
    """The loss with shards as large as they will be, of which a subsample has fewer: read between those tried."""
    n_shards, n_slices = choice
    tried = sorted(s for s, r in trials if r == n_slices)
    losses = [_lost((s, n_slices), trials).mean() for s in tried]
    return float(np.interp(np.log(n_shards / enlarged), np.log(tried), losses))


def _candidate(
    choice: Choice,
    trials: Mapping[Choice, Sequence[Trial]],
    rate: Rates,
    size: Size,
    asked: Asked,
    *,
    of_real_size: float,
) -> Candidate:
    scores, lost = np.array([trial.score for trial in trials[choice]]), _lost(choice, trials)
    one, batch = (_expected(choice, rate, size, k) for k in (1.0, asked.batch_size))
    n_shards, n_slices = choice
    return Candidate(
        n_shards=n_shards,
        n_slices=n_slices,
        accuracy=float(scores.mean()),
        accuracy_std=float(scores.std(ddof=1)),
        accuracy_lost=float(lost.mean()),
        accuracy_lost_std=float(lost.std(ddof=1)),
        accuracy_lost_at_size=of_real_size,
        per_request=one,
        per_batch=batch,
        month_singly=one.times(asked.requests_per_month),
        month_batched=batch.times(asked.requests_per_month / asked.batch_size),
        fit_seconds=n_shards * n_slices * rate.per_step + size.n_records * (rate.per_record + rate.per_row),
        storage_bytes=n_shards * rate.bytes_per_shard + size.n_records * rate.bytes_per_row,
        chance_all_abstain=costs.chance_all_abstain(n_shards, n_slices, math.ceil(asked.batch_size)),
    )


def _expected(choice: Choice, rate: Rates, size: Size, n_requests: float) -> Cost:
    """What a batch of requests is expected to cost."""
    n_shards, n_slices = choice
    remaining = size.n_records * (1 - n_requests / size.n_ids)
    steps = costs.batch_steps(n_shards, n_slices, n_requests, size.n_ids)
    records = remaining * costs.batch_share(n_shards, n_slices, n_requests)
    rows_of_hit_shards = remaining * costs.retrained_chances(n_shards, n_slices, n_requests)[-1]
    work = rate.per_step * steps + rate.per_record * records + rate.per_row * rows_of_hit_shards
    return Cost(steps, records, work + rate.per_call + rate.per_call_row * rows_of_hit_shards)
