"""What an evaluation of a detector found, and the files it leaves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnet.data.folders import Split
from detnet.errors import InputError
from detnet.evaluation.coco import Scores
from detnet.evaluation.metrics import names_of, prefix
from detnet.evaluation.results import Results, join_results, write_results
from detnet.evaluation.voc import VocScores
from detnet.files import read_json, write_json


@dataclass(frozen=True)
class DetectorScores:
    """What one evaluation of a detector found.

    Those that were read from scores.json come without results and VOC's measure.

    Args:
        bbox: of boxes.
        results: the detections; none on other processes than the main one.
        segm, keypoints: of masks and keypoints, None where the detector has none.
        voc: VOC's average precision as `score_voc` gives it, where it was asked for.
        split: what it was evaluated on, where that is a split of a data set.
        images: how many it was evaluated on.
    """

    bbox: Scores
    results: Results
    segm: Scores | None = None
    keypoints: Scores | None = None
    voc: VocScores | None = None
    split: Split | None = None
    images: int = 0

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
        """One object: the scores for boxes, the split under "data", the scores for masks under
        "segm", for keypoints under "keypoints".
        """
        more = {scores.iou_type: scores.to_json() for scores in self.kinds[1:]}
        data = {"data": self.split.to_json()} if self.split else {}
        return self.bbox.to_json() | data | more


def write_scores(scores: DetectorScores, folder: Path) -> None:
    """Writes scores.json and results.json, and scores_voc07.json where that was measured.

    Raises:
        InputError: a result holds NaN or infinity.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder / "results.json", scores.results)
    write_json(folder / "scores.json", scores.to_json())
    if scores.voc is not None:
        write_json(folder / f"scores_{scores.voc.metric}.json", scores.voc.to_json())


def read_scores(folder: Path) -> DetectorScores:
    """Reads the scores.json that `write_scores` left.

    Raises:
        InputError: there is none, it is damaged, of a classifier, or of another version.
    """
    file = folder / "scores.json"
    content = read_json(file)
    if not isinstance(content, dict) or "top1" in content:
        raise InputError(f"{file}: holds no scores of a detector")
    if "data" not in content:
        raise InputError(f"{file}: tells not what it was scored on; evaluate again")
    try:
        bbox, segm, keypoints = (
            Scores.from_json(of_kind) if of_kind else None
            for of_kind in (content, content.get("segm"), content.get("keypoints"))
        )
        assert bbox is not None
        return DetectorScores(
            bbox, join_results([]), segm, keypoints, split=Split.from_json(content["data"])
        )
    except (InputError, KeyError, TypeError) as error:
        raise InputError(f"{file}: {error}") from error
