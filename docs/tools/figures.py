"""Draw the pictures of the documentation.

python docs/tools/figures.py docs/img
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from forgotten import picture

STYLE = """<style>
text{font:14px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:#1f2733}
.small{font-size:12px}.quiet{fill:#566273}.head{font-weight:600;font-size:15px}.mono{font-family:ui-monospace,Menlo,
Consolas,monospace;font-size:12px}.mid{text-anchor:middle}.warm{fill:#b4540a}.cool{fill:#1f5f9e}
.ground{fill:#fbfcfe;stroke:#d5dbe5}.box{fill:#eef3f9;stroke:#9fb3c8}.state{fill:#2f6fb5;stroke:#2f6fb5}
.gone{fill:none;stroke:#b4540a;stroke-dasharray:4 3}.new{fill:#fff;stroke:#2f6fb5;stroke-width:2.5}
.row{fill:#8ea2b8}.asked{fill:#d9730d}.line{stroke:#566273;fill:none;stroke-width:1.4}
.warmline{stroke:#d9730d;fill:none;stroke-width:1.6}.tip{fill:#566273}.sign{fill:#fff;font-size:12px;text-anchor:middle}
@media(prefers-color-scheme:dark){text{fill:#e4e9f0}.quiet{fill:#a3afbf}.warm{fill:#f0a35e}.cool{fill:#7db4ea}
.ground{fill:#181d25;stroke:#38424f}.box{fill:#232b36;stroke:#526173}.state{fill:#4c8fd6;stroke:#4c8fd6}
.gone{stroke:#f0a35e}.new{fill:#181d25;stroke:#7db4ea}.row{fill:#73869c}.asked{fill:#f08a2c}
.line{stroke:#a3afbf}.warmline{stroke:#f08a2c}.tip{fill:#a3afbf}.sign{fill:#fff}}
</style>"""
ASKED = 2
"""The slice that has the record, where a request is shown."""
TIP = (
    '<defs><marker id="tip" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
    '<path class="tip" d="M0 0L9 4L0 8Z"/></marker></defs>'
)


def drawing(width: int, height: int, title: str, told: str, parts: Iterable[str]) -> str:
    """A picture with a ground of its own, and words for those who do not see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-labelledby="t d"><title id="t">{title}</title><desc id="d">{told}</desc>\n{STYLE}\n{TIP}\n'
        f'<rect class="ground" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="10"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def text(x: float, y: float, words: str, look: str = "") -> str:
    """Words at a place."""
    return f'<text x="{x:g}" y="{y:g}" class="{look}">{words}</text>'


def box(x: float, y: float, width: float, height: float, look: str = "box") -> str:
    """A rounded rectangle."""
    return f'<rect class="{look}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'


def dot(x: float, y: float, look: str, radius: float = 9) -> str:
    """A circle."""
    return f'<circle class="{look}" cx="{x:g}" cy="{y:g}" r="{radius:g}"/>'


def arrow(x1: float, y1: float, x2: float, y2: float, look: str = "line") -> str:
    """A straight arrow."""
    return f'<path class="{look}" marker-end="url(#tip)" d="M{x1:g} {y1:g}L{x2:g} {y2:g}"/>'


def rows(x: float, y: float, n: int, asked: int | None = None) -> list[str]:
    """Records as small squares, six to a line, one of them perhaps the one that is asked for."""
    return [
        f'<rect class="{"asked" if i == asked else "row"}" x="{x + 15 * (i % 6):g}" y="{y + 15 * (i // 6):g}" '
        'width="10" height="10" rx="2"/>'
        for i in range(n)
    ]


def shards() -> str:
    """Shards and slices: where a record goes, and what is trained."""
    counts = [(9, 7, 10), (8, 11, 6), (10, 8, 9), (7, 9, 8)]
    parts = [
        text(30, 38, "records", "head"),
        *rows(30, 110, 36),
        *rows(30, 200, 6, 3),
        *rows(30, 215, 30),
        text(30, 320, "A keyed hash of a", "small quiet"),
        text(30, 337, "record's own id says", "small quiet"),
        text(30, 354, "where it goes.", "small quiet"),
        *(text(248 + 142 * part, 38, f"slice {part}", "head") for part in range(3)),
        text(668, 38, "constituents", "head"),
    ]
    for shard, in_slices in enumerate(counts):
        y = 58 + 82 * shard
        parts.append(text(168, y + 35, f"shard {shard}", "small quiet"))
        for part, n in enumerate(in_slices):
            x = 222 + 142 * part
            asked = 4 if (shard, part) == (2, 1) else None
            parts += [box(x, y, 104, 58), *rows(x + 8, y + 9, n, asked)]
            parts += [arrow(x + 104, y + 29, x + 113, y + 29), dot(x + 123, y + 29, "state")]
            parts.append(text(x + 123, y + 33, str(part), "sign"))
        parts += [arrow(640, y + 29, 664, y + 29), box(666, y + 8, 92, 42), text(712, y + 34, f"model {shard}", "mid")]
        parts.append(arrow(758, y + 29, 812, 165 + 22 * shard))
    parts += [
        '<path class="warmline" marker-end="url(#tip)" d="M83 205C140 205 150 210 200 210H417Q437 210 437 227"/>',
        box(814, 148, 84, 100),
        text(856, 203, "mean", "mid head"),
        text(856, 270, "prediction", "mid quiet"),
        dot(232, 396, "state"),
        text(248, 401, "a checkpoint: the state after the slices up to this one, stored under its key", "small"),
    ]
    told = (
        "Records are dealt to four shards of three slices by a keyed hash of their id. Each shard trains a model slice "
        "by slice, with a checkpoint after each slice. The mean of the four models is the prediction."
    )
    return drawing(920, 420, "Shards and slices", told, parts)


def repair() -> str:
    """Isolate and repair: one shard before a request, isolated, and repaired."""
    stages = [
        ("before", "", 4, ["state"] * 4, "serves with checkpoint 3"),
        ("isolated", "milliseconds, no training", None, ["state", "state", "gone", "gone"], "serves with checkpoint 1"),
        ("repaired", "now or at night", None, ["state", "state", "new", "new"], "serves with checkpoint 3"),
    ]
    parts = [
        text(24, 34, "The shard of the record that is to be forgotten. No other shard is touched.", "head"),
    ]
    for row, (name, when, asked, states, serves) in enumerate(stages):
        y = 58 + 98 * row
        parts += [text(24, y + 30, name, "head"), text(24, y + 49, when, "small quiet")]
        for part, look in enumerate(states):
            x = 180 + 138 * part
            n = (9, 8, 10 if row == 0 else 9, 7)[part]
            parts += [box(x, y, 104, 58), *rows(x + 8, y + 9, n, asked if part == ASKED else None)]
            parts += [arrow(x + 104, y + 29, x + 111, y + 29), dot(x + 121, y + 29, look)]
            if look == "gone":
                parts.append(f'<path class="warmline" d="M{x + 115} {y + 23}l12 12m0 -12l-12 12"/>')
            else:
                parts.append(text(x + 121, y + 33, str(part), "sign" if look == "state" else "small mid cool"))
        parts.append(text(740, y + 27, serves, "small"))
        parts.append(text(740, y + 46, ("as ever", "nothing of the record", "trained without it")[row], "small quiet"))
        if row == 1:
            parts.append(f'<path class="line" marker-end="url(#tip)" d="M439 {y + 39}v28h296"/>')
    parts += [
        dot(34, 372, "state"), text(50, 377, "kept", "small"),
        dot(124, 372, "gone"), text(140, 377, "destroyed: it had learned from the record", "small"),
        dot(424, 372, "new"), text(440, 377, "trained again from checkpoint 1", "small"),
        '<rect class="asked" x="680" y="367" width="10" height="10" rx="2"/>',
        text(698, 377, "the record", "small"),
    ]  # fmt: skip
    told = (
        "A shard of four slices, the record in slice 2. Isolated: checkpoints 2 and 3 are destroyed, and checkpoint 1 "
        "serves. Repaired: steps 2 and 3 are trained again without the record."
    )
    return drawing(920, 398, "Isolate and repair", told, parts)


def keys() -> str:
    """Keys as a chain, with a record and without."""
    parts = [
        text(24, 34, "A key is a hash of the key before it and the rows of its slice.", "head"),
        box(24, 152, 150, 96),
        *(
            text(99, 176 + 19 * n, words, "small mid")
            for n, words in enumerate(("parameters", "seed", "schema", "base"))
        ),
    ]
    for y, name, names, asked in (
        (70, "with the record", ("3f1c", "a07e", "58d2"), 4),
        (270, "without it", ("3f1c", "c41b", "09ea"), None),
    ):
        parts.append(text(240, y - 9, name, "small quiet"))
        for part, key in enumerate(names):
            x = 240 + 226 * part
            changed = part > 0
            look = "warm" if changed and asked else "cool"
            parts += [
                box(x, y, 104, 42),
                *rows(x + 8, y + 8, 10 if part != 1 or asked else 9, asked if part == 1 else None),
            ]
            parts += [arrow(x + 52, y + 42, x + 52, y + 61), box(x, y + 63, 104, 30)]
            parts.append(text(x + 112, y + 25, f"rows of slice {part}", "small quiet"))
            parts.append(text(x + 52, y + 83, f"key {part}: {key}..", f"mono mid {look}"))
            last = (174, 200) if part == 0 else (x - 75, y + 78)
            parts.append(arrow(*last, x - 3, y + 78))
            state = "state" if not changed or not asked else "gone"
            parts += [arrow(x + 104, y + 78, x + 131, y + 78), dot(x + 142, y + 78, state)]
    parts += [
        text(240, 200, "equal: the same state", "small cool"),
        text(466, 200, "from the record's slice on every key is another: those states are", "small warm"),
        text(466, 217, "destroyed, and the missing ones are trained", "small warm"),
    ]
    told = (
        "Two chains of three keys from the same parameters, seed, schema and base. The record is in slice 1. Key 0 is "
        "equal in both chains, keys 1 and 2 differ."
    )
    return drawing(930, 384, "Keys as a chain", told, parts)


def draw(folder: Path) -> None:
    """Write all pictures into a folder."""
    found = {"shards": shards(), "repair": repair(), "keys": keys(), "forgotten": picture(drawing, text)}
    for name, svg in found.items():
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
