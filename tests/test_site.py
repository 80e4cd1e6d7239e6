"""The documentation as a site: it builds without a warning, its links lead somewhere, a browser shows every page."""

from __future__ import annotations

import functools
import html
import http.server
import importlib.util
import inspect
import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from unlearnkit import SISAClassifier, SISARegressor

# The site is built once.
pytestmark = pytest.mark.xdist_group("site")

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"),
    # No other host is asked, even if a page would.
    *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--virtual-time-budget=60000", "--dump-dom"),
]
# Looks at every page in a frame, and writes down what it has found there.
HARNESS = """<!doctype html><link rel="icon" href="data:,"><title>all pages</title><pre id="found"></pre><script>
addEventListener("load", () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument;
    found[frame.dataset.page] = {
      title: page.querySelector("h1")?.innerText ?? "",
      pictures: [...page.images].map(image => image.naturalWidth),
      asked: frame.contentWindow.performance.getEntriesByType("resource").map(entry => entry.name),
      wide: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    };
  }
  document.getElementById("found").textContent = JSON.stringify(found);
});
</script>
"""


def tool(name):
    spec = importlib.util.spec_from_file_location(f"docs_tools_{name}", ROOT / "docs" / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LINKS, PAGES = tool("links"), tool("pages")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, as `make docs` builds it, somewhere else."""
    pytest.importorskip("zensical")
    folder = tmp_path_factory.mktemp("site")
    shutil.copyfile(ROOT / "mkdocs.yml", folder / "mkdocs.yml")
    PAGES.lay_out(folder / "build" / "pages")
    done = subprocess.run(
        [Path(sys.executable).with_name("zensical"), "build", "--clean", "--strict"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout + done.stderr
    assert "arning" not in done.stdout + done.stderr
    return folder / "build" / "site"


def in_nav():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    return re.findall(r": (\S+\.md)$", nav, re.MULTILINE)


def test_every_page_is_in_the_navigation_once():
    places = sorted(place.as_posix() for place in PAGES.pages().values())
    assert sorted(in_nav()) == places


def test_links_inside_the_site_lead_somewhere(site):
    assert LINKS.broken(site) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    (tmp_path / "a.html").write_text('<h2 id="here"></h2><a href="#here">1</a><a href="b.html">2</a>')
    (tmp_path / "b.html").write_text('<a href="a.html#here">3</a><a href="a.html#gone">4</a><img src="c.svg">')

    assert LINKS.broken(tmp_path) == [
        "b.html: a.html#gone leads to nothing",
        "b.html: c.svg leads to nothing",
    ]


def test_links_are_moved_with_their_pages(tmp_path):
    docs, place = tmp_path / "docs", {}
    (docs / "guides").mkdir(parents=True)
    for source, target in (("README.md", "index.md"), ("docs/a.md", "a.md"), ("docs/guides/b.md", "guides/b.md")):
        (tmp_path / source).write_text(f"# The page {target}\n", encoding="utf-8")
        place[tmp_path / source] = Path(target)
    (tmp_path / "LICENSE").touch()
    text = (
        "[a](../a.md#x) [a.md](../a.md) [home](../../README.md) [law](../../LICENSE) [out](https://x.org) [here](#y)\n"
    )

    moved = PAGES.moved(text + "```md\n[kept](nowhere.md)\n```\n", docs / "guides" / "b.md", place)

    assert moved == (
        "[a](../a.md#x) [The page a.md](../a.md) [home](../index.md) law [out](https://x.org) [here](#y)\n"
        "```md\n[kept](nowhere.md)\n```\n"
    )
    with pytest.raises(ValueError, match="leads to nothing"):
        PAGES.moved("[x](nowhere.md)", docs / "a.md", place)


def test_no_page_asks_another_host_for_anything(site):
    asks = re.compile(r'<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)="(?:https?:)?//[^"]*"')
    for page in site.rglob("*.html"):
        found = [tag for tag in asks.findall(page.read_text(encoding="utf-8")) if 'rel="canonical"' not in tag]
        assert found == [], page


@pytest.mark.parametrize("kind", [SISAClassifier, SISARegressor])
def test_every_method_and_parameter_of_an_estimator_is_shown(site, kind):
    page = (site / "reference" / "estimators.html").read_text(encoding="utf-8")
    name = f"unlearnkit.{kind.__name__}"
    for member in dir(kind):
        home = next(cls for cls in kind.__mro__ if member in vars(cls))
        of_sklearn = re.fullmatch("set_.*_request", member) or not home.__module__.startswith("unlearnkit")
        if not member.startswith("_") and not of_sklearn:
            assert f'id="{name}.{member}"' in page, member
    shown = page.partition(f'id="{name}"')[2].partition("</h3>")[2].partition("</code></pre>")[0]
    signature = html.unescape(re.sub(r"<[^>]+>", "", shown))
    for parameter in inspect.signature(kind).parameters:
        assert re.search(rf"\b{parameter}\b", signature), parameter


def test_every_entry_of_the_reference_is_shown(site):
    for source in (ROOT / "docs" / "reference").glob("*.md"):
        page = (site / "reference" / f"{source.stem}.html").read_text(encoding="utf-8")
        for name in re.findall(r"^::: (\S+)$", source.read_text(encoding="utf-8"), re.MULTILINE):
            assert f'id="{name}"' in page, name


def test_the_pictures_are_those_that_the_script_draws(tmp_path):
    subprocess.run([sys.executable, ROOT / "docs" / "tools" / "figures.py", tmp_path], check=True)
    drawn = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "img").glob("*.svg")}
    assert drawn.keys() == kept.keys()
    for name, picture in drawn.items():
        assert picture == kept[name], f"{name}: run python docs/tools/figures.py docs/img"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves the site and the harness, and remembers what was not there."""

    missing: list[str]

    def log_message(self, *args):
        pass

    def send_error(self, code, *args, **rest):
        self.missing.append(f"{code} {self.path}")
        super().send_error(code, *args, **rest)


@pytest.fixture
def look(tmp_path):
    """Serve a folder on the loopback interface, and look at some of its pages in a browser."""

    def looked(source, pages, width=1280):
        folder = tmp_path / "served"
        shutil.copytree(source, folder)
        frames = "".join(
            f'<iframe width="{width}" height="900" data-page="{page}" src="{page}"></iframe>' for page in pages
        )
        (folder / "all-pages.html").write_text(HARNESS + frames, encoding="utf-8")
        handler = type("Handler", (Quiet,), {"missing": []})
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=folder)) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                address = f"http://127.0.0.1:{server.server_port}/"
                document, console = browse(f"{address}all-pages.html", tmp_path / "profile")
            finally:
                server.shutdown()
                thread.join()
        found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', document, re.DOTALL)[1]))
        asked = [(page, name) for page, seen in found.items() for name in seen["asked"]]
        elsewhere = [f"{page}: {name}" for page, name in asked if not name.startswith((address, "data:", "blob:"))]
        return found, [*console, *handler.missing, *elsewhere]

    return looked


def browse(address, profile):
    """The document that a browser makes of a page, and what its console says."""
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", address],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
def test_a_browser_shows_every_page_without_a_complaint(site, look):
    pages = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html") if path.name != "404.html")

    # As wide as a telephone: what fits there fits everywhere.
    found, complaints = look(site, pages, width=360)

    assert complaints == []
    assert sorted(found) == pages
    for page, seen in found.items():
        assert seen["title"], page
        assert all(seen["pictures"]), page
        assert seen["wide"] <= 0, page
    assert len(found["how-it-works.html"]["pictures"]) == 3


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
def test_a_complaint_of_the_browser_is_seen(tmp_path, look):
    """Else the test above could not fail."""
    bad = tmp_path / "bad" / "bad.html"
    bad.parent.mkdir()
    bad.write_text(
        '<link rel="icon" href="data:,"><h1>bad</h1><img src="https://example.org/x.png"><img src="gone.svg">'
        '<script>console.error("no"); nothing()</script><div style="width:2000px">wide</div>'
    )

    found, complaints = look(bad.parent, ["bad.html"])

    assert found["bad.html"]["pictures"] == [0, 0]
    assert found["bad.html"]["wide"] > 0
    told = "\n".join(complaints)
    for part in ("no", "nothing is not defined", "404 /gone.svg", "bad.html: https://example.org/x.png"):
        assert part in told
