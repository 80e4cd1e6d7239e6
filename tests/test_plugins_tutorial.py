"""The tutorial and the template are one code, and the template, copied out and installed alone, passes its tests."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from unlearnkit.testing import CHECKS

DOCS = Path(__file__).parents[1] / "docs"
TEMPLATE = DOCS / "plugin-template"
TUTORIAL = (DOCS / "plugins.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```\w+ file=(\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHOWN = BLOCK.findall(TUTORIAL)
LEFTOVERS = ("__pycache__", "*.pyc", ".*cache", "*.egg-info")


def files():
    kept = [p.relative_to(TEMPLATE) for p in TEMPLATE.rglob("*") if p.suffix in (".py", ".toml")]
    return sorted(map(str, kept))


def test_the_tutorial_shows_the_whole_template():
    assert sorted({name for name, _ in SHOWN}) == files()


@pytest.mark.parametrize("name", files())
def test_every_line_of_the_template_is_in_the_tutorial(name):
    """The blocks of a file are pieces of it, without overlap, and nothing else is in the file."""
    rest = (TEMPLATE / name).read_text(encoding="utf-8")
    for block in [body for shown, body in SHOWN if shown == name]:
        assert rest.count(block) == 1, f"{name} does not have this block once:\n{block}"
        rest = rest.replace(block, "")
    assert rest.strip() == ""


def test_first_party_plugins_import_what_the_tutorial_allows():
    table = TUTORIAL.partition("## What a plugin may import")[2].partition("\n## ")[0]
    allowed = {row[1]: row[2] for row in re.finditer(r"^\| `(unlearnkit\.\w+)` \| (.*) \|$", table, re.MULTILINE)}
    found = [
        (node.module, alias.name)
        for source in DOCS.parent.glob("plugins/*/unlearnkit_*/*.py")
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unlearnkit.")
        for alias in node.names
    ]
    assert found
    # Of these two the table names none: all that is in them may be had.
    whole = ("unlearnkit.errors", "unlearnkit.typing")
    refused = {(m, name) for m, name in found if m not in whole and f"`{name}`" not in allowed.get(m, "")}
    assert refused == set()


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The template in a folder of its own, installed from a copy that is gone, and nothing but its tests beside it."""
    home = tmp_path_factory.mktemp("template")
    source, site = home / "source", home / "site"
    shutil.copytree(TEMPLATE, source, ignore=shutil.ignore_patterns(*LEFTOVERS))
    alone = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    pip = [sys.executable, "-m", "pip", "install", *alone, "--target", str(site), "."]
    subprocess.run(pip, cwd=source, check=True, capture_output=True, text=True)
    shutil.move(source / "tests", home / "tests")
    shutil.rmtree(source)
    return home


def run(home, *arguments):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHONPATH"))}
    env["PYTHONPATH"] = str(home / "site")
    return subprocess.run([sys.executable, *arguments], cwd=home, env=env, capture_output=True, text=True, check=False)


def test_the_template_installed_alone_passes_its_tests(installed):
    done = run(installed, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:xdist", "tests")
    assert done.returncode == 0, done.stdout
    (passed,) = re.findall(r"^(\d+) passed in", done.stdout, re.MULTILINE)
    assert int(passed) > 2 * len(CHECKS)


def test_the_installed_template_is_listed(installed):
    done = run(installed, "-c", "from unlearnkit.cli import main; main()", "plugins", "--json")
    (copse,) = [p for p in json.loads(done.stdout)["plugins"] if p["name"] == "copse"]
    assert (copse["distribution"], copse["version"], copse["problem"]) == ("unlearnkit-copse", "0.1.0", None)
    assert copse["adapters"][0]["native_types"] == ["copse:CopseClassifier"]


def test_the_tutorial_lists_every_field_hook_and_ability():
    from dataclasses import fields

    from unlearnkit.adapters import Adapter, HookSpecs
    from unlearnkit.learner import Batch, Capabilities

    told = TUTORIAL
    names = [f.name for kind in (Adapter, Batch, Capabilities) for f in fields(kind)]
    hooks = [name for name in vars(HookSpecs) if name.startswith("unlearnkit_")]
    assert [name for name in names + hooks if f"`{name}" not in told] == []
