"""The page of a search in a real browser: nothing breaks, and what can be clicked works."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from detnet.report.search.page import write_search_page
from detnet.report.search.summary import summarise
from tests.report.browser import Browser, find_browser
from tests.report.search.test_page import detnet_search, full_search
from tests.report.test_browser import visible

pytestmark = pytest.mark.slow

ROWS = "table.candidates tbody tr"
DIALOG = "document.getElementById('shown')"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium (apt-get install chromium)")
    with Browser(program, tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    record = full_search()
    path = tmp_path_factory.mktemp("search") / "search.html"
    return write_search_page(path, record, summarise(record))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_amiss(chromium: Browser, page: Path, width: int, dark: bool) -> None:
    chromium.open(page, width=width, dark=dark)
    assert chromium.run("document.scrollingElement.scrollWidth") <= width
    assert visible(chromium, ".chart.dots svg") == 3, "progress, its tally, the front"
    assert visible(chromium, "#best-network .gene") == 6
    assert chromium.requests() == [] and chromium.complaints() == []


def test_a_path_draws_its_network(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    chromium.run("document.querySelector('#c3 button.path').click()")
    assert chromium.run(f"{DIALOG}.open")
    kinds = f"[...{DIALOG}.querySelectorAll('.place .gene')].map(e => e.className)"
    plain, other = ["gene k1"] * 3 + ["gene k0"] * 2, ["gene k1 differs"]
    assert chromium.run(kinds) == plain + other
    assert "generation 1, slot 0" in chromium.run(f"{DIALOG}.innerText")
    chromium.run(f"{DIALOG}.querySelector('.close').click()")
    assert not chromium.run(f"{DIALOG}.open")
    chromium.run("document.querySelector('#c2 button.path').click()")
    assert "failed" in chromium.run(f"{DIALOG}.innerText")
    assert chromium.run(f"{DIALOG}.querySelector('.error').innerText") == "NaN"
    assert chromium.complaints() == []


def test_a_point_tells_what_it_is(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    chromium.run("document.querySelector('.front-chart').scrollIntoView()")
    place = (
        "(svg => { const [x, y] = svg.points.find(p => p[2].dataset.c === '1');"
        "const box = svg.getBoundingClientRect(); const view = svg.viewBox.baseVal;"
        "return [box.left + x / view.width * box.width, box.top + y / view.height * box.height]; })"
        "(document.querySelector('.front-chart svg'))"
    )
    x, y = chromium.run(place)
    chromium.send("Input.dispatchMouseEvent", type="mouseMoved", x=x + 3, y=y + 2)
    told = chromium.run("document.getElementById('tip').textContent")
    assert told.split("\n") == [
        "111 000",
        "generation 0, slot 1",
        "AP 24.00",
        "multiply-adds 290.0 M",
    ]
    for kind in ("mousePressed", "mouseReleased"):
        chromium.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    assert chromium.run(f"{DIALOG}.open && document.getElementById('tip').hidden")
    assert chromium.complaints() == []


def test_states_published_networks_and_heads(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    assert visible(chromium, ROWS) == 6
    chromium.run("document.querySelector('#states [data-value=failed]').click()")
    assert visible(chromium, ROWS) == 1
    chromium.run("document.querySelector('#states [data-value=all]').click()")
    chromium.run(
        "(s => { s.value = 1; s.dispatchEvent(new Event('change')); })"
        "(document.querySelector('#known select'))"
    )
    assert chromium.run("document.querySelectorAll('.known')[1].checkVisibility()")
    assert visible(chromium, ".known") == 1
    heads = chromium.run("document.querySelectorAll('table.candidates thead th').length")
    for column in range(heads):
        button = f"document.querySelectorAll('table.candidates thead button')[{column}]"
        for _ in range(2):
            chromium.run(f"{button}.click()")
            cells = f"[...document.querySelectorAll('{ROWS}')].map(r => r.cells[{column}])"
            values = chromium.run(f"{cells}.map(cell => cell.dataset.value)")
            known = [float(value) for value in values if value]
            assert values[len(known) :] == [""] * (len(values) - len(known))
            assert known in (sorted(known), sorted(known, reverse=True))
    assert chromium.complaints() == []


def test_a_table_of_genes_fits_a_telephone(chromium: Browser, tmp_path: Path) -> None:
    record = detnet_search()
    page = write_search_page(tmp_path / "search.html", record, summarise(record))
    chromium.open(page, width=390)
    chromium.run("document.querySelector('#c0 button.path').click()")
    cells = f"[...{DIALOG}.querySelectorAll('.place .gene b')].map(e => e.textContent)"
    assert chromium.run(cells) == ["2", "yes", "4"]
    assert chromium.run("document.scrollingElement.scrollWidth") <= 390
    assert chromium.complaints() == []
