"""Time line: where requests go on a drawing, and how those that are too many are grouped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from unlearnkit.report.facts import DUE, LATE, MET, NO_RECORD, OVERDUE, RequestFacts, Timeliness

NEWEST = 40
"""Requests that are told of one by one, besides older ones that are overdue."""
MOST_GROUPS = 24
"""Months or years that the others are counted by."""
LEFT, RIGHT, TOP, ROW = 64, 590, 34, 22
WIDTH = 760
_TICKS = 5
_HOURS_BELOW = timedelta(days=3)
_LEAST = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Bar:
    """One request on the drawing; places in its unit.

    Attributes
    ----------
    request : RequestFacts
    y : float
    received, answered : float
        Answered is where it was forgotten; now, if it is not.
    due, repaired : float or None
        None for a deadline before the drawing begins.
    """

    request: RequestFacts
    y: float
    received: float
    answered: float
    due: float | None
    repaired: float | None

    @property
    def words(self) -> str:
        """What became of its deadline."""
        since = f"OVERDUE since {self.request.receipt.due_at:%Y-%m-%d}"
        return {MET: "met", LATE: "late", DUE: "due", OVERDUE: since, NO_RECORD: "no record found"}[
            self.request.timeliness
        ]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The drawing.

    Attributes
    ----------
    bars : tuple of Bar
        Newest first.
    ticks : tuple of (float, str)
    now : float
    height : float
    """

    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    now: float
    height: float


@dataclass(frozen=True, slots=True)
class Group:
    """Requests that were received in the same month or year.

    Attributes
    ----------
    name : str
    counts : dict of str to int
        By what became of their deadlines.
    records : int
    agree : int
        Those whose statements hold and agree with the ledger.
    """

    name: str
    counts: dict[Timeliness, int]
    records: int
    agree: int

    @property
    def n(self) -> int:
        """All of them."""
        return sum(self.counts.values())


def shown(requests: Sequence[RequestFacts]) -> tuple[RequestFacts, ...]:
    """Those that are told of one by one, newest first: nothing that is overdue is hidden in a group."""
    overdue = [r for r in requests[:-NEWEST] if r.timeliness == OVERDUE][:NEWEST]
    return tuple(reversed([*overdue, *requests[-NEWEST:]]))


def grouped(requests: Sequence[RequestFacts], told: Sequence[RequestFacts]) -> tuple[Group, ...]:
    """The others, oldest first: by month, or by year where those would be many."""
    known = {request.receipt.request_id for request in told}
    rest = [request for request in requests if request.receipt.request_id not in known]
    for form in ("%Y-%m", "%Y"):
        groups: dict[str, list[RequestFacts]] = {}
        for request in rest:
            groups.setdefault(f"{request.receipt.received_at:{form}}", []).append(request)
        if len(groups) <= MOST_GROUPS:
            break
    return tuple(_group(name, members) for name, members in sorted(groups.items()))


def _group(name: str, members: Sequence[RequestFacts]) -> Group:
    kinds = [request.timeliness for request in members]
    return Group(
        name=name,
        counts={kind: kinds.count(kind) for kind in (MET, DUE, LATE, OVERDUE, NO_RECORD)},
        records=sum(request.receipt.n_records for request in members),
        agree=sum(request.agrees for request in members),
    )


def timeline(told: Sequence[RequestFacts], at: datetime) -> Timeline:
    """The drawing of these requests, from the first one of the newest to the last deadline or now."""
    # One that has been overdue for years would leave the others no room: it comes in from the left.
    newest = [request.receipt.received_at for request in told[:NEWEST]]
    scale = _Scale(min(newest, default=at), max([at, *(request.receipt.due_at for request in told)]))
    bars = tuple(_bar(request, TOP + ROW * (i + 0.5), scale, at) for i, request in enumerate(told))
    return Timeline(bars, scale.ticks, scale.x(at), TOP + ROW * len(bars) + 6)


@dataclass(frozen=True, slots=True)
class _Scale:
    start: datetime
    end: datetime

    @property
    def span(self) -> timedelta:
        return max(self.end - self.start, _LEAST)

    def x(self, time: datetime) -> float:
        share = min(max((time - self.start) / self.span, 0.0), 1.0)
        return round(LEFT + (RIGHT - LEFT) * share, 1)

    @property
    def ticks(self) -> tuple[tuple[float, str], ...]:
        form = "%m-%d %H:%M" if self.span < _HOURS_BELOW else "%Y-%m-%d"
        times = [self.start + self.span * i / (_TICKS - 1) for i in range(_TICKS)]
        return tuple((self.x(time), f"{time:{form}}") for time in times)


def _bar(request: RequestFacts, y: float, scale: _Scale, at: datetime) -> Bar:
    receipt = request.receipt
    # When it was found that there is no such record is not kept.
    open_until = receipt.received_at if request.timeliness == NO_RECORD else at
    return Bar(
        request=request,
        y=y,
        received=scale.x(receipt.received_at),
        answered=scale.x(receipt.purged_at or open_until),
        due=None if receipt.due_at < scale.start else scale.x(receipt.due_at),
        repaired=None if receipt.repaired_at is None else scale.x(receipt.repaired_at),
    )
