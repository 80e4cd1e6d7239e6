"""Who can write into a store puts a hostile blob there, names it rightly and makes the ledger refer to it.

No code runs, no number in the bytes decides how much memory is taken, and the error is our own.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from unlearnkit import SISAClassifier, Store, load
from unlearnkit.cells import MANIFEST
from unlearnkit.errors import ParameterError, StateError
from unlearnkit.fsck import check
from unlearnkit.ledger import Change
from unlearnkit.parts import pack_array, unpack_array

pytest.importorskip("sqlalchemy")
resource = pytest.importorskip("resource")

N, IDS = 40, np.arange(40) + 1000
HEADROOM = 192 << 20
BOMB = 1 << 29


def records():
    rng = np.random.default_rng(2)
    X = np.round(rng.normal(size=(N, 3)), 3)
    return X, (X[:, 0] > 0).astype(int)


def frame(X):
    import pandas as pd

    return pd.DataFrame({"a": X[:, 0], "b": np.where(X[:, 1] > 0, "up", "down")}).astype({"b": "category"})


def lightgbm():
    pytest.importorskip("unlearnkit_lightgbm")
    return pytest.importorskip("lightgbm").LGBMClassifier(
        n_estimators=4, num_leaves=3, min_child_samples=2, verbose=-1, n_jobs=1
    )


def xgboost():
    pytest.importorskip("unlearnkit_xgboost")
    return pytest.importorskip("xgboost").XGBClassifier(n_estimators=4, max_depth=2, n_jobs=1)


def torch():
    nn = pytest.importorskip("torch").nn
    plugin = pytest.importorskip("unlearnkit_torch")
    return plugin.TorchModel(nn.Linear, n_features_as="in_features", n_outputs_as="out_features")


MODELS = {
    "sgd": (lambda: SGDClassifier(loss="log_loss", max_iter=2, tol=None), sp.csr_matrix),
    "forest": (lambda: RandomForestClassifier(4, max_depth=2), np.asarray),
    "lightgbm": (lightgbm, frame),
    "xgboost": (xgboost, np.asarray),
    "torch": (torch, lambda X: X.astype(np.float32)),
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A function that gives the store of a model, fitted once."""
    known = {}

    def store_of(name):
        if name not in known:
            path = tmp_path_factory.mktemp(name) / "m.sisa"
            wrapped, container = MODELS[name]
            X, y = records()
            clf = SISAClassifier(wrapped(), n_shards=1, n_slices=2, store=path, random_state=6)
            clf.fit(container(X), y, ids=IDS)
            clf.predict_proba(container(X))
            clf._ensemble.store.ledger.close()
            known[name] = path, container(X)
        return known[name]

    return store_of


@pytest.fixture
def canary(tmp_path):
    """A file that hostile code would make."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


@contextmanager
def bounded():
    """No more memory than there is, and a little."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + HEADROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def test_the_means_of_these_tests_work(tmp_path):
    with bounded(), pytest.raises(MemoryError):
        bytearray(2 * HEADROOM)
    pickle.loads(pickle.dumps(Payload(tmp_path / "made")))
    assert (tmp_path / "made").exists()


# -- states -----------------------------------------------------------------------------------------------------------


def planted(path, tmp_path, part, data):
    """A copy of the store, in which this part of the last state is that."""
    copy = shutil.copytree(path, tmp_path / "hostile.sisa")
    store = Store.at(copy)
    with closing(store.ledger):
        last = max(store.ledger.checkpoints().values(), key=lambda c: c.slice)
        name = part if part in dict(last.parts) else next(name for name, _ in last.parts if name.startswith(part))
        content = data(store.blobs.get(dict(last.parts)[name])) if callable(data) else data
        (blob,) = store.blobs.put([content])
        store.ledger.commit(replace(last, parts=tuple(sorted((dict(last.parts) | {name: blob}).items()))))
    return copy


def refused(copy, X):
    """Whether it is refused as it should be when it is loaded, or at the latest when it is used."""
    store = Store.at(copy)
    with closing(store.ledger), bounded(), pytest.raises(StateError) as error:
        load(store).predict_proba(X)
    assert str(error.value)[0].isupper()
    return True


def parts_of(path):
    store = Store.at(path)
    with closing(store.ledger):
        return [name for name, _ in max(store.ledger.checkpoints().values(), key=lambda c: c.slice).parts]


@pytest.mark.parametrize("model", MODELS)
def test_a_pickle_in_place_of_any_part_runs_no_code(stores, tmp_path, canary, model):
    path, X = stores(model)
    payload = pickle.dumps(Payload(canary))
    for i, part in enumerate(parts_of(path)):
        for j, data in enumerate((payload, zipped({"data.pkl": payload, "schema.json": payload}), b"", b"\0" * 4096)):
            folder = tmp_path / f"{i}-{j}"
            folder.mkdir()
            assert refused(planted(path, folder, part, data), X)
            assert not canary.exists()


def zipped(members, compression=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def with_member(change):
    """An archive with a member changed: a function of names and contents."""

    def changed(data):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return zipped(change({name: archive.read(name) for name in archive.namelist()}))

    return changed


LOADERS = ["ObjectNode", "FunctionNode", "MethodNode", "OperatorFuncNode", "ReduceNode", "TypeNode"]


@pytest.mark.parametrize("what", ["function", "partial", "object", *LOADERS])
@pytest.mark.parametrize(("model", "part"), [("sgd", "model"), ("forest", "header"), ("forest", "members-0")])
def test_a_forbidden_node_of_skops_runs_no_code(stores, tmp_path, canary, model, part, what):
    dumps = pytest.importorskip("skops.io").dumps
    path, X = stores(model)
    command = f"touch '{canary}'"
    if what in LOADERS:
        node = {"__class__": "system", "__module__": "posix", "__loader__": what, "content": command, "protocol": 2}
        data = with_member(lambda members: members | {"schema.json": json.dumps(node).encode()})(dumps([1]))
    else:
        data = dumps({"function": os.system, "partial": partial(os.system, command), "object": Path(canary)}[what])
    assert refused(planted(path, tmp_path, part, data), X)


def bomb(name, size=BOMB):
    """An archive with a member of this many zeros."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        for _ in range(size >> 22):
            member.write(bytes(1 << 22))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def bombs():
    schema, array = bomb("schema.json"), bomb("0.npy")
    # Says that it is small.
    lying = array.replace(struct.pack("<Q", BOMB), struct.pack("<Q", 100))
    return {"schema": schema, "array": array, "lying": lying}


@pytest.mark.parametrize("which", ["schema", "array", "lying"])
@pytest.mark.parametrize(("model", "part"), [("sgd", "model"), ("forest", "header"), ("forest", "members-1")])
def test_an_archive_that_unpacks_without_end_takes_no_memory(stores, tmp_path, bombs, model, part, which):
    path, X = stores(model)
    assert refused(planted(path, tmp_path, part, bombs[which]), X)


def huge_array(dtype="<f8", shape=(1 << 50,)):
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 64


@pytest.mark.parametrize(
    "shape", [(1 << 50,), (1 << 62, 1 << 62), (-1, -8), (1 << 40, 0), (10**400,), (True, 8), (8, -1)]
)
def test_an_array_of_absurd_shape_takes_no_memory(stores, tmp_path, shape):
    with bounded(), pytest.raises(StateError):
        unpack_array(huge_array(shape=shape))
    path, X = stores("forest")
    arrays = lambda members: {n: huge_array(shape=shape) if n.endswith(".npy") else c for n, c in members.items()}
    assert refused(planted(path, tmp_path, "members-1", with_member(arrays)), X)


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        ("header", b"num_class=1", b"num_class=1000000000"),
        ("header", b"num_tree_per_iteration=1", b"num_tree_per_iteration=1000000000"),
        ("header", b"max_feature_idx=1", b"max_feature_idx=2000000000"),
        ("trees-0001", b"num_leaves=2", b"num_leaves=1000000000"),
        ("trees-0001", b"num_cat=0", b"num_cat=1000000000"),
        ("trees-0001", b"Tree=", b"Tree=" * 100_000),
    ],
)
def test_absurd_counts_of_lightgbm_take_no_memory(stores, tmp_path, part, old, new):
    path, X = stores("lightgbm")

    def changed(data):
        assert old in data
        return data.replace(old, new, 1)

    assert refused(planted(path, tmp_path, part, changed), X)


@pytest.mark.parametrize("length", [2**31, 2**62, -1, 2**63 - 1])
@pytest.mark.parametrize(("part", "at"), [("model", b"{L"), ("trees-00001", b"#L"), ("trees-00001", b"{L")])
def test_absurd_lengths_of_xgboost_take_no_memory(stores, tmp_path, part, at, length):
    path, X = stores("xgboost")

    def changed(data):
        start = data.index(at) + 2
        return data[:start] + struct.pack(">q", length) + data[start + 8 :]

    assert refused(planted(path, tmp_path, part, changed), X)


@pytest.mark.parametrize("part", ["module.safetensors", "training.safetensors"])
@pytest.mark.parametrize("how", ["header", "shape", "nested"])
def test_absurd_sizes_of_safetensors_take_no_memory(stores, tmp_path, part, how):
    path, X = stores("torch")
    header = b'{"module.bias":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
    data = {
        "header": struct.pack("<Q", 1 << 31) + b"{" + b" " * 1000,
        "shape": struct.pack("<Q", len(header)) + header + b"\0" * 64,
        "nested": struct.pack("<Q", 100_000) + b"[" * 100_000,
    }[how]
    assert refused(planted(path, tmp_path, part, data), X)


@pytest.mark.parametrize(("model", "part"), [("torch", "state.json"), ("lightgbm", "edges"), ("xgboost", "edges")])
@pytest.mark.parametrize("data", [b"[" * 1_000_000, b'{"rows":' + b"9" * 5000 + b"}", b"[1e999,-1]", b"null", b"{}"])
def test_json_that_is_absurd_is_refused(stores, tmp_path, model, part, data):
    path, X = stores(model)
    assert refused(planted(path, tmp_path, part, data), X)


# -- data -------------------------------------------------------------------------------------------------------------


def long_stream(data):
    """An Arrow stream whose first message says that it is 2 GiB long."""
    return data[:4] + struct.pack("<I", 0x7FFFFFF0) + data[8:]


def long_buffers(data):
    """An Arrow stream in which whatever number is the length of a column is absurd."""
    changed = bytearray(data)
    for at in range(0, len(data) - 8, 8):
        if int.from_bytes(data[at : at + 8], "little") in range(16, 1000):
            changed[at : at + 8] = struct.pack("<q", 1 << 46)
    return bytes(changed)


DATA = {
    "a pickle": ("sgd", "X.data", lambda canary: pickle.dumps(Payload(canary))),
    "objects": ("forest", "X", lambda canary: object_array(Payload(canary))),
    "objects in the rows": ("forest", "rows", lambda canary: object_array(Payload(canary))),
    "an absurd shape": ("forest", "X", lambda _: huge_array(shape=(1 << 40, 3))),
    "absurd rows": ("forest", "rows", lambda _: huge_array()),
    "absurd sparse rows": ("sgd", "X.indptr", lambda _: huge_array("<i4")),
    "columns that are none": ("sgd", "X.indices", lambda _: lambda data: pack_array(unpack_array(data) + 1_000_000)),
    "a long stream": ("lightgbm", "X", lambda _: long_stream),
    "long buffers": ("lightgbm", "X", lambda _: long_buffers),
    "a stream of nothing": ("lightgbm", "X", lambda _: b"\xff\xff\xff\xff\0\0\0\0"),
}


def object_array(payload):
    buffer = io.BytesIO()
    np.save(buffer, np.array([payload] * 8, dtype=object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize("what", DATA)
def test_hostile_data_is_refused_and_found(stores, tmp_path, canary, what):
    model, part, make = DATA[what]
    copy = shutil.copytree(stores(model)[0], tmp_path / "hostile.sisa")
    store, data = Store.at(copy), make(canary)
    with closing(store.ledger):
        cell = store.ledger.cells()[0]
        parts = dict(cell.parts)
        (parts[part],) = store.blobs.put([data(store.blobs.get(parts[part])) if callable(data) else data])
        store.ledger.apply(Change(cells=(replace(cell, parts=tuple(sorted(parts.items()))),)))
        with bounded():
            assert ("cell", "shard 0, slice 0") in {(finding.kind, finding.place) for finding in check(store)}
            clf = load(store)
            with pytest.raises(StateError, match="stored records of a cell are damaged"):
                clf.verify()


@pytest.mark.parametrize("data", [b"{" * 60_000, b'{"format":1e999}', b'{"format":1,"shard":0,"slice":0,"parts":[]}'])
def test_a_hostile_manifest_is_passed_over(stores, tmp_path, data):
    copy = shutil.copytree(stores("forest")[0], tmp_path / "hostile.sisa")
    store = Store.at(copy)
    with closing(store.ledger):
        cell = store.ledger.cells()[0]
        store.blobs.put([data])
        (copy / "blobs" / dict(cell.parts)["X"]).unlink()
        with bounded(), pytest.raises(StateError, match="shard 0 slice 0"):
            load(store)
        assert MANIFEST in dict(cell.parts)


# -- code of the user's own -------------------------------------------------------------------------------------------


def unchanged(X, f=None):
    return X


@pytest.mark.parametrize("where", ["the model", "a step", "the aggregation"])
def test_a_lambda_is_refused_before_anything_is_written(tmp_path, where):
    X, y = records()
    path = tmp_path / "m.sisa"
    model, options = SGDClassifier(loss="log_loss"), {}
    if where == "the model":
        model = make_pipeline(FunctionTransformer(lambda X: X), model)
    elif where == "a step":
        model = make_pipeline(FunctionTransformer(func=unchanged, kw_args={"f": lambda x: x}), model)
    else:
        options = {"aggregation": lambda predictions, present: predictions[present].mean(axis=0)}
    clf = SISAClassifier(model, n_shards=2, n_slices=1, store=path, **options)
    with pytest.raises(ParameterError, match="lambda"):
        clf.fit(X, y, ids=IDS)
    assert not path.exists()
    assert list(tmp_path.iterdir()) == []
