"""The page in a real browser: nothing breaks, and everything that can be clicked works."""

import shutil
import time
from pathlib import Path

import pytest

from detnet.report.run import follow_page, make_page
from tests.report.browser import Browser, visible
from tests.report.runs import NAMES, log, write_data, write_run

pytestmark = pytest.mark.slow

ROWS = "[...document.querySelector('table[data-sortable]').tBodies[0].rows]"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    return make_page(write_run(folder / "run", write_data(folder / "data"), masks=True), count=8)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_amiss(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width=width, dark=dark)
    sizes = browser.run("[...document.images].map(image => image.naturalWidth)")
    assert len(sizes) > 8 and all(sizes)
    masks = "[...document.querySelectorAll('svg image')].map(i => i.getAttribute('href'))"
    decoded = browser.run(
        f"Promise.all({masks}.map(u => {{ const i = new Image(); i.src = u; return i.decode()"
        ".then(() => i.naturalWidth); }))"
    )
    assert decoded and all(decoded)
    assert browser.run("document.scrollingElement.scrollWidth") <= width
    assert browser.requests() == []
    assert browser.complaints() == []
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    darkness = sum(int(part) for part in ground[4:-1].split(",")) < 3 * 128
    assert darkness == dark


def test_heads_sort_the_table(browser: Browser, page: Path) -> None:
    browser.open(page)
    for column in range(5):
        head = f"document.querySelectorAll('table[data-sortable] thead th')[{column}]"
        orders = []
        for _ in range(2):
            browser.run(f"{head}.querySelector('button').click()")
            values = browser.run(f"{ROWS}.map(row => row.cells[{column}].dataset.value)")
            state = browser.run(f"{head}.getAttribute('aria-sort')")
            numbers = [float(value) for value in values] if column else values
            assert numbers == sorted(numbers, reverse=state == "descending")
            orders.append(state)
        assert sorted(orders) == ["ascending", "descending"]
        others = "document.querySelectorAll('table[data-sortable]')[0].tHead.rows[0].cells"
        sorts = browser.run(f"[...{others}].map(each => each.getAttribute('aria-sort'))")
        assert sorts.count("none") == len(sorts) - 1
    assert browser.complaints() == []


def test_the_keyboard_sorts_too(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run("document.querySelectorAll('table[data-sortable] thead button')[1].focus()")
    for kind in ("keyDown", "keyUp"):
        browser.send(
            "Input.dispatchKeyEvent",
            type=kind,
            key="Enter",
            code="Enter",
            windowsVirtualKeyCode=13,
            text="\r" if kind == "keyDown" else "",
        )
    heads = "document.querySelectorAll('table[data-sortable] thead th')"
    assert browser.run(f"{heads}[1].getAttribute('aria-sort')") == "descending"


def test_layers_are_shown_and_hidden(browser: Browser, page: Path) -> None:
    browser.open(page)
    layers = {"truths": ".truths rect", "found": ".found rect", "masks": ".mark image"}
    for layer, selector in {**layers, "labels": ".found text"}.items():
        before = visible(browser, f"#gallery {selector}")
        box = f"document.querySelector('input[data-layer={layer}]')"
        browser.run(f"{box}.click()")
        assert before > 0 == visible(browser, f"#gallery {selector}"), layer
        browser.run(f"{box}.click()")
        assert visible(browser, f"#gallery {selector}") == before


def test_skeletons_are_seen_and_can_be_hidden(browser: Browser, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", keypoints=True)
    browser.open(make_page(write_run(tmp_path / "run", data, keypoints=True), count=4))
    sides = "[...document.querySelectorAll('.truths .skeleton path')].map("
    sides += "path => path.getBoundingClientRect()).map(place => place.width)"
    assert max(browser.run(sides)) > 20
    assert visible(browser, ".skeleton .dots") > 5
    browser.run("document.querySelector('[data-layer=keypoints]').click()")
    assert visible(browser, ".skeleton .dots") == 0 and visible(browser, ".mark rect") > 5


def test_the_slider_hides_weak_detections(browser: Browser, page: Path) -> None:
    browser.open(page)

    def slide(value: float) -> tuple[int, int, list[str]]:
        browser.run(
            f"(s => {{ s.value = {value}; s.dispatchEvent(new Event('input')); }})"
            "(document.getElementById('threshold'))"
        )
        counts = browser.run("[...document.querySelectorAll('.counts')].map(e => e.textContent)")
        found, missed = (
            visible(browser, s) for s in ("#gallery .found rect", "#gallery .missed rect")
        )
        return found, missed, counts

    written = browser.run("[...document.querySelectorAll('.counts')].map(e => e.textContent)")
    some, all_of_them, none = slide(0.5), slide(0.05), slide(0.95)
    assert some[2] == written, "the script counts as the page was written"
    assert all_of_them[0] > some[0] > none[0]
    assert all_of_them[1] <= some[1] < none[1]


def test_kinds_and_sizes_of_pictures(browser: Browser, page: Path) -> None:
    browser.open(page)
    everything = visible(browser, "#gallery figure")
    buttons = browser.run("[...document.querySelectorAll('#kinds button')].map(b => b.innerText)")
    assert everything == 8 and len(buttons) > 3
    for index, text in enumerate(buttons):
        browser.run(f"document.querySelectorAll('#kinds button')[{index}].click()")
        assert visible(browser, "#gallery figure") == int("".join(filter(str.isdigit, text)))
    browser.run("document.querySelector('#kinds button').click()")
    width = "document.querySelector('.stage').getBoundingClientRect().width"
    small = browser.run(width)
    browser.run("document.querySelector('.enlarge').click()")
    assert browser.run(width) > 2 * small


def test_classes_have_their_curves(browser: Browser, page: Path) -> None:
    browser.open(page)
    line = "document.querySelector('.curves polyline').getAttribute('points')"
    mean = browser.run(line)
    names = browser.run("[...document.querySelector('.class-choice').options].map(o => o.text)")
    assert set(NAMES) < set(names)
    drawn = set()
    for index in range(len(names)):
        browser.run(
            f"(s => {{ s.selectedIndex = {index}; s.dispatchEvent(new Event('change')); }})"
            "(document.querySelector('.class-choice'))"
        )
        drawn.add(browser.run(line))
    assert mean in drawn and len(drawn) > 1


def test_boxes_and_masks_take_turns(browser: Browser, page: Path) -> None:
    browser.open(page)
    for kind in ("Masks", "Boxes"):
        browser.run(f"document.querySelector('#views [data-value={kind}]').click()")
        labels = "[...document.querySelectorAll('section')].filter(s => s.checkVisibility())"
        assert browser.run(f"{labels}.map(s => s.getAttribute('aria-label'))") == [kind]


def test_the_theme_can_be_chosen(browser: Browser, page: Path) -> None:
    browser.open(page)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = browser.run(ground)
    grounds = []
    for _ in range(3):
        browser.run("document.getElementById('theme').click()")
        grounds.append(browser.run(ground))
    assert grounds[0] == light == grounds[2] != grounds[1]


def test_an_open_page_follows_its_run(browser: Browser, page: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(page.parent, run)
    path = run / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:9]))
    pages = follow_page(run, every=0.5, count=4)
    browser.open(next(pages))
    browser.run("document.querySelector('#kinds [data-value=worst]').click()")
    browser.run("document.querySelector('input[data-layer=found]').click()")
    browser.run("window.scrollTo(0, 300)")
    iterations = "document.querySelector('header p').textContent"
    assert "9 iterations" in browser.run(iterations)
    log(run, [{"event": "step", "iteration": 10, "loss": 0.5}])
    next(pages)
    wait_until(browser, f"{iterations}.includes('10 iterations')")
    assert browser.run("window.scrollY") == pytest.approx(300, abs=2)
    chosen = "document.querySelector('#kinds [aria-pressed=true]').dataset.value"
    assert browser.run(chosen) == "worst"
    assert visible(browser, "#gallery .found rect") == 0 < visible(browser, "#gallery figure")
    log(run, [{"event": "end", "iteration": 10, "seconds": 1.0}])
    assert len(list(pages)) == 1
    wait_until(browser, "document.getElementById('live') === null")
    assert browser.complaints() == []


def wait_until(browser: Browser, condition: str) -> None:
    end = time.monotonic() + 30
    while not browser.run(f"document.readyState === 'complete' && {condition}"):
        assert time.monotonic() < end, "the page did not renew itself"
        time.sleep(0.1)
