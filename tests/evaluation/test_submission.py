"""The zip for COCO's server: one file, named as it wants, that scores as the results do."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pycocotools.mask
import pytest

from detnet.errors import InputError
from detnet.evaluation import submission
from detnet.evaluation.coco import evaluate, score
from detnet.evaluation.submission import check_submission, write_submission

RUNS = {"size": [40, 60], "counts": [100, 50, 2250]}


@pytest.fixture
def truth() -> dict[str, Any]:
    return {
        "images": [{"id": id_, "height": 40, "width": 60} for id_ in (581918000001, 7)],
        "categories": [{"id": 90, "name": "b"}, {"id": 5, "name": "a"}],
    }


@pytest.fixture
def results() -> list[dict[str, Any]]:
    found = {"category_id": 90, "bbox": [1, 2.25, 3, 4], "segmentation": RUNS, "score": 0.5}
    return [
        {"image_id": 581918000001, **found},
        {"image_id": 7, **found, "score": 0.25},
        {"image_id": 7, **found, "score": 1, "category_id": 5},
    ]


def read(path: Path) -> tuple[str, list[dict[str, Any]]]:
    with zipfile.ZipFile(path) as file:
        (name,) = file.namelist()
        return name, json.loads(file.read(name))


@pytest.mark.parametrize("at_once", [2, 10_000])
def test_boxes(
    truth: dict[str, Any],
    results: list[dict[str, Any]],
    at_once: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(submission, "_AT_ONCE", at_once)
    evaluation = evaluate(truth, results)
    path = tmp_path / "my_net 2.zip"
    told = write_submission(path, evaluation.truth, evaluation.detections)
    name, records = read(path)
    assert name == told == "detections_test-dev2017_my-net-2_results.json"
    assert records == [
        {"image_id": 7, "category_id": 5, "bbox": [1, 2.25, 3, 4], "score": 1},
        {"image_id": 7, "category_id": 90, "bbox": [1, 2.25, 3, 4], "score": 0.25},
        {"image_id": 581918000001, "category_id": 90, "bbox": [1, 2.25, 3, 4], "score": 0.5},
    ]
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_masks_come_without_boxes_and_score_the_same(
    truth: dict[str, Any], results: list[dict[str, Any]], tmp_path: Path
) -> None:
    for result in results:
        del result["bbox"]
    counts = pycocotools.mask.frPyObjects(RUNS, 40, 60)["counts"]
    results[1]["segmentation"] = {"size": [40, 60], "counts": counts.decode()}
    found = {k: v for k, v in results[0].items() if k != "score"} | {"bbox": [2, 0, 2, 40]}
    truth["annotations"] = [{"id": 0, **found}]
    evaluation = evaluate(truth, results, iou_type="segm")
    path = tmp_path / "detections_val2017_x_y_results.zip"
    write_submission(path, evaluation.truth, evaluation.detections)
    name, records = read(path)
    assert name == "detections_val2017_x_y_results.json"
    assert list(records[0]) == ["image_id", "category_id", "segmentation", "score"]
    assert {record["segmentation"]["counts"] for record in records} == {counts.decode()}
    assert score(truth, records, iou_type="segm") == evaluation.scores().to_json()


def test_a_folder_that_is_not_there_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("new/a.zip", "new/er/a.zip", "file/a.zip"):
        folder = (tmp_path / name).parent
        with pytest.raises(InputError, match=f"a.zip: there is no folder {folder} to") as error:
            check_submission(tmp_path / name)
        assert "\n" not in str(error.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    check_submission("a.zip")  # in the folder one is in


def test_other_names_are_refused(truth: dict[str, Any], tmp_path: Path) -> None:
    evaluation = evaluate(truth, [])
    (tmp_path / "d.zip").mkdir()
    for name, message in (("a.json", "name it .*a.json.zip"), ("d.zip", "is a folder")):
        with pytest.raises(InputError, match=message):
            write_submission(tmp_path / name, evaluation.truth, evaluation.detections)
    long = tmp_path / ("x" * 251 + ".zip")  # as long as a name may be, longer with .part
    with pytest.raises(OSError) as error:
        write_submission(long, evaluation.truth, evaluation.detections)
    assert error.value.filename == str(long)
    write_submission(tmp_path / "none.zip", evaluation.truth, evaluation.detections)
    assert read(tmp_path / "none.zip")[1] == []
