"""The crash harness: a process that has everything imported, and forks a child for each kill.

It is asked by lines of JSON on its standard input, and answers each by one on its standard output::

    {"do": "kill", "phase": "fit", "part": [0, 2], "most": 20}

By hand: the same as arguments of ``python tests/crash/harness.py``.
"""

from __future__ import annotations

import errno
import gc
import json
import logging
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import broken
import edits
import marks
import model
import places
import scenarios
import tracing
from judging import judge
from scenarios import PHASES, TEMPLATES, groups, make_template, reference

CODES = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES}
FAILING = {"write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "link", "mkdir", "ftruncate", "openat"}


class Harness:
    """Kills and errors in the phases of one store.

    Parameters
    ----------
    scratch : str
        A folder of its own.
    failpoints : bool
        Do without strace.
    """

    def __init__(self, scratch, *, failpoints=False):
        self.scratch = Path(scratch)
        self.failpoints = failpoints or not tracing.has_strace()
        self.trial = str(self.scratch / "crash-store")
        self._operations = {}

    def template(self, name):
        """The folder with what is there before a phase."""
        folder = self.scratch / name
        before, _ = TEMPLATES[name]
        if before is not None and not folder.exists():
            self.template(before)
            tracing.in_child(make_template, name, str(folder))
        return folder

    def live(self, phase, *, start=None, **options):
        """Let a child live through a phase; `start` is a folder to begin with, in place of the template."""
        places.copy(start or self.template(PHASES[phase].template), self.trial)
        options.setdefault("failpoints", self.failpoints)
        return tracing.live(PHASES[phase].act, self.trial, scratch=self.scratch, **options)

    def operations(self, phase):
        """What a child does in a phase that nothing disturbs."""
        if phase not in self._operations:
            outcome = self.live(phase)
            if outcome.killed or outcome.error:
                raise RuntimeError(f"The phase {phase} does not even go well by itself: {outcome.error}")
            wrong = self.judge(phase, outcome)
            if wrong:
                raise RuntimeError(f"The phase {phase} is not right even by itself: {wrong}")
            self._operations[phase] = outcome.operations
        return self._operations[phase]

    def judge(self, phase, outcome, *, refit=False):
        """What is wrong with the store as a child has left it."""
        return tracing.in_child(judge, self.trial, phase, outcome.acks, refit)

    def points(self, phase, repeats):
        """The kill points of a phase."""
        return tracing.points(self.operations(phase), repeats)

    def count(self, phases):
        """The kinds of kill points in phases."""
        kinds = {f"{phase}: {point.kind}" for phase in phases for point in self.points(phase, (0.0,))}
        return {"kinds": sorted(kinds), "findings": []}

    def kill(self, phase, part=(0, 1), most=10**6, repeats=(0.0, 1.0), seconds=None, about="", until=None):
        """Kill a child at the points of a phase whose call site matches `about`, and judge after each.

        With `until`, no further than to the first finding that contains it.
        """
        everything = [point for point in self.points(phase, repeats) if re.search(about, point.site)]
        chosen = tracing.spread(everything, most)[part[0] :: part[1]]
        report = Report(phase, self.failpoints, len(everything))
        for i, point in enumerate(chosen):
            if report.over(seconds):
                break
            outcome = self.live(phase, kill=point)
            again = PHASES[phase].new and i % 2 == 1
            report.add(outcome, self.judge(phase, outcome, refit=again), point)
            if until is not None and any(until in finding for finding in report.findings):
                break
        return report.as_dict()

    def kill_twice(self, phase, most=20, start=0.0, repeats=(0.0, 1.0), each=1, seconds=None):
        """Kill a child, kill the one that recovers, and judge after that.

        Parameters
        ----------
        phase : str
        most : int
            At how many points the first is killed, from `start` on, a share of the way.
        each : int
            At how many points of each recovery the second is killed.
        """
        points = self.points(phase, (1.0,))
        chosen = tracing.spread(points[int(start * len(points)) :], most)
        report = Report(f"recovery of {phase}", self.failpoints, 0)
        crashed = self.scratch / "crashed"
        for i, point in enumerate(chosen):
            first = self.live(phase, kill=point)
            places.copy(self.trial, crashed)
            recovering = self.recover(crashed)
            second = tracing.points(recovering.operations, repeats)
            report.there += len(second)
            # Which of them is drawn, but always in the same way.
            shuffled = random.Random(i).sample(second, len(second))
            for next_point in shuffled[:each]:
                if report.over(seconds):
                    return report.as_dict()
                outcome = self.recover(crashed, kill=next_point)
                both = tracing.Outcome(outcome.killed, first.acks + outcome.acks, None, (), outcome.at)
                report.add(both, self.judge(phase, both), next_point)
        return report.as_dict()

    def recover(self, crashed, **options):
        """Let a child go on with a store that another has left."""
        places.copy(crashed, self.trial)
        options.setdefault("failpoints", self.failpoints)
        return tracing.live(_go_on, self.trial, scratch=self.scratch, **options)

    def errors(self, phase, part=(0, 1), most=10**6, repeats=(0.0, 1.0), seconds=None):
        """Answer the operations of a phase with errors, and judge after each."""
        if self.failpoints:
            everything = self.points(phase, repeats)
        else:
            # An error of an opening is traced too, which a kill is not: nothing is written by it.
            quiet = tracing.Operation("fsync", "", "", 65_535)
            operations = self.live(phase, errors=(quiet, errno.EIO, False)).operations
            everything = [point for point in tracing.points(operations, repeats) if point.call in FAILING]
        pairs = [
            (point, code, (i + j) % 3 == 2)
            for i, point in enumerate(everything)
            for j, code in enumerate(_codes(point, i))
        ]
        chosen = tracing.spread(pairs, most)[part[0] :: part[1]]
        report = Report(f"errors in {phase}", self.failpoints, len(pairs))
        for point, code, lasting in chosen:
            if report.over(seconds):
                break
            outcome = self.live(
                phase, errors=(point, CODES[code], lasting), again=not lasting and PHASES[phase].repeatable
            )
            findings = self.judge(phase, outcome)
            if outcome.killed:
                findings.append("the process was killed")
            if outcome.error is not None and not outcome.error[2]:
                findings.append(f"not an error of the package: {outcome.error[0]}: {outcome.error[1]}")
            if outcome.error_again is not None:
                findings.append(f"tried again by the same process: {outcome.error_again[:2]}")
            report.raised += outcome.error is not None
            how = f"{code} {'from here on' if lasting else 'once'}: {point.kind}"
            report.add(outcome, findings, point, at=how)
        return report.as_dict()


def _go_on(path, tell):
    """Open the store, or fit it if there is none yet."""
    from unlearnkit.store import SETTINGS

    store = places.at(path)
    founded = store.exists and store.ledger.note(SETTINGS) is not None
    scenarios.close(places.load(path) if founded else scenarios.fit(path))


def _codes(point, i):
    """The errors to answer an operation with: all that make a difference, for what the file system does to data."""
    names = list(CODES)
    if point.call not in {"write", "pwrite64", "fsync", "fdatasync", "rename"}:
        return names[i % 3 :][:1]
    if point.target.startswith((".tmp", "ledger")):
        # To SQLite it is a full disk, or any other error.
        return ["ENOSPC", names[1 + i % 2]]
    return names


class Report:
    """What was tried, and what was found."""

    def __init__(self, name, failpoints, there):
        self.name, self.failpoints, self.there = name, failpoints, there
        self.began = time.monotonic()
        self.tried = self.killed = self.raised = 0
        self.kinds, self.findings = set(), []

    def over(self, seconds):
        return seconds is not None and time.monotonic() - self.began > seconds

    def add(self, outcome, findings, point, at=None):
        """Count one more trial."""
        self.tried += 1
        self.killed += outcome.killed
        at = at or outcome.at or f"not reached: {point.kind}"
        if outcome.killed or not at.startswith("not reached"):
            self.kinds.add(at)
        error = f"; it raised {outcome.error[0]}: {outcome.error[1]}" if outcome.error else ""
        self.findings += [f"{at}{error}\n    {finding}" for finding in findings]

    def as_dict(self):
        return {
            "name": self.name,
            "means": "failpoints" if self.failpoints else "strace",
            "points": self.there,
            "tried": self.tried,
            "killed": self.killed,
            "raised": self.raised,
            "kinds": sorted(self.kinds),
            "findings": self.findings,
            "seconds": round(time.monotonic() - self.began, 1),
        }


def prepare(scratch):
    """Import and compute all that no child should have to."""
    # The pool of connections tells at length of each that it had to give up.
    logging.disable(logging.CRITICAL)
    model.install()
    marks.install()
    every = groups()
    for count in range(len(every) + 1):
        reference(frozenset(i for ids in every[:count] for i in ids))
    for name in edits.EDITS:
        for stage in range(len(edits.operations()) + 1):
            edits.after(stage, refresh=name == "refresh")
    # What is imported late is imported by living once through all of it.
    path = str(Path(scratch) / "warm")
    scenarios.close(scenarios.fit(path))
    for phase in ("forget", "expire"):
        PHASES[phase].act(path, lambda *_: None)
    wrong = judge(path, "forget", [])
    if wrong:
        raise RuntimeError(f"Not even an undisturbed life is right: {wrong}")
    gc.collect()


@cache
def memory():
    """A folder whose files are in memory, if there is one: a process that is killed leaves the same in both."""
    found = Path("/dev/shm")
    return str(found) if os.access(found, os.W_OK) and shutil.disk_usage(found).free > 1 << 28 else None


class Desk:
    """Answers questions, each with a harness that keeps what it has found out.

    Parameters
    ----------
    scratch : str
        A folder for all of them.
    """

    def __init__(self, scratch):
        self.scratch = scratch
        self._harnesses = {}

    def harness(self, *, failpoints, server):
        """The harness that works by these means."""
        known = failpoints, server
        if known not in self._harnesses:
            self._harnesses[known] = Harness(tempfile.mkdtemp(dir=self.scratch), failpoints=failpoints)
        return self._harnesses[known]

    def answer(self, question):
        """Do what is asked for."""
        question = dict(question)
        name = question.pop("do")
        server = question.pop("server", None)
        # What a client of a server does on its own, no trace of files shows.
        harness = self.harness(failpoints=question.pop("failpoints", False) or server is not None, server=server)
        places.use(server)
        breaking = question.pop("broken", None)
        if breaking is not None:
            return tracing.in_child(_broken, harness, breaking, name, question)
        return getattr(harness, name)(**question)


def _broken(harness, name, do, question):
    phase, breaking = broken.BROKEN[name]
    # The store that it starts from is whole.
    harness.template(PHASES[phase].template)
    harness._operations.clear()
    breaking()
    return getattr(harness, do)(phase, **question)


def main():
    """Answer until nothing more is asked."""
    # So that the folder is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with tempfile.TemporaryDirectory(prefix="unlearnkit-crash-", dir=memory()) as scratch:
        prepare(scratch)
        desk = Desk(scratch)
        for line in sys.argv[1:] or sys.stdin:
            try:
                report = desk.answer(json.loads(line))
            except Exception as error:  # noqa: BLE001
                report = {"failed": f"{type(error).__name__}: {error}"}
            if sys.argv[1:]:
                report["kinds"] = len(report.get("kinds", ()))
            sys.stdout.write(json.dumps(report, indent=1 if sys.argv[1:] else None) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
