"""Score anyone's results file against COCO ground truth, without a model.

    detnet score --annotations instances_val.json --results results.json
    detnet score --annotations instances_val.json --results results.json --area tiny=0-256 \\
        --iou-thresholds 0.55 0.9 --max-dets 300
    detnet score --annotations instances_val.json --results results.json --diagnose
    detnet score --annotations image_info_test-dev2017.json --results results.json \\
        --submission mine.zip

The results are COCO's: a list of {"image_id", "category_id", "bbox" [x, y, width, height] or
"segmentation", "score"}. docs/measures.md says what each number means, docs/diagnosis.md
what the kinds of errors are.
"""

import argparse
import json
from pathlib import Path

from detnet.cli.grids import add_grid_arguments, grid_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument(
        "--annotations", type=Path, required=True, metavar="GT.json", help="COCO ground truth"
    )
    parser.add_argument(
        "--results", type=Path, required=True, metavar="DT.json", help="COCO results to score"
    )
    parser.add_argument(
        "--iou-type",
        choices=("bbox", "segm"),
        default="bbox",
        help="compare boxes or masks (default: bbox)",
    )
    parser.add_argument(
        "--engine",
        choices=("hotcoco", "pycocotools"),
        default="hotcoco",
        help="evaluator; the numbers are the same, pycocotools is slow (default: hotcoco)",
    )
    add_grid_arguments(parser)
    add_score_arguments(parser)
    parser.add_argument(
        "--diagnose",
        action="store_true",
        help="also tell the kinds of errors and what they cost, confusions and calibration",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")


def add_score_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `score` and `evaluate` have in common beside the grid."""
    parser.add_argument(
        "--class-agnostic-recall",
        action="store_true",
        help="also tell the recall with all classes taken as one",
    )
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
    from detnet.evaluation.diagnosis.text import format_diagnosis
    from detnet.evaluation.submission import check_submission, write_submission
    from detnet.evaluation.tables import format_scores

    options = grid_options(args)
    if args.submission:
        check_submission(args.submission)
    evaluation = evaluate(
        args.annotations, args.results, iou_type=args.iou_type, engine=args.engine, **options
    )
    scores = evaluation.scores(class_agnostic_recall=args.class_agnostic_recall)
    if args.submission:
        name = write_submission(args.submission, evaluation.truth, evaluation.detections)
    if args.diagnose:
        diagnosis = diagnose(evaluation)
    if args.json:
        more = {"diagnosis": diagnosis} if args.diagnose else {}
        print(json.dumps({**scores, **more}, allow_nan=False))
        return 0
    print(format_scores(scores))
    if args.diagnose:
        print(f"\n\n{format_diagnosis(diagnosis)}")
    if args.submission:
        print(f"\nwrote {args.submission} ({name})")
    return 0
