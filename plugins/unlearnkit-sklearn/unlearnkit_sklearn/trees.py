"""Many decision trees as one compact part: their nodes column by column, and what they have in common once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from unlearnkit.errors import StateError
from unlearnkit.parts import pack_array, pack_json, unpack_array, unpack_json
from unlearnkit.typing import AnyArray
from unlearnkit_sklearn import archives

LEAF, NO_FEATURE = -1, -2
SIDES = ("left_child", "right_child")
WEIGHT, IMPURITY = "weighted_n_node_samples", "impurity"
# What scikit-learn writes into leaves: they have nothing to compare and, in fully grown trees, nothing to part.
AT_LEAVES = {"left_child": LEAF, "right_child": LEAF, "threshold": -2.0, IMPURITY: 0.0, "missing_go_to_left": 0}
# To compress the one would take most of the time for a tenth of the size; the other may be nothing but ones, which an
# archive has to hold plain anyway.
PLAIN = frozenset({"threshold.npy", "left_child.npy"})
INTEGERS = (np.int8, np.int16, np.int32)
# What one tree of a forest has of its own, next to the nodes; the rest is the same in all of them.
OWN = ("random_state", "tree_")


def pack_trees(estimators: Sequence[Any], dump: Any) -> bytes:
    """Fitted tree estimators that differ in their nodes and seeds only.

    Parameters
    ----------
    estimators : sequence of DecisionTree or ExtraTree estimators
        At least one.
    dump : callable
        Turns the common part, a tree estimator without nodes, into bytes.
    """
    states = [estimator.tree_.__getstate__() for estimator in estimators]
    nodes = np.concatenate([state["nodes"] for state in states])
    kind, (n_features, n_classes, n_outputs), _ = estimators[0].tree_.__reduce__()
    assert kind.__name__ == "Tree"
    meta = {
        "depths": [int(state["max_depth"]) for state in states],
        "seeds": [_plain_seed(estimator.random_state) for estimator in estimators],
        "shape": [int(n_features), [int(n) for n in n_classes], int(n_outputs)],
    }
    counts = np.asarray([len(state["nodes"]) for state in states], dtype=np.int64)
    values = _shares(np.concatenate([state["values"] for state in states]), nodes[WEIGHT])
    columns = {f"{name}.npy": pack_array(column) for name, column in _columns(nodes, counts, values)}
    common = dump(_common(estimators[0]))
    arrays = {"counts.npy": pack_array(counts), "values.npy": pack_array(values)}
    return archives.pack({"meta.json": pack_json(meta), "common.skops": common} | arrays | columns, PLAIN)


def _columns(nodes: AnyArray, counts: AnyArray, values: AnyArray) -> Iterator[tuple[str, AnyArray]]:
    """The nodes column by column, but not what follows from the values.

    Children by their distance, and without what is the same in every leaf.
    """
    inner = nodes["feature"] != NO_FEATURE
    known = _known_by(values) if values.dtype.kind == "i" else {}
    for name in nodes.dtype.names or ():
        column = nodes[name]
        if name in known and known[name].tobytes() == column.tobytes():
            continue
        if name in SIDES:
            column = np.where(column == LEAF, LEAF, column - _places(counts))
        if name in AT_LEAVES and _are_all(column[~inner], AT_LEAVES[name]):
            column = column[inner]
        yield name, _narrow(name, column)


def _known_by(counts: AnyArray) -> dict[str, AnyArray]:
    """What nodes with these counts (n, outputs, classes) have for weight and impurity, if that is Gini's.

    In the order of scikit-learn's own arithmetic, and each number by itself, so that the bits are the same everywhere.
    """
    with np.errstate(all="ignore"):
        sums = counts.sum(axis=2, dtype=np.float64)
        impurity = np.zeros(len(counts))
        for output in range(counts.shape[1]):
            squares = np.zeros(len(counts))
            for of_class in counts[:, output].T:
                squares += np.square(of_class, dtype=np.float64)
            impurity += 1.0 - squares / (sums[:, output] * sums[:, output])
        return {WEIGHT: sums[:, 0], IMPURITY: impurity / counts.shape[1]}


def _places(counts: AnyArray) -> AnyArray:
    """Of each node its place in its tree."""
    places: AnyArray = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return places


def _are_all(column: AnyArray, constant: float) -> bool:
    # By their bytes: two zeros may differ in their sign.
    return column.tobytes() == np.full_like(column, constant).tobytes()


def _narrow(name: str, column: AnyArray) -> AnyArray:
    """A column in the smallest kind of integers that holds it: most of what compression would cost is saved."""
    counts = name == WEIGHT and np.array_equal(column, np.rint(column))
    return _integers(column) if column.dtype.kind == "i" or counts else column


def _shares(values: AnyArray, weights: AnyArray) -> AnyArray:
    """The values as counts, where they are counts divided by the weights of the nodes, to the last bit."""
    with np.errstate(all="ignore"):
        counts = _integers(np.rint(values * weights[:, None, None]))
        # By their bytes: no count has the sign that a zero may have.
        alike = (counts / weights[:, None, None]).tobytes() == values.tobytes()
    # Counts beyond all kinds of integers would be read as shares.
    return counts if alike and counts.dtype.kind == "i" else values


def _integers(column: AnyArray) -> AnyArray:
    low, high = column.min(initial=0), column.max(initial=0)
    kinds = [kind for kind in INTEGERS if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max]
    return column.astype(kinds[0]) if kinds else column


def _plain_seed(seed: Any) -> int | None:
    """An int as it is; a live generator, which boosting leaves in its trees, says nothing about a fitted tree."""
    return int(seed) if isinstance(seed, int | np.integer) else None


def _common(estimator: Any) -> Any:
    common: Any = object.__new__(type(estimator))
    common.__dict__.update({name: value for name, value in vars(estimator).items() if name not in OWN})
    return common


def unpack_trees(data: bytes, load: Any) -> list[Any]:
    """The tree estimators behind `pack_trees`.

    Raises
    ------
    StateError
        If the bytes hold no trees, or trees with nodes that point outside them.
    """
    members = archives.unpack(data)
    try:
        meta, common = unpack_json(members["meta.json"]), load(members["common.skops"])
        arrays = {name: _array(content) for name, content in members.items() if name.endswith(".npy")}
        return _build(meta, common, arrays)
    except StateError:
        raise
    except Exception as error:
        # Wrong types anywhere in the metadata: the bytes are not ours.
        raise archives.broken(f"holds no trees ({type(error).__name__}: {error})") from error


def _array(content: bytes) -> AnyArray:
    archives.check_npy(content)
    return unpack_array(content)


def _build(meta: Any, common: Any, arrays: Mapping[str, AnyArray]) -> list[Any]:
    from sklearn.tree import BaseDecisionTree

    counts = arrays["counts.npy"]
    n_features, n_classes, n_outputs = meta["shape"]
    _check_counts(counts, arrays["feature.npy"])
    nodes = _nodes(arrays, _places(counts))
    values = _values(arrays["values.npy"], nodes)
    check_nodes(nodes, counts, n_features)
    if not isinstance(common, BaseDecisionTree) or len(values) != len(nodes):
        raise archives.broken("holds trees of another kind or without values")
    ends = np.cumsum(counts).tolist()
    shape = (n_features, np.asarray(n_classes, dtype=np.intp), n_outputs)
    rows = zip([0, *ends[:-1]], ends, meta["depths"], meta["seeds"], strict=True)
    return [_estimator(common, seed, _tree(shape, depth, nodes[a:b], values[a:b])) for a, b, depth, seed in rows]


def _check_counts(counts: AnyArray, feature: AnyArray) -> None:
    """Raise unless each tree has as many nodes as a binary tree may, and all together those that there are."""
    each = counts.tolist() if counts.ndim == 1 and counts.dtype.kind == "i" else []
    inner = np.count_nonzero(feature != NO_FEATURE)
    # In numbers without end: a sum of crafted ones could come out right.
    if not each or min(each) < 1 or sum(each) != len(feature) or len(feature) != 2 * inner + len(each):
        raise archives.broken("holds trees whose sizes do not add up")


def _nodes(arrays: Mapping[str, AnyArray], places: AnyArray) -> AnyArray:
    from sklearn.tree._tree import NODE_DTYPE

    inner = arrays["feature.npy"] != NO_FEATURE
    nodes = np.zeros(len(inner), dtype=NODE_DTYPE)
    values = arrays["values.npy"]
    known = _known_by(values) if _are_counts(values, nodes) else {}
    for name in NODE_DTYPE.names:
        stored, there = f"{name}.npy", slice(None)
        column = known[name] if stored not in arrays and name in known else arrays[stored]
        if name in AT_LEAVES and len(column) < len(nodes):
            nodes[name], there = AT_LEAVES[name], inner
        if column.shape != nodes[name][there].shape:
            raise archives.broken(f"holds trees with a column {name} of another length")
        nodes[name][there] = column
    for side in SIDES:
        nodes[side] += np.where(nodes[side] == LEAF, 0, places)
    return nodes


def _values(stored: AnyArray, nodes: AnyArray) -> AnyArray:
    if not _are_counts(stored, nodes):
        return stored
    with np.errstate(all="ignore"):
        values: AnyArray = stored / nodes[WEIGHT][:, None, None]
        return values


def _are_counts(values: AnyArray, nodes: AnyArray) -> bool:
    return values.dtype.kind == "i" and values.ndim == 3 and len(values) == len(nodes)  # noqa: PLR2004


def _tree(shape: Any, depth: int, nodes: AnyArray, values: AnyArray) -> Any:
    from sklearn.tree._tree import Tree

    tree = Tree(*shape)
    state = {"max_depth": depth, "node_count": len(nodes), "nodes": nodes, "values": np.ascontiguousarray(values)}
    tree.__setstate__(state)
    return tree


def _estimator(common: Any, seed: int | None, tree: Any) -> Any:
    estimator: Any = object.__new__(type(common))
    estimator.__dict__.update(vars(common), random_state=seed, tree_=tree)
    return estimator


def check_nodes(nodes: AnyArray, counts: AnyArray, n_features: int) -> None:
    """Raise unless every inner node has children behind it in its own tree and splits by an existing feature.

    scikit-learn follows these indices without looking.

    Raises
    ------
    StateError
        If one does not.
    """
    if len(counts) == 0 or counts.min() < 1:
        raise archives.broken("holds a tree without nodes")
    place = _places(counts)
    inner = nodes["left_child"] != LEAF
    size = np.repeat(counts, counts)
    for side in SIDES:
        child = nodes[side]
        if ((child <= place) | (child >= size))[inner].any():
            raise archives.broken(f"holds a tree with a {side} outside it")
    feature = nodes["feature"][inner]
    if ((feature < 0) | (feature >= n_features)).any():
        raise archives.broken(f"holds a tree that splits by a feature beyond the {n_features} that there are")


def check_predictor(nodes: AnyArray) -> None:
    """Raise unless the inner nodes of a histogram tree have children behind them.

    Raises
    ------
    StateError
        If one does not.
    """
    place = np.arange(len(nodes))
    inner = nodes["is_leaf"] == 0
    for side in ("left", "right"):
        child = nodes[side].astype(np.int64)
        if ((child <= place) | (child >= len(nodes)))[inner].any() or len(nodes) == 0:
            raise archives.broken(f"holds a histogram tree with a {side} child outside it")
