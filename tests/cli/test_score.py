"""`detnet score` as a person runs it."""

import json
import zipfile
from pathlib import Path

import pytest

from detnet.cli import main


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    rle = {"size": [30, 50], "counts": [30, 60, 1410]}
    box = {"image_id": 1, "category_id": 1, "bbox": [1, 0, 2, 30], "segmentation": rle}
    truth = {
        "images": [{"id": 1, "height": 30, "width": 50}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": 0, **box}],
    }
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text(json.dumps([{**box, "score": 0.5}]))
    return [f"--annotations={tmp_path / 'gt.json'}", f"--results={tmp_path / 'dt.json'}"]


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_json_is_all_there_is(
    engine: str, iou_type: str, files: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--evaluator", engine, "--iou-type", iou_type, "--json"]
    assert main(["score", *files, *options]) == 0
    output, errors = capfd.readouterr()
    scores = json.loads(output)
    assert scores["AP"] == pytest.approx(1) and scores["iou_type"] == iou_type
    assert scores["engine"].startswith(engine) and scores["APl"] is None and not errors


def test_tables(files: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["score", *files]) == 0
    output, errors = capfd.readouterr()
    assert output.startswith("COCO scores of boxes") and "100.0" in output and not errors


def test_own_grid_and_submission(
    files: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "mine.zip"
    options = "--max-dets 300 --iou-thresholds 0.95 --area tiny=0-50 --class-agnostic-recall"
    options = [*options.split(), "--submission", str(target)]
    assert main(["score", *files, *options, "--json"]) == 0
    scores = json.loads(capfd.readouterr().out)
    assert scores["AR300"] == 1 and scores["by_iou_and_size"]["tiny"]["AP@300"]["95"] is None
    assert scores["class_agnostic_recall@300"]["all"]["mean"] == 1
    assert zipfile.is_zipfile(target)
    assert main(["score", *files, *options]) == 0
    last = capfd.readouterr().out.splitlines()[-1]
    assert last == f"wrote {target} (detections_test-dev2017_mine_results.json)"
    assert main(["score", *files, "--submission", "mine.json"]) == 2
    assert capfd.readouterr().err.count("\n") == 1


def test_images_without_annotations(
    files: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    truth = json.loads((tmp_path / "gt.json").read_text())
    del truth["annotations"]
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    assert main(["score", *files, "--submission", str(tmp_path / "mine.zip")]) == 0
    output, errors = capfd.readouterr()
    assert "no annotations: nothing can be scored" in output and not errors
    with zipfile.ZipFile(tmp_path / "mine.zip") as file:
        (record,) = json.loads(file.read(file.namelist()[0]))
    assert record == {"image_id": 1, "category_id": 1, "bbox": [1, 0, 2, 30], "score": 0.5}


def test_a_mistake_is_one_line(files: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    truth = files[0].removeprefix("--annotations=")
    assert main(["score", files[0], f"--results={truth}"]) == 2
    output, errors = capfd.readouterr()
    assert not output and errors.count("\n") == 1
    assert errors.startswith(f"detnet: error: {truth}: results are a list")
    assert main(["score", *files, "--iou-type", "box"]) == 2
    assert "bbox" in capfd.readouterr().err


def test_diagnosis_is_told_as_text_and_as_json(
    files: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", *files, "--diagnose"]) == 0
    assert "Errors of boxes at IoU 0.5" in capfd.readouterr().out
    assert main(["score", *files, "--diagnose", "--json"]) == 0
    diagnosis = json.loads(capfd.readouterr().out)["diagnosis"]
    assert diagnosis["confusion"]["matrix"] == [[1, 0], [0, 0]]
    assert main(["score", *files, "--diagnose", "--evaluator", "pycocotools", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["diagnosis"] == diagnosis
