"""Results packed as COCO's evaluation server takes them."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from detnet.coco.ground_truth import GroundTruth, GroundTruths
from detnet.errors import InputError
from detnet.evaluation.detections import Detections, read_detections
from detnet.evaluation.files import DetectorScores
from detnet.files import replacing

TEST_SET = "test-dev2017"
_AT_ONCE = 10_000  # records that are there at the same time
_SERVER_NAME = re.compile(r"(detections|person_keypoints)_[^_]+_.+_results")


def write_submissions(scores: DetectorScores, truths: GroundTruths, path: Path) -> list[Path]:
    """Writes the zip for boxes and, where there are masks or keypoints, NAME-segm.zip or
    NAME-keypoints.zip; returns their paths.
    """
    kinds = [one.iou_type for one in scores.kinds]
    further = {kind: path.with_name(f"{path.stem}-{kind}{path.suffix}") for kind in kinds[1:]}
    places = {"bbox": path, **further}
    for iou_type, place in places.items():
        truth = truths.of(iou_type)
        # Boxes go along with masks here, and give their size; objects of a category without
        # keypoints are none of the server's.
        results = scores.results
        if iou_type == "keypoints" and results.keypoint_counts is not None:
            results = results.pick(np.flatnonzero(results.keypoint_counts))
        write_submission(place, truth, read_detections(results, truth, iou_type=iou_type))
    return list(places.values())


def write_submission(path: Path | str, truth: GroundTruth, detections: Detections) -> str:
    """Writes the zip that COCO's test-dev server takes, whole or not at all.

    It holds one file, detections_test-dev2017_ALGORITHM_results.json, ALGORITHM being the zip's
    own name without its ending; a zip that is itself named like that gives the file its name. That
    of keypoints begins with person_keypoints. The records are in the order of their images, the
    best-scored first; they carry the ids of the ground truth's file, and masks or keypoints instead
    of boxes where `detections` has those: the server takes an object's size from the box where
    there is one.

    Returns:
        The name of the file in the zip.

    Raises:
        InputError: the name does not end in .zip, or its folder is not there.
        OSError: naming the file, if it cannot be written.
    """
    path = Path(path)
    check_submission(path)
    name = _name_inside(path, "detections" if detections.keypoints is None else "person_keypoints")
    order = np.lexsort([-detections.scores, detections.images])
    try:
        with (
            replacing(path) as beside,
            zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as file,
            file.open(name, "w", force_zip64=True) as inside,
        ):
            inside.write(b"[")
            for first in range(0, len(order), _AT_ONCE):
                records = _records(truth, detections, order[first : first + _AT_ONCE])
                text = json.dumps(records, separators=(",", ":"), allow_nan=False)
                inside.write(("," * bool(first) + text[1:-1]).encode())
            inside.write(b"]")
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    return name


def check_submission(path: Path | str) -> None:
    """Refuses a name that the server would refuse, or a place where nothing can be written, before
    the work that fills the file.

    Raises:
        InputError: the name does not end in .zip, the place is a folder, or is in none.
    """
    if Path(path).suffix != ".zip":
        raise InputError(f"{path}: a submission is a .zip file; name it {path}.zip")
    if Path(path).is_dir():
        raise InputError(f"{path}: is a folder, not a file to write the submission to")
    if not Path(path).parent.is_dir():
        raise InputError(f"{path}: there is no folder {Path(path).parent} to write it to; make it")


def _name_inside(path: Path, kind: str) -> str:
    if _SERVER_NAME.fullmatch(path.stem):
        return f"{path.stem}.json"
    algorithm = re.sub(r"[^A-Za-z0-9.-]+", "-", path.stem).strip("-") or "detnet"
    return f"{kind}_{TEST_SET}_{algorithm}_results.json"


def _records(truth: GroundTruth, detections: Detections, order: np.ndarray) -> list[dict[str, Any]]:
    """The detections at these places as COCO results."""
    found: list[Any]
    if detections.keypoints is not None and truth.keypoint_counts is not None:
        counts = truth.keypoint_counts[detections.categories]
        points = detections.keypoints
        field, found = "keypoints", [points[i, : counts[i]].ravel().tolist() for i in order]
    elif detections.masks is None:
        field, found = "bbox", detections.boxes[order].tolist()
    else:
        field, found = "segmentation", [_text(detections.masks[i]) for i in order]
    rows = zip(
        truth.image_ids[detections.images[order]].tolist(),
        truth.category_ids[detections.categories[order]].tolist(),
        found,
        detections.scores[order].tolist(),
        strict=True,
    )
    names = ("image_id", "category_id", field, "score")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _text(mask: dict[str, Any]) -> dict[str, Any]:
    """A compressed mask whose counts are text, as JSON needs them."""
    counts = mask["counts"]
    return {**mask, "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}
