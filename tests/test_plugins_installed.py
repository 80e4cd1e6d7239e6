"""Plugins as strangers install them: real distributions on the path of a fresh process, found by their metadata."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

GOOD = """
from unlearnkit import Adapter, hookimpl

def wrap(model, resolve):
    from unlearnkit.testing import RememberingLearner
    return RememberingLearner()

@hookimpl
def unlearnkit_adapters():
    return [Adapter("{name}", ("zither:Zither",), wrap, abilities=("classification", "resumable"))]
"""
FRAMEWORK = """
class Zither:
    def get_params(self, deep=True):
        return {}

    def set_params(self):
        return self

class Alpine(Zither):
    pass
"""
WATCHER = """
from unlearnkit import hookimpl

@hookimpl
def unlearnkit_request_done(receipt):
    raise OSError("the dashboard is down")

@hookimpl
def unlearnkit_step_trained(step, seconds):
    pass
"""
# What is wrong with each, and the reason that must be told.
BROKEN = {
    "missing": ("import libzither", "ModuleNotFoundError: No module named 'libzither'"),
    "leaving": ("import sys; sys.exit('no licence')", "SystemExit: no licence"),
    "typo": ("def unlearnkit_adapters(:", "SyntaxError"),
    "raising": (
        """
        from unlearnkit import hookimpl
        @hookimpl
        def unlearnkit_adapters():
            raise OSError("no device")
        """,
        "OSError: no device",
    ),
    "nonsense": (
        """
        from unlearnkit import hookimpl
        @hookimpl
        def unlearnkit_adapters():
            return ["zither:Zither"]
        """,
        "unlearnkit_adapters gave str where Adapter was expected",
    ),
    "newer_adapter": (
        """
        from unlearnkit import Adapter, hookimpl
        @hookimpl
        def unlearnkit_adapters():
            return [Adapter("newer", ("zither:Zither",), print, telepathy=True)]
        """,
        "'telepathy' (is it made for another version of unlearnkit than",
    ),
    "newer_hook": (
        """
        from unlearnkit import hookimpl
        @hookimpl
        def unlearnkit_dreams():
            pass
        """,
        "unknown hook 'unlearnkit_dreams'",
    ),
    "newer_argument": (
        """
        from unlearnkit import hookimpl
        @hookimpl
        def unlearnkit_adapters(version):
            return []
        """,
        "{'version'} are declared in the hookimpl but can not be found in the hookspec (is it made for another",
    ),
    "newer_name": ("from unlearnkit import Telepathy", "cannot import name 'Telepathy' from 'unlearnkit'"),
}


def install(site, name, code, version="1.2"):
    """A distribution with one module and one entry point, as pip would leave it."""
    site.mkdir(exist_ok=True)
    module = f"unlearnkit_{name}"
    (site / f"{module}.py").write_text(textwrap.dedent(code), encoding="utf-8")
    info = site / f"{module}-{version}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: unlearnkit-{name.replace('_', '-')}\nVersion: {version}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[unlearnkit]\n{name} = {module}\n", encoding="utf-8")
    return site


def run(site, *arguments):
    # Nothing of the process that runs the tests: this process is told of the site alone.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHONPATH"))} | {
        "PYTHONPATH": str(site)
    }
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=env, check=False)


def listed(site):
    done = run(site, "-c", "from unlearnkit.cli import main; main()", "plugins", "--json")
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def site(tmp_path):
    folder = install(tmp_path / "site", "zither", GOOD.format(name="zither"))
    (folder / "zither.py").write_text(FRAMEWORK, encoding="utf-8")
    return folder


def test_an_installed_plugin_is_found_and_told_of(site):
    code, told = listed(site)
    (plugin,) = [p for p in told["plugins"] if p["name"] == "zither"]
    assert code == 0
    assert told["findings"] == []
    assert plugin == {
        "name": "zither",
        "module": "unlearnkit_zither",
        "distribution": "unlearnkit-zither",
        "version": "1.2",
        "adapters": [
            {
                "name": "zither",
                "native_types": ["zither:Zither"],
                "library": [],
                "abilities": ["classification", "resumable"],
            }
        ],
        "hooks": ["unlearnkit_adapters"],
        "problem": None,
    }


FORGETS = """
import numpy as np, zither
from unlearnkit import SISAClassifier, wrap
X, y, ids = np.arange(80.0).reshape(-1, 2), np.arange(40) % 2, np.arange(40)
model = SISAClassifier(zither.Alpine(), n_shards=2, random_state=0).fit(X, y, ids=ids)
model.forget([3, 4])
keep = ~np.isin(ids, [3, 4])
other = model.pinned().fit(X[keep], y[keep], ids=ids[keep])
print(model.model_digest_ == other.model_digest_)
"""


def test_a_model_of_a_stranger_forgets_and_an_observer_that_fails_is_a_warning(site):
    install(site, "watcher", WATCHER)
    assert [p["hooks"] for p in listed(site)[1]["plugins"] if p["name"] == "watcher"] == [
        ["unlearnkit_request_done", "unlearnkit_step_trained"]
    ]
    done = run(site, "-c", FORGETS)
    assert done.stdout.strip() == "True"
    warned = [line for line in done.stderr.splitlines() if "Warning" in line]
    assert len(warned) == 1
    assert "RuntimeWarning: A plugin failed in unlearnkit_request_done: OSError: the dashboard is down" in warned[0]


RESOLVES = """
import sys, zither
from unlearnkit.adapters import resolve
print(type(resolve(zither.Alpine(), *sys.argv[1:])).__name__)
"""


def test_broken_plugins_are_told_of_by_name_and_break_nothing(site):
    for name, (code, _) in BROKEN.items():
        install(site, name, code)
    code, told = listed(site)
    problems = {p["name"]: p["problem"] for p in told["plugins"] if p["problem"]}
    assert code == 1
    assert problems.keys() == BROKEN.keys()
    for name, (_, reason) in BROKEN.items():
        assert reason in problems[name]
        assert "\n" not in problems[name]
        assert any(f.startswith(f"{name} (unlearnkit-{name.replace('_', '-')} 1.2)") for f in told["findings"])
    assert run(site, "-c", RESOLVES).stdout.strip() == "RememberingLearner"


def test_two_plugins_that_claim_a_type_leave_the_choice_to_the_user(site):
    install(site, "rival", GOOD.format(name="rival"))
    code, told = listed(site)
    assert code == 1
    assert told["conflicts"] == {"zither:Zither": ["rival", "zither"]}
    done = run(site, "-c", RESOLVES)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("unlearnkit.errors.AdapterConflictError: zither:Zither is claimed by the adapters rival, zi")
    assert 'adapter="name"' in last
    assert run(site, "-c", RESOLVES, "rival").stdout.strip() == "RememberingLearner"


def test_a_plugin_that_prints_does_not_spoil_the_json(site):
    install(site, "chatty", "print('hello from chatty')")
    done = run(site, "-c", "from unlearnkit.cli import main; main()", "plugins", "--json")
    assert json.loads(done.stdout)["findings"] == []
    assert done.stderr == "hello from chatty\n"
