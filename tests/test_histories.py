"""The promise over a whole life: whatever happened to a model, it equals the same life without what was forgotten."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sklearn.linear_model import SGDClassifier
from sklearn.tree import DecisionTreeClassifier

from unlearnkit import SISAClassifier, load
from unlearnkit.errors import DataError, ForgottenRecordError, NoConstituentError
from unlearnkit.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::unlearnkit.errors.DataWarning")

HISTORIES = int(os.environ.get("UNLEARNKIT_HISTORIES", "220"))
LABELS = np.array(["ash", "birch", "cedar"])
KINDS = np.array(["x", "y", "z"])
SEEDS = st.integers(0, 2**32 - 1)
WHAT = ("arrive", "arrive", "arrive", "rectify", "rectify", "forget", "forget", "forget", "refresh")
WHAT += ("consolidate", "consolidate", "consolidate", "repair", "reopen", "save", "compare")
CUTS = st.sampled_from([None, None, None, 1, 2])
SHARED_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


@dataclass(frozen=True)
class Case:
    """A model, and what it may be put through."""

    name: str
    make: Callable[[type], Any]
    share: float
    most_slices: int = 4
    frames: bool = False
    remembers: bool = False


def lgbm(_: type) -> Any:
    import lightgbm

    return lightgbm.LGBMClassifier(
        n_estimators=4, num_leaves=3, min_child_samples=2, min_data_per_group=2, cat_smooth=1, verbose=-1
    )


CASES = [
    Case("remembering", lambda remember: remember(), 0.36, remembers=True),
    Case("remembering-anew", lambda remember: remember(resumable=False), 0.16, most_slices=1, remembers=True),
    Case("all-classes", lambda remember: remember(absent_classes=True), 0.12, remembers=True),
    Case("sgd", lambda _: SGDClassifier(loss="log_loss", max_iter=3, tol=None), 0.14),
    Case("tree", lambda _: DecisionTreeClassifier(), 0.1, most_slices=1),
    Case("lightgbm", lgbm, 0.12, frames=True),
]


class Crash(BaseException):
    """What stands for an interruption: nothing catches it."""


@contextmanager
def cut_short(steps: int | None) -> Iterator[list[bool]]:
    """Let a training end in a `Crash` once this many steps are stored; what is given says whether it did."""
    plain, left, crashed = Store.save, [steps], []

    def save(self: Store, *arguments: Any) -> bool:
        done = plain(self, *arguments)
        left[0] = None if left[0] is None else left[0] - 1
        if left[0] == 0:
            crashed.append(True)
            raise Crash
        return done

    Store.save = save
    try:
        yield crashed
    except Crash:
        pass
    finally:
        Store.save = plain


@dataclass
class Table:
    """All rows that there ever were, and what became of each."""

    X: list[tuple[float, float]] = field(default_factory=list)
    kind: list[str] = field(default_factory=list)
    y: list[str] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    id: list[int] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    forgotten: list[bool] = field(default_factory=list)
    replaced: list[int | None] = field(default_factory=list)

    def add(self, X: Any, kind: Any, y: Any, weight: Any, ids: Any) -> list[int]:
        """Take in some rows, and say which numbers they have."""
        first = len(self.y)
        self.X += [tuple(row) for row in X.tolist()]
        self.kind += kind.tolist()
        self.y += y.tolist()
        self.weight += weight.tolist()
        self.id += ids.tolist()
        self.label += [f"row-{first + i}" for i in range(len(y))]
        self.forgotten += [False] * len(y)
        self.replaced += [None] * len(y)
        return list(range(first, len(self.y)))

    def drop_from(self, first: int) -> None:
        """Let go of rows that were never taken in."""
        for name in vars(self):
            del getattr(self, name)[first:]

    def current(self) -> list[int]:
        """The rows that a model should have."""
        return [i for i in range(len(self.y)) if not self.forgotten[i] and self.replaced[i] is None]


class Life(RuleBasedStateMachine):
    """One model, its history, and the rows that it should have."""

    case: Case
    remember: type
    helpers: Any
    seen: Counter[str]
    turns: Iterator[tuple[str, str]]
    chosen: dict[tuple[Any, ...], tuple[str, str]]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="unlearnkit-life-", dir=SHARED_MEMORY))
        self.table = Table()
        self.events: list[tuple[str, list[int]]] = []
        self.drawn: tuple[Any, ...] = ()
        self.tombstones: set[int] = set()
        self.model: Any = None

    def teardown(self) -> None:
        try:
            if self.model is not None:
                self.compare()
                self.seen["histories"] += 1
        finally:
            shutil.rmtree(self.folder)

    # -- rows ----------------------------------------------------------------------------------------------------

    def draw(self, seed: int, n: int, ids: Any = None) -> list[int]:
        """New rows under the schema as it is now."""
        # Never the same rows twice: after an interruption they would be taken for the same call again.
        rng = np.random.default_rng([seed, len(self.events)])
        labels = LABELS if self.model is None else self.model.classes_
        X = np.round(rng.normal(size=(n, 2)), 6)
        if self.table.X and rng.random() < 0.3:
            # Without ids, records that are equal share a cell.
            X[0] = self.table.X[int(rng.integers(len(self.table.X)))]
        y = rng.choice(labels, size=n, p=_shares(len(labels)))
        if self.model is None:
            y[:2] = LABELS[:2]
        weight = rng.choice([0.0, 1.0, 2.5], size=n, p=[0.25, 0.5, 0.25]) if self.weighted else np.ones(n)
        if self.model is None:
            weight[:2] = 1.0
        elif rng.random() < 0.2:
            weight[:] = 1.0
        if ids is None:
            known = len(set(self.table.id))
            ids = rng.integers(0, known + 2 * n, size=n)
            if self.tombstones and rng.random() < 0.8:
                ids[0] = rng.choice(sorted(self.tombstones))
        return self.table.add(X, rng.choice(self.kinds(), size=n), y, weight, np.asarray(ids))

    def kinds(self) -> Any:
        if self.model is None or not self.case.frames:
            return KINDS
        return np.array(self.model.schema_.columns[2].categories)

    def given(self, rows: list[int]) -> dict[str, Any]:
        """The arguments of a call with these rows."""
        X: Any = np.array([self.table.X[i] for i in rows]).reshape(-1, 2)
        if self.case.frames:
            X = pd.DataFrame(X, columns=["a", "b"])
            X["kind"] = pd.Categorical([self.table.kind[i] for i in rows], categories=KINDS)
            if self.labelled and not self.with_ids:
                X.index = [self.table.label[i] for i in rows]
        call = {"X": X, "y": np.array([self.table.y[i] for i in rows], dtype=LABELS.dtype)}
        if self.weighted:
            call["sample_weight"] = np.array([self.table.weight[i] for i in rows])
        if self.with_ids:
            call["ids"] = np.array([self.table.id[i] for i in rows], dtype=np.int64)
        return call

    def handles(self, rows: list[int]) -> list[Any]:
        """What a request names these rows by."""
        if self.with_ids:
            return [self.table.id[i] for i in rows]
        return [self.table.label[i] if self.case.frames and self.labelled else self.position[i] for i in rows]

    # -- what may happen -----------------------------------------------------------------------------------------

    @initialize(
        seed=SEEDS,
        shards=st.integers(1, 4),
        slices=st.integers(1, 4),
        with_ids=st.sampled_from([True, True, True, False]),
        weighted=st.booleans(),
        labelled=st.booleans(),
        stored=st.sampled_from([True, False, False]),
        by=st.sampled_from(["fit", "partial_fit"]),
        every=st.sampled_from([1, 1, 2, 3, 9]),
    )
    def begin(self, *, seed, shards, slices, with_ids, weighted, labelled, stored, by, every):
        self.drawn = (seed, shards, slices, with_ids, weighted, labelled, stored, by, every)
        self.with_ids, self.weighted, self.labelled = with_ids, weighted, labelled
        self.position: dict[int, int] = {}
        self.path = self.folder / "a.sisa" if stored else None
        rows = self.draw(seed, 6 + seed % 20)
        model = SISAClassifier(
            self.case.make(self.remember),
            n_shards=shards,
            n_slices=min(slices, self.case.most_slices),
            random_state=seed % 1000,
            when_isolated="prior",
            store=self.path,
            checkpoint_every=every,
        )
        call = self.given(rows)
        if by == "partial_fit":
            call["classes"] = LABELS
        getattr(model, by)(**call)
        self.model = model
        self._took_in("fit", rows)

    @rule(
        seed=SEEDS,
        n=st.integers(1, 4),
        repair=st.booleans(),
        cut=CUTS,
    )
    def live_on(self, seed, n, repair, cut):
        # One rule, and each thing in its turn: hypothesis leaves out many of several, and repeats itself in what it
        # draws. A life with few things in it shows little. The same draws are the same life, whenever it is lived.
        self.drawn += (seed, n, repair, cut)
        if self.drawn not in self.chosen:
            self.chosen[self.drawn] = next(self.turns)
        what, forgotten = self.chosen[self.drawn]
        ways = {
            "arrive": partial(self.arrive, seed, n, forgotten, cut),
            "rectify": partial(self.rectify, seed, n, repair, cut),
            "forget": partial(self.forget, seed, n, repair, cut),
            "consolidate": partial(self.consolidate, False, cut),
            "refresh": partial(self.consolidate, True, cut),
            "repair": self.model.repair,
            "reopen": self.reopen,
            "save": self.save,
            "compare": self.compare,
        }
        ways[what]()

    def arrive(self, seed, n, forgotten, cut):
        rows = self.draw(seed, n)
        hits = {self.table.id[i] for i in rows} & self.tombstones if self.with_ids else set()
        call = partial(self.model.partial_fit, **self.given(rows), forgotten=forgotten)
        if hits and forgotten == "raise":
            before = self.told()
            with pytest.raises(ForgottenRecordError):
                call()
            self.table.drop_from(rows[0])
            assert self.told() == before
            self.seen["refused"] += 1
            return
        if hits and forgotten == "readmit":
            self.tombstones -= hits
            self.seen["readmitted"] += 1
        with cut_short(cut) as crashed:
            call()
        if hits and forgotten == "drop":
            # The places of those that came stay next to each other.
            rows = self._without_dropped(rows, hits)
            self.seen["dropped"] += 1
        self._took_in("arrive", rows)
        if crashed:
            self._go_on(seed, call)

    def rectify(self, seed, n, repair, cut):
        if not self.with_ids or not self.table.current():
            return
        rng = np.random.default_rng(seed)
        live = sorted({self.table.id[i] for i in self.table.current()})
        ids = rng.choice(live, size=min(n, len(live)), replace=False)
        old = [i for i in self.table.current() if self.table.id[i] in ids]
        rows = self.draw(seed, len(ids) + 1, [*ids, ids[0]])
        with cut_short(cut) as crashed:
            receipt = self.model.rectify(**self.given(rows), repair=repair)
            assert (receipt.kind, receipt.n_records) == ("rectification", len(old))
        for i in old:
            self.table.replaced[i] = len(self.events)
        self._took_in("rectify", rows)
        if crashed:
            self._go_on(seed)

    def forget(self, seed, n, repair, cut):
        rng = np.random.default_rng(seed)
        # Now and then a row that is gone already.
        known = [i for i in range(len(self.table.y)) if self.table.replaced[i] is None]
        rows = [known[k] for k in rng.choice(len(known), size=min(n, len(known)), replace=False)]
        if self.with_ids:
            # What was forgotten and came back is found by the rows that came back.
            gone = {self.table.id[i] for i in rows}
            rows = [i for i in range(len(self.table.y)) if self.table.id[i] in gone]
            self.tombstones |= gone
        removed = set(rows) & set(self.table.current())
        with cut_short(cut) as crashed:
            receipt = self.model.forget(self.handles(rows), repair=repair)
            assert receipt.n_records == len(removed)
        for i in rows:
            self.table.forgotten[i] = True
        self.seen["forget"] += bool(removed)
        if crashed:
            self._go_on(seed)

    def consolidate(self, refresh, cut):
        labels = {self.table.y[i] for i in self.table.current()}
        if refresh and len(labels) < 2:
            before = self.told()
            with pytest.raises(DataError, match="classes"):
                self.model.consolidate(refresh_schema=True)
            assert self.told() == before
            return
        before, whole = self.told(), not self.model.degraded_shards_
        with cut_short(cut) as crashed:
            self.model.consolidate(refresh_schema=refresh)
        if crashed:
            # A state that the old plan lacked too may have been trained for both.
            assert not whole or self.told()[0] == before[0]
            self.seen["consolidate cut short"] += 1
            return
        if refresh:
            assert set(self.model.classes_) == labels
        self._took_in("refresh" if refresh else "consolidate", [])

    def reopen(self):
        if self.path is None:
            self.model = pickle.loads(pickle.dumps(self.model))
        else:
            given = self.case.make(self.remember) if self.case.remembers else None
            self.model = load(self.path, estimator=given)
        self.seen["reopened"] += 1

    def save(self):
        if self.path is None:
            self.path = self.folder / "saved.sisa"
            self.model.save(self.path)
            self.seen["saved"] += 1

    def compare(self):
        """The oracle: the same life without what was forgotten, in a fresh model."""
        self.model.repair()
        assert self.model.degraded_shards_ == ()
        kept = {step.key for step in self.model._ensemble.plan if step.kept}
        assert self.model._ensemble.store.checkpoints().keys() == kept
        assert self.model.verify().exact
        rows = self.table.current()
        assert self.model.verify(**self.given(rows)).exact
        probe = self.given(list(range(min(8, len(self.table.y)))))["X"]
        for start in self._starts():
            twin = self._replayed(start)
            assert twin.model_digest_ == self.model.model_digest_
            assert np.array_equal(outputs(twin, probe), outputs(self.model, probe))
            if self.with_ids and rows:
                ids = sorted({self.table.id[i] for i in rows})
                assert twin.partition_.locate(ids) == self.model.partition_.locate(ids)
        self.seen["compared"] += 1

    # -- what holds throughout -----------------------------------------------------------------------------------

    @invariant()
    def nothing_forgotten_is_remembered(self):
        if self.model is None or not self.case.remembers:
            return
        rows = range(len(self.table.y))
        held = {row[:2] for row in self.helpers.remembered(self.model._ensemble)}
        allowed = {self.table.X[i] for i in self.table.current()}
        assert held <= allowed
        assert held.isdisjoint({self.table.X[i] for i in rows} - allowed)

    @invariant()
    def it_has_the_records_that_it_should(self):
        if self.model is not None:
            assert self.model._ensemble._build.records.n_records == len(self.table.current())

    # -- how ---------------------------------------------------------------------------------------------------

    def told(self) -> list[Any]:
        """What a call that is refused must leave as it was."""
        model = self.model._ensemble
        return [self.model.model_digest_, model.store.ledger.epoch, model._build.records.n_records]

    def _took_in(self, kind: str, rows: list[int]) -> None:
        first = len(self.position)
        if kind in ("fit", "arrive"):
            self.position |= {i: first + k for k, i in enumerate(rows)}
        self.events.append((kind, rows))
        self.seen[kind] += 1

    def _without_dropped(self, rows: list[int], hits: set[int]) -> list[int]:
        for i in rows:
            # As if they had never come.
            self.table.forgotten[i] |= self.table.id[i] in hits
        return [i for i in rows if self.table.id[i] not in hits]

    def _go_on(self, seed: int, call: Callable[[], Any] | None = None) -> None:
        """After an interruption: by the same call again, by another process, by a repair, or later."""
        self.seen["cut short"] += 1
        ways: list[Callable[[], Any]] = [self.model.repair, lambda: None]
        ways += [self.reopen] if self.path is not None else []
        ways += [call] if call is not None and self.path is not None else []
        ways[seed % len(ways)]()

    def _starts(self) -> list[int]:
        """Events that a replay may begin with: the fit, unless the schema was refreshed since, and consolidations."""
        refreshed = max((e for e, (kind, _) in enumerate(self.events) if kind == "refresh"), default=-1)
        later = [e for e, (kind, _) in enumerate(self.events) if kind in ("consolidate", "refresh") and e >= refreshed]
        starts = later if refreshed >= 0 else [0, *later]
        return sorted({starts[0], starts[-1]})

    def _replayed(self, start: int) -> Any:
        """A fresh model with the events from `start` on; all before it is one fit."""
        twin = self.model.pinned()
        if self.path is not None:
            twin.set_params(store=Path(tempfile.mkdtemp(dir=self.folder)) / "b.sisa")
        table, events = self.table, self.events
        before = [i for kind, rows in events[: start + 1] for i in rows if not table.forgotten[i]]
        if start:
            before = [i for i in before if table.replaced[i] is None or table.replaced[i] > start]
        twin.fit(**self.given(before))
        for kind, rows in events[start + 1 :]:
            kept = [i for i in rows if not table.forgotten[i]]
            if kind in ("consolidate", "refresh"):
                twin.consolidate()
            elif kept:
                (twin.partial_fit if kind == "arrive" else twin.rectify)(**self.given(kept))
        return twin


def turns() -> Iterator[tuple[str, str]]:
    """What is to happen next, and what to do about rows of forgotten ids should there be any."""
    return zip(cycle(WHAT), cycle(["readmit", "raise", "drop"]), strict=False)


def _shares(k: int) -> list[float]:
    return [0.55, 0.4, 0.05] if k == 3 else [0.7, 0.3]


def outputs(model: Any, X: Any) -> Any:
    try:
        return model.predict_proba(X)
    except NoConstituentError:
        return None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_life_equals_the_same_life_without_what_was_forgotten(case, request, helpers, record_property):
    seen: Counter[str] = Counter()
    # It leaves only the plugins that it needs.
    remember = request.getfixturevalue("remember") if case.remembers else None
    machine = type(
        "LifeOf",
        (Life,),
        {"case": case, "remember": remember, "helpers": helpers, "seen": seen, "turns": turns(), "chosen": {}},
    )
    count = round(HISTORIES * case.share)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=count,
            stateful_step_count=8,
            derandomize=True,
            deadline=None,
            database=None,
            # A history is short as it is, and every attempt to make it shorter is a life.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    record_property("histories", [f"{case.name}: {i}" for i in range(seen["histories"])])
    assert seen["histories"] >= count
    # None of it may have been left out for want of an occasion.
    often = ("arrive", "rectify", "forget", "consolidate", "refresh", "reopened", "cut short", "compared")
    assert {kind: seen[kind] for kind in often if seen[kind] <= count // 16} == {}
    rare = ("saved", "consolidate cut short")
    assert count < 50 or {kind for kind in rare if not seen[kind]} == set()
    assert count < 50 or seen["dropped"] + seen["readmitted"] + seen["refused"]


def test_there_are_enough_histories():
    assert sum(round(HISTORIES * case.share) for case in CASES) >= 200
