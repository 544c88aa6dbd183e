"""The options of own IoU thresholds, sizes and numbers of results, alike in every command."""

import argparse
from typing import Any


def add_grid_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that extend COCO's grid; COCO's own numbers stay as they are."""
    parser.add_argument(
        "--iou-thresholds",
        nargs="+",
        type=float,
        default=[],
        metavar="T",
        help="further IoU thresholds of the tables, as 0.55 0.9",
    )
    parser.add_argument(
        "--area",
        action="append",
        type=named_area,
        default=[],
        metavar="NAME=LOW-HIGH",
        help="a further object size, its lowest and highest area in square pixels, as "
        "tiny=0-256 or huge=65536-inf (may be repeated)",
    )
    parser.add_argument(
        "--max-dets",
        nargs="+",
        type=int,
        default=[],
        metavar="N",
        help="further numbers of best-scored results per image and class, as 300",
    )


def add_sigmas(parser: argparse.ArgumentParser) -> None:
    """Adds the option of how far off keypoints may be."""
    parser.add_argument(
        "--sigmas",
        nargs="+",
        type=float,
        default=[],
        metavar="S",
        help="for keypoints: how far off each may be, relative to the object's size, one for all "
        "or one for each (default: COCO's for 17 keypoints, else 0.05)",
    )


def grid_options(args: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of `score`, `evaluate` and `compare`, checked before any work is done.

    Raises:
        InputError: a value is out of range, or an area's name is taken.
    """
    from detnet.errors import InputError
    from detnet.evaluation.grid import make_grid

    names = [name for name, _ in args.area]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--area: {name!r} is given {names.count(name)} times")
    options: dict[str, Any] = {
        "iou_thresholds": tuple(args.iou_thresholds),
        "areas": dict(args.area),
        "max_dets": tuple(args.max_dets),
    }
    make_grid(**options)
    return options


def named_area(text: str) -> tuple[str, tuple[float, float]]:
    """Reads NAME=LOW-HIGH.

    Raises:
        argparse.ArgumentTypeError: it is not of that form.
    """
    name, _, edges = text.partition("=")
    low, _, high = edges.partition("-")
    try:
        return _named(name), (float(low), float(high))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME=LOW-HIGH, such as tiny=0-256"
        ) from None


def _named(name: str) -> str:
    if not name.strip():
        raise ValueError("no name")
    return name.strip()
