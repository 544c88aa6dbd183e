"""Keypoints end to end: a short training, its scores, results, pictures, and other data."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models.detection.roi_heads import keypointrcnn_inference

from detnet.cli import main
from detnet.data.folders import find_split
from detnet.data.images import read_image
from detnet.data.reading import load_annotations
from detnet.data.scenes import write_scenes
from detnet.detectors.files import load_model, read_info
from detnet.engine.distributed import Process
from detnet.errors import InputError
from detnet.evaluation.coco import score
from detnet.evaluation.metrics import names_of
from detnet.inference.models import load
from detnet.training.detection.config import TrainConfig, find_train, find_val
from detnet.training.detection.evaluate import evaluate_file
from detnet.training.detection.train import train
from tests.conftest import TINY

Events = list[dict[str, Any]]
KEYPOINTS = {"detector": "keypoint_rcnn_fpn", "best_metric": "keypoints_AP"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corners")
    write_scenes(folder, train=4, val=3, size=(160, 120), keypoints=True)
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Events]:
    options = {**TINY["detector_options"], "score_threshold": 0.0, "max_detections": 20}
    changes = {**TINY, **KEYPOINTS, "iterations": 2, "detector_options": options}
    folder, events = tmp_path_factory.mktemp("runs") / "run", Events()
    assert train(
        TrainConfig.make(None, {"data": str(data), **changes}), folder, on_event=events.append
    )
    return folder, events


def test_training_tells_keypoint_losses_and_scores(run: tuple[Path, Events]) -> None:
    folder, events = run
    steps = [event for event in events if event["event"] == "progress"]
    assert len(steps) == 2 and all(0 < step["loss_keypoint"] < 30 for step in steps)
    found = [event for event in events if event["event"] == "evaluation"][-1]
    assert {f"keypoints_{name}" for name in names_of("keypoints")} <= found.keys()
    assert 0 < found["val_loss_keypoint"] < 30
    scores = json.loads((folder / "evaluation" / "scores.json").read_text())
    assert scores["iou_type"] == "bbox" and scores["keypoints"]["iou_type"] == "keypoints"
    assert list(scores["keypoints"])[2:12] == names_of("keypoints")
    assert scores["keypoints"]["per_class"]["disk"]["AP"] is None


def test_the_model_knows_its_keypoints(run: tuple[Path, Events], data: Path) -> None:
    info = read_info(run[0] / "best.safetensors")
    written = json.loads((data / "annotations" / "instances_train.json").read_bytes())
    assert info.categories == written["categories"]
    assert info.options["num_keypoints"] == 5


def test_results_are_cocos(run: tuple[Path, Events], data: Path) -> None:
    folder, _ = run
    results = json.loads((folder / "evaluation" / "results.json").read_text())
    counts = {1: 0, 2: 4, 3: 3}
    assert {record["category_id"] for record in results} == set(counts)
    for record in results:
        points = record.get("keypoints", [])
        assert len(points) == 3 * counts[record["category_id"]]
        assert set(points[2::3]) <= {1}
    scores = json.loads((folder / "evaluation" / "scores.json").read_text())["keypoints"]
    for record in results:
        del record["bbox"]
    truth = data / "annotations" / "instances_val.json"
    assert score(truth, results, iou_type="keypoints") == scores


def test_a_file_is_evaluated_alike(
    run: tuple[Path, Events], data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, _ = run
    process = Process(0, 1, torch.device("cpu"))
    again = evaluate_file(
        folder,
        find_split(data, "val"),
        process=process,
        autocast=None,
        output=tmp_path / "again",
        workers=0,
        measures={"sigmas": (0.2,)},
        submission=tmp_path / "mine.zip",
    )
    assert again.keypoints is not None
    assert set(again.keypoints.to_json()["sigmas"]) == {0.2}
    assert (tmp_path / "mine-keypoints.zip").is_file()
    arguments = ["score", "--iou-type", "keypoints", "--sigmas", "0.2", "--annotations"]
    arguments += [str(data / "annotations" / "instances_val.json"), "--results"]
    assert main([*arguments, str(tmp_path / "again" / "results.json")]) == 0
    output, _ = capfd.readouterr()
    assert "scores of keypoints" in output and "by OKS threshold" in output and "APs" not in output


def test_prediction_holds_and_draws_the_skeleton(run: tuple[Path, Events], data: Path) -> None:
    image = data / "val" / "val_00000.jpg"
    found = load(run[0], score_threshold=0.0).predict(image)
    assert found.keypoints is not None and found.keypoints.shape == (len(found), 5, 3)
    assert found.keypoint_scores is not None and found.keypoint_scores.shape == (len(found), 5)
    records = found.to_coco(1)
    of_square = next(i for i, name in enumerate(found.names) if name == "square")
    layout = found.layout
    assert layout is not None
    own = found.keypoints[of_square, list(layout.of_label[1]), :2].numpy() - 0.5
    written = np.reshape(records[of_square]["keypoints"], (4, 3))[:, :2]
    np.testing.assert_allclose(written, own, rtol=0, atol=0.006)
    bare = replace(found, keypoints=None)
    assert np.any(np.asarray(found.draw(image)) != np.asarray(bare.draw(image)))


def test_another_number_of_keypoints_than_the_data_have_is_refused(
    data: Path, tmp_path: Path
) -> None:
    options = {**TINY["detector_options"], "num_keypoints": 17}
    changes = {**TINY, **KEYPOINTS, "detector_options": options}
    config = TrainConfig.make(None, {"data": str(data), **changes})
    with pytest.raises(InputError, match="num_keypoints is 17, the data have 5"):
        train(config, tmp_path / "run", on_event=lambda event: None)


def test_keypoints_asked_of_data_without(scenes: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    config = TrainConfig.make(None, {"data": str(scenes), **TINY, **KEYPOINTS})
    with pytest.raises(
        InputError, match=r"instances_train.json: has no keypoints.*'disk'"
    ) as error:
        train(config, tmp_path / "run", on_event=lambda event: None)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="keypoints_AP"):  # a measure that a box detector lacks
        train(
            replace(tiny, best_metric="keypoints_AP"), tmp_path / "b", on_event=lambda event: None
        )


def test_cocos_own_file_of_keypoints_is_found(data: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / f"{split}2017").symlink_to(data / split)
        (tmp_path / "annotations").mkdir(exist_ok=True)
        for kind in ("instances", "person_keypoints"):
            (tmp_path / "annotations" / f"{kind}_{split}2017.json").write_text("{}")
    boxes = TrainConfig.make(None, {"data": str(tmp_path), **TINY})
    points = TrainConfig.make(None, {"data": str(tmp_path), **TINY, **KEYPOINTS})
    assert find_train(boxes).annotations.name == "instances_train2017.json"
    assert find_train(points).annotations.name == "person_keypoints_train2017.json"
    assert find_train(points).images == tmp_path / "train2017"
    val = find_val(points)
    assert val is not None and val.annotations.name == "person_keypoints_val2017.json"


# What the preset needs twenty minutes for would be learnt better, but not be a test.
SHORTER = {
    "width": 0.125, "min_sizes": (160,), "max_size": 320, "batch_size": 4, "iterations": 900,
    "lr": 0.04, "evaluate_every": 1000.0,
    "detector_options": {
        "pre_nms_train": 1000, "post_nms_train": 100, "pre_nms_test": 1000, "post_nms_test": 100,
        "roi_batch": 32, "max_detections": 20, "box_loss_beta": 0.111,
    },
}  # fmt: skip


@pytest.mark.slow
def test_a_short_training_learns_keypoints(tmp_path: Path) -> None:
    """Measured with these settings: box AP50 0.38, keypoint AP50 0.05, and 0.54 below."""
    write_scenes(tmp_path / "data", train=240, val=40, keypoints=True)
    changes = {"data": str(tmp_path / "data"), "workers": 0, "device": "cpu", **SHORTER}
    events = Events()
    config = TrainConfig.make("small_keypoints", changes)
    assert train(config, tmp_path / "run", on_event=events.append)
    (found,) = (event for event in events if event["event"] == "evaluation")
    assert found["AP50"] > 0.2 and found["keypoints_AP50"] > 0.02
    assert _likeness(tmp_path / "run" / "model.safetensors", tmp_path / "data") > 0.4


@torch.no_grad()
def _likeness(path: Path, data: Path) -> float:
    """Mean OKS of the keypoints found in the objects' true boxes, whatever a box's score."""
    model: Any = load_model(path)
    notes, _ = load_annotations(find_split(data, "val"), keypoints=True)
    assert notes.keypoints is not None
    likeness: list[float] = []
    for image in range(len(notes)):
        rows, pixels = notes.rows(image), read_image(notes.image_path(image))
        inputs, _ = model.transform([pixels])
        (size,), own = inputs.image_sizes, (pixels.shape[1], pixels.shape[2])
        scale = torch.tensor([size[1] / own[1], size[0] / own[0]]).repeat(2)
        boxes = [torch.from_numpy(notes.boxes[rows]) * scale]
        features = model.backbone(inputs.tensors)
        logits = model.roi_heads._keypoint_logits(features, boxes, [size])
        (points,), _ = keypointrcnn_inference(logits, boxes)
        found = [{"boxes": boxes[0], "keypoints": points}]
        (found_here,) = model.transform.postprocess(found, [size], [own])
        places = found_here["keypoints"].numpy()[..., :2] - 0.5
        for true, at, area in zip(notes.keypoints[rows], places, notes.areas[rows], strict=True):
            if (seen := true[:, 2] > 0).any():
                squares = ((at - true[:, :2]) ** 2).sum(axis=1)[seen]
                likeness.append(float(np.exp(-squares / (2 * area * (2 * 0.05) ** 2)).mean()))
    return float(np.mean(likeness))
