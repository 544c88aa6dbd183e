"""`detnet evaluate` as a person runs it, with a detector that has learned nothing."""

import argparse
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detnet.backbones import BACKBONES
from detnet.backbones.base import Classifier
from detnet.backbones.files import ClassifierInfo, save_classifier
from detnet.cli import main
from detnet.cli.evaluate import _how
from detnet.data.folders import find_split
from detnet.data.scenes import write_scenes
from detnet.detectors import create
from detnet.detectors.files import save_model
from detnet.engine.distributed import Process
from detnet.training.detection import evaluate


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures and a detector with masks, model.safetensors."""
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, train=1, val=3, size=(160, 120))
    truth = json.loads((folder / "annotations" / "instances_val.json").read_text())
    torch.manual_seed(0)
    sizes = {"min_size": 96, "max_size": 128, "pre_nms_test": 100, "post_nms_test": 20}
    model = create("mask_rcnn_fpn", num_classes=4, width=0.125, score_threshold=0.0, **sizes)
    model.info.categories = [{"id": c["id"], "name": c["name"]} for c in truth["categories"]]
    save_model(folder / "model.safetensors", model)
    return folder


def records(path: Path) -> list[dict[str, object]]:
    with zipfile.ZipFile(path) as file:
        return json.loads(file.read(file.namelist()[0]))


def test_own_grid_and_submission(
    scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = f"evaluate {scenes / 'model.safetensors'} --data {scenes} --workers 0 --max-dets 300"
    words += f" --output {tmp_path} --area tiny=0-99 --class-agnostic-recall --precision fp32"
    assert main([*words.split(), "--submission", str(tmp_path / "mine.zip"), "--json"]) == 0
    scores = json.loads(capfd.readouterr().out)
    assert scores == json.loads((tmp_path / "scores.json").read_text())
    for part in (scores, scores["segm"]):
        assert "AR300" in part and "tiny" in part["class_agnostic_recall"]
        assert "AP@300" in part["by_iou_and_size"]["all"]
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results) == len(records(tmp_path / "mine.zip")) > 0
    assert list(records(tmp_path / "mine.zip")[0])[2] == "bbox"
    assert list(records(tmp_path / "mine-segm.zip")[0])[2] == "segmentation"


def test_images_without_annotations_are_predicted(
    scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    truth = json.loads((scenes / "annotations" / "instances_val.json").read_text())
    path = tmp_path / "image_info_test-dev2017.json"
    del truth["annotations"]
    path.write_text(json.dumps(truth))
    words = f"evaluate {scenes / 'model.safetensors'} --annotations {path} --workers 0"
    words += f" --images {find_split(scenes, 'val').images} --output {tmp_path} --precision fp32"
    assert main([*words.split(), "--submission", str(tmp_path / "mine.zip")]) == 0
    output = capfd.readouterr().out
    assert output.startswith(f"model.safetensors on {path}, 3 images\n\nCOCO scores of boxes")
    assert output.count("no annotations: nothing can be scored") == 2 and "\n-" not in output
    assert json.loads((tmp_path / "scores.json").read_text())["AP"] is None
    assert {r["image_id"] for r in records(tmp_path / "mine.zip")} <= {1, 2, 3}
    assert len(records(tmp_path / "mine.zip")) > 0


def test_mistakes_are_found_before_the_work(
    scenes: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = f"evaluate {scenes / 'model.safetensors'} --data {scenes}".split()
    for wrong in (
        ["--area", "small=0-9"],
        ["--submission", "mine.json"],
        ["--max-dets", "0"],
        ["--workers", "-1"],
        ["--output", str(scenes / "model.safetensors")],
    ):
        assert main([*words, *wrong]) == 2
        output, errors = capfd.readouterr()
        assert not output and errors.count("\n") == 1


def test_the_place_of_scores_is_tried_before_the_work(
    scenes: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "evaluate_model", None)  # the work
    model = scenes / "model.safetensors"
    words = f"evaluate {model} --data {scenes} --output {model}/below --workers 0"
    assert main(words.split()) == 2
    assert f"{model}/below: Not a directory" in capfd.readouterr().err


def test_keypoints_are_scored_by_the_sigmas_asked_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_scenes(tmp_path, train=1, val=1, size=(160, 120), keypoints=True)
    truth = json.loads((tmp_path / "annotations" / "instances_val.json").read_text())
    sizes = {"min_size": 64, "max_size": 96, "pre_nms_test": 50, "post_nms_test": 10}
    model = create("keypoint_rcnn_fpn", num_classes=4, width=0.125, num_keypoints=5, **sizes)
    model.info.categories = truth["categories"]
    save_model(tmp_path / "k.safetensors", model)
    words = f"evaluate {tmp_path / 'k.safetensors'} --data {tmp_path} --workers 0 --precision fp32"
    assert main([*words.split(), "--sigmas", "0.25", "--json"]) == 0
    scores = json.loads(capfd.readouterr().out)
    assert set(scores["keypoints"]["sigmas"]) == {0.25}


def test_the_reading_processes_are_as_many_as_asked_for() -> None:
    process = Process(0, 1, torch.device("cpu"))
    for workers in (0, 3):
        args = argparse.Namespace(workers=workers, precision="fp32", output=None)
        assert _how(args, process)["workers"] == workers


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures in class folders and a classifier that calls all of them cats, c.safetensors."""
    folder = tmp_path_factory.mktemp("pictures")
    for label, (name, count) in enumerate({"cat": 4, "dog": 2}.items()):
        (folder / "val" / name).mkdir(parents=True)
        for number in range(count):
            random = np.random.default_rng((label, number))
            pixels = random.integers(0, 256, (40, 52, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "val" / name / f"{number}.png")
    options = {"width": 0.125}
    model = Classifier(BACKBONES["resnet50"](**options), 2)
    torch.nn.init.zeros_(model.fc.weight)
    model.fc.bias.data.copy_(torch.tensor([1.0, 0.0]))
    info = ClassifierInfo("resnet50", ("cat", "dog"), options, 32, 37)
    save_classifier(folder / "c.safetensors", info, model.state_dict())
    return folder


def test_a_classifiers_errors(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = f"evaluate {pictures / 'c.safetensors'} --data {pictures} --workers 0 --precision fp32"
    assert main([*words.split(), "--output", str(tmp_path), "--json"]) == 0
    scores = json.loads(capfd.readouterr().out)
    assert (scores["images"], scores["top1_error"]) == (6, pytest.approx(2 / 6))
    assert scores["per_class"]["dog"]["top1_error"] == 1
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written == {**scores, "data": str(pictures / "val")}
    assert main(words.split()) == 0
    output = capfd.readouterr().out
    assert "top-1 error 33.33 %" in output and "6 images of 2 classes" in output


def test_what_a_classifier_has_no_use_for_is_refused(
    pictures: Path, scenes: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, data = str(pictures / "c.safetensors"), ["--data", str(pictures)]
    wrong = {
        "--annotations": ["--annotations", "a.json"],
        "--images": [*data, "--images", "x"],
        "--iou-thresholds": [*data, "--iou-thresholds", "0.55"],
        "--area": [*data, "--area", "tiny=0-99"],
        "--max-dets": [*data, "--max-dets", "300"],
        "--class-agnostic-recall": [*data, "--class-agnostic-recall"],
        "--submission": [*data, "--submission", "mine.zip"],
        "--evaluator": [*data, "--evaluator", "pycocotools"],
    }
    for option, words in wrong.items():
        assert main(["evaluate", model, *words]) == 2
        output, errors = capfd.readouterr()
        assert not output and errors.count("\n") == 1
        assert f"holds a classifier, for which {option} has no meaning" in errors
    for elsewhere in (scenes, pictures / "nowhere"):
        assert main(["evaluate", model, "--data", str(elsewhere), "--split", "tests"]) == 2
        assert "has no folder 'tests'" in capfd.readouterr().err


def test_views_are_scored_in_a_folder_of_their_own(
    scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.safetensors").write_bytes((scenes / "model.safetensors").read_bytes())
    words = f"evaluate {run} --data {scenes} --workers 0 --precision fp32"
    for options in ("", " --soft-nms linear", " --tta-scales 96 64 --tta-flip"):
        assert main((words + options).split()) == 0
    found = [path.parent for path in run.rglob("results.json")]
    (plain,) = [path for path in found if "soft" not in path.name and "flip" not in path.name]
    assert {path.name for path in found} == {plain.name, "soft-linear", "scales-96-64+flip"}
    texts = {(path / "results.json").read_text() for path in found}
    assert len(texts) == 3
    assert main([*words.split(), "--soft-nms", "linear", "--tta-flip"]) == 2
    assert "finds masks: give either soft-NMS or several views" in capfd.readouterr().err
