"""Detectors compared from what they left behind: run folders and results files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnet.evaluation.comparison.compare import compare
from detnet.evaluation.comparison.entries import Entry, find_entries
from detnet.evaluation.comparison.ground_truth import GroundTruth, find_ground
from detnet.evaluation.normalise import Detections, Truth, read_detections
from detnet.files import read_json


@dataclass(frozen=True)
class Compared:
    """A comparison and what it was made from.

    Args:
        comparison: of `detnet.evaluation.comparison.compare`, its pictures with their "file_name",
            and "sources", the results files.
        ground: the ground truth.
        results: of each detector.
    """

    comparison: dict[str, Any]
    ground: GroundTruth
    results: Sequence[Path | list[dict[str, Any]]]

    def detections(self, index: int) -> Detections:
        """Of one detector, as columns; its file is read once more."""
        return read_detections(
            self.results[index], self.ground.truth, iou_type=self.comparison["iou_type"]
        )


def compare_sources(
    sources: Sequence[Path],
    *,
    annotations: Path | None = None,
    images: Path | None = None,
    split: str = "val",
    iou_type: str = "bbox",
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Compared:
    """Compares runs and results files with the first of them.

    Args:
        sources: run folders and COCO results files, at least two.
        annotations: the ground truth; by default that of the first run.
        images: the folder of its images, if that is not beside it.
        split: of the runs' data, without `annotations`.
        options: of `detnet.evaluation.comparison.compare.compare`.

    Raises:
        InputError: a source cannot be used, or they are of different ground truth.
    """
    entries = find_entries(sources)
    ground, chosen = find_ground(entries, annotations, images, split, iou_type)
    results = [
        _records(entry, one.results, ground.truth, iou_type)
        for entry, one in zip(entries, chosen, strict=True)
    ]
    comparison = compare(
        ground.truth,
        results,
        names=[entry.name for entry in entries],
        iou_type=iou_type,
        progress=progress,
        **options,
    )
    names = ground.file_names
    for pair in comparison["pictures"]:
        for kind in ("only_first", "only_other"):
            pair[kind] = [
                {"image_id": one["image_id"], "file_name": names.get(one["image_id"]), **one}
                for one in pair[kind]
            ]
    notes = [
        f"{name}: {note}"
        for name, scores in zip(comparison["names"], comparison["scores"], strict=True)
        for note in scores.get("notes", ())
    ]
    if notes:
        comparison["notes"] = list(dict.fromkeys(notes))
    comparison["annotations"] = str(ground.path)
    comparison["sources"] = [str(one.results) for one in chosen]
    return Compared(comparison, ground, results)


def _records(entry: Entry, path: Path, truth: Truth, iou_type: str) -> Path | list[dict[str, Any]]:
    """A detector's results; of a run's masks or keypoints without boxes, as its evaluation scored
    them.

    A detection's size then is that of its mask, as in the ground truth, or of its keypoints.
    """
    if iou_type == "bbox" or not entry.is_run:
        return path
    read_detections(path, truth, iou_type=iou_type)  # says which file it is that cannot be used
    records = [{k: v for k, v in record.items() if k != "bbox"} for record in read_json(path)]
    return [record for record in records if iou_type == "segm" or "keypoints" in record]
