"""The report: its facts are those of the ledger, and nothing gets in that must not."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier
from typer.testing import CliRunner

from unlearnkit import SISAClassifier, Store, load, membership_audit
from unlearnkit.attesting import naming, signed
from unlearnkit.cli import app
from unlearnkit.errors import StoreError
from unlearnkit.figures import heat_map
from unlearnkit.ledger import Change, Request
from unlearnkit.policy import Policy, now
from unlearnkit.report import facts_of, page
from unlearnkit.report.timeline import LEFT, MOST_GROUPS, NEWEST, RIGHT, grouped, shown, timeline

pytest.importorskip("jinja2")
pytest.importorskip("sqlalchemy")
pytest.importorskip("unlearnkit_sklearn")

COPY = "backups of the <bank> & others"


@pytest.fixture
def path(tmp_path, helpers):
    X, y, ids = helpers.rows()
    path = tmp_path / "toy.sisa"
    store = Store.at(path, policy=Policy(regime="CCPA", copies=(COPY,)))
    model = SISAClassifier(SGDClassifier(loss="log_loss"), n_shards=3, n_slices=2, store=store, random_state=0)
    model.fit(X, y, ids=ids)
    return path


def some(n, start=0):
    """Ids of records of the store."""
    return np.arange(1000 + start, 1000 + start + n).tolist()


def shift(path, sequence, **times):
    """Move the times of a request."""
    ledger = Store.at(path).ledger
    request = ledger.request(sequence)
    facts = request.facts | {name: time.isoformat() for name, time in times.items()}
    ledger.apply(Change(requests=(replace(request, facts=facts),)))


def many(path, n, days=900):
    """Requests of a long life, signed; the last of them are open, and so is the first, for much too long."""
    store, start = Store.at(path), now() - timedelta(days=days)
    known, requests = store.ledger.request(1).facts, []
    for i in range(n):
        at = start + timedelta(days=days * i / n)
        # Every tenth was too late.
        done = at + timedelta(days=40 if i % 10 == 9 else 1)
        times = {"received_at": at, "due_at": at + timedelta(days=30), "isolated_at": done, "purged_at": done}
        facts = known | {name: time.isoformat() for name, time in times.items()} | {"repaired_at": done.isoformat()}
        facts.pop("purge_statement")
        is_open = i == 0 or i >= n - 3
        left = {name: facts[name] for name in ("received_at", "due_at", "n_ids", "regime")}
        requests.append(Request(state="received", facts=left) if is_open else Request(state="repaired", facts=facts))
    sequences = store.ledger.submit(requests)
    done = [replace(r, sequence=s) for r, s in zip(requests, sequences, strict=True) if r.state == "repaired"]
    first, notes = signed(store, done, "purged")
    done = list(naming(done, first))
    second, notes = signed(store, done, "repaired", after=notes)
    store.ledger.apply(Change(requests=tuple(done), statements=first + second, notes=notes))


def section(html, name):
    found = re.search(rf'<section id="{name}".*?</section>', html, re.DOTALL)
    assert found, name
    return found[0]


def words(html):
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


# -- facts -------------------------------------------------------------------------------------------------------------


def test_the_digest_is_that_of_the_model(path):
    model = load(path)
    model.forget(some(2))
    model.forget(some(2, start=5), repair=False)

    assert facts_of(Store.at(path)).digest == model.model_digest_


def test_deadlines_are_met_late_due_or_overdue(path):
    model = load(path)
    for start in range(2):
        model.forget(some(1, start))
    Store.at(path).submit([some(1, 5), some(1, 6), 424242])
    shift(path, 2, due_at=now() - timedelta(days=1))
    shift(path, 3, due_at=now() + timedelta(days=1))
    shift(path, 4, due_at=now() - timedelta(days=1))
    found = facts_of(Store.at(path))
    assert [r.timeliness for r in found.requests] == ["met", "late", "due", "overdue", "due"]
    assert found.timeliness == {"met": 1, "due": 2, "late": 1, "overdue": 1, "no record": 0}
    assert any("past its deadline" in finding for finding in found.findings)

    load(path)
    found = facts_of(Store.at(path))
    assert [r.timeliness for r in found.requests] == ["met", "late", "met", "late", "no record"]


def test_every_statement_agrees_with_the_ledger_through_a_whole_life(path, helpers):
    X, y, _ = helpers.rows(n=8, seed=3)
    model = load(path)
    model.forget(some(3))
    model.forget(some(3, start=1), repair=False)
    Store.at(path).submit([some(1, 8), 424242, some(2, 9)])
    model = load(path)
    model.partial_fit(X, y, ids=np.arange(8) + 5000)
    model.rectify(X[:1], y[:1], ids=[5000])
    model.forget([5001], repair=False)
    model.consolidate()
    model.forget([5002])
    found = facts_of(Store.at(path))

    assert found.proof.findings == ()
    assert all(request.agrees for request in found.requests)
    assert found.proof.n_statements == sum(len(request.stated) for request in found.requests) == 15
    assert {r.state for r in found.requests} == {"repaired", "rejected"}


@pytest.mark.parametrize(
    ("fact", "value"), [("n_records", 7), ("digest_after", "0" * 64), ("states_destroyed", 0), ("n_ids", 9)]
)
def test_a_ledger_that_says_something_else_than_was_signed_is_found(path, fact, value):
    load(path).forget(some(2))
    ledger = Store.at(path).ledger
    request = ledger.request(1)
    ledger.apply(Change(requests=(replace(request, facts=request.facts | {fact: value}),)))
    found = facts_of(Store.at(path))

    assert not found.requests[0].agrees
    assert any("request 1: the ledger no longer says what was signed" in finding for finding in found.findings)
    assert "DOES NOT HOLD" in section(page(found), "receipts")


def test_a_chain_that_does_not_hold_is_told_of(path):
    load(path).forget(some(2))
    store = Store.at(path)
    store.ledger.apply(Change(statements=store.ledger.statements()[:1]))
    found = facts_of(Store.at(path))
    assert found.findings
    html = page(found)
    assert "The chain does not hold" in section(html, "chain")
    assert "Needs attention" in html
    assert "Verified when this report was made" not in html


def test_without_a_public_key_nothing_counts_as_verified(path):
    load(path).forget(some(2))
    for name in ("signing.pub", "signing.key"):
        (path / "keys" / name).unlink()
    found = facts_of(Store.at(path))

    assert not found.proof.sound
    assert "could not be verified" in found.findings[0]
    assert not found.requests[0].agrees


def test_shards_tell_what_is_left_what_waits_and_how_often_they_were_repaired(path):
    model = load(path)
    receipt = model.forget(some(1))
    later = model.forget(some(2, start=7), repair=False)
    found = facts_of(Store.at(path))

    assert [row.records for row in found.shards] == [row.records for row in model._ensemble.layout]
    assert [row.due for row in found.shards] == [row.due for row in model._ensemble.layout]
    assert {s for s, row in enumerate(found.shards) if row.degraded} == set(later.shards)
    assert {s for s, row in enumerate(found.shards) if row.repairs} == set(receipt.shards)
    assert sum(row.built for row in found.shards) == 60
    assert heat_map(found.shards, 2) in page(found)
    assert '<th scope="col">built with</th>' in page(found)


def test_what_is_outside_control_is_named(path):
    told = " ".join(facts_of(Store.at(path)).outside)
    assert COPY in told
    assert "base model" not in told
    assert "pseudonyms" in told


def test_it_needs_neither_the_framework_nor_the_secret_of_the_partition(path, monkeypatch):
    load(path).forget(some(2))
    before = {file: file.read_bytes() for file in (path / "blobs").iterdir()}
    (path / "keys" / "partition.key").unlink()
    monkeypatch.setattr("unlearnkit.adapters.resolve", None)

    assert facts_of(Store.at(path)).findings == ()
    assert {file: file.read_bytes() for file in (path / "blobs").iterdir()} == before


def test_a_place_without_a_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match="There is no store"):
        facts_of(Store.at(tmp_path / "none"))


# -- page --------------------------------------------------------------------------------------------------------------


def test_no_id_and_no_pseudonym_is_on_it(path):
    model = load(path)
    model.forget(some(20))
    Store.at(path).submit([some(3, 30), 424242])
    ledger = Store.at(path).ledger
    secrets = [*ledger.tombstones(), *(address for r in ledger.requests() for address in r.items)]
    secrets += [name.partition(":")[2][:16] for name in ledger.tombstones()]
    html = page(facts_of(Store.at(path)))

    assert len(secrets) > 40
    assert [secret for secret in secrets if secret in html] == []
    assert not re.search(r"\b(10[0-3]\d|424242)\b", words(html.partition("<body>")[2]))


def test_it_is_one_file_without_script_that_loads_nothing(path):
    html = page(facts_of(Store.at(path)))
    assert not re.search(r"<script|https?:|url\(|@import|\bsrc=|\bon\w+=", html)
    assert "default-src 'none'" in html


def test_what_people_have_written_is_escaped(path):
    html = page(facts_of(Store.at(path)))
    assert COPY not in html
    assert "backups of the &lt;bank&gt; &amp; others" in html


def test_a_store_without_requests_has_a_page(path):
    html = page(facts_of(Store.at(path)))
    for name in ("model", "shards", "requests", "receipts", "digests", "audits", "outside", "chain"):
        section(html, name)
    assert "There was no request yet." in html


def test_audits_are_shown_beside_their_request(path, helpers):
    X, y, ids = helpers.rows()
    chosen = np.isin(ids, some(20))
    model = load(path)
    before = membership_audit(model, X[chosen], y[chosen], X[~chosen], y[~chosen])
    receipt = model.forget(some(20))
    after = membership_audit(model, X[chosen], y[chosen], X[~chosen], y[~chosen])
    for audit in (before, after):
        audit.record(model, receipt)
    found = words(section(page(facts_of(Store.at(path))), "audits"))
    for side, audit in (("before", before), ("after", after)):
        assert f"1 {side} {audit.auc:.3f} {audit.low:.3f} to {audit.high:.3f} (95 %) 20 40 cross-entropy" in found


# -- many --------------------------------------------------------------------------------------------------------------


def test_of_many_requests_the_newest_and_the_overdue_are_told_and_the_rest_is_counted(path):
    load(path).forget(some(2))
    many(path, 300)
    found = facts_of(Store.at(path))
    told = shown(found.requests)
    groups = grouped(found.requests, told)

    assert [r.receipt.request_id for r in told] == [*range(301, 301 - NEWEST, -1), 2]
    assert sum(group.n for group in groups) == 301 - len(told)
    assert len(groups) <= MOST_GROUPS
    # Each request is of one kind, whether told or counted.
    for kind, n in found.timeliness.items():
        assert n == sum(r.timeliness == kind for r in told) + sum(group.counts[kind] for group in groups)
    assert found.timeliness["late"] == 30 - sum(r.state == "received" for r in found.requests[10::10])
    assert found.proof.sound
    html = page(found)
    assert len(html) < 400_000
    assert html.count("OVERDUE since") == 1


def test_the_drawing_keeps_to_its_frame(path):
    load(path).forget(some(2))
    many(path, 60)
    found = facts_of(Store.at(path))
    told = shown(found.requests)
    drawn = timeline(told, found.at)

    assert [bar.request for bar in drawn.bars] == list(told)
    for bar in drawn.bars:
        places = [bar.received, bar.answered, *(x for x in (bar.due, bar.repaired) if x is not None)]
        assert all(LEFT <= x <= RIGHT for x in places)
        assert bar.received <= bar.answered
    # The one that is overdue for years takes no room from the others.
    assert drawn.bars[-1].due is None
    assert drawn.bars[0].received - drawn.bars[-2].received > (RIGHT - LEFT) / 2


# -- command line ------------------------------------------------------------------------------------------------------


def test_the_command_writes_the_page(path, tmp_path):
    load(path).forget(some(2))
    file = tmp_path / "r.html"
    done = CliRunner().invoke(app, ["report", str(path), "-o", str(file), "--json"])

    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["file"], told["requests"], told["statements"], told["findings"]) == (str(file), 1, 2, [])
    assert told["digest"] == load(path).model_digest_
    assert told["digest"] in file.read_text(encoding="utf-8")


def test_a_missed_deadline_is_a_finding(path, tmp_path):
    Store.at(path).submit([some(1)])
    shift(path, 1, due_at=now() - timedelta(days=1))
    done = CliRunner().invoke(app, ["report", str(path), "-o", str(tmp_path / "r.html")])

    assert done.exit_code == 1, done.output
    assert "1 request is past its deadline" in done.stdout


def test_no_store_is_no_page(tmp_path):
    done = CliRunner().invoke(app, ["report", str(tmp_path / "none"), "-o", str(tmp_path / "r.html")])

    assert done.exit_code == 3
    assert not (tmp_path / "r.html").exists()
