"""Signed statements: an independent library accepts them, and no change to one or to the chain goes unnoticed."""

from __future__ import annotations

import base64
import json
import random
import string
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from unlearnkit.errors import StateError
from unlearnkit.keys import MemoryKeys
from unlearnkit.ledger import Request
from unlearnkit.signing import PAYLOAD_TYPE, envelope_digest, key_id, seal
from unlearnkit.statements import read, sign, statement_of, verify_chain, verify_file

KEYS = MemoryKeys(b"a secret of these tests")
PUBLIC = KEYS.public_keys
START = datetime(2026, 3, 1, 10, tzinfo=UTC)


def at(hours):
    return (START + timedelta(hours=hours)).isoformat()


def facts(**changes):
    return {
        "received_at": at(0),
        "due_at": at(24 * 30),
        "isolated_at": at(1),
        "purged_at": at(2),
        "repaired_at": at(3),
        "readers_refreshed_by": at(1.5),
        "regime": "GDPR Art. 17",
        "operator": "privacy@example.org",
        "n_ids": 2,
        "n_records": 7,
        "already_forgotten": 0,
        "skipped": [1],
        "shards": {"0": 2, "3": 0},
        "restart_points": {"0": 1, "3": -1},
        "steps_total": 20,
        "steps_retrained": 8,
        "states_destroyed": 8,
        "blocks_destroyed": 3,
        "purge_check": "the folder was listed: none of 11 blobs is there",
        "digest_before": "b" * 64,
        "digest_isolated": "1" * 64,
        "digest_after": "a" * 64,
        "untrainable_shards": {},
        "rebuilt_shards": [],
        "unsupported": ["colour: mauve"],
        "environment": {"numpy": "2.1.0"},
        "parameters_digest": "c" * 64,
        "seed": 5,
        "copies": ["the backup of Sunday"],
        "reason": None,
    } | changes


def asked(sequence=1, **changes):
    pseudonyms = frozenset(
        KEYS.pseudonyms_of([b"%d-%d" % (sequence, i) for i in range(3)], b"id")[i][0] for i in range(3)
    )
    return Request(sequence, "purged", (), pseudonyms, facts(**changes))


class Chain:
    """A chain that statements are appended to as a store does."""

    def __init__(self, keys=KEYS):
        self.keys = keys
        self.envelopes = []
        self.purges = {}

    def add(self, kind, sequence, **changes):
        if kind == "repaired":
            changes = {"purge_statement": self.purges.get(sequence, "0" * 64)} | changes
        if kind == "rejected":
            changes = {"reason": "no such id", "isolated_at": None, "purged_at": None, "repaired_at": None} | changes
        previous = envelope_digest(self.envelopes[-1]) if self.envelopes else None
        statement = statement_of(asked(sequence, **changes), kind, len(self.envelopes) + 1, previous)
        self.envelopes.append(sign(statement, self.keys))
        if kind == "purged":
            self.purges[sequence] = envelope_digest(self.envelopes[-1])
        return self


def chain():
    built = Chain()
    for kind, sequence in [
        ("purged", 1), ("rejected", 2), ("purged", 3), ("repaired", 1), ("repaired", 3), ("purged", 4),
    ]:  # fmt: skip
        built.add(kind, sequence)
    return built.envelopes


def payload_of(envelope):
    return base64.b64decode(json.loads(envelope)["payload"])


# --- what is stated


def test_a_sound_chain_is_found_sound():
    envelopes = chain()
    assert verify_chain(envelopes, PUBLIC) == []
    assert verify_chain(envelopes, PUBLIC, len(envelopes)) == []
    assert verify_chain(envelopes, PUBLIC, envelope_digest(envelopes[-1])) == []
    assert verify_chain(envelopes, PUBLIC, 3) == [], "what was known earlier stays true as the chain grows"
    assert verify_chain([], PUBLIC) == []


def test_a_statement_is_an_in_toto_statement_about_the_model_as_it_was_left():
    purged = statement_of(asked(), "purged", 1, None)
    assert purged["_type"] == "https://in-toto.io/Statement/v1"
    assert purged["predicateType"] == "https://unlearnkit.dev/erasure/v1"
    assert purged["subject"] == [{"name": "model", "digest": {"sha256": "1" * 64}}]
    repaired = statement_of(asked(purge_statement="d" * 64), "repaired", 2, "e" * 64)
    assert repaired["subject"][0]["digest"]["sha256"] == "a" * 64
    assert repaired["predicate"]["purge_statement"] == "d" * 64
    assert repaired["predicate"]["chain"] == {"number": 2, "previous": "e" * 64}
    rejected = statement_of(asked(reason="no such id"), "rejected", 3, "e" * 64)
    assert rejected["subject"][0]["digest"]["sha256"] == "b" * 64
    assert rejected["predicate"]["request"]["reason"] == "no such id"


def test_the_two_statements_hold_all_facts_of_the_request():
    request = asked(purge_statement="d" * 64, reason="a reason")
    held = json.dumps(statement_of(request, "repaired", 2, "e" * 64))
    values = [value for value in request.facts.values() if isinstance(value, str)]
    assert [value for value in values if json.dumps(value) not in held] == []
    predicate = json.loads(held)["predicate"]
    found = json.dumps([predicate["removed"], predicate["repair"], predicate["destroyed"], predicate["model"]])
    for name in ("shards", "restart_points", "unsupported", "environment"):
        assert json.dumps(request.facts[name]) in found
    assert predicate["ids"]["pseudonyms"] == sorted(request.pseudonyms)
    assert predicate["outside_control"] == ["the backup of Sunday"]


def test_a_purge_does_not_state_what_only_the_repair_can_know():
    predicate = statement_of(asked(), "purged", 1, None)["predicate"]
    assert predicate["request"]["repaired"] is None
    assert predicate["model"]["digest_after"] is None
    assert predicate["repair"]["steps_retrained"] is None
    assert predicate["repair"]["steps_total"] == 20


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "erased"),
        ({"n_records": 0, "already_forgotten": 2}, "erased by an earlier request"),
        ({"n_records": 0}, "no record found"),
    ],
)
def test_the_outcome_follows_from_the_facts(changes, outcome):
    assert statement_of(asked(**changes), "purged", 1, None)["predicate"]["request"]["outcome"] == outcome


@pytest.mark.parametrize(
    ("kind", "fact"),
    [
        ("purged", "purged_at"),
        ("purged", "digest_isolated"),
        ("repaired", "digest_after"),
        ("repaired", "purge_statement"),
        ("rejected", "reason"),
        ("rejected", "digest_before"),
    ],
)
def test_without_what_it_is_about_no_statement_is_made(kind, fact):
    request = asked(**{"purge_statement": "d" * 64, "reason": "none", fact: None})
    with pytest.raises(StateError, match=f"Request 1 has no {fact}"):
        statement_of(request, kind, 1, None)


def test_neither_an_id_nor_a_feature_value_is_stated():
    address = bytes(range(200, 216))
    request = Request(
        1,
        "purged",
        {address.hex(): KEYS.pseudonym(address, b"id")},
        frozenset({KEYS.pseudonym(address, b"id")}),
        facts(purge_statement="d" * 64, reason="r", ids=["canary-4711"], rows=[[3.14159]], address=address.hex()),
    )
    for kind in ("purged", "repaired", "rejected"):
        envelope = sign(statement_of(request, kind, 1, None), KEYS)
        seen = envelope.encode() + payload_of(envelope)
        for hidden in (b"canary-4711", b"3.14159", address.hex().encode(), *map(hex_of, KEYS.pseudonym_keys)):
            assert hidden not in seen
        assert hex_of(KEYS.partition) not in seen


def hex_of(secret):
    return secret.hex().encode()


# --- an independent library


def test_an_independent_library_accepts_every_statement():
    key = SSlibKey.from_crypto(KEYS.signing_key.public_key())
    for envelope in chain():
        opened = Envelope.from_dict(json.loads(envelope))
        assert opened.payload_type == "application/vnd.in-toto+json"
        assert opened.verify([key], 1) == {key.keyid: key}
        assert json.loads(opened.payload)["_type"] == "https://in-toto.io/Statement/v1"


def test_an_independent_library_rejects_a_changed_one_too():
    key = SSlibKey.from_crypto(KEYS.signing_key.public_key())
    plain = json.loads(chain()[0])
    plain["payload"] = base64.b64encode(base64.b64decode(plain["payload"]).replace(b"GDPR", b"GDPX")).decode()
    with pytest.raises(VerificationError):
        Envelope.from_dict(plain).verify([key], 1)


def test_what_an_independent_library_signs_is_read():
    signer = CryptoSigner(KEYS.signing_key)
    statement = statement_of(asked(), "purged", 1, None)
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
    made = Envelope(payload, PAYLOAD_TYPE, {})
    made.sign(signer)
    assert json.dumps(made.to_dict(), sort_keys=True, separators=(",", ":")) == sign(statement, KEYS)


# --- changes to one statement


def test_a_thousand_changes_of_single_bytes_are_all_rejected():
    rng = random.Random(3)
    envelopes = chain()
    alphabet = string.ascii_letters + string.digits + '+/="{}[],: \n\x00\x7f\xe4'
    for _ in range(1000):
        envelope = rng.choice(envelopes)
        place = rng.randrange(len(envelope))
        new = rng.choice([c for c in alphabet if c != envelope[place]])
        with pytest.raises(StateError):
            read(envelope[:place] + new + envelope[place + 1 :], PUBLIC)


def test_a_change_at_any_byte_outside_of_the_payload_is_rejected():
    envelope = chain()[0]
    end = envelope.index('","payloadType"')
    for place in [*range(12), *range(end - 4, len(envelope))]:
        for new in "AQgwZ0=_ ":
            if new != envelope[place]:
                with pytest.raises(StateError):
                    read(envelope[:place] + new + envelope[place + 1 :], PUBLIC)


def test_a_byte_more_or_less_is_rejected():
    envelope = chain()[0]
    for place in range(0, len(envelope) + 1, 7):
        for changed in (envelope[:place] + " " + envelope[place:], envelope[:place] + envelope[place + 1 :]):
            if changed != envelope:
                with pytest.raises(StateError):
                    read(changed, PUBLIC)
    for changed in (envelope + "\n", " " + envelope, "\ufeff" + envelope, ""):
        with pytest.raises(StateError):
            read(changed, PUBLIC)


def test_the_unsigned_bits_at_the_end_of_base64_cannot_be_used():
    envelope = chain()[0]
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    start = envelope.index('"sig":"') + 7
    last = start + 85
    assert envelope[last + 1 : last + 3] == "=="
    same = [c for c in alphabet if base64.b64decode(envelope[start:last] + c + "==") == signature_of(envelope)]
    assert len(same) == 16, "sixteen spellings of one signature"
    accepted = [c for c in same if accepts(envelope[:last] + c + envelope[last + 1 :])]
    assert accepted == [envelope[last]]


def signature_of(envelope):
    return base64.b64decode(json.loads(envelope)["signatures"][0]["sig"])


def accepts(envelope):
    try:
        read(envelope, PUBLIC)
    except StateError:
        return False
    return True


def test_the_same_json_in_other_bytes_is_rejected():
    envelope = chain()[0]
    plain = json.loads(envelope)
    signature = plain["signatures"][0]
    twisted = [
        json.dumps(plain),
        json.dumps(dict(reversed(plain.items())), separators=(",", ":")),
        json.dumps(plain | {"note": 1}, separators=(",", ":")),
        json.dumps(plain | {"signatures": [signature, signature]}, separators=(",", ":")),
        json.dumps(plain | {"payloadType": "text/plain"}, separators=(",", ":")),
        envelope.replace('{"payload"', '{"payload":"e30=","payload"', 1),
        envelope.replace("application", "\\u0061pplication"),
        "[" * 100_000 + envelope,
    ]
    assert [text for text in twisted if accepts(text)] == []


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b"[" * 50_000 + b"]" * 50_000,
        b'{"_type":"https://in-toto.io/Statement/v1"}',
        b'{"predicate":{"chain":{"number":NaN}}}',
    ],
)
def test_a_signature_under_something_else_makes_no_statement(payload):
    with pytest.raises(StateError):
        read(seal(payload, KEYS.signing_key), PUBLIC)


def test_a_statement_of_another_form_is_not_known():
    def twisted(path, value):
        statement = json.loads(json.dumps(statement_of(asked(), "purged", 1, None)))
        *way, last = path
        place = statement
        for name in way:
            place = place[name]
        place[last] = value
        return sign(statement, KEYS)

    changes = [
        (("_type",), "https://in-toto.io/Statement/v0.1"),
        (("predicateType",), "https://slsa.dev/provenance/v1"),
        (("predicate", "kind"), "forgiven"),
        (("predicate", "kind"), ["purged"]),
        (("predicate", "kind"), "repaired"),
        (("predicate", "chain", "number"), 0),
        (("predicate", "chain", "number"), True),
        (("predicate", "chain", "number"), "1"),
        (("predicate", "chain", "number"), 2),
        (("predicate", "chain", "previous"), "f" * 64),
        (("predicate", "request", "sequence"), None),
        (("predicate", "purge_statement"), "f" * 64),
    ]
    assert accepts(twisted(("predicate", "operator"), "someone else")), "this one is of the right form"
    for path, value in changes:
        with pytest.raises(StateError, match="not a statement about an erasure"):
            read(twisted(path, value), PUBLIC)


def test_duplicate_keys_and_spaces_in_the_signed_text_are_rejected():
    payload = json.dumps(statement_of(asked(), "purged", 1, None), sort_keys=True, separators=(",", ":")).encode()
    assert accepts(seal(payload, KEYS.signing_key))
    for changed in (
        payload + b" ",
        payload.replace(b'{"_type"', b'{"_type":"x","_type"', 1),
        b"\xef\xbb\xbf" + payload,
    ):
        with pytest.raises(StateError):
            read(seal(changed, KEYS.signing_key), PUBLIC)


# --- keys


def test_another_key_is_rejected_and_several_may_be_given():
    other = MemoryKeys()
    envelope = chain()[0]
    with pytest.raises(StateError, match="not among the public keys"):
        read(envelope, other.public_keys)
    assert read(envelope, other.public_keys + PUBLIC) == read(envelope, PUBLIC + other.public_keys)


def test_a_signature_of_another_key_under_the_name_of_ours_is_rejected():
    other = MemoryKeys()
    forged = sign(statement_of(asked(), "purged", 1, None), other)
    forged = forged.replace(key_id(other.signing_key.public_key()), key_id(KEYS.signing_key.public_key()))
    with pytest.raises(StateError, match="signature of the receipt does not hold"):
        read(forged, PUBLIC)


def test_a_chain_goes_on_with_a_new_key():
    built = Chain().add("purged", 1)
    built.keys = MemoryKeys()
    built.add("repaired", 1)
    assert verify_chain(built.envelopes, built.keys.public_keys + PUBLIC) == []
    assert len(verify_chain(built.envelopes, built.keys.public_keys)) == 2, "one cannot be read, its repair is alone"


@pytest.mark.parametrize("text", ["", "no key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_without_a_public_key_nothing_is_verified(text):
    with pytest.raises(StateError, match="nothing was verified"):
        read(chain()[0], text)
    with pytest.raises(StateError, match="nothing was verified"):
        verify_chain([], text)


# --- changes to the chain


def test_a_removed_statement_is_noticed():
    envelopes = chain()
    for place in range(len(envelopes)):
        left = envelopes[:place] + envelopes[place + 1 :]
        assert verify_chain(left, PUBLIC, len(envelopes)), place
        if place < len(envelopes) - 1:
            assert any("gone" in finding for finding in verify_chain(left, PUBLIC)), place
            assert verify_file("\n".join(left) + "\n", PUBLIC), place


def test_only_what_is_known_from_elsewhere_shows_that_the_last_are_missing():
    envelopes = chain()
    left = envelopes[:-1]
    assert verify_chain(left, PUBLIC) == []
    assert "the last were removed" in verify_chain(left, PUBLIC, 6)[0]
    assert "was removed" in verify_chain(left, PUBLIC, envelope_digest(envelopes[-1]))[0]


def test_swapped_and_repeated_statements_are_noticed():
    envelopes = chain()
    for place in range(len(envelopes) - 1):
        swapped = envelopes.copy()
        swapped[place : place + 2] = reversed(swapped[place : place + 2])
        assert any("out of its place" in finding for finding in verify_chain(swapped, PUBLIC)), place
    for place in range(len(envelopes)):
        repeated = [*envelopes[: place + 1], *envelopes[place:]]
        assert any("a second time" in finding for finding in verify_chain(repeated, PUBLIC)), place


def test_a_changed_statement_is_named_by_its_place_and_breaks_the_link_after_it():
    envelopes = chain()
    envelopes[2] = envelopes[2][:100] + ("A" if envelopes[2][100] != "A" else "B") + envelopes[2][101:]
    findings = verify_chain(envelopes, PUBLIC)
    assert any(finding.startswith("Statement 3: ") for finding in findings)
    assert any(finding.startswith("Statement 4 follows another") for finding in findings)


def test_a_statement_replaced_by_its_own_signer_breaks_the_chain():
    envelopes = chain()
    previous = envelope_digest(envelopes[1])
    envelopes[2] = sign(statement_of(asked(3, n_records=1), "purged", 3, previous), KEYS)
    findings = verify_chain(envelopes, PUBLIC)
    assert any("Statement 4 follows another" in finding for finding in findings)
    assert any("request 3 is repaired, but" in finding for finding in findings)


@pytest.mark.parametrize(
    ("life", "finding"),
    [
        (["repaired"], "of its purge is not before it"),
        (["purged", "purged"], "a second time that request 1 is purged"),
        (["purged", "repaired", "repaired"], "a second time that request 1 is repaired"),
        (["rejected", "purged"], "request 1 is purged, which others contradict"),
        (["purged", "rejected"], "request 1 is rejected, which others contradict"),
        (["rejected", "repaired"], "of its purge is not before it"),
    ],
)
def test_a_life_that_no_request_has_is_noticed(life, finding):
    built = Chain()
    for kind in life:
        built.add(kind, 1)
    assert len(verify_chain(built.envelopes, PUBLIC)) == 1
    assert finding in verify_chain(built.envelopes, PUBLIC)[0]


# --- files


def lines(*envelopes):
    return "".join(envelope + "\n" for envelope in envelopes)


def test_a_file_with_the_whole_chain_is_sound():
    envelopes = chain()
    assert verify_file(lines(*envelopes), PUBLIC) == []
    assert verify_file(lines(*envelopes).removesuffix("\n"), PUBLIC, len(envelopes)) == []


def test_the_receipt_of_one_request_is_checked_by_itself():
    envelopes = chain()
    assert verify_file(lines(envelopes[2]), PUBLIC) == []
    assert verify_file(lines(envelopes[1]), PUBLIC) == []
    assert verify_file(lines(envelopes[0], envelopes[3]), PUBLIC) == []
    assert verify_file(lines(envelopes[2], envelopes[4]), PUBLIC) == []
    assert verify_file(lines(envelopes[5]), PUBLIC) == []


def test_a_receipt_that_is_not_whole_is_noticed():
    envelopes = chain()
    assert "of its purge is not before it" in verify_file(lines(envelopes[4]), PUBLIC)[0]
    assert verify_file(lines(envelopes[4], envelopes[2]), PUBLIC)
    assert verify_file(lines(envelopes[2], envelopes[2]), PUBLIC)
    assert verify_file(lines(envelopes[2], envelopes[3]), PUBLIC)
    assert verify_file(lines(envelopes[2]), PUBLIC, 6), "the whole chain was asked for"


def test_neighbours_in_the_chain_have_to_be_linked():
    built = Chain().add("purged", 1)
    digest = built.purges[1]
    for number, previous in ((2, "f" * 64), (1, None)):
        second = sign(statement_of(asked(purge_statement=digest), "repaired", number, previous), KEYS)
        assert verify_file(lines(built.envelopes[0], second), PUBLIC) == [
            "The two statements are not from one chain, or not in its order."
        ]


@pytest.mark.parametrize("text", ["", "\n", "\n\n", "{}", "\x00"])
def test_a_file_without_a_statement_is_not_sound(text):
    assert verify_file(text, PUBLIC)


def test_a_line_more_is_noticed():
    envelopes = chain()
    for text in (lines(*envelopes) + "\n", "\n" + lines(*envelopes), lines(*envelopes).replace("\n", "\r\n")):
        assert verify_file(text, PUBLIC)
    assert len(verify_file(lines(envelopes[2], "garbage"), PUBLIC)) == 1


# --- any facts

TEXT = st.text(max_size=8)
HASH = st.text("0123456789abcdef", min_size=64, max_size=64)
COUNT = st.integers(0, 10**6)
TIME = st.datetimes().map(lambda time: time.replace(tzinfo=UTC).isoformat())
BY_SHARD = st.dictionaries(COUNT.map(str), st.integers(-1, 50) | TEXT, max_size=4)
FACTS = st.fixed_dictionaries(
    dict.fromkeys(("received_at", "isolated_at", "purged_at", "repaired_at"), TIME)
    | dict.fromkeys(("digest_before", "digest_isolated", "digest_after", "purge_statement"), HASH)
    | {"reason": TEXT},
    optional={name: COUNT | st.none() for name in ("n_ids", "n_records", "already_forgotten", "seed", "steps_total")}
    | dict.fromkeys(("shards", "restart_points", "untrainable_shards", "environment"), BY_SHARD)
    | {name: st.lists(TEXT, max_size=3) for name in ("unsupported", "copies")}
    | {name: TEXT | st.none() for name in ("regime", "operator", "purge_check")}
    | {"due_at": TIME | st.none()},
)


@settings(max_examples=60, deadline=None)
@given(FACTS, st.sampled_from(["purged", "repaired", "rejected"]), st.integers(1, 9), st.frozensets(HASH, max_size=3))
def test_any_facts_come_back_as_they_were_signed(values, kind, number, pseudonyms):
    previous = None if number == 1 else "e" * 64
    statement = statement_of(Request(7, "purged", (), pseudonyms, values), kind, number, previous)
    envelope = sign(statement, KEYS)
    assert read(envelope, PUBLIC) == statement
    assert "\n" not in envelope
    assert envelope.isascii()
    key = SSlibKey.from_crypto(KEYS.signing_key.public_key())
    assert Envelope.from_dict(json.loads(envelope)).verify([key], 1)
