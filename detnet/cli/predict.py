"""Finds objects in pictures and videos, draws them, and writes COCO results.

    detnet predict runs/a image.jpg holiday/ --output found
    detnet predict model.safetensors film.mp4 --output found --score-threshold 0.7
    detnet predict runs/a image.jpg --output found --soft-nms gaussian \\
        --tta-scales 640 800 960 --tta-flip

MODEL is a run folder, a .safetensors file, or a folder that `detnet export` made. Folders are
searched with all that is below them. Below the output folder there are then the drawn copies,
predictions.json (COCO results format) and images.json, which says for each image_id which file, or
which frame of a video, it is. In an output folder that was used before, both files are replaced and
pictures of the same names, too; older ones stay, and a line says so. Videos need the video extra:
pip install 'detnet[video]'.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detnet.cli.arguments import (
    A_MODEL,
    add_any_device,
    add_engine,
    add_prediction_arguments,
    add_score_threshold,
    folder,
    only_torch_can,
    prediction_options,
    refuse_for_export,
    tell,
)
from detnet.errors import InputError
from detnet.files import read_json
from detnet.text import count, duration

if TYPE_CHECKING:
    from detnet.inference.media import MediaFile
    from detnet.inference.models import AnyPredictor
    from detnet.inference.stream import PredictedImage

SHOWN = 5  # skipped files named in the summary
AGAIN = 8  # files looked at once more where nothing was sure enough
LEAST = 0.05  # score from which on they are, as an evaluation keeps what is found


@dataclass(frozen=True)
class PredictionSummary:
    """What `--json` prints.

    Args:
        images: how many were predicted on, frames of videos among them.
        objects: how many were found in them.
        skipped: files that were passed over.
        seconds: from the first image to the last.
        output: the folder.
        engine: what ran the network, and why.
        unsure: where none was sure enough, one line about how sure the surest is.
    """

    images: int
    objects: int
    skipped: list[str]
    seconds: float
    output: str
    engine: str
    unsure: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("model", metavar="MODEL", type=Path, help=A_MODEL)
    parser.add_argument(
        "paths", metavar="PATH", type=Path, nargs="+", help="image, video, or folder of them"
    )
    parser.add_argument(
        "--output", metavar="DIR", type=folder, required=True, help="where drawn copies and JSON go"
    )
    add_score_threshold(parser)
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=int,
        help="images at once (default: as many as an export was made for, else 1)",
    )
    add_any_device(parser)
    add_engine(parser)
    add_prediction_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Predicts on everything that was asked for and says what came of it."""
    if args.batch_size is not None and args.batch_size < 1:
        raise InputError(f"--batch-size must be 1 or more, got {args.batch_size}")

    from detnet.engine.memory import explaining_out_of_memory
    from detnet.inference.media import find_media
    from detnet.inference.stream import predict_files

    files, others = find_media(args.paths, args.output)
    replaced = _tell_replaced(args.output, [file.destination for file in files])
    predictor, choice = _load(args)
    if args.engine != "auto" or "runs in torch" not in choice:  # the rule is not worth a line
        tell(choice)
    if replaced:
        tell(replaced)
    start = time.monotonic()
    in_torch = hasattr(predictor, "device")
    at_once = args.batch_size or getattr(predictor, "batch", None) or 1
    remedy = "--batch-size 1 and --precision bf16 take" if in_torch else "an export in int8 takes"
    with (
        explaining_out_of_memory(getattr(predictor, "device", "cpu"), lambda: f"{remedy} less"),
        closing(predict_files(predictor, files, args.output, batch_size=at_once)) as predicted,
    ):
        total = None if any(file.video for file in files) else len(files)
        read, images, objects, skipped = _follow(predicted, total)
        seconds = time.monotonic() - start
        unsure = _tell_surest(predictor, read) if images and not objects else None
    summary = PredictionSummary(
        images=images,
        objects=objects,
        skipped=[*map(str, others), *skipped],
        seconds=round(seconds, 2),
        output=str(args.output),
        engine=choice,
        unsure=unsure,
    )
    print(json.dumps(asdict(summary)) if args.json else format_summary(summary))
    return 0


def _tell_replaced(output: Path, drawn: Sequence[Path]) -> str | None:
    """Says what an earlier call has left in the output folder, and what becomes of it."""
    if not (output / "predictions.json").is_file():
        return None
    before: Any = None
    with suppress(InputError):  # it is replaced, whatever it is
        before = read_json(output / "images.json")
    entries = [one for one in before if isinstance(one, dict)] if isinstance(before, list) else []
    names = [one["drawn"] for one in entries if isinstance(one.get("drawn"), str)]
    old = {output / name for name in names} - set(drawn)
    stay = sum(path.is_file() for path in old)
    rest = f"; {count(stay, 'file')} that it drew and this call does not will stay" if stay else ""
    return f"{output / 'predictions.json'} of an earlier call is replaced{rest}"


def _load(args: argparse.Namespace) -> tuple["AnyPredictor", str]:
    """Loads what predicts, and says what it runs in."""
    from detnet.inference.engines.record import is_export
    from detnet.inference.export.engine_choice import choose_engine
    from detnet.inference.models import load

    exported = is_export(args.model)  # runs without torch
    if exported:
        refuse_for_export(args)
    choice = choose_engine(
        args.model,
        args.engine,
        torch_only=None if exported else only_torch_can(args),
        device=args.device,
        precision=args.precision,
        least_score=args.score_threshold,
        tell=tell,
    )
    if choice.engine != "torch":
        device = args.device if exported else None
        found = load(choice.model, score_threshold=args.score_threshold, device=device)
        return found, str(choice)
    from detnet.engine.machine import choose_precision
    from detnet.engine.processor import keep_freed_memory
    from detnet.inference.predictor import usable_device

    keep_freed_memory()
    device = usable_device(args.device)
    found = load(
        choice.model,
        score_threshold=args.score_threshold,
        device=device,
        dtype=choose_precision(args.precision, device),
        options=prediction_options(args),
    )
    return found, str(choice)


def _follow(
    predicted: "Iterable[PredictedImage]", total: int | None
) -> tuple[list["MediaFile"], int, int, list[str]]:
    """Counts images and objects as they come, and tells the files read from those passed over."""
    from detnet.cli.progress import track

    images = objects = 0
    read: dict[MediaFile, None] = {}  # a video's once
    skipped = []
    for image in track(predicted, what="images", total=total):
        if image.problem is None:
            images += 1
            objects += image.objects
            read[image.file] = None
        else:
            skipped.append(str(image.file.path))
            print(f"detnet: skipped: {image.problem}", file=sys.stderr)
    return list(read), images, objects, skipped


def _tell_surest(predictor: "AnyPredictor", files: Sequence["MediaFile"]) -> str | None:
    """Looks at some files again with a low threshold: a model early in training is sure of nothing.

    Only where nothing was found, since asking each time would cost every run.
    """
    from detnet.inference.video import read_frames

    asked, export = predictor.score_threshold, getattr(predictor, "engine", None)
    least = max(LEAST, export.least_score if export else 0)
    if asked <= least:
        return None
    predictor.score_threshold = least
    some = files[:: -(-len(files) // AGAIN)]
    scores = [0.0]
    for file in some:
        image = next(iter(read_frames(file.path))).pixels if file.video else file.path
        scores += predictor.predict(image).scores.tolist()
    where = f" in {len(some)} of {len(files)} files" if len(some) < len(files) else ""
    if max(scores) < least:
        return f"none above {asked:g}, nor above {least:g}{where}"
    surest = math.floor(100 * max(scores)) / 100  # a threshold of this finds it
    return f"none above {asked:g}; the surest{where} is {surest:.2f} (--score-threshold)"


def format_summary(summary: PredictionSummary) -> str:
    """Says in one or two lines how much was found and what was passed over."""
    objects, images = count(summary.objects, "object", none="0"), count(summary.images, "image")
    lines = [f"{objects} in {images}: {summary.output} ({duration(summary.seconds)})"]
    if summary.unsure:
        lines.append(summary.unsure)
    skipped = summary.skipped
    if skipped:
        more = f" and {len(skipped) - SHOWN} more" if len(skipped) > SHOWN else ""
        lines.append(f"skipped {count(len(skipped), 'file')}: {', '.join(skipped[:SHOWN])}{more}")
    return "\n".join(lines)
