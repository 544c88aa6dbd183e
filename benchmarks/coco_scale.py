"""Measures what COCO's size costs: 118,000 images, 860,000 objects with masks, 8 processes.

    python benchmarks/coco_scale.py --work /tmp/coco --images PICTURES
    python benchmarks/coco_scale.py --work /tmp/coco --parts start --dry-run

makes annotation files whose names point to a few hundred pictures (those in --images, else scenes
drawn here), and measures part by part; each prints a table and keeps a line in
results/coco_scale.jsonl. What a part found is in the folder --work, too: a run that was cut goes on
with the parts it lacks, and one that --parts names is measured again.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coco_parts.empty_steps import measure_steps
from coco_parts.evaluation import measure_evaluation
from coco_parts.imagenet import measure_imagenet
from coco_parts.loader import measure_loader
from coco_parts.made import MadeData, Size, make_data
from coco_parts.scorer import measure_scorer
from coco_parts.start import measure_start
from harness import keep, parse

from detnet.files import write_json

Facts = dict[str, Any]
# Each takes what was made and the options, prints a table and returns what is kept of it.
PARTS: dict[str, Callable[[MadeData, argparse.Namespace], Facts]] = {
    "start": measure_start,
    "loader": measure_loader,
    "steps": measure_steps,
    "evaluation": measure_evaluation,
    "scorer": measure_scorer,
    "imagenet": measure_imagenet,
}


def options() -> argparse.Namespace:
    """The options of all parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="folder to work in; by default one that goes")
    parser.add_argument("--images", type=Path, help="pictures to point to; by default drawn")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="by default all that are missing")
    parser.add_argument("--processes", type=int, default=8, help="%(default)s")
    parser.add_argument("--workers", type=int, default=2, help="of each process, %(default)s")
    parser.add_argument("--minutes", type=float, default=10.0, help="of steps, %(default)s")
    for name, value in vars(Size()).items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=value, help="%(default)s")
    return parse(parser)


def main() -> None:
    asked = options()
    with tempfile.TemporaryDirectory() as place:
        work = asked.work = asked.work or Path(place)
        os.environ["DETNET_CACHE"] = str(work / "cache")
        began = time.perf_counter()
        size = Size(asked.train_images, asked.objects, asked.val_images)
        made = make_data(work, size, asked.images)
        megabytes = made.train.annotations.stat().st_size / 1e6
        print(
            f"{size.train_images:,} images of {made.pictures} pictures, {size.objects:,} objects: "
            f"{megabytes:.0f} MB, ready in {time.perf_counter() - began:.0f} s",
            flush=True,
        )
        for name in asked.parts or PARTS:
            found = work / f"{name}.json"
            if found.is_file() and not asked.parts:
                print(f"{name}: measured before, see {found}")
                continue
            print(f"\n{name}", flush=True)
            facts = {"part": name, "processes": asked.processes, **vars(size)}
            facts |= PARTS[name](made, asked)
            write_json(found, keep("coco_scale", **facts))


if __name__ == "__main__":
    main()
