"""The page of a search in a real browser: nothing breaks, and what can be clicked works."""

from pathlib import Path

import pytest

from detnet.report.search.page import write_search_page
from tests.report.browser import Browser, visible
from tests.report.search.test_page import detnet_search, full_search

pytestmark = pytest.mark.slow

ROWS = "table.candidates tbody tr"
DIALOG = "document.getElementById('shown')"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("search") / "search.html"
    return write_search_page(path, full_search())


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_amiss(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width=width, dark=dark)
    assert browser.run("document.scrollingElement.scrollWidth") <= width
    assert visible(browser, ".chart.dots svg") == 3, "progress, its tally, the front"
    assert visible(browser, "#best-network .gene") == 6
    assert browser.requests() == [] and browser.complaints() == []


def test_a_path_draws_its_network(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run("document.querySelector('#c3 button.path').click()")
    assert browser.run(f"{DIALOG}.open")
    kinds = f"[...{DIALOG}.querySelectorAll('.place .gene')].map(e => e.className)"
    plain, other = ["gene k1"] * 3 + ["gene k0"] * 2, ["gene k1 differs"]
    assert browser.run(kinds) == plain + other
    assert "generation 1, slot 0" in browser.run(f"{DIALOG}.innerText")
    browser.run(f"{DIALOG}.querySelector('.close').click()")
    assert not browser.run(f"{DIALOG}.open")
    browser.run("document.querySelector('#c2 button.path').click()")
    assert "failed" in browser.run(f"{DIALOG}.innerText")
    assert browser.run(f"{DIALOG}.querySelector('.error').innerText") == "NaN"
    assert browser.complaints() == []


def test_a_point_tells_what_it_is(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run("document.querySelector('.front-chart').scrollIntoView()")
    place = (
        "(svg => { const [x, y] = svg.points.find(p => p[2].dataset.c === '1');"
        "const box = svg.getBoundingClientRect(); const view = svg.viewBox.baseVal;"
        "return [box.left + x / view.width * box.width, box.top + y / view.height * box.height]; })"
        "(document.querySelector('.front-chart svg'))"
    )
    x, y = browser.run(place)
    browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=x + 3, y=y + 2)
    told = browser.run("document.getElementById('tip').textContent")
    assert told.split("\n") == [
        "111 000",
        "generation 0, slot 1",
        "AP 24.00",
        "multiply-adds 290.0 M",
    ]
    for kind in ("mousePressed", "mouseReleased"):
        browser.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    assert browser.run(f"{DIALOG}.open && document.getElementById('tip').hidden")
    assert browser.complaints() == []


def test_states_published_networks_and_heads(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert visible(browser, ROWS) == 6
    browser.run("document.querySelector('#states [data-value=failed]').click()")
    assert visible(browser, ROWS) == 1
    browser.run("document.querySelector('#states [data-value=all]').click()")
    browser.run(
        "(s => { s.value = 1; s.dispatchEvent(new Event('change')); })"
        "(document.querySelector('#known select'))"
    )
    assert browser.run("document.querySelectorAll('.known')[1].checkVisibility()")
    assert visible(browser, ".known") == 1
    heads = browser.run("document.querySelectorAll('table.candidates thead th').length")
    for column in range(heads):
        button = f"document.querySelectorAll('table.candidates thead button')[{column}]"
        for _ in range(2):
            browser.run(f"{button}.click()")
            cells = f"[...document.querySelectorAll('{ROWS}')].map(r => r.cells[{column}])"
            values = browser.run(f"{cells}.map(cell => cell.dataset.value)")
            known = [float(value) for value in values if value]
            assert values[len(known) :] == [""] * (len(values) - len(known))
            assert known in (sorted(known), sorted(known, reverse=True))
    assert browser.complaints() == []


def test_a_table_of_genes_fits_a_telephone(browser: Browser, tmp_path: Path) -> None:
    page = write_search_page(tmp_path / "search.html", detnet_search())
    browser.open(page, width=390)
    browser.run("document.querySelector('#c0 button.path').click()")
    cells = f"[...{DIALOG}.querySelectorAll('.place .gene b')].map(e => e.textContent)"
    assert browser.run(cells) == ["2", "yes", "4"]
    assert browser.run("document.scrollingElement.scrollWidth") <= 390
    assert browser.complaints() == []
