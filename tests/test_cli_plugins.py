"""``unlearnkit plugins``: what is installed, for people and as JSON."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from unlearnkit.adapters import Adapter, Installed
from unlearnkit.cli.app import app

CATS = Adapter("cats", ("pets.cats:Cat", "pets.cats:Lion"), print, abilities=("classification", "missing_values"))
DOGS = Adapter("dogs", ("pets.dogs:Dog",), print)
KENNEL = Installed("kennel", "unlearnkit_kennel", "unlearnkit-kennel", "2.1", (CATS, DOGS), ("unlearnkit_adapters",))
WATCHER = Installed("watcher", "watching", "watching", "0.3", (), ("unlearnkit_step_trained",))
BROKEN = Installed("parrot", "unlearnkit_parrot", "unlearnkit-parrot", "7", problem="ImportError: no beak")


@pytest.fixture
def command(monkeypatch):
    """A function that runs the command as if these plugins were installed."""

    def command(*installed, options=()):
        found = Found(installed)
        monkeypatch.setattr("unlearnkit.adapters.plugins", lambda: found)
        return CliRunner().invoke(app, ["plugins", *options])

    return command


class Found:
    def __init__(self, installed):
        self.installed = list(installed)

    @property
    def conflicts(self):
        claims = {}
        for plugin in self.installed:
            for adapter in plugin.adapters:
                for claim in adapter.native_types:
                    claims.setdefault(claim, []).append(adapter.name)
        return {claim: sorted(names) for claim, names in claims.items() if len(names) > 1}


def test_a_table_for_people(command):
    done = command(KENNEL, WATCHER)
    lines = done.stdout.splitlines()
    assert done.exit_code == 0
    assert lines[0].split() == ["Adapter", "Plugin", "Wraps", "what", "derives", "from", "At", "best"]
    assert lines[1].split() == [
        "cats",
        "unlearnkit-kennel",
        "2.1",
        "pets.cats.Cat",
        "classification,",
        "missing",
        "values",
    ]
    assert lines[2].split() == ["pets.cats.Lion"]
    assert lines[3].split() == ["dogs", "unlearnkit-kennel", "2.1", "pets.dogs.Dog", "it", "does", "not", "say"]
    assert lines[4].split() == ["-", "watching", "0.3", "nothing:", "it", "observes", "step", "trained"]


def test_a_broken_plugin_is_a_finding(command):
    done = command(BROKEN, KENNEL)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == "parrot (unlearnkit-parrot 7) cannot be used: ImportError: no beak"
    assert "cats" in done.stdout


def test_a_conflict_is_a_finding(command):
    other = Installed("other", "other", adapters=(Adapter("felines", ("pets.cats:Cat",), print),))
    done = command(KENNEL, other)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == (
        'pets.cats.Cat is claimed by the adapters cats, felines: choose one with adapter="name", or uninstall the other'
    )


def test_json(command):
    told = json.loads(command(KENNEL, BROKEN, options=["--json"]).stdout)
    assert told["plugins"][0]["adapters"][0] == {
        "name": "cats",
        "native_types": ["pets.cats:Cat", "pets.cats:Lion"],
        "library": [],
        "abilities": ["classification", "missing_values"],
    }
    assert told["plugins"][1] == {
        "name": "parrot",
        "module": "unlearnkit_parrot",
        "distribution": "unlearnkit-parrot",
        "version": "7",
        "adapters": [],
        "hooks": [],
        "problem": "ImportError: no beak",
    }
    assert len(told["findings"]) == 1


def test_no_plugin_at_all(command):
    done = command()
    assert done.exit_code == 0
    assert done.stdout.split() == ["Adapter", "Plugin", "Wraps", "what", "derives", "from", "At", "best"]


def test_the_list_imports_no_framework():
    code = (
        "import sys; from unlearnkit.cli import main; sys.argv[1:] = ['plugins', '--json']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'sklearn', 'lightgbm', 'xgboost', 'catboost', 'torch', 'skorch', 'pandas'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert len(json.loads(done.stdout)["plugins"]) >= 1
