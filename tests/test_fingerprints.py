from __future__ import annotations

import functools
import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from unlearnkit import fingerprint
from unlearnkit.errors import ParameterError
from unlearnkit.fingerprints import MAX_DEPTH, refuse_unimportable


class Base:
    def helper(self):
        return 1


class Custom(Base):
    def __init__(self, k):
        self.k = k

    def method(self, x):
        return x + self.k


def closure(k):
    def inner(x):
        return x + k

    return inner


def default(x, k=1):
    return x + k


def typed_at_a_prompt(source):
    namespace = {"__name__": "__main__"}
    exec(source, namespace)
    return namespace["f"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (DecisionTreeClassifier(), DecisionTreeClassifier(max_depth=2)),
        (DecisionTreeClassifier(random_state=0), DecisionTreeClassifier(random_state=1)),
        (LogisticRegression(C=1), LogisticRegression(C=1.0 + 1e-12)),
        (make_pipeline(StandardScaler(), DecisionTreeClassifier()), make_pipeline(DecisionTreeClassifier())),
        (FunctionTransformer(np.sum), FunctionTransformer(np.mean)),
        (FunctionTransformer(np.log), FunctionTransformer(np.exp)),
        (closure(1), closure(2)),
        (default, closure(1)),
        (functools.partial(default, k=1), functools.partial(default, k=2)),
        (Custom(1).method, Custom(2).method),
        (Custom(1).method, Custom(1).helper),
        (",".join, ";".join),
        (Custom(1), Custom(2)),
        ({"a": 1}, {"a": 2}),
        ([1, [2]], [[1], 2]),
        (np.zeros(2), np.zeros((2, 1))),
        (np.zeros(2), np.zeros(2, np.float32)),
        (1, True),
        (1, "1"),
        ("a", b"a"),
        (typed_at_a_prompt("f = lambda x: x + 1"), typed_at_a_prompt("f = lambda x: x + 2")),
        (typed_at_a_prompt("f = lambda: (lambda x: x + 1)"), typed_at_a_prompt("f = lambda: (lambda x: x + 2)")),
    ],
)
def test_what_differs_has_another_fingerprint(one, other):
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (DecisionTreeClassifier(), DecisionTreeClassifier()),
        (LogisticRegression(verbose=0), LogisticRegression(verbose=3)),
        (make_pipeline(LogisticRegression(verbose=0)), make_pipeline(LogisticRegression(verbose=3))),
        (LogisticRegression(C=np.float64(2.5)), LogisticRegression(C=2.5)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"x", "y", "z"}, {"z", "y", "x"}),
        (closure(1), closure(1)),
        (Custom(1).method, Custom(1).method),
    ],
)
def test_what_trains_alike_has_the_same_fingerprint(one, other):
    assert fingerprint(one) == fingerprint(other)


def test_a_fitted_model_has_the_fingerprint_of_its_parameters():
    fitted = DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1])
    assert fingerprint(fitted) == fingerprint(DecisionTreeClassifier())


@pytest.mark.parametrize("value", [np.random.RandomState(0), np.random.default_rng(0)])
def test_live_generators_are_refused_by_name(value):
    with pytest.raises(ParameterError, match=r"model\.random_state is a live random generator"):
        fingerprint(DecisionTreeClassifier(random_state=value))


def test_a_value_without_description_is_refused():
    with pytest.raises(ParameterError, match="no parameters to identify it by"):
        fingerprint({"a": object()})


def test_an_inherited_method_counts(tmp_path):
    module = tmp_path / "mine.py"
    digests = set()
    for body in ("return 1", "return 2"):
        module.write_text(f"class A:\n    def f(self):\n        {body}\n\nclass B(A):\n    pass\n")
        code = "import mine, unlearnkit; print(unlearnkit.fingerprint(mine.B))"
        done = subprocess.run([sys.executable, "-B", "-c", code], cwd=tmp_path, capture_output=True, check=True)
        digests.add(done.stdout)
    assert len(digests) == 2


def test_it_is_the_same_in_another_process():
    code = "from sklearn.tree import *; import unlearnkit; print(unlearnkit.fingerprint(DecisionTreeClassifier()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == fingerprint(DecisionTreeClassifier())


# -- what contains itself --------------------------------------------------------------------------------------------


def recursive():
    def inner(n):
        return n and inner(n - 1)

    inner.__qualname__ = "inner"
    return inner


def looped(value, put):
    put(value, value)
    return value


def nested(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (looped([], list.append), r"model\[0\]"),
        (looped({}, lambda a, b: a.update(me=b)), r"model\['me'\]"),
        (looped(Custom(1), lambda a, b: setattr(a, "k", [b])), r"model\.k\[0\]"),
        (looped(Custom(1), lambda a, b: setattr(a, "k", b.method)), r"model\.k"),
        (looped(FunctionTransformer(), lambda a, b: a.set_params(kw_args={"x": b})), r"model\.kw_args\['x'\]"),
        (recursive(), r"model \(closure\)"),
        (nested(MAX_DEPTH + 1), r"model\[0\]\[0\]"),
        (nested(5000), r"model\[0\]\[0\]"),
    ],
)
def test_what_contains_itself_is_refused_by_name(value, where):
    for look in (fingerprint, refuse_unimportable):
        with pytest.raises(ParameterError, match=f"^{where}.* is part of itself, or more than {MAX_DEPTH} levels deep"):
            look(value)


def test_one_value_in_two_places_is_no_loop():
    inner = [1, 2]
    assert fingerprint({"a": inner, "b": [inner, inner]}) == fingerprint({"a": [1, 2], "b": [[1, 2], [1, 2]]})
    assert fingerprint(nested(MAX_DEPTH)) != fingerprint(nested(MAX_DEPTH - 1))


# -- code without an importable name ---------------------------------------------------------------------------------


def local_class():
    class Local(Base):
        pass

    return Local


def holds(value):
    def inner(x):
        return value(x)

    inner.__qualname__ = "inner"
    return inner


unnamed = lambda x: x
LAMBDA = "is a lambda, which has no importable name"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (FunctionTransformer(lambda x: x), rf"model\.func {LAMBDA}"),
        (FunctionTransformer(unnamed), rf"model\.func {LAMBDA}"),
        (FunctionTransformer(closure(1)), r"model\.func is 'inner', which was defined inside a function"),
        (FunctionTransformer(functools.partial(unnamed, 1)), rf"model\.func {LAMBDA}"),
        (FunctionTransformer(functools.partial(default, k=unnamed)), rf"model\.func\['k'\] {LAMBDA}"),
        (FunctionTransformer(holds(unnamed)), rf"model\.func \(closure\) {LAMBDA}"),
        (make_pipeline(FunctionTransformer(unnamed), LogisticRegression()), rf"model\.steps\[0\]\[1\]\.func {LAMBDA}"),
        (make_pipeline(Custom({"a": [unnamed]})), rf"model\.steps\[0\]\[1\]\.k\['a'\]\[0\] {LAMBDA}"),
        (Custom(local_class()), r"model\.k is 'Local', which was defined inside a function"),
        (Custom(local_class()()), r"model\.k is 'Local', which was defined inside"),
        (local_class()(), r"model is 'Local', which was defined inside"),
        (Custom(np.array([unnamed, None])), rf"model\.k\[0\] {LAMBDA}"),
    ],
)
def test_code_without_an_importable_name_is_refused(model, message):
    fingerprint(model)
    with pytest.raises(ParameterError, match=f"^{message}.*nothing was written. Give a function"):
        refuse_unimportable(model)


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        make_pipeline(FunctionTransformer(np.log), StandardScaler(), DecisionTreeClassifier()),
        FunctionTransformer(default),
        FunctionTransformer(functools.partial(default, k=2)),
        FunctionTransformer(Custom(1).method),
        Custom(Base),
        Custom(",".join),
    ],
)
def test_what_has_a_name_passes(model):
    refuse_unimportable(model)
