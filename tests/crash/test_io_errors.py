"""A disk that is full, broken or not ours: a clear error, nothing promised that is not so, and the store opens."""

from __future__ import annotations

import os

import pytest

WHOLE = os.environ.get("UNLEARNKIT_CRASH") == "whole"
# One harness for the few: getting it ready takes longer than most of them.
pytestmark = [] if WHOLE else [pytest.mark.xdist_group("crash")]
PHASES = ("fit", "submit", "isolate", "purge", "repair", "drop", "readmit", "expire", "save")
PHASES += ("arrive", "rectify", "consolidate", "refresh")
PARTS = (
    {"fit": 3, "isolate": 5, "purge": 3, "repair": 2, "drop": 2, "readmit": 2, "save": 3, "arrive": 2, "rectify": 4}
    if WHOLE
    else {}
)
CASES = [(phase, part) for phase in PHASES for part in range(PARTS.get(phase, 1))]
FEW = 4


@pytest.mark.parametrize(("phase", "part"), CASES)
def test_an_error_of_the_disk_is_told_and_nothing_is_lost(crew, record_property, phase, part):
    some = {"repeats": [0.0]} if WHOLE else {"most": FEW}
    report = crew.ask(do="errors", phase=phase, part=[part, PARTS.get(phase, 1)], **some)
    record_property(f"errors of the disk by {report['means']}", [f"{phase}: {kind}" for kind in report["kinds"]])
    assert report["findings"] == []
    assert report["tried"] >= FEW
    assert report["raised"] > 0


@pytest.mark.parametrize("phase", ["fit", "isolate"])
def test_failpoints_make_errors_where_nothing_can_trace(crew, record_property, phase):
    report = crew.ask(do="errors", phase=phase, failpoints=True, most=60 if WHOLE else 4)
    record_property(f"errors of the disk by {report['means']}", [f"{phase}: {kind}" for kind in report["kinds"]])
    assert report["findings"] == []
    assert report["raised"] > 0
