"""Nothing of a forgotten record is left: in no blob, ledger, log of a ledger, temporary file, receipt or message."""

from __future__ import annotations

import base64
import gzip
import io
import logging
import re
import sqlite3
import tempfile
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from unlearnkit import Store, load, wrap
from unlearnkit.adapters import Adapter
from unlearnkit.data import Sought
from unlearnkit.ledger import ISOLATED
from unlearnkit.testing import RememberingLearner

# -- the search ------------------------------------------------------------------------------------------------------

COMPRESSED = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]")
BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
HEX = re.compile(rb"(?:[0-9a-f]{2}){16,}")
GAP = b"\x00between two layers\xff"


def layers(data: bytes, depth: int = 4) -> Iterator[bytes]:
    """The bytes, and whatever is packed in them: archives, compressed streams, base64, hex."""
    yield data
    if not depth:
        return
    for inner in (*_members(data), *_streams(data), *_texts(data)):
        yield from layers(inner, depth - 1)


def _members(data: bytes) -> Iterator[bytes]:
    if b"PK\x03\x04" in data and zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                yield archive.read(member)


def _streams(data: bytes) -> Iterator[bytes]:
    for match in COMPRESSED.finditer(data):
        try:
            unpacked = zlib.decompressobj(47).decompress(data[match.start() :], 1 << 24)
        except zlib.error:
            continue
        if unpacked:
            yield unpacked


def _texts(data: bytes) -> Iterator[bytes]:
    for match in BASE64.finditer(data):
        text = match[0].rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        yield base64.b64decode(
            text[: len(text) // 4 * 4] + text[len(text) // 4 * 4 :].ljust(4, b"=")[: 4 * (len(text) % 4 > 1)]
        )
    for match in HEX.finditer(data):
        yield bytes.fromhex(match[0].decode())


def forms(value: float) -> dict[str, bytes]:
    """How a number may be written."""
    single = np.float32(value)
    texts = {repr(float(value)), repr(float(single)), str(single), *(f"{value:.{d}g}" for d in (6, 8, 9, 15, 16, 17))}
    binary = {f"{kind}:{value!r}": np.array(value, kind).tobytes() for kind in ("<f8", ">f8", "<f4", ">f4")}
    widened = {f"{kind} of single:{value!r}": np.array(single, kind).tobytes() for kind in ("<f8", ">f8")}
    # Shorter ones would be found anywhere.
    return binary | widened | {f"text:{text}": text.encode() for text in texts if len(text) > 6 and "." in text}


def names_of(value: Any) -> dict[str, bytes]:
    """How an id may be written."""
    text = str(value)
    found = {f"id:{coding}": text.encode(coding) for coding in ("utf-8", "utf-16-le", "utf-16-be")}
    if isinstance(value, int):
        found |= {f"id:{kind}": np.array(value, kind).tobytes() for kind in ("<i8", ">i8", "<f8", ">f8")}
    return found


def sources(path, tmp, *texts: str) -> Iterator[tuple[str, bytes]]:
    """Everything there is to search, by name."""
    for folder in (path, tmp):
        for file in sorted(folder.rglob("*")):
            yield str(file.relative_to(folder)), str(file.relative_to(folder)).encode()
            if file.is_file():
                yield str(file.relative_to(folder)), file.read_bytes()
    for i, text in enumerate(texts):
        yield f"text {i}", text.encode()


def search(found_in: Iterator[tuple[str, bytes]], needles: dict[str, bytes]) -> list[tuple[str, str]]:
    """(place, needle) of the first hit of each needle in what lies open, and in what was unpacked (``place!``)."""
    opened, packed = [], []
    for name, data in found_in:
        opened.append((name, data))
        packed += [(f"{name}!", layer) for layer in _unpacked(data)]
    return sorted({hit for layered in (opened, packed) for hit in _hits(layered, needles)})


@lru_cache(maxsize=1000)
def _unpacked(data: bytes) -> list[bytes]:
    _, *inner = layers(data)
    return inner


def _hits(places: list[tuple[str, bytes]], needles: dict[str, bytes]) -> Iterator[tuple[str, str]]:
    # As one: there are thousands of small ones. And most needles have three bytes that stand nowhere in them.
    whole = GAP.join(layer for _, layer in places)
    starts = [0, *accumulate(len(layer) + len(GAP) for _, layer in places)]
    there = np.zeros(1 << 24, dtype=bool)
    there[_threes(whole)] = True
    for needle, pattern in needles.items():
        at = whole.find(pattern) if there[_threes(pattern)].all() else -1
        if at >= 0:
            yield places[bisect_right(starts, at) - 1][0], needle


def _threes(data: bytes) -> Any:
    """A number for each three bytes that stand together."""
    one = np.frombuffer(data, dtype=np.uint8).astype(np.uint32)
    return one[:-2] | one[1:-1] << 8 | one[2:] << 16


WAYS = {
    "plain": lambda data: b"before" + data + b"after",
    "gzip": lambda data: b"before" + gzip.compress(data),
    "zlib": lambda data: b"before" + zlib.compress(data),
    "base64": lambda data: b'{"payload":"' + base64.b64encode(b"{" + data * 4 + b"}") + b'"}',
    "base64url": lambda data: b'{"payload":"' + base64.urlsafe_b64encode(b"{" + data * 4 + b"}").rstrip(b"=") + b'"}',
    "hex": lambda data: b'["' + (data * 8).hex().encode() + b'"]',
}


@pytest.mark.parametrize("way", [*WAYS, "zip", "zip in gzip", "ledger"])
@pytest.mark.parametrize("form", sorted(forms(731.94826517)))
def test_the_search_finds_what_is_there(tmp_path, way, form):
    pattern = forms(731.94826517)[form]
    if way.startswith("zip"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/b.npy", b"header" + pattern)
        data = gzip.compress(buffer.getvalue()) if "gzip" in way else buffer.getvalue()
    elif way == "ledger":
        with closing(sqlite3.connect(tmp_path / "db")) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE t (value)")
            connection.execute("INSERT INTO t VALUES (?)", (pattern,))
            connection.commit()
            assert search(sources(tmp_path, tmp_path / "none"), {form: pattern}) == [("db-wal", form)]
        return
    else:
        data = WAYS[way](pattern)
    (tmp_path / "file").write_bytes(data)
    assert [needle for _, needle in search(sources(tmp_path, tmp_path / "none"), {form: pattern})] == [form]
    assert search(sources(tmp_path, tmp_path / "none"), {form: pattern[::-1] + b"?!"}) == []


# -- scenarios -------------------------------------------------------------------------------------------------------


class Remember(BaseEstimator):
    """What a `RememberingLearner` learns by: its states hold every row, as text."""


@pytest.fixture
def remember(install, helpers):
    adapter = Adapter("remember", (helpers.type_name(Remember),), lambda model, resolve: RememberingLearner())
    return install(helpers.plugin("remember", unlearnkit_adapters=lambda: [adapter]))


def lightgbm(**params):
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=6, min_child_samples=2, min_data_in_bin=1, num_leaves=6, verbose=-1, **params)


def xgboost():
    from xgboost import XGBRegressor

    return XGBRegressor(n_estimators=6, max_depth=3)


def torch():
    from torch.nn import Linear

    from unlearnkit_torch import TorchModel

    return TorchModel(
        Linear, n_features_as="in_features", n_outputs_as="out_features", optimizer_params={"lr": 1e-6}, epochs=2
    )


@dataclass(frozen=True)
class Scenario:
    """A model, how its rows come, and where at least its rows must be found while they are there."""

    make: Callable[[], Any]
    rows: str = "dense"
    slices: int = 3
    expected: str = "<f8"
    options: tuple[tuple[str, Any], ...] = ()
    own: bool = False


SCENARIOS = {
    "remembering": Scenario(Remember, expected="text", own=True),
    "naive bayes": Scenario(GaussianNB, rows="one class"),
    "neighbours": Scenario(lambda: KNeighborsClassifier(1), slices=1, expected="!"),
    "neighbours, sparse": Scenario(lambda: KNeighborsClassifier(1), rows="sparse", slices=1, expected="!"),
    "forest": Scenario(lambda: RandomForestClassifier(4), rows="single", expected="<f4", options=(("n_jobs", 2),)),
    "scaled sgd": Scenario(lambda: make_pipeline(StandardScaler(), SGDClassifier(max_iter=5, tol=None))),
    "ridge": Scenario(Ridge, rows="targets", slices=1),
    "lightgbm": Scenario(lightgbm),
    "lightgbm, frame": Scenario(lightgbm, rows="frame"),
    "lightgbm, sparse": Scenario(lightgbm, rows="sparse", options=(("n_jobs", 2),)),
    "xgboost": Scenario(xgboost, rows="targets"),
    "torch": Scenario(torch, rows="single", expected="<f4"),
}
N, ERASURES = 120, 5


def canaries(rng, n):
    """Numbers like no other in the data, whose bytes are no text either."""
    found: list[float] = []
    while len(found) < n:
        value = float(np.float32(rng.uniform(100, 999)))
        if max(np.float32(value).tobytes()) > 0x7F and value not in found and len(repr(value)) > 9:
            found.append(value)
    return np.array(found)


def make_rows(kind, rng):
    """Features of which the first column has canaries, targets, and ids that several rows share."""
    ids = np.array([int(i) for i in rng.integers(10**14, 10**15, 60)])[rng.integers(0, 60, N)]
    X = rng.normal(size=(N, 4))
    X[:, 0], X[:, 1] = canaries(rng, N), canaries(rng, N) / 2**17
    y: Any = rng.integers(0, 3, N)
    if kind == "one class":
        y = (np.arange(N) < 2).astype(int)
    if kind == "targets":
        y = canaries(rng, N) / 2**10
    if kind == "single":
        X = X.astype(np.float32)
    if kind == "sparse":
        return sp.csr_matrix(X), y, ids
    if kind == "frame":
        table = pd.DataFrame(X, columns=list("abcd"))
        return table.assign(kind=pd.Categorical(rng.choice(["x", "y", "z"], N))), y, ids
    return X, y, ids


def values_of(X, y, rows):
    """The unique numbers of these rows: columns a and b, and targets that are no classes."""
    dense = X.toarray() if sp.issparse(X) else np.asarray(X.iloc[:, :4] if hasattr(X, "iloc") else X)
    numbers = dense[rows][:, :2].ravel().tolist()
    return numbers + (y[rows].tolist() if y.dtype.kind == "f" else [])


def keyed(model, gone):
    """What finds and describes the records of these ids in the store: addresses, digests, keys, names of blobs."""
    ensemble = model._ensemble
    addresses = set(map(bytes.fromhex, ensemble._eraser.addresses.items(gone)))
    needles = {}
    for shard in range(ensemble.config.n_shards):
        records = ensemble._build.records.shard(shard)
        for i in np.flatnonzero(records.matching(Sought.of(addresses))):
            for name in ("rid", "content", "u"):
                value = getattr(records, name)[i].tobytes()
                needles |= {f"{name}:{shard}/{i}": value, f"{name} as hex:{shard}/{i}": value.hex().encode()}
    assert needles
    return needles


def held(model):
    """Keys of steps and digests of slices: what was made of rows."""
    ledger = model._ensemble.store.ledger
    return set(ledger.keys()) | {cell.digest for cell in ledger.cells() if cell.n}


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Where the store is, and where temporary files go."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    for name in ("TMPDIR", "JOBLIB_TEMP_FOLDER"):
        monkeypatch.setenv(name, str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    _unpacked.cache_clear()
    return tmp_path / "a.sisa", temporary


@pytest.mark.parametrize("name", SCENARIOS)
def test_random_erasures_leave_nothing(places, name, request, capfd, caplog):
    scenario = SCENARIOS[name]
    if scenario.own:
        request.getfixturevalue("remember")
    path, temporary = places
    caplog.set_level(logging.DEBUG)
    rng = np.random.default_rng(sorted(SCENARIOS).index(name))
    X, y, ids = make_rows(scenario.rows, rng)
    options = {"n_shards": 3, "n_slices": scenario.slices, "random_state": 1, "when_isolated": "prior"}
    clf = wrap(scenario.make(), store=path, **options | dict(scenario.options)).fit(X, y, ids=ids)
    forgotten: dict[str, bytes] = {}
    texts: list[str] = []
    met: set[str] = set()

    def everywhere():
        out, err = capfd.readouterr()
        texts.extend([out, err, caplog.text])
        return sources(path, temporary, *texts)

    known = rng.permutation(np.unique(ids))
    given = {"estimator": scenario.make()} if scenario.own else {}
    for _ in range(ERASURES):
        gone, known = known[: (k := int(rng.integers(1, 4)))].tolist(), known[k:]
        rows = np.isin(ids, gone)
        clear = {needle: pattern for i in gone for needle, pattern in names_of(i).items()}
        numbers = {needle: pattern for value in values_of(X, y, rows) for needle, pattern in forms(value).items()}
        by_key = keyed(clf, gone)
        hits = search(everywhere(), numbers | by_key | clear)
        # The search finds each number of each row while it is there, and never an id.
        for value in values_of(X, y, rows):
            assert any(repr(value) in needle for _, needle in hits)
        met |= {"".join(hit) for hit in hits if hit[1] in numbers}
        assert {needle for needle in by_key if "hex" not in needle} <= {needle for _, needle in hits}
        assert not [hit for hit in hits if hit[1] in clear]
        before = held(clf)
        how = rng.integers(3)
        if how == 0:
            Store.at(path).submit([gone])
            clf = load(path, **given)
        else:
            clf.forget(gone, repair=bool(how == 1))
        clf._ensemble._sync()
        forgotten |= clear | numbers | by_key
        forgotten |= {f"key:{key}": key.encode() for key in before - held(clf)}
        texts += [repr(clf.receipts()), *(receipt.to_json() for receipt in clf.receipts()), repr(clf)]
        # Before the repair, after it, and after another process has looked.
        assert search(everywhere(), forgotten) == []
        if rng.random() < 0.5:
            clf.repair()
            assert search(everywhere(), forgotten) == []
    clf = load(path, **given)
    clf.repair()
    assert clf.predict(X).shape == (N,)
    assert clf.verify().exact
    assert search(everywhere(), forgotten) == []
    assert any(scenario.expected in hit for hit in met)
    store = clf._ensemble.store
    assert set(store.blobs.names()) == store.ledger.references()


# -- the last of its kind --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 2])
def test_a_category_and_a_class_that_only_one_row_had(places, place, capfd):
    path, temporary = places
    rng = np.random.default_rng(5)
    X, y, _ = make_rows("frame", rng)
    ids = np.array([f"customer-{i:05d}" for i in range(N)])
    clf = wrap(lightgbm(), n_shards=2, n_slices=3, random_state=0).fit(X, y, ids=ids)
    # The canary lies in the first or in the last slice.
    row = next(i for i in range(N) if clf.partition_.locate(ids[i])[0][1] == place)
    X["kind"] = X["kind"].cat.add_categories(["okapi"])
    X.loc[row, "kind"] = "okapi"
    labels = np.array(["ash", "birch", "cedar", "yew"])[y]
    labels[row] = "yew"
    clf = wrap(lightgbm(), n_shards=2, n_slices=3, random_state=0, store=path).fit(X, labels, ids=ids)
    needles = {n: p for value in values_of(X, y, [row]) for n, p in forms(value).items()}
    needles |= keyed(clf, [ids[row]])
    assert search(sources(path, temporary), needles)
    assert search(sources(path, temporary), names_of(str(ids[row]))) == []
    receipt = clf.forget(ids[row])
    assert set(receipt.unsupported) == {"column 'kind': category 'okapi'", "class 'yew'"}
    assert "okapi" in clf.schema_.to_json()
    assert clf.classes_.tolist() == ["ash", "birch", "cedar", "yew"]
    out = "".join(capfd.readouterr())
    needles |= names_of(str(ids[row]))
    assert search(sources(path, temporary, out, receipt.to_json()), needles) == []
    # A statement names it as what the schema still has, and knows nothing else of the row.
    predicates = [layer for line in clf._ensemble.store.ledger.statements() for layer in layers(line.encode())]
    assert any(b"okapi" in layer for layer in predicates)
    again = load(path)
    assert again.predict(X).shape == (N,)
    rest = np.arange(N) != row
    twin = again.pinned().fit(X[rest], labels[rest], ids=ids[rest])
    assert twin.model_digest_ == again.model_digest_


def test_what_has_no_id_leaves_nothing_either(places):
    path, temporary = places
    X, y, _ = make_rows("dense", np.random.default_rng(6))
    clf = wrap(GaussianNB(), n_shards=3, n_slices=3, random_state=0, store=path).fit(X, y)
    needles = {n: p for value in values_of(X, y, [7, 8]) for n, p in forms(value).items()} | keyed(clf, [7, 8])
    handles = clf.partition_.handles([b"i7", b"i8"])
    needles |= {f"handle:{i}": handle.tobytes() for i, handle in enumerate(handles)}
    found = {needle for _, needle in search(sources(path, temporary), needles)}
    assert {"handle:0", "handle:1"} <= found
    clf.forget([7, 8], repair=False)
    assert search(sources(path, temporary), needles) == []


def test_a_model_that_is_saved_brings_nothing_with_it(places):
    path, temporary = places
    X, y, ids = make_rows("dense", np.random.default_rng(7))
    clf = wrap(KNeighborsClassifier(1), n_shards=3, random_state=0).fit(X, y, ids=ids)
    first, later = [int(ids[0])], [int(ids[np.flatnonzero(ids != ids[0])[0]])]
    needles = {
        n: p for gone in (first, later) for v in values_of(X, y, np.isin(ids, gone)) for n, p in forms(v).items()
    }
    own = {n: p for v in values_of(X, y, np.isin(ids, first)) for n, p in forms(v).items()} | keyed(clf, first)
    needles |= keyed(clf, later) | keyed(clf, first) | names_of(first[0]) | names_of(later[0])
    clf.forget(first)
    clf.save(path)
    assert search(sources(path, temporary), own | names_of(first[0])) == []
    assert search(sources(path, temporary), needles)
    clf.forget(later)
    assert search(sources(path, temporary), needles) == []


def test_requests_that_change_nothing_leave_no_address(places):
    path, temporary = places
    X, y, ids = make_rows("dense", np.random.default_rng(8))
    clf = wrap(GaussianNB(), n_shards=3, n_slices=2, random_state=0, store=path).fit(X, y, ids=ids)
    addresses = clf._ensemble._eraser.addresses
    asked = [123456789012345, int(ids[0])]
    needles = names_of(asked[0]) | names_of(asked[1])
    for address in addresses.items(asked):
        needles |= {f"address:{address}": bytes.fromhex(address), address: address.encode()}
    clf.forget(asked[1])
    assert search(sources(path, temporary), needles) == []
    # One that was never there, one that was forgotten before, and both.
    Store.at(path).submit([asked[:1], asked[1:], asked])
    assert search(sources(path, temporary), needles)
    assert [bool(r.rejected) for r in load(path).receipts()] == [False, True, False, False]
    assert search(sources(path, temporary), needles) == []


def test_a_purge_that_a_reader_held_up_is_done_when_the_store_is_opened_next(places, monkeypatch):
    path, temporary = places
    monkeypatch.setattr("unlearnkit.database.READER_S", 0)
    X, y, ids = make_rows("dense", np.random.default_rng(9))
    clf = wrap(GaussianNB(), n_shards=3, n_slices=2, random_state=0, store=path).fit(X, y, ids=ids)
    gone = [int(ids[0])]
    needles = keyed(clf, gone) | names_of(gone[0])
    needles |= {n: p for v in values_of(X, y, ids == gone[0]) for n, p in forms(v).items()}
    with closing(sqlite3.connect(path / "ledger.sqlite")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        with pytest.warns(RuntimeWarning, match="A reader"):
            receipt = clf.forget(gone, repair=False)
        assert receipt.purged_at is None
        assert [r.state for r in clf._ensemble.store.ledger.requests()] == [ISOLATED]
        # The rows have gone already; the log of the ledger still has where they were.
        hits = {place for place, _ in search(sources(path, temporary), needles)}
        assert hits <= {"ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-wal!", "ledger.sqlite!"}
    assert load(path).receipts()[0].purged_at is not None
    assert search(sources(path, temporary), needles) == []


# -- data that stays where it is ------------------------------------------------------------------------------------


EXTERNAL = {
    "naive bayes": Scenario(GaussianNB),
    "scaled sgd": Scenario(lambda: make_pipeline(StandardScaler(), SGDClassifier(max_iter=5, tol=None))),
    "ridge": Scenario(Ridge, rows="targets", slices=1),
    "lightgbm, frame": Scenario(lightgbm, rows="frame"),
}


def digests_of(model, gone):
    """The keyed hashes of the records of these ids, as bytes."""
    ensemble = model._ensemble
    addresses = set(map(bytes.fromhex, ensemble._eraser.addresses.items(gone)))
    needles = {}
    for shard in range(ensemble.config.n_shards):
        records = ensemble._build.records.rows(shard)
        for i in np.flatnonzero(records.matching(Sought.of(addresses))):
            needles |= {f"{name}:{shard}/{i}": getattr(records, name)[i].tobytes() for name in ("rid", "content", "u")}
    return needles


@pytest.mark.parametrize("name", EXTERNAL)
def test_a_store_of_external_data_never_has_a_value_target_or_id(places, name, capfd, caplog):
    scenario, (path, temporary) = EXTERNAL[name], places
    caplog.set_level(logging.DEBUG)
    rng = np.random.default_rng(3)
    X, y, ids = make_rows(scenario.rows, rng)
    every = np.ones(N, dtype=bool)
    # Of so many, the four bytes of one or the other are found anywhere.
    numbers = {n: p for value in values_of(X, y, every) for n, p in forms(value).items() if len(p) > 4}
    clear = {n: p for i in np.unique(ids).tolist() for n, p in names_of(i).items()}
    clf = wrap(scenario.make(), store=path, data="external", n_shards=3, n_slices=scenario.slices, random_state=1)
    clf.fit(X, y, ids=ids)

    def everywhere():
        out, err = capfd.readouterr()
        return sources(path, temporary, out, err, caplog.text)

    gone = np.unique(ids)[:3].tolist()
    digests = digests_of(clf, gone)
    hits = {needle for _, needle in search(everywhere(), numbers | clear | digests)}
    # The digests are all there, and nothing else.
    assert hits == set(digests) != set()
    clf.forget(gone, repair=False)
    assert search(everywhere(), numbers | clear | digests) == []
    clf.repair(load_rows=lambda shard, place: (X, y, ids))
    assert search(everywhere(), numbers | clear | digests) == []
    stored = wrap(scenario.make(), store=path.with_name("b.sisa"), n_shards=3, n_slices=scenario.slices, random_state=1)
    stored.fit(X, y, ids=ids)
    assert search(sources(path.with_name("b.sisa"), temporary), numbers)
