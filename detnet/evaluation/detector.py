"""Scores a detector's results by all that it finds: boxes, and masks or keypoints."""

from collections.abc import Mapping
from typing import Any

from detnet.coco.ground_truth import GroundTruth, GroundTruths
from detnet.evaluation.coco import Scores, evaluate
from detnet.evaluation.files import DetectorScores


def score_results(
    results: list[dict[str, Any]], truths: GroundTruths, measures: Mapping[str, Any]
) -> DetectorScores:
    """Scores COCO results of a detector on what is to be found.

    Args:
        results: of all images; they are put in the images' order.
        measures: keyword arguments of `score`: the engine, own thresholds, sizes …, and `sigmas`
            for keypoints.
    """
    results = sorted(results, key=lambda record: record["image_id"])
    own = dict(measures)
    pooled = own.pop("class_agnostic_recall", False)
    sigmas = own.pop("sigmas", ())

    def of(truth: GroundTruth, found: list[dict[str, Any]], iou_type: str, **more: Any) -> Scores:
        evaluation = evaluate(truth, found, iou_type=iou_type, **own, **more)
        return evaluation.scores(class_agnostic_recall=pooled)

    bbox = of(truths.bbox, results, "bbox")
    segm = keypoints = None
    if truths.segm is not None:
        segm = of(truths.segm, without_boxes(results), "segm")
    if truths.keypoints is not None:
        found = [record for record in without_boxes(results) if "keypoints" in record]
        keypoints = of(truths.keypoints, found, "keypoints", sigmas=sigmas)
    return DetectorScores(bbox, results, segm, keypoints)


def without_boxes(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leaves the boxes out, so that a detection's size is that of its mask, as in the truth, or of
    its keypoints, as in COCO's own results.
    """
    return [{k: v for k, v in record.items() if k != "bbox"} for record in results]
