"""Whether trees from stored bytes are trees: XGBoost follows their pointers without asking.

Every child must name its parent, so no path from the root can return to where it was or leave the arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unlearnkit.typing import AnyArray, IntArray
from unlearnkit_xgboost.ubjson import Packed, nonsense

PER_NODE = (
    *("left_children", "right_children", "parents", "split_indices", "split_conditions"),
    *("default_left", "split_type", "sum_hessian", "loss_changes"),
)
MAX_CATEGORY = 1 << 24  # floats count no further; XGBoost refuses larger ones in data
MAX_CATEGORY_BITS = 1 << 31  # what the category sets of one tree may take once decoded: 256 MiB


def check_trees(trees: Sequence[Any], n_features: int, outputs: int) -> None:
    """Raise StateError unless each tree, as `ubjson.read` gives it, can be walked by any row.

    Parameters
    ----------
    trees : sequence of dict
    n_features, outputs : int
        The features of a row, and its margins.
    """
    sizes = [_checked_size(tree, n_features, outputs) for tree in trees]
    if sizes:
        _check_paths(trees, np.array(sizes), n_features)


def _checked_size(tree: Any, n_features: int, outputs: int) -> int:
    """The number of nodes of a tree whose arrays are as long as they have to be."""
    n, width = _size(tree, n_features, outputs)
    for name in PER_NODE:
        if len(_packed(tree, name)) != n:
            raise nonsense(f"{name} is of another length")
    _check_leaves(tree, n, width)
    _check_categories(tree, n)
    return n


def _check_paths(trees: Sequence[Any], sizes: IntArray, n_features: int) -> None:
    """Check the pointers of all trees at once: one tree after the other takes four times as long."""
    left, right, parents, used = (np.concatenate([tree[name].numbers() for tree in trees]) for name in PER_NODE[:4])
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    inner = np.flatnonzero(left != -1)
    first, n = first[inner], np.repeat(sizes, sizes)[inner]
    for child in (left[inner], right[inner]):
        if not ((child >= 1) & (child < n)).all() or not (parents[first + child] == inner - first).all():
            raise nonsense("a node whose child is not its own")
    if not _within(used[inner], 0, n_features):
        raise nonsense("a split on a feature that is not there")


def _size(tree: Any, n_features: int, outputs: int) -> tuple[int, int]:
    try:
        param = tree["tree_param"]
        n, width = int(param["num_nodes"]), int(param["size_leaf_vector"])
        honest = (
            n >= 1
            and width in (0, 1, outputs)
            and int(param["num_feature"]) == n_features
            and int(param["num_deleted"]) < n
        )
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise nonsense("a tree without its sizes") from error
    if not honest:
        raise nonsense("a tree of another size")
    return n, max(width, 1)


def _packed(tree: dict[str, Any], name: str) -> Packed:
    packed = tree.get(name)
    if not isinstance(packed, Packed):
        raise nonsense(f"a tree without {name}")
    return packed


def _within(numbers: AnyArray, low: int, high: int) -> bool:
    return len(numbers) == 0 or bool(low <= numbers.min() and numbers.max() < high)


def _check_leaves(tree: dict[str, Any], n: int, width: int) -> None:
    """A leaf has one value, or in its right child the place of a value for each output."""
    if width == 1 and len(_packed(tree, "base_weights")) == n:
        return
    slots = tree["right_children"].numbers()[tree["left_children"].numbers() == -1]
    if width == 1 or not _within(slots, 0, len(_packed(tree, "leaf_weights")) // width):
        raise nonsense("a leaf without its values")


def _check_categories(tree: dict[str, Any], n: int) -> None:
    packed = [_packed(tree, f"categories{part}") for part in ("", "_nodes", "_segments", "_sizes")]
    if not any(packed):
        return
    values, nodes, starts, sizes = (one.numbers() for one in packed)
    if not len(nodes) == len(starts) == len(sizes) or not _within(values, 0, MAX_CATEGORY):
        raise nonsense("category splits that do not agree")
    inside = (starts >= 0) & (sizes > 0) & (starts <= len(values)) & (sizes <= len(values) - starts)
    if not inside.all() or not _within(nodes, 0, n):
        raise nonsense("a category split outside its tree")
    if len(nodes) and len(nodes) * (int(values.max()) + 1) > MAX_CATEGORY_BITS:
        raise nonsense("category splits beyond all bounds")
