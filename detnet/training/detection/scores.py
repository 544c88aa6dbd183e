"""What an evaluation of a detector found, and the files it leaves."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnet.data.folders import Split
from detnet.evaluation.coco import HEADLINE, KEYPOINT_HEADLINE
from detnet.evaluation.ground_truth import Truths
from detnet.evaluation.normalise import read_detections
from detnet.evaluation.results import write_results
from detnet.evaluation.submission import write_submission
from detnet.files import write_text
from detnet.training.detection.config import read_config
from detnet.training.detection.splits import find_val


@dataclass(frozen=True)
class Scores:
    """What one evaluation found.

    Args:
        bbox: the scores JSON for boxes.
        segm: that for masks, or None where the detector has none.
        results: detections in COCO's results format.
        keypoints: likewise for keypoints.
        voc: VOC's average precision as `score_voc` gives it, where it was asked for.
    """

    bbox: dict[str, Any]
    segm: dict[str, Any] | None
    results: list[dict[str, Any]]
    voc: dict[str, Any] | None = None
    keypoints: dict[str, Any] | None = None

    @property
    def headline(self) -> dict[str, float | None]:
        """The twelve COCO numbers for boxes, and those for masks as `segm_AP` …, the ten for
        keypoints as `keypoints_AP` …
        """
        numbers = {name: self.bbox[name] for name in HEADLINE}
        if self.segm is not None:
            numbers |= {f"segm_{name}": self.segm[name] for name in HEADLINE}
        if self.keypoints is not None:
            numbers |= {f"keypoints_{name}": self.keypoints[name] for name in KEYPOINT_HEADLINE}
        return numbers

    def to_json(self) -> dict[str, Any]:
        """One object: the scores for boxes, those for masks under "segm", for keypoints under
        "keypoints".
        """
        more = {"segm": self.segm, "keypoints": self.keypoints}
        return self.bbox | {name: scores for name, scores in more.items() if scores is not None}


def write_scores(scores: Scores, folder: Path) -> None:
    """Writes scores.json and results.json, and scores_voc07.json where that was measured."""
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder / "results.json", scores.results)
    write_text(folder / "scores.json", json.dumps(scores.to_json(), indent=1) + "\n")
    if scores.voc is not None:
        place = folder / f"scores_{scores.voc['metric']}.json"
        write_text(place, json.dumps(scores.voc, indent=1) + "\n")


def write_submissions(scores: Scores, truths: Truths, path: Path) -> list[Path]:
    """Writes the zip for boxes and, where there are masks or keypoints, NAME-segm.zip or
    NAME-keypoints.zip; returns their paths.
    """
    kinds = {"bbox": path}
    for kind, more in (("segm", scores.segm), ("keypoints", scores.keypoints)):
        if more is not None:
            kinds[kind] = path.with_name(f"{path.stem}-{kind}{path.suffix}")
    for iou_type, place in kinds.items():
        truth = truths.of(iou_type)
        results = scores.results
        if iou_type == "keypoints":  # objects of a category without any are none of the server's
            results = [record for record in results if "keypoints" in record]
        write_submission(place, truth, read_detections(results, truth, iou_type=iou_type))
    return list(kinds.values())


def place_of_scores(run: Path, split: Split) -> Path:
    """Where a run keeps scores: its own validation split's at the top, others' in a folder."""
    config = read_config(run / "config.yaml") if (run / "config.yaml").exists() else None
    own = find_val(config) if config else None
    if own is not None and own.files == split.files:
        return run / "evaluation"
    if split.lists:
        parts = [f"{path.parents[2].name}_{path.stem}" for path in split.files]
        return run / "evaluation" / "+".join(parts)
    data = split.annotations.resolve().parent
    data = data.parent if data.name in ("annotations", split.name, "valid") else data
    # A file given by its own name may stand beside others of the same data set.
    stem = split.annotations.stem
    named = split.name in stem or stem == "_annotations.coco"
    return run / "evaluation" / f"{data.name}-{split.name if named else stem}"
