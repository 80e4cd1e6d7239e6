"""The picture of the README: what a model says about a plane, before and after a record of it is forgotten.

Model and record are chosen so that the mark is easy to see. The rest is as it comes out: the model is trained, asked,
made to forget, and asked again, and before anything is drawn it is compared with one that never had the record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.datasets import make_moons
from sklearn.neighbors import KNeighborsClassifier

from unlearnkit import SISAClassifier

ASKED = 42
AT = (0.12, -0.62)
WIDTH, HEIGHT, CELL = 400, 260, 5
LEFT, RIGHT, BOTTOM, TOP = -1.5, 2.5, -1.0, 1.6
SHADES = 9


def picture(drawing: Callable[..., str], text: Callable[..., str]) -> str:
    """The two maps, side by side."""
    X, y, ids = data()
    clf = SISAClassifier(KNeighborsClassifier(2, weights="distance"), n_shards=2, n_slices=1, random_state=0)
    clf.fit(X, y, ids=ids)
    before = shares(clf)
    clf.forget(ASKED)
    after = shares(clf)
    kept = ids != ASKED
    never = clf.pinned().fit(X[kept], y[kept], ids=ids[kept])
    if never.model_digest_ != clf.model_digest_ or (shares(never) != after).any():
        raise AssertionError("the model that forgot is not the one that never knew")
    parts = [
        *panel(24, 56, before, (X, y, ids)),
        *panel(456, 56, after, (X[kept], y[kept], ids[kept])),
        text(24, 36, "before: record 42 has left its mark", "head"),
        text(456, 36, "after clf.forget(42)", "head"),
        text(440, 348, "Shown is how likely the model holds each of two classes. The right-hand model is, to the last "
             "bit,", "small quiet mid"),
        text(440, 366, "the one that is trained without record 42: same stored bytes, same predictions.",
             "small quiet mid"),
    ]  # fmt: skip
    told = (
        "Two maps of a model's predictions. On the left a spot of the other colour surrounds record 42. On the right "
        "the record and the spot are gone."
    )
    return drawing(880, 384, "Before and after a forgotten record", told, parts)


def data() -> tuple[Any, Any, Any]:
    """Two classes that part well, and one record that lies among the others."""
    X, y = make_moons(90, noise=0.14, random_state=3)
    X, y = np.round(X, 3), y.copy()
    X[0], y[0] = AT, 0
    return X, y, np.arange(ASKED, ASKED + len(y))


def shares(clf: SISAClassifier) -> Any:
    """How likely the second class is, for each cell of the map, from the top left."""
    xs = np.linspace(LEFT, RIGHT, WIDTH // CELL)
    ys = np.linspace(TOP, BOTTOM, HEIGHT // CELL)
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    return clf.predict_proba(grid)[:, 1].reshape(len(ys), len(xs))


def panel(x: int, y: int, map_: Any, records: tuple[Any, Any, Any]) -> Iterator[str]:
    """One map with its records."""
    yield f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    levels = np.round(map_ * (SHADES - 1)).astype(int)
    for level in range(SHADES):
        path = "".join(_runs(levels == level, x, y))
        if path:
            yield f'<path fill="{_shade(level)}" d="{path}"/>'
    for (right, up), label, id_ in zip(*records, strict=True):
        cx = x + (right - LEFT) / (RIGHT - LEFT) * WIDTH
        cy = y + (TOP - up) / (TOP - BOTTOM) * HEIGHT
        if not (x < cx < x + WIDTH and y < cy < y + HEIGHT):
            continue
        fill = "#1f5f9e" if label else "#c2570c"
        yield f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="3.6" fill="{fill}" stroke="#fff"/>'
        if id_ == ASKED:
            yield f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="10" fill="none" stroke="#1f2733" stroke-width="2"/>'
            yield f'<text x="{cx + 15:.1f}" y="{cy + 5:.1f}" style="fill:#1f2733;font-weight:600">42</text>'


def _runs(mask: Any, x: int, y: int) -> Iterator[str]:
    for row, line in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
        for start, stop in edges.reshape(-1, 2):
            yield f"M{x + CELL * start} {y + CELL * row}h{CELL * (stop - start)}v{CELL}h-{CELL * (stop - start)}z"


def _shade(level: int) -> str:
    """From orange over nearly white to blue."""
    share = level / (SHADES - 1)
    ends = ((240, 166, 104), (250, 247, 243), (122, 174, 226))
    first, last, part = (ends[0], ends[1], 2 * share) if share < 1 / 2 else (ends[1], ends[2], 2 * share - 1)
    mixed = (round(a + (b - a) * part) for a, b in zip(first, last, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)
