"""The outcome of the demonstration, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from unlearnkit.demo.measure import Line, Numbers

_STYLE = {"exact": "bold green", "differs": "bold red", "failed": "bold red", "not installed": "yellow"}
_WORD = {"exact": "exact", "differs": "DIFFERS", "failed": "FAILED"}
_COLUMNS = ("SxR", "Plain", "SISA", "Gone", "Isolated", "Repair", "Retrain", "Rebuild")
_LESS = ("SxR", "Gone", "Rebuild")
WIDE, FOLDED = 118, 96
_LEGEND = """\
SxR       shards x slices
Plain     score of the bare model on held-out rows (accuracy, or R2 of a regressor); beside it that of the SISA model
Gone      records forgotten
Isolated  from the request until nothing served or stored is influenced by them any more
Repair    training the missing steps; beside it: retraining the bare model, rebuilding the whole SISA model
Outcome   exact: equal, in every stored byte and every prediction, to a model fitted apart without the records
On small data the fixed cost of a step weighs more than what a repair saves."""


def table(lines: Sequence[Line], width: int) -> Group:
    """The lines as a table, what could not be run beneath it, and the legend.

    Parameters
    ----------
    lines : sequence of Line
    width : int
        In characters. A narrow table folds the names, a very narrow one leaves columns out.
    """
    names = [name for name in _COLUMNS if width >= FOLDED or name not in _LESS]
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, int(width >= WIDE), 0, 0))
    grid.add_column("Model", overflow="fold")
    grid.add_column("Data, rows", overflow="fold")
    for name in names:
        grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("Outcome", no_wrap=True)
    for line in lines:
        cells = _cells(line.numbers)
        outcome = Text(_WORD.get(line.outcome, "not run"), style=_STYLE[line.outcome])
        rows = f" {line.numbers.n_records:,}" if line.numbers else ""
        grid.add_row(line.model, line.data + rows, *(cells.get(name, "") for name in names), outcome)
    reasons = [Text(f"{line.model}: {line.outcome}: {line.reason}") for line in lines if line.reason]
    return Group(grid, *reasons, *([""] if reasons else []), Text(_LEGEND, style="dim"), "")


def _cells(n: Numbers | None) -> dict[str, str]:
    if n is None:
        return {}
    return {
        "SxR": f"{n.n_shards}x{n.n_slices}",
        "Plain": f"{n.plain_score:.3f}",
        "SISA": f"{n.sisa_score:.3f}",
        "Gone": str(n.n_forgotten),
        "Isolated": f"{n.isolated_ms:.1f} ms",
        "Repair": f"{n.repair_s:.2f} s",
        "Retrain": f"{n.retrain_s:.2f} s",
        "Rebuild": f"{n.rebuild_s:.2f} s",
    }


def verdict(lines: Sequence[Line], seconds: float) -> str:
    """The last line: whether every line that ran is exact, and what did not run."""
    count = Counter(line.outcome for line in lines)
    run = len(lines) - count["not installed"]
    rest = f" {count['not installed']} not installed." if count["not installed"] else ""
    if run == 0:
        return f"Nothing was run.{rest}"
    if count["exact"] == run:
        return f"{'The one line is' if run == 1 else f'All {run} lines'} exact, in {seconds:.0f} s.{rest}"
    return f"{count['exact']} of {run} lines exact: {count['differs']} differ, {count['failed']} failed.{rest}"


def all_exact(lines: Sequence[Line]) -> bool:
    """Whether something was run, and all of it is exact."""
    outcomes = {line.outcome for line in lines}
    return "exact" in outcomes and outcomes <= {"exact", "not installed"}


def as_json(lines: Sequence[Line], notes: Sequence[str], seconds: float) -> str:
    """One JSON object."""
    facts = {
        "exact": all_exact(lines),
        "seconds": round(seconds, 3),
        "python": platform.python_version(),
        "notes": list(notes),
        "lines": [asdict(line) for line in lines],
    }
    return json.dumps(facts, indent=1)
