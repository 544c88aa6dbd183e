"""From the start of eight processes to their first batch: seconds and memory."""

import argparse
import os
import shutil
import time
from pathlib import Path
from typing import Any

from coco_parts.made import MadeData
from coco_parts.processes import children, crowd, pss_mb, table

Facts = dict[str, Any]


def told_of(made: MadeData, asked: argparse.Namespace, what: str, **more: Any) -> Facts:
    """What a process is told."""
    return {
        "what": what,
        "beside": str(Path(__file__).parents[1]),
        "train": str(made.train.annotations),
        "val": str(made.val.annotations),
        "images": str(made.train.images),
        "processes": asked.processes,
        "workers": asked.workers,
        "began": time.time(),
        **more,
    }


def measure_start(made: MadeData, asked: argparse.Namespace) -> Facts:
    """Without what is kept and with it, for boxes and for masks."""
    cache = Path(os.environ["DETNET_CACHE"])
    count = asked.processes
    with crowd("training_process", count, told_of(made, asked, "imports")) as group:
        group.heard()
        imports_mb = sum(map(pss_mb, group.ids))
    print(f"{count} processes that import torch and torchvision: {imports_mb:.0f} MB")
    rows, facts = [], Facts({"imports_mb": round(imports_mb)})
    for masks in (False, True):
        shutil.rmtree(cache, ignore_errors=True)
        for state, workers in (("first", asked.workers), ("kept", asked.workers), ("kept", 0)):
            name = f"{'masks' if masks else 'boxes'} {state}, {workers} workers"
            told = told_of(made, asked, "first batch", masks=masks)
            facts[name] = _start_once(told | {"workers": workers}, imports_mb)
            rows.append([name, *facts[name].values()])
            print(table(["", *facts[name]], rows[-1:]), flush=True)
        kept = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
        facts[f"{'masks' if masks else 'boxes'}_kept_mb"] = round(kept / 1e6)
    print(table(["", *next(value for value in facts.values() if isinstance(value, dict))], rows))
    return facts


def _start_once(told: Facts, imports_mb: float) -> Facts:
    """Memory is that of the processes and their workers together, which share what they can."""
    with crowd("training_process", told["processes"], told) as group:
        found = group.heard()
        workers = [child for each in group.ids for child in children(each)]
        all_mb = sum(map(pss_mb, [*group.ids, *workers]))
    return {
        "first_batch_s": round(max(one["start_s"] for one in found), 1),
        "largest_process_mb": round(max(one["own_peak_mb"] for one in found)),
        "largest_reader_mb": round(max(one["reader_peak_mb"] for one in found)),
        "all_less_imports_mb": round(all_mb - imports_mb),
    }
