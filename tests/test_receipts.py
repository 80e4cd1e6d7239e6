from __future__ import annotations

import json
from dataclasses import fields

from unlearnkit.ledger import Request
from unlearnkit.receipts import Receipt, VerifyReport, now


def receipt(**changes):
    plain = {
        "request_id": 3,
        "n_ids": 2,
        "n_records": 4,
        "already_forgotten": 1,
        "skipped": (0, 5),
        "shards": {1: 0, 12: 2},
        "steps_total": 9,
        "states_destroyed": 4,
        "digest_before": "abc",
        "isolated_at": now(),
        "untrainable_shards": {12: "ValueError in the step of slice 0"},
        "rebuilt_shards": (1,),
    }
    return Receipt(**plain | changes)


def test_a_receipt_comes_back_from_a_ledger():
    there = receipt()
    stored = Request(3, frozenset(), json.loads(json.dumps(there.facts())))
    assert Receipt.of(stored) == there


def test_the_time_of_repair_is_the_ledgers():
    at = now()
    assert Receipt.of(Request(3, frozenset(), receipt().facts(), at.isoformat())).repaired_at == at


def test_json_has_every_field():
    assert json.loads(receipt().to_json()).keys() == {f.name for f in fields(Receipt)}
    assert json.loads(receipt(repaired_at=now()).to_json())["repaired_at"].endswith("+00:00")


def test_a_report_is_true_if_exact():
    common = {"differing": (), "due": (), "n_steps": 1, "digest": "", "rebuilt_digest": "", "same_environment": True}
    assert VerifyReport(exact=True, **common)
    assert not VerifyReport(exact=False, **common)
