"""Score anyone's results file against COCO ground truth, without a model.

    detnet score --annotations instances_val.json --results results.json

The results are COCO's: a list of {"image_id", "category_id", "bbox" [x, y, width, height] or
"segmentation", "score"}.
"""

import argparse
import json
from pathlib import Path


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
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")


def run(args: argparse.Namespace) -> int:
    """Prints the scores as tables or as JSON."""
    from detnet.evaluation.coco import score
    from detnet.evaluation.tables import format_scores

    scores = score(args.annotations, args.results, iou_type=args.iou_type, engine=args.engine)
    print(json.dumps(scores, allow_nan=False) if args.json else format_scores(scores))
    return 0
