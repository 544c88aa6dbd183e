"""Finds what is wrong with a data set before it is trained on, and counts what is in it.

    detnet check DATA
    detnet check DATA --split train val --json
    detnet check --annotations boxes.json --images photos

DATA is a folder in COCO layout (annotations/instances_SPLIT*.json with images in SPLIT*/ or
images/), in Roboflow's (SPLIT/_annotations.coco.json), in VOC's (a VOCdevkit, or one year of it) or
in YOLO's (data.yaml, or classes.txt with labels/). All that is wrong is told, not the first alone.
Errors stop training; warnings are repaired or tolerated by it; the rest is only said. The exit code
is 1 when there are errors, and 2 when there is no data to check.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detnet.text import count, lay_out

if TYPE_CHECKING:
    from detnet.coco.records import Problem
    from detnet.data.check import Report

_SHOWN = 3  # records of a kind, and
_CLASSES = 20  # classes listed without --all
_HEADINGS = {"error": "Errors", "warning": "Warnings", "info": "Remarks"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("data", metavar="DATA", nargs="?", type=Path, help="folder of the data set")
    parser.add_argument(
        "--annotations", type=Path, metavar="FILE", help="a COCO file, without DATA"
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="the images of --annotations")
    parser.add_argument(
        "--split", nargs="+", metavar="SPLIT", help="train, val, test (default: all there are)"
    )
    parser.add_argument(
        "--no-images", action="store_true", help="check the annotations only, open no image"
    )
    parser.add_argument("--all", action="store_true", help="list every record and class")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints the report; 1 when it has errors."""
    from detnet.cli.progress import telling

    with telling("images read") as tell:
        report = _check(args, tell)
    if args.json:
        print(json.dumps(report.to_json()))
    else:
        print(format_report(report, root=args.data, everything=args.all))
    return 1 if report.count("error") else 0


def _check(args: argparse.Namespace, tell: Callable[[int, int], None]) -> "Report":
    from detnet.data.check import check, check_splits
    from detnet.data.folders import find_split
    from detnet.errors import InputError

    file = args.annotations
    if file is None and args.data is not None and args.data.is_file():
        file = args.data
    elif (file is None) == (args.data is None):
        raise InputError("give either DATA or --annotations FILE; see `detnet check --help`")
    if file is None and args.images is not None:
        raise InputError("--images goes with --annotations FILE; DATA has its own images")
    if file is None:
        options = {"splits": args.split, "images": not args.no_images}
        return check(args.data, progress=tell, **options)
    if args.split:
        raise InputError("--split is one of DATA's; an annotation file is checked as it is")
    if not file.is_file():
        raise InputError(f"{file}: no such annotation file")
    split = find_split(file, file.stem, images=file.parent if args.no_images else args.images)
    return check_splits([split], progress=tell, images=not args.no_images)


def format_report(report: "Report", *, root: Path | None = None, everything: bool = False) -> str:
    """Lays out statistics and problems as text.

    Args:
        root: files are named from here.
        everything: list every record and class, not the first of each.
    """
    splits = report.statistics.get("splits", {})
    lines = [*_sources(splits, root), *_statistics(splits, everything)]
    for severity, heading in _HEADINGS.items():
        kinds: dict[str, list[Problem]] = {}
        for problem in report.problems:
            if problem.severity == severity:
                kinds.setdefault(problem.code, []).append(problem)
        if kinds:
            lines += [heading, ""]
        for code, problems in kinds.items():
            lines.append(f"  {code}: {len(problems):,}")
            shown = problems if everything else problems[:_SHOWN]
            lines += [f"    {_line(problem, root)}" for problem in shown]
            if len(shown) < len(problems):
                lines.append(f"    … and {len(problems) - len(shown):,} more (--all lists them)")
            lines.append("")
    counts = [count(report.count("error"), "error"), count(report.count("warning"), "warning")]
    return "\n".join([*lines, ", ".join([*counts, count(report.count("info"), "remark")])])


def _line(problem: "Problem", root: Path | None) -> str:
    return _plain(_from(root, problem.file), problem.record, problem.message)


def _from(root: Path | None, name: str) -> str:
    inside = root is not None and Path(name) != root and Path(name).is_relative_to(root)
    return str(Path(name).relative_to(root)) if root is not None and inside else name


def _plain(*parts: str) -> str:
    text = ": ".join(filter(None, parts))
    return "".join(char if char.isprintable() else "?" for char in text)  # names hold anything


def _sources(splits: dict[str, Any], root: Path | None) -> list[str]:
    """Says what was found in the folder, which may be another than was meant."""
    lines = []
    for name, split in splits.items():
        source, images = split["source"], split["source"]["images"]
        files = ", ".join(_from(root, file) for file in source["files"])
        below = f", images in {_from(root, images)}" if Path(images) != root else ""
        lines.append(_plain(name, f"{files} ({source['format']}){below}"))
    return [*lines, ""] if lines else []


def _statistics(splits: dict[str, Any], everything: bool) -> list[str]:
    if not splits:
        return []
    table: list[Sequence[str]] = [("", *splits)]
    for title, amount in (
        ("images", lambda s: s["images"]),
        ("  without annotations", lambda s: s["images_without_annotations"]),
        ("annotations", lambda s: s["annotations"]),
        ("  crowds", lambda s: s["crowds"]),
        ("  small (area < 32²)", lambda s: s["objects_by_size"]["small"]),
        ("  medium", lambda s: s["objects_by_size"]["medium"]),
        ("  large (area ≥ 96²)", lambda s: s["objects_by_size"]["large"]),
        ("  most in one image", lambda s: s["boxes_per_image"]["max"]),
    ):
        table.append((title, *(f"{amount(split):,}" for split in splits.values())))
    for side in ("width", "height"):
        cells = (_spread(split["image_sizes"][side]) for split in splits.values())
        table.append((f"image {side}", *cells))
    names = list(dict.fromkeys(name for split in splits.values() for name in split["per_class"]))
    none = {"annotations": 0, "images": 0}
    counts = {name: [s["per_class"].get(name, none) for s in splits.values()] for name in names}
    names.sort(key=lambda name: -sum(cell["annotations"] for cell in counts[name]))
    shown = names if everything else names[:_CLASSES]
    classes: list[Sequence[str]] = [("annotations (images) of class", *splits)]
    classes += [
        (f"  {name}", *(f"{c['annotations']:,} ({c['images']:,})" for c in counts[name]))
        for name in shown
    ]
    lines = [lay_out(table, left={0}), "", lay_out(classes, left={0})]
    if len(shown) < len(names):
        lines.append(f"  … and {len(names) - len(shown):,} rarer classes (--all lists them)")
    return [*lines, ""]


def _spread(side: dict[str, int] | None) -> str:
    if side is None:
        return "-"
    if side["min"] == side["max"]:
        return str(side["min"])
    return f"{side['min']}…{side['median']}…{side['max']}"
