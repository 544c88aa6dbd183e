"""A search's scorer on 4,000 images to recalibrate on and all val images, its memory bounded."""

import argparse
from typing import Any

from coco_parts.made import MadeData
from coco_parts.processes import crowd, table

Facts = dict[str, Any]
_LIMITS_GB = (2.0, 0.5, 0.0)


def measure_scorer(made: MadeData, asked: argparse.Namespace) -> Facts:
    """Two candidates with memory for all images, for about half of them, and for none."""
    told = {
        "train": str(made.train.annotations),
        "val": str(made.val.annotations),
        "images": str(made.val.images),
        "recalibration_images": min(4000, asked.train_images),
        "threads": asked.workers,
    }
    facts: Facts = {}
    for limit_gb in _LIMITS_GB:
        with crowd("scorer_process", 1, told | {"limit_gb": limit_gb}) as group:
            (found,) = group.heard()
        facts[f"{limit_gb:g} GB"] = found
        print(table(["limit", *found], [[f"{limit_gb:g} GB", *found.values()]]), flush=True)
    return facts
