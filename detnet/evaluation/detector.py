"""Scores a detector's results by all that it finds: boxes, and masks or keypoints."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from detnet.coco.ground_truth import GroundTruths
from detnet.evaluation.coco import Scores, evaluate
from detnet.evaluation.files import DetectorScores
from detnet.evaluation.results import Results


def score_results(
    results: Results, truths: GroundTruths, measures: Mapping[str, Any]
) -> DetectorScores:
    """Scores COCO results of a detector on what is to be found.

    Args:
        results: of all images; they are put in the images' order.
        measures: keyword arguments of `score`: the engine, own thresholds, sizes …, and `sigmas`
            for keypoints.
    """
    results = results.pick(np.argsort(results.images, kind="stable"))
    own = dict(measures)
    pooled = own.pop("class_agnostic_recall", False)
    sigmas = {"sigmas": own.pop("sigmas", ())}

    def of(iou_type: str, **more: Any) -> Scores:
        found = results.of_kind(iou_type)
        evaluation = evaluate(truths.of(iou_type), found, iou_type=iou_type, **own, **more)
        return evaluation.scores(class_agnostic_recall=pooled)

    return DetectorScores(
        of("bbox"),
        results,
        of("segm") if truths.segm is not None else None,
        of("keypoints", **sigmas) if truths.keypoints is not None else None,
    )
