"""The secrets of a store: where they come from, what is made of them, and that they show nowhere."""

from __future__ import annotations

import copy
import hashlib
import hmac
import os
import pickle
import subprocess
import sys
import traceback

import pytest

from unlearnkit import keys as keys_module
from unlearnkit.errors import KeyMissingError, StoreError
from unlearnkit.keys import Keys, MemoryKeys, pseudonym_key_id
from unlearnkit.signing import key_id, known_keys, pem_blocks, public_pem, seal, unseal

SECRETS = {
    "partition.key": "UNLEARNKIT_PARTITION_SECRET",
    "pseudonym.key": "UNLEARNKIT_PSEUDONYM_KEY",
    "signing.key": "UNLEARNKIT_SIGNING_KEY",
}
NEEDS = {
    "partition.key": lambda keys: keys.partition,
    "pseudonym.key": lambda keys: keys.pseudonym(b"address", b"id"),
    "signing.key": lambda keys: keys.sign(b"data"),
}
posix_only = pytest.mark.skipif(os.name == "nt", reason="file modes say nothing there")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for variable in SECRETS.values():
        monkeypatch.delenv(variable, raising=False)


def created(tmp_path, name="keys"):
    folder = tmp_path / name
    Keys(folder).create()
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@posix_only
def test_new_secrets_are_for_the_owner_alone_and_the_public_key_for_all(tmp_path):
    folder = created(tmp_path)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {"partition.key": 0o600, "pseudonym.key": 0o600, "signing.key": 0o600, "signing.pub": 0o644}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert Keys(folder).loose_modes() == []


@posix_only
@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_secret_that_others_may_read_or_write_is_reported(tmp_path, name, mode):
    folder = created(tmp_path)
    (folder / name).chmod(mode)
    assert Keys(folder).loose_modes() == [folder / name]


def test_a_second_create_changes_nothing(tmp_path):
    folder = created(tmp_path)
    before = contents(folder)
    Keys(folder).create()
    assert contents(folder) == before
    keys = Keys(folder)
    keys.create(keys.partition)
    assert contents(folder) == before


@pytest.mark.parametrize("name", [*SECRETS, "signing.pub"])
def test_create_makes_only_what_is_missing(tmp_path, name):
    folder = created(tmp_path)
    before = contents(folder)
    (folder / name).unlink()
    Keys(folder).create()
    after = contents(folder)
    assert after.keys() == before.keys()
    changed = {file for file in before if after[file] != before[file]}
    # A new signing key adds a public key; the public key alone can be had again from the secret one.
    assert changed == {"signing.key": {"signing.key", "signing.pub"}, "signing.pub": set()}.get(name, {name})


def test_two_stores_have_no_secret_in_common(tmp_path):
    one, other = contents(created(tmp_path, "one")), contents(created(tmp_path, "other"))
    assert all(one[name] != other[name] for name in one)


def test_a_given_partition_secret_is_kept(tmp_path):
    Keys(tmp_path / "keys").create(b"sixteen bytes or")
    assert Keys(tmp_path / "keys").partition == b"sixteen bytes or"


@pytest.mark.parametrize("length", [0, 15, 65])
def test_a_partition_secret_of_no_use_is_refused_before_anything_is_written(tmp_path, length):
    with pytest.raises(StoreError, match=rf"16 to 64 bytes, got {length}"):
        Keys(tmp_path / "keys").create(bytes(length))
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("where", ["file", "environment"])
def test_another_partition_secret_is_not_put_in_place_of_one(tmp_path, monkeypatch, where):
    folder = tmp_path / "keys"
    if where == "file":
        Keys(folder).create(b"a" * 16)
    else:
        monkeypatch.setenv("UNLEARNKIT_PARTITION_SECRET", (b"a" * 16).hex())
    with pytest.raises(StoreError, match="another secret") as caught:
        Keys(folder).create(b"b" * 16)
    assert Keys(folder).partition == b"a" * 16
    assert_hidden(caught.value, b"a" * 16, b"b" * 16)


def test_the_environment_wins_and_then_no_file_is_written(tmp_path, monkeypatch):
    own = created(tmp_path, "own")
    for name, variable in SECRETS.items():
        monkeypatch.setenv(variable, (own / name).read_text())
    folder = tmp_path / "keys"
    keys = Keys(folder)
    keys.create()
    assert [path.name for path in folder.iterdir()] == ["signing.pub"]
    assert keys.partition == bytes.fromhex((own / "partition.key").read_text())
    assert keys.public_keys == (own / "signing.pub").read_text()

    other = created(tmp_path, "other")
    for name in SECRETS:
        (other / name).write_text("not even a secret")
    assert Keys(other).partition == keys.partition
    assert Keys(other).pseudonym(b"a", b"id") == keys.pseudonym(b"a", b"id")
    assert Keys(other).sign(b"data") == keys.sign(b"data")


def test_a_signing_key_in_a_variable_may_have_its_line_ends_spelled_out(tmp_path, monkeypatch):
    folder = created(tmp_path)
    pem = (folder / "signing.key").read_text()
    monkeypatch.setenv("UNLEARNKIT_SIGNING_KEY", pem.replace("\n", "\\n"))
    assert public_pem(Keys(tmp_path / "none").signing_key) == (folder / "signing.pub").read_text()


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_that_is_nowhere_is_named_with_what_its_loss_means(tmp_path, name):
    folder = created(tmp_path)
    (folder / name).unlink()
    with pytest.raises(KeyMissingError) as caught:
        NEEDS[name](Keys(folder))
    message = str(caught.value)
    assert str(folder / name) in message
    assert SECRETS[name] in message
    assert "If it is lost" in message
    assert "from your backup" in message
    for other in SECRETS.keys() - {name}:
        NEEDS[other](Keys(folder))


WRONG = {
    "partition.key": ["", "xyz", "ab" * 15, "ab" * 65, "ab" * 16 + " " + "cd" * 16],
    "pseudonym.key": ["", "\n", "ab" * 16 + "\n" + "ab" * 3, "ab" * 16 + ",oops", "abc" * 11],
    "signing.key": ["", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0c2VjcmV0\n-----END PRIVATE KEY-----\n"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in WRONG.items() for text in texts])
@pytest.mark.parametrize("where", ["file", "environment"])
def test_what_is_no_secret_is_refused_and_not_repeated(tmp_path, monkeypatch, name, text, where):
    folder = created(tmp_path)
    if where == "file":
        (folder / name).write_text(text)
    else:
        monkeypatch.setenv(SECRETS[name], text)
    with pytest.raises(StoreError) as caught:
        NEEDS[name](Keys(folder))
    assert not isinstance(caught.value, KeyMissingError)
    assert (str(folder / name) if where == "file" else SECRETS[name]) in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value))
    assert not [part for part in text.split() if len(part) > 5 and part in shown and "KEY" not in part]


@pytest.mark.parametrize("kind", ["rsa", "x25519", "encrypted"])
def test_a_signing_key_of_another_kind_is_refused(tmp_path, kind):
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa, x25519
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    folder = created(tmp_path)
    made = {
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "x25519": x25519.X25519PrivateKey.generate,
        "encrypted": ed25519.Ed25519PrivateKey.generate,
    }[kind]()
    locked = BestAvailableEncryption(b"password") if kind == "encrypted" else NoEncryption()
    (folder / "signing.key").write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    with pytest.raises(StoreError, match="not an Ed25519 key"):
        Keys(folder).sign(b"data")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    folder = created(tmp_path)
    (folder / "partition.key").unlink()
    (folder / "partition.key").mkdir()
    with pytest.raises(StoreError, match=r"Could not read partition\.key"):
        _ = Keys(folder).partition


def test_a_pseudonym_is_the_key_id_and_an_hmac(tmp_path):
    keys = Keys(created(tmp_path))
    (key,) = keys.pseudonym_keys
    address = bytes(range(16))
    expected = hmac.new(key, b"id" + address, hashlib.sha256).hexdigest()
    assert keys.pseudonym(address, b"id") == f"{pseudonym_key_id(key)}:{expected}"
    assert keys.pseudonym(address, b"handle") != keys.pseudonym(address, b"id")
    assert len(pseudonym_key_id(key)) == 8
    assert key.hex()[:8] != pseudonym_key_id(key)


@pytest.mark.parametrize("where", ["file", "environment"])
def test_after_a_rotation_old_tombstones_are_still_recognised(tmp_path, monkeypatch, where):
    folder = created(tmp_path)
    addresses = [bytes([i]) * 16 for i in range(5)]
    old = [Keys(folder).pseudonym(address, b"id") for address in addresses]
    path = folder / "pseudonym.key"
    if where == "file":
        path.write_text("ab" * 32 + "\n" + path.read_text())
    else:
        monkeypatch.setenv("UNLEARNKIT_PSEUDONYM_KEY", "ab" * 32 + ", " + path.read_text())
    rotated = Keys(folder)
    many = rotated.pseudonyms_of(addresses, b"id")
    assert many == [rotated.pseudonyms(address, b"id") for address in addresses]
    assert [both[1] for both in many] == old
    assert [both[0] for both in many] == [rotated.pseudonym(address, b"id") for address in addresses]
    assert {p.split(":")[0] for both in many for p in both[:1]} == {pseudonym_key_id(bytes.fromhex("ab" * 32))}
    assert not {both[0] for both in many} & set(old)
    assert rotated.pseudonyms_of([], b"id") == []


def test_after_a_rotation_of_the_signing_key_old_signatures_still_hold(tmp_path):
    folder = created(tmp_path)
    old = seal(b"{}", Keys(folder).signing_key)
    (folder / "signing.key").unlink()
    Keys(folder).create()
    keys = Keys(folder)
    new = seal(b"{}", keys.signing_key)
    assert unseal(old, keys.public_keys) == unseal(new, keys.public_keys) == b"{}"
    assert pem_blocks(keys.public_keys)[0] == public_pem(keys.signing_key)
    assert len(known_keys(keys.public_keys)) == 2
    before = (folder / "signing.pub").read_bytes()
    keys.publish()
    assert (folder / "signing.pub").read_bytes() == before


def test_a_store_without_its_signing_key_can_still_verify(tmp_path):
    folder = created(tmp_path)
    envelope = seal(b"{}", Keys(folder).signing_key)
    (folder / "signing.key").unlink()
    assert unseal(envelope, Keys(folder).public_keys) == b"{}"


def assert_hidden(value, *secrets):
    shown = "".join(traceback.format_exception(value)) if isinstance(value, BaseException) else repr(value)
    for secret in secrets:
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown


def test_no_secret_shows_in_a_repr_or_goes_into_a_pickle(tmp_path):
    keys = Keys(created(tmp_path))
    secrets = [keys.partition, *keys.pseudonym_keys, keys.signing_key.private_bytes_raw()]
    assert_hidden(keys, *secrets)
    pickled = pickle.dumps(keys)
    assert not [secret for secret in secrets if secret in pickled or secret.hex().encode() in pickled]
    again = pickle.loads(pickled)
    assert again.partition == keys.partition
    assert again.pseudonym(b"a", b"id") == keys.pseudonym(b"a", b"id")
    memory = MemoryKeys()
    assert_hidden(memory, memory.partition, *memory.pseudonym_keys, memory.signing_key.private_bytes_raw())


def test_secrets_in_memory_survive_a_pickle_and_a_copy():
    keys = MemoryKeys(b"sixteen bytes or")
    pseudonym, signature = keys.pseudonym(b"a", b"id"), keys.sign(b"data")
    for again in (pickle.loads(pickle.dumps(keys)), copy.deepcopy(keys)):
        assert again.partition == b"sixteen bytes or"
        assert again.pseudonym(b"a", b"id") == pseudonym
        assert again.sign(b"data") == signature
        assert again.public_keys == keys.public_keys
    other = MemoryKeys(b"sixteen bytes or")
    assert other.pseudonym(b"a", b"id") != pseudonym
    assert MemoryKeys().partition != MemoryKeys().partition


def test_a_model_kept_in_memory_takes_its_secrets_into_a_store(tmp_path):
    memory = MemoryKeys()
    envelope = seal(b"{}", memory.signing_key)
    stored = Keys(tmp_path / "keys")
    stored.create(source=memory)
    assert stored.partition == memory.partition
    assert stored.pseudonym(b"a", b"id") == memory.pseudonym(b"a", b"id")
    assert unseal(envelope, stored.public_keys) == b"{}"
    assert stored.sign(b"data") == memory.sign(b"data")


def test_a_signing_key_that_is_there_goes_before_that_of_memory(tmp_path, monkeypatch):
    own = created(tmp_path, "own")
    monkeypatch.setenv("UNLEARNKIT_SIGNING_KEY", (own / "signing.key").read_text())
    memory = MemoryKeys()
    envelope = seal(b"{}", memory.signing_key)
    stored = Keys(tmp_path / "keys")
    stored.create(source=memory)
    assert public_pem(stored.signing_key) == (own / "signing.pub").read_text()
    assert unseal(envelope, stored.public_keys) == b"{}", "what memory signed before still has to be verified"
    assert not (tmp_path / "keys" / "signing.key").exists()


def test_tombstones_of_memory_cannot_go_where_their_key_is_not(tmp_path, monkeypatch):
    memory = MemoryKeys()
    monkeypatch.setenv("UNLEARNKIT_PSEUDONYM_KEY", "ab" * 32)
    with pytest.raises(StoreError, match="UNLEARNKIT_PSEUDONYM_KEY has another secret"):
        Keys(tmp_path / "keys").create(source=memory)
    monkeypatch.setenv("UNLEARNKIT_PSEUDONYM_KEY", "ab" * 32 + "," + memory.pseudonym_keys[0].hex())
    stored = Keys(tmp_path / "keys")
    stored.create(source=memory)
    assert memory.pseudonym(b"a", b"id") in stored.pseudonyms(b"a", b"id")


def test_every_secret_is_durable_before_create_returns(tmp_path, monkeypatch):
    done = []
    write, sync, make = keys_module.write_new, keys_module.sync_folder, keys_module.make_folder
    monkeypatch.setattr(keys_module, "write_new", lambda p, *args: (done.append(p.name), write(p, *args)))
    monkeypatch.setattr(keys_module, "sync_folder", lambda p: (done.append(f"sync {p.name}"), sync(p)))
    monkeypatch.setattr(keys_module, "make_folder", lambda p, *args: (done.append(f"make {p.name}"), make(p, *args)))
    Keys(tmp_path / "store" / "keys").create()
    assert done[0] == "make keys"
    written = ["partition.key", "pseudonym.key", "signing.key", "signing.pub"]
    assert done[1:] == [step for name in written for step in (name, "sync keys")]


def test_without_cryptography_all_but_signing_works(tmp_path, monkeypatch):
    folder = created(tmp_path)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for keys in (Keys(folder), MemoryKeys()):
        keys.pseudonym(b"a", b"id")
        assert keys.partition
        with pytest.raises(StoreError, match=r"pip install 'unlearnkit\[store\]'"):
            keys.sign(b"data")


def test_keys_and_statements_import_neither_cryptography_nor_anything_heavy():
    code = (
        "import sys, unlearnkit.keys, unlearnkit.signing, unlearnkit.statements, unlearnkit.subjects\n"
        "heavy = {'cryptography', 'sklearn', 'scipy', 'pandas', 'numpy', 'sqlalchemy'}\n"
        "sys.exit(', '.join(heavy & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_id_of_a_public_key_is_the_one_that_others_compute(tmp_path):
    from securesystemslib.signer import SSlibKey

    public = Keys(created(tmp_path)).signing_key.public_key()
    assert key_id(public) == SSlibKey.from_crypto(public).keyid
