"""Exports a trained detector as a folder that runs without torch, checked against the model.

    detnet export runs/a --format openvino --output runs/a/exports/openvino-fp32
    detnet export runs/a --format openvino --precision int8 --data DATA --output small
    detnet export model.safetensors --format onnx --image-size 480 640 --batch 8 --output fixed

MODEL is a run folder or a .safetensors file. Precisions: fp32, fp16 and int8 of onnx, and bf16 of
openvino as well; int8 needs --data for its training images. Images may be of any size unless
--image-size fixes one. Before the folder is made the export is run beside the model in torch, on
drawn images or those of --data, there with the AP of both; a difference beyond the precision's
bounds is an error. docs/export.md tells the bounds, what the folder holds, and how to read it from
a program of your own. The folder is a MODEL to predict, evaluate and serve.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detnet.cli.arguments import tell
from detnet.errors import InputError
from detnet.text import count, percent, points, points_between

if TYPE_CHECKING:
    from detnet.inference.export.plan import ExportPlan
    from detnet.inference.export.writing import ExportData, Exported


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("model", metavar="MODEL", help="run folder or .safetensors file")
    parser.add_argument(
        "--format", choices=("onnx", "openvino"), required=True, help="what kind of network"
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "bf16", "int8"),
        default="fp32",
        help="of its weights and layers (default: fp32)",
    )
    parser.add_argument(
        "--data", metavar="DATA", help="data set folder, for int8 and to measure AP of both"
    )
    parser.add_argument(
        "--batch", metavar="N", type=int, default=1, help="images at once, fixed (default: 1)"
    )
    parser.add_argument(
        "--image-size",
        metavar="SIZE",
        nargs="+",
        default=["dynamic"],
        help="height and width of the network's input, or dynamic for any (default: dynamic)",
    )
    parser.add_argument(
        "--output", metavar="FOLDER", type=Path, required=True, help="folder to be made"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Exports, and says what checking found."""
    from detnet.inference.engines.record import check_precision

    check_precision(args.format, args.precision)
    size = _size(args.image_size)
    if args.precision == "int8" and not args.data:
        raise InputError(
            "--precision int8 needs --data DATA: each layer's range is found on training images"
        )
    from detnet.engine.memory import explaining_out_of_memory
    from detnet.engine.processor import keep_freed_memory
    from detnet.inference.export.plan import ExportPlan
    from detnet.inference.export.writing import export_model
    from detnet.inference.models import find_model

    keep_freed_memory()
    plan = ExportPlan(
        find_model(args.model), args.output, args.format, args.precision, args.batch, size
    )
    data = _read_data(plan, Path(args.data)) if args.data else None
    with explaining_out_of_memory("cpu", lambda: "a smaller --image-size or --batch takes less"):
        done = export_model(plan, data=data, tell=tell, track=_track)
    print(json.dumps(_to_json(done)) if args.json else format_export(done))
    return 0


def _size(words: list[str]) -> tuple[int, int] | None:
    if words == ["dynamic"]:
        return None
    if len(words) == 2 and all(word.isdecimal() and int(word) for word in words):
        return int(words[0]), int(words[1])
    raise InputError(
        f"--image-size {' '.join(words)}: give height and width in pixels, as 480 640, or dynamic"
    )


def _read_data(plan: "ExportPlan", data: Path) -> "ExportData":
    """Reads val with what is to be found, and for int8 the training images."""
    from detnet.data.folders import find_split
    from detnet.detectors import DETECTORS
    from detnet.detectors.files import read_info
    from detnet.inference.export.checking import CheckData
    from detnet.inference.export.writing import ExportData
    from detnet.training.detection.evaluate import load_for

    info = read_info(plan.model)
    masks = "masks" in DETECTORS[info.detector].targets
    splits = {}
    for name in ("train", "val") if plan.precision == "int8" else ("val",):
        _, annotations, truths = load_for(
            find_split(data, name), info.categories, masks=masks, categories_of=str(plan.model)
        )
        splits[name] = CheckData(annotations, truths)
    train = splits["train"].annotations if "train" in splits else None
    return ExportData(splits["val"], train)


def _track(images: Iterable[Any], total: int) -> Iterable[Any]:
    from detnet.cli.progress import track

    return track(images, what="images", total=total)


def _to_json(done: "Exported") -> dict[str, Any]:
    return {
        "folder": str(done.folder),
        "bytes": done.bytes,
        "seconds": done.seconds,
        "record": asdict(done.record),
        "check": asdict(done.check),
    }


def format_export(done: "Exported") -> str:
    """Says in some lines what was made, what it differs by, and how it ran."""
    check, record = done.check, done.record
    found = check.differences
    lines = [
        f"wrote {done.folder}: {record.detector} as {record.format} {record.precision}, "
        f"{done.bytes / 1e6:.1f} MB, in {done.seconds:.0f} s",
        f"ran as {check.runs_as}",
        f"against torch on {found.images} {check.pictures} images: {found.objects} objects, "
        f"{found.unmatched} without a partner (up to {check.bounds.unmatched:.0%}); scores differ "
        f"by {found.score:.4f} at most, boxes by {found.box:.2%} of their longer side",
    ]
    if "masks" in record.finds:
        lines[-1] += f", masks overlap by {found.mask:.3f} at least"
    if "keypoints" in record.finds:
        lines[-1] += f", keypoints by {found.keypoint:.2%} of their box"
    told_on = count(check.ap_images, "image")
    if check.other_images:
        told_on += f" (layers were chosen on {check.other_images} others)"
    for one in check.ap:
        ends = points_between((one.low, one.high), 2, none="")
        told = f"difference {points(one.difference, 2)}" + (f" ({ends})" if ends else "")
        lines.append(
            f"AP of {one.iou_type} on {told_on}: {percent(one.export, 2)}, "
            f"torch {percent(one.torch, 2)}, {told}"
        )
    if record.precision == "int8":
        lines.append(f"kept in fp32: {', '.join(record.kept_precise) or 'no further layers'}")
    return "\n".join(lines)
