"""Kill anywhere: whatever a process was doing in a store, the next one goes on as if nothing had happened.

A few points in ``make test``, all of them in ``make test-crash``.
"""

from __future__ import annotations

import os

import pytest

WHOLE = os.environ.get("UNLEARNKIT_CRASH") == "whole"
# One harness for the few: getting it ready takes longer than most of them.
pytestmark = [] if WHOLE else [pytest.mark.xdist_group("crash")]
PHASES = ("fit", "submit", "isolate", "purge", "repair", "forget", "drop", "readmit", "expire", "save")
PHASES += ("arrive", "rectify", "consolidate", "refresh")
# `save` makes a folder of its own, with a file for its ledger.
ON_SERVER = tuple(phase for phase in PHASES if phase != "save")
# Parts of about the same length, so that two workers are done at about the same time.
PARTS = (
    {"fit": 2, "isolate": 4, "purge": 2, "repair": 2, "forget": 6, "readmit": 2, "save": 2, "rectify": 2}
    if WHOLE
    else {}
)
CASES = [(phase, part) for phase in PHASES for part in range(PARTS.get(phase, 1))]
FEW = 4
ENOUGH = 300


def parts(phase, part):
    return {"phase": phase, "part": [part, PARTS.get(phase, 1)]}


def some(count):
    return {} if WHOLE else {"most": count}


@pytest.mark.parametrize(("phase", "part"), CASES)
def test_a_killed_process_loses_nothing_and_leaves_nothing(crew, record_property, phase, part):
    report = crew.ask(do="kill", **parts(phase, part), **some(FEW))
    record_property(f"kill points by {report['means']}", [f"{phase}: {kind}" for kind in report["kinds"]])
    assert report["findings"] == []
    assert report["tried"] == report["killed"] >= FEW


@pytest.mark.parametrize("phase", ["fit", "purge", "repair", "forget", "readmit", "arrive", "consolidate"])
def test_a_recovery_may_be_killed_too(crew, record_property, phase):
    many = {"most": 30, "each": 2} if WHOLE else {"most": 2, "each": 1}
    report = crew.ask(do="kill_twice", phase=phase, **many)
    record_property(f"kill points by {report['means']}", [f"recovery of {phase}: {kind}" for kind in report["kinds"]])
    assert report["findings"] == []
    # A death at the last operations leaves nothing to do.
    assert report["killed"] == report["tried"] > 0


def test_every_operation_of_one_recovery_may_be_killed(crew, record_property):
    # After a death in the middle of a purge there is the most to put right.
    report = crew.ask(do="kill_twice", phase="purge", start=0.4, most=1, each=10**6 if WHOLE else 4)
    record_property(f"kill points by {report['means']}", [f"recovery of purge: {kind}" for kind in report["kinds"]])
    assert report["findings"] == []
    assert report["killed"] == report["tried"] >= 4


def test_there_are_enough_points(crew):
    # Different in operation and call site; that all of them are tried is asserted above.
    assert len(crew.ask(do="count", phases=PHASES if WHOLE else ["fit", "isolate"])["kinds"]) >= ENOUGH


@pytest.mark.parametrize("phase", ["fit", "submit", "forget"])
def test_failpoints_do_where_nothing_can_trace(crew, record_property, phase):
    report = crew.ask(do="kill", phase=phase, failpoints=True, most=40 if WHOLE else 3)
    record_property(f"kill points by {report['means']}", [f"{phase}: {kind}" for kind in report["kinds"]])
    assert report["means"] == "failpoints"
    assert report["findings"] == []
    assert report["tried"] == report["killed"] >= 3


@pytest.mark.parametrize("phase", ON_SERVER)
def test_a_killed_client_of_a_server_loses_nothing_and_leaves_nothing(crew, record_property, phase, postgres):
    report = crew.ask(do="kill", phase=phase, server=str(postgres.folder), **some(2))
    record_property("kill points of clients of a server", [f"{phase}: {kind}" for kind in report["kinds"]])
    assert report["findings"] == []
    # Connections are closed when they are collected: the last point may be one too many.
    assert report["killed"] >= report["tried"] - 1 > 0


@pytest.mark.parametrize("phase", ["purge", "forget"])
def test_the_recovery_of_a_client_of_a_server_may_be_killed_too(crew, record_property, phase, postgres):
    many = {"most": 15, "each": 2} if WHOLE else {"most": 1, "each": 1}
    report = crew.ask(do="kill_twice", phase=phase, server=str(postgres.folder), start=0.4, **many)
    record_property("kill points of clients of a server", [f"recovery of {phase}: {kind}" for kind in report["kinds"]])
    assert report["findings"] == []
    assert report["killed"] == report["tried"] > 0


def test_failpoints_find_out_a_store_that_is_broken(crew):
    told = "was acknowledged as received and is lost"
    report = crew.ask(do="kill", broken="acknowledge before commit", failpoints=True, most=30, until=told)
    assert any(told in finding for finding in report["findings"]), report["findings"]


def test_a_broken_client_of_a_server_is_found_out(crew, postgres):
    told = {"most": 8, "until": "is lost"}
    report = crew.ask(do="kill", broken="acknowledge before commit", server=str(postgres.folder), **told)
    assert any("is lost" in finding for finding in report["findings"]), report["findings"]


@pytest.mark.parametrize(
    ("broken", "told", "about"),
    [
        ("acknowledge before commit", "was acknowledged as received and is lost", ""),
        ("no purge on open", "not finished by the opening", ""),
        ("done before trained", "StateError", ""),
        (
            "half a rectification",
            "the plan is not that of the remaining records",
            r"store\.apply:\d+<ensemble\._rectified",
        ),
        (
            "half a consolidation",
            "schema and records are not of one moment",
            r"store\.apply:\d+<ensemble\._consolidated",
        ),
    ],
)
@pytest.mark.parametrize("failpoints", [False, True] if WHOLE else [False])
def test_a_store_that_is_broken_is_found_out(crew, broken, told, about, failpoints):
    few = 12 if about else 30
    many = {"most": 60 if WHOLE else few, "until": told}
    report = crew.ask(do="kill", broken=broken, failpoints=failpoints, about=about, **many)
    assert report["tried"] > 0
    assert any(told in finding for finding in report["findings"]), report["findings"]
