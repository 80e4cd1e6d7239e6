"""Charts by matplotlib, which is imported when one is drawn."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unlearnkit.errors import ParameterError

if TYPE_CHECKING:
    from unlearnkit.sharding import ShardingPlan

_SIZE = (8.0, 5.0)
_MARKS = "osD^vP*X"


def plot_plan(plan: ShardingPlan, target: Any) -> Any:
    """Draw accuracy against the cost of a month; see `ShardingPlan.plot`."""
    with canvas(target, _SIZE) as axes:
        return _draw(plan, axes)


@contextmanager
def canvas(target: Any, inches: tuple[float, float]) -> Iterator[Any]:
    """The axes to draw on: the target, or those of a new figure, which is then written to the file that it names.

    Raises
    ------
    ParameterError
        If matplotlib is not installed, or the file cannot be written.
    """
    if not isinstance(target, str | os.PathLike):
        yield target
        return
    figure = _figure(inches)
    yield figure.add_subplot()
    name = os.fspath(target)
    try:
        # No date and no random names: what is alike gives one file.
        figure.savefig(name, metadata={"Date": None} if name.endswith(".svg") else None)
    except (OSError, ValueError) as error:
        raise ParameterError(
            f"The chart could not be written ({error}); nothing else was done. Name a file that ends in .svg or .png, "
            "in a folder that can be written to."
        ) from error


def _figure(inches: tuple[float, float]) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ParameterError(
            "A chart takes matplotlib, which is not installed; nothing was drawn. Install it: "
            "pip install 'unlearnkit[report]'"
        ) from error
    return Figure(figsize=inches, layout="constrained")


def _draw(plan: ShardingPlan, axes: Any) -> Any:
    """One line for each number of slices, shards written beside their points."""
    from matplotlib.ticker import LogLocator, NullFormatter

    for i, n_slices in enumerate(sorted({one.n_slices for one in plan.candidates})):
        line = sorted((one for one in plan.candidates if one.n_slices == n_slices), key=lambda one: one.n_shards)
        cost, accuracy = [one.month_batched.seconds for one in line], [one.accuracy for one in line]
        spread = [one.accuracy_lost_std for one in line]
        label = f"{n_slices} slice{'' if n_slices == 1 else 's'}"
        axes.errorbar(
            cost, accuracy, yerr=spread, marker=_MARKS[i % len(_MARKS)], capsize=2, linewidth=1, alpha=0.85, label=label
        )
        for one, x, y in zip(line, cost, accuracy, strict=True):
            axes.annotate(
                f"S={one.n_shards}", (x, y), textcoords="offset points", xytext=(4, 4 - 14 * (i % 2)), fontsize=8
            )
    chosen = plan.chosen
    axes.plot(
        [chosen.month_batched.seconds],
        [chosen.accuracy],
        marker="o",
        markersize=18,
        fillstyle="none",
        color="black",
        linestyle="none",
        label=f"recommended: {chosen.name}",
    )
    # Of the model whose loss is 0: what a loss is measured against.
    whole = chosen.accuracy + chosen.accuracy_lost
    axes.axhline(whole - plan.max_accuracy_loss, color="grey", linestyle="--", linewidth=1, label="lowest accepted")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"seconds of training in a month of {plan.requests_per_month:g} requests, batched")
    axes.set_ylabel(f"{plan.scoring} on rows held out")
    axes.set_title("Accuracy against the cost of forgetting")
    axes.legend(fontsize=8)
    return axes
