"""Which of the paper's numbers stand beside a run's, and what is said of the difference."""

import subprocess
import sys
from typing import Any

import pytest

from detnet.report.origin import paper_rows
from detnet.training.detection.config import TrainConfig, make_config

PRESET = "detnet59_faster_rcnn_fpn_2x"


def config(source: str | None = PRESET, **changes: Any) -> TrainConfig:
    return make_config(source, {"data": "/data/coco", **changes})


def test_a_run_of_a_preset_has_its_row() -> None:
    first, *_ = paper_rows(config(seed=7, weights="/some/where.safetensors"))
    assert first.published.headline[0] == 40.2
    assert first.published.cell("AR", "small", "50") == pytest.approx(0.664)
    assert PRESET in first.recipe and "changed" not in first.recipe
    assert "begun from weights" in first.recipe and "coco val" in first.recipe


def test_departures_are_told() -> None:
    recipe = paper_rows(config(batch_size=8, lr=0.01, min_sizes=[600]))[0].recipe
    assert "batch_size 8 instead of 16" in recipe and "lr 0.01 instead of 0.02" in recipe
    assert "min_sizes [600] instead of [800]" in recipe
    assert "begun without trained weights" in recipe


def test_of_the_detector_s_options_only_those_that_differ_are_told() -> None:
    options = {"rpn_straddle": 5, "roi_batch": 64, "head_init": "detectron"}
    recipe = paper_rows(config(detector_options=options))[0].recipe
    told = "{'rpn_straddle': 5, 'roi_batch': 64} instead of {'rpn_straddle': 0};"
    assert f"changed: detector_options {told}" in recipe


def test_it_needs_no_torch() -> None:
    code = "import sys, detnet.report.origin; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_another_backbone_has_its_own_numbers() -> None:
    (found,) = paper_rows(config(backbone="resnet50"))
    assert found.published.headline[0] == 37.9
    assert f"preset {PRESET} with resnet50" in found.recipe


def test_masks_have_theirs() -> None:
    (found,) = paper_rows(config("detnet59_mask_rcnn_fpn_2x"))
    assert found.published.iou_type == "segm" and found.published.headline[0] == 37.1


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        (None, {"width": 0.5}),
        ("small", {}),
        (PRESET, {"backbone": "detnet110"}),
        (PRESET, {"detector": "retinanet", "detector_options": {}}),
    ],
)
def test_what_the_paper_has_not_is_not_compared(
    source: str | None, changes: dict[str, Any]
) -> None:
    assert paper_rows(config(source, **changes)) == []
