"""The layout of XGBoost's model document, and what has to agree in it before XGBoost may believe it."""

from __future__ import annotations

from typing import Any

from unlearnkit_xgboost.trees import check_trees
from unlearnkit_xgboost.ubjson import nonsense
from unlearnkit_xgboost.vocabularies import check_vocabularies


def forest(document: Any) -> dict[str, Any]:
    """Where the trees are: dart wraps a booster of the plain kind."""
    booster = document["learner"]["gradient_booster"]
    where: dict[str, Any] = (booster["gbtree"] if booster["name"] == "dart" else booster)["model"]
    return where


def check_document(document: Any, size: int) -> None:
    """Raise StateError, or what a missing piece raises, unless the document agrees with itself.

    Parameters
    ----------
    document : dict
        As `ubjson.read` gives it, with the trees that are to be used.
    size : int
        The bytes of the model that it is of: it cannot describe more outputs than that.
    """
    _check_names(document)
    _check_outputs(document, size)
    if document["learner"]["gradient_booster"]["name"] == "gblinear":
        _check_weights(document)
    else:
        _check_forest(document)


def _number(document: Any, name: str) -> int:
    return int(document["learner"]["learner_model_param"][name])


def _outputs(document: Any) -> int:
    """The margins of one row: by class or by target, never both."""
    return max(_number(document, "num_class"), _number(document, "num_target"), 1)


def _check_outputs(document: Any, size: int) -> None:
    """Refuse more outputs than `size` bytes could describe."""
    n_classes, n_targets = _number(document, "num_class"), _number(document, "num_target")
    if min(n_classes, n_targets) > 1 or max(n_classes, n_targets) > size:
        raise nonsense("its outputs are miscounted")


def _check_forest(document: Any) -> None:
    found, n_features, outputs = forest(document), _number(document, "num_feature"), _outputs(document)
    trees, ends = found["trees"], found["iteration_indptr"]
    if [tree["id"] for tree in trees] != list(range(len(trees))) or len(found["tree_info"]) != len(trees):
        raise nonsense("its trees are miscounted")
    if ends[0] != 0 or ends[-1] != len(trees) or ends != sorted(ends):
        raise nonsense("its rounds are miscounted")
    if len(document["learner"]["gradient_booster"].get("weight_drop", trees)) != len(trees):
        raise nonsense("its dropped trees are miscounted")
    if not all(0 <= i < outputs for i in found["tree_info"]):
        raise nonsense("its trees belong to no output")
    check_trees(trees, n_features, outputs)
    if "cats" in found:
        check_vocabularies(found["cats"], n_features)


def _check_weights(document: Any) -> None:
    weights = document["learner"]["gradient_booster"]["model"]["weights"].numbers()
    if len(weights) != (_number(document, "num_feature") + 1) * _outputs(document):
        raise nonsense("its weights are miscounted")


def _check_names(document: Any) -> None:
    learner, n_features = document["learner"], _number(document, "num_feature")
    if any(len(learner[name]) not in (0, n_features) for name in ("feature_names", "feature_types")):
        raise nonsense("its features are miscounted")
