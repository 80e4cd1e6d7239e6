"""Lay out the pages of the site: those of docs/, and those that lie elsewhere in the project, with their links mended.

A link in the sources leads to a file of the project, so that it works where the sources are read. On the site a page
may have another place, and what is no page of it becomes plain text.

    python docs/tools/pages.py build/pages
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
# The tutorial says of which file a block is part; the site shows that above the block.
FILE = re.compile(r"^```(\w+) file=(\S+)$", re.MULTILINE)
CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
PICTURES = {".css", ".svg"}


def pages(root: Path = ROOT) -> dict[Path, Path]:
    """The place on the site of every page, by its source."""
    docs = root / "docs"
    own = {path: path.relative_to(docs) for path in docs.rglob("*.md")}
    plugins = {
        path: Path("plugins", path.parent.name.removeprefix("unlearnkit-") + ".md")
        for path in root.glob("plugins/*/README.md")
    }
    others = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "benchmarks/README.md": "benchmarks.md"}
    return own | plugins | {root / source: Path(place) for source, place in others.items()}


def pictures(root: Path = ROOT) -> dict[Path, Path]:
    """The place of every file that pages show."""
    folder = root / "docs" / "img"
    return {path: path.relative_to(root / "docs") for path in folder.iterdir() if path.suffix in PICTURES}


def title(source: Path) -> str:
    """The heading of a page, by which the site calls it where the sources name its file."""
    found = re.search(r"^# (.+)$", source.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else source.stem


def moved(text: str, source: Path, places: dict[Path, Path]) -> str:
    """The text of a page with its links as they are on the site.

    Raises
    ------
    ValueError
        If a link leads to nothing.
    """

    def link(match: re.Match[str]) -> str:
        picture, words, target, anchor = match.groups()
        found = Path(os.path.normpath(source.parent / target))
        if found in places:
            there = os.path.relpath(places[found], places[source].parent)
            named = title(found) if words.endswith(".md") else words
            return f"{picture}[{named}]({Path(there).as_posix()}{anchor or ''})"
        if not found.exists():
            raise ValueError(f"{source}: the link to {target} leads to nothing")
        return words

    pieces, end = [], 0
    for block in CODE.finditer(text):
        pieces += [LINK.sub(link, text[end : block.start()]), FILE.sub(r'```\1 title="\2"', block[0])]
        end = block.end()
    return "".join([*pieces, LINK.sub(link, text[end:])])


def lay_out(target: Path, root: Path = ROOT) -> None:
    """Write all pages and what they show into a folder, which is emptied first."""
    shutil.rmtree(target, ignore_errors=True)
    shown = pictures(root)
    places = pages(root) | shown
    for source, place in places.items():
        there = target / place
        there.parent.mkdir(parents=True, exist_ok=True)
        if source in shown:
            shutil.copyfile(source, there)
        else:
            there.write_text(moved(source.read_text(encoding="utf-8"), source, places), encoding="utf-8")


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]))
