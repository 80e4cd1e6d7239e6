"""A trained model as named parts: what its steps share, and for each step the trees that it added.

Put together, the parts are one ordinary XGBoost model, so a single native booster predicts for all steps, and a step
costs the store no more than its own trees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from unlearnkit.errors import StateError
from unlearnkit.parts import pack_json, unpack_json
from unlearnkit_xgboost import ubjson
from unlearnkit_xgboost.document import check_document, forest

if TYPE_CHECKING:
    from xgboost import Booster

MODEL, EDGES = "model", "edges"
_PER_ROUND = ("iteration_indptr", "tree_info", "trees")


@dataclass(frozen=True)
class Model:
    """A state: its parts, and the booster in them, checked and decoded when it is first needed.

    Attributes
    ----------
    parts : dict of str to bytes
        ``"model"``: the model without trees; ``"trees-00000"`` and so on: what each step added; ``"edges"``: how
        many rows of the prefix the bin edges come from. A model that no step can continue is one part.
    nthread : int or None
        The threads for predictions; None: all there are. Never changes a bit.
    """

    parts: dict[str, bytes]
    nthread: int | None = None

    @cached_property
    def booster(self) -> Booster:
        """All trees.

        Raises
        ------
        StateError
            If the parts are no model.
        """
        return self.since(0)

    def since(self, step: int) -> Booster:
        """The trees of this step and of those after it, checked before XGBoost is asked to believe them.

        Raises
        ------
        StateError
            If the parts are no model.
        """
        return decoded(ubjson.write(joined(self.parts, step)), self.nthread)

    @property
    def steps(self) -> tuple[bytes, ...]:
        """What the steps added, in order."""
        return tuple(_steps(self.parts))

    @property
    def n_edges(self) -> int:
        """How many rows of the prefix the bin edges come from."""
        if EDGES not in self.parts:
            raise ubjson.nonsense("no step can go on from it")
        rows: int = unpack_json(self.parts[EDGES])["rows"]
        return rows


def step_name(index: int) -> str:
    """What the trees of a step are called, the first being 0."""
    return f"trees-{index:05}"


def step_parts(index: int, trees: bytes, n_edges: int) -> dict[str, bytes]:
    """The parts that a step adds, or renews."""
    return {step_name(index): trees, EDGES: pack_json({"rows": n_edges})}


def split(raw: bytes) -> tuple[bytes, bytes]:
    """A native model as the model without trees, and its trees."""
    document = ubjson.read(raw)
    shared = forest(document)
    trees = {name: shared[name] for name in _PER_ROUND}
    shared.update(iteration_indptr=[0], tree_info=[], trees=[])
    shared["gbtree_model_param"]["num_trees"] = "0"
    return ubjson.write(document), ubjson.write(trees)


def decoded(raw: bytes, nthread: int | None) -> Booster:
    """The native booster in checked bytes."""
    from xgboost import Booster
    from xgboost.core import XGBoostError

    try:
        booster = Booster({"nthread": nthread}, model_file=bytearray(raw))
        # Has the parameters checked now rather than at the first prediction.
        booster.save_config()
    except (XGBoostError, ValueError, TypeError, KeyError) as error:
        raise ubjson.nonsense("XGBoost refuses it") from error
    return booster


def joined(parts: Mapping[str, bytes], since: int = 0) -> Any:
    """The one document that the parts make from this step on, after every check that XGBoost leaves out.

    Raises
    ------
    StateError
        If they make none.
    """
    with pieces_in_place():
        check_names(parts)
        document = ubjson.read(parts[MODEL])
        if EDGES in parts:
            _add_trees(forest(document), [ubjson.read(step) for step in islice(_steps(parts), since, None)])
        check_document(document, sum(map(len, parts.values())))
    return document


def check_names(parts: Mapping[str, bytes]) -> None:
    """Raise StateError unless these are the parts of a model by name; `joined` checks what is in them."""
    steps = [step_name(i) for i in range(len(parts) - 2)]
    if set(parts) not in ({MODEL}, {MODEL, EDGES, *steps}):
        raise ubjson.nonsense("parts are missing, or of another model")
    with pieces_in_place():
        if EDGES in parts and type(unpack_json(parts[EDGES])["rows"]) is not int:
            raise ubjson.nonsense("its bin edges come from nowhere")


@contextmanager
def pieces_in_place() -> Iterator[None]:
    """Turn what a document of another layout provokes into a StateError."""
    try:
        yield
    except StateError:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError) as error:
        raise ubjson.nonsense("its pieces are not where they belong") from error


def _steps(parts: Mapping[str, bytes]) -> Iterable[bytes]:
    return (parts[name] for name in map(step_name, range(len(parts) - 2)))


def _add_trees(shared: dict[str, Any], steps: Iterable[dict[str, Any]]) -> None:
    if shared["trees"]:
        raise ubjson.nonsense("trees where there should be none")
    for step in steps:
        if list(step) != list(_PER_ROUND) or not all("id" in tree for tree in step["trees"]):
            raise ubjson.nonsense("a step of other pieces")
        before = len(shared["trees"])
        shared["trees"] += [tree | {"id": before + i} for i, tree in enumerate(step["trees"])]
        shared["tree_info"] += step["tree_info"]
        shared["iteration_indptr"] += [before + end for end in step["iteration_indptr"][1:]]
    shared["gbtree_model_param"]["num_trees"] = str(len(shared["trees"]))
