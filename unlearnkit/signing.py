"""Ed25519 keys, and the envelope that a signed text is put into (DSSE v1, "dead simple signing envelope").

An envelope is accepted only byte for byte as it was made: one JSON object on one line, keys in order, no space. It is
taken apart without a parser, and its content is looked at only once the signature holds.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from unlearnkit.errors import StateError, StoreError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_BEGIN, _END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"
_FORM = '{"payload":"%s","payloadType":"%s","signatures":[{"keyid":"%s","sig":"%s"}]}'
_B64 = "([A-Za-z0-9+/=]+)"
_PATTERN = re.compile(re.escape(_FORM) % (_B64, re.escape(PAYLOAD_TYPE), "([0-9a-f]{64})", _B64))


def seal(payload: bytes, key: Ed25519PrivateKey) -> str:
    """The envelope around a payload, signed."""
    signature = key.sign(_signed_bytes(payload))
    return _FORM % (_base64(payload), PAYLOAD_TYPE, key_id(key.public_key()), _base64(signature))


def unseal(envelope: str, public_keys: str) -> bytes:
    """The payload of an envelope, once one of the public keys (in PEM) has verified its signature.

    Raises
    ------
    StateError
        If it is no envelope, not byte for byte as it was made, or not signed with one of the keys.
    """
    need_cryptography()
    from cryptography.exceptions import InvalidSignature

    found = _PATTERN.fullmatch(envelope)
    if found is None:
        raise StateError(
            "This is not the envelope of a signed receipt, or no longer as it was issued; nothing in it was looked at. "
            "Take it from its source again."
        )
    payload, signature = _from_base64(found[1]), _from_base64(found[3])
    key = known_keys(public_keys).get(found[2])
    if key is None:
        raise StateError(
            f"The receipt was signed with the key {found[2][:12]}, which is not among the public keys given; nothing "
            "in it was looked at. Ask who issued it for the public key, also for those before the current one."
        )
    try:
        key.verify(signature, _signed_bytes(payload))
    except InvalidSignature:
        raise StateError(
            "The signature of the receipt does not hold: it was changed after it was signed; nothing in it was looked "
            "at. Take it from its source again."
        ) from None
    return payload


def envelope_digest(envelope: str) -> str:
    """SHA-256 of the envelope, by which the next one names it."""
    return hashlib.sha256(envelope.encode("utf-8", "surrogatepass")).hexdigest()


def _signed_bytes(payload: bytes) -> bytes:
    """What is signed: type and payload, each with its length in front."""
    return b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _from_base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        data = b""
    # The bits after the last whole byte are not signed: they have to be zero.
    if _base64(data) != text:
        raise StateError(
            "The envelope of the receipt is not in plain base64; nothing in it was looked at. Take it from its source "
            "again."
        )
    return data


def key_id(key: Ed25519PublicKey) -> str:
    """The name of a public key in an envelope: SHA-256 of its canonical JSON form, as in TUF and in-toto."""
    plain = {"keytype": "ed25519", "keyval": {"public": key.public_bytes_raw().hex()}, "scheme": "ed25519"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@lru_cache(maxsize=16)
def known_keys(text: str) -> dict[str, Ed25519PublicKey]:
    """The public keys in a text of one or more blocks of PEM, by their names.

    Raises
    ------
    StateError
        If there is none, or one is no Ed25519 key.
    """
    need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    keys = {}
    for block in pem_blocks(text):
        try:
            key = load_pem_public_key(block.encode())
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise StateError("One of the public keys is no Ed25519 key in PEM; nothing was verified with any of them.")
        keys[key_id(key)] = key
    if not keys:
        raise StateError("There is no public key in PEM in what was given as such; nothing was verified.")
    return keys


def public_pem(key: Ed25519PrivateKey) -> str:
    """The public key of a signing key, in PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def pem_blocks(text: str) -> list[str]:
    """The public keys in a text of PEM, each as a text of its own, whatever stands around them."""
    parts = text.replace("\r\n", "\n").split(_BEGIN)[1:]
    return [f"{_BEGIN}{part.split(_END)[0]}{_END}\n" for part in parts]


def new_signing_pem() -> bytes:
    """A new signing key, as PKCS8 in PEM."""
    need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def private_key(pem: bytes, source: str) -> Ed25519PrivateKey:
    """The signing key in a text of PEM.

    Parameters
    ----------
    pem : bytes
    source : str
        Where it comes from, for the message.

    Raises
    ------
    StoreError
        If it is none, or the package cryptography is not installed.
    """
    need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        # Some ways to set a variable leave the line ends of the PEM as two characters each.
        key = load_pem_private_key(pem.replace(b"\\n", b"\n"), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Not the library's own message: it may repeat what it could not read.
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreError(
            f"{source} is not an Ed25519 key as unencrypted PKCS8 in PEM; nothing was changed. Put your backup in its "
            "place, or a new one: openssl genpkey -algorithm ed25519"
        )
    return key


def need_cryptography() -> None:
    """Raise a `StoreError` that says what to install, if the package cryptography is not installed."""
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise StoreError(
            "Signed receipts need the package cryptography, which is not installed; nothing was changed. "
            "Install it: pip install 'unlearnkit[store]'"
        ) from error
