"""Figures: the heat map of shards and slices, from plain numbers to one self-contained piece of HTML.

It has no script, loads nothing and names nobody. Its shades are see-through, so that they lie on light and dark pages
alike; what a shade says is written out as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from unlearnkit.words import count

MOST_COLUMNS = 20
"""Slices of the fit that have a column each; more share columns."""
MOST_ROWS = 40
"""Shards that have a row each, besides the degraded ones."""
_DENSE = 10
"""Columns from which on their words are for screen readers only."""
_DARKEST = 0.5
_MORE = {"built": "built with", "repairs": "repairs"}

_STYLE = """<style>
.unlearnkit-figure{overflow-x:auto}
.unlearnkit-map{border-collapse:separate;border-spacing:2px;margin:.6em 0;font:12px/1.4 system-ui,sans-serif;
font-variant-numeric:tabular-nums;color:inherit;background:none;width:auto}
.unlearnkit-map caption{text-align:left;caption-side:top;padding:.2em 0;color:inherit;font-weight:600}
.unlearnkit-map th,.unlearnkit-map td{padding:2px 7px;text-align:right;white-space:nowrap;color:inherit;
border:1px solid transparent}
.unlearnkit-map th{font-weight:400;opacity:.75}
.unlearnkit-map .later{border-left:3px double currentColor}
.unlearnkit-map .due{border:1px dashed currentColor;
background:repeating-linear-gradient(45deg,transparent 0 4px,rgba(128,128,128,.45) 4px 6px)}
.unlearnkit-map .words{text-align:left;white-space:normal;min-width:15em}
.unlearnkit-map .bad{font-weight:700}
.unlearnkit-map .word{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.unlearnkit-map.dense th,.unlearnkit-map.dense td{padding:2px 5px}
</style>"""


@dataclass(frozen=True, slots=True)
class ShardRow:
    """What there is to see of one shard.

    Attributes
    ----------
    records : tuple of int
        Of each slice: first those of the fit, then those that arrived later.
    due : int or None
        The first slice whose step is not trained; None: all are.
    serves : bool
        Whether it takes part in predictions.
    why : str
        Why it cannot be trained on what is left; empty where it can.
    built : int or None
        The records that it had when the model was built last; None if that is not to be shown.
    repairs : int or None
        The requests after which it was trained again; None if that is not to be shown.
    """

    records: tuple[int, ...]
    due: int | None = None
    serves: bool = True
    why: str = ""
    built: int | None = None
    repairs: int | None = None

    @property
    def state(self) -> str:
        """Its state in words."""
        if self.why:
            return f"cannot be trained: {self.why}"
        if self.due is None:
            return "trained" if self.serves else "no records"
        return f"waits for repair from slice {self.due}" + ("" if self.serves else ", abstains")

    @property
    def degraded(self) -> bool:
        """Whether a step of it is not trained."""
        return bool(self.why) or self.due is not None


def heat_map(shards: Sequence[ShardRow], n_slices: int) -> str:
    """A table of shards by slices, in a stronger blue where there are more records.

    Parameters
    ----------
    shards : sequence of ShardRow
        In order, from shard 0.
    n_slices : int
        Of the fit. What a shard has beyond them arrived later.

    Returns
    -------
    str
        HTML: a style and a table. Large models show all degraded shards, and not every sound one.

    Examples
    --------
    >>> found = heat_map([ShardRow((20, 18, 3)), ShardRow((21, 17), due=1)], 2)
    >>> "waits for repair from slice 1" in found, found.count("<tr>")
    (True, 3)
    """
    groups = _groups(n_slices, max((len(row.records) for row in shards), default=0))
    shown = [s for s, row in enumerate(shards) if s < MOST_ROWS or row.degraded]
    most = max((_sum(shards[s], group) for s in shown for group in groups), default=0)
    more = [name for name in _MORE if any(getattr(row, name) is not None for row in shards)]
    rows = "\n".join(_row(s, shards[s], groups, n_slices, most=most, more=more) for s in shown)
    hidden = len(shards) - len(shown)
    width = len(groups) + 3 + len(more)
    foot = f'<tr><td colspan="{width}" class="words">and {hidden:,} more shards, all trained</td></tr>'
    caption = _caption(shards, n_slices)
    return (
        # A part that scrolls must be within reach of the keyboard, and then have a name.
        f'<div class="unlearnkit-figure" role="region" tabindex="0" aria-label="Shards and slices">{_STYLE}'
        f'<table class="unlearnkit-map{" dense" if len(groups) > _DENSE else ""}">\n<caption>{caption}</caption>\n'
        f"<thead>{_head(groups, n_slices, more)}</thead>\n"
        f"<tbody>\n{rows}\n{foot if hidden else ''}</tbody></table></div>"
    )


def _groups(n_slices: int, n_columns: int) -> list[range]:
    """The slices of each column. What arrived later never shares a column with slices of the fit."""
    own, later = range(n_slices), range(n_slices, n_columns)
    return [*_cut(own), *_cut(later)]


def _cut(slices: range) -> Iterable[range]:
    width = -(-len(slices) // MOST_COLUMNS) or 1
    return (slices[i : i + width] for i in range(0, len(slices), width))


def _sum(row: ShardRow, group: range) -> int:
    return sum(row.records[group.start : group.stop])


def _caption(shards: Sequence[ShardRow], n_slices: int) -> str:
    records = sum(sum(row.records) for row in shards)
    arrived = sum(sum(row.records[n_slices:]) for row in shards)
    degraded = sum(row.degraded for row in shards)
    told = [
        f"{count(len(shards), 'shard')} x {count(n_slices, 'slice')}",
        count(records, "record"),
        *([f"{arrived:,} of them arrived later"] if arrived else []),
        f"{degraded:,} degraded" if degraded else "none degraded",
    ]
    return ", ".join(told)


def _head(groups: Sequence[range], n_slices: int, more: Sequence[str]) -> str:
    columns = "".join(
        f'<th scope="col"{_later(group, n_slices)}>{_word(group, n_slices, dense=len(groups) > _DENSE)}'
        f"{group.start}{'' if len(group) == 1 else f'-{group.stop - 1}'}</th>"
        for group in groups
    )
    others = "".join(f'<th scope="col">{_MORE[name]}</th>' for name in more)
    return (
        f'<tr><th scope="col">shard</th>{columns}<th scope="col">all</th>{others}'
        '<th scope="col" class="words">state</th></tr>'
    )


def _word(group: range, n_slices: int, *, dense: bool) -> str:
    word = "arrived " if group.start >= n_slices else "slice "
    return f'<span class="word">{word}</span>' if dense else word


def _later(group: range, n_slices: int) -> str:
    return ' class="later"' if group.start == n_slices else ""


def _row(shard: int, row: ShardRow, groups: Sequence[range], n_slices: int, *, most: int, more: Sequence[str]) -> str:
    others = "".join(f"<td>{'' if (n := getattr(row, name)) is None else f'{n:,}'}</td>" for name in more)
    cells = "".join(_cell(row, group, n_slices, most) for group in groups)
    mark = "&#9888; " if row.degraded else ""
    look = "words bad" if row.degraded else "words"
    return (
        f'<tr><th scope="row">{shard}</th>{cells}<td>{sum(row.records):,}</td>{others}'
        f'<td class="{look}">{mark}{escape(row.state)}</td></tr>'
    )


def _cell(row: ShardRow, group: range, n_slices: int, most: int) -> str:
    count = _sum(row, group)
    due = row.due is not None and group.stop > row.due and bool(count)
    classes = " ".join(name for name, is_so in (("due", due), ("later", group.start == n_slices)) if is_so)
    look = f' class="{classes}"' if classes else ""
    # A hatched cell keeps its pattern: a step that is not trained shows no shade.
    shade = f' style="background:rgba(31,119,180,{_DARKEST * count / most:.2f})"' if count and not due else ""
    told = f"{count:,} records" + (", not trained" if due else "")
    return f'<td{look}{shade} title="{told}">{f"{count:,}" if count else ""}</td>'
