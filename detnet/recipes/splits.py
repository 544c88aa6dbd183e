"""What a detection run is trained and evaluated on, as its settings say. Needs no torch."""

from pathlib import Path

from detnet.data.folders import Split, find_split, find_splits
from detnet.errors import InputError
from detnet.recipes.config import TrainConfig

MASK_DETECTORS = ("mask_rcnn_fpn",)  # their data are read with the masks


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
        return find_splits(Path(config.data)).get("val") if config.data else None
    return _split(config, config.val_split, config.val_annotations, config.val_images)


def _split(config: TrainConfig, name: str, annotations: str | None, images: str | None) -> Split:
    if annotations:
        return find_split(Path(annotations), name, images=Path(images) if images else None)
    if not config.data:
        raise InputError("no data: give --data FOLDER, or --train-annotations and --train-images")
    return find_split(Path(config.data), name)
