"""What an evaluation's numbers are called, which files hold them, and where a run keeps them."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detnet.data.folders import find_split
from detnet.data.reading import load_scored
from detnet.data.scenes import write_scenes
from detnet.evaluation.coco import Scores
from detnet.evaluation.files import (
    DetectorScores,
    write_scores,
)
from detnet.evaluation.metrics import names_of
from detnet.evaluation.results import Results, join_results
from detnet.evaluation.submission import write_submissions
from detnet.evaluation.voc import VocClass, VocScores


def numbers(kind: str, first: float) -> Scores:
    """Distinct scores, beside which an object of scores has other entries."""
    headline: dict[str, float | None] = {
        name: first + 0.01 * at for at, name in enumerate(names_of(kind))
    }
    return Scores("none", kind, headline, {}, {"cat": {"AP": 0.9}}, "", "")


def test_headline_tells_masks_and_keypoints_from_boxes() -> None:
    bbox, segm = numbers("bbox", 0.1), numbers("segm", 0.3)
    keypoints = numbers("keypoints", 0.6)
    plain = DetectorScores(bbox, join_results([]))
    assert plain.headline == bbox.headline
    assert plain.to_json() == bbox.to_json()
    masks = DetectorScores(bbox, join_results([]), segm)
    assert len(masks.headline) == 24
    assert (masks.headline["AP75"], masks.headline["segm_AP75"]) == pytest.approx((0.12, 0.32))
    assert masks.to_json() == bbox.to_json() | {"segm": segm.to_json()}
    points = DetectorScores(bbox, join_results([]), keypoints=keypoints)
    assert len(points.headline) == 22
    assert points.headline["keypoints_ARl"] == keypoints.headline["ARl"] == pytest.approx(0.69)
    assert points.to_json() == bbox.to_json() | {"keypoints": keypoints.to_json()}


def test_files_hold_what_was_measured(tmp_path: Path) -> None:
    records = [{"image_id": 7, "category_id": 3, "bbox": [1.0, 2.0, 3.5, 4.0], "score": 0.25}]
    results = Results(*map(np.array, ([7], [3], [0.25], [[1.0, 2.0, 3.5, 4.0]])))
    scores = DetectorScores(numbers("bbox", 0.1), results, numbers("segm", 0.3))
    folder = tmp_path / "a" / "evaluation"
    write_scores(scores, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["results.json", "scores.json"]
    assert json.loads((folder / "results.json").read_text()) == records
    assert json.loads((folder / "scores.json").read_text()) == scores.to_json()
    voc = VocScores("voc12", 0.5, 0.25, {"a": VocClass(None, 0, 2)}, "f00", "as it is")
    write_scores(replace(scores, voc=voc), folder)
    assert json.loads((folder / "scores_voc12.json").read_text()) == voc.to_json()
    assert json.loads((folder / "scores.json").read_text()) == scores.to_json()


@pytest.fixture(scope="module")
def corners(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corners")
    write_scenes(folder, train=1, val=2, size=(160, 120), keypoints=True)
    return folder


def test_submissions_hold_one_kind_each(corners: Path, tmp_path: Path) -> None:
    _, _, truths = load_scored(find_split(corners, "val"), masks=True, keypoints=True)
    raw = json.loads((corners / "annotations" / "instances_val.json").read_text())
    records = raw["annotations"]
    counts = [len(record.get("keypoints", ())) // 3 for record in records]
    points = np.zeros((len(records), max(counts), 3))
    for own, record, number in zip(points, records, counts, strict=True):
        own[:number] = np.reshape(record.get("keypoints", ()), (-1, 3))
    assert truths.segm is not None and truths.segm.masks is not None
    results = Results(
        images=np.array([record["image_id"] for record in records]),
        categories=np.array([record["category_id"] for record in records]),
        scores=np.full(len(records), 0.5),
        boxes=np.array([record["bbox"] for record in records]),
        masks=[{**mask, "counts": mask["counts"].decode()} for mask in truths.segm.masks],
        keypoints=points,
        keypoint_counts=np.array(counts),
    )
    pointed = sum(number > 0 for number in counts)
    assert 0 < pointed < len(results)  # disks have none
    bbox, segm, keypoints = (numbers(kind, 0.1) for kind in ("bbox", "segm", "keypoints"))
    place = tmp_path / "ours.zip"

    assert write_submissions(DetectorScores(bbox, results), truths, place) == [place]
    boxes = read_zip(place, "detections_test-dev2017_ours_results.json")
    assert len(boxes) == len(results) and all("bbox" in record for record in boxes)
    ids = {record["id"] for record in raw["images"]}
    assert {record["image_id"] for record in boxes} <= ids

    scores = DetectorScores(bbox, results, keypoints=keypoints)
    paths = write_submissions(scores, truths, place)
    assert [path.name for path in paths] == ["ours.zip", "ours-keypoints.zip"]
    points = read_zip(paths[1], "person_keypoints_test-dev2017_ours-keypoints_results.json")
    assert len(points) == pointed
    assert all("keypoints" in record and "bbox" not in record for record in points)

    paths = write_submissions(DetectorScores(bbox, results, segm), truths, place)
    assert [path.name for path in paths] == ["ours.zip", "ours-segm.zip"]
    masks = read_zip(paths[1], "detections_test-dev2017_ours-segm_results.json")
    assert len(masks) == len(results)
    assert all("segmentation" in record and "bbox" not in record for record in masks)


def read_zip(path: Path, name: str) -> list[dict[str, Any]]:
    with zipfile.ZipFile(path) as file:
        assert file.namelist() == [name]
        return json.loads(file.read(name))
