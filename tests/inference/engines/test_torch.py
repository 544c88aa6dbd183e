"""The engine around a predictor finds what the predictor finds, as numpy has it."""

import numpy as np
import pytest
import torch

from detnet.coco.masks import decode_masks
from detnet.detectors import create
from detnet.inference.engines.torch import TorchEngine
from detnet.inference.predictor import Predictor

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 30, "name": "dog"}]


def engine_of(detector: str, **options: object) -> TorchEngine:
    torch.manual_seed(0)
    model = create(
        detector,
        backbone="detnet59",
        num_classes=3,
        width=0.125,
        min_size=64,
        max_size=96,
        **options,
    )
    model.info.categories = CATEGORIES
    return TorchEngine(Predictor(model, score_threshold=0.9))


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    pixels = np.random.default_rng(0)
    return [pixels.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((60, 90), (70, 50))]


def test_objects_and_masks_are_the_predictors(images: list[np.ndarray]) -> None:
    engine = engine_of("mask_rcnn_fpn")
    found = engine.detect(images, score_threshold=0.05)
    assert engine.predictor.score_threshold == 0.05
    expected = engine.predictor.predict_batch(images)
    for seen, prediction in zip(found, expected, strict=True):
        assert len(seen) == len(prediction) >= 5
        assert type(seen.boxes) is type(seen.labels) is type(seen.scores) is np.ndarray
        assert (seen.boxes == prediction.boxes.numpy()).all()
        assert (seen.labels == prediction.labels.numpy()).all()
        assert (seen.scores == prediction.scores.numpy()).all()
        assert seen.masks is not None and prediction.masks is not None
        counts = [mask["counts"].encode() for mask in seen.masks]
        width, height = prediction.size
        assert (decode_masks(counts, height, width) == prediction.masks.numpy()).all()


def test_what_is_to_be_known(images: list[np.ndarray]) -> None:
    engine = engine_of("keypoint_rcnn_fpn", num_keypoints=3)
    assert (engine.name, engine.precision, engine.batch) == ("torch", "fp32", None)
    assert engine.runs_as.endswith(" on cpu") and engine.class_names == ("cat", "dog")
    assert engine.category_ids == (7, 30)
    found = engine.detect(images[:1], score_threshold=0.01)[0]
    assert found.masks is None and found.keypoints is not None
    assert found.keypoints.shape == (len(found), 3, 3) and len(found)
    assert engine.detect([], score_threshold=0.5) == []


@pytest.mark.parametrize("detector", ["retinanet", "ssd", "yolo"])
def test_network_size_is_what_the_transform_makes(detector: str, images: list[np.ndarray]) -> None:
    engine = engine_of(detector)
    model = engine.predictor.model
    for image in images:
        tensor = torch.from_numpy(image).permute(2, 0, 1)
        sizes = model.transform([tensor])[0].image_sizes
        assert engine.network_size(*image.shape[:2]) == sizes[0]
