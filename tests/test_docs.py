"""Every Python block in the documentation runs, in order, as one program for each file."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/README.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
IMPORT = re.compile(r"^\s*(?:import|from)\s+(\w+)", re.MULTILINE)


def program(text):
    """The page with all but its Python blocks blanked, so that line numbers are those of the page."""
    pieces, end = [], 0
    for block in BLOCK.finditer(text):
        pieces += ["\n" * text.count("\n", end, block.start(1)), block[1]]
        end = block.end(1)
    return "".join(pieces)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run(page, tmp_path, monkeypatch):
    source = program(page.read_text(encoding="utf-8"))
    for framework in IMPORT.findall(source):
        pytest.importorskip(framework)
    # A real module: code that a block defines must be importable, as a user's would be.
    name = "page_" + re.sub(r"\W", "_", str(page.relative_to(ROOT)))
    path = tmp_path / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)


def test_program_keeps_line_numbers():
    text = "title\n\n```python\nfirst = 1\n```\n\nwords\n\n```python\nsecond = 2\n```\n"

    assert program(text).splitlines() == ["", "", "", "first = 1", "", "", "", "", "", "second = 2"]


def test_readme_has_code():
    assert "clf.forget" in program((ROOT / "README.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []
