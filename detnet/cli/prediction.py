"""Options of prediction that `predict` and `evaluate` share."""

import argparse
from typing import TYPE_CHECKING

from detnet.errors import InputError

if TYPE_CHECKING:
    from detnet.inference.augmentation import PredictionOptions


def add_prediction_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --soft-nms, --tta-scales and --tta-flip, all of them off."""
    parser.add_argument(
        "--soft-nms",
        choices=("linear", "gaussian"),
        help="lower the scores of overlapping boxes instead of leaving them out",
    )
    parser.add_argument(
        "--tta-scales",
        metavar="SIZE",
        nargs="+",
        type=int,
        default=(),
        help="look at each image at these short sides, in pixels, and merge what is found",
    )
    parser.add_argument(
        "--tta-flip", action="store_true", help="look at each image's mirror image, too"
    )


def prediction_options(args: argparse.Namespace) -> "PredictionOptions":
    """Gives the options as prediction takes them.

    Raises:
        InputError: a size that is none, before torch is imported.
    """
    if any(size < 1 for size in args.tta_scales):
        raise InputError(f"--tta-scales must be 1 pixel or more, got {min(args.tta_scales)}")
    from detnet.inference.augmentation import PredictionOptions

    return PredictionOptions(args.soft_nms, tuple(args.tta_scales), args.tta_flip)
