"""VOC folders in `detnet train`, `evaluate`, `score` and `check`, as a person calls them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from detnet.cli import main
from detnet.coco.writing import to_coco_dict
from detnet.data.folders import find_split
from detnet.data.reading import load_annotations
from tests.data.voc_devkit import write_devkit

QUICK = [
    "--width", "0.125", "--min-sizes", "64", "--max-size", "96", "--batch-size", "2",
    "--lr-batch", "0", "--warmup-iterations", "1", "--workers", "0", "--clip-norm", "10",
    "--precision", "fp32", "--device", "cpu", "--norm", "sync",
    "--detector-option", "pre_nms_train=100", "--detector-option", "post_nms_train=20",
    "--detector-option", "pre_nms_test=50", "--detector-option", "post_nms_test=20",
]  # fmt: skip


@pytest.fixture(scope="module")
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_devkit(tmp_path_factory.mktemp("data") / "VOCdevkit")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, devkit: Path) -> Path:
    """Two steps with the preset's recipe, made small."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs") / "a"
    preset = ["--config", "detnasnet_voc_300m_faster_rcnn_fpn_1x", "--iterations", "2"]
    assert main(["train", "--data", str(devkit), "--output", str(folder), *preset, *QUICK]) == 0
    return folder


def test_trained_on_two_years_and_evaluated_on_the_test(run: Path) -> None:
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    scored = [event for event in events if event.get("event") == "evaluation"]
    assert scored and "AP50" in scored[-1]
    scores = json.loads((run / "evaluation" / "scores.json").read_text())
    assert {n: c["annotations"] for n, c in scores["per_class"].items()} == {
        "bird": 0, "cat": 1, "dog": 2,
    }  # fmt: skip


@pytest.mark.parametrize("metric", ["voc07", "voc12"])
def test_evaluate_by_vocs_measure(
    run: Path, devkit: Path, metric: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = f"evaluate {run} --data {devkit} --metric {metric} --workers 0 --device cpu --json"
    capsys.readouterr()
    assert main(words.split()) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["metric"] == metric and 0 <= scores["mAP"] <= 1
    assert scores["per_class"]["dog"].keys() == {"AP", "annotations", "difficult"}
    assert [scores["per_class"]["dog"][k] for k in ("annotations", "difficult")] == [1, 1]
    folder = run / "evaluation"
    assert scores == json.loads((folder / f"scores_{metric}.json").read_text())
    assert json.loads((folder / "scores.json").read_text())["iou_type"] == "bbox"
    # Anyone's results file gives the same, from the same truth in COCO's form.
    truth = to_coco_dict(load_annotations(find_split(devkit, "val"))[0])
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    files = f"--annotations {tmp_path / 'gt.json'} --results {folder / 'results.json'}"
    assert main(f"score {files} --metric {metric} --json".split()) == 0
    assert json.loads(capsys.readouterr().out) == scores


def test_other_lists_get_their_own_folder(
    run: Path, devkit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"evaluate {run} --data {devkit} --workers 0 --device cpu --metric voc07 --split"
    assert main([*words.split(), "VOC2007/train+VOC2012/val"]) == 0
    text = capsys.readouterr().out
    weights, _, heading, *_ = text.splitlines()
    assert weights.startswith("best.safetensors (iteration 2, chosen on ")
    assert heading.startswith("Average precision of boxes as in VOC 2007, IoU 0.5")
    folder = run / "evaluation" / "VOC2007_train+VOC2012_val"
    assert sorted(path.name for path in folder.iterdir()) == [
        "results.json", "scores.json", "scores_voc07.json",
    ]  # fmt: skip
    results: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())
    assert {record["image_id"] for record in results} <= {5, 2008000002}


def test_training_lists_by_name(devkit: Path, tmp_path: Path) -> None:
    arguments = ["train", "--data", str(devkit), "--output", str(tmp_path / "a"), *QUICK]
    arguments += ["--backbone", "shufflenetv2_20", "--iterations", "1"]
    lists = ["--train-split", "VOC2007/train+VOC2012/train", "--val-split", "VOC2007/val"]
    assert main([*arguments, *lists]) == 0
    scores = json.loads((tmp_path / "a" / "evaluation" / "scores.json").read_text())
    assert scores["per_class"]["cat"]["annotations"] == 1


def test_mistakes_are_one_line(
    devkit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_devkit(tmp_path / "VOCdevkit")
    broken = folder / "VOC2007" / "Annotations" / "000007.xml"
    broken.write_text(broken.read_text()[:100])
    arguments = ["train", "--data", str(folder), "--output", str(tmp_path / "a"), *QUICK]
    assert main([*arguments, "--iterations", "1"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{broken}: not a whole XML file" in error
    arguments[2] = str(devkit)
    assert main([*arguments, "--train-split", "VOC2010/train"]) == 2
    assert "no 'VOC2010'" in capsys.readouterr().err


def test_check(devkit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(devkit), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    splits = report["statistics"]["splits"]
    assert {name: numbers["images"] for name, numbers in splits.items()} == {"train": 4, "val": 2}
    assert not [p for p in report["problems"] if p["code"] == "image-unlisted"]
    folder = write_devkit(tmp_path / "VOCdevkit")
    (folder / "VOC2012" / "JPEGImages" / "2008_000008.jpg").write_bytes(b"no image")
    (folder / "VOC2007" / "Annotations" / "000002.xml").write_text("<annotation>")
    assert main(["check", str(folder), "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    errors = {p["code"]: p for p in problems if p["severity"] == "error"}
    assert set(errors) == {"unreadable-xml", "image-unreadable"}
    assert errors["unreadable-xml"]["file"].endswith("000002.xml")
    assert errors["unreadable-xml"]["message"].startswith("not a whole XML file")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--metric voc07 --iou-type segm", "--iou-type segm goes with --metric coco"),
        ("--metric voc12 --max-dets 300", "--max-dets goes with --metric coco, not with voc12"),
        ("--metric voc12 --diagnose", "--diagnose goes with --metric coco"),
        ("--add-pixel", "--add-pixel goes with --metric voc07 or voc12"),
    ],
)
def test_score_refuses_what_has_no_meaning(
    options: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(f"score --annotations gt.json --results dt.json {options}".split()) == 2
    assert message in capsys.readouterr().err


def test_a_pixel_is_added_where_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Boxes of 5 pixels, one off in both directions: 16 of 34 in common, with a pixel 25 of 47."""
    truth = {
        "images": [{"id": 1, "width": 60, "height": 40}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 5, 5], "area": 25}
        ],
    }
    results = [{"image_id": 1, "category_id": 1, "bbox": [11, 11, 5, 5], "score": 0.9}]
    for name, content in (("gt", truth), ("dt", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    words = f"score --annotations {tmp_path}/gt.json --results {tmp_path}/dt.json --metric voc12"
    for option, expected in ((["--add-pixel"], 1.0), ([], 0.0)):
        assert main([*words.split(), *option, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["mAP"] == expected
