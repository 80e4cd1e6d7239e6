"""The report in a real browser: what a reader sees is what the ledger says, and the page asks for nothing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier

from unlearnkit import SISAClassifier, Store, load, membership_audit
from unlearnkit.policy import Policy
from unlearnkit.report import facts_of, page
from unlearnkit.statements import read

pytest.importorskip("jinja2")
pytest.importorskip("sqlalchemy")
pytest.importorskip("unlearnkit_sklearn")

SECTIONS = ["model", "shards", "requests", "receipts", "digests", "audits", "outside", "chain"]


def chromium():
    spec = importlib.util.spec_from_file_location("chromium", Path(__file__).with_name("chromium.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    module = chromium()
    if module.PROGRAM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with module.Chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def made(tmp_path_factory, helpers):
    """A store with a life behind it, and its report."""
    folder = tmp_path_factory.mktemp("report")
    X, y, ids = helpers.rows()
    store = Store.at(folder / "toy.sisa", policy=Policy(copies=("backups of the bank",)))
    model = SISAClassifier(SGDClassifier(loss="log_loss"), n_shards=4, n_slices=3, store=store, random_state=0)
    model.fit(X, y, ids=ids)
    chosen = np.isin(ids, np.arange(1000, 1010))
    audits = [membership_audit(model, X[chosen], y[chosen], X[~chosen], y[~chosen])]
    receipt = model.forget(ids[chosen])
    audits.append(membership_audit(model, X[chosen], y[chosen], X[~chosen], y[~chosen]))
    for audit in audits:
        audit.record(model, receipt)
    model.rectify(X[~chosen][:1] + 1, y[~chosen][:1], ids=ids[~chosen][:1])
    store.submit([424242])
    model = load(folder / "toy.sisa")
    model.forget(ids[~chosen][5:7], repair=False)
    digest = model.model_digest_
    store.submit([ids[~chosen][9].item()])
    file = folder / "report.html"
    file.write_text(page(facts_of(Store.at(folder / "toy.sisa"))), encoding="utf-8")
    return folder / "toy.sisa", file, digest


@pytest.fixture
def shown(browser, made):
    browser.open(made[1])
    return browser


def table(browser, where):
    """The texts of the cells of the body of a table."""
    cells = "[...r.cells].map(c => c.innerText.trim())"
    return browser.evaluate(f"[...document.querySelectorAll('{where} tbody tr')].map(r => {cells})")


def text(browser, where):
    return browser.evaluate(f"document.querySelector('{where}').innerText")


def ledger(made):
    return Store.at(made[0]).ledger


def test_nothing_is_asked_for_and_the_console_is_silent(shown, made):
    shown.look(dark=True)
    shown.look(media="print")
    assert shown.requests == [made[1].resolve().as_uri()]
    assert shown.complaints == []


def test_a_page_that_asks_for_something_is_noticed(browser, made, tmp_path):
    """Else the test above could not fail."""
    own = tmp_path / "other.html"
    stranger = '<img src="http://127.0.0.1:9/x.png"><script>console.log("x")</script>'
    html = made[1].read_text(encoding="utf-8")
    own.write_text(html.replace("<main", stranger + "<main"), encoding="utf-8")
    browser.open(own)
    # The page forbids it to itself: that much the console says.
    assert len(browser.complaints) >= 2
    policy = html[html.index('<meta http-equiv="Content-Security-Policy"') :].partition("\n")[0]
    own.write_text(html.replace(policy, "").replace("<main", stranger + "<main"), encoding="utf-8")
    browser.open(own)
    assert "http://127.0.0.1:9/x.png" in browser.requests


def test_every_section_is_there_and_the_list_of_sections_leads_to_it(shown):
    assert shown.evaluate("[...document.querySelectorAll('main > section')].map(s => s.id)") == SECTIONS
    links = shown.evaluate("[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href'))")
    assert links == [f"#{name}" for name in SECTIONS]
    for name in SECTIONS:
        assert text(shown, f"#{name} h2")
        assert shown.evaluate(f"document.getElementById('{name}').getBoundingClientRect().height") > 50


def test_the_counts_are_those_of_the_ledger(shown, made):
    own = ledger(made)
    states = [request.state for request in own.requests()]
    assert states == ["repaired", "repaired", "rejected", "purged", "received"]
    counts = {"records": sum(cell.n_records for cell in own.cells()), "total": 5, "met": 3, "due": 1, "late": 0}
    counts |= {"overdue": 0, "signed": len(own.statements())}
    assert {name: int(text(shown, f"#n-{name}")) for name in counts} == counts
    assert text(shown, "#digest") == made[2]


def test_the_heat_map_has_the_records_of_each_cell(shown, made):
    rows = table(shown, "#shards table")
    cells = {(cell.shard, cell.slice): cell.n for cell in ledger(made).cells()}
    slices = max(r for _, r in cells) + 1
    assert len(rows) == 4
    for shard, row in enumerate(rows):
        expected = [str(cells.get((shard, r), 0) or "") for r in range(slices)]
        assert row[: slices + 2] == [str(shard), *expected, str(sum(cells.get((shard, r), 0) for r in range(slices)))]
    waiting = {row[0] for row in rows if "waits for repair" in row[-1]}
    assert waiting == set(ledger(made).request(4).facts["shards"])


def test_the_requests_are_those_of_the_ledger(shown, made):
    rows = {int(row[0]): row for row in table(shown, "#told")}
    requests = ledger(made).requests()
    assert list(rows) == [5, 4, 3, 2, 1]
    for request in requests:
        facts = request.facts
        row = rows[request.sequence]
        assert row[1:3] == [facts.get("kind", "erasure"), request.state]
        assert row[4][:16] == facts["received_at"][:16].replace("T", " ")
        assert row[5] == facts["due_at"][:10]
        assert row[6][:16] == (facts.get("purged_at") or "-")[:16].replace("T", " ")
        assert row[7][:16] == (facts.get("repaired_at") or "-")[:16].replace("T", " ")
    assert {n: row[3] for n, row in rows.items()} == {
        5: "due",
        4: "met",
        3: "no record found",
        2: "met",
        1: "met",
    }
    labels = shown.evaluate("[...document.querySelectorAll('#requests svg g')].map(g => g.textContent.trim())")
    assert [label.split()[0] for label in labels] == ["5", "4", "3", "2", "1"]
    assert [label.split()[-1] for label in labels] == ["due", "met", "found", "met", "met"]


def test_the_receipts_and_digests_are_those_that_were_signed(shown, made):
    store = Store.at(made[0])
    signed = [read(envelope, store.secrets.public_keys)["predicate"] for envelope in store.ledger.statements()]
    rows = {int(row[0]): row for row in table(shown, "#table-receipts")}
    digests = {int(row[0]): row[1:] for row in table(shown, "#table-digests")}
    assert [predicate["kind"] for predicate in signed] == ["purged", "repaired"] * 2 + ["rejected", "purged"]
    for predicate in signed:
        n, model = predicate["request"]["sequence"], predicate["model"]
        assert f"{predicate['chain']['number']} {predicate['kind']}" in rows[n][1]
        assert rows[n][1].startswith("holds")
        assert rows[n][2] == str(predicate["ids"]["asked_for"])
        assert digests[n][0] == model["digest_before"][:16]
        if predicate["kind"] == "repaired":
            assert digests[n][1:] == [model["digest_isolated"][:16], model["digest_after"][:16]]
            assert rows[n][4] == str(predicate["removed"]["records"])
            assert rows[n][6].split()[0] == str(predicate["repair"]["steps_retrained"])
    assert rows[5][1] == "not signed yet"
    assert f"{len(signed)} statements, every signature holds" in " ".join(text(shown, "#chain").split())


def test_the_audits_and_what_is_outside_are_told(shown, made):
    rows = table(shown, "#table-audits")
    noted = ledger(made).note("audit:1")
    assert [row[:3] for row in rows] == [["1", s, f"{noted[s]['auc']:.3f}"] for s in ("before", "after")]
    assert "backups of the bank" in text(shown, "#outside")


# -- for everybody -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [360, 768, 1200])
@pytest.mark.parametrize("media", ["screen", "print"])
def test_the_page_is_never_wider_than_the_window(browser, made, width, media):
    browser.open(made[1], width=width, media=media)
    if media == "screen" or width >= 690:
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
    # What is wider by itself can be scrolled, by keyboard too.
    parts = "[...document.querySelectorAll('.scroll, .unlearnkit-figure')]"
    named = f"{parts}.every(e => e.tabIndex === 0 && e.getAttribute('role') === 'region' && e.ariaLabel)"
    assert browser.evaluate(named) is True


def test_on_paper_nothing_is_cut_off(browser, made, tmp_path):
    browser.open(made[1], width=690, media="print", dark=True)
    cut = "[...document.querySelectorAll('table, svg')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
    assert browser.evaluate(f"{cut}.map(e => e.id || e.className.baseVal || e.className)") == []
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    browser.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


CONTRAST = """(() => {
  const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const over = (color, under) => {
    paint.globalCompositeOperation = 'copy'; paint.fillStyle = under; paint.fillRect(0, 0, 1, 1);
    paint.globalCompositeOperation = 'source-over'; paint.fillStyle = color; paint.fillRect(0, 0, 1, 1);
    return `rgb(${[...paint.getImageData(0, 0, 1, 1).data].slice(0, 3)})`;
  };
  const light = color => {
    const [r, g, b] = color.match(/[0-9.]+/g).map(v => v / 255).map(
      v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const chain = e => e ? [...chain(e.parentElement), e] : [];
  const worst = {};
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest('title, desc, style') || !e.getClientRects().length) continue;
    const look = getComputedStyle(e), within = chain(e);
    const back = within.reduce((under, p) => over(getComputedStyle(p).backgroundColor, under), 'rgb(255, 255, 255)');
    const faint = within.reduce((o, p) => o * getComputedStyle(p).opacity, 1);
    let ink = e.ownerSVGElement ? look.fill : look.color;
    ink = over(ink.replace('rgb(', 'rgba(').replace(')', `, ${faint})`), back);
    const [a, b] = [light(ink), light(back)].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) worst[e.textContent.trim().slice(0, 40)] = ratio;
  }
  return worst;
})()"""


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_has_enough_contrast(browser, made, dark):
    browser.open(made[1], dark=dark)
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")
    assert browser.evaluate(CONTRAST) == {}


def test_a_faint_text_is_noticed(shown):
    """Else the test above could not fail."""
    shown.evaluate("document.querySelector('h1').style.color = '#999'")
    assert len(shown.evaluate(CONTRAST)) == 1


def test_the_first_stop_of_the_keyboard_leads_to_the_content(shown):
    shown.press("Tab", 9)
    assert shown.evaluate("document.activeElement.getAttribute('href')") == "#main"
    assert shown.evaluate("document.activeElement.getBoundingClientRect().left") >= 0


def test_a_screen_reader_finds_landmarks_headings_captions_and_headers(shown):
    nodes = shown.ask("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in nodes if not node.get("ignored")]
    assert {"banner", "navigation", "main", "contentinfo", "region"} <= set(roles)
    assert "Requests on a time line" in [n.get("name", {}).get("value") for n in nodes]
    assert shown.evaluate("document.documentElement.lang") == "en"
    assert shown.evaluate("[...document.querySelectorAll('table')].every(t => t.caption && t.caption.innerText)")
    headers = "[...document.querySelectorAll('th')].every(h => h.scope === 'row' || h.scope === 'col')"
    assert shown.evaluate(headers)
    levels = shown.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(h => +h.tagName[1])")
    assert levels == [1] + [2] * len(SECTIONS)
    drawings = "[...document.querySelectorAll('svg')]"
    assert shown.evaluate(
        f"{drawings}.every(s => s.ariaHidden === 'true' || (s.querySelector('title') && "
        "s.querySelector('desc') && s.getAttribute('aria-labelledby')))"
    )
