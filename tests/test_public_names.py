"""What users rely on: the names, and how little importing them costs."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import unlearnkit

ROOT = Path(unlearnkit.__file__).parent
FRAMEWORKS = ["sklearn", "scipy", "pandas", "joblib", "lightgbm", "xgboost", "torch", "skorch", "skops", "rich"]
FLOORS = [
    {"errors", "typing"},
    {"hashing", "ids", "parts", "learner", "fingerprints", "progress", "threads", "environment"},
    {"schema", "partition", "aggregation"},
    {"data"},
    {"plan", "blobs", "ledger", "ingest", "receipts"},
    {"store", "training", "adapters", "serving"},
    {"build"},
    {"ensemble"},
    {"estimators"},
]


def names_in_type_checking():
    """The names that the package tells type checkers of, and where they come from."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {a.name: node.module.removeprefix("unlearnkit.") for node in block.body for a in node.names}


def test_one_list_of_names():
    assert unlearnkit.__all__ == sorted(unlearnkit.__all__)
    assert names_in_type_checking() == unlearnkit._HOMES
    assert set(unlearnkit.__all__) == set(unlearnkit._HOMES)


@pytest.mark.parametrize("name", unlearnkit.__all__)
def test_each_name_is_there_and_documented(name):
    found = getattr(unlearnkit, name)
    home = importlib.import_module(f"unlearnkit.{unlearnkit._HOMES[name]}")
    assert found is getattr(home, name)
    assert name in dir(unlearnkit)
    assert name == "hookimpl" or inspect.getdoc(found)


def test_no_other_name():
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = unlearnkit.nope


@pytest.mark.parametrize("module", ["unlearnkit", "unlearnkit.ledger", "unlearnkit.blobs", "unlearnkit.errors"])
def test_importing_costs_no_framework(module):
    code = f"import sys, {module}; print(sorted(set({FRAMEWORKS}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_core_imports_no_framework_but_scikit_learn():
    code = f"import sys, unlearnkit.estimators; print(sorted(set({FRAMEWORKS}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(ast.literal_eval(done.stdout)) & {"lightgbm", "xgboost", "torch", "skorch", "skops"}


def imports_of(module):
    tree = ast.parse((ROOT / f"{module}.py").read_text())
    checking = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    hidden = {id(inner) for block in checking for inner in ast.walk(block)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unlearnkit") and id(node) not in hidden:
            names = [node.module.partition(".")[2]] if "." in node.module else [a.name for a in node.names]
            yield from (name.partition(".")[0] for name in names)


@pytest.mark.parametrize("module", sorted(set().union(*FLOORS)))
def test_a_module_imports_from_no_higher_floor(module):
    floor = next(i for i, names in enumerate(FLOORS) if module in names)
    allowed = set().union(*FLOORS[: floor + 1]) - {module}
    assert set(imports_of(module)) <= allowed
