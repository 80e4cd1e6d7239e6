"""A base: the trees of a model that was trained elsewhere, as the first trees of a state."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import lightgbm
import numpy as np

from unlearnkit.errors import CapabilityError, ParameterError, StateError
from unlearnkit.parts import pack_json, unpack_json
from unlearnkit.typing import AnyArray
from unlearnkit_lightgbm import text
from unlearnkit_lightgbm.settings import Settings
from unlearnkit_lightgbm.state import Edges, Trees, decode

# What of the parameters is in a header, and says how raw scores become predictions.
_IN_HEADER = ("sigmoid", "reg_sqrt")
_OBJECTIVE = re.compile(rb"objective=[^\n]*")
_TOKEN = re.compile(rb"(-?)([^ -][^ ]*)")
_SIGNED = (b"leaf_value", b"internal_value", b"leaf_const", b"leaf_coeff")


def pack(base: Any, settings: Settings, n_features: int, labels: AnyArray | None) -> dict[str, bytes]:
    """The trees of a base, once it is known that training can go on from their raw scores.

    Raises
    ------
    ParameterError
        If it cannot.
    """
    if settings.whole_only:
        raise CapabilityError(f"base= cannot be honoured: {settings.whole_only}; nothing was changed.")
    booster = _booster(base)
    _check_vocabulary(booster)
    header, trees = text.split(booster.model_to_string())
    _check_trees(header, trees, n_features)
    _check_labels(base, labels)
    blank = _check_outputs(header, settings, n_features, labels)
    return {"trees": trees, "header": blank, "labels": pack_json(None if labels is None else _names(labels))}


def start(parts: Mapping[str, bytes], settings: Settings, classes: AnyArray | None) -> Trees:
    """The state to train on from, for a shard that sees these classes.

    The scores of some classes only are what the base says given that it is one of them: of several, their own trees;
    of two where the step trains on one score, the trees of the second and, negated, of the first.

    Raises
    ------
    StateError
        If the parts are no base of such classes.
    """
    labels = _labels(parts)
    header, block = parts["header"], parts["trees"]
    # The header is as long as its features are many, so what it claims is bounded.
    n_features = text.check_header(header)
    if (labels is None) != (classes is None) or header != blank_header(settings, n_features, _count(labels)):
        raise text.nonsense("a base for another model")
    text.check_trees(block, n_features)
    if labels is not None and classes is not None:
        block = _of_classes(block, labels, _names(classes), single=not settings.is_multiclass(len(classes)))
        header = blank_header(settings, n_features, len(classes))
    # Asked now whether there are trees for every class: no other step would say it of a base.
    decode(header, (block,))
    return Trees(header, (block,), Edges(1, 0))


def blank_header(settings: Settings, n_features: int, n_classes: int | None) -> bytes:
    """The header of a model with these settings that has learnt nothing."""
    params = {name: settings.params[name] for name in _IN_HEADER if name in settings.params}
    params |= settings.outputs(n_classes) | {"verbosity": -1, "num_threads": 1}
    if callable(params["objective"]):
        params["objective"] = "none"
    y = np.ones(2) if n_classes is None else np.arange(n_classes)
    rows = lightgbm.Dataset(np.zeros((len(y), n_features)), y, params=params)
    return text.split(lightgbm.Booster(params, rows).model_to_string())[0]


def _booster(base: Any) -> lightgbm.Booster:
    if isinstance(base, lightgbm.Booster):
        return base
    if isinstance(base, lightgbm.LGBMModel):
        if not base.__sklearn_is_fitted__():
            raise _refusal(f"it is a {type(base).__name__} that is not fitted", "Fit it on public data first")
        return base.booster_
    raise _refusal(f"it is a {type(base).__name__}", "Give a fitted LightGBM estimator or a Booster")


def _check_vocabulary(booster: lightgbm.Booster) -> None:
    if booster.pandas_categorical:
        raise _refusal(
            "it was trained on category columns of a frame, whose codes follow a vocabulary of its own",
            "Train it on columns of numbers",
        )


def _check_trees(header: bytes, trees: bytes, n_features: int) -> None:
    if not trees:
        raise _refusal("it has no trees", "Train it for longer")
    if b"\naverage_output\n" in header:
        raise _refusal("its trees are averaged, so none can be added to them", "Train it by boosting")
    try:
        given = text.check_header(header)
        text.check_trees(trees, given)
    except StateError as error:
        raise _refusal(f"its text is not understood ({error})", "Train it with the installed LightGBM") from error
    if given != n_features:
        raise _refusal(f"it was trained on {given} features, and X has {n_features}", "Use the same features")


def _check_labels(base: Any, labels: AnyArray | None) -> None:
    own = getattr(base, "classes_", None) if isinstance(base, lightgbm.LGBMClassifier) else None
    if labels is not None and own is not None and _names(own) != _names(labels):
        raise _refusal(f"its classes are {_names(own)}, and those of y are {_names(labels)}", "Train it on the same")


def _check_outputs(header: bytes, settings: Settings, n_features: int, labels: AnyArray | None) -> bytes:
    n_classes = _count(labels)
    try:
        wanted = blank_header(settings, n_features, n_classes)
    except lightgbm.basic.LightGBMError as error:
        raise ParameterError(f"LightGBM cannot train on {n_classes} classes: {error}; nothing was changed.") from error
    theirs, ours = (_OBJECTIVE.findall(h) for h in (header, wanted))
    if theirs != ours:
        reason = f"it was trained for {_name(theirs)}, and the model is for {_name(ours)}"
        raise _refusal(reason, "Use the same objective")
    if n_classes is not None and not settings.is_multiclass(2) and n_classes > 2:  # noqa: PLR2004
        _check_scale(settings)
    return wanted


def _check_scale(settings: Settings) -> None:
    if float(settings.params.get("sigmoid", 1)) != 1:
        raise _refusal(
            "with sigmoid other than 1 a shard of two classes reads scores on another scale", "Leave sigmoid out"
        )


def _name(objective: list[bytes]) -> str:
    return objective[0].decode().removeprefix("objective=") if objective else "an objective of its own"


def _refusal(reason: str, instead: str) -> ParameterError:
    return ParameterError(f"No training can start from base: {reason}; nothing was changed. {instead}.")


def _names(labels: AnyArray) -> list[str]:
    return [str(label) for label in np.asarray(labels).tolist()]


def _count(labels: Sequence[Any] | AnyArray | None) -> int | None:
    return None if labels is None else len(labels)


def _labels(parts: Mapping[str, bytes]) -> list[str] | None:
    if parts.keys() == {"trees", "header", "labels"}:
        match unpack_json(parts["labels"]):
            case None:
                return None
            case [_, _, *_] as labels if all(isinstance(label, str) for label in labels):
                return list(labels)
    raise text.nonsense("no packed base")


def _of_classes(block: bytes, known: Sequence[str], wanted: Sequence[str], *, single: bool) -> bytes:
    if not set(wanted) <= set(known):
        raise text.nonsense("a base for other classes")
    if list(wanted) == list(known):
        return block
    pieces = block.split(b"Tree=")[1:]
    rounds = [pieces[i : i + len(known)] for i in range(0, len(pieces), len(known))]
    if len(rounds[-1]) != len(known):
        raise text.nonsense("trees for some classes only")
    places = [known.index(label) for label in wanted]
    kept = [_pair(trees, places) if single else [trees[place] for place in places] for trees in rounds]
    trees = [tree for chosen in kept for tree in chosen]
    return b"".join(b"Tree=%d\n%b" % (i, tree.partition(b"\n")[2]) for i, tree in enumerate(trees))


def _pair(trees: Sequence[bytes], places: Sequence[int]) -> list[bytes]:
    first, second = places
    return [_negated(trees[first]), trees[second]]


def _negated(tree: bytes) -> bytes:
    return b"\n".join(_negated_line(line) for line in tree.split(b"\n"))


def _negated_line(line: bytes) -> bytes:
    key, equals, values = line.partition(b"=")
    return key + equals + _TOKEN.sub(_flip, values) if key in _SIGNED else line


def _flip(token: re.Match[bytes]) -> bytes:
    return token[2] if token[1] else b"-" + token[2]
