"""From the start of eight processes to the first batch of ImageNet's 1.28 million files."""

import argparse
import os
import shutil
import time
from itertools import islice
from pathlib import Path
from typing import Any

from coco_parts.made import MadeData
from coco_parts.processes import children, crowd, pss_mb, table
from coco_parts.start import told_of

FILES, CLASSES = 1_281_167, 1_000
_PICTURES = 400  # different ones; a file may not have more than some ten thousand names


def measure_imagenet(made: MadeData, asked: argparse.Namespace) -> dict[str, Any]:
    """With the listing to be made, and with the one that is kept."""
    began = time.perf_counter()
    folder = asked.work / "imagenet"
    _write(folder, made.train.images)
    print(f"{FILES:,} names of {_PICTURES} pictures, ready in {time.perf_counter() - began:.0f} s")
    with crowd("training_process", asked.processes, told_of(made, asked, "imports")) as group:
        group.heard()
        imports_mb = sum(map(pss_mb, group.ids))
    shutil.rmtree(Path(os.environ["DETNET_CACHE"]) / "listings", ignore_errors=True)
    facts, rows = {"imports_mb": round(imports_mb), "files": FILES}, []
    for state in ("first", "kept"):
        told = told_of(made, asked, "imagenet", folder=str(folder))
        with crowd("training_process", asked.processes, told) as group:
            found = group.heard()
            everyone = [each for main in group.ids for each in (main, *children(main))]
            all_mb = sum(map(pss_mb, everyone))
        one = {
            "first_batch_s": round(max(one["start_s"] for one in found), 1),
            "listing_s": round(max(one["read_s"] for one in found), 2),
            "largest_process_mb": round(max(one["own_peak_mb"] for one in found)),
            "all_less_imports_mb": round(all_mb - imports_mb),
        }
        facts |= {f"{state} {name}": value for name, value in one.items()}
        rows.append([state, *one.values()])
    print(table(["", *one], rows))
    return facts


def _write(folder: Path, pictures: Path) -> None:
    """Names of a few pictures in class folders; the last folder is renamed when all are there."""
    if (folder / "train").is_dir():
        return
    own, beside = folder / "pictures", folder / "part"
    shutil.rmtree(beside, ignore_errors=True)
    own.mkdir(parents=True, exist_ok=True)
    files = []
    for path in islice(sorted(pictures.glob("*.jpg")), _PICTURES):
        files.append(shutil.copyfile(path, own / path.name))
    for label in range(CLASSES):
        place = beside / f"n{label:08d}"
        place.mkdir(parents=True)
        for number in range(label, FILES, CLASSES):
            os.link(files[number % len(files)], place / f"{place.name}_{number}.JPEG")
    beside.rename(folder / "train")
