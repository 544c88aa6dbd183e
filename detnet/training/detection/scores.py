"""What an evaluation of a detector found, and the files it leaves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnet.data.folders import Split
from detnet.evaluation.coco import Scores
from detnet.evaluation.ground_truth import Truths
from detnet.evaluation.metrics import names_of, prefix
from detnet.evaluation.normalise import read_detections
from detnet.evaluation.results import write_results
from detnet.evaluation.submission import write_submission
from detnet.files import write_json
from detnet.training.detection.config import read_config
from detnet.training.detection.splits import find_val


@dataclass(frozen=True)
class DetectorScores:
    """What one evaluation of a detector found.

    Args:
        bbox: of boxes.
        results: detections in COCO's results format.
        segm, keypoints: of masks and keypoints, None where the detector has none.
        voc: VOC's average precision as `score_voc` gives it, where it was asked for.
    """

    bbox: Scores
    results: list[dict[str, Any]]
    segm: Scores | None = None
    keypoints: Scores | None = None
    voc: dict[str, Any] | None = None

    @property
    def kinds(self) -> list[Scores]:
        """Of boxes, and of masks or keypoints behind them."""
        return [one for one in (self.bbox, self.segm, self.keypoints) if one is not None]

    @property
    def headline(self) -> dict[str, float | None]:
        """The numbers of `METRICS`, those of masks as `segm_AP` …, of keypoints as
        `keypoints_AP` …
        """
        return {
            f"{prefix(scores.iou_type)}{name}": scores.headline[name]
            for scores in self.kinds
            for name in names_of(scores.iou_type)
        }

    def to_json(self) -> dict[str, Any]:
        """One object: the scores for boxes, those for masks under "segm", for keypoints under
        "keypoints".
        """
        more = {scores.iou_type: scores.to_json() for scores in self.kinds[1:]}
        return self.bbox.to_json() | more


def write_scores(scores: DetectorScores, folder: Path) -> None:
    """Writes scores.json and results.json, and scores_voc07.json where that was measured.

    Raises:
        InputError: a result holds NaN or infinity.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder / "results.json", scores.results)
    write_json(folder / "scores.json", scores.to_json())
    if scores.voc is not None:
        write_json(folder / f"scores_{scores.voc['metric']}.json", scores.voc)


def write_submissions(scores: DetectorScores, truths: Truths, path: Path) -> list[Path]:
    """Writes the zip for boxes and, where there are masks or keypoints, NAME-segm.zip or
    NAME-keypoints.zip; returns their paths.
    """
    kinds = [one.iou_type for one in scores.kinds]
    further = {kind: path.with_name(f"{path.stem}-{kind}{path.suffix}") for kind in kinds[1:]}
    places = {"bbox": path, **further}
    for iou_type, place in places.items():
        truth = truths.of(iou_type)
        results = scores.results
        if iou_type == "keypoints":  # objects of a category without any are none of the server's
            results = [record for record in results if "keypoints" in record]
        write_submission(place, truth, read_detections(results, truth, iou_type=iou_type))
    return list(places.values())


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
