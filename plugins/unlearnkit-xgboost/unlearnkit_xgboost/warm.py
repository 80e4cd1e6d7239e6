"""A base: the trees and intercepts of a model that was trained elsewhere, as the first trees of a state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from unlearnkit.errors import CapabilityError, ParameterError, StateError
from unlearnkit.parts import pack_json, unpack_json
from unlearnkit.typing import AnyArray
from unlearnkit_xgboost import ubjson
from unlearnkit_xgboost.document import check_document, forest
from unlearnkit_xgboost.model import MODEL, joined, pieces_in_place, split, step_parts
from unlearnkit_xgboost.training import objective_of
from unlearnkit_xgboost.ubjson import Packed

if TYPE_CHECKING:
    from xgboost import Booster, XGBModel

LABELS = "labels"
_SEVERAL = ("multi:softprob", "multi:softmax")


def pack(base: Any, model: XGBModel, why_not: str, n_features: int, labels: AnyArray | None) -> dict[str, bytes]:
    """The base without what its trainer left in it, once it is known that training can go on from its margin.

    Raises
    ------
    ParameterError
        If it cannot.
    """
    if why_not:
        raise CapabilityError(f"base= cannot be honoured: {why_not}; nothing was changed.")
    document = ubjson.read(bytes(_booster(base).save_raw("ubj")))
    _check_trees(document, n_features)
    _check_outputs(document, model, labels)
    _check_labels(base, labels)
    learner = document["learner"]
    # Names, and what early stopping or scikit-learn noted: nothing that a margin depends on.
    learner.update(attributes={}, feature_names=[], feature_types=[])
    shared, trees = split(ubjson.write(document))
    names = None if labels is None else _names(labels)
    return {MODEL: shared, LABELS: pack_json(names)} | step_parts(0, trees, 0)


def start(parts: Mapping[str, bytes], model: XGBModel, classes: AnyArray | None) -> dict[str, bytes]:
    """The parts of the state to train on from, for a shard that sees these classes.

    The margin of some classes only is what the base says given that it is one of them: of several, their own trees
    and intercepts; of two where the step trains on one margin, the trees of the second and, negated, of the first.

    Raises
    ------
    StateError
        If the parts are no base of such classes.
    """
    known = _known(parts)
    if (known is None) != (classes is None):
        raise ubjson.nonsense("a base for another task")
    document = joined({name: data for name, data in parts.items() if name != LABELS})
    if known is not None and classes is not None and known != _names(classes):
        single = objective_of(model, len(classes)) not in _SEVERAL
        with pieces_in_place():
            _keep_classes(document, known, _names(classes), single=single)
            check_document(document, sum(map(len, parts.values())))
    shared, trees = split(ubjson.write(document))
    return {MODEL: shared} | step_parts(0, trees, 0)


def with_intercept(shared: bytes, base: bytes) -> bytes:
    """The model without trees, with the intercept of the base, on which its trees stand."""
    document, other = ubjson.read(shared), ubjson.read(base)
    _param(document)["base_score"] = _param(other)["base_score"]
    return ubjson.write(document)


def _param(document: Any) -> dict[str, Any]:
    param: dict[str, Any] = document["learner"]["learner_model_param"]
    return param


def _booster(base: Any) -> Booster:
    from sklearn.exceptions import NotFittedError
    from xgboost import Booster, XGBModel

    if isinstance(base, Booster):
        return base
    if not isinstance(base, XGBModel):
        raise _refusal(f"it is a {type(base).__name__}", "Give a fitted XGBoost estimator or a Booster")
    try:
        booster: Booster = base.get_booster()
    except NotFittedError as error:
        raise _refusal(f"it is a {type(base).__name__} that is not fitted", "Fit it on public data first") from error
    # As the estimator itself predicts.
    return booster if base.early_stopping_rounds is None else booster[: base.best_iteration + 1]


def _check_trees(document: Any, n_features: int) -> None:
    learner = document["learner"]
    kind, given = learner["gradient_booster"]["name"], int(_param(document)["num_feature"])
    if kind != "gbtree":
        raise _refusal(f"its booster is {kind}, which cannot be added to", 'Train it with booster="gbtree"')
    if not forest(document)["trees"]:
        raise _refusal("it has no trees", "Train it for longer")
    if given != n_features:
        raise _refusal(f"it was trained on {given} features, and X has {n_features}", "Use the same features")
    if "c" in learner["feature_types"] or forest(document).get("cats", {}).get("enc"):
        raise _refusal("it splits on categories by a vocabulary of its own", "Train it on columns of numbers")
    try:
        check_document(document, len(ubjson.write(document)))
    except StateError as error:
        raise _refusal(f"its document is not understood ({error})", "Train it with the installed XGBoost") from error


def _check_outputs(document: Any, model: XGBModel, labels: AnyArray | None) -> None:
    name, param = document["learner"]["objective"]["name"], _param(document)
    n_classes = None if labels is None else len(labels)
    ours = objective_of(model, n_classes)
    if name != ours and not {name, ours} <= set(_SEVERAL):
        raise _refusal(f"it was trained for {name}, and the model is for {ours}", "Use the same objective")
    if n_classes is not None and ours in _SEVERAL and int(param["num_class"]) != n_classes:
        raise _refusal(f"it knows {param['num_class']} classes, and y has {n_classes}", "Train it on the same")
    if n_classes is not None and any(int(t["tree_param"]["size_leaf_vector"]) > 1 for t in forest(document)["trees"]):
        raise _refusal(
            "its trees hold all classes at once, so that a shard without one of them could not be given its part",
            'Train it with multi_strategy="one_output_per_tree"',
        )


def _check_labels(base: Any, labels: AnyArray | None) -> None:
    own = getattr(base, "classes_", None)
    # XGBoost itself knows codes only.
    if labels is None or own is None or _names(own) in (_names(labels), _names(np.arange(len(labels)))):
        return
    raise _refusal(f"its classes are {_names(own)}, and those of y are {_names(labels)}", "Train it on the same")


def _refusal(reason: str, instead: str) -> ParameterError:
    return ParameterError(f"No training can start from base: {reason}; nothing was changed. {instead}.")


def _names(labels: AnyArray) -> list[str]:
    return [str(label) for label in np.asarray(labels).tolist()]


def _known(parts: Mapping[str, bytes]) -> list[str] | None:
    if LABELS in parts:
        match unpack_json(parts[LABELS]):
            case None:
                return None
            case [_, _, *_] as labels if all(isinstance(label, str) for label in labels):
                return list(labels)
    raise ubjson.nonsense("no packed base")


def _keep_classes(document: Any, known: Sequence[str], wanted: Sequence[str], *, single: bool) -> None:
    """Leave the trees and intercepts of these classes alone, in their order."""
    param, found = _param(document), forest(document)
    scores = np.array(param["base_score"].strip("[]").split(","), dtype=np.float64)
    if not set(wanted) <= set(known) or not len(scores) == len(known) == int(param["num_class"]):
        raise ubjson.nonsense("a base for other classes")
    places = [known.index(label) for label in wanted]
    _keep_trees(found, places)
    if single:
        _make_single(document, scores[places])
    else:
        param["num_class"] = str(len(places))
        param["base_score"] = _written(scores[places])
        document["learner"]["objective"]["softmax_multiclass_param"]["num_class"] = str(len(places))


def _keep_trees(found: dict[str, Any], places: Sequence[int]) -> None:
    kept = [i for i, output in enumerate(found["tree_info"]) if output in places]
    ends = np.searchsorted(kept, found["iteration_indptr"]).tolist()
    trees = [found["trees"][i] | {"id": new} for new, i in enumerate(kept)]
    outputs = [places.index(found["tree_info"][i]) for i in kept]
    found.update(trees=trees, tree_info=outputs, iteration_indptr=ends)
    found["gbtree_model_param"]["num_trees"] = str(len(kept))


def _make_single(document: Any, scores: AnyArray) -> None:
    """Of two classes the second against the first, by one margin."""
    param, found = _param(document), forest(document)
    pairs = zip(found["trees"], found["tree_info"], strict=True)
    found["trees"] = [tree if output else _negated(tree) for tree, output in pairs]
    found["tree_info"] = [0] * len(found["trees"])
    param["num_class"] = "0"
    param["base_score"] = _written(expit(scores[1:] - scores[:1]))
    document["learner"]["objective"] = {"name": "binary:logistic", "reg_loss_param": {"scale_pos_weight": "1"}}


def _negated(tree: dict[str, Any]) -> dict[str, Any]:
    """The same splits to leaves of the opposite sign, which lie where other nodes have their thresholds."""
    leaf = tree["left_children"].numbers() == -1
    values, weights = (tree[name] for name in ("split_conditions", "base_weights"))
    turned = np.where(leaf, -values.numbers(), values.numbers()).astype(values.numbers().dtype)
    return tree | {
        "split_conditions": Packed(values.kind, turned.tobytes()),
        "base_weights": Packed(weights.kind, (-weights.numbers()).astype(weights.numbers().dtype).tobytes()),
    }


def _written(scores: AnyArray) -> str:
    return "[" + ",".join(f"{score:.9g}" for score in scores) + "]"
