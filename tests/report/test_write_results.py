"""Which runs of RESULTS.md are marked for a rule that later ones have another for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detnet.report.write_results import former_rules, write_results_page
from detnet.training.detection.config import TrainConfig, make_config, write_config

FIXED = {"anchor_strides": "fixed"}


def config(detector: str, backbone: str, **options: Any) -> TrainConfig:
    changes = {"detector": detector, "backbone": backbone, "detector_options": options}
    return make_config(None, {"data": "/data/cells", "width": 0.125, **changes})


@pytest.mark.parametrize(
    ("detector", "backbone", "options", "kept"),
    [
        ("faster_rcnn_fpn", "resnet50", {}, ["anchor_strides"]),
        ("faster_rcnn_fpn", "detnet59", {}, []),  # P6 at 16: exact
        ("faster_rcnn", "resnet50", {}, []),  # one level at 16
        ("retinanet", "detnet59", {}, []),  # P7 at 32
        ("retinanet", "resnet50", {}, ["anchor_strides"]),
        ("retinanet", "resnet50", FIXED, []),
        ("retinanet", "resnet50", {"anchor_strides": "torchvision"}, ["anchor_strides"]),
        ("fcos", "detnet59", {}, ["threshold_on"]),
        ("fcos", "resnet50", {}, ["anchor_strides", "threshold_on"]),
        ("fcos", "resnet50", {**FIXED, "threshold_on": "class"}, []),
        ("ssd", "resnet50", {}, []),
        ("yolo", "resnet50", {}, []),
    ],
)
def test_former_rules(
    detector: str, backbone: str, options: dict[str, Any], kept: list[str]
) -> None:
    assert former_rules(config(detector, backbone, **options)) == kept


def write_run(folder: Path, settings: TrainConfig) -> Path:
    (folder / "evaluation").mkdir(parents=True)
    write_config(settings, folder / "config.yaml")
    (folder / "environment.json").write_text("{}")
    end = {"event": "end", "seconds": 1.0, "iteration": 4}
    (folder / "metrics.jsonl").write_text(json.dumps(end) + "\n")
    scores = {name: 0.5 for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")}
    (folder / "evaluation" / "scores.json").write_text(json.dumps(scores))
    return folder


def test_the_page_marks_them(tmp_path: Path) -> None:
    old = config("fcos", "resnet50")
    new = replace(old, detector_options={**FIXED, "threshold_on": "class"})
    runs = [write_run(tmp_path / "old", old), write_run(tmp_path / "new", new)]
    other = {"name": "old", "headline": {}}
    compared = tmp_path / "comparison.json"
    compared.write_text(json.dumps({"names": ["new"], "differences": [other]}))
    write_results_page(tmp_path / "R.md", runs, curves=None, compared=[compared])
    text = (tmp_path / "R.md").read_text()
    assert "\n| old †‡ | fcos, resnet50" in text and "\n| new | fcos, resnet50" in text
    assert "| old †‡ less new |" in text
    assert (
        text.count("† By a former rule: anchors") == text.count("‡ By a former rule: the thr") == 1
    )
    write_results_page(tmp_path / "R.md", runs[1:], curves=None, compared=[])
    assert "†" not in (tmp_path / "R.md").read_text()
