from __future__ import annotations

import json
import subprocess
import sys
import types

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from unlearnkit.adapters import Adapter
from unlearnkit.errors import CodeNeededError, StateError
from unlearnkit.fingerprints import fingerprint
from unlearnkit.models import describe, restore
from unlearnkit.values import MAX_VALUES

SKLEARN = Adapter(
    "sklearn",
    ("sklearn.base:BaseEstimator",),
    lambda model, resolve: None,
    tuple(
        f"sklearn.{name}"
        for name in (
            "compose",
            "ensemble",
            "feature_selection",
            "linear_model",
            "model_selection",
            "pipeline",
            "preprocessing",
            "tree",
        )
    ),
)
ALL = [SKLEARN]
TREE = "sklearn.tree._classes:DecisionTreeClassifier"


class Mine(BaseEstimator):
    def __init__(self, value=None):
        self.value = value


def function(x):
    return x


def written(model, adapters=ALL):
    """The description after JSON that any other reader would take too."""
    return json.loads(json.dumps(describe(model, adapters), allow_nan=False))


def again(model, adapters=ALL):
    return restore(written(model, adapters), adapters)


def holding(value):
    """A description of a model with this value somewhere in its parameters."""
    return {"estimator": {"class": TREE, "parameters": {"max_features": value}}}


# -- there and back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        DecisionTreeClassifier(),
        RandomForestClassifier(7, max_features=0.5, class_weight={0: 1.0, "a": np.float64(2)}, random_state=3),
        make_pipeline(StandardScaler(), LogisticRegression(C=0.1)),
        make_pipeline("passthrough", make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=np.int64(3)))),
        Pipeline([("union", FeatureUnion([("a", StandardScaler()), ("b", "passthrough")])), ("c", SGDClassifier())]),
        VotingClassifier([("a", LogisticRegression()), ("b", "drop")], weights=[0.1, 0.2]),
        GridSearchCV(SGDClassifier(), {"alpha": np.logspace(-3, 0, 4), "penalty": ["l1", None]}, cv=2),
        make_pipeline(
            ColumnTransformer(
                [
                    ("hot", OneHotEncoder(categories=[np.array(["a", "b"], dtype=object)]), ["colour"]),
                    ("rank", OrdinalEncoder(categories=[["x", "y"]], unknown_value=np.nan, dtype=np.float32), [1, 2]),
                    ("rest", "drop", np.array([True, False])),
                ],
                remainder="passthrough",
            ),
            FunctionTransformer(np.log1p, np.expm1, kw_args={"where": True}),
            SelectKBest(k=2),
            LogisticRegression(),
        ),
    ],
)
def test_models_come_back(model):
    before = fingerprint(model)
    other = again(model)
    assert type(other) is type(model)
    assert fingerprint(other) == before
    assert fingerprint(model) == before
    assert written(other) == written(model)


@pytest.mark.parametrize(
    "value",
    [
        *(
            None,
            True,
            0,
            -(10**30),
            1.5,
            -0.0,
            float("nan"),
            float("inf"),
            float("-inf"),
            "",
            "naïve \ud800",
            b"\x00\xff",
        ),
        *([], [1, [2.0]], (), (1, ("a",)), {1, 2}, frozenset({"a", None}), {}, {"a": 1, 2: (3,), None: [4], (1, 2): 5}),
        *(
            np.float32(0.1),
            np.int8(-3),
            np.bool_(True),
            np.str_("x"),
            np.complex64(1j),
        ),
        *(np.zeros((2, 0, 3)), np.arange(6, dtype=">i2").reshape(2, 3), np.array(1.5), np.array(["a", "bc"])),
        *(np.array([b"x"]), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array([True, False])),
        np.array([["a", None], [1, (2.0,)]], dtype=object),
        *(np.dtype("f4"), np.dtype(object), np.float64, np.int64, np.object_, int, str, object, bool),
        *(np.log, np.add, np.expm1),
        *(DecisionTreeClassifier, [StandardScaler(), {"a": (OneHotEncoder(),)}]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_come_back_as_they_were(value):
    model = DecisionTreeClassifier(max_features=value)
    other = again(model)
    assert fingerprint(other) == fingerprint(model)
    assert type(other.max_features) is type(value)
    assert repr(other.max_features) == repr(value)
    if isinstance(value, np.ndarray):
        assert (other.max_features.dtype, other.max_features.flags.writeable) == (value.dtype, True)


def test_a_fitted_model_is_described_by_its_parameters():
    fitted = DecisionTreeClassifier(max_depth=2).fit([[0.0], [1.0]], [0, 1])
    assert written(fitted) == written(DecisionTreeClassifier(max_depth=2))
    assert not hasattr(again(fitted), "tree_")


def test_the_same_model_has_the_same_text():
    texts = {
        json.dumps(describe(Pipeline([("a", DecisionTreeClassifier(class_weight=w))]), ALL)) for w in ({1, 2}, {2, 1})
    }
    assert len(texts) == 1


def test_the_installed_adapters_are_the_default():
    pytest.importorskip("unlearnkit_sklearn")
    model = make_pipeline(StandardScaler(), DecisionTreeClassifier())
    assert fingerprint(restore(describe(model))) == fingerprint(model)


def loop():
    value = []
    value.append(value)
    return value


def nested(levels, make=lambda value: [value], value=1):
    for _ in range(levels):
        value = make(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        *(function, lambda x: x, np.sum, f_regression, len, Mine, Mine(), type("Odd", (), {}), StandardScaler().fit),
        *(np.random.RandomState(0), np.random.default_rng(0), make_column_selector("a"), slice(1), range(3), object()),
        *(
            np.ma.array([1]),
            np.array([(1, 2)], dtype="i4,i4"),
            np.array([function]),
            np.longdouble(1),
            np.dtype("i4,i4"),
        ),
        *(np.frompyfunc(function, 1, 1), np.ndarray, json.JSONDecoder, FrozenEstimator(StandardScaler())),
        *(loop(), nested(10_000), [0] * (MAX_VALUES + 1), SelectKBest(f_regression), make_pipeline("a", memory="/tmp")),
        {"estimator__memory": ["/tmp"]},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_restored_is_not_described(value):
    for inside in (value, [value], {"a": (value,)}):
        assert describe(DecisionTreeClassifier(max_features=inside), ALL) is None
    assert describe(make_pipeline(DecisionTreeClassifier(max_features=value)), ALL) is None


def test_a_model_that_no_adapter_lists_is_not_described():
    assert describe(Mine(), ALL) is None
    assert describe(DecisionTreeClassifier(), []) is None
    assert describe(DecisionTreeClassifier(), [Adapter("old", (), SKLEARN.wrap)]) is None
    assert describe(5, ALL) is None
    assert describe(DecisionTreeClassifier, ALL) is None
    impostor = type("DecisionTreeClassifier", (DecisionTreeClassifier,), {"__module__": "sklearn.tree._classes"})
    assert describe(impostor(), ALL) is None


def test_a_function_that_is_the_default_is_left_out():
    assert "score_func" not in written(SelectKBest(k=3))["estimator"]["parameters"]
    assert fingerprint(again(SelectKBest(k=3))) == fingerprint(SelectKBest(k=3))


def test_a_class_may_be_named_only_beside_estimators_of_its_own_library():
    tree, rest = (Adapter(name, (), SKLEARN.wrap, (f"sklearn.{name}",)) for name in ("tree", "preprocessing"))
    model = DecisionTreeClassifier(max_features=StandardScaler)
    text = written(model)
    assert describe(model, [tree, rest]) is None
    with pytest.raises(CodeNeededError, match="StandardScaler"):
        restore(text, [tree, rest])
    mixed = DecisionTreeClassifier(max_features=[OneHotEncoder(dtype=StandardScaler), DecisionTreeClassifier])
    assert fingerprint(again(mixed, [tree, rest])) == fingerprint(mixed)


# -- malice ----------------------------------------------------------------------------------------------------------


def estimator(name, **parameters):
    return {"estimator": {"class": name, "parameters": parameters}}


NAMED = [
    "os:system",
    "subprocess:Popen",
    "builtins:eval",
    "builtins:object",
    "sklearn.utils:Bunch",
    "sklearn.utils._bunch:Bunch",
    "sklearn.datasets:fetch_openml",
    "sklearn.treehouse:DecisionTreeClassifier",
    "sklearn.tree:DecisionTreeClassifier",
    "sklearn.tree._classes:DecisionTreeClassifier.fit",
    "sklearn.tree._classes:np",
    "sklearn.tree._export:export_text",
    "sklearn.tree._nothing:DecisionTreeClassifier",
    "sklearn.tree:__builtins__",
    "sklearn.tree:__dict__",
    "sklearn.tree:",
    "sklearn.tree",
    "",
    ":",
    "antigravity:x",
    "..:x",
    "sklearn.model_selection._split:KFold",
    "sklearn.model_selection:KFold",
    "joblib.memory:Memory",
]


@pytest.mark.parametrize("name", NAMED)
def test_other_names_are_not_looked_up(name):
    before = set(sys.modules)
    with pytest.raises(CodeNeededError, match="estimator="):
        restore(estimator(name), ALL)
    with pytest.raises((CodeNeededError, StateError)):
        restore(holding(estimator(name)), ALL)
    if name != "sklearn.model_selection._split:KFold":  # a class that its library exports, but no estimator
        with pytest.raises(CodeNeededError, match="estimator="):
            restore(holding({"class": name}), ALL)
    assert set(sys.modules) == before


def test_nothing_is_imported_by_a_name_from_the_store():
    others = [n for n in NAMED if n != "sklearn.tree" and not n.startswith(("sklearn.tree.", "sklearn.tree:"))]
    others += ["missing_library:X", "sklearn.utils:x"]
    code = f"""
import json, sys
from unlearnkit.adapters import Adapter
from unlearnkit.errors import UnlearnKitError
from unlearnkit.models import restore
adapters = [Adapter("sklearn", (), print, ("missing_library", "sklearn.tree"))]
before = set(sys.modules)
for name in {others!r}:
    try:
        restore({{"estimator": {{"class": name, "parameters": {{}}}}}}, adapters)
    except UnlearnKitError:
        continue
    raise SystemExit(name)
print(sorted(set(sys.modules) - before))
restore({{"estimator": {{"class": "{TREE}", "parameters": {{}}}}}}, adapters)
print("sklearn.tree" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:2] == ["[]", "True"], done.stderr


def test_a_library_that_cannot_be_imported_is_named():
    adapters = [Adapter("gone", (), SKLEARN.wrap, ("missing_library",))]
    with pytest.raises(CodeNeededError, match="missing_library cannot be imported"):
        restore(estimator("missing_library.models:Model"), adapters)


@pytest.mark.parametrize("exports", [None, ["listed"]])
def test_names_that_a_module_gives_on_demand_are_not_asked_for(monkeypatch, exports):
    asked = []

    def on_demand(name):
        asked.append(name)
        raise AttributeError(name)

    module = types.ModuleType("lazy_library")
    module.__getattr__ = on_demand
    if exports is not None:
        module.__all__ = exports
    monkeypatch.setitem(sys.modules, "lazy_library", module)
    for name in ("anything", "listed", "_private", "__path__"):
        with pytest.raises(CodeNeededError):
            restore(estimator(f"lazy_library:{name}"), [Adapter("lazy", (), SKLEARN.wrap, ("lazy_library",))])
    assert set(asked) <= {"__all__", *(exports or ())}


def test_parameters_that_a_class_swallows_but_does_not_know_are_refused(monkeypatch):
    class Greedy(BaseEstimator):
        def __init__(self, known=None, **others):
            self.known = known

    Greedy.__module__, Greedy.__qualname__ = "greedy_library", "Greedy"
    module = types.ModuleType("greedy_library")
    module.Greedy = Greedy
    monkeypatch.setitem(sys.modules, "greedy_library", module)
    adapters = [Adapter("greedy", (), SKLEARN.wrap, ("greedy_library",))]
    assert restore(estimator("greedy_library:Greedy", known=5), adapters).known == 5
    with pytest.raises(StateError, match="Greedy has no parameter 'other'"):
        restore(estimator("greedy_library:Greedy", other=5), adapters)


SHAPED = {"dtype": "<f8", "shape": [1], "bytes": "AAAAAAAAAAA="}


@pytest.mark.parametrize(
    "description",
    [
        *(None, 5, "x", [], {}, [estimator(TREE)], {"estimator": None}, {"estimator": []}, {"estimator": {}}),
        {"estimator": {"class": TREE}},
        {"estimator": {"class": TREE, "parameters": []}},
        {"estimator": {"class": 5, "parameters": {}}},
        estimator(TREE) | {"more": 1},
        {"tuple": []},
        {"class": TREE},
        estimator(TREE, surprise=1),
        estimator(TREE, __class__=1),
        estimator(TREE, self=1),
        estimator(TREE, **{"max_depth ": 1}),
        estimator(TREE, **{"": 1}),
        estimator("sklearn.tree._classes:DecisionTreeRegressor", class_weight=1),
        estimator("sklearn.pipeline:Pipeline"),
        estimator("sklearn.tree._classes:BaseDecisionTree"),
        *map(
            holding,
            [
                {},
                {"a": 1, "b": 2},
                {"pickle": "gASV"},
                {"tuple": 5},
                {"tuple": "ab"},
                {"set": [[1]]},
                {"set": [{"dict": []}]},
                {"dict": [1]},
                {"dict": [[1, 2, 3]]},
                {"dict": {"a": 1}},
                {"dict": [[[1], 2]]},
                {"float": "1e5"},
                {"float": 1},
                {"float": []},
                {"bytes": "not base64!"},
                {"bytes": 5},
                {"builtin": "eval"},
                {"builtin": "type"},
                {"numpy": "ndarray"},
                {"numpy": "load"},
                {"numpy": "nothing"},
                {"numpy": 1},
                {"numpy": ["float64"]},
                {"ufunc": "load"},
                {"ufunc": "f2py"},
                {"ufunc": "testing"},
                {"ufunc": "frompyfunc"},
                {"ufunc": "__builtins__"},
                {"ufunc": None},
                {"dtype": "i4,i4"},
                {"dtype": "V1"},
                {"dtype": "<f8" * 10_000},
                {"dtype": "nothing"},
                {"dtype": 1},
                {"dtype": ["<f8"]},
                {"array": 5},
                {"array": {}},
                {"array": SHAPED | {"shape": [10**6, 10**6]}},
                {"array": SHAPED | {"shape": [10**30]}},
                {"array": SHAPED | {"shape": [-1]}},
                {"array": SHAPED | {"shape": [-1, -1]}},
                {"array": SHAPED | {"shape": [True]}},
                {"array": SHAPED | {"shape": [1.0]}},
                {"array": SHAPED | {"shape": 1}},
                {"array": SHAPED | {"shape": [1] * 1000}},
                {"array": SHAPED | {"shape": [0, 10**12], "bytes": ""}},
                {"array": SHAPED | {"shape": [10**12, 0], "bytes": ""}},
                {"array": SHAPED | {"shape": [0, 10**30], "bytes": ""}},
                {"array": SHAPED | {"dtype": "|O"}},
                {"array": {"dtype": "|O", "shape": [10**12], "items": []}},
                {"array": {"dtype": "|O", "shape": [10**12, 0], "items": []}},
                {"array": {"dtype": "|O", "shape": [1], "items": 5}},
                {"array": SHAPED | {"dtype": "<U999999999"}},
                {"array": SHAPED | {"dtype": "<U2", "bytes": "/////////38="}},
                {"array": SHAPED | {"dtype": "<U0", "bytes": ""}},
                {"array": SHAPED | {"dtype": "|V8"}},
                {"array": SHAPED | {"bytes": "AAAA"}},
                {"scalar": SHAPED | {"bytes": ""}},
                {"scalar": []},
                {"estimator": {"class": TREE, "parameters": {"nothing": 1}}},
                nested(10_000),
                nested(10_000, lambda value: {"tuple": [value]}),
                nested(10_000, holding),
                nested(10_000, lambda value: {"dict": [[1, value]]}),
                nested(10_000, lambda value: {"array": {"dtype": "|O", "shape": [1], "items": [value]}}),
                [0] * (MAX_VALUES + 1),
            ],
        ),
    ],
    ids=lambda description: None,
)
def test_nonsense_is_no_model(description):
    before = set(sys.modules)
    with pytest.raises(StateError, match="description of the model is damaged"):
        restore(description, ALL)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "description",
    [
        estimator("sklearn.pipeline:Pipeline", steps=[], memory="/tmp/cache"),
        estimator(
            "sklearn.pipeline:Pipeline", steps=[], memory={"scalar": {"dtype": "<U1", "shape": [], "bytes": "YQAAAA=="}}
        ),
        holding({"dict": [["estimator__memory", ["/tmp/cache"]]]}),
        holding([{"tuple": [{"dict": [["memory", "/tmp/cache"]]}]}]),
    ],
)
def test_a_folder_of_pickles_is_not_taken_from_a_store(description):
    with pytest.raises(CodeNeededError, match="not safe to read"):
        restore(description, ALL)


def test_random_changes_of_a_description_never_do_anything_else():
    """Whatever stands in place of a part: a model, or one of the two errors, and nothing is imported."""
    model = make_pipeline(
        ColumnTransformer([("a", OneHotEncoder(categories=[np.array(["x"], dtype=object)]), [0])]),
        FunctionTransformer(np.log),
        DecisionTreeClassifier(class_weight={0: np.float64(1)}, max_features=(1, float("nan"))),
    )
    text, rng = written(model), np.random.default_rng(0)
    parts = list(paths(text))
    odd = [
        None,
        -1,
        10**400,
        "os:system",
        [],
        {},
        {"class": "os:system"},
        {"array": SHAPED},
        {"tuple": [{}]},
        TREE,
        True,
    ]
    again(model)
    before, outcomes = set(sys.modules), set()
    for _ in range(1500):
        path = parts[rng.integers(len(parts))]
        try:
            outcomes.add(type(restore(replaced(text, path, odd[rng.integers(len(odd))]), ALL)).__name__)
        except (CodeNeededError, StateError) as error:
            outcomes.add(type(error).__name__)
    assert {"CodeNeededError", "StateError", "Pipeline"} <= outcomes
    assert set(sys.modules) == before


def paths(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


def replaced(value, path, new):
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy
