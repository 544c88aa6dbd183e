"""The pictures of a run's page: which images, and what of the evaluation is drawn over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from detnet.coco.annotations import Annotations
from detnet.coco.ground_truth import GroundTruths
from detnet.data.images import read_pixels
from detnet.evaluation.coco import Evaluation
from detnet.evaluation.diagnosis.outcomes import Outcomes
from detnet.evaluation.diagnosis.records import Diagnosis, ImageTally
from detnet.report.pictures import (
    LOWEST,
    MOST,
    MOST_SHAPES,
    GalleryPicture,
    LabelError,
    Mark,
    Skeleton,
    embed,
    make_mark,
    make_skeleton,
)

_CROP_SIDE = 260  # pixels
_CONTEXT = 1.9  # side of a cut over that of its box


@dataclass(frozen=True)
class EvaluatedSplit:
    """An evaluation with everything needed to draw it; rows are those of its columns.

    Args:
        annotations: of the split.
        truths: what it was evaluated against, with the rows of `evaluation.truth`.
        records: the results, whose rows are those of `evaluation.detections`.
        evaluation: of the boxes.
        outcomes: which rows belong together.
        diagnosis: of the same evaluation.
    """

    annotations: Annotations
    truths: GroundTruths
    records: Sequence[Mapping[str, Any]]
    evaluation: Evaluation
    outcomes: Outcomes
    diagnosis: Diagnosis

    def index(self, image_id: int) -> int:
        """Where the image stands in the annotations."""
        return int(np.nonzero(self.annotations.image_ids == image_id)[0][0])

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(read_pixels(self.annotations.image_path(index)))

    def objects(self, index: int) -> list[Mark]:
        """What is there; the score is that of the detection that found it."""
        truth, segm = self.evaluation.truth, self.truths.segm
        sides = self.annotations.sizes[index].tolist()
        scores = self.evaluation.detections.scores
        marks = []
        for row in np.flatnonzero(truth.images == self._position(index)).tolist():
            found_by = int(self.outcomes.found_by[row])
            label = int(truth.categories[row]) + 1
            marks.append(
                make_mark(
                    "truth" if self.outcomes.sought[row] else "crowd",
                    truth.boxes[row].tolist(),
                    sides,
                    name=truth.names[label - 1],
                    score=float(scores[found_by]) if found_by >= 0 else -1.0,
                    mask=segm.masks[row] if segm is not None and segm.masks else None,
                    skeleton=self._skeleton(label, self._keypoints(row), sides),
                )
            )
        return marks

    def found(self, index: int) -> list[Mark]:
        """What was detected, the surest last and with their masks and keypoints."""
        detections = self.evaluation.detections
        position = self._position(index)
        rows = np.nonzero((detections.images == position) & (detections.scores >= LOWEST))[0]
        rows = rows[np.argsort(detections.scores[rows], kind="stable")][-MOST:]
        names, sides = self.evaluation.truth.names, self.annotations.sizes[index].tolist()
        marks = []
        for rank, row in enumerate(rows[::-1].tolist()):
            shapes = self.records[row] if rank < MOST_SHAPES else {}
            label = int(detections.categories[row]) + 1
            marks.append(
                make_mark(
                    self._kind(row),
                    detections.boxes[row].tolist(),
                    sides,
                    name=names[label - 1],
                    score=float(detections.scores[row]),
                    mask=shapes.get("segmentation"),
                    skeleton=self._skeleton(label, shapes.get("keypoints"), sides),
                )
            )
        return marks[::-1]

    def _position(self, index: int) -> int:
        """Where the image stands in the evaluation."""
        ids = self.evaluation.truth.image_ids
        return int(np.searchsorted(ids, self.annotations.image_ids[index]))

    def _keypoints(self, row: int) -> np.ndarray | None:
        """(K, 3), an object's keypoints as its category has them."""
        truth = self.truths.keypoints
        if truth is None or truth.keypoints is None or truth.keypoint_counts is None:
            return None
        return truth.keypoints[row, : truth.keypoint_counts[truth.categories[row]]]

    def _skeleton(
        self, label: int, points: ArrayLike | None, sides: Sequence[int]
    ) -> Skeleton | None:
        """Of a label's own keypoints; None where there are none."""
        layout = self.annotations.keypoint_layout
        if layout is None or points is None:
            return None
        return make_skeleton(points, layout.own_edges(label), sides)

    def _kind(self, row: int) -> str:
        if self.outcomes.hit[row]:
            return "right"
        return "false" if self.outcomes.counted[row] else "ignored"


def choose_images(tallies: Mapping[str, ImageTally], count: int) -> dict[str, list[str]]:
    """Picks the images worth a look.

    Args:
        tallies: image id -> found, missed, false, AP50.
        count: how many images at most.

    Returns:
        image id -> the kinds it is shown as, of best, worst, missed and false; images that stand
        for none fill up, spread evenly.
    """
    ranked = _ranked(tallies)
    chosen: dict[str, list[str]] = {}
    for place in range(max(1, count // 3)):  # one of each kind in turn, so that none goes short
        for kind, keys in ranked.items():
            if place < len(keys) and (keys[place] in chosen or len(chosen) < count):
                chosen.setdefault(keys[place], []).append(kind)
    order = {kind: rank for rank, kind in enumerate(ranked)}
    chosen = dict(sorted(chosen.items(), key=lambda pair: order[pair[1][0]]))
    everything = list(tallies)
    even = np.linspace(0, max(0, len(everything) - 1), min(count, len(everything))).round()
    for at in even.astype(int).tolist():
        if len(chosen) < count:
            chosen.setdefault(everything[at], [])
    return chosen


def _ranked(tallies: Mapping[str, ImageTally]) -> dict[str, list[str]]:
    """Image ids by kind, those that show it most clearly first."""
    scored = {key: ap for key, tally in tallies.items() if (ap := tally["AP50"]) is not None}

    def errors(key: str) -> int:
        return int(tallies[key]["missed"] + tallies[key]["false"])

    def most(counts: Mapping[str, int]) -> list[str]:
        return sorted((key for key, count in counts.items() if count), key=lambda key: -counts[key])

    return {
        "best": sorted(
            (key for key in scored if tallies[key]["found"]),
            key=lambda key: (errors(key), -scored[key], -tallies[key]["found"]),
        ),
        "worst": sorted(
            (key for key in scored if errors(key)), key=lambda key: (scored[key], -errors(key))
        ),
        "missed": most({key: tally["missed"] for key, tally in tallies.items()}),
        "false": most({key: tally["false"] for key, tally in tallies.items()}),
    }


def make_pictures(evaluated: EvaluatedSplit, *, count: int) -> list[GalleryPicture]:
    """Embeds the images worth a look, with ground truth and detections over them.

    Raises:
        InputError: an image file is missing or damaged.
    """
    tallies = evaluated.diagnosis["images"]
    pictures = []
    for image_id, kinds in choose_images(tallies, count).items():
        index = evaluated.index(int(image_id))
        uri, size = embed(evaluated.image(index))
        average = tallies[image_id]["AP50"]
        pictures.append(
            GalleryPicture(
                name=evaluated.annotations.file_name(index),
                uri=uri,
                size=size,
                kinds=tuple(kinds),
                truths=evaluated.objects(index),
                found=evaluated.found(index),
                note="" if average is None else f"AP50 {100 * average:.0f}",
            )
        )
    return pictures


def make_label_errors(evaluated: EvaluatedSplit, *, count: int = 12) -> list[LabelError]:
    """Cuts out the places where the annotation is to be looked at."""
    cuts = []
    for suspect in evaluated.diagnosis["label_errors"][:count]:
        index = evaluated.index(int(suspect["image_id"]))
        image = evaluated.image(index)
        left, top, side = _window(suspect["box"], image.size)
        cut = image.crop((left, top, min(left + side, image.width), min(top + side, image.height)))
        found = make_mark(
            "false",
            suspect["box"],
            image.size,
            name=suspect["detected"],
            score=suspect["score"],
        )
        frame = (left / image.width, top / image.height, cut.width, cut.height)
        marks = [_within(mark, frame, image.size) for mark in [*evaluated.objects(index), found]]
        uri, size = embed(cut, side=_CROP_SIDE)
        labelled = suspect["labelled"]
        cuts.append(
            LabelError(
                title=f"{suspect['detected']} {100 * suspect['score']:.0f} %, "
                + (f"labelled {labelled}" if labelled else "nothing labelled"),
                file=evaluated.annotations.file_name(index),
                uri=uri,
                size=size,
                marks=[mark for mark in marks if _visible(mark)],
            )
        )
    return cuts


def _window(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int]:
    """A square around the box with some of its surroundings, moved into the image: x, y, side."""
    side = round(max(box[2], box[3], 32) * _CONTEXT)
    left = round(box[0] + box[2] / 2 - side / 2)
    top = round(box[1] + box[3] / 2 - side / 2)
    left = max(0, min(left, size[0] - side))
    return left, max(0, min(top, size[1] - side)), side


def _within(mark: Mark, frame: tuple[float, float, int, int], size: tuple[int, int]) -> Mark:
    """The mark in fractions of a cut instead of the whole image, without mask and keypoints."""
    left, top, width, height = frame
    across, down = size[0] / width, size[1] / height
    return Mark(
        kind=mark.kind,
        x=(mark.x - left) * across,
        y=(mark.y - top) * down,
        width=mark.width * across,
        height=mark.height * down,
        name=mark.name,
        score=mark.score,
    )


def _visible(mark: Mark) -> bool:
    return mark.x < 1 and mark.y < 1 and mark.x + mark.width > 0 and mark.y + mark.height > 0
