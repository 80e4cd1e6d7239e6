"""The data subject's version: what was done, and nothing about the model's inside or about others."""

from __future__ import annotations

import json

import pytest

from unlearnkit.errors import StateError, UnknownRecordError
from unlearnkit.keys import MemoryKeys
from unlearnkit.ledger import Request
from unlearnkit.signing import envelope_digest
from unlearnkit.statements import sign, statement_of
from unlearnkit.subjects import subject_text, subject_version

KEYS = MemoryKeys(b"a secret of these tests")
MINE, OTHER = (KEYS.pseudonym(name, b"id") for name in (b"mine", b"other"))
FACTS = {
    "received_at": "2026-03-01T10:00:00+00:00",
    "due_at": "2026-03-31T10:00:00+00:00",
    "isolated_at": "2026-03-01T11:00:00+00:00",
    "purged_at": "2026-03-01T12:00:00+00:00",
    "repaired_at": "2026-03-02T09:30:00+00:00",
    "readers_refreshed_by": "2026-03-01T11:00:01+00:00",
    "regime": "GDPR Art. 17",
    "operator": "cron on host-17",
    "n_ids": 2,
    "n_records": 4711,
    "already_forgotten": 0,
    "skipped": [],
    "shards": {"83": 12},
    "restart_points": {"83": 11},
    "steps_total": 9119,
    "steps_retrained": 9118,
    "states_destroyed": 9117,
    "purge_check": "shard 83 was listed",
    "digest_before": "b" * 64,
    "digest_isolated": "1" * 64,
    "digest_after": "a" * 64,
    "unsupported": ["colour: mauve"],
    "environment": {"numpy": "2.1.99"},
    "parameters_digest": "c" * 64,
    "seed": 77777,
    "copies": ["the backup of Sunday"],
}


def receipt(*kinds, sequence=5, pseudonyms=(MINE, OTHER), **changes):
    envelopes = []
    for kind in kinds:
        facts = FACTS | {"purge_statement": envelope_digest(envelopes[0]) if envelopes else None} | changes
        request = Request(sequence, "purged", (), frozenset(pseudonyms), facts)
        previous = envelope_digest(envelopes[-1]) if envelopes else None
        envelopes.append(sign(statement_of(request, kind, len(envelopes) + 1, previous), KEYS))
    return envelopes


def version(*kinds, pseudonyms=(MINE,), **changes):
    return subject_version(receipt(*kinds, **changes), KEYS.public_keys, pseudonyms)


def test_it_says_what_was_done_and_when():
    envelopes = receipt("purged", "repaired")
    told = subject_version(envelopes, KEYS.public_keys, [MINE])
    assert told["outcome"] == "erased"
    assert told["deadline_met"] is True
    assert told["purged"] == FACTS["purged_at"]
    assert told["repaired"] == FACTS["repaired_at"]
    assert told["outside_control"] == ["the backup of Sunday"]
    assert told["pseudonyms"] == [MINE]
    assert told["statements"] == [envelope_digest(envelope) for envelope in envelopes]
    assert told == subject_version(envelopes[::-1], KEYS.public_keys, [MINE]) | {"statements": told["statements"]}


def test_it_says_nothing_of_the_model_or_of_others():
    told = version("purged", "repaired")
    inside = ["83", "9119", "9118", "9117", "77777", "2.1.99", "mauve", "host-17", "4711", "a" * 64, "c" * 64, OTHER]
    for text in (json.dumps(told), subject_text(told)):
        without = text
        for digest in (*told["statements"], MINE):
            without = without.replace(digest, "")
        assert [word for word in inside if word in without] == []


def test_the_number_of_records_is_told_to_the_only_one_asked_for():
    assert version("purged")["records_removed"] is None
    alone = version("purged", n_ids=1)
    assert alone["records_removed"] == 4711
    assert "Your records (4711), and all that the model had learned from them" in subject_text(alone)


def test_the_text_of_a_purge():
    told = version("purged")
    text = subject_text(told)
    assert "(number 5)" in text
    assert "Received on 2026-03-01 10:00 UTC." in text
    assert "From 2026-03-01 11:00 UTC on, no answer of the model was influenced by your data." in text
    assert "were destroyed: 2026-03-01 12:00 UTC." in text
    assert "due by 2026-03-31 10:00 UTC; the deadline was met." in text
    assert "  - the backup of Sunday" in text
    assert MINE in text
    assert "completed again" not in text
    assert "completed again without your data: 2026-03-02 09:30 UTC." in subject_text(version("purged", "repaired"))


@pytest.mark.parametrize(
    ("purged", "due", "met"),
    [
        ("2026-03-31T10:00:00+00:00", "2026-03-31T10:00:00+00:00", True),
        ("2026-03-31T10:00:01+00:00", "2026-03-31T10:00:00+00:00", False),
        # The same instant is written in several ways.
        ("2026-03-31T11:30:00+02:00", "2026-03-31T10:00:00+00:00", True),
        ("2026-03-31T10:00:00+00:00", None, None),
    ],
)
def test_the_deadline_is_met_if_the_purge_was_in_time(purged, due, met):
    told = version("purged", purged_at=purged, due_at=due)
    assert told["deadline_met"] is met
    text = subject_text(told)
    assert ("deadline was met" in text, "deadline was missed" in text) == (met is True, met is False)


def test_a_rejection_tells_its_reason():
    told = version(
        "rejected", reason="The identity could not be verified.", isolated_at=None, purged_at=None, repaired_at=None
    )
    assert told["outcome"] == "rejected"
    assert told["deadline_met"] is None
    assert told["records_removed"] is None
    text = subject_text(told)
    assert "rejected: The identity could not be verified." in text
    assert "destroyed" not in text


def test_nothing_left_to_destroy_is_told_so():
    told = version("purged", n_records=0, already_forgotten=1, n_ids=1, pseudonyms=())
    assert "nothing left to destroy (erased by an earlier request)" in subject_text(told)


def test_a_request_for_others_is_not_told_as_if_it_were_ones_own():
    with pytest.raises(UnknownRecordError, match="removed no record of this id"):
        subject_version(receipt("purged"), KEYS.public_keys, [KEYS.pseudonym(b"third", b"id")])


def test_without_a_pseudonym_nobody_is_named():
    told = subject_version(receipt("purged"), KEYS.public_keys)
    assert told["pseudonyms"] == []
    assert MINE not in subject_text(told)


def test_it_is_made_of_the_sound_statements_of_one_request():
    with pytest.raises(StateError, match="one request"):
        subject_version([], KEYS.public_keys)
    with pytest.raises(StateError, match="one request"):
        subject_version(receipt("purged") + receipt("purged", sequence=6), KEYS.public_keys)
    with pytest.raises(StateError, match="not among the public keys"):
        subject_version(receipt("purged"), MemoryKeys().public_keys)
