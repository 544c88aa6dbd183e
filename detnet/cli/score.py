"""Scores anyone's results file against COCO ground truth, without a model.

    detnet score --annotations instances_val.json --results results.json
    detnet score --annotations instances_val.json --results results.json --area tiny=0-256 \\
        --iou-thresholds 0.55 0.9 --max-dets 300
    detnet score --annotations instances_val.json --results results.json --diagnose
    detnet score --annotations image_info_test-dev2017.json --results results.json \\
        --submission mine.zip
    detnet score --annotations voc_test.json --results results.json --metric voc07

The results are COCO's: a list of {"image_id", "category_id", "bbox" [x, y, width, height],
"segmentation" or "keypoints" [x, y, 1, x, y, 1 …], "score"}. docs/measures.md says what each
number means, docs/diagnosis.md what the kinds of errors are, docs/voc.md how VOC's average
precision is measured.
"""

import argparse
import json
from pathlib import Path

from detnet.cli.arguments import (
    add_grid_arguments,
    add_iou_type,
    add_sigmas,
    first_given,
    grid_options,
)
from detnet.errors import InputError

_METRICS = {
    "coco": "COCO's AP and AR",
    "voc07": "VOC's average precision of 2007, from 11 recalls",
    "voc12": "that of 2010 and later, the area under the curve",
}

# Options of `score` and `evaluate` that go with COCO's measure alone.
OF_COCO = (
    *("evaluator", "iou_thresholds", "area", "max_dets"),
    *("class_agnostic_recall", "sigmas", "submission"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument(
        "--annotations", type=Path, required=True, metavar="GT.json", help="COCO ground truth"
    )
    parser.add_argument(
        "--results", type=Path, required=True, metavar="DT.json", help="COCO results to score"
    )
    add_iou_type(parser)
    add_grid_arguments(parser)
    add_score_arguments(parser)
    parser.add_argument(
        "--diagnose",
        action="store_true",
        help="also tell the kinds of errors and what they cost, confusions and calibration",
    )
    parser.add_argument(
        "--add-pixel",
        action="store_true",
        help="with --metric voc07 or voc12: both files hold widths as xmax - xmin of VOC's boxes, "
        "which leaves out a pixel",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")


def add_score_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `score` and `evaluate` have in common beside the grid."""
    parser.add_argument(
        "--evaluator",
        choices=("hotcoco", "pycocotools"),
        default="hotcoco",
        help="what scores; the numbers are the same, pycocotools is slow (default: hotcoco)",
    )
    parser.add_argument(
        "--metric",
        choices=tuple(_METRICS),
        default="coco",
        help="; ".join(f"{name}: {text}" for name, text in _METRICS.items()) + " (default: coco)",
    )
    parser.add_argument(
        "--class-agnostic-recall",
        action="store_true",
        help="also tell the recall with all classes taken as one",
    )
    add_sigmas(parser)
    parser.add_argument(
        "--submission",
        type=Path,
        metavar="FILE.zip",
        help="also write the results as COCO's test-dev server takes them",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the scores as tables or as JSON, and writes the submission."""
    from detnet.evaluation.coco import evaluate
    from detnet.evaluation.diagnosis.diagnose import diagnose
    from detnet.evaluation.diagnosis.records import format_diagnosis
    from detnet.evaluation.submission import check_submission, write_submission
    from detnet.report.score_text import format_scores

    options = grid_options(args)
    if args.metric != "coco":
        return _voc(args)
    if args.add_pixel:
        raise InputError("--add-pixel goes with --metric voc07 or voc12")
    if args.submission:
        check_submission(args.submission)
    evaluation = evaluate(
        args.annotations,
        args.results,
        iou_type=args.iou_type,
        engine=args.evaluator,
        sigmas=args.sigmas,
        **options,
    )
    scores = evaluation.scores(class_agnostic_recall=args.class_agnostic_recall)
    if args.submission:
        name = write_submission(args.submission, evaluation.truth, evaluation.detections)
    if args.diagnose:
        diagnosis = diagnose(evaluation)
    if args.json:
        more = {"diagnosis": diagnosis} if args.diagnose else {}
        print(json.dumps({**scores.to_json(), **more}, allow_nan=False))
        return 0
    print(format_scores(scores))
    if args.diagnose:
        print(f"\n\n{format_diagnosis(diagnosis)}")
    if args.submission:
        print(f"\nwrote {args.submission} ({name})")
    return 0


def _voc(args: argparse.Namespace) -> int:
    from detnet.evaluation.voc import format_voc_scores, score_voc

    iou_type = "" if args.iou_type == "bbox" else f"--iou-type {args.iou_type}"
    option = iou_type or first_given(args, *OF_COCO, "diagnose")
    if option:
        raise InputError(f"{option} goes with --metric coco, not with {args.metric}")
    scores = score_voc(args.annotations, args.results, metric=args.metric, add_pixel=args.add_pixel)
    print(json.dumps(scores.to_json(), allow_nan=False) if args.json else format_voc_scores(scores))
    return 0
