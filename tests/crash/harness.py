"""The crash harness: a process that has everything imported, and forks a child for each kill.

It is asked by lines of JSON on its standard input, and answers each by one on its standard output::

    {"do": "kill", "phase": "fit", "part": [0, 2], "most": 20}

By hand: ``python tests/crash/harness.py fit 0.5`` tries the kill points of a phase for half a minute.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import broken
import marks
import model
import scenarios
import tracing
from judging import judge
from scenarios import PHASES, TEMPLATES, copy_store, groups, make_template, reference

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
        copy_store(start or self.template(PHASES[phase].template), self.trial)
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

    def kill(self, phase, part=(0, 1), most=10**6, repeats=(0.0, 1.0), seconds=None):
        """Kill a child at the points of a phase, and judge after each."""
        everything = self.points(phase, repeats)
        chosen = tracing.spread(everything, most)[part[0] :: part[1]]
        report = Report(phase, self.failpoints, len(everything))
        for i, point in enumerate(chosen):
            if report.over(seconds):
                break
            outcome = self.live(phase, kill=point)
            again = PHASES[phase].new and i % 2 == 1
            report.add(outcome, self.judge(phase, outcome, refit=again), point)
        return report.as_dict()

    def kill_twice(self, phase, most=20, part=(0, 1), repeats=(0.0, 1.0), each=1, seconds=None):
        """Kill a child, kill the one that recovers, and judge after that."""
        chosen = tracing.spread(self.points(phase, (1.0,)), most)[part[0] :: part[1]]
        report = Report(f"recovery of {phase}", self.failpoints, 0)
        crashed = self.scratch / "crashed"
        for i, point in enumerate(chosen):
            first = self.live(phase, kill=point)
            copy_store(self.trial, crashed)
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
        copy_store(crashed, self.trial)
        options.setdefault("failpoints", self.failpoints)
        return tracing.live(_go_on, self.trial, scratch=self.scratch, **options)

    def errors(self, phase, part=(0, 1), most=10**6, repeats=(0.0, 1.0), codes=tuple(CODES), seconds=None):
        """Answer the operations of a phase with errors, and judge after each."""
        if self.failpoints:
            everything = self.points(phase, repeats)
        else:
            # An error of an opening is traced too, which a kill is not: nothing is written by it.
            quiet = tracing.Operation("mkdir", "", "", 65_535)
            operations = self.live(phase, errors=(quiet, errno.EIO, False)).operations
            everything = [point for point in tracing.points(operations, repeats) if point.call in FAILING]
        pairs = [(point, code, (i + j) % 3 == 2) for i, point in enumerate(everything) for j, code in enumerate(codes)]
        # Not all codes of one operation beside each other, so that a spread has all of them.
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
    from unlearnkit import load
    from unlearnkit.store import SETTINGS, Store

    store = Store.at(path)
    founded = store.exists and store.ledger.note(SETTINGS) is not None
    scenarios.close(load(path) if founded else scenarios.fit(path))


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


def prepare():
    """Import and compute all that no child should have to."""
    import filelock  # noqa: F401
    import sqlalchemy  # noqa: F401

    from unlearnkit import statements  # noqa: F401

    model.install()
    marks.install()
    every = groups()
    for count in range(len(every) + 1):
        reference(frozenset(i for ids in every[:count] for i in ids))


@cache
def memory():
    """A folder whose files are in memory, if there is one: a process that is killed leaves the same in both."""
    found = Path("/dev/shm")
    return str(found) if os.access(found, os.W_OK) and shutil.disk_usage(found).free > 1 << 28 else None


def answer(scratch, question):
    """Do what is asked for."""
    name = question.pop("do")
    mutant = question.pop("broken", None)
    harness = Harness(tempfile.mkdtemp(dir=scratch), failpoints=question.pop("failpoints", False))
    try:
        if mutant is not None:
            return tracing.in_child(_broken, harness, mutant, name, question)
        return getattr(harness, name)(**question)
    finally:
        shutil.rmtree(harness.scratch, ignore_errors=True)


def _broken(harness, mutant, name, question):
    phase, breaking = broken.BROKEN[mutant]
    # The store that it starts from is whole.
    harness.template(PHASES[phase].template)
    harness.operations(phase)
    breaking()
    harness._operations.clear()
    return getattr(harness, name)(phase, **question)


def main():
    """Answer until nothing more is asked."""
    prepare()
    with tempfile.TemporaryDirectory(prefix="unlearnkit-crash-", dir=memory()) as scratch:
        if sys.argv[1:]:
            for question in sys.argv[1:]:
                report = answer(scratch, json.loads(question))
                print(json.dumps(report | {"kinds": len(report["kinds"])}, indent=1), flush=True)
            return
        for line in sys.stdin:
            try:
                report = answer(scratch, json.loads(line))
            except Exception as error:  # noqa: BLE001
                report = {"failed": f"{type(error).__name__}: {error}"}
            print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
