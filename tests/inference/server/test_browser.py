"""The page in a browser: an image is sent, boxes and masks are seen, and the slider moves them."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.inference.server.bright import BrightEngine, colours
from tests.inference.server.conftest import TOKEN, Served, file_of
from tests.report.browser import Browser, visible
from tests.report.conftest import browser  # noqa: F401

pytestmark = pytest.mark.slow


def choose(page: Browser, file: Path) -> None:
    """Puts a file into the page's field, as a person does."""
    root = page.send("DOM.getDocument")["root"]["nodeId"]
    node = page.send("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    page.send("DOM.setFileInputFiles", nodeId=node, files=[str(file)])


def until(page: Browser, script: str) -> None:
    for _ in range(200):
        if page.run(script):
            return
        time.sleep(0.05)
    raise AssertionError(f"never: {script}")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_an_image_is_sent_and_its_objects_are_seen(
    browser: Browser,  # noqa: F811
    serve: Callable[..., Served],
    tmp_path: Path,
    width: int,
    dark: bool,
) -> None:
    served = serve()
    picture = tmp_path / "picture.png"
    picture.write_bytes(file_of(colours(900, 600)))
    address = f"http://127.0.0.1:{served.port}"
    browser.open(f"{address}/", width=width, height=800, dark=dark)
    until(browser, "document.getElementById('bounds').textContent.includes('20 MB')")
    assert visible(browser, "#drop") == 1 and visible(browser, "#result") == 0
    choose(browser, picture)
    until(browser, "document.querySelectorAll('#list li').length === 2")
    assert visible(browser, "#result") == 1 and visible(browser, "#drop") == 0
    assert browser.run("document.getElementById('count').textContent") == "2"
    box = browser.run(
        "(() => { const b = document.querySelector('#boxes rect:not(.under)');"
        "return ['x', 'y', 'width', 'height'].map((n) => Number(b.getAttribute(n))) })()"
    )
    assert box == [10, 8, 40, 16]
    painted = (
        "[...document.getElementById('masks').getContext('2d').getImageData({}, {}, 1, 1).data]"
    )
    assert browser.run(painted.format(30, 16))[3] == 255
    assert browser.run(painted.format(300, 300))[3] == 0
    browser.run(
        "(() => { const s = document.getElementById('score'); s.value = 0.8;"
        "s.dispatchEvent(new Event('input')) })()"
    )
    assert browser.run("document.querySelectorAll('#list li').length") == 1
    browser.run("document.querySelector('#categories button').click()")
    assert browser.run("document.querySelectorAll('#list li').length") == 0
    assert browser.run("document.documentElement.scrollWidth") <= width
    browser.screenshot(tmp_path / "page.png")
    # The reading of pixels above is this test's, not the page's.
    assert [each for each in browser.complaints() if "getImageData" not in each] == []
    own = (f"{address}/", f"blob:{address}/")
    assert [url for url in browser.requests() if not url.startswith(own)] == []


def test_a_token_is_asked_for_and_errors_are_said(
    browser: Browser,  # noqa: F811
    serve: Callable[..., Served],
    tmp_path: Path,
) -> None:
    served = serve(token=TOKEN, engine=BrightEngine(masks=False))
    browser.open(f"http://127.0.0.1:{served.port}/")
    until(browser, "!document.getElementById('token').hidden")
    browser.run(
        f"(() => {{ document.getElementById('secret').value = '{TOKEN}';"
        "document.getElementById('token').requestSubmit() })()"
    )
    until(browser, "document.getElementById('model').textContent === 'bright'")
    text = tmp_path / "text.png"
    text.write_bytes(b"text")
    choose(browser, text)
    until(browser, "document.getElementById('status').textContent.startsWith('No image')")
    assert visible(browser, "#drop") == 1


def test_what_goes_wrong_around_the_page_is_said(
    browser: Browser,  # noqa: F811
    serve: Callable[..., Served],
    picture: bytes,
    tmp_path: Path,
) -> None:
    served = serve()
    said = "document.getElementById('status').textContent"
    browser.open(f"http://127.0.0.1:{served.port}/")
    until(browser, "document.getElementById('model').textContent === 'bright'")
    browser.run("URL.createObjectURL = () => 'data:,no image'")
    file = tmp_path / "picture.png"
    file.write_bytes(picture)
    choose(browser, file)
    until(browser, f"{said} === 'This browser cannot show the image; what is in it is listed.'")
    assert visible(browser, "#result") == 1 and visible(browser, "#frame") == 0
    assert browser.run("document.querySelectorAll('#list li').length") == 2
    browser.run("document.getElementById('model').textContent = 'before'")
    browser.run("window.fetch = async () => new Response('{}', { status: 502 }); readModel()")
    until(browser, f"{said} === 'The server answered 502.'")
    assert browser.run("document.getElementById('model').textContent") == "before"


@pytest.mark.parametrize("width", [1280, 390])
def test_the_docs_tell_every_address(
    browser: Browser,  # noqa: F811
    serve: Callable[..., Served],
    width: int,
) -> None:
    served = serve()
    browser.open(f"http://127.0.0.1:{served.port}/docs", width=width)
    until(browser, "document.querySelectorAll('.card').length > 10")
    text = browser.run("document.body.innerText")
    for path in ("/predict", "/model", "/health", "/ready", "/metrics", "score_threshold"):
        assert path in text
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.complaints() == []
