"""Two engines beside each other: what is told, drawn, and refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detnet.data.folders import find_split
from detnet.data.scenes import write_scenes
from detnet.errors import InputError
from detnet.inference.engines.predictor import open_engine
from detnet.inference.export.checking import CheckData, check_export, drawn_images, tell_drawn
from tests.inference.engines.tiny import CATEGORIES, tiny_export

HOW = {"precision": "fp32", "threshold": 0.05, "limit": 3}


def test_equal_engines_pass(tmp_path: Path) -> None:
    first = open_engine(tiny_export(tmp_path / "a", masks=True))
    other = open_engine(tiny_export(tmp_path / "b", "openvino", masks=True))
    report = check_export(other, first, picture=tmp_path / "worst.png", **HOW)
    assert report.failures == () and report.ap == () and report.pictures == "drawn"
    total = report.differences
    assert total.images == len(drawn_images()) and total.empty == 1  # black is no object here
    assert total.objects >= 40 and total.unmatched == 0 and total.mask == 1
    assert total.score < 1e-5 and total.box < 1e-5
    assert report.torch_s > 0 and report.export_s > 0
    report.write(tmp_path)
    written = json.loads((tmp_path / "check.json").read_text())
    assert written["differences"]["objects"] == total.objects
    assert written["bounds"]["score"] == report.bounds.score
    with Image.open(tmp_path / "worst.png") as picture:
        assert picture.height == 504 and picture.width > 400


def test_a_picture_s_title_counts_what_it_shows() -> None:
    assert tell_drawn(4, 1, 0.3) == "4 found, 1 drawn (from 0.30)"
    assert tell_drawn(4, 1, 0.2987) == "4 found, 1 drawn (from 0.29)"  # never above what is drawn
    assert (tell_drawn(2, 2, 0.3), tell_drawn(1, 1, 0.1)) == ("2 objects", "1 object")
    assert tell_drawn(0, 0, 0.0) == "no objects"


class Shifted:
    """An engine whose boxes lie a quarter of their width aside."""

    def __init__(self, engine: object) -> None:
        self.engine = engine

    def __getattr__(self, name: str) -> object:
        return getattr(self.engine, name)

    def detect(self, images: object, *, score_threshold: float) -> object:
        found = self.engine.detect(images, score_threshold=score_threshold)
        for each in found:
            each.boxes[:, [0, 2]] += (each.boxes[:, 2:3] - each.boxes[:, :1]) / 4
        return found


def test_an_engine_that_differs_is_found_and_drawn(tmp_path: Path) -> None:
    first = open_engine(tiny_export(tmp_path / "a"))
    report = check_export(Shifted(first), first, picture=tmp_path / "worst.png", **HOW)
    assert report.differences.unmatched == report.differences.objects > 0
    assert "or differ too much, and 1% may" in report.failures[0]
    left, right = np.split(np.asarray(Image.open(tmp_path / "worst.png")), 2, axis=1)
    assert not np.array_equal(left[24:], right[24:])


class Mixed(Shifted):
    """An engine in which each image of a batch gets the objects of the next one."""

    def detect(self, images: object, *, score_threshold: float) -> object:
        found = self.engine.detect(images, score_threshold=score_threshold)
        return [*found[1:], *found[:1]]


def test_images_of_a_batch_are_not_beside_their_copies_alone(tmp_path: Path) -> None:
    first = open_engine(tiny_export(tmp_path / "a"))
    several = open_engine(tiny_export(tmp_path / "b", batch=2))
    how = HOW | {"picture": tmp_path / "worst.png"}
    assert check_export(several, first, **how).failures == ()
    assert check_export(Mixed(several), first, **how).failures
    report = check_export(Mixed(first), first, **how)
    assert report.failures == () and report.export_s < 1


def test_nothing_found_is_no_check(tmp_path: Path) -> None:
    first = open_engine(tiny_export(tmp_path / "a"))
    with pytest.raises(InputError, match="nothing to check the export by"):
        check_export(first, first, picture=tmp_path / "p", **{**HOW, "threshold": 0.95})


def test_average_precision_is_measured_where_there_is_data(tmp_path: Path) -> None:
    from detnet.training.detection.evaluate import load_for

    write_scenes(tmp_path / "data", train=0, val=12, size=(120, 90))
    categories = [{"id": i, "name": n} for i, n in enumerate(("disk", "square", "triangle"), 1)]
    split = find_split(tmp_path / "data", "val")
    _, annotations, truths = load_for(split, categories, masks=False, categories_of="m")
    first = open_engine(tiny_export(tmp_path / "a"))
    data = CheckData(annotations, truths)
    same = check_export(first, first, picture=tmp_path / "p.png", data=data, **HOW)
    assert same.pictures == "data" and same.differences.images == 13
    (one,) = same.ap
    assert one.iou_type == "bbox" and one.difference == 0 and one.torch == one.export
    assert one.low == one.high == 0
    assert CATEGORIES[0]["id"] == 7  # results carry ids of the data, not of the tiny network
