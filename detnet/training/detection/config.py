"""The settings of a detection run, one flat, typed dataclass, and the splits that they name.

Nothing here imports torch: `detnet train --help` answers at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from detnet.data.folders import Split, find_split, find_splits
from detnet.errors import InputError
from detnet.kinds import require_not_negative, require_shares
from detnet.training.run_config import RunConfig

_INSTANCES, _PERSONS = "instances_", "person_keypoints_"  # COCO's files of one split


def _last(sizes: Any) -> Any:
    return sizes[-1] if isinstance(sizes, list) and sizes else sizes


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """Everything a detection run depends on; the defaults are DetNet's recipe for COCO.

    Args:
        data: data set folder, in COCO's, Roboflow's, VOC's or YOLO's layout.
        train_annotations: annotation file instead of the folder's own.
        train_images: image folder of the training annotations, where it is not beside them.
        val_annotations: annotation file to evaluate on.
        val_images: image folder of the annotations to evaluate on.
        outside_images: let annotations name images outside of the data set's folder.
        detector: name of a detector.
        norm: frozen, batch or sync batch norm; auto takes frozen with weights and sync from
            scratch.
        frozen: parts of the backbone held still, of stem, c2 …; the paper holds the stem when
            fine-tuning.
        detector_options: further options of the detector, as box_head, proposals, roi_levels.
        min_sizes: short side of training images in pixels; one of several is drawn per image.
        max_size: limit of the long side in pixels.
        test_min_size: short side in evaluation; the last of min_sizes by default.
        flip_vertical: probability of an upside-down image.
        aspect_grouping: batch wide images with wide ones and tall with tall.
        repeat_threshold: show images of classes rarer than this fraction of images more often; 0
            for never.
        skip_empty: leave images without objects out of training.
        val_loss: compute the losses on the evaluation split, too.

    Raises:
        InputError: a setting is out of its range.
    """

    followers = RunConfig.followers | {"test_min_size": ("min_sizes", _last)}
    train_annotations: str | None = None
    train_images: str | None = None
    val_annotations: str | None = None
    val_images: str | None = None
    outside_images: bool = False
    detector: str = "faster_rcnn_fpn"
    norm: Literal["auto", "frozen", "batch", "sync"] = "auto"
    frozen: list[str] = field(default_factory=list)
    detector_options: dict[str, Any] = field(default_factory=dict)
    min_sizes: list[int] = field(default_factory=lambda: [800])
    max_size: int = 1333
    test_min_size: int | None = None
    flip_vertical: float = 0.0
    aspect_grouping: bool = True
    repeat_threshold: float = 0.0
    skip_empty: bool = False
    val_loss: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.min_sizes or min(self.min_sizes) < 1:
            raise InputError(
                f"min_sizes must be one or more positive numbers, got {self.min_sizes}"
            )
        require_shares(self, "flip_vertical")
        require_not_negative(self, "repeat_threshold")

    @classmethod
    def fitting(cls, values: Mapping[str, Any], changes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Those of every run, without the options that another detector has not."""
        found = {**super().fitting(values, changes)}
        options = values.get("detector_options")
        another = changes.get("detector", values.get("detector")) != values.get("detector")
        if another and isinstance(options, Mapping):
            found["detector_options"] = fitting_options(options, str(changes["detector"]))
        return found

    def default_length(self) -> dict[str, float]:
        return {"iterations": 180_000}  # the paper's

    def places(self) -> tuple[str, ...]:
        annotated = ("train_annotations", "train_images", "val_annotations", "val_images")
        return ("data", *annotated, "weights")


def fitting_options(options: Mapping[str, Any], detector: str) -> dict[str, Any]:
    """Those of a file's options that another detector than the file's has, too.

    Raises:
        InputError: an unknown detector, with the nearest.
    """
    # Needs torch; only where a file's detector is changed.
    from detnet.detectors import DETECTORS, option_defaults

    DETECTORS.require(detector)
    known = option_defaults(detector)
    return {name: value for name, value in options.items() if name in known}


def find_train(config: TrainConfig) -> Split:
    """Finds what a run is trained on.

    Raises:
        InputError: the settings name no data, or they are not there.
    """
    return _split(config, config.train_split, config.train_annotations, config.train_images)


def find_val(config: TrainConfig) -> Split | None:
    """Finds what a run is evaluated on; None where it asks for none, or by default has none.

    Raises:
        InputError: a split that was asked for by another name than "val" is not there.
    """
    if config.val_split == "none":
        return None
    if not (config.val_annotations or config.val_images) and config.val_split == "val":
        there = find_splits(Path(config.data), outside=config.outside_images) if config.data else {}
        found = there.get("val")
        return _fitting(config, found) if found else None
    return _split(config, config.val_split, config.val_annotations, config.val_images)


def with_keypoints(split: Split) -> Split:
    """The split with the annotation file that has its keypoints, where that is another one.

    COCO keeps them in files of their own: beside instances_val2017.json, which has all categories,
    lies person_keypoints_val2017.json.
    """
    name = split.annotations.name
    beside = split.annotations.with_name(name.replace(_INSTANCES, _PERSONS, 1))
    if name.startswith(_INSTANCES) and not split.lists and beside.is_file():
        return replace(split, annotations=beside)
    return split


def _fitting(config: TrainConfig, split: Split) -> Split:
    other = with_keypoints(split)
    if other == split:
        return split
    # Needs torch, which most data do without.
    from detnet.detectors import DETECTORS

    return other if "keypoints" in DETECTORS[config.detector].targets else split


def _split(config: TrainConfig, name: str, annotations: str | None, images: str | None) -> Split:
    place = Path(images) if images else None
    if annotations:
        return find_split(Path(annotations), name, images=place, outside=config.outside_images)
    if not config.data:
        raise InputError("no data: give --data FOLDER, or --train-annotations and --train-images")
    found = find_split(Path(config.data), name, images=place, outside=config.outside_images)
    return _fitting(config, found)
