"""The page of a comparison in a real browser: nothing breaks, and what can be clicked works."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from detnet.recipes.comparison.compare import compare_sources
from detnet.recipes.comparison.pictures import write_output
from tests.report.browser import Browser, find_browser
from tests.report.runs import write_data, write_run
from tests.report.test_browser import visible

pytestmark = pytest.mark.slow

FIGURES = "#gallery figure"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium (apt-get install chromium)")
    with Browser(program, tmp_path_factory.mktemp("profile")) as found:
        yield found


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
def test_nothing_is_amiss(chromium: Browser, page: Path, width: int, dark: bool) -> None:
    chromium.open(page, width=width, dark=dark)
    sizes = chromium.run("[...document.images].map(image => image.naturalWidth)")
    assert len(sizes) > 3 and all(sizes)
    assert chromium.run("document.scrollingElement.scrollWidth") <= width
    over = "t.scrollWidth - t.parentElement.clientWidth"
    charts = chromium.run(f"[...document.querySelectorAll('.forest')].map(t => {over})")
    assert len(charts) == 5 and max(charts) <= 0
    assert chromium.requests() == [] and chromium.complaints() == []


def test_pictures_are_chosen(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    everything = visible(chromium, FIGURES)
    buttons = chromium.run(
        "[...document.querySelectorAll('#kinds button')].map(b => b.dataset.value)"
    )
    assert buttons == ["all", "A-B", "B-A"]
    for kind in buttons[1:]:
        chromium.run(f"document.querySelector('#kinds [data-value=\"{kind}\"]').click()")
        some = visible(chromium, FIGURES)
        count = f"document.querySelector('#kinds [data-value=\"{kind}\"] small').textContent"
        assert 0 < some <= everything and str(some) == chromium.run(count)
    assert chromium.complaints() == []


def test_layers_and_scores(chromium: Browser, page: Path) -> None:
    chromium.open(page)

    def toggle(layer: str) -> None:
        chromium.run(f"document.querySelector('#shown [data-layer=\"{layer}\"]').click()")

    assert visible(chromium, ".shared .mark") == 0
    toggle("shared")
    assert visible(chromium, ".shared .mark") > 0
    for layer, marks in (
        ("truths", ".truths .mark"),
        ("found-0", ".found-0 .mark"),
        ("found-1", ".found-1 .mark"),
        ("labels", ".mark text"),
        ("masks", ".mark image"),
    ):
        assert visible(chromium, f"#gallery {marks}") > 0, layer
        toggle(layer)
        assert visible(chromium, f"#gallery {marks}") == 0, layer
        toggle(layer)
    before = visible(chromium, "#gallery .found .mark")
    slide = "s => { s.value = 0.9; s.dispatchEvent(new Event('input')); }"
    chromium.run(f"({slide})(document.getElementById('threshold'))")
    assert visible(chromium, "#gallery .found .mark") < before
    assert chromium.complaints() == []


def test_classes_are_sorted(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    row = "[...document.querySelector('table[data-sortable]').tBodies[0].rows]"
    for column in range(7):
        chromium.run(
            f"document.querySelectorAll('table[data-sortable] thead button')[{column}].click()"
        )
        values = chromium.run(f"{row}.map(r => r.cells[{column}].dataset.value)")
        if column:
            numbers = [float(value) for value in values]
            assert numbers == sorted(numbers) or numbers == sorted(numbers, reverse=True)
    assert len(values) == 3 and chromium.complaints() == []
