"""Checks of the real data sets, where they are present."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from detnet.data.check import check, check_splits
from detnet.data.folders import Split
from tests.data.small_sets import annotations

DATA = Path(os.environ.get("DETNET_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
needs_data = pytest.mark.skipif(
    not (DATA / "odd").is_dir(), reason="real data not found; set DETNET_DATA"
)


@needs_data
@pytest.mark.parametrize(
    ("name", "expected"),
    [("bccd", {}), ("pennfudan", {}), ("coco-masks", {"area-wrong": 43, "box-subpixel": 1})],
)
def test_real_sets_are_sound(name: str, expected: dict[str, int]) -> None:
    report = check(DATA / name)
    warned = Counter(p.code for p in report.problems if p.severity != "info")
    assert warned == expected  # coco-masks was resized with its crowds' areas only scaled
    assert report.count("error") == 0


@needs_data
def test_real_faults_are_found() -> None:
    images = DATA / "odd" / "images"

    def codes(file: str, *, images_too: bool = False) -> Counter[tuple[str, str]]:
        split = Split("odd", DATA / "odd" / file, images)
        report = check_splits([split], images=images_too)
        return Counter((p.severity, p.code) for p in report.problems)

    assert codes("instances_truncated.json", images_too=True)["error", "image-truncated"] == 1
    assert codes("bccd_zero_size_boxes.json")["warning", "box-degenerate"] == 1
    balloon = codes("balloon_wrong_areas_zero_ids.json")
    assert balloon["warning", "area-wrong"] == 255
    assert balloon["warning", "id-zero"] == 1
    assert balloon["info", "id-zero"] == 2


@needs_data
def test_real_invalid_orientations_are_found(tmp_path: Path) -> None:
    raw = annotations(["00076.jpg", "00103.jpg"])
    raw["images"][0].update(width=480, height=277)
    raw["images"][1].update(width=480, height=321)
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(raw))
    report = check_splits([Split("odd", path, DATA / "odd" / "images")])
    assert [(p.code, p.record) for p in report.problems if p.severity == "warning"] == [
        ("exif-invalid", "image 1 (00076.jpg)"),
        ("exif-invalid", "image 2 (00103.jpg)"),
    ]
