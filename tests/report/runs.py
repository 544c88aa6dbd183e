"""A run folder without training: made-up scenes, and results with every kind of mistake in them."""

import json
from pathlib import Path
from typing import Any

from detnet.data.folders import find_split
from detnet.data.scenes import write_scenes
from detnet.evaluation.coco import Scores, evaluate
from detnet.evaluation.files import DetectorScores, write_scores
from detnet.training.detection.config import TrainConfig
from detnet.training.settings import write_config

# What breaks a page that is not careful.
NAMES = ("<script>alert(1)</script>", "猫 \"cat\" & 'dog'", "</style><b>x" + "_and_so_on" * 12)
LONG_NAME = "a_very_long_name_" * 12 + ".jpg"
ODD_NAME = '<i>"it\'s" & größe 猫.jpg'


def write_data(folder: Path, *, val: int = 8, keypoints: bool = False) -> Path:
    """Scenes in which classes and files have names that break pages."""
    write_scenes(folder, train=1, val=val, size=(220, 160), keypoints=keypoints)
    path = folder / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    for category, name in zip(content["categories"], NAMES, strict=True):
        category["name"] = name
    for image, name in zip(content["images"], (ODD_NAME, LONG_NAME), strict=False):
        (folder / "val" / image["file_name"]).rename(folder / "val" / name)
        image["file_name"] = name
    path.write_text(json.dumps(content))
    return folder


def make_results(truth: dict[str, Any]) -> list[dict[str, Any]]:
    """Detections: right, shifted, of the wrong class, doubled, weak, and where there is nothing."""
    results: list[dict[str, Any]] = []
    for index, record in enumerate(truth["annotations"]):
        fields = ("image_id", "category_id", "bbox", "segmentation", "keypoints")
        found = {key: record[key] for key in fields if key in record}
        found["score"] = 0.95 - index % 9 * 0.05
        if index % 7 == 0:
            continue  # missed
        if index % 7 == 1:
            found["category_id"] = found["category_id"] % len(NAMES) + 1
            found.pop("keypoints", None)  # another class has another number of them
            kind = truth["categories"][found["category_id"] - 1]
            if count := len(kind.get("keypoints", ())):
                found["keypoints"] = [50.0, 50.0, 1.0] * count
        if index % 7 == 2:
            results.append({**found, "score": 0.3})  # weak, and a double of the next
        if index % 7 == 3:
            x, y, width, height = found["bbox"]
            found["bbox"] = [x + width / 2, y, width, height]
            if "keypoints" in found:
                shifts = [width / 2, 0, 0] * (len(found["keypoints"]) // 3)
                found["keypoints"] = [
                    value + shift for value, shift in zip(found["keypoints"], shifts, strict=True)
                ]
        results.append(found)
    nothing = {**results[0], "bbox": [2.0, 2.0, 9.0, 9.0], "score": 0.9, "image_id": 1}
    return [*results, nothing]


def write_run(
    run: Path, data: Path, *, masks: bool = False, keypoints: bool = False, **changes: Any
) -> Path:
    """A run on the data that has been trained, as far as its folder tells, and evaluated."""
    kind = "mask_rcnn_fpn" if masks else "keypoint_rcnn_fpn" if keypoints else "faster_rcnn_fpn"
    (run / "evaluation").mkdir(parents=True)
    settings = {"data": str(data), "detector": kind, "epochs": 1.0}
    write_config(TrainConfig.make(None, {**settings, **changes}), run / "config.yaml")
    (run / "environment.json").write_text(json.dumps({"command": ["detnet", "train"]}))
    log(run, [{"event": "step", "iteration": n, "loss": 9 / n, "lr": 0.1} for n in range(1, 60)])
    found = {"AP": 0.5, "AP50": 0.7, "AP75": 0.4}
    found |= {"keypoints_AP": 0.25, "keypoints_AP50": 0.3} if keypoints else {}
    log(run, [{"event": "evaluation", "iteration": 59, **found}])
    log(run, [{"event": "end", "iteration": 59, "seconds": 1.5}])
    path = data / "annotations" / "instances_val.json"
    results = make_results(json.loads(path.read_text()))
    kept = {"segmentation": masks, "keypoints": keypoints}
    results = [{k: v for k, v in each.items() if kept.get(k, True)} for each in results]
    segm = keypoint_scores = None
    if masks:
        segm = scores_of(path, _without_boxes(results), "segm")
    if keypoints:
        own = [each for each in _without_boxes(results) if "keypoints" in each]
        keypoint_scores = scores_of(path, own, "keypoints")
    scores = DetectorScores(
        scores_of(path, results, "bbox"),
        results,
        segm,
        keypoint_scores,
        split=find_split(data, "val"),
    )
    write_scores(scores, run / "evaluation")
    return run


def scores_of(path: Path, results: list[dict[str, Any]], iou_type: str) -> Scores:
    return evaluate(path, results, iou_type=iou_type).scores()


def _without_boxes(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in each.items() if k != "bbox"} for each in results]


def log(run: Path, events: list[dict[str, Any]]) -> None:
    """Appends events to the run's metrics.jsonl."""
    with (run / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)
