"""What a detection run works on: its data, and the network of its settings."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from detnet.coco.annotations import Annotations, require_images
from detnet.coco.categories import Categories
from detnet.coco.ground_truth import GroundTruths
from detnet.coco.keypoints import KeypointLayout
from detnet.coco.scorable import AS_IT_IS
from detnet.data.batches import TrainBatches
from detnet.data.dataset import DetectionDataset
from detnet.data.folders import Split
from detnet.data.reading import fingerprint_files, load_annotations, load_scored
from detnet.data.transforms import Augmentation
from detnet.detectors import DETECTORS, create
from detnet.detectors.base import Detector, info_of
from detnet.engine.distributed import Process
from detnet.errors import InputError
from detnet.training.detection.config import TrainConfig, find_train, find_val


@dataclass(frozen=True)
class DetectionData:
    """The data of a run.

    Args:
        train, val: annotations; `val` is None where the data set has no such split.
        truths: what is to be found on `val`.
        notes: one line for each thing that was repaired or left out.
        fingerprint: of the training annotations, by which a resumed run knows its data again.
        split: where `val` comes from.
    """

    train: Annotations
    val: Annotations | None
    notes: list[str]
    fingerprint: str
    truths: GroundTruths | None = None
    split: Split | None = None

    def file_names(self, image_ids: Iterable[int]) -> list[str]:
        """The training images with these ids."""
        places = {int(image_id): index for index, image_id in enumerate(self.train.image_ids)}
        return [self.train.file_name(places[image_id]) for image_id in image_ids]


def load_data(config: TrainConfig) -> DetectionData:
    """Reads the annotations of both splits and repairs what is safe.

    Raises:
        InputError: no such data, errors in it, missing images, or other categories in val.
    """
    targets = DETECTORS[config.detector].targets
    masks, keypoints = "masks" in targets, "keypoints" in targets
    split = find_train(config)
    train, repairs = load_annotations(
        split, masks=masks, keypoints=keypoints, keep_empty=not config.skip_empty
    )
    if not len(train):
        with_objects = " with objects" if config.skip_empty else ""
        raise InputError(f"{split.annotations}: has no images{with_objects} to train on")
    require_images(train)
    notes = [f"{split.name}: {repair}" for repair in repairs]
    val, truths, split_val = None, None, find_val(config)
    if split_val is not None:
        val, repairs, truths = load_scored(
            split_val,
            masks=masks,
            keypoints=keypoints,
            categories=train.categories,
            layout=train.keypoint_layout,
            categories_of=str(split.annotations),
        )
        require_images(val)
        notes += [f"{split_val.name}: {repair}" for repair in repairs]
        if repairs or truths.bbox.taken != AS_IT_IS:
            notes.append(f"{split_val.name}: ground truth of its scores: {truths.bbox.taken}")
    else:
        notes.append("no validation split: nothing is evaluated, no best model is kept")
    return DetectionData(train, val, notes, fingerprint_files(split), truths, split_val)


def make_dataset(config: TrainConfig, annotations: Annotations) -> DetectionDataset:
    """The training split with the run's augmentation."""
    transform = Augmentation(
        min_sizes=tuple(config.min_sizes),
        max_size=config.max_size,
        flip_h=config.flip,
        flip_v=config.flip_vertical,
        color_jitter=config.color_jitter,
    )
    return DetectionDataset(
        annotations,
        transform,
        seed=config.seed,
        masks=annotations.masks is not None,
        keypoints=annotations.keypoints is not None,
    )


def make_batches(config: TrainConfig, annotations: Annotations, process: Process) -> TrainBatches:
    """Deals the training images out to processes and accumulated batches.

    Raises:
        InputError: the batch cannot be divided.
    """
    return TrainBatches(
        annotations,
        batch_size=config.batch_of(process.world_size),
        seed=config.seed,
        aspect_grouping=config.aspect_grouping,
        repeat_threshold=config.repeat_threshold,
        rank=process.rank,
        world_size=process.world_size,
    )


def build_detector(
    config: TrainConfig, categories: Categories, layout: KeypointLayout | None = None
) -> Detector:
    """Builds the detector that the settings describe, its weights drawn at random.

    Raises:
        InputError: an unknown name or option.
    """
    options: dict[str, Any] = {
        "width": config.width,
        "stride_in": config.stride_place,
        "norm": "sync" if config.norm == "auto" else config.norm,
        "frozen": tuple(config.frozen),
        "min_size": config.test_min_size or config.min_sizes[-1],
        "max_size": config.max_size,
        "backbone_options": config.backbone_options,
    }
    if twice := next((name for name in config.detector_options if name in options), None):
        own = "test_min_size" if twice == "min_size" else twice
        raise InputError(f"detector_options: {twice} is a setting of its own: give {own}")
    options |= config.detector_options
    if layout is not None and options.setdefault("num_keypoints", len(layout)) != len(layout):
        given = options["num_keypoints"]
        raise InputError(f"detector_options: num_keypoints is {given}, the data have {len(layout)}")
    try:
        model = create(
            config.detector,
            backbone=config.backbone,
            num_classes=len(categories) + 1,
            **options,
        )
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"detector_options: {error}") from error
    info_of(model).categories = layout.to_json(categories) if layout else categories.to_json()
    return model
