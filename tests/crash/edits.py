"""Phases in which records arrive, are put right and consolidated: how far a store has got, and what it holds then."""

from __future__ import annotations

import json
from functools import cache, partial

import numpy as np
from places import at, load
from scenarios import PHASES, TEMPLATES, Data, Phase, close, data, estimator, measured

N_SLICES = 3
CLASSES = (0, 1, 2)


@cache
def operations():
    """What happens after the fit, one after the other, each with what it is given."""
    rng = np.random.default_rng(1)
    # Four ids return, and each batch brings six of its own.
    known = data().ids[:4]
    ids = np.r_[known[:2], np.arange(6) + 7_320_000, known[2:], np.arange(6, 12) + 7_320_000]
    later = Data(rng.normal(size=(16, 2)), np.arange(16) % 2, ids)
    first, second = (Data(later.X[rows], later.y[rows], later.ids[rows]) for rows in (slice(0, 8), slice(8, 16)))
    right = rng.normal(size=(4, 2))
    return (
        ("arrive", first),
        ("arrive", second),
        ("rectify", Data(right[:1], np.array([1]), known[:1])),
        ("rectify", Data(right[1:], np.array([0, 1, 1]), np.array([known[2], known[2], 7_320_001]))),
        ("forget", (int(known[3]),)),
        ("consolidate", None),
    )


def do(model, stage, *, refresh=False, without=()):
    """One operation on a model, without the rows of some ids."""
    name, given = operations()[stage]
    if name == "forget":
        if not without:
            model.forget(list(given))
    elif name == "consolidate":
        model.consolidate(refresh_schema=refresh)
    else:
        kept = given.without(without)
        call = model.partial_fit if name == "arrive" else model.rectify
        call(kept.X, kept.y, ids=kept.ids)


def gone(stage):
    """The ids that are forgotten after so many operations, and the rows that are forgotten or replaced."""
    forgotten, rows, had = set(), [], [data()]
    for name, given in operations()[:stage]:
        ids = given if name == "forget" else given.ids if name == "rectify" else ()
        for batch in had if len(ids) else ():
            rows += batch.X[np.isin(batch.ids, ids)].tolist()
        if name == "forget":
            forgotten |= set(ids)
        if name in ("arrive", "rectify"):
            had.append(given)
    return frozenset(forgotten), rows


@cache
def _open_to_more(*, refresh):
    """The model that was fitted: for a schema to refresh, one with a class that no record has."""
    return estimator().partial_fit(data().X, data().y, CLASSES if refresh else None, ids=data().ids)


@cache
def after(stage, *, refresh=False):
    """The model after so many operations, from a life without what was forgotten in them."""
    forgotten, _ = gone(stage)
    kept = data().without(forgotten)
    model = _open_to_more(refresh=refresh).pinned().fit(kept.X, kept.y, ids=kept.ids)
    for i in range(stage):
        do(model, i, refresh=refresh, without=forgotten)
    return measured(model)


def stage_of(store):
    """How many of the operations are in a store."""
    cells, requests = store.ledger.cells(), store.ledger.requests()
    later = [cell for cell in cells if cell.slice >= N_SLICES]
    arrived = len({cell.slice for cell in later})
    consolidated = arrived > 0 and not any(cell.n_records for cell in later)
    return arrived + len(requests) + consolidated


def is_refreshed(store):
    """Whether the class without a record is out of the schema."""
    return len(json.loads(store.settings()["schema"])["classes"]) < len(CLASSES)


def _edit(path, ack, *, stages, refresh=False):
    model = load(path)
    for stage in stages:
        do(model, stage, refresh=refresh)
        ack("edited", stage + 1)
    close(model)


def _mixed(path, *, refresh):
    model = estimator(store=at(path)).partial_fit(data().X, data().y, CLASSES if refresh else None, ids=data().ids)
    for stage in range(5):
        do(model, stage)
    close(model)


EDITS = {
    "arrive": Phase("fitted", partial(_edit, stages=(0, 1)), trains=True),
    "rectify": Phase("arrived", partial(_edit, stages=(2, 3)), trains=True),
    "consolidate": Phase("mixed", partial(_edit, stages=(5,)), known=3, trains=True, repeatable=True),
    "refresh": Phase("open", partial(_edit, stages=(5,), refresh=True), known=3, trains=True, repeatable=True),
}
PHASES.update(EDITS)
TEMPLATES["arrived"] = ("fitted", lambda path: _edit(path, lambda *_: None, stages=(0, 1)))
TEMPLATES["mixed"] = ("nothing", partial(_mixed, refresh=False))
TEMPLATES["open"] = ("nothing", partial(_mixed, refresh=True))
