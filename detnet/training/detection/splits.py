"""What a detection run is trained and evaluated on, as its settings say. Needs no torch."""

from dataclasses import replace
from pathlib import Path

from detnet.data.folders import Split, find_split, find_splits
from detnet.errors import InputError
from detnet.training.detection.config import TrainConfig

_INSTANCES, _PERSONS = "instances_", "person_keypoints_"  # COCO's files of one split


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
    if not config.val_annotations and config.val_split == "val":
        found = _val(config) if config.data else None
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
    if annotations:
        place = Path(images) if images else None
        return find_split(Path(annotations), name, images=place, outside=config.outside_images)
    if not config.data:
        raise InputError("no data: give --data FOLDER, or --train-annotations and --train-images")
    found = find_split(Path(config.data), name, outside=config.outside_images)
    return _fitting(config, found)


def _val(config: TrainConfig) -> Split | None:
    return find_splits(Path(config.data), outside=config.outside_images).get("val")
