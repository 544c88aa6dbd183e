"""Times detectors on this machine: latency by stage, percentiles, memory, side by side.

    detnet bench runs/a
    detnet bench runs/a runs/b --data photos --repeats 50
    detnet bench runs/a --precision fp32 bf16 --output timed
    detnet bench runs/a runs/a-int8
    detnet bench runs/a --engine torch openvino

MODEL is a run folder, a .safetensors file or an exported folder. Several of them, or of precisions
or engines, run in turns, an image each, every one in a process of its own, and the ratio is to the
first. Images come from --data, any folder with images below it, or one is drawn. The first three
of each are not counted. With --output the numbers go into bench.json and a picture into bench.svg.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detnet.cli.arguments import (
    A_MODEL,
    ENGINE_CHOICES,
    add_any_device,
    add_score_threshold,
    folder,
    tell,
)
from detnet.errors import InputError
from detnet.text import lay_out

if TYPE_CHECKING:
    from detnet.inference.bench import BenchReport, TimedModel

MOST_IMAGES = 20
MEGABYTE = 1e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("models", metavar="MODEL", type=Path, nargs="+", help=A_MODEL)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="with images below it")
    parser.add_argument(
        "--image-size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="of the image that is drawn where there is no --data (default: 800 1216)",
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=("auto", "fp32", "bf16"),
        default=["auto"],
        help="of a network in torch, each is timed; auto is bf16 where the device is fast at it "
        "(default: auto)",
    )
    parser.add_argument(
        "--engine",
        nargs="+",
        choices=ENGINE_CHOICES,
        default=["auto"],
        help="what runs the network, each is timed; as `detnet predict` takes it (default: auto)",
    )
    add_any_device(parser)
    parser.add_argument(
        "--repeats", metavar="N", type=int, default=20, help="images of each (default: 20)"
    )
    add_score_threshold(parser)
    parser.add_argument(
        "--output", metavar="DIR", type=folder, help="where bench.json and bench.svg go"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Times the detectors and prints the tables."""
    _check(args)
    from detnet.files import make_writable, write_json, write_text
    from detnet.report.bench_chart import draw_bench

    with tempfile.TemporaryDirectory() as scratch:
        candidates, images = _candidates(args), _images(args, Path(scratch))
        if args.output:
            make_writable(args.output)
        report = _measure(candidates, images, args)
    facts = to_json(report)
    if args.output:
        write_json(args.output / "bench.json", facts)
        write_text(args.output / "bench.svg", draw_bench(report))
    print(json.dumps(facts) if args.json else format_bench(report))
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.repeats < 1:
        raise InputError(f"--repeats must be 1 or more, got {args.repeats}")
    if args.image_size and args.data:
        raise InputError("give --data, whose images have their sizes, or --image-size, not both")
    if args.image_size and min(args.image_size) < 1:
        raise InputError(f"--image-size must be 1 pixel or more, got {min(args.image_size)}")


def _candidates(args: argparse.Namespace) -> "list[TimedModel]":
    """Every model by every engine, those in torch in every precision; exports have their own."""
    from detnet.cli.inspect import names_of
    from detnet.inference.bench import TimedModel
    from detnet.inference.export.engine_choice import choose_engine

    found: list[TimedModel] = []
    for name, model in zip(names_of(args.models), args.models, strict=True):
        own = []
        for engine, precision in product(args.engine, args.precision):
            by_rule = engine == "auto"  # else what is asked of torch is for the others
            choice = choose_engine(
                model,
                engine,
                device=args.device if by_rule else "cpu",
                precision=precision if by_rule else "fp32",
                least_score=args.score_threshold,
                tell=tell,
            )
            in_torch = choice.engine == "torch"
            words = [name, *([choice.engine] if len(args.engine) > 1 else [])]
            words += [precision] if in_torch and len(args.precision) > 1 else []
            of_torch = precision if in_torch else "auto"
            own.append(TimedModel(" ".join(words), choice.model, of_torch, args.device))
        found += dict.fromkeys(own)  # an export would be there once for each precision
    return found


def _images(args: argparse.Namespace, folder: Path) -> list[Path]:
    """At most `MOST_IMAGES`, spread evenly over what there is."""
    from detnet.inference.bench import draw_image
    from detnet.inference.media import find_media

    if not args.data:
        drawn = folder / "drawn.jpg"
        draw_image(drawn, *(args.image_size or (800, 1216)))
        return [drawn]
    files, _ = find_media([args.data], folder)
    found = [file.path for file in files if not file.video]
    if not found:
        raise InputError(f"{args.data}: no image found")
    count = min(len(found), MOST_IMAGES)
    return [found[place * len(found) // count] for place in range(count)]


def _measure(
    candidates: "list[TimedModel]", images: list[Path], args: argparse.Namespace
) -> "BenchReport":
    from detnet.cli.progress import telling
    from detnet.inference.bench import time_detectors

    with telling("turns") as told:
        return time_detectors(
            candidates,
            images,
            turns=args.repeats,
            score_threshold=args.score_threshold,
            progress=told,
        )


def to_json(report: "BenchReport") -> dict[str, Any]:
    """Gives the report as `--json` prints it."""
    facts = asdict(report) | {"images": [path.name for path in report.images]}
    for timing, ratio in zip(facts["timings"], report.ratios, strict=True):
        candidate = timing.pop("candidate")
        timing |= candidate | {"model": str(candidate["model"]), "times_as_fast": ratio}
    del facts["ratios"]
    return facts


def format_bench(report: "BenchReport") -> str:
    """Lays out percentiles, stages and ratios, and says what they were measured on."""
    timings = report.timings
    rows: list[Sequence[str]] = [
        ("model", "p50 ms", "p90 ms", "p99 ms", "images/s", "objects", "memory MB", "ratio")
    ]
    for timing, ratio in zip(timings, report.ratios, strict=True):
        total, memory = timing.total, timing.memory_bytes
        rows.append(
            (
                timing.candidate.name,
                *(f"{value:.1f}" for value in (total.p50_ms, total.p90_ms, total.p99_ms)),
                f"{timing.images_per_s:.2f}",
                f"{timing.objects:g}",
                "–" if memory is None else f"{memory / MEGABYTE:,.0f}",
                f"{ratio:.2f}",
            )
        )
    names = dict.fromkeys(name for timing in timings for name in timing.stages)
    stages: list[Sequence[str]] = [("stage, p50 ms", *(t.candidate.name for t in timings))]
    for name in names:
        times = [timing.stages.get(name) for timing in timings]
        stages.append((name, *("–" if each is None else f"{each.p50_ms:.1f}" for each in times)))
    lines = [lay_out(rows, left={0}), "", lay_out(stages, left={0}), ""]
    lines += [f"{timing.candidate.name}: {timing.runs_as}" for timing in timings]
    busy = report.load_average
    lines.append(
        f"{report.turns} turns on {report.processors} processors"
        + ("" if busy is None else f", load average {busy:g}")
        + ("; others worked, too" if (busy or 0) > report.processors + 0.5 else "")
    )
    return "\n".join(lines)
