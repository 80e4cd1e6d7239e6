"""The life of one small store, cut into phases: what is there before each, what it does, and what may follow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from model import Remembering
from places import at, copy, load

import unlearnkit
from unlearnkit import SISAClassifier
from unlearnkit.policy import Policy

N, SEED = 36, 5


@dataclass(frozen=True)
class Data:
    """Rows that differ from each other in every value."""

    X: Any
    y: Any
    ids: Any

    def without(self, forgotten):
        kept = ~np.isin(self.ids, list(forgotten))
        return Data(self.X[kept], self.y[kept], self.ids[kept])


@cache
def data():
    rng = np.random.default_rng(0)
    return Data(rng.normal(size=(N, 2)), rng.permutation(N) % 2, rng.permutation(N) + 7_310_000)


def estimator(**options):
    return SISAClassifier(Remembering(), n_shards=2, n_slices=3, random_state=SEED, **options)


@cache
def base():
    """The model in memory that every other is measured by."""
    return estimator().fit(data().X, data().y, ids=data().ids)


@cache
def groups():
    """The ids of three requests: the last slice of one shard, a batch that reaches both shards, an early slice."""
    ids = data().ids
    shard, slice_ = np.asarray(base().partition_.locate(ids)).T

    def some(s, r, k=0):
        return int(ids[(shard == s) & (slice_ == r)][k])

    return ((some(0, 2),), (some(0, 1), some(1, 2)), (some(1, 0),))


@dataclass(frozen=True)
class Reference:
    """A model built from scratch without some records."""

    digest: str
    keys: frozenset
    states: dict
    predictions: Any


@cache
def reference(forgotten):
    kept = data().without(forgotten)
    return measured(base().pinned().fit(kept.X, kept.y, ids=kept.ids))


def measured(model):
    """What a model in memory has that another is to be equal to."""
    ledger = model._ensemble.store.ledger
    states = {key: checkpoint.parts for key, checkpoint in ledger.checkpoints().items()}
    return Reference(model.model_digest_, ledger.keys(), states, model.predict_proba(data().X))


def fit(path, **options):
    return estimator(store=at(path)).fit(data().X, data().y, ids=data().ids, **options)


def close(model):
    """Let go of the store as a process that ends does: SQLite tidies up its files."""
    model._ensemble.store.ledger.close()


# -- what the phases do: each is given the folder of the store and a function that acknowledges ----------------------


def _fit(path, ack):
    model = fit(path)
    ack("whole")
    close(model)


def _submit(path, ack):
    store = at(path)
    for group in (groups()[:1], groups()[1:]):
        ack("received", *store.submit([list(ids) for ids in group]))
    store.ledger.close()


def _open(path, ack):
    model = load(path)
    ack("opened")
    close(model)


def _isolate(path, ack):
    model = load(path)
    for sequence, ids in enumerate(groups(), start=1):
        model.forget(list(ids), repair=False)
        ack("purged", sequence)
    close(model)


def _repair(path, ack):
    model = load(path)
    ack("repaired", *(int(receipt.request_id) for receipt in model.repair()))
    close(model)


def _forget(path, ack):
    model = load(path)
    for sequence, ids in enumerate(groups(), start=1):
        model.forget(list(ids))
        ack("repaired", sequence)
    close(model)


def _drop(path, ack):
    model = fit(path, forgotten="drop")
    ack("whole")
    close(model)


def _readmit(path, ack):
    model = fit(path, forgotten="readmit")
    ack("readmitted")
    close(model)


def _expire(path, ack):
    model = unlearnkit.load(at(path, Policy(retention_days=0)))
    ack("opened")
    close(model)


def in_memory():
    """A model in memory that has had its first request."""
    model = base().pinned().fit(data().X, data().y, ids=data().ids)
    model.forget(list(groups()[0]))
    return model


def _save(path, ack):
    model = in_memory()
    model.save(path)
    ack("whole")
    close(model)


@dataclass(frozen=True)
class Phase:
    """One stretch of the life of a store.

    Attributes
    ----------
    template : str
        What is there before.
    act : callable
    known : int
        Requests in the ledger before.
    new : bool
        Whether the store may hold no model yet when the process dies.
    trains : bool
        Whether the next opening has to train to the end whatever is missing.
    repeatable : bool
        Whether doing it twice comes to the same.
    """

    template: str
    act: Any
    known: int = 0
    new: bool = False
    trains: bool = False
    repeatable: bool = False


PHASES = {
    "fit": Phase("nothing", _fit, new=True, trains=True, repeatable=True),
    "submit": Phase("fitted", _submit),
    "isolate": Phase("fitted", _isolate),
    "purge": Phase("received", _open, known=3, repeatable=True),
    "repair": Phase("purged", _repair, known=3, repeatable=True),
    "forget": Phase("fitted", _forget, trains=True),
    "drop": Phase("purged", _drop, known=3, repeatable=True),
    "readmit": Phase("repaired", _readmit, known=3, repeatable=True),
    "expire": Phase("repaired", _expire, known=3, repeatable=True),
    "save": Phase("nothing", _save, new=True, trains=True),
}


def _nothing(path):
    pass


def _received(path):
    _submit(path, lambda *_: None)


TEMPLATES = {
    "nothing": (None, _nothing),
    "fitted": ("nothing", lambda path: close(fit(path))),
    "received": ("fitted", _received),
    "purged": ("received", lambda path: _open(path, lambda *_: None)),
    "repaired": ("purged", lambda path: _repair(path, lambda *_: None)),
}


def make_template(name, folder):
    """Make the folder of a template, in this process, from the one before it."""
    before, act = TEMPLATES[name]
    copy(Path(folder).parent / str(before), folder)
    act(str(folder))
