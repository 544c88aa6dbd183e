"""A parser whose mistakes are one line with the nearest name, and options that commands share."""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from detnet.errors import InputError
from detnet.tables import nearest

if TYPE_CHECKING:
    from detnet.inference.augmentation import PredictionOptions

ENGINE_CHOICES = ("auto", "torch", "openvino", "onnxruntime")
A_MODEL = "run folder, .safetensors file or exported folder"
_CHOICE = re.compile(
    r"^(?P<what>.+): invalid choice: '(?P<seen>[^']*)' \(choose from (?P<all>.*)\)$"
)


class Parser(argparse.ArgumentParser):
    """Raises `InputError` instead of printing a usage page and ending the process.

    Abbreviated options are off: `--out` must not change its meaning when an option is added.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parses everything or raises `InputError` naming the first argument not understood."""
        parsed, extra = self.parse_known_args(args, namespace)
        if extra:
            name = extra[0].partition("=")[0]
            if name.startswith("-"):
                options = [option for action in self._actions for option in action.option_strings]
                self.error(f"unknown option {name!r}{did_you_mean(name, options)}")
            self.error(f"unexpected argument {name!r}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Raises the mistake as an `InputError` that says where the options are listed."""
        choice = _CHOICE.match(message)
        if choice:
            names = [name.strip().strip("'") for name in choice["all"].split(",")]
            hint = did_you_mean(choice["seen"], names)
            message = (
                f"{choice['what']}: unknown {choice['seen']!r}{hint}; one of {', '.join(names)}"
            )
        raise InputError(f"{message}; see `{self.prog} --help`")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A remark ` (did you mean 'x'?)` when one of the known names is near, else nothing."""
    near = nearest(name, known)
    return f" (did you mean {near!r}?)" if near else ""


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


def add_iou_type(parser: argparse.ArgumentParser) -> None:
    """Adds the option of what is compared."""
    parser.add_argument(
        "--iou-type",
        choices=("bbox", "segm", "keypoints"),
        default="bbox",
        help="compare boxes, masks or keypoints (default: bbox)",
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Adds the option of what a network computes in."""
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="of the network; auto is bf16 where the device is fast at it (default: auto)",
    )


def add_any_device(parser: argparse.ArgumentParser) -> None:
    """Adds the option of a device by its own name."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1, … (default: a GPU if there is one)")


def add_search(parser: argparse.ArgumentParser) -> None:
    """Adds the search that an action is about."""
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder of a search")


def add_score_threshold(parser: argparse.ArgumentParser) -> None:
    """Adds the score from which objects are given out."""
    parser.add_argument(
        "--score-threshold",
        metavar="S",
        type=_score,
        default=0.5,
        help="leave out objects less sure than this, 0 … 1 (default: 0.5)",
    )


def _score(text: str) -> float:
    with suppress(ValueError):
        if 0 <= (score := float(text)) <= 1:
            return score
    raise argparse.ArgumentTypeError(f"must be in 0 … 1, got {text}")


def folder(text: str) -> Path:
    """Reads the place of a folder that is there or can be made, before work is done for it.

    Raises:
        argparse.ArgumentTypeError: there is a file in its place.
    """
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a file; name a folder")
    return path


def add_results_table(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds the Markdown page that something is put into."""
    parser.add_argument(
        "--results-table",
        metavar="FILE",
        type=Path,
        help=f"put {what} into a Markdown page, in the place of the one before",
    )


def add_storage(parser: argparse.ArgumentParser) -> None:
    """Adds the place where workers meet."""
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="where workers meet, as postgresql://USER@HOST/NAME (default: where the settings say, "
        "or study.db in the folder)",
    )


def first_given(args: argparse.Namespace, *names: str) -> str | None:
    """The first of these options that was given otherwise than by default, as it is typed."""
    defaults = {"engine": "auto", "evaluator": "hotcoco", "metric": "coco", "precision": "auto"}
    for name in names:
        value = getattr(args, name)
        if value and value != defaults.get(name):
            return f"--{name.replace('_', '-')}"
    return None


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


def add_prediction_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --precision, and --soft-nms, --tta-scales and --tta-flip, all of them off."""
    add_precision(parser)
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


def tell(line: str) -> None:
    """Says a line on standard error, where results do not go."""
    print(f"detnet: {line}", file=sys.stderr, flush=True)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Adds the option of what runs the network."""
    parser.add_argument(
        "--engine",
        choices=ENGINE_CHOICES,
        default="auto",
        help="what runs the network; auto is an export's own runtime, else torch or a faster fp32 "
        "export of exactly this model beside it; openvino and onnxruntime export once if they must "
        "(default: auto)",
    )


def only_torch_can(args: argparse.Namespace) -> str | None:
    """The option given that no export has; None for none."""
    return first_given(args, "soft_nms", "tta_scales", "tta_flip")


def refuse_for_export(args: argparse.Namespace) -> None:
    """Refuses, for an exported folder, what only a network in torch can do.

    Raises:
        InputError: naming the first option.
    """
    option = first_given(args, "soft_nms", "tta_scales", "tta_flip", "precision")
    if option:
        raise InputError(
            f"{args.model}: is an export, which cannot do {option}; leave it out, or give the run "
            "folder or .safetensors file"
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
