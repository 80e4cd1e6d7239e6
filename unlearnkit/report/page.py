"""The page: facts put into a template. It has no script, loads nothing, and forbids itself to."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from unlearnkit.errors import ParameterError
from unlearnkit.figures import heat_map
from unlearnkit.report.facts import Facts
from unlearnkit.report.timeline import LEFT, RIGHT, ROW, TOP, WIDTH, grouped, shown, timeline
from unlearnkit.words import size

if TYPE_CHECKING:
    from jinja2 import Environment

_SHOWN_DIGITS = 16
_PLOT = {"left": LEFT, "right": RIGHT, "top": TOP, "row": ROW, "width": WIDTH}


def page(facts: Facts) -> str:
    """The report as one HTML document.

    Raises
    ------
    ParameterError
        If jinja2 is not installed.

    Examples
    --------
    >>> from unlearnkit import Store
    >>> from unlearnkit.report import facts_of, page
    >>> html = page(facts_of(Store.at("churn.sisa")))  # doctest: +SKIP
    """
    from markupsafe import Markup

    told = shown(facts.requests)
    return (
        _environment()
        .get_template("report.html")
        .render(
            facts=facts,
            overview=facts.overview,
            told=told,
            groups=grouped(facts.requests, told),
            line=timeline(told, facts.at),
            plot=_PLOT,
            # It escapes what it is given itself.
            heat_map=Markup(heat_map(facts.shards, facts.overview.n_slices)),  # noqa: S704
        )
    )


def _environment() -> Environment:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise ParameterError(
            "Reports need the package jinja2, which is not installed; nothing was written. "
            "Install it: pip install 'unlearnkit[report]'"
        ) from error
    environment = Environment(
        loader=PackageLoader("unlearnkit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"moment": _moment, "day": _day, "number": _number, "short": _short, "size": size}
    return environment


def _moment(time: datetime | None) -> str:
    return "-" if time is None else f"{time:%Y-%m-%d %H:%M} UTC"


def _day(time: datetime) -> str:
    return f"{time:%Y-%m-%d}"


def _number(n: int) -> str:
    return f"{n:,}"


def _short(digest: str | None) -> str:
    return "-" if digest is None else digest[:_SHOWN_DIGITS]
