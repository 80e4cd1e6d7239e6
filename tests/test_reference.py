"""Every public name, hook, error, command and option has its entry in docs/reference, and nothing else has."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import pytest

import unlearnkit
import unlearnkit_torch
from unlearnkit import SISAClassifier, SISARegressor, adapters, errors, learner, parquet, testing

DOCS = Path(__file__).parents[1] / "docs"
ENTRY = re.compile(r"^::: (\S+)$", re.MULTILINE)


def tool(name):
    spec = importlib.util.spec_from_file_location(f"docs_tools_{name}", DOCS / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMMANDS = tool("commands")


def texts():
    return {path.name: path.read_text(encoding="utf-8") for path in DOCS.glob("reference/*.md")}


def public():
    """What must have an entry, by its name in full."""
    own = {f"unlearnkit.{name}": getattr(unlearnkit, name) for name in unlearnkit.__all__}
    kit = {f"unlearnkit.testing.{name}": getattr(testing, name) for name in testing.__all__}
    tree = {f"unlearnkit.errors.{n}": e for n, e in vars(errors).items() if inspect.isclass(e)}
    hooks = {
        f"unlearnkit.adapters.HookSpecs.{name}": hook
        for name, hook in vars(adapters.HookSpecs).items()
        if name.startswith("unlearnkit_")
    }
    torch = {f"unlearnkit_torch.{name}": getattr(unlearnkit_torch, name) for name in unlearnkit_torch.__all__}
    abilities = {f"unlearnkit.learner.{name}": getattr(learner, name) for name in ("Sharing", "Joining")}
    others = {"unlearnkit.parquet.ParquetRows": parquet.ParquetRows, **abilities}
    return own | kit | tree | hooks | torch | others


def found(name):
    """What a name in full leads to."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        if importlib.util.find_spec(parts[0]) and _is_module(".".join(parts[:n])):
            thing = importlib.import_module(".".join(parts[:n]))
            for part in parts[n:]:
                thing = getattr(thing, part)
            return thing
    raise LookupError(name)


def _is_module(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def entries(pages):
    return [name for text in pages.values() for name in ENTRY.findall(text)]


def names_without_entry(pages):
    have = [found(name) for name in entries(pages)]
    return sorted(name for name, thing in public().items() if not any(thing is other for other in have))


def options_without_entry(text):
    sections = {part.partition("\n")[0]: part for part in text.split("\n## ")[1:]}
    return sorted(
        f"{name} {parameter.name}"
        for name, command in COMMANDS.commands()
        for parameter in command.params
        if COMMANDS.entry(parameter) not in sections.get(name, "").splitlines()
    )


def test_every_public_name_has_an_entry():
    assert names_without_entry(texts()) == []


def test_every_entry_is_of_a_public_name():
    things = list(public().values())
    assert [name for name in entries(texts()) if not any(found(name) is thing for thing in things)] == []


@pytest.mark.parametrize("name", sorted(set(entries(texts()))))
def test_an_entry_that_is_taken_out_is_missed(name):
    """Else the test above could not fail."""
    less = {page: re.sub(rf"^::: {re.escape(name)}$", "", text, flags=re.MULTILINE) for page, text in texts().items()}
    assert [found(missed) for missed in names_without_entry(less)] in ([found(name)], [found(name)] * 2)


def test_every_command_and_option_has_an_entry():
    assert options_without_entry(texts()["commands.md"]) == []


def test_an_option_that_is_taken_out_is_missed():
    lines = texts()["commands.md"].splitlines()
    told = [n for n, line in enumerate(lines) if line.startswith("| `")]
    assert len(told) == sum(len(command.params) for _, command in COMMANDS.commands())
    for n in told:
        assert len(options_without_entry("\n".join(lines[:n] + lines[n + 1 :]))) == 1, lines[n]


def test_the_page_of_commands_is_what_the_commands_say():
    assert texts()["commands.md"] == COMMANDS.page(), "run: python docs/tools/commands.py docs/reference/commands.md"


def test_the_tree_of_errors_is_drawn_whole():
    drawn = texts()["errors.md"].partition("```text")[2].partition("```")[0]
    for name, error in vars(errors).items():
        if inspect.isclass(error):
            assert re.search(rf"\b{name}\b", drawn), name


@pytest.mark.parametrize("kind", [SISAClassifier, SISARegressor])
def test_every_parameter_of_an_estimator_is_told_of(kind):
    told = inspect.getdoc(SISAClassifier).partition("Parameters\n---")[2].partition("Attributes\n---")[0]
    for name in inspect.signature(kind).parameters:
        assert re.search(rf"^{name} : ", told, re.MULTILINE), name


def methods(kind):
    """Of unlearnkit's own making: scikit-learn has a reference of its own."""
    for name in dir(kind):
        home = next(cls for cls in kind.__mro__ if name in vars(cls))
        if not name.startswith("_") and home.__module__.startswith("unlearnkit"):
            yield name


@pytest.mark.parametrize("kind", [SISAClassifier, SISARegressor])
def test_every_method_of_an_estimator_has_a_docstring_with_its_parameters(kind):
    for name in methods(kind):
        method = getattr(kind, name)
        assert inspect.getdoc(method), name
        if inspect.isfunction(method):
            for parameter in list(inspect.signature(method).parameters)[1:]:
                line = rf"^(\*{{2}}|\w+, )*{parameter}(, \w+)*( : .+)?$"
                assert re.search(line, inspect.getdoc(method), re.MULTILINE), (name, parameter)
