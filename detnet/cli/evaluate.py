"""Scores a trained model on a split: a detector's AP and AR, a classifier's top-1 and top-5 error.

    detnet evaluate runs/a                           # on the run's own validation split
    detnet evaluate runs/a --data DATA
    detnet evaluate model.safetensors --data DATA --split test --json
    detnet evaluate runs/a --annotations image_info_test-dev2017.json --images test2017 \\
        --submission mine.zip
    detnet evaluate runs/p --data imagenet
    detnet evaluate runs/v --data VOCdevkit --metric voc07

A detector's AP and AR are told by IoU threshold and object size, and per class. A classifier, as
`detnet pretrain` makes it, takes a folder with images in class folders: DATA/val/CLASS/image.jpg.
Writes scores.json and, for a detector, results.json (COCO's results format) into RUN/evaluation,
those of other data than the run's own validation split, and those with --soft-nms, --tta-scales or
--tta-flip, into a folder in that. With --metric voc07
or voc12 VOC's average precision is told instead, and scores_voc07.json or scores_voc12.json written
as well. docs/measures.md and docs/voc.md say what each number means.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detnet.cli.arguments import (
    A_MODEL,
    add_engine,
    add_grid_arguments,
    add_prediction_arguments,
    first_given,
    folder,
    grid_options,
    only_torch_can,
    prediction_options,
    refuse_for_export,
    tell,
)
from detnet.cli.score import OF_COCO, add_score_arguments
from detnet.engine.launch import image_readers
from detnet.engine.run_records import tell_weights
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.files import read_yaml
from detnet.text import count

_WHICH = "give either --data FOLDER, or --annotations FILE with --images DIR"

if TYPE_CHECKING:
    from detnet.engine.distributed import Process
    from detnet.inference.export.engine_choice import EngineChoice
    from detnet.training.detection.evaluate import Track


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("model", metavar="MODEL", help=A_MODEL)
    parser.add_argument(
        "--data", metavar="DATA", help="data set folder (default: that of a run folder)"
    )
    parser.add_argument(
        "--split", help="split to score on (default: val, or the run's own on its own data)"
    )
    parser.add_argument("--annotations", metavar="FILE", help="annotation file instead of --data")
    parser.add_argument("--images", metavar="DIR", help="image folder of --annotations")
    parser.add_argument(
        "--outside-images",
        action="store_true",
        help="let annotations name images outside of the data set's folder",
    )
    parser.add_argument(
        "--output", metavar="DIR", type=folder, help="folder for scores.json and results.json"
    )
    add_grid_arguments(parser)
    add_score_arguments(parser)
    add_prediction_arguments(parser)
    add_engine(parser)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument(
        "--workers",
        type=int,
        default=image_readers(),
        help="processes that read images (default: by this machine's cores, here %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Evaluates and prints the tables."""
    if not args.data and not args.annotations:
        args.data, own = _own_data(Path(args.model))
        args.split = args.split or own
        tell(f"on the run's own data: {args.split} of {args.data}")
    elif args.data and args.annotations:
        raise InputError(_WHICH)
    args.split = args.split or "val"
    if args.workers < 0:
        raise InputError(f"--workers must not be negative, got {args.workers}")
    measures = grid_options(args) | {
        "engine": args.evaluator,
        "class_agnostic_recall": args.class_agnostic_recall,
        "sigmas": tuple(args.sigmas),
    }
    from detnet.backbones.model_file import kind_of
    from detnet.engine import distributed
    from detnet.engine.memory import explaining_out_of_memory
    from detnet.evaluation.submission import check_submission
    from detnet.inference.engines.record import is_export
    from detnet.inference.models import find_model

    classifier = not is_export(args.model) and kind_of(find_model(args.model)) == "classifier"
    if classifier:
        _refuse_detection(args)
    if args.submission:
        check_submission(args.submission)
    with (
        distributed.joined(None if args.device == "auto" else args.device) as process,
        explaining_out_of_memory(process.device, lambda: "bf16 takes less (--precision bf16)"),
    ):
        if classifier:
            return _classifier(args, process)
        return _detector(args, process, measures)


def _own_data(model: Path) -> tuple[str, str]:
    """Folder and split that a run is evaluated on while it trains.

    Raises:
        InputError: it is no run folder, or one without such data.
    """
    settings = RunFolder(model).config
    config = read_yaml(settings) if settings.is_file() else {}
    data, split = config.get("data"), config.get("val_split")
    # Where these are given, the split is no part of the folder.
    if not data or split in (None, "none") or config.get("val_annotations"):
        raise InputError(_WHICH)
    return str(data), str(split)


def _detector(args: argparse.Namespace, process: "Process", measures: dict[str, Any]) -> int:
    from detnet.data.folders import find_split
    from detnet.evaluation.voc import format_voc_scores
    from detnet.report.score_text import format_scores
    from detnet.training.detection.evaluate import evaluate_file
    from detnet.training.detection.evaluate_export import evaluate_export

    place = Path(args.data or args.annotations)
    split = find_split(
        place,
        args.split,
        images=Path(args.images) if args.images else None,
        outside=args.outside_images,
    )
    choice = _engine(args, process)
    asked = {"measures": measures, "submission": args.submission, "metric": args.metric}
    if choice.engine != "torch":
        scores = evaluate_export(
            choice.model,
            split,
            model=Path(args.model),
            output=args.output,
            track=_shown(process, "images"),
            **asked,
        )
    else:
        scores = evaluate_file(
            Path(args.model),
            split,
            options=prediction_options(args),
            **asked,
            **_how(args, process),
        )
    if not process.main:
        return 0
    if args.json:
        print(json.dumps((scores.voc or scores).to_json()))
        return 0
    print(f"{_of_what(args, scores.images)}\n")
    if scores.voc is not None:
        print(format_voc_scores(scores.voc))
        return 0
    print("\n\n\n".join(map(format_scores, scores.kinds)))
    if args.submission:
        print(f"\nwrote {args.submission}")
    return 0


def _engine(args: argparse.Namespace, process: "Process") -> "EngineChoice":
    """What runs the detector; several processes share torch's work only."""
    from detnet.inference.engines.record import is_export
    from detnet.inference.export.engine_choice import choose_engine

    exported = is_export(args.model)
    if exported:
        refuse_for_export(args)
        if args.device == "cuda":
            raise InputError(f"{args.model}: is an export, which runs on the CPU")
    several = "a run of several processes" if process.world_size > 1 else None
    if exported and several:
        raise InputError(f"{args.model}: is an export, which one process evaluates")
    choice = choose_engine(
        args.model,
        args.engine,
        torch_only=None if exported else several or only_torch_can(args),
        device=args.device,
        precision=args.precision,
        tell=tell,
    )
    if process.main:
        tell(str(choice))
    return choice


def _classifier(args: argparse.Namespace, process: "Process") -> int:
    from detnet.evaluation.classification import format_errors
    from detnet.training.classification.evaluate import evaluate_classifier

    scores = evaluate_classifier(
        Path(args.model), Path(args.data), split=args.split, **_how(args, process)
    )
    if process.main:
        text = f"{_of_what(args, scores.images)}\n\n{format_errors(scores)}"
        print(json.dumps(scores.to_json()) if args.json else text)
    return 0


def _of_what(args: argparse.Namespace, images: int) -> str:
    """Says whose scores these are, and on what."""
    where = f"{args.split} of {args.data}" if args.data else args.annotations
    return f"{tell_weights(args.model)} on {where}, {count(images, 'image')}"


def _how(args: argparse.Namespace, process: "Process") -> dict[str, Any]:
    """What the evaluation of a detector and of a classifier have in common."""
    from detnet.engine.machine import choose_precision

    return {
        "process": process,
        "autocast": choose_precision(args.precision, process.device),
        "output": args.output,
        "workers": args.workers,
        "track": _shown(process, "batches"),
    }


def _shown(process: "Process", what: str) -> "Track":
    from detnet.cli.progress import track

    def shown(items: Iterable[Any], total: int) -> Iterable[Any]:
        return track(items, what=what, total=total) if process.main else items

    return shown


def _refuse_detection(args: argparse.Namespace) -> None:
    """Refuses what has no meaning for a classifier.

    Raises:
        InputError: naming the first.
    """
    option = first_given(args, "annotations", "images", "outside_images", *OF_COCO, "metric")
    option = option or first_given(args, "soft_nms", "tta_scales", "tta_flip", "engine")
    if option:
        raise InputError(
            f"{args.model}: holds a classifier, for which {option} has no meaning; give --data "
            "FOLDER with images in class folders"
        )
