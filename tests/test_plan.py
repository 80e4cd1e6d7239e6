from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearnkit.data import SliceFacts
from unlearnkit.plan import Context, Plan, epochs, plan_shard, step_seed

CONTEXT = Context("fp", seed=1, n_slices=4, schema_digest="s", n_classes=3, resumable=True, absent_classes=False)
REGRESSION = replace(CONTEXT, n_classes=None)
EMPTY = SliceFacts(0, "empty", frozenset())

SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=8)
CLASSES = st.lists(st.frozensets(st.integers(0, 2), max_size=3), min_size=1, max_size=7)


def facts(n, classes=(), tag=""):
    return SliceFacts(n, f"{tag}{n}{sorted(classes)}", frozenset(classes)) if n else EMPTY


def regression(sizes):
    context = replace(REGRESSION, n_slices=len(sizes))
    return plan_shard(context, 0, [facts(n, tag=str(r)) for r, n in enumerate(sizes)])


def classes_of(sets):
    context = replace(CONTEXT, n_slices=len(sets))
    slices = [facts(len(c) and 5, c, tag=str(r)) for r, c in enumerate(sets)]
    return context, slices, plan_shard(context, 0, slices)


@given(SIZES)
def test_a_plan_is_a_pure_function(sizes):
    assert regression(sizes) == regression(sizes)


@given(SIZES, st.integers(0, 7), st.sampled_from(["other rows", "fewer rows", "empty"]))
def test_keys_change_exactly_downstream(sizes, at, change):
    at %= len(sizes)
    context = replace(REGRESSION, n_slices=len(sizes))
    slices = [facts(n, tag=str(r)) for r, n in enumerate(sizes)]
    before = {s.slice: s.key for s in plan_shard(context, 0, slices)}
    if not slices[at].n:
        return
    n = {"other rows": slices[at].n, "fewer rows": slices[at].n - 1, "empty": 0}[change]
    slices[at] = facts(n, tag="changed")
    after = {s.slice: s.key for s in plan_shard(context, 0, slices)}
    for r in range(len(sizes)):
        assert (before.get(r) == after.get(r)) == (r < at or not sizes[r])


@pytest.mark.parametrize(
    "other",
    [
        replace(REGRESSION, fingerprint="other"),
        replace(REGRESSION, seed=2),
        replace(REGRESSION, n_slices=5),
        replace(REGRESSION, schema_digest="other"),
    ],
)
def test_the_root_covers_the_configuration(other):
    slices = [facts(3, tag=str(r)) for r in range(4)]
    keys = [{s.key for s in plan_shard(context, 0, slices)} for context in (REGRESSION, other)]
    assert not keys[0] & keys[1]
    assert not keys[0] & {s.key for s in plan_shard(REGRESSION, 1, slices)}


@given(SIZES)
def test_empty_slices_have_no_step_and_lose_no_budget(sizes):
    steps = regression(sizes)
    assert [s.slice for s in steps] == [r for r, n in enumerate(sizes) if n]
    for before, after in pairwise(steps):
        assert after.parent == before.key
        assert after.step.start == before.step.stop
        assert after.n_old == before.n
    if steps:
        assert steps[0].parent is None
        assert steps[0].step.start == 0
        assert steps[-1].n == sum(sizes)
        assert steps[-1].step.stop == Fraction(steps[-1].slice + 1, len(sizes))


@given(SIZES, st.integers(1, 300))
def test_units_add_up_for_every_pattern_of_empty_slices(sizes, total):
    steps = regression(sizes)
    trained = sum(s.step.units(total) for s in steps)
    last = max((r + 1 for r, n in enumerate(sizes) if n), default=0)
    assert trained == total * last // len(sizes)
    if sizes[-1]:
        assert trained == total


@given(st.integers(1, 8), st.data())
def test_presentations_add_up_for_every_pattern_of_empty_slices(n_slices, data):
    """A skipped slice's epochs are made up over the next prefix; counted as if every slice had its share."""
    there = data.draw(st.lists(st.booleans(), min_size=n_slices, max_size=n_slices))
    context = replace(REGRESSION, n_slices=n_slices)
    steps = plan_shard(context, 0, [facts(7 if t else 0, tag=str(r)) for r, t in enumerate(there)])
    # A prefix that ends with slice r stands for the share (r + 1) / R of the shard.
    total = sum(s.step.epochs * Fraction(s.slice + 1, n_slices) for s in steps)
    last = max((r + 1 for r, t in enumerate(there) if t), default=0)
    assert total == Fraction(last * (last + 1), n_slices * (n_slices + 1))


@pytest.mark.parametrize("n_slices", [1, 2, 5, 10])
def test_epochs_are_those_of_the_paper(n_slices):
    steps = regression([6] * n_slices)
    assert {s.step.epochs for s in steps} == {Fraction(2, n_slices + 1)}
    assert sum(s.step.epochs * s.n for s in steps) == 6 * n_slices


def test_the_whole_budget_at_once_is_whole_epochs():
    assert all(epochs(Fraction(0), Fraction(1), r) == 1 for r in range(1, 20))


@given(CLASSES)
def test_a_gained_class_restarts_with_the_whole_budget_so_far(sets):
    context, _, steps = classes_of(sets)
    seen = set()
    for step in steps:
        gained = sets[step.slice] - seen
        seen |= sets[step.slice]
        assert step.classes == tuple(sorted(seen))
        assert step.constant == (len(seen) == 1)
        if gained:
            assert step.parent is None
            assert step.n_old == 0
            assert step.step.start == 0
            assert step.step.stop == Fraction(step.slice + 1, context.n_slices)
        elif not step.constant:
            assert step.parent is not None


@given(CLASSES)
def test_no_step_depends_on_a_later_slice(sets):
    context, slices, steps = classes_of(sets)
    for cut in range(len(slices)):
        shortened = plan_shard(context, 0, [*slices[: cut + 1], *[EMPTY] * (len(slices) - cut - 1)])
        assert shortened == tuple(s for s in steps if s.slice <= cut)


@given(CLASSES)
def test_a_learner_of_absent_classes_sees_all_and_never_restarts(sets):
    context, slices, _ = classes_of(sets)
    steps = plan_shard(replace(context, absent_classes=True), 0, slices)
    assert all(s.classes == (0, 1, 2) and not s.constant for s in steps)
    assert [s.parent for s in steps[1:]] == [s.key for s in steps[:-1]]


@given(CLASSES)
def test_a_learner_that_cannot_resume_starts_each_step_with_all(sets):
    context, slices, _ = classes_of(sets)
    for step in plan_shard(replace(context, resumable=False), 0, slices):
        assert step.parent is None
        assert step.n_old == 0
        assert step.step.whole


def test_a_step_that_cannot_resume_still_depends_on_all_slices_before():
    context = replace(REGRESSION, resumable=False)
    one, other = (plan_shard(context, 0, [facts(3, tag=t), facts(3, tag="same")]) for t in "ab")
    assert one[1].key != other[1].key


def test_an_empty_shard_has_no_step():
    assert plan_shard(CONTEXT, 0, [EMPTY] * 4) == ()


def test_each_step_has_its_own_seed():
    seeds = {step_seed(seed, shard, r) for seed in range(5) for shard in range(5) for r in range(5)}
    assert len(seeds) == 125
    assert all(0 <= s < 2**31 for s in seeds)


def test_a_plan_replaces_shards():
    shards = tuple(plan_shard(REGRESSION, s, [facts(3)] * 4) for s in range(3))
    changed = Plan(shards).with_shards({1: ()})
    assert changed.shards == (shards[0], (), shards[2])
    assert changed.keys == {s.key for s in (*shards[0], *shards[2])}


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sets(st.integers(0, 2), min_size=1)), min_size=1, max_size=9),
    st.data(),
)
def test_steps_that_are_known_are_taken_over(slices, data):
    known = [facts(n, classes if n else (), tag=str(r)) for r, (n, classes) in enumerate(slices)]
    context = replace(
        CONTEXT,
        n_slices=data.draw(st.integers(1, len(slices))),
        checkpoint_every=data.draw(st.integers(1, 3)),
        resumable=data.draw(st.booleans()),
        absent_classes=data.draw(st.booleans()),
        n_classes=data.draw(st.sampled_from([3, None])),
    )
    changed = data.draw(st.integers(0, len(slices) - 1))
    others = [*known[:changed], facts(data.draw(st.integers(0, 2)), tag="other"), *known[changed + 1 :]]
    before = [step for step in plan_shard(context, 0, known) if step.place < changed]
    assert plan_shard(context, 0, others, before) == plan_shard(context, 0, others)
