from __future__ import annotations

import json
from dataclasses import asdict, fields
from datetime import UTC, datetime

from unlearnkit.ledger import Request
from unlearnkit.receipts import Receipt, VerifyReport

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def receipt(**changes):
    plain = {
        "request_id": 3,
        "n_ids": 2,
        "received_at": NOW,
        "due_at": NOW,
        "n_records": 4,
        "already_forgotten": 1,
        "skipped": (0, 5),
        "shards": {1: 0, 12: 2},
        "steps_total": 9,
        "states_destroyed": 4,
        "digest_before": "abc",
        "isolated_at": NOW,
        "untrainable_shards": {12: "ValueError in the step of slice 0"},
        "rebuilt_shards": (1,),
        "unsupported": ("class 'gold'",),
    }
    return Receipt(**plain | changes)


def test_a_receipt_comes_back_from_a_ledger():
    there = receipt(repaired_at=NOW)
    assert Receipt.of(Request(3, facts=json.loads(there.to_json()))) == there
    assert asdict(Receipt.of(Request(3, facts=json.loads(receipt().to_json()))))["repaired_at"] is None


def test_a_rejection_says_why():
    facts = {"n_ids": 1, "received_at": NOW.isoformat(), "due_at": NOW.isoformat(), "reason": "no such record"}
    assert Receipt.of(Request(1, "rejected", facts=facts)).rejected == "no such record"


def test_json_has_every_field():
    assert json.loads(receipt().to_json()).keys() == {f.name for f in fields(Receipt)}
    assert json.loads(receipt(repaired_at=NOW).to_json())["repaired_at"].endswith("+00:00")


def test_a_report_is_true_if_exact():
    common = {"differing": (), "due": (), "n_steps": 1, "digest": "", "rebuilt_digest": "", "same_environment": True}
    assert VerifyReport(exact=True, **common)
    assert not VerifyReport(exact=False, **common)
