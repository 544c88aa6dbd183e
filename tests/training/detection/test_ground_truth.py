"""Evaluations are scored against the file as it is, as `score` and pycocotools do it."""

import contextlib
import copy
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from pycocotools.mask import frPyObjects, merge

from detnet.coco.ground_truth import fingerprint, make_ground_truths, trained_on
from detnet.coco.table import AnnotationTable
from detnet.data.folders import Split, find_split
from detnet.data.reading import load_scored
from detnet.data.scenes import write_scenes
from detnet.detectors import create
from detnet.detectors.files import save_model
from detnet.engine.distributed import Process
from detnet.evaluation.coco import score
from detnet.evaluation.metrics import names_of
from detnet.report.run import _load
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.evaluate import evaluate_file
from detnet.training.detection.train import train

ALONE = Process(0, 1, torch.device("cpu"))
AS_IT_IS = "the file as it is"


@pytest.fixture
def odd(scenes: Path, tmp_path: Path) -> Path:
    """The scenes with what a file may have and training does not take as it is."""
    shutil.copytree(scenes, tmp_path / "odd")
    path = tmp_path / "odd" / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    over, own, outside, crowd = content["annotations"][:4]
    over["bbox"][2] = 160 - over["bbox"][0] + 40  # beyond an image of 160 x 120
    over["area"] = over["bbox"][2] * over["bbox"][3]
    own["area"] = 1023.5  # small, whatever the box says
    outside["bbox"] = [170.0, 10.0, 30.0, 30.0]
    crowd["iscrowd"], crowd["id"] = 1, 900100002006
    path.write_text(json.dumps(content))
    return tmp_path / "odd"


def truth_of(data: Path) -> Path:
    return data / "annotations" / "instances_val.json"


def change(data: Path, **fields: Any) -> Split:
    """Changes fields of the last annotation; None takes one away."""
    content = json.loads(truth_of(data).read_text())
    last = content["annotations"][-1] | fields
    content["annotations"][-1] = {k: v for k, v in last.items() if v is not None}
    truth_of(data).write_text(json.dumps(content))
    return find_split(data, "val")


def results_on(data: Path) -> list[dict[str, Any]]:
    """Boxes near the objects as they are seen: those over a border end there."""
    draws, results = np.random.default_rng(5), []
    for record in json.loads(truth_of(data).read_text())["annotations"]:
        x, y, width, height = record["bbox"]
        right, bottom = min(x + width, 160), min(y + height, 120)
        near = np.array([min(x, 150), y, max(right - x, 5), bottom - y]) + draws.normal(0, 2, 4)
        x, y, width, height = box = near.clip(1).round(2).tolist()
        right, bottom = x + width, y + height
        mask = merge(frPyObjects([[x, y, right, y, right, bottom, x, bottom]], 120, 160))
        results.append(
            {
                "image_id": record["image_id"],
                "category_id": record["category_id"],
                "bbox": box,
                "segmentation": {**mask, "counts": mask["counts"].decode()},
                "score": round(float(draws.uniform()), 4),
            }
        )
    return results


def pycocotools(truth: Path, results: list[dict[str, Any]], iou_type: str) -> list[float | None]:
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO(str(truth))
        evaluator = COCOeval(ground, ground.loadRes(copy.deepcopy(results)), iou_type)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [None if value == -1 else value for value in evaluator.stats.tolist()]


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_numbers_are_those_of_score_and_of_pycocotools(odd: Path, iou_type: str) -> None:
    annotations, repairs, truths = load_scored(find_split(odd, "val"), masks=True)
    assert any("clipped" in text for text in repairs)  # what is trained on differs
    results = results_on(odd)
    if iou_type == "segm":
        results = [{k: v for k, v in record.items() if k != "bbox"} for record in results]
    found = score(truths.of(iou_type), results, iou_type=iou_type)
    assert found == score(truth_of(odd), results, iou_type=iou_type)
    assert found["ground_truth_taken"] == AS_IT_IS
    assert 0.05 < found["AP"] < 1
    original = pycocotools(truth_of(odd), results, iou_type)
    assert [found[name] for name in names_of("bbox")] == pytest.approx(original, abs=1e-12)
    repaired = score(trained_on(annotations).of(iou_type), results, iou_type=iou_type)
    assert repaired["ground_truth"] != found["ground_truth"] and repaired["AP"] != found["AP"]


def test_evaluate_takes_the_file_as_it_is(odd: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {"pre_nms_test": 100, "post_nms_test": 20, "score_threshold": 0.0}
    model = create(
        "faster_rcnn_fpn", num_classes=4, width=0.125, min_size=96, max_size=128, **options
    )
    model.info.categories = json.loads(truth_of(odd).read_text())["categories"]
    save_model(tmp_path / "m.safetensors", model)
    scores = evaluate_file(
        tmp_path / "m.safetensors",
        find_split(odd, "val"),
        process=ALONE,
        autocast=None,
        workers=0,
        output=tmp_path / "out",
        metric="voc07",
    )
    written = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert written.pop("data")["annotations"] == str(truth_of(odd).resolve())
    assert written == score(truth_of(odd), tmp_path / "out" / "results.json")
    assert written["ground_truth_taken"] == AS_IT_IS and scores.results
    assert scores.voc is not None and scores.voc.ground_truth == written["ground_truth"]


def test_a_training_and_its_page_take_it_too(odd: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    config = replace(tiny, data=str(odd), iterations=1, ema=0.0, val_loss=False)
    assert train(config, tmp_path / "run", on_event=events.append)
    written = json.loads((tmp_path / "run" / "evaluation" / "scores.json").read_text())
    results = tmp_path / "run" / "evaluation" / "results.json"
    assert written.pop("data")["split"] == "val"
    assert written == score(truth_of(odd), results)
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert f"val: ground truth of its scores: {AS_IT_IS}" in notes
    truths = _load(results.parent)[1]
    assert fingerprint(truths.bbox) == written["ground_truth"]


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"bbox": [5.0, 5.0, 0.0, 9.0]}, "left out 1 without width or height"),
        ({"area": None}, "computed the area of 1"),
        ({"segmentation": [[1, 2]]}, "took the box as mask of 1"),
    ],
)
def test_only_what_cannot_be_scored_is_repaired(
    odd: Path, fields: dict[str, Any], what: str
) -> None:
    split = change(odd, **fields)
    _, _, truths = load_scored(split, masks=True)
    count = len(json.loads(truth_of(odd).read_text())["annotations"])
    taken = truths.of("segm" if "mask" in what else "bbox").taken
    assert taken == f"repaired in 1 of {count} annotations: {what}"
    assert truths.bbox.boxes[:, [0, 2]].sum(axis=1).max() == 200  # over the border, as it is
    assert len(truths.bbox.areas) == count - ("bbox" in fields)


def test_what_still_cannot_be_scored_is_taken_as_it_is_trained_on(odd: Path) -> None:
    _, _, truths = load_scored(change(odd, bbox=[5, 5, 2e9, 20]), masks=True)
    assert truths.bbox.taken.startswith("as it is trained on, repaired: clipped 2 boxes")
    assert truths.bbox.boxes[:, [0, 2]].sum(axis=1).max() <= 160


def test_a_file_without_annotations_takes_the_keypoints_of_the_model(tmp_path: Path) -> None:
    write_scenes(tmp_path, train=1, val=1, size=(160, 120), keypoints=True)
    split = find_split(tmp_path, "val")
    annotations, _, _ = load_scored(split, keypoints=True)
    raw = json.loads(truth_of(tmp_path).read_text())
    bare = [{"id": one["id"], "name": one["name"]} for one in raw["categories"]]
    truth_of(tmp_path).write_text(json.dumps({"images": raw["images"], "categories": bare}))
    _, _, truths = load_scored(
        split, keypoints=True, layout=annotations.keypoint_layout, unlabelled=True
    )
    assert truths.keypoints is not None and truths.keypoints.taken == AS_IT_IS
    assert truths.keypoints.keypoint_counts is not None
    assert truths.keypoints.keypoint_counts.tolist() == [0, 4, 3]
    table = AnnotationTable(raw, "x.json")
    assert make_ground_truths(table, annotations, []).keypoints is not None
