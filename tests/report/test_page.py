"""The page of a run: complete, self-contained, and honest about what is missing."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from detnet.errors import InputError
from detnet.report.pictures import TINTS, GalleryPicture, Mark, MaskPicture, embed, embed_mask
from detnet.report.run import PageContent, write_page

IOUS = ("mean", "50", "60", "70", "80", "85")


def scores(iou_type: str = "bbox", ap: float = 0.4321) -> dict:
    by_size = {
        size: {metric: dict.fromkeys(IOUS, ap) for metric in ("AP", "AR")}
        for size in ("all", "small", "medium", "large")
    }
    by_size["small"]["AP"]["85"] = None
    return {
        "engine": "hotcoco 1.3.0",
        "iou_type": iou_type,
        **dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "AR100"), ap),
        "APl": None,
        "by_iou_and_size": by_size,
        "per_class": {
            "<b>cat": {"AP": 0.5, "AP50": 0.9, "AR100": 0.6, "annotations": 1234},
            "dog": {"AP": None, "AP50": None, "AR100": None, "annotations": 0},
        },
    }


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    run = tmp_path / "blood <cells>"
    (run / "evaluation").mkdir(parents=True)
    config = {"detector": "faster_rcnn_fpn", "backbone": "detnet59", "width": 0.25}
    config["steps"] = [60, 80]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (run / "environment.json").write_text(json.dumps({"torch": "2.15", "cpu": {"cores": 2}}))
    events = [
        {"event": "step", "iteration": n, "loss": 3 / n, "loss_classifier": 1 / n, "lr": 0.01}
        for n in range(1, 101)
    ]
    events[50]["loss"] = None
    events += [
        {"event": "evaluation", "iteration": n, "AP": n / 300, "AP50": n / 150} for n in (50, 100)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (run / "evaluation" / "scores.json").write_text(json.dumps(scores()))
    return run


class Checker(HTMLParser):
    """Collects tags, text and addresses, and complains of tags that are closed out of turn."""

    VOID = ("meta", "link", "img", "br", "input")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data


def picture(name: str, score: float = 0.9) -> GalleryPicture:
    uri, size = embed(Image.new("RGB", (300, 200), "teal"))
    truth = Mark("truth", 0.1, 0.2, 0.3, 0.4, "<b>cat", score)
    missed = Mark("truth", 0.5, 0.2, 0.3, 0.4, "dog", -1.0)
    mask = MaskPicture(embed_mask(np.eye(20, 30) > 0, TINTS["right"]), 0.12, 0.2, 0.25, 0.4)
    found = [
        Mark("right", 0.1, 0.2, 0.3, 0.4, "<b>cat", score, mask),
        Mark("false", 0.7, 0.0, 0.1, 0.2, "dog", 0.6),
    ]
    return GalleryPicture(name, uri, size, ("worst", "missed"), [truth, missed], found)


def test_a_whole_run_is_on_one_page(run_folder: Path) -> None:
    content = PageContent(pictures=[picture("a <caption>.jpg"), picture("猫 'n' \"dog\".png", 0.4)])
    path = write_page(run_folder, content=content)
    assert path == run_folder / "report.html"
    page = Checker(path.read_text(encoding="utf-8"))
    assert page.tags.count("img") == 2
    for text in (
        "blood <cells>",
        "faster_rcnn_fpn · detnet59 · width 0.25 · 100 iterations",
        "43.2",
        "Average recall",
        ".85",
        "<b>cat",
        "1,234",
        "a <caption>.jpg",
        "猫 'n' \"dog\".png",
        "1 found, 1 missed, 1 false",
        "0 found, 2 missed, 1 false",
        "60, 80",
        "cpu.cores",
        "hotcoco 1.3.0",
    ):
        assert text in page.text, text
    assert "Masks by" not in page.text


def test_the_page_needs_no_network(run_folder: Path) -> None:
    path = write_page(run_folder, content=PageContent(pictures=[picture("one.jpg")]))
    content = path.read_text(encoding="utf-8")
    for word in ("http://", "https://", "@import", "url(", "<script src"):
        assert word not in content
    addresses = Checker(content).addresses
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)


def test_light_dark_and_telephones_are_served(run_folder: Path) -> None:
    page = write_page(run_folder).read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport" content="width=device-width' in page


@pytest.mark.parametrize("apart", [False, True])
def test_masks_have_their_own_tables(run_folder: Path, apart: bool) -> None:
    folder = run_folder / "evaluation"
    if apart:
        (folder / "scores_segm.json").write_text(json.dumps(scores("segm", 0.1234)))
    else:
        both = {"segm": scores("segm", 0.1234), "bbox": scores()}
        (folder / "scores.json").write_text(json.dumps(both))
    text = Checker(write_page(run_folder).read_text(encoding="utf-8")).text
    assert text.index("43.2") < text.index("12.3")
    assert "Masks by overlap and size" in text and "Boxes by overlap and size" in text


def test_keypoints_come_last(run_folder: Path) -> None:
    content = {**scores(), "keypoints": scores("keypoints", 0.2345), "segm": scores("segm", 0.1234)}
    (run_folder / "evaluation" / "scores.json").write_text(json.dumps(content))
    text = Checker(write_page(run_folder).read_text(encoding="utf-8")).text
    assert text.index("43.2") < text.index("12.3") < text.index("23.4")
    assert text.index("Masks by class") < text.index("Keypoints by class")


def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"event": "step", "iteration": 1, "loss": 2.5}\n{"ev')
    page = Checker(write_page(tmp_path).read_text(encoding="utf-8"))
    assert page.tags.count("polyline") == 4 and "table" not in page.tags  # in plot and legend


def test_an_empty_folder_has_a_page(tmp_path: Path) -> None:
    assert tmp_path.name in Checker(write_page(tmp_path).read_text(encoding="utf-8")).text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", "a: [1"),
        ("environment.json", '{"a": '),
        ("evaluation/scores.json", "{"),
        ("metrics.jsonl", '{"ev\n{"event": "step"}\n'),
    ],
)
def test_damaged_files_are_named(run_folder: Path, name: str, content: str) -> None:
    (run_folder / name).write_text(content)
    with pytest.raises(InputError, match=Path(name).name) as caught:
        write_page(run_folder)
    assert "\n" not in str(caught.value)
    assert not (run_folder / "report.html").exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone: no such run folder"):
        write_page(tmp_path / "gone")
