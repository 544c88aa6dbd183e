"""What a split's models are scored against: its file as it is, wherever that can be scored."""

from dataclasses import dataclass, replace
from typing import Any

from detnet.coco.annotations import Annotations, to_coco_dict
from detnet.data.folders import Split
from detnet.data.reading import load_annotations, read_checked
from detnet.data.scorable import make_scorable
from detnet.errors import InputError
from detnet.evaluation.normalise import AS_IT_IS, Truth, read_truth


@dataclass(frozen=True)
class Truths:
    """What is to be found, for each kind of evaluation that a model has.

    Args:
        segm, keypoints: None where the annotations were read without.
    """

    bbox: Truth
    segm: Truth | None = None
    keypoints: Truth | None = None

    def of(self, iou_type: str) -> Truth:
        """That of one kind, which must be there."""
        truth = {"bbox": self.bbox, "segm": self.segm, "keypoints": self.keypoints}[iou_type]
        assert truth is not None
        return truth


def load_scored(
    split: Split, *, unlabelled: bool = False, **options: Any
) -> tuple[Annotations, list[str], Truths]:
    """Reads a split once for both: what a detector is given of it, and what it is scored by.

    Args:
        unlabelled, options: of `load_annotations`.

    Returns:
        what `load_annotations` gives, and the ground truth.
    """
    raw = read_checked(split, unlabelled=unlabelled)
    annotations, repairs = load_annotations(split, raw=raw, unlabelled=unlabelled, **options)
    return annotations, repairs, make_truths(raw, annotations, repairs)


def make_truths(raw: dict[str, Any], annotations: Annotations, repairs: list[str]) -> Truths:
    """The ground truth of a file: as it is, else with the records mended that cannot be scored.

    Where even that cannot be scored, a box that reaches too far for an evaluator for instance, it
    is the annotations as they are trained on.

    Args:
        raw: the file's content, checked.
        annotations: what was made of it; with masks or keypoints, if these are to be scored, too.
        repairs: what was repaired in making them.
    """
    masks, keypoints = annotations.masks is not None, annotations.keypoints is not None
    if not raw["annotations"]:  # categories may lack the names of keypoints, which the model has
        return _read(to_coco_dict(annotations), annotations, AS_IT_IS)
    scorable = make_scorable(raw, masks=masks, keypoints=keypoints)
    taken = AS_IT_IS
    if scorable.repairs:
        count = f"{scorable.repaired:,} of {scorable.records:,} annotations"
        taken = f"repaired in {count}: {'; '.join(scorable.repairs)}"
    try:
        return _read(scorable.content, annotations, taken)
    except InputError:
        return trained_on(annotations, repairs)


def trained_on(annotations: Annotations, repairs: list[str] | None = None) -> Truths:
    """The annotations as they are trained on: boxes clipped to their image, and the like.

    Args:
        repairs: what `load_annotations` says that it has repaired.
    """
    what = f", repaired: {'; '.join(repairs)}" if repairs else ""
    return _read(to_coco_dict(annotations), annotations, f"as it is trained on{what}")


def _read(content: dict[str, Any], annotations: Annotations, taken: str) -> Truths:
    def read(iou_type: str) -> Truth:
        return replace(read_truth(content, iou_type=iou_type), taken=taken)

    return Truths(
        read("bbox"),
        read("segm") if annotations.masks is not None else None,
        read("keypoints") if annotations.keypoints is not None else None,
    )
