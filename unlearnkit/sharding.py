"""The answer of the planner: what each choice of shards and slices costs in accuracy and work, and which to take."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from unlearnkit.words import count, size

if TYPE_CHECKING:
    from pathlib import Path

DAYS_IN_MONTH = 30
_AS_CHEAP = 1.05
"""What costs at most so much more than the cheapest is as cheap: the difference is in the noise of what was timed."""

_MUCH_LARGER = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """What some requests are expected to cost.

    Attributes
    ----------
    steps : float
        Steps trained again.
    records : float
        Presentations: rows shown in training, per epoch of the wrapped model. With one slice, the records retrained.
    seconds : float
        On one core of the machine that planned, model in memory.
    """

    steps: float
    records: float
    seconds: float

    def times(self, n: float) -> Cost:
        """The cost of `n` times the same."""
        return Cost(n * self.steps, n * self.records, n * self.seconds)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One choice of shards and slices.

    Attributes
    ----------
    n_shards, n_slices : int
    accuracy, accuracy_std : float
        The score on rows held out, mean and standard deviation over folds, on the rows that were measured.
    accuracy_lost, accuracy_lost_std : float
        Against the unsharded, unsliced model on the same folds: mean and standard deviation of the difference. Shards
        are smaller there than they will be, so on all rows it is less, as a rule.
    accuracy_lost_at_size : float
        The same with shards of the size that they will have, of which a subsample holds fewer; read between the
        numbers of shards that were tried. The model without shards is not larger for it, so on all rows it is more, as
        a rule.
    per_request : Cost
        One request by itself.
    per_batch : Cost
        All requests that come within the deadline, together.
    month_singly, month_batched : Cost
        All requests of a month of 30 days, one by one, and in batches.
    fit_seconds : float
        A full build.
    storage_bytes : float
        All states.
    chance_all_abstain : float
        That a batch hits the first slice of every shard, so that nothing can be predicted until it is repaired.
    """

    n_shards: int
    n_slices: int
    accuracy: float
    accuracy_std: float
    accuracy_lost: float
    accuracy_lost_std: float
    accuracy_lost_at_size: float
    per_request: Cost
    per_batch: Cost
    month_singly: Cost
    month_batched: Cost
    fit_seconds: float
    storage_bytes: float
    chance_all_abstain: float

    @property
    def name(self) -> str:
        """The choice in words."""
        return f"{count(self.n_shards, 'shard')} of {count(self.n_slices, 'slice')}"


@dataclass(frozen=True, slots=True)
class ShardingPlan:
    """What `plan_sharding` answers.

    Attributes
    ----------
    n_shards, n_slices : int
        The recommendation.
    reason : str
        Why, in one sentence.
    candidates : tuple of Candidate
        All choices that were measured.
    left_out : dict of str to str
        Choices that could not be measured, and why.
    n_records : int
        Rows to plan for.
    rows_measured : int
        Rows of the subsample; in each fold of the cross-validation a share of them is trained on.
    scoring : str
        What accuracy is.
    requests_per_month, deadline_days, max_accuracy_loss : float
        As asked for.
    batch_size : float
        Requests that come within the deadline, one at least.
    seconds_per_step, seconds_per_record : float
        Of the recommendation: a step, and a presentation, as fitted to the steps that were timed.
    """

    n_shards: int
    n_slices: int
    reason: str
    candidates: tuple[Candidate, ...]
    n_records: int
    rows_measured: int
    scoring: str
    requests_per_month: float
    deadline_days: float
    max_accuracy_loss: float
    batch_size: float
    seconds_per_step: float
    seconds_per_record: float
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def chosen(self) -> Candidate:
        """The candidate that is recommended."""
        return find(self.candidates, self.n_shards, self.n_slices)

    def to_json(self) -> str:
        """The plan as one JSON object."""
        return json.dumps(asdict(self))

    def plot(self, target: str | Path | Any) -> Any:
        """Draw accuracy against cost, with the point that is recommended.

        Parameters
        ----------
        target : path or matplotlib Axes
            A file, whose name says the format, or where to draw.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        ParameterError
            If matplotlib is not installed, or the file cannot be written; nothing else was done.
        """
        from unlearnkit.charts import plot_plan

        return plot_plan(self, target)

    def _repr_html_(self) -> str:
        """The reason and the table, for notebooks."""
        head = "".join(f'<th scope="col">{name}</th>' for name in table_row(self.chosen))
        rows = "".join(
            f"<tr{' style=font-weight:700' if candidate == self.chosen else ''}>"
            + "".join(f"<td>{text}</td>" for text in table_row(candidate).values())
            + "</tr>"
            for candidate in self.candidates
        )
        return f"<p>{escape(self.reason)}</p><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def find(candidates: Iterable[Candidate], n_shards: int, n_slices: int) -> Candidate:
    """The candidate of these numbers."""
    return next(one for one in candidates if (one.n_shards, one.n_slices) == (n_shards, n_slices))


def recommended(candidates: Sequence[Candidate], max_accuracy_loss: float) -> Candidate:
    """The cheapest month among the candidates that lose no more; if none does, the one that loses least.

    Of those as cheap as the cheapest, give or take what timing is worth, it is the most accurate; then the one that
    is least likely to fall silent.
    """
    fit = [one for one in candidates if one.accuracy_lost <= max_accuracy_loss]
    if not fit:
        return min(candidates, key=lambda one: (one.accuracy_lost, one.month_batched.seconds))
    least = min(one.month_batched.seconds for one in fit)
    cheap = [one for one in fit if one.month_batched.seconds <= _AS_CHEAP * least]
    return min(cheap, key=lambda one: (one.accuracy_lost, one.chance_all_abstain, one.n_shards))


def reason(candidates: Sequence[Candidate], limit: float, batch_size: float, enlarged: float) -> str:
    """The recommendation in one sentence.

    Parameters
    ----------
    candidates : sequence of Candidate
    limit : float
        What may be lost.
    batch_size : float
    enlarged : float
        How many times larger shards will be than those that were tried.
    """
    chosen, fit = recommended(candidates, limit), [one for one in candidates if one.accuracy_lost <= limit]
    month = (
        f"a month of requests then takes {seconds(chosen.month_batched.seconds)} in batches of {batch_size:.3g}, and a "
        f"full build {seconds(chosen.fit_seconds)}"
    )
    if enlarged > _MUCH_LARGER:
        month += f"; on all rows shards are {enlarged:.1f} times larger than those tried, and lose less as a rule"
    if not fit:
        return f"No choice loses at most {limit:g}: {chosen.name} lose least, {chosen.accuracy_lost:.4f}; {month}."
    if chosen.n_shards == 1 and all(one.n_shards == 1 for one in fit):
        return f"No sharding loses at most {limit:g}, so keep {chosen.name}; {month}."
    return (
        f"{chosen.name}: the cheapest choice that loses at most {limit:g} ({len(fit)} of {len(candidates)} do; it "
        f"loses {chosen.accuracy_lost:.4f}); {month}."
    )


def table_row(candidate: Candidate) -> dict[str, str]:
    """A candidate as people read it.

    Lost as measured, and with shards of the size that they will have; steps, records and time of one request; then a
    month of them, one by one and in batches.
    """
    return {
        "shards": str(candidate.n_shards),
        "slices": str(candidate.n_slices),
        "accuracy": f"{candidate.accuracy:.4f}",
        "lost": f"{candidate.accuracy_lost:+.4f}",
        "±": f"{candidate.accuracy_lost_std:.4f}",
        "at size": f"{candidate.accuracy_lost_at_size:+.4f}",
        "steps": f"{candidate.per_request.steps:.1f}",
        "records": f"{candidate.per_request.records:,.0f}",
        "time": seconds(candidate.per_request.seconds),
        "month": seconds(candidate.month_singly.seconds),
        "batched": seconds(candidate.month_batched.seconds),
        "states": size(candidate.storage_bytes),
        "all abstain": f"{candidate.chance_all_abstain:.2g}",
    }


def seconds(n: float) -> str:
    """A duration for people.

    Examples
    --------
    >>> seconds(0.0123), seconds(75), seconds(9000), seconds(400_000)
    ('12 ms', '75 s', '2.5 h', '4.6 days')
    """
    for limit, unit, name in ((1, 1e-3, "ms"), (120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if n < limit:
            return f"{n / unit:.{0 if n / unit >= 10 else 1}f} {name}"  # noqa: PLR2004
    return f"{n / 86_400:.1f} days"
