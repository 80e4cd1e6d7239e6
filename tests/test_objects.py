"""Blobs in an object store: what is particular to them, and the life of a model that has its blobs there."""

from __future__ import annotations

import hashlib
import http.server
import json
import pickle
import re
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor
from sklearn.linear_model import SGDClassifier
from typer.testing import CliRunner

from unlearnkit import SISAClassifier, Store, fsck, load, objects
from unlearnkit.blobs import blob_name
from unlearnkit.cli import app
from unlearnkit.errors import ParameterError, StateError, StoreError
from unlearnkit.keys import MemoryKeys
from unlearnkit.ledger import REPAIRED, MemoryLedger
from unlearnkit.objects import CONCURRENT, ObjectBlobs, is_url
from unlearnkit.overview import overview
from unlearnkit.places import meeting_place

N = 60
PATIENCE_S = 300


@pytest.fixture
def blobs(bucket):
    return ObjectBlobs(bucket.url)


def put(blobs, data):
    return blobs.put([data])[0]


def keys_in(bucket):
    """The names of all objects of a bucket, whatever their prefix."""
    return [entry["Key"] for entry in bucket.client.list_objects_v2(Bucket=bucket.name).get("Contents", ())]


def key_of(bucket, name):
    return f"{bucket.url.partition(bucket.name)[2].strip('/')}/{name}"


def overwrite(bucket, name, data):
    bucket.client.put_object(Bucket=bucket.name, Key=key_of(bucket, name), Body=data)


def versioned(bucket, status="Enabled"):
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": status})


class Recorded:
    """A bucket that keeps a list of what is asked of it."""

    def __init__(self, blobs):
        self._real, self.calls = blobs._opened, []
        blobs._opened = self

    def __getattr__(self, name):
        def call(*arguments, **options):
            self.calls.append(name)
            return getattr(self._real, name)(*arguments, **options)

        return call


@contextmanager
def answering(answer):
    """A service on the loopback interface that gives one answer to whatever it is asked; and what it was asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_one_request(self):
            self.raw_requestline = self.rfile.readline(1 << 16)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            asked.append((self.command, self.path))
            found = answer(self)
            self.close_connection = True
            if found is not None:
                status, body = found
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Connection", "close")
                self.send_header("ETag", '"0"')
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def deletion(request, code=None):
    """The answer to a request to delete objects: done, or refused for this reason."""
    body = request.rfile.read(int(request.headers["Content-Length"])).decode()
    refused = f"<Error><Key>{{}}</Key><Code>{code}</Code><Message>No.</Message></Error>"
    item = "<Deleted><Key>{}</Key></Deleted>" if code is None else refused
    answers = [item.format(key) for key in re.findall("<Key>(.*?)</Key>", body)]
    return 200, f"<DeleteResult>{''.join(answers)}</DeleteResult>".encode()


def error_body(code, more=""):
    return f"<Error><Code>{code}</Code><Message>No.</Message>{more}</Error>".encode()


# -- places and pickles -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "known"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3a://my.bucket-1/team=ml/v1.0_x/", "s3://my.bucket-1/team=ml/v1.0_x"),
    ],
)
def test_a_place_is_a_bucket_and_a_prefix(url, known):
    assert ObjectBlobs(url).url == known
    assert repr(ObjectBlobs(url)) == f"ObjectBlobs({known!r})"
    assert is_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "bucket/prefix",
        "gs://bucket/prefix",
        "s3://bucket/a/../b",
        "s3://bucket/./b",
        "s3://bucket//b",
        "s3://bucket/b?x=1",
        "s3://bucket/ä",
        "s3://key:hunter2@bucket/prefix",
    ],
)
def test_another_place_is_refused_and_not_repeated(url):
    with pytest.raises(ParameterError, match="Nothing was changed") as caught:
        ObjectBlobs(url)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ParameterError):
        ObjectBlobs("s3://bucket", endpoint="https://key:hunter2@host")


@pytest.mark.parametrize("path", ["m.sisa", "/a/b", "C:\\store", "a:b", Path("s3")])
def test_a_path_is_no_url(path):
    assert not is_url(path)


def test_a_pickle_is_the_place_without_credentials(blobs, bucket, helpers):
    name = put(blobs, b"rows of a person")
    pickled = pickle.dumps(blobs)
    for secret in (*helpers.OBJECT_KEYS, "rows"):
        assert secret.encode() not in pickled
    other = pickle.loads(pickled)
    assert other.get(name) == b"rows of a person"
    # What was seen to at the first is seen to.
    recorded = Recorded(other)
    put(other, b"a")
    assert recorded.calls == ["put"]


def test_an_endpoint_and_a_region_may_be_given(bucket, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    blobs = ObjectBlobs(bucket.url, endpoint=bucket.address, region="us-east-1")
    assert pickle.loads(pickle.dumps(blobs)).get(put(blobs, b"a")) == b"a"


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.exceptions", None)
    with pytest.raises(StoreError, match=r"unlearnkit\[s3\]"):
        put(ObjectBlobs("s3://bucket"), b"a")


# -- objects ----------------------------------------------------------------------------------------------------------


def test_an_object_has_the_name_of_its_content_below_the_prefix(blobs, bucket):
    name = put(blobs, b"a")
    assert keys_in(bucket) == [f"models/churn/{name}"]


def test_the_root_of_a_bucket_is_a_place(bucket):
    blobs = ObjectBlobs(f"s3://{bucket.name}")
    name = put(blobs, b"a")
    assert (keys_in(bucket), list(blobs.names())) == ([name], [name])


def test_names_are_listed_page_by_page_and_those_of_others_are_not(blobs, bucket, monkeypatch):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    names = blobs.put(bytes([i]) for i in range(5))
    bucket.client.put_object(Bucket=bucket.name, Key=f"models/churn/below/{'0' * 64}", Body=b"")
    bucket.client.put_object(Bucket=bucket.name, Key=f"models/churned/{'1' * 64}", Body=b"")
    overwrite(bucket, "notes.txt", b"12345")
    page = bucket.client.list_objects_v2(Bucket=bucket.name)
    assert (page["IsTruncated"], len(page["Contents"])) == (True, 2)
    assert sorted(blobs.names()) == sorted(names)
    assert blobs.sizes() == dict.fromkeys(names, 1) | {"notes.txt": 5}


def test_more_are_deleted_than_one_request_takes(blobs, bucket):
    names = blobs.put([b"a", b"b", b"c"])
    others = [blob_name(b"never" + bytes([i % 256, i // 256])) for i in range(2100)]
    recorded = Recorded(blobs)
    blobs.delete([names[0], *others[:1000], names[1], *others[1000:], "../escape"])
    assert recorded.calls == ["delete"]
    assert list(blobs.names()) == [names[2]]


def test_results_come_in_order_and_no_more_is_read_than_is_under_way():
    taken, gate, running = [], threading.Event(), []

    def items():
        for i in range(100):
            taken.append(i)
            yield i

    def call(i):
        running.append(i)
        assert gate.wait(PATIENCE_S)
        return -i

    found = []
    thread = threading.Thread(target=lambda: found.extend(objects._each(call, items())))
    thread.start()
    end = time.monotonic() + PATIENCE_S
    while (len(running) < CONCURRENT or len(taken) <= CONCURRENT) and time.monotonic() < end:
        time.sleep(0.01)
    # Whoever read on would have done so by now.
    time.sleep(0.05)
    ahead = len(taken)
    gate.set()
    thread.join()
    assert (len(running), ahead) == (100, CONCURRENT + 1)
    assert found == [-i for i in range(100)]


def test_many_are_fetched_in_order_and_each_is_checked(blobs, bucket):
    names = blobs.put(bytes([i]) * 10 for i in range(40))
    assert list(blobs.get_many(names)) == [bytes([i]) * 10 for i in range(40)]
    overwrite(bucket, names[20], b"other")
    with pytest.raises(StateError, match="named by"):
        list(blobs.get_many(names))


def test_threads_may_share_them(blobs):
    found = joblib.Parallel(8, backend="threading")(
        joblib.delayed(lambda i: blobs.get(put(blobs, bytes([i % 7]))))(i) for i in range(64)
    )
    assert found == [bytes([i % 7]) for i in range(64)]


@pytest.mark.parametrize("size", [4, 1 << 20])
@pytest.mark.parametrize("damage", ["other", "cut", "longer", "gone"])
def test_a_damaged_object_is_refused_and_healed_by_putting_it(blobs, bucket, size, damage):
    data = bytes(range(256)) * (size // 256) or b"true"
    name = put(blobs, data)
    if damage == "gone":
        bucket.client.delete_object(Bucket=bucket.name, Key=key_of(bucket, name))
    else:
        overwrite(bucket, name, {"other": b"X" + data[1:], "cut": data[:-1], "longer": data + b"?"}[damage])
    with pytest.raises(StateError, match="no blob" if damage == "gone" else "named by"):
        blobs.get(name)
    assert put(blobs, data) == name
    assert blobs.get(name) == data


def test_a_large_object_that_is_there_is_not_sent_again(blobs):
    data = b"0" * (1 << 20)
    name = put(blobs, data)
    recorded = Recorded(blobs)
    assert put(blobs, data) == name
    assert recorded.calls == ["head"]


def test_no_upload_is_in_several_parts(blobs, bucket):
    name = put(blobs, b"0" * (12 << 20))
    found = bucket.client.head_object(Bucket=bucket.name, Key=key_of(bucket, name))
    assert found["ETag"] == f'"{hashlib.md5(b"0" * (12 << 20)).hexdigest()}"'
    assert "Uploads" not in bucket.client.list_multipart_uploads(Bucket=bucket.name)


# -- what is deleted is destroyed -------------------------------------------------------------------------------------


def test_a_bucket_that_keeps_versions_is_refused_before_anything_is_put(bucket):
    versioned(bucket)
    blobs = ObjectBlobs(bucket.url)
    for change in (lambda: put(blobs, b"rows of a person"), lambda: blobs.delete([blob_name(b"a")]), blobs.ready):
        with pytest.raises(StoreError, match=r"keeps old versions.*allow_versions"):
            change()
    versions = bucket.client.list_object_versions(Bucket=bucket.name)["Versions"]
    assert {entry["Size"] for entry in versions} == {0}
    assert keys_in(bucket) == []


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_bucket_that_begins_to_keep_versions_is_noticed(blobs, bucket, size):
    put(blobs, b"a")
    versioned(bucket)
    with pytest.raises(StoreError, match="keeps old versions"):
        put(blobs, b"b" * size)
    # There it is, and a second time nothing needs to be sent: it is refused all the same.
    with pytest.raises(StoreError, match="keeps old versions"):
        put(blobs, b"b" * size)


def test_versions_that_are_suspended_or_allowed_are_no_hindrance(bucket):
    versioned(bucket)
    assert put(ObjectBlobs(bucket.url, allow_versions=True), b"a") == blob_name(b"a")
    versioned(bucket, "Suspended")
    blobs = ObjectBlobs(bucket.url)
    assert blobs.get(put(blobs, b"b")) == b"b"


def test_what_the_service_does_not_delete_is_an_error(bucket):
    blobs = ObjectBlobs(bucket.url)
    blobs.ready()
    with answering(lambda request: deletion(request, "AccessDenied")) as (address, _):
        blobs = pickle.loads(pickle.dumps(blobs))
        blobs.endpoint = address
        message = refusal(blobs, "delete")
    assert "refuses the credentials (AccessDenied)" in message


# -- errors -----------------------------------------------------------------------------------------------------------

EVERY = {
    "put": lambda blobs: put(blobs, b"a"),
    "get": lambda blobs: blobs.get(blob_name(b"a")),
    "get_many": lambda blobs: list(blobs.get_many([blob_name(b"a")])),
    "delete": lambda blobs: blobs.delete([blob_name(b"a")]),
    "names": lambda blobs: list(blobs.names()),
    "sizes": lambda blobs: blobs.sizes(),
    "ready": lambda blobs: blobs.ready(),
}


def refusal(blobs, operation):
    """The message of the error, which is the library's in no part."""
    with pytest.raises(StoreError, match="What was acknowledged before is as it was") as caught:
        EVERY[operation](blobs)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert blob_name(b"a") not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("operation", EVERY)
def test_a_bucket_that_is_not_there_is_a_store_error(bucket, operation):
    message = refusal(ObjectBlobs(f"s3://no-{bucket.name}/x"), operation)
    assert "there is no such bucket" in message
    assert "Make it" in message


@pytest.mark.parametrize("operation", EVERY)
def test_credentials_that_are_refused_are_a_store_error(bucket, operation, helpers):
    more = f"<AWSAccessKeyId>{helpers.OBJECT_KEYS[0]}</AWSAccessKeyId>"
    with answering(lambda _: (403, error_body("SignatureDoesNotMatch", more))) as (address, _):
        message = refusal(ObjectBlobs(bucket.url, endpoint=address), operation)
    assert "refuses the credentials (SignatureDoesNotMatch)" in message
    assert helpers.OBJECT_KEYS[0] not in message


@pytest.mark.parametrize("operation", EVERY)
def test_a_service_that_is_not_there_is_a_store_error(bucket, operation):
    with answering(lambda _: None) as (address, _):
        pass
    message = refusal(ObjectBlobs(bucket.url, endpoint=address, retry_s=0.2), operation)
    assert "gives no answer" in message
    assert "AWS_ENDPOINT_URL" in message


def test_that_there_are_no_credentials_is_a_store_error(bucket, monkeypatch):
    with answering(lambda _: (404, b"")) as (address, _):
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(variable)
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", address)
        message = refusal(ObjectBlobs(bucket.url, retry_s=0.2), "put")
    assert "there are no credentials" in message


@pytest.mark.parametrize(("code", "advice"), [("PermanentRedirect", "AWS_REGION"), ("SlowDown", "try again")])
def test_an_error_is_named_as_the_service_names_it(bucket, code, advice):
    status = 301 if code == "PermanentRedirect" else 503
    with answering(lambda _: (status, error_body(code))) as (address, _):
        message = refusal(ObjectBlobs(bucket.url, endpoint=address, retry_s=0.2), "put")
    assert advice in message


def test_a_passing_failure_is_tried_again(bucket):
    def answer(request):
        if request.command == "POST":
            return deletion(request)
        return (200, b"") if len(asked) > 2 else (503, error_body("SlowDown"))

    with answering(answer) as (address, asked):
        ObjectBlobs(bucket.url, endpoint=address).ready()
    assert [command for command, _ in asked] == ["PUT", "PUT", "PUT", "POST"]


def test_a_put_that_is_cut_off_is_a_store_error_and_leaves_nothing_that_is_listed(blobs, bucket):
    kept = put(blobs, b"a")

    def cut(request):
        # The half of it, and then the connection is gone.
        request.rfile.read(int(request.headers["Content-Length"]) // 2)

    with answering(cut) as (address, asked):
        broken = ObjectBlobs(bucket.url, endpoint=address, retry_s=0.2)
        broken._is_ready = True
        with pytest.raises(StoreError, match="Could not write"):
            broken.put([b"0" * 100_000])
    assert {command for command, _ in asked} == {"PUT"}
    assert list(blobs.names()) == [kept]


def test_a_put_that_fails_in_the_middle_says_so_and_leaves_whole_objects(blobs, monkeypatch):
    blobs.ready()
    real = ObjectBlobs._put

    def failing(self, data):
        if data == b"7":
            raise StoreError("no")
        return real(self, data)

    monkeypatch.setattr(ObjectBlobs, "_put", failing)
    with pytest.raises(StoreError, match="no"):
        blobs.put(str(i).encode() for i in range(10))
    left = list(blobs.names())
    assert blob_name(b"7") not in left
    assert [blob_name(blobs.get(name)) for name in left] == left
    assert len(left) >= 7


FORKED = """
import os, signal, sys
from unlearnkit.errors import StoreError
from unlearnkit.objects import ObjectBlobs

blobs = ObjectBlobs(sys.argv[1])
(name,) = blobs.put([b"a"])
if not os.fork():
    signal.alarm(60)  # where it waits for ever
    found = 0
    for use in (lambda: blobs.get(name), lambda: ObjectBlobs(sys.argv[1]).get(name)):
        try:
            use()
        except StoreError as error:
            found += "forked" in str(error)
    os._exit(found)
_, status = os.wait()
assert blobs.get(name) == b"a"
print(os.waitstatus_to_exitcode(status))
"""


def python(code, *arguments):
    """What a process prints that runs this code."""
    # Of a fork beside threads newer versions of Python warn.
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code)]
    done = subprocess.run(
        [*command, *map(str, arguments)], check=False, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_forked_process_is_told_that_it_cannot_go_on(bucket):
    assert python(FORKED, bucket.url) == "2\n"


# -- a store ----------------------------------------------------------------------------------------------------------


def records(n=N):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(n, 3))
    return X, (X[:, 0] > 0).astype(int), np.arange(n) + 1000


def model(store, **options):
    return SISAClassifier(SGDClassifier(), n_shards=3, n_slices=2, store=store, random_state=0, **options)


def apart(bucket, folder):
    return Store(blobs=bucket.url, ledger=folder / "ledger.sqlite", keys=folder / "keys")


def opened(bucket, folder):
    return Store(blobs=ObjectBlobs(bucket.url), ledger=f"sqlite:///{folder}/ledger.sqlite", keys=folder / "keys")


def pointing(bucket, folder):
    return Store.at(folder, blobs=bucket.url)


def pointed(bucket, folder):
    """The folder alone, once it knows where its blobs are."""
    return Store.at(folder)


def holding(bucket, value):
    """The objects of a bucket that have this number in them."""
    sought = (np.float64(value).tobytes(), np.float32(value).tobytes())
    bodies = {key: bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read() for key in keys_in(bucket)}
    return {key for key, body in bodies.items() if any(one in body for one in sought)}


FORGET = """
import sys
from unlearnkit import Store, load

ledger, blobs, keys, *ids = sys.argv[1:]
load(Store(blobs=blobs, ledger=ledger, keys=keys)).forget([int(i) for i in ids], repair=False)
"""


@pytest.mark.parametrize("make", [apart, opened, pointing])
def test_the_life_of_a_model(bucket, tmp_path, make):
    X, y, ids = records()
    clf = model(make(bucket, tmp_path)).fit(X, y, ids=ids)
    digest, before = clf.model_digest_, set(keys_in(bucket))
    assert digest == model(None).fit(X, y, ids=ids).model_digest_
    assert holding(bucket, X[5, 1])

    if make is opened:
        pickle.loads(pickle.dumps(clf)).forget([1005, 1006], repair=False)
    else:
        python(FORGET, tmp_path / "ledger.sqlite", bucket.url, tmp_path / "keys", 1005, 1006)
    assert not holding(bucket, X[5, 1])
    assert holding(bucket, X[7, 1])

    clf = load((pointed if make is pointing else make)(bucket, tmp_path))
    clf.repair()
    assert clf.verify().exact
    left = ~np.isin(ids, [1005, 1006])
    assert clf.model_digest_ == clf.pinned().fit(X[left], y[left], ids=ids[left]).model_digest_ != digest
    (receipt,) = clf.receipts()
    assert (receipt.n_records, receipt.repaired_at is None) == (2, False)

    store = make(bucket, tmp_path)
    assert fsck.check(store) == ()
    assert {Path(key).name for key in keys_in(bucket)} == store.ledger.references()
    assert before - set(keys_in(bucket))


def test_what_nothing_refers_to_is_swept_and_what_is_not_a_blob_is_left_alone(bucket, tmp_path):
    X, y, ids = records()
    store = apart(bucket, tmp_path)
    model(store).fit(X, y, ids=ids)
    whole = set(keys_in(bucket))
    put(store.blobs, b"of a process that has died")
    overwrite(bucket, "notes.txt", b"somebody else's")
    (finding,) = fsck.check(store)
    assert finding.kind == "orphan"
    load(apart(bucket, tmp_path))
    assert set(keys_in(bucket)) == whole | {key_of(bucket, "notes.txt")}


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("kind", ["state", "cell"])
def test_a_damaged_or_missing_object_is_found_and_put_right(bucket, tmp_path, kind, lost):
    X, y, ids = records()
    store = apart(bucket, tmp_path)
    digest = model(store).fit(X, y, ids=ids).model_digest_
    holders = list(store.ledger.checkpoints().values()) if kind == "state" else store.ledger.cells()
    name = holders[0].parts[0][1]
    if lost:
        bucket.client.delete_object(Bucket=bucket.name, Key=key_of(bucket, name))
    else:
        overwrite(bucket, name, b"other")
    assert kind in {finding.kind for finding in fsck.check(store)}
    data = fsck.Data(X, y, None, ids)
    assert all(finding.healed for finding in fsck.heal(apart(bucket, tmp_path), opener=load, data=data))
    assert fsck.check(store) == ()
    assert load(apart(bucket, tmp_path)).model_digest_ == digest


def test_the_sizes_are_told_without_reading_an_object(bucket, tmp_path, monkeypatch):
    X, y, ids = records()
    model(apart(bucket, tmp_path)).fit(X, y, ids=ids)
    put(ObjectBlobs(bucket.url), b"12345")
    store = apart(bucket, tmp_path)
    recorded = Recorded(store.blobs)
    sizes = overview(store).sizes
    assert recorded.calls == ["list_with_delimiter"]
    data = {name for cell in store.ledger.cells() for _, name in cell.parts}
    assert sizes.data == sum(len(store.blobs.get(name)) for name in data)
    assert sizes.states > 0
    assert sizes.unreferenced == 5
    assert sizes.ledger > 0


KILLED = """
import os, sys, threading
import numpy as np
from unlearnkit import SISAClassifier, Store
from unlearnkit.objects import ObjectBlobs
from joblib.externals.loky import get_reusable_executor
from sklearn.linear_model import SGDClassifier

folder, blobs, rows, dies = sys.argv[1:]
real, left, lock = ObjectBlobs._put, [int(dies)], threading.Lock()

def put(self, data):
    with lock:
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
    return real(self, data)

ObjectBlobs._put = put
found = np.load(rows)
sisa = SISAClassifier(SGDClassifier(), n_shards=3, n_slices=2, store=Store.at(folder, blobs=blobs), random_state=0)
sisa.fit(found["X"], found["y"], ids=found["ids"])
"""


@pytest.mark.parametrize("dies", [10, 22])
def test_a_process_that_dies_in_a_put_costs_nothing(bucket, tmp_path, dies):
    X, y, ids = records()
    np.savez(tmp_path / "rows.npz", X=X, y=y, ids=ids)
    command = [sys.executable, "-c", KILLED, tmp_path / "m.sisa", bucket.url, tmp_path / "rows.npz", dies]
    done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 9, done.stderr

    clf = model(Store.at(tmp_path / "m.sisa", blobs=bucket.url)).fit(X, y, ids=ids)
    assert clf.model_digest_ == model(None).fit(X, y, ids=ids).model_digest_
    store = Store.at(tmp_path / "m.sisa")
    assert fsck.check(store) == ()
    assert {Path(key).name for key in keys_in(bucket)} == store.ledger.references()


def test_a_service_that_fails_in_a_purge_leaves_the_request_open(bucket, tmp_path, monkeypatch):
    X, y, ids = records()
    clf = model(apart(bucket, tmp_path)).fit(X, y, ids=ids)

    def failing(self, names):
        raise StoreError("no")

    with monkeypatch.context() as patch:
        patch.setattr(ObjectBlobs, "delete", failing)
        with pytest.raises(StoreError, match="no"):
            clf.forget([1005])
    store = apart(bucket, tmp_path)
    assert not store.ledger.requests(REPAIRED)
    assert load(store).receipts()[0].repaired_at is not None
    assert not holding(bucket, X[5, 1])


def test_workers_in_other_processes_put_their_states_there(bucket, tmp_path):
    X, y, ids = records()
    # Workers that an earlier test has left know nothing of the credentials of this one.
    get_reusable_executor().shutdown(wait=True)
    with joblib.parallel_config("loky"):
        clf = model(apart(bucket, tmp_path), n_jobs=2).fit(X, y, ids=ids)
    assert clf.model_digest_ == model(None).fit(X, y, ids=ids).model_digest_
    assert fsck.check(apart(bucket, tmp_path)) == ()


def test_a_store_that_cannot_be_had_is_refused_before_anything_is_made(bucket, tmp_path):
    X, y, ids = records()
    elsewhere = f"s3://no-{bucket.name}/x"
    for store in (
        Store.at(tmp_path / "m.sisa", blobs=elsewhere),
        Store(blobs=elsewhere, ledger=tmp_path / "ledger.sqlite", keys=tmp_path / "keys"),
    ):
        with pytest.raises(StoreError, match="no such bucket"):
            model(store).fit(X, y, ids=ids)
    assert list(tmp_path.iterdir()) == []


def test_keys_are_asked_for_where_there_is_no_folder_for_them(bucket, tmp_path):
    with pytest.raises(ParameterError, match="keys="):
        model(Store(blobs=bucket.url, ledger=tmp_path / "ledger.sqlite")).fit(*records()[:2])
    assert keys_in(bucket) == []


# -- a folder that points there ---------------------------------------------------------------------------------------


def test_a_folder_says_where_its_blobs_are(bucket, tmp_path):
    X, y, ids = records()
    at = tmp_path / "m.sisa"
    clf = model(Store.at(at, blobs=f"{bucket.url}/")).fit(X, y, ids=ids)
    assert (at / "blobs").read_text() == f"{bucket.url}\n"
    assert sorted(path.name for path in at.iterdir() if "ledger" not in path.name) == [
        "blobs", "keys", "repair.lock", "writer.lock",
    ]  # fmt: skip
    assert load(at).model_digest_ == clf.model_digest_
    assert model(at).fit(X, y, ids=ids).model_digest_ == clf.model_digest_
    assert repr(Store.at(at, blobs=bucket.url)) == repr(Store.at(at))


@pytest.mark.parametrize("there", ["folder", "url"])
def test_blobs_that_are_elsewhere_are_not_mistaken(bucket, tmp_path, there):
    X, y, ids = records()
    at, other = tmp_path / "m.sisa", f"s3://{bucket.name}/other"
    digest = model(Store.at(at, blobs=None if there == "folder" else bucket.url)).fit(X, y, ids=ids).model_digest_
    for use in (load, fsck.check, lambda store: model(store).fit(X, y, ids=ids)):
        with pytest.raises(StoreError, match="elsewhere"):
            use(Store.at(at, blobs=other))
    assert load(at).model_digest_ == digest


def test_a_file_that_names_no_place_is_a_store_error(tmp_path, bucket):
    X, y, ids = records()
    at = tmp_path / "m.sisa"
    model(Store.at(at, blobs=bucket.url)).fit(X, y, ids=ids)
    (at / "blobs").write_bytes(b"\xff\0")
    with pytest.raises(StoreError, match="neither a folder nor"):
        load(at)


def test_a_url_is_no_folder_of_a_store(bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for use in (lambda: model(bucket.url).fit(*records()[:2]), lambda: load(bucket.url), lambda: Store.at(bucket.url)):
        with pytest.raises(ParameterError, match="only its blobs"):
            use()
    done = CliRunner().invoke(app, ["status", "--store", bucket.url])
    assert done.exit_code == 2, done.output
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_works_with_them(bucket, tmp_path):
    X, y, ids = records()
    lines = [f"{i},{a},{b},{c},{t}" for i, (a, b, c), t in zip(ids, X, y, strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(["who,a,b,c,y", *lines]))
    store = ["--store", str(tmp_path / "m.sisa")]

    def told(*command, code=0):
        done = CliRunner().invoke(app, [*command, *store, "--json"])
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    rows = ["--data", str(tmp_path / "rows.csv"), "--target", "y", "--id-column", "who"]
    told("fit", "--model", "sklearn.tree:DecisionTreeClassifier", *rows, "--blobs", bucket.url, "--shards", "3")
    assert keys_in(bucket)
    told("forget", "1005")
    assert told("verify")["exact"]
    assert told("fsck")["clean"]
    assert told("status")["sizes"]["states"] > 0
    name = next(iter(Store.at(tmp_path / "m.sisa").ledger.checkpoints().values())).parts[0][1]
    overwrite(bucket, name, b"other")
    assert not told("fsck", code=1)["clean"]
    assert told("fsck", "--repair")["findings"]
    assert told("fsck")["clean"]


# -- one writer at a time ---------------------------------------------------------------------------------------------


def test_processes_of_one_machine_meet_beside_the_ledger_the_keys_or_else_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    blobs, keys = ObjectBlobs("s3://bucket/a"), MemoryKeys()
    other = ObjectBlobs("s3://bucket/b")
    assert meeting_place(blobs, tmp_path / "a.sqlite", tmp_path / "keys") == tmp_path / "a.sqlite.locks"
    assert meeting_place(blobs, None, tmp_path / "keys") == tmp_path / "keys"
    assert meeting_place(blobs, None, keys).parent == tmp_path / "cache/unlearnkit/locks"
    assert meeting_place(blobs, None, keys) == meeting_place(ObjectBlobs("s3://bucket/a/"), None, keys)
    assert meeting_place(blobs, None, keys) != meeting_place(other, None, keys)
    assert meeting_place(Store().blobs, None, keys) is None


@pytest.mark.parametrize("kind", ["file", "keys", "neither"])
def test_one_writes_at_a_time(bucket, tmp_path, monkeypatch, kind):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def store():
        ledger = tmp_path / "ledger.sqlite" if kind == "file" else MemoryLedger()
        return Store(bucket.url, ledger, keys=MemoryKeys() if kind == "neither" else tmp_path / "keys")

    one, two = store(), store()
    with one.locks.repairer(wait=False):
        assert two.locks.is_repairing()
    assert not two.locks.is_repairing()
