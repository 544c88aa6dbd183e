"""Compares detectors: every score's difference, its interval, and whether it is more than noise.

    detnet compare runs/detnet runs/resnet
    detnet compare runs/detnet runs/resnet --output comparison      # and a page with pictures
    detnet compare a.json b.json c.json --annotations instances_val.json --json

Each is a run folder that was evaluated, or a COCO results file; all are compared with the first,
on the same images. docs/comparison.md says what the intervals mean.
"""

import argparse
import json
from pathlib import Path

from detnet.cli.arguments import (
    add_grid_arguments,
    add_iou_type,
    add_precision,
    add_sigmas,
    folder,
    grid_options,
)
from detnet.errors import InputError

_PICTURES = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("sources", metavar="A", nargs="+", help="run folders or results files")
    parser.add_argument(
        "--annotations",
        type=Path,
        metavar="GT.json",
        help="ground truth (default: that of the first run)",
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="image folder of --annotations, for pictures"
    )
    parser.add_argument("--split", help="split of the runs' data (default: val)")
    add_iou_type(parser)
    parser.add_argument(
        "--resamples", type=int, default=2000, help="of the bootstrap (default: 2000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: 0)")
    parser.add_argument(
        "--confidence", type=float, default=0.95, help="of the intervals (default: 0.95)"
    )
    add_grid_arguments(parser)
    add_sigmas(parser)
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="MODEL",
        help="one per A, run folder or .safetensors file, - for none, to tell what they cost "
        "(default: the run folders' own)",
    )
    parser.add_argument("--no-speed", action="store_true", help="do not measure what they cost")
    parser.add_argument(
        "--speed-images",
        type=int,
        default=12,
        metavar="N",
        help="images to measure the speed on (default: 12)",
    )
    add_precision(parser)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument(
        "--output", type=folder, metavar="DIR", help="write comparison.json and comparison.html"
    )
    parser.add_argument(
        "--pictures",
        type=int,
        metavar="N",
        help=f"of the page, for each that finds more than another (default: {_PICTURES})",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Compares, and prints the tables or the JSON."""
    options = grid_options(args)
    _check(args)
    from detnet.cli.progress import telling
    from detnet.engine.run_records import tell_weights
    from detnet.evaluation.comparison.sources import compare_sources
    from detnet.report.comparison_text import format_comparison

    sources = [Path(source) for source in args.sources]
    with telling("resamples") as tell:
        compared = compare_sources(
            sources,
            annotations=args.annotations,
            images=args.images,
            split=args.split or "val",
            iou_type=args.iou_type,
            resamples=args.resamples,
            seed=args.seed,
            confidence=args.confidence,
            progress=tell,
            sigmas=args.sigmas,
            **options,
        )
    comparison = compared.comparison
    comparison["weights"] = [
        tell_weights(source) if (source / "config.yaml").is_file() else "" for source in sources
    ]
    if not args.no_speed and (args.models or any(source.is_dir() for source in sources)):
        from detnet.report.comparison_cost import add_cost

        add_cost(
            compared,
            sources,
            models=args.models,
            count=args.speed_images,
            precision=args.precision,
            device=args.device,
        )
    page = None
    if args.output:
        from detnet.report.comparison import write_output

        page = write_output(
            compared, args.output, count=_PICTURES if args.pictures is None else args.pictures
        )
    if args.json:
        print(json.dumps(comparison, allow_nan=False))
        return 0
    print(format_comparison(comparison))
    if page:
        print(f"\nlook at {page}")
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuses what would be found out only after the work."""
    for option, least in (("pictures", 0), ("speed_images", 1)):
        value = getattr(args, option)
        if value is not None and value < least:
            raise InputError(f"--{option.replace('_', '-')} {value}: give {least} or more")
    if args.pictures is not None and not args.output:
        raise InputError("--pictures are those of the page that --output writes; give both")
    if args.images and not args.annotations:
        raise InputError("--images is the folder of --annotations; give both")
    if args.split and args.annotations:
        raise InputError("--split is that of the runs' data; give it or --annotations, not both")
    if args.models and args.no_speed:
        raise InputError("--models tells what they cost, which --no-speed leaves out; give one")
    if args.models and len(args.models) != len(args.sources):
        raise InputError(
            f"--models: {len(args.models)} for {len(args.sources)} results; give one for each, "
            "- where there is none"
        )
