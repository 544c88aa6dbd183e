import subprocess
import sys
from typing import Any

import pytest

from detnet.coco.keypoints import COCO_SIGMAS
from detnet.evaluation.metrics import names_of
from detnet.report.score_tables import (
    PaperRow,
    column_title,
    paper_rows,
    score_view,
    sigmas_in_words,
)
from detnet.training.catalogue import PUBLISHED
from detnet.training.detection.config import TrainConfig
from tests.report.test_page import scores

PRESET = "detnet59_faster_rcnn_fpn_2x"


@pytest.mark.parametrize(
    ("column", "title"),
    [("mean", "mean"), ("50", ".50"), ("85", ".85"), ("92.5", ".925"), ("100", "1.00")],
)
def test_overlaps_are_titled_as_in_the_paper(column: str, title: str) -> None:
    assert column_title(column) == title


def test_own_numbers_of_results_are_shown() -> None:
    view = score_view({**scores(), "AR300": 0.7}, [])
    assert [one.name for one in view.headline][-1] == "AR300"
    assert view.paper is None and all(not row.paper for row in view.tables[0].rows)


def test_the_paper_stands_beside_the_same_kind_of_scores() -> None:
    one = PaperRow(PUBLISHED["faster_rcnn_fpn", "detnet59"][0], "as it is")
    view = score_view(scores(), [one])
    first = view.headline[0]
    assert (first.value, first.paper) == (0.4321, 0.402)
    large = view.tables[1].rows[3]
    assert large.size == "large" and large.paper[-1] == pytest.approx(0.563)
    assert [table.source for table in view.tables] == ["Table 3", "Table 4"]
    assert score_view(scores("segm"), [one]).paper is None


def test_keypoints_have_ten_numbers() -> None:
    own = {**dict.fromkeys(names_of("keypoints"), 0.25), "AR@50": 0.3, "sigmas": [0.05] * 4}
    view = score_view({**scores("keypoints"), **own, "APs": 0.9}, [])
    assert [one.name for one in view.headline] == [*names_of("keypoints"), "AR@50"]
    long = {one.name: one.in_words for one in view.headline}
    assert long["AR"] == "average recall, mean over OKS .50 to .95"
    assert long["AR75"] == "average recall at OKS .75" and long["ARm"].endswith("medium objects")
    assert long["AR@50"] == "average recall, 50 results an image"
    assert view.kind == "Keypoints" and view.overlap == "OKS"
    assert "by sigma 0.05," in view.note and "20 results" in view.note


def test_the_note_says_which_ground_truth_was_taken() -> None:
    taken = "repaired in 1 of 9 annotations: left out 1 without width or height"
    view = score_view({**scores("bbox"), "ground_truth_taken": taken}, [])
    assert f"Ground truth: {taken}. s, m, l:" in view.note
    assert "Ground truth" not in score_view(scores("bbox"), []).note  # of earlier versions


@pytest.mark.parametrize(
    ("sigmas", "words"),
    [
        (COCO_SIGMAS, "COCO's sigmas"),
        ([0.1, 0.1], "sigma 0.1"),
        ([0.1, 0.05, 0.1], "sigmas 0.1, 0.05, 0.1"),
    ],
)
def test_sigmas(sigmas: list[float], words: str) -> None:
    assert sigmas_in_words(sigmas) == words


def test_classifiers_have_theirs() -> None:
    row = {"top1": 0.5, "top5": 0.9, "top1_error": 0.5, "top5_error": 0.1, "images": 8}
    view = score_view({**row, "per_class": dict.fromkeys("abcdef", row)}, [])
    assert [one.value for one in view.headline] == [0.5, 0.9, 0.5, 0.1]
    assert view.classes.columns == ["top1", "top5"] and view.classes.counted == "images"
    row |= {"top5": None, "top5_error": None}
    few = score_view({**row, "per_class": dict.fromkeys("abcde", row)}, [])
    assert [one.name for one in few.headline] == ["top-1 accuracy", "top-1 error"]
    assert few.classes.columns == ["top1"]


def config(source: str | None = PRESET, **changes: Any) -> TrainConfig:
    return TrainConfig.make(source, {"data": "/data/coco", **changes})


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
    code = "import sys, detnet.report.score_tables; sys.exit('torch' in sys.modules)"
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
