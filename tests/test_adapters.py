from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.tree import DecisionTreeClassifier

from unlearnkit.adapters import ABILITIES, Adapter, Plugins
from unlearnkit.errors import (
    AdapterConflictError,
    AdapterError,
    CapabilityError,
    MissingPluginError,
    ParameterError,
    UnsupportedModelError,
)
from unlearnkit.learner import Capabilities
from unlearnkit.testing import RememberingLearner


class Animal:
    pass


class Cat(Animal):
    pass


class Siamese(Cat):
    pass


def adapter(name, *types):
    """An adapter whose learner tells which adapter made it."""

    def wrap(model, resolve):
        learner = RememberingLearner()
        learner.made_by = name
        return learner

    return Adapter(name, types, wrap)


@pytest.fixture
def load(helpers):
    """A function that loads plugins with these adapters, by plugin name."""

    def load(**plugins):
        entries = []
        for name, declared in plugins.items():
            if isinstance(declared, BaseException):
                entries.append(helpers.Entry(name, declared))
            elif callable(declared):
                entries.append(helpers.Entry(name, helpers.plugin(name, unlearnkit_adapters=declared)))
            else:
                entries.append(
                    helpers.Entry(name, helpers.plugin(name, unlearnkit_adapters=lambda found=declared: found))
                )
        return Plugins(entries)

    return load


def named(cls):
    return f"{cls.__module__}:{cls.__qualname__}"


def test_the_most_derived_claim_wins(load):
    plugins = load(one=[adapter("animals", named(Animal))], two=[adapter("cats", named(Cat))])
    assert plugins.resolve(Siamese()).made_by == "cats"
    assert plugins.resolve(Animal()).made_by == "animals"


def test_one_adapter_may_claim_several_types(load):
    plugins = load(one=[adapter("both", named(Animal), named(Cat))])
    assert plugins.resolve(Siamese()).made_by == "both"


def test_two_claims_of_one_type_are_a_conflict_that_the_user_decides(load):
    plugins = load(one=[adapter("left", named(Cat))], two=[adapter("right", named(Cat))])
    with pytest.raises(AdapterConflictError, match="left, right"):
        plugins.resolve(Siamese())
    assert plugins.resolve(Siamese(), "right").made_by == "right"


def test_two_adapters_of_one_name_are_a_conflict(load):
    plugins = load(one=[adapter("same", named(Cat))], two=[adapter("same", named(Animal))])
    with pytest.raises(AdapterConflictError, match="2 adapters named 'same'"):
        plugins.resolve(Siamese(), "same")


def test_an_unknown_name_lists_the_known(load):
    with pytest.raises(ParameterError, match=r"'nope' .installed: cats"):
        load(one=[adapter("cats", named(Cat))]).resolve(Cat(), "nope")


def test_nobody_claims_it(load):
    with pytest.raises(UnsupportedModelError, match="nothing was changed"):
        load().resolve(Cat())


def boom():
    raise OSError("library not found")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (ImportError("no such library"), "no such library"),
        (boom, "library not found"),
        (lambda: 5, "not iterable"),
        (lambda: ["text"], "Adapter was expected"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_broken_plugin_is_reported_and_harmless(load, broken, reason, first):
    good = {"good": [adapter("cats", named(Cat))]}
    plugins = load(**({"bad": broken} | good if first else good | {"bad": broken}))
    assert plugins.resolve(Cat()).made_by == "cats"
    assert plugins.broken.keys() == {"bad"}
    assert reason in plugins.broken["bad"]
    with pytest.raises(UnsupportedModelError, match="failed to import: bad"):
        plugins.resolve(Animal())


def test_a_misspelt_hook_is_reported(helpers):
    bad = helpers.plugin("bad", unlearnkit_adaptors=lambda: ())
    good = helpers.plugin("good", unlearnkit_adapters=lambda: [adapter("cats", named(Cat))])
    plugins = Plugins([helpers.Entry("bad", bad), helpers.Entry("good", good)])
    assert "unlearnkit_adaptors" in plugins.broken["bad"]
    assert plugins.resolve(Cat()).made_by == "cats"


def test_a_second_plugin_of_the_same_name_does_not_remove_the_first(helpers):
    first = helpers.plugin("first", unlearnkit_adapters=lambda: [adapter("cats", named(Cat))])
    second = helpers.plugin("second", unlearnkit_adapters=lambda: [adapter("dogs", named(Animal))])
    plugins = Plugins([helpers.Entry("same", first), helpers.Entry("same", second)])
    assert plugins.resolve(Cat()).made_by == "cats"
    assert "same" in plugins.broken


def test_one_module_behind_two_entry_points_is_one_plugin(helpers):
    module = helpers.plugin("module", unlearnkit_adapters=lambda: [adapter("cats", named(Cat))])
    plugins = Plugins([helpers.Entry("one", module), helpers.Entry("two", module)])
    assert plugins.resolve(Cat()).made_by == "cats"
    assert not plugins.broken


def test_the_types_that_several_claim_are_listed(load):
    plugins = load(one=[adapter("left", named(Cat)), adapter("up", named(Animal))], two=[adapter("right", named(Cat))])
    assert plugins.conflicts == {named(Cat): ["left", "right"]}
    assert load(one=[adapter("left", named(Cat))]).conflicts == {}


# -- what an adapter is made of --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "error", "reason"),
    [
        ({"native_types": "pets:Cat"}, TypeError, "native_types must be a tuple of str, not 'pets:Cat'"),
        ({"native_types": (Cat,)}, TypeError, "native_types must be a tuple of str"),
        ({"native_types": ("pets.Cat",)}, ValueError, "'module:qualname', not 'pets.Cat'"),
        ({"native_types": (":Cat",)}, ValueError, "'module:qualname'"),
        ({"library": "pets"}, TypeError, "library must be a tuple of str"),
        ({"library": ["pets"]}, TypeError, "library must be a tuple of str"),
        ({"abilities": ("purring",)}, ValueError, "unknown abilities purring; known are absent_classes, any_shape"),
        ({"name": None}, TypeError, "a name and a callable wrap"),
        ({"wrap": "wrap"}, TypeError, "a name and a callable wrap"),
    ],
)
def test_an_adapter_that_could_be_misunderstood_is_refused(fields, error, reason):
    with pytest.raises(error, match=reason):
        Adapter(**{"name": "cats", "native_types": ("pets:Cat",), "wrap": print} | fields)


def test_every_yes_or_no_of_the_capabilities_is_a_word_for_an_ability():
    flags = {name for name in Capabilities.__slots__ if isinstance(getattr(Capabilities("regression"), name), bool)}
    assert flags - ABILITIES == {"stores_training_rows"}
    assert ABILITIES - flags == {"classification", "regression"}


# -- adapters that fail ----------------------------------------------------------------------------------------------


def failing(wrap):
    return {"one": [Adapter("cats", (named(Cat),), wrap)]}


class Modest(RememberingLearner):
    capabilities = None


class Newer(RememberingLearner):
    @property
    def capabilities(self):
        return Capabilities(task="classification", telepathy=True)


def raising(error):
    def wrap(model, resolve):
        raise error

    return wrap


@pytest.mark.parametrize(
    ("wrap", "error", "reason"),
    [
        (
            raising(KeyError("depth")),
            AdapterError,
            "KeyError: 'depth'; nothing was changed. This is a fault of its plugin",
        ),
        (lambda model: model, AdapterError, "TypeError: .* made for another version of unlearnkit"),
        (lambda model, resolve: None, AdapterError, "gave a NoneType, which is no Learner"),
        (lambda model, resolve: model, AdapterError, "gave a Siamese, which is no Learner"),
        (lambda model, resolve: Modest(), AdapterError, "gave a Modest, which is no Learner with Capabilities"),
        (lambda model, resolve: Newer(), AdapterError, "'telepathy'.*made for another version of unlearnkit"),
        (raising(ImportError("libcat.so")), MissingPluginError, "ImportError: libcat.so; nothing was changed. Install"),
    ],
)
def test_an_adapter_that_fails_is_told_of_by_name(load, wrap, error, reason):
    with pytest.raises(error, match=f"^The adapter 'cats' failed to wrap a Siamese: .*{reason}") as caught:
        load(**failing(wrap)).resolve(Siamese())
    assert caught.type is error


def test_a_refusal_of_an_adapter_is_passed_on(load):
    refusal = CapabilityError("fur cannot be kept; nothing was changed.")
    with pytest.raises(CapabilityError) as caught:
        load(**failing(raising(refusal))).resolve(Cat())
    assert caught.value is refusal


def test_a_plugin_that_exits_is_broken(load):
    plugins = load(bad=SystemExit("no licence"), good=[adapter("cats", named(Cat))])
    assert plugins.broken == {"bad": "SystemExit: no licence"}
    assert plugins.resolve(Cat()).made_by == "cats"


# -- first-party plugins ---------------------------------------------------------------------------------------------


def fake(module, name="Model", *bases):
    return type(name, bases or (BaseEstimator,), {"__module__": module})


SKLEARN = adapter("sklearn", "sklearn.base:BaseEstimator")


@pytest.mark.parametrize(
    ("module", "home"),
    [
        ("lightgbm.sklearn", "lightgbm"),
        ("xgboost.sklearn", "xgboost"),
        ("catboost.core", "catboost"),
        ("skorch.net", "torch"),
        ("torch.nn", "torch"),
    ],
)
def test_a_missing_plugin_names_what_to_install(load, module, home):
    """Though scikit-learn's adapter would claim it: a booster is a scikit-learn estimator too."""
    for model in (fake(module)(), fake("mine", "Mine", fake(module))()):
        with pytest.raises(MissingPluginError, match=rf"pip install 'unlearnkit\[{home}\]'"):
            load(sklearn=[SKLEARN]).resolve(model)


def test_a_plugin_of_a_framework_does_without_that_of_scikit_learn(load):
    base = fake("lightgbm.sklearn", "Base", BaseEstimator)
    booster = fake("lightgbm.sklearn", "Classifier", ClassifierMixin, base)
    plugins = load(lightgbm=[adapter("lightgbm", "lightgbm.sklearn:Base")])
    assert plugins.resolve(booster()).made_by == "lightgbm"


def test_a_broken_first_party_plugin_says_why(load):
    with pytest.raises(MissingPluginError, match=r"libomp missing.*force-reinstall unlearnkit-lightgbm"):
        load(sklearn=[SKLEARN], lightgbm=ImportError("libomp missing")).resolve(fake("lightgbm.sklearn")())


def test_scikit_learn_itself_may_be_missing(load):
    with pytest.raises(MissingPluginError, match="unlearnkit-sklearn"):
        load().resolve(DecisionTreeClassifier())


def test_a_stranger_may_claim_a_booster_without_the_first_party_plugin(load):
    booster = fake("lightgbm.sklearn", "Booster")
    plugins = load(sklearn=[SKLEARN], stranger=[adapter("stranger", "lightgbm.sklearn:Booster")])
    assert plugins.resolve(fake("lightgbm.sklearn", "Classifier", booster)()).made_by == "stranger"


def test_the_inner_model_is_resolved_by_all_plugins(load):
    class Outer:
        inner = Cat()

    outer = Adapter("outer", (named(Outer),), lambda model, resolve: resolve(model.inner))
    plugins = load(one=[outer], two=[adapter("cats", named(Cat))])
    assert plugins.resolve(Outer()).made_by == "cats"


def test_asking_for_a_plugin_imports_no_framework():
    pytest.importorskip("unlearnkit_torch")
    code = (
        "import sys; from unlearnkit.adapters import plugins; p = plugins(); "
        "heavy = {'lightgbm', 'xgboost', 'catboost', 'torch', 'skorch', 'skops'}; "
        "print(sorted(heavy & set(sys.modules)), len(p.adapters) > 3)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"


def test_an_adapter_lists_no_library_unless_it_says_so():
    assert adapter("cats", named(Cat)).library == ()


def test_the_first_party_plugins_list_public_modules_of_their_own_library():
    for name in ("sklearn", "lightgbm", "xgboost", "torch", "catboost"):
        pytest.importorskip(f"unlearnkit_{name}")
    libraries = {a.name: a.library for a in Plugins().adapters}
    homes = {
        "sklearn": {"sklearn"},
        "lightgbm": {"lightgbm"},
        "xgboost": {"xgboost"},
        "catboost": {"catboost"},
        "torch": {"torch", "unlearnkit_torch"},
        "skorch": {"torch", "skorch"},
    }
    for name, home in homes.items():
        assert {module.partition(".")[0] for module in libraries[name]} == home
        assert len(set(libraries[name])) == len(libraries[name])
        assert not any(part.startswith("_") for module in libraries[name] for part in module.split("."))
        # What acts on the world when it is called, and what would have seen rows before.
        assert not {"sklearn", "sklearn.utils", "sklearn.datasets", "sklearn.frozen", "torch"} & set(libraries[name])
        assert all(importlib.import_module(module) for module in libraries[name])


def models():
    """Models of each first-party adapter that together can do all that it says."""
    import catboost
    import lightgbm
    import skorch
    import xgboost
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor
    from sklearn.linear_model import Ridge, SGDClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder
    from torch import nn

    from unlearnkit_torch import TorchModel

    encoder = make_column_transformer((OneHotEncoder(), ["c"]))
    loss = {"criterion": nn.CrossEntropyLoss, "train_split": None}
    return {
        "sklearn": [
            HistGradientBoostingClassifier(),
            RandomForestRegressor(),
            SGDClassifier(loss="log_loss"),
            Ridge(),
            make_pipeline(encoder, SGDClassifier()),
        ],
        "lightgbm": [lightgbm.LGBMClassifier(), lightgbm.LGBMRegressor()],
        "xgboost": [xgboost.XGBClassifier(enable_categorical=True), xgboost.XGBRegressor()],
        "catboost": [catboost.CatBoostClassifier(), catboost.CatBoostRegressor(loss_function="MultiRMSE")],
        "torch": [TorchModel(nn.Linear, loss=nn.CrossEntropyLoss), TorchModel(nn.Linear, loss=nn.MSELoss)],
        "skorch": [
            skorch.NeuralNetClassifier(nn.Linear, **loss),
            skorch.NeuralNetRegressor(nn.Linear, train_split=None),
        ],
    }


def test_the_first_party_plugins_can_do_what_they_say_and_no_more():
    for name in ("sklearn", "lightgbm", "xgboost", "torch", "catboost"):
        pytest.importorskip(f"unlearnkit_{name}")
    plugins = Plugins()
    declared = {a.name: set(a.abilities) for a in plugins.adapters if a.name in models()}
    for name, some in models().items():
        found = [plugins.resolve(model, name).capabilities for model in some]
        able = {c.task for c in found} | {a for a in ABILITIES for c in found if getattr(c, a, False)}
        assert able == declared[name], name
