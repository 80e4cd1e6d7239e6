"""LightGBM's text format, taken apart and put together: one header for a whole shard, the trees of each step apart.

The header keeps what prediction needs. The column ranges that LightGBM writes into it (``feature_infos``) are left
out: they are statistics of the training rows, and no prediction reads them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from unlearnkit.errors import StateError

MAX_LEAVES = 131_072

_HEADER = re.compile(
    rb"tree\nversion=v\d\n"
    rb"num_class=(?P<classes>\d{1,6})\nnum_tree_per_iteration=(?P<per_round>\d{1,6})\n"
    rb"label_index=0\nmax_feature_idx=(?P<last>\d{1,9})\n"
    rb"(objective=(?P<loss>[a-z0-9_]+)( num_class:(?P<outputs>\d{1,6}))?( (sigmoid:[-+.0-9e]{1,30}|sqrt))?\n)?"
    rb"(average_output\n)?"
    rb"feature_names=(?P<names>[^\n]+)\n(monotone_constraints=-?[01]( -?[01])*\n)?"
)
# The header of one output whose scores are predictions as they are, or by the logistic function.
_SINGLE = re.compile(
    rb"(?P<version>tree\nversion=v\d\n)num_class=1\nnum_tree_per_iteration=1\n"
    rb"(?P<shape>label_index=0\nmax_feature_idx=\d+\n)"
    rb"(?:objective=(?:binary(?P<sigmoid> sigmoid:\S+)|regression|regression_l1|huber|fair|quantile|mape)\n)?"
    rb"(?P<names>feature_names=.*)",
    re.DOTALL,
)
_MULTICLASS = (b"multiclass", b"multiclassova")
_INFOS = re.compile(rb"feature_infos=[^\n]*\n")
_NUMBER = rb"[-+]?(?:\d{1,40}(?:\.\d{0,40})?(?:e[-+]?\d{1,3})?|inf|nan)"
_NUMBERS = re.compile(rb"(?:%b)?(?: +%b)* *" % (_NUMBER, _NUMBER))
_NODES = (b"split_feature", b"threshold", b"decision_type", b"left_child", b"right_child")
_NODE_STATISTICS = (b"split_gain", b"internal_value", b"internal_weight", b"internal_count")
_LEAF_STATISTICS = (b"leaf_weight", b"leaf_count")
_SCALARS = (b"num_leaves", b"num_cat", b"is_linear", b"shrinkage", b"leaf_value")
_CATEGORIES = (b"cat_boundaries", b"cat_threshold")
_LINEAR = (b"leaf_const", b"num_features", b"leaf_features", b"leaf_coeff")
_KEYS = frozenset((*_NODES, *_NODE_STATISTICS, *_LEAF_STATISTICS, *_SCALARS, *_CATEGORIES, *_LINEAR))


def split(text: str) -> tuple[bytes, bytes]:
    """The header and the trees of a model as LightGBM writes it."""
    data = text.encode()
    header, _, rest = data.partition(b"tree_sizes=")
    trees = rest[rest.index(b"\n\n") + 2 : rest.index(b"end of trees\n")]
    return _INFOS.sub(b"", header), trees


def join(header: bytes, blocks: Sequence[bytes]) -> str:
    """One model with the trees of all blocks, in order.

    Raises
    ------
    StateError
        If header or trees are anything but what LightGBM writes: its own reader trusts counts and indices.
    """
    features = check_header(header)
    sizes = [size for block in blocks for size in check_trees(block, features)]
    per_round = int(_match(header)["per_round"])
    if not sizes or len(sizes) % per_round:
        raise nonsense(f"{len(sizes)} trees for {per_round} in each round")
    return assembled(header, sizes, blocks)


def assembled(header: bytes, sizes: Sequence[int], blocks: Sequence[bytes]) -> str:
    """The text of a model with these trees, which were checked, of these sizes in bytes.

    Raises
    ------
    StateError
        If the names in the header are no text.
    """
    infos = b"feature_infos=" + b" ".join([b"none"] * (int(_match(header)["last"]) + 1))
    counts = b"tree_sizes=" + b" ".join(b"%d" % size for size in sizes)
    try:
        return b"".join((header, infos, b"\n", counts, b"\n\n", *blocks, b"end of trees\n")).decode()
    except UnicodeDecodeError as error:
        raise nonsense("names that are not UTF-8") from error


def with_outputs(header: bytes, n: int) -> bytes | None:
    """The header of a model with n outputs, each of which LightGBM predicts as it does the single one of this model.

    None where there is no such header: there are several outputs already, or a loss whose scores are changed before
    they are predictions, except by the logistic function.
    """
    found = _SINGLE.fullmatch(header)
    if found is None:
        return None
    # One class against all others is what it calls the logistic function of each output by itself.
    loss = b"objective=multiclassova num_class:%d%b\n" % (n, found["sigmoid"]) if found["sigmoid"] else b""
    counts = b"num_class=%d\nnum_tree_per_iteration=%d\n" % (n, n)
    return found["version"] + counts + found["shape"] + loss + found["names"]


def check_header(header: bytes) -> int:
    """The number of features that the header declares, after a look at its form.

    Raises
    ------
    StateError
        If it is no header, or declares counts that the rest of it does not bear out.
    """
    found = _match(header)
    features, classes = int(found["last"]) + 1, int(found["classes"])
    # LightGBM reserves memory by one of these counts and writes by another.
    agree = int(found["per_round"]) == classes == int(found["outputs"] or 1)
    if not agree or (found["outputs"] is not None) != (found["loss"] in _MULTICLASS):
        raise nonsense("a header that contradicts itself about classes")
    if features != found["names"].count(b" ") + 1:
        raise nonsense("a header that contradicts itself about features")
    return features


def check_frame(block: bytes) -> None:
    """A look at the two ends of a block, cheap enough for every step.

    Raises
    ------
    StateError
        If the block does not begin and end as trees do.
    """
    if not (block.startswith(b"Tree=0\nnum_leaves=") and block.endswith(b"\n\n\n")):
        raise nonsense("trees that are cut off")


def check_trees(block: bytes, features: int) -> list[int]:
    """The size in bytes of each tree, after every count and index in it was checked.

    Raises
    ------
    StateError
        If a tree is malformed, or refers to nodes, leaves, categories or features that do not exist.
    """
    check_frame(block)
    pieces = block.split(b"Tree=")[1:]
    for piece in pieces:
        try:
            _check_tree(_fields(piece), features)
        except (ValueError, KeyError, IndexError) as error:
            raise nonsense("a malformed tree") from error
    return [len(piece) + len(b"Tree=") for piece in pieces]


def _fields(piece: bytes) -> dict[bytes, bytes]:
    # An empty line ends a tree for LightGBM's reader, whatever is still missing.
    body, end, rest = piece.partition(b"\n\n\n")
    index, *lines = body.split(b"\n")
    _require(index.isdigit() and end and not rest and all(lines))
    fields = dict(line.split(b"=", 1) for line in lines)
    _require(len(fields) == len(lines))
    return fields


def _check_tree(tree: dict[bytes, bytes], features: int) -> None:
    # On a token that is no number LightGBM's reader ends the process.
    _require(tree.keys() <= _KEYS and all(map(_NUMBERS.fullmatch, tree.values())))
    leaves = int(tree[b"num_leaves"])
    _require(1 <= leaves <= MAX_LEAVES and len(tree[b"leaf_value"].split()) == leaves)
    _require(tree[b"is_linear"] in (b"0", b"1") and len(tree[b"shrinkage"].split()) == 1)
    if leaves > 1:
        _check_lengths(tree, leaves)
        _check_nodes(tree, leaves, features)
    if tree[b"is_linear"] == b"1":
        _check_linear(tree, leaves, features)


def _check_lengths(tree: dict[bytes, bytes], leaves: int) -> None:
    _require(all(len(tree[key].split()) == leaves - 1 for key in _NODES))
    _require(all(len(tree[key].split()) == leaves - 1 for key in _NODE_STATISTICS if key in tree))
    _require(all(len(tree[key].split()) == leaves for key in _LEAF_STATISTICS if key in tree))


def _check_nodes(tree: dict[bytes, bytes], leaves: int, features: int) -> None:
    left, right, used, kinds = (
        _ints(tree[k]) for k in (b"left_child", b"right_child", b"split_feature", b"decision_type")
    )
    # LightGBM numbers a node after its parent, so a larger index rules out cycles.
    _require(all(i < child < leaves - 1 for pair in (left, right) for i, child in enumerate(pair) if child >= 0))
    _require(set(left) | set(right) == set(range(1, leaves - 1)) | set(range(-leaves, 0)))
    _require(all(0 <= feature < features for feature in used) and all(0 <= kind < 16 for kind in kinds))  # noqa: PLR2004
    _check_categories(tree, kinds)


def _check_categories(tree: dict[bytes, bytes], kinds: list[int]) -> None:
    count = int(tree[b"num_cat"])
    _require(0 <= count < len(kinds) + 1)
    chosen = [t for t, kind in zip(tree[b"threshold"].split(), kinds, strict=True) if kind & 1]
    _require(all(0 <= int(t) < count for t in chosen))
    if count:
        bounds = _ints(tree[b"cat_boundaries"])
        _require(len(bounds) == count + 1 and bounds[0] == 0 and bounds == sorted(bounds))
        words = _ints(tree[b"cat_threshold"])
        _require(len(words) == bounds[-1] and all(0 <= word < 2**32 for word in words))


def _check_linear(tree: dict[bytes, bytes], leaves: int, features: int) -> None:
    counts, used = _ints(tree[b"num_features"]), _ints(tree[b"leaf_features"])
    _require(len(counts) == leaves == len(tree[b"leaf_const"].split()) and min(counts) >= 0)
    _require(sum(counts) == len(used) == len(tree[b"leaf_coeff"].split()))
    _require(all(0 <= feature < features for feature in used))


def _ints(value: bytes) -> list[int]:
    return list(map(int, value.split()))


def _require(condition: object) -> None:
    if not condition:
        raise ValueError


def _match(header: bytes) -> re.Match[bytes]:
    found = _HEADER.fullmatch(header)
    if found is None:
        raise nonsense("a header of another format")
    return found


def nonsense(what: str) -> StateError:
    """The error for bytes that are no model, with what was found instead."""
    return StateError(
        f"A stored part is no LightGBM model ({what}); the model was left as it is. Rebuild the state from its records."
    )
