"""The plan: which steps a model consists of, and the key of each. A pure function of records and configuration.

::

    root(shard)   = H(format, learner fingerprint, seed, n_slices, shard, schema digest, base digest)
    key(shard, r) = H(key of the last non-empty slice before r, or root; r, start, stop; digest of the rows of slice r)

A step's key changes if and only if something changes that its state depends on. What the store has no state for
is what must be trained.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

from unlearnkit.data import SliceFacts
from unlearnkit.hashing import chain, chain_framed, framed
from unlearnkit.learner import Step

FORMAT = 2
_STEP = framed("step")
NO_BASE = "no base"


@dataclass(frozen=True, slots=True)
class Context:
    """What all steps of a model have in common.

    Attributes
    ----------
    fingerprint : str
        Of the learner.
    seed : int
    n_slices : int
    schema_digest : str
    n_classes : int or None
        The classes of the schema; None for regression.
    resumable, absent_classes : bool
        As the learner declares.
    base : str
        The digest of the model that training starts from, and the key that it is stored under.
    checkpoint_every : int
        Which states are kept: of every so-manieth slice, and of the last. It is in no key.
    """

    fingerprint: str
    seed: int
    n_slices: int
    schema_digest: str
    n_classes: int | None
    resumable: bool
    absent_classes: bool
    base: str = NO_BASE
    checkpoint_every: int = 1


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step and its place in the chain.

    Attributes
    ----------
    step : Step
        What the learner is told.
    key : str
    parent : str or None
        The key of the state to train on from; None: start.
    n_old, n : int
        Rows of the prefix that the parent has seen, and rows of the prefix.
    classes : tuple of int or None
        The schema codes that the learner sees, in order; None for regression.
    constant : bool
        The prefix has one class only: the core holds it, the learner is not called.
    place : int
        Where the records of the step's slice are kept. Slices that arrived later are numbered without those that
        forgetting has emptied; their records stay where they are.
    kept : bool
        The state is stored. Others only pass through their bytes to the next step.
    """

    step: Step
    key: str
    parent: str | None
    n_old: int
    n: int
    classes: tuple[int, ...] | None
    constant: bool
    place: int
    kept: bool = True

    @property
    def shard(self) -> int:
        """The shard, counted from 0."""
        return self.step.shard

    @property
    def slice(self) -> int:
        """The slice, counted from 0."""
        return self.step.slice


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of every shard, in order of slices, none for empty ones; and the key of the base, if there is one."""

    shards: tuple[tuple[PlannedStep, ...], ...]
    base: str | None = None

    def __iter__(self) -> Iterator[PlannedStep]:
        return (step for shard in self.shards for step in shard)

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all states: of every step, and of the base."""
        steps = frozenset(step.key for step in self)
        return steps if self.base is None else steps | {self.base}

    @property
    def n_steps(self) -> int:
        """The number of all steps."""
        return sum(map(len, self.shards))

    def counts(self, n_slices: int) -> list[list[int]]:
        """The records of positive weight in each slice of each shard, as the steps number them."""
        counts = []
        for steps in self.shards:
            found = [0] * max([n_slices, *(step.slice + 1 for step in steps)])
            before = 0
            for step in steps:
                found[step.slice], before = step.n - before, step.n
            counts.append(found)
        return counts

    def differing(self, other: Plan) -> list[int]:
        """The shards whose steps are not those of another plan."""
        pairs = zip(self.shards, other.shards, strict=True)
        return [shard for shard, (own, theirs) in enumerate(pairs) if _differ(own, theirs)]

    def of_shards(self, shards: Container[int] | None) -> Plan:
        """The plan of these shards alone; None: of all."""
        if shards is None:
            return self
        return Plan(tuple(p if s in shards else () for s, p in enumerate(self.shards)), self.base)

    def with_shards(self, changed: dict[int, tuple[PlannedStep, ...]]) -> Plan:
        """The plan with these shards replaced."""
        return Plan(tuple(changed.get(s, steps) for s, steps in enumerate(self.shards)), self.base)


def _differ(own: Sequence[PlannedStep], theirs: Sequence[PlannedStep]) -> bool:
    # Keys first: to compare all that a step is takes ten times longer.
    return own is not theirs and ([step.key for step in own] != [step.key for step in theirs] or own != theirs)


def missing(steps: Sequence[PlannedStep], stored: Container[str]) -> tuple[PlannedStep, ...]:
    """The steps of a shard to train: from the first on that is to be kept and has no stored state under its key.

    And those before it that it goes on from, back to one that is stored. What no kept state goes on from is left out.
    """
    first = next((i for i, step in enumerate(steps) if step.kept and step.key not in stored), None)
    if first is None:
        return ()
    return _leading(steps, lambda i: i >= first or steps[i].key not in stored, first)


def needed(steps: Sequence[PlannedStep]) -> tuple[PlannedStep, ...]:
    """The steps of a shard that take part in a state that is kept."""
    return _leading(steps, lambda _: True, 0)


def _leading(steps: Sequence[PlannedStep], is_open: Callable[[int], bool], first: int) -> tuple[PlannedStep, ...]:
    """The kept steps from `first` on, and every open step that one of them goes on from."""
    found: list[PlannedStep] = []
    parents: set[str | None] = set()
    for i in reversed(range(len(steps))):
        step = steps[i]
        if (step.kept and i >= first) or (step.key in parents and is_open(i)):
            found.append(step)
            parents.add(step.parent)
    return tuple(reversed(found))


def standing(steps: Sequence[PlannedStep], stored: Container[str]) -> PlannedStep | None:
    """The step whose state a shard serves: the last that is stored before the first to train."""
    due = missing(steps, stored)
    before = steps[: steps.index(due[0])] if due else steps
    return next((step for step in reversed(before) if step.key in stored), None)


def repeated(context: Context, steps: Sequence[PlannedStep], place: int) -> tuple[PlannedStep, ...]:
    """The steps before a place that are trained again with what changed there, because their states are not kept."""
    before = {step.key for step in steps if step.place < place and _is_due(context, step.slice)}
    return tuple(step for step in missing(steps, before) if step.place < place)


def _is_due(context: Context, r: int) -> bool:
    return (r + 1) % context.checkpoint_every == 0


def plan_all(context: Context, facts: Iterable[Sequence[SliceFacts]]) -> Plan:
    """The plan of a model from the facts of the slices of each shard."""
    shards = tuple(plan_shard(context, shard, slices) for shard, slices in enumerate(facts))
    return Plan(shards, None if context.base == NO_BASE else context.base)


def plan_shard(
    context: Context, shard: int, slices: Sequence[SliceFacts], known: Sequence[PlannedStep] = ()
) -> tuple[PlannedStep, ...]:
    """The steps of one shard, from the facts of its slices.

    Parameters
    ----------
    context : Context
    shard : int
    slices : sequence of SliceFacts
    known : sequence of PlannedStep
        The first steps, where they are known: of slices whose facts, and those of all before them, have not changed.
    """
    steps = list(known)
    numbered_slices = list(_numbered(slices, context.n_slices))
    seen = frozenset[int]().union(*(facts.classes for _, _, facts in numbered_slices[: len(steps)]))
    n = steps[-1].n if steps else 0
    for place, r, facts in numbered_slices[len(steps) :]:
        n += facts.n
        gained = bool(facts.classes - seen)
        seen |= facts.classes
        previous = steps[-1] if steps else None
        step = _plan_step(context, shard, r, place, facts, previous=previous, seen=seen, n=n, gained=gained)
        steps.append(step)
    last = len(steps) - 1
    keeping = [i == last or _is_due(context, step.slice) for i, step in enumerate(steps)]
    return tuple(
        step if step.kept == kept else replace(step, kept=kept) for step, kept in zip(steps, keeping, strict=True)
    )


def _numbered(slices: Sequence[SliceFacts], n_slices: int) -> Iterator[tuple[int, int, SliceFacts]]:
    """Place, number and facts of each slice that is not empty.

    What arrived later is numbered by what is left of it: an arrival that was forgotten whole has never been.
    """
    arrived = n_slices
    for place, facts in enumerate(slices):
        if facts.n:
            yield place, place if place < n_slices else arrived, facts
            arrived += place >= n_slices


def numbered(slices: Sequence[SliceFacts], place: int, n_slices: int) -> int:
    """The number of the slice at a place, as the steps count."""
    return place if place < n_slices else n_slices + sum(facts.n > 0 for facts in slices[n_slices:place])


def _plan_step(
    context: Context,
    shard: int,
    r: int,
    place: int,
    facts: SliceFacts,
    *,
    previous: PlannedStep | None,
    seen: frozenset[int],
    n: int,
    gained: bool,
) -> PlannedStep:
    constant = context.n_classes is not None and not context.absent_classes and len(seen) == 1
    restart = previous is None or not context.resumable or (gained and not context.absent_classes)
    # After a constant of the same class comes another: neither holds any training to go on from.
    parent = None if previous is None or restart or constant else previous
    # A learner that goes on has had the slices up to that of its parent; another has the whole budget.
    done, due = 0 if parent is None else parent.slice + 1, r + 1 if context.resumable else context.n_slices
    step, named = _step(context.seed, (shard, r), (done, due), context.n_slices)
    chained = root(context, shard) if previous is None else previous.key
    return PlannedStep(
        step=step,
        key=chain_framed(_STEP, framed(chained), named, framed(facts.digest)),
        parent=None if parent is None else parent.key,
        n_old=0 if parent is None else parent.n,
        n=n,
        classes=_visible_classes(context, seen),
        constant=constant,
        place=place,
    )


def _visible_classes(context: Context, seen: frozenset[int]) -> tuple[int, ...] | None:
    if context.n_classes is None:
        return None
    return tuple(range(context.n_classes)) if context.absent_classes else tuple(sorted(seen))


def root(context: Context, shard: int) -> str:
    """The key that a shard's chain hangs on."""
    return chain(
        "root", FORMAT, context.fingerprint, context.seed, context.n_slices, shard, context.schema_digest, context.base
    )


def step_seed(seed: int, shard: int, r: int) -> int:
    """The seed of a step, below 2**31: every step has its own, so that no bag is drawn twice."""
    return int(chain("seed", seed, shard, r)[:16], 16) % 2**31


@lru_cache(maxsize=1 << 14)
def _step(seed: int, cell: tuple[int, int], budget: tuple[int, int], n_slices: int) -> tuple[Step, bytes]:
    """The step of a shard and slice that takes the budget from so many slices to so many, and its part of the key."""
    start, stop = (Fraction(slices, n_slices) for slices in budget)
    step = Step(*cell, start, stop, epochs(start, stop, n_slices), step_seed(seed, *cell))
    return step, framed(cell[1], str(start), str(stop))


def epochs(start: Fraction, stop: Fraction, n_slices: int) -> Fraction:
    """Epochs over the prefix that keep the total of sample presentations whatever the slicing.

    Training slice by slice, each for 2/(R+1) epochs over all slices so far, presents as many samples as one epoch
    over the shard (Bourtoule et al. 2021, section V). A step that covers several slices' budget gets their sum,
    counted over its own prefix.

    Examples
    --------
    >>> [str(epochs(Fraction(r, 4), Fraction(r + 1, 4), 4)) for r in range(4)]
    ['2/5', '2/5', '2/5', '2/5']
    >>> epochs(Fraction(0), Fraction(1), 1)
    Fraction(1, 1)
    """
    a, b = start * n_slices, stop * n_slices
    if b == 0:
        return Fraction(0)
    # A learner that starts anew with the whole budget trains whole epochs, whatever share of the slices is there.
    return (b * (b + 1) - a * (a + 1)) / (b * (n_slices + 1))
