"""Which of the paper's numbers stand beside a run's, and what is said of the difference."""

import subprocess
import sys
from typing import Any

import pytest

from detnet.backbones.weights import layout
from detnet.report.origin import IMAGE_OPTIONS, comparisons
from detnet.training.detection.config import TrainConfig, make_config

PRESET = "detnet59_faster_rcnn_fpn_2x"
NAMED = ["detnet", "train", "--config", PRESET]


def config(source: str | None = PRESET, **changes: Any) -> TrainConfig:
    return make_config(source, {"data": "/data/coco", **changes})


def test_an_unchanged_preset_is_known_by_its_settings() -> None:
    first, *_ = comparisons(config(seed=7, weights="/some/where.safetensors"))
    assert first.published.headline[0] == 40.2
    assert first.published.cell("AR", "small", "50") == pytest.approx(0.664)
    assert PRESET in first.recipe and "changed" not in first.recipe
    assert "begun from weights" in first.recipe and "coco val" in first.recipe


def test_changes_are_told() -> None:
    changed = config(batch_size=8, lr=0.01)
    assert comparisons(changed) == []
    for command in (["detnet", "train", "--config", PRESET], [f"--config={PRESET}", "--x"]):
        recipe = comparisons(changed, command)[0].recipe
        assert "batch_size 8 instead of 16" in recipe and "lr 0.01 instead of 0.02" in recipe
        assert "begun without trained weights" in recipe


def test_of_the_detector_s_options_only_those_that_differ_are_told() -> None:
    recipe = comparisons(config(detector_options={"rpn_straddle": 5, "roi_batch": 64}), NAMED)
    told = "{'rpn_straddle': 5, 'roi_batch': 64} instead of {'rpn_straddle': 0};"
    assert f"changed: detector_options {told}" in recipe[0].recipe


def test_what_the_weights_decided_is_no_departure() -> None:
    """A run's config.yaml says it; only what the command asked for departs from the preset."""
    images = {"pixel_mean": [0.4, 0.5, 0.5], "pixel_std": [1.0, 1.0, 1.0], "channel_order": "bgr"}
    settled = config(weights="w.pth", stride_in="3x3", detector_options=images)
    first, *_ = comparisons(settled)
    assert first.published.headline[0] == 40.2 and "changed" not in first.recipe
    option = "channel_order=bgr"
    for words in (["--detector-option", option], [f"--detector-option={option}"]):
        recipe = comparisons(settled, [*NAMED, *words])[0].recipe
        assert "changed: detector_options {'channel_order': 'bgr'}" in recipe
    recipe = comparisons(settled, [*NAMED, "--stride-in=3x3"])[0].recipe
    assert "changed: stride_in 3x3 instead of auto;" in recipe
    assert comparisons(config(stride_in="1x1"))[0].recipe == comparisons(config())[0].recipe
    for changes in ({"detector_options": images}, {"stride_in": "3x3"}):
        assert comparisons(config(**changes)) == []


def test_it_needs_no_torch_and_knows_what_weights_decide() -> None:
    code = "import sys, detnet.report.origin; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
    assert IMAGE_OPTIONS == layout.IMAGE_OPTIONS


def test_another_backbone_has_its_own_numbers() -> None:
    (found,) = comparisons(config(backbone="resnet50"))
    assert found.published.headline[0] == 37.9


def test_masks_have_theirs() -> None:
    (found,) = comparisons(config("detnet59_mask_rcnn_fpn_2x"))
    assert found.published.iou_type == "segm" and found.published.headline[0] == 37.1


@pytest.mark.parametrize(
    ("source", "changes", "command"),
    [
        (None, {"width": 0.5}, []),
        ("small", {}, ["--config", "small"]),
        (PRESET, {"backbone": "detnet110"}, ["--config", PRESET]),
        (PRESET, {"detector": "retinanet"}, ["--config", PRESET]),
    ],
)
def test_what_the_paper_has_not_is_not_compared(
    source: str | None, changes: dict[str, Any], command: list[str]
) -> None:
    assert comparisons(config(source, **changes), command) == []
