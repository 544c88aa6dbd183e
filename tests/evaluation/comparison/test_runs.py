"""Comparisons of runs and results files: scores, pictures, and one-line errors."""

import json
from pathlib import Path
from typing import Any

import pytest

from detnet.errors import InputError
from detnet.evaluation.coco import score
from detnet.evaluation.comparison.runs import Compared, compare_sources
from detnet.evaluation.metrics import names_of
from tests.report.runs import write_data, write_run

FEW = {"resamples": 100}


def truth_of(place: Path) -> Path:
    return place / "data" / "annotations" / "instances_val.json"


def compared(*sources: Path, **options: Any) -> Compared:
    return compare_sources(sources, **FEW, **options)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_runs_have_the_scores_of_their_evaluation(place: Path, iou_type: str) -> None:
    found = compared(place / "a", place / "b", iou_type=iou_type).comparison
    written = json.loads((place / "a" / "evaluation" / "scores.json").read_text())
    own = written["segm"] if iou_type == "segm" else written
    assert found["scores"][0]["AP"] == pytest.approx(own["AP"], abs=1e-9)
    assert found["scores"][0]["APs"] == pytest.approx(own["APs"], abs=1e-9)
    assert found["names"] == ["a", "b"] and found["annotations"] == str(truth_of(place))
    assert found["sources"][1] == str(place / "b" / "evaluation" / "results.json")
    pictures = found["pictures"][0]
    assert len(pictures["only_first"]) > 3 and not pictures["only_other"]
    names = {
        one["id"]: one["file_name"] for one in json.loads(truth_of(place).read_text())["images"]
    }
    assert all(one["file_name"] == names[one["image_id"]] for one in pictures["only_first"])
    json.dumps(found, allow_nan=False)


def test_keypoints(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", keypoints=True)
    runs = [write_run(tmp_path / name, data, keypoints=True) for name in "ab"]
    results = runs[1] / "evaluation" / "results.json"
    results.write_text(json.dumps(json.loads(results.read_text())[::2]))
    found = compared(*runs, iou_type="keypoints").comparison
    written = json.loads((runs[0] / "evaluation" / "scores.json").read_text())["keypoints"]
    for key in names_of("keypoints"):
        assert found["scores"][0][key] == pytest.approx(written[key], abs=1e-9), key
    assert found["ground_truth"] == written["ground_truth"]
    assert found["scores"][0]["AP"] > found["scores"][1]["AP"]
    assert found["pictures"][0]["only_first"] and not found["pictures"][0]["only_other"]
    (runs[1] / "evaluation" / "scores.json").write_text("{}")  # no fingerprint: the file is read
    again = compared(*runs, iou_type="keypoints", sigmas=[0.2]).comparison
    assert again["scores"][0]["sigmas"] == [0.2] * 4
    with pytest.raises(InputError, match="sigmas are for iou_type keypoints"):
        compared(*runs, sigmas=[0.2])


def test_runs_without_keypoints_are_refused(place: Path) -> None:
    with pytest.raises(InputError) as refused:
        compared(place / "a", place / "b", iou_type="keypoints")
    assert "keypoints" in str(refused.value) and "\n" not in str(refused.value)


def test_results_files_need_a_ground_truth(place: Path, tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        records = json.loads((place / name / "evaluation" / "results.json").read_text())
        boxes = [{k: v for k, v in each.items() if k != "segmentation"} for each in records]
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(boxes))
    found = compared(*files, annotations=truth_of(place)).comparison
    for scores, file in zip(found["scores"], files, strict=True):
        assert scores["AP"] == pytest.approx(score(truth_of(place), file)["AP"], abs=1e-9)
    with pytest.raises(InputError, match=r"a\.json: .*--annotations GT\.json"):
        compared(*files)
    beside_a_run = compared(files[1], place / "a").comparison
    assert beside_a_run["names"] == ["b", "a"]
    assert beside_a_run["scores"][0]["AP"] == pytest.approx(found["scores"][1]["AP"], abs=1e-9)


def test_a_bad_file_is_named(place: Path, tmp_path: Path) -> None:
    records = json.loads((place / "a" / "evaluation" / "results.json").read_text())
    bad = tmp_path / "bad.json"
    for change, message in (
        ({"image_id": 99}, "image_id 99 is not among"),
        ({"category_id": 77}, "category_id 77 is not among"),
        ({"bbox": [1, 2, float("nan"), 4]}, "four finite numbers"),
        ({"bbox": [1, 2, -3, 4]}, "negative width"),
        ({"bbox": "1 2 3 4"}, "four finite numbers"),
    ):
        bad.write_text(json.dumps([records[0], {**records[1], **change}]))
        with pytest.raises(InputError, match=rf"bad\.json: results\[1\] .*{message}"):
            compared(place / "a", bad)
    bad.write_text(json.dumps([{**records[0], "segmentation": None}]))
    with pytest.raises(InputError, match=r"bad\.json: .* no masks .*--iou-type bbox"):
        compared(place / "a", bad, iou_type="segm")
