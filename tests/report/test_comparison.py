"""The page of a comparison: complete, escaped, and honest about what is missing."""

from pathlib import Path

from PIL import Image

from detnet.report.comparison import ComparisonPicture, render, write_page
from detnet.report.comparison_view import found_by_one
from detnet.report.pictures import Mark, embed
from tests.report.test_comparison_text import comparison
from tests.report.test_page import Checker


def picture(name: str = "a <b>.jpg") -> ComparisonPicture:
    uri, size = embed(Image.new("RGB", (120, 80), "teal"))
    there = [Mark("truth", 0.1 * n, 0.2, 0.2, 0.3, "<i>cat", -1.0) for n in range(3)]
    own = [Mark("right", 0.1 * n, 0.2, 0.2, 0.3, "<i>cat", 0.7 + n / 10) for n in range(2)]
    false = Mark("false", 0.7, 0.7, 0.1, 0.1, "dog", 0.2)
    return ComparisonPicture(
        name=name,
        uri=uri,
        size=size,
        kinds={"A-B": 1},
        sought=there[:1],
        shared=there[1:2],
        truths=there[2:],
        found=[own[:1], [false]],
        found_shared=[own[1:], own[1:]],
    )


def test_everything_is_on_the_page(tmp_path: Path) -> None:
    found = comparison(["<s>one", "other"])
    found["notes"] = ["other: <few> results"]
    path = write_page(tmp_path / "page.html", found, [picture(), picture("b.jpg")])
    page = Checker(path.read_text(encoding="utf-8"))
    assert page.tags.count("img") == 2
    for text in (
        "<s>one and other",
        "Boxes on 40 images of",
        "truth.json",
        "B − A: other less <s>one",
        "A finds, B misses2",
        "A finds none that B misses",
        "a <b>.jpg",
        "A finds 1 that B misses",
        "other: <few> results",
        "of the 24 differences by size and IoU can be told from noise",
        "200 paired bootstrap resamples",
        "a class of which the name says more than anyone can take in",
    ):
        assert text in page.text, text
    assert all(url.startswith(("data:", "#")) for url in page.addresses if url)


def test_without_pictures_and_with_three_detectors() -> None:
    found = comparison(["one", "two", "three"])
    cost = {"macs": 5e9, "body_macs": 3e9, "params": 9e6, "input_size": [240, 320]}
    found["cost"] = {
        "images": 4,
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
        "models": [{**cost, "images_per_s": 3.14}, None, None],
    }
    page = Checker(render(found, []))
    assert "one, two, three" in page.text and "C − A: three less one" in page.text
    assert "Found by one" not in page.text and "img" not in page.tags
    assert "240×320" in page.text and "Measured here on 4 images" in page.text


def test_kinds() -> None:
    found = found_by_one(comparison(["one", "two", "three"]))
    assert [one.kind for one in found] == ["A-B", "B-A", "A-C", "C-A"]
    two = ComparisonPicture("", "", (1, 1), {"A-C": 2, "C-A": 1}, [], [], [], [], [])
    assert two.note == "A finds 2 that C misses; C finds 1 that A misses"
