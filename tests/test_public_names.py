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
