"""The page of a comparison in a real browser: nothing breaks, and what can be clicked works."""

import json
from pathlib import Path

import pytest

from detnet.evaluation.comparison.sources import compare_sources
from detnet.report.comparison import write_output
from tests.report.browser import Browser, visible
from tests.report.runs import write_data, write_run

pytestmark = pytest.mark.slow

FIGURES = "#gallery figure"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    data = write_data(folder / "data")
    runs = [write_run(folder / name, data, masks=True) for name in ("first", "other")]
    for run, place in zip(runs, (0, 1), strict=True):
        path = run / "evaluation" / "results.json"
        records = json.loads(path.read_text())
        path.write_text(json.dumps([r for n, r in enumerate(records) if n % 6 != place]))
    compared = compare_sources(runs, resamples=200, iou_type="segm")
    return write_output(compared, folder / "page", count=6)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_amiss(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width=width, dark=dark)
    sizes = browser.run("[...document.images].map(image => image.naturalWidth)")
    assert len(sizes) > 3 and all(sizes)
    assert browser.run("document.scrollingElement.scrollWidth") <= width
    over = "t.scrollWidth - t.parentElement.clientWidth"
    charts = browser.run(f"[...document.querySelectorAll('.forest')].map(t => {over})")
    assert len(charts) == 5 and max(charts) <= 0
    assert browser.requests() == [] and browser.complaints() == []


def test_pictures_are_chosen(browser: Browser, page: Path) -> None:
    browser.open(page)
    everything = visible(browser, FIGURES)
    buttons = browser.run(
        "[...document.querySelectorAll('#kinds button')].map(b => b.dataset.value)"
    )
    assert buttons == ["all", "A-B", "B-A"]
    for kind in buttons[1:]:
        browser.run(f"document.querySelector('#kinds [data-value=\"{kind}\"]').click()")
        some = visible(browser, FIGURES)
        count = f"document.querySelector('#kinds [data-value=\"{kind}\"] small').textContent"
        assert 0 < some <= everything and str(some) == browser.run(count)
    assert browser.complaints() == []


def test_layers_and_scores(browser: Browser, page: Path) -> None:
    browser.open(page)

    def toggle(layer: str) -> None:
        browser.run(f"document.querySelector('#shown [data-layer=\"{layer}\"]').click()")

    assert visible(browser, ".shared .mark") == 0
    toggle("shared")
    assert visible(browser, ".shared .mark") > 0
    for layer, marks in (
        ("truths", ".truths .mark"),
        ("found-0", ".found-0 .mark"),
        ("found-1", ".found-1 .mark"),
        ("labels", ".mark text"),
        ("masks", ".mark image"),
    ):
        assert visible(browser, f"#gallery {marks}") > 0, layer
        toggle(layer)
        assert visible(browser, f"#gallery {marks}") == 0, layer
        toggle(layer)
    before = visible(browser, "#gallery .found .mark")
    slide = "s => { s.value = 0.9; s.dispatchEvent(new Event('input')); }"
    browser.run(f"({slide})(document.getElementById('threshold'))")
    assert visible(browser, "#gallery .found .mark") < before
    assert browser.complaints() == []


def test_classes_are_sorted(browser: Browser, page: Path) -> None:
    browser.open(page)
    row = "[...document.querySelector('table[data-sortable]').tBodies[0].rows]"
    for column in range(7):
        browser.run(
            f"document.querySelectorAll('table[data-sortable] thead button')[{column}].click()"
        )
        values = browser.run(f"{row}.map(r => r.cells[{column}].dataset.value)")
        if column:
            numbers = [float(value) for value in values]
            assert numbers == sorted(numbers) or numbers == sorted(numbers, reverse=True)
    assert len(values) == 3 and browser.complaints() == []
