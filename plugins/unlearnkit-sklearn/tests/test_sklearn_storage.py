"""Stored bytes: canonical, bounded, and never code."""

import contextlib
import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from unlearnkit.errors import CapabilityError, StateError
from unlearnkit_sklearn import archives, trees
from unlearnkit_sklearn.storage import Storage

LAUNCHED = []


class Bomb:
    def __reduce__(self):
        return LAUNCHED.append, ("boom",)


@pytest.fixture
def fitted(flowers):
    return DecisionTreeClassifier(max_depth=3, random_state=0).fit(*flowers)


def edited(data, change):
    """The archive with its schema changed."""
    members = archives.unpack(data)
    schema = json.loads(members["schema.json"])
    change(schema)
    return archives.pack({**members, "schema.json": json.dumps(schema).encode()})


def tampered(data, name, content):
    return archives.pack({**archives.unpack(data), name: content})


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_equal_objects_have_equal_bytes(fitted, flowers):
    storage = Storage(fitted)
    again = DecisionTreeClassifier(max_depth=3, random_state=0).fit(*flowers)
    assert storage.dump(fitted) == storage.dump(again)
    assert storage.dump({"b", "a", "c"}) == storage.dump({"c", "b", "a"})
    assert storage.dump([fitted, fitted]) == storage.dump(storage.load(storage.dump([fitted, fitted])))


def test_identity_survives():
    one, two = ["x"], ["x"]
    storage = Storage(LogisticRegression())
    same, other = (storage.load(storage.dump(value)) for value in ([one, one], [one, two]))
    assert same[0] is same[1]
    assert other[0] is not other[1]


def test_padding_is_zero(fitted):
    storage = Storage(fitted)
    members = archives.unpack(storage.dump(fitted))
    (member,) = [m for n, m in members.items() if n.endswith(".npy") and b"left_child" in m[:300]]
    nodes = np.load(io.BytesIO(member))
    named = sum(nodes.dtype[name].itemsize for name in nodes.dtype.names)
    # As they are stored: reading them leaves what happens to be between the fields.
    raw = np.frombuffer(member, dtype=np.uint8)[-nodes.nbytes :].reshape(len(nodes), -1)
    assert named < raw.shape[1]
    assert not raw[:, named:].any()


def test_archives_carry_no_times(fitted):
    with zipfile.ZipFile(io.BytesIO(Storage(fitted).dump(fitted))) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("junk", [b"", b"junk", b"PK\x03\x04", pickle.dumps(Bomb()), archives.pack({"a": b"1"})])
def test_junk_is_a_state_error_and_runs_nothing(junk, sisa):
    for model in (LogisticRegression(), RandomForestClassifier(3)):
        learner = sisa.learner(model)
        for parts in ({"model": junk}, {"header": junk, "members-0": junk}, {"other": junk}, {}):
            with pytest.raises(StateError):
                learner.load(parts)
    assert LAUNCHED == []


def test_cut_and_flipped_bytes(fitted):
    storage = Storage(fitted)
    data = storage.dump(fitted)
    rng = np.random.RandomState(0)
    for _ in range(60):
        cut = data[: rng.randint(len(data))]
        flipped = bytearray(data)
        flipped[rng.randint(len(data))] ^= 1 << rng.randint(8)
        for wrong in (cut, bytes(flipped)):
            with contextlib.suppress(StateError):
                storage.load(wrong)


@pytest.mark.parametrize(
    ("loader", "module", "name"),
    [
        ("ObjectNode", "subprocess", "Popen"),
        ("FunctionNode", "os", "system"),
        ("TypeNode", "builtins", "eval"),
        ("ConstructorFromReduceNode", "builtins", "eval"),
        ("MethodNode", "builtins", "str"),
        ("OperatorFuncNode", "operator", "methodcaller"),
        ("ObjectNode", "unlearnkit_sklearn.usercode", "code99"),
        ("ObjectNode", "sklearn.datasets._base", "RemoteFileMetadata"),
        ("NoSuchNode", "builtins", "str"),
    ],
)
def test_foreign_names_are_never_looked_up(loader, module, name, fitted):
    storage = Storage(fitted)

    def change(schema):
        schema["content"]["content"]["criterion"] = {
            "__class__": name,
            "__module__": module,
            "__loader__": loader,
            "content": storage_of_nothing(),
        }

    with pytest.raises(StateError):
        storage.load(edited(storage.dump(fitted), change))


def storage_of_nothing():
    return {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": []}


def test_deep_nesting_is_refused(fitted):
    storage = Storage(fitted)
    text = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    with pytest.raises(StateError):
        storage.load(tampered(storage.dump(fitted), "schema.json", text))


def test_archives_cannot_grow():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b"0" * 50_000_000)
    with pytest.raises(StateError, match="unpacks to 50000000"):
        archives.unpack(buffer.getvalue())
    zeros = archives.pack({"a": bytes(10_000_000)})
    assert archives.unpack(zeros) == {"a": bytes(10_000_000)}


@pytest.mark.parametrize("shape", ["(999999999999,)", "(-1, 5)", "(2, 2)", "'x'"])
def test_array_headers_are_checked_first(shape, fitted):
    storage = Storage(fitted)
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(8)
    with pytest.raises(StateError):
        storage.load(tampered(storage.dump(fitted), "0.npy", content))
    objects = io.BytesIO()
    np.save(objects, np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(StateError):
        storage.load(tampered(storage.dump(fitted), "0.npy", objects.getvalue()))
    assert LAUNCHED == []


@pytest.mark.parametrize(
    ("field", "value"), [("left_child", 0), ("right_child", 10_000), ("feature", 77), ("feature", -3)]
)
def test_trees_that_point_outside_are_refused(field, value, fitted, flowers, sisa):
    storage = Storage(fitted)
    data = storage.dump(fitted)
    for name, member in archives.unpack(data).items():
        if name.endswith(".npy") and b"left_child" in member[:300]:
            nodes = np.load(io.BytesIO(member))
            nodes[field][0] = value
            with pytest.raises(StateError, match="holds a tree"):
                storage.load(tampered(data, name, npy(nodes)))
    learner = sisa.learner(RandomForestClassifier(3))
    parts = sisa.build(learner, sisa.rows(*flowers))[0]
    column = np.load(io.BytesIO(archives.unpack(parts["members-0"])[f"{field}.npy"])).astype(np.int64)
    column[0] = value
    with pytest.raises(StateError, match="holds a tree"):
        learner.load({**parts, "members-0": tampered(parts["members-0"], f"{field}.npy", npy(column))})


@pytest.mark.parametrize("shape", [(), (-1,), (1, -1), (1, 1, -1), (-1, 1, 1)])
def test_values_of_another_shape_are_refused(shape, flowers, sisa):
    learner = sisa.learner(RandomForestClassifier(3))
    parts = sisa.build(learner, sisa.rows(*flowers))[0]
    values = np.load(io.BytesIO(archives.unpack(parts["members-0"])["values.npy"]))
    wrong = values.reshape(shape) if shape else values[0, 0, 0]
    with pytest.raises(StateError, match="holds"):
        learner.load({**parts, "members-0": tampered(parts["members-0"], "values.npy", npy(wrong))})


def test_histogram_trees_that_point_outside_are_refused(flowers):
    model = HistGradientBoostingClassifier(max_iter=2).fit(*flowers)
    storage = Storage(model)
    data = storage.dump(model)
    for name, member in archives.unpack(data).items():
        if name.endswith(".npy") and b"is_leaf" in member[:600]:
            nodes = np.load(io.BytesIO(member))
            nodes["left"][0] = 1 << 30
            with pytest.raises(StateError, match="histogram tree"):
                storage.load(tampered(data, name, npy(nodes)))


def test_a_state_of_another_type_is_refused(flowers, sisa):
    learner, other = sisa.learner(LogisticRegression()), sisa.learner(DecisionTreeClassifier())
    with pytest.raises(StateError, match="DecisionTreeClassifier"):
        learner.load(sisa.build(other, sisa.rows(*flowers))[0])


def test_what_cannot_be_stored_safely_says_so():
    class Secret:
        pass

    model = FunctionTransformer(abs)
    with pytest.raises(CapabilityError, match="Secret"):
        Storage(model).dump([Secret()])


@pytest.mark.parametrize("weight", [1, 2**40, 0.37])
@pytest.mark.parametrize("shape", [{}, {"max_depth": 2}, {"max_leaf_nodes": 9}, {"min_samples_leaf": 100}])
@pytest.mark.parametrize("kind", [RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier])
def test_trees_come_back_with_every_number(kind, weight, shape, flowers):
    X, y = flowers
    forest = kind(5, random_state=0, **shape).fit(X, y, sample_weight=np.full(len(y), weight))
    assert_same_numbers(forest)


def assert_same_numbers(forest):
    """Pack the trees of a forest and give the names of the members, once all numbers have come back."""
    storage = Storage(forest)
    data = trees.pack_trees(forest.estimators_, storage.dump)
    for one, other in zip(forest.estimators_, trees.unpack_trees(data, storage.load), strict=True):
        before, after = (tree.tree_.__getstate__() for tree in (one, other))
        for name in before["nodes"].dtype.names:
            assert before["nodes"][name].tobytes() == after["nodes"][name].tobytes()
        assert before["values"].tobytes() == after["values"].tobytes()
    return set(archives.unpack(data))


@pytest.mark.parametrize(
    ("criterion", "weight", "n_outputs", "left_out"),
    [
        ("gini", 1, 1, {"impurity.npy", "weighted_n_node_samples.npy"}),
        ("gini", 3, 2, {"impurity.npy", "weighted_n_node_samples.npy"}),
        ("entropy", 1, 1, {"weighted_n_node_samples.npy"}),
        ("log_loss", 1, 2, {"weighted_n_node_samples.npy"}),
        ("gini", 0.37, 1, set()),
    ],
)
def test_what_follows_from_the_counts_is_not_stored(criterion, weight, n_outputs, left_out, flowers):
    X, y = flowers
    targets = np.column_stack([y, y == y[0]])[:, :n_outputs].squeeze()
    # With bootstrap, weights say how often a row is drawn, and are counts again.
    forest = RandomForestClassifier(5, criterion=criterion, bootstrap=False, max_features=1, random_state=0)
    names = assert_same_numbers(forest.fit(X, targets, sample_weight=np.full(len(y), weight)))
    assert {"impurity.npy", "weighted_n_node_samples.npy"} - names == left_out


def test_nothing_follows_from_values_that_are_no_counts(flowers):
    forest = RandomForestClassifier(5, random_state=0).fit(*flowers)
    storage = Storage(forest)
    data = trees.pack_trees(forest.estimators_, storage.dump)
    values = np.load(io.BytesIO(archives.unpack(data)["values.npy"]))
    for wrong in (values.astype(float), values[:-1], values[:, 0], values[:, :, :0], values[:, :0]):
        with pytest.raises(StateError):
            trees.unpack_trees(tampered(data, "values.npy", npy(wrong)), storage.load)


@pytest.mark.parametrize("name", ["left_child", "right_child", "threshold", "impurity", "n_node_samples", "feature"])
def test_a_column_of_another_length_is_refused(name, flowers):
    forest = RandomForestClassifier(5, criterion="entropy", random_state=0).fit(*flowers)
    storage = Storage(forest)
    data = trees.pack_trees(forest.estimators_, storage.dump)
    column = np.load(io.BytesIO(archives.unpack(data)[f"{name}.npy"]))
    for other in (column[:-1], column[:0], np.append(column, column), column[:, None]):
        with pytest.raises(StateError):
            trees.unpack_trees(tampered(data, f"{name}.npy", npy(other)), storage.load)


@pytest.mark.parametrize("criterion", ["absolute_error", "squared_error"])
def test_a_zero_keeps_its_sign(criterion):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), np.where(rng.random(60) < 0.5, -0.0, 1.0)
    forest = RandomForestRegressor(3, criterion=criterion, random_state=0).fit(X, y)
    dump, load = Storage(forest).dump, Storage(forest).load
    again = trees.unpack_trees(trees.pack_trees(forest.estimators_, dump), load)
    for one, other in zip(forest.estimators_, again, strict=True):
        assert one.tree_.value.tobytes() == other.tree_.value.tobytes()


@pytest.mark.parametrize("counts", [[], [0, 3], [-1, 4], [2**62, 2**62, 2**62, 2**62 + 3], [2, 1], [3.0], [[3]], ["3"]])
def test_sizes_of_trees_that_do_not_add_up_are_refused(counts, flowers):
    stump = RandomForestClassifier(1, max_depth=1, random_state=0).fit(*flowers)
    storage = Storage(stump)
    data = trees.pack_trees(stump.estimators_, storage.dump)
    assert trees.unpack_trees(tampered(data, "counts.npy", npy(np.array([3]))), storage.load)
    with pytest.raises(StateError):
        trees.unpack_trees(tampered(data, "counts.npy", npy(np.array(counts))), storage.load)


def test_forest_parts_are_added_and_small(flowers, sisa):
    learner = sisa.learner(RandomForestClassifier(30))
    parts = sisa.build(learner, sisa.rows(*flowers, 3))
    assert [len(p) for p in parts] == [2, 3, 4]
    assert parts[0]["members-0"] == parts[2]["members-0"]
    state = learner.load(parts[2])
    trees = [tree.tree_.__getstate__() for tree in learner.whole(state).estimators_]
    raw = sum(t["nodes"].nbytes + t["values"].nbytes for t in trees)
    assert sum(map(len, parts[2].values())) < raw / 2
