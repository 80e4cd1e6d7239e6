"""The crash harness as a fixture, and what it has done as a line at the end."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("harness.py")
LIMIT_S = 1200


class Crew:
    """A process of its own that does what is asked: it forks, which a process with threads had better not."""

    def __init__(self):
        environment = {name: value for name, value in os.environ.items() if not name.endswith(("_SECRET", "_KEY"))}
        # One thread: it forks.
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(HARNESS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=HARNESS.parent,
        )

    def ask(self, **question):
        """The report on one question."""
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], LIMIT_S)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            self._process.kill()
            pytest.fail(f"The harness gave no answer to {question}.")
        report = json.loads(line)
        assert "failed" not in report, report["failed"]
        return report

    def close(self):
        self._process.stdin.close()
        # It is at a question only if the tests were interrupted.
        self._process.terminate()
        try:
            self._process.wait(timeout=30)
        finally:
            self._process.kill()
            self._process.stdout.close()


@pytest.fixture(scope="session")
def crew():
    """The harness, ready to be asked."""
    crew = Crew()
    yield crew
    crew.close()


def pytest_terminal_summary(terminalreporter):
    """Say how many different points were tried, over all workers."""
    kinds = {}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            kinds.setdefault(name, set()).update(value)
    for name, found in sorted(kinds.items()):
        terminalreporter.write_line(f"{name}: {len(found)} different ones")
