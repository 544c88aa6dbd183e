"""Evaluation of all val images, a hundred boxes and masks each, by one process and by several."""

import argparse
from typing import Any

from coco_parts.made import MadeData
from coco_parts.processes import crowd, table

Facts = dict[str, Any]
_DETECTIONS = 100  # of an image
_SHOWN = ("detect_s", "score_s", "write_s", "before_mb", "peak_mb", "others_peak_mb")


def measure_evaluation(made: MadeData, asked: argparse.Namespace) -> Facts:
    """What is found is made up; reading, pasting, gathering, scoring and writing are as ever."""
    told = {
        "val": str(made.val.annotations),
        "images": str(made.val.images),
        "detections": _DETECTIONS,
        "workers": 0,
    }
    facts: Facts = {"detections_per_image": _DETECTIONS}
    for count in dict.fromkeys((1, asked.processes)):
        with crowd("evaluation_process", count, told) as group:
            first, *others = group.heard()
        first["others_peak_mb"] = max((other["peak_mb"] for other in others), default=0)
        facts[f"{count} processes"] = first
        print(table(["", *_SHOWN], [[f"{count} processes", *(first[n] for n in _SHOWN)]]))
    return facts
