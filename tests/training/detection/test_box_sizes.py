"""Training boxes: clusters, sizes after resizing, levels, and the anchors that a run keeps."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detnet.data.transforms import resized_shape
from detnet.detectors.files import load_model
from detnet.errors import InputError
from detnet.training.detection import train as detect
from detnet.training.detection.box_sizes import (
    cluster,
    tell_levels,
    training_sizes,
    with_anchors,
)
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.model_and_data import build_detector, load_data

CENTRES = np.array([[10.0, 12.0], [60.0, 20.0], [25.0, 80.0], [120.0, 110.0], [300.0, 200.0]])


@pytest.fixture
def yolo(tiny: TrainConfig) -> TrainConfig:
    return replace(tiny, detector="yolo", detector_options={})


def clusters() -> np.ndarray:
    """Thirty boxes within three percent of each of five sizes, in no order."""
    generator = np.random.default_rng(5)
    spread = generator.uniform(0.97, 1.03, (30, 5, 2))
    return generator.permutation((CENTRES * spread).reshape(-1, 2))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_obvious_clusters_are_found(seed: int) -> None:
    found, overlap = cluster(clusters(), 5, seed=seed)
    np.testing.assert_allclose(found, CENTRES, rtol=0.02)  # small to large
    assert overlap > 0.95
    again, _ = cluster(clusters(), 5, seed=seed)
    np.testing.assert_array_equal(found, again)


def test_large_boxes_do_not_outweigh_small_ones() -> None:
    """By plain distances the large boxes, 40 pixels apart, would part before the small ones."""
    small = np.array([[10.0, 10.0]] * 10 + [[30.0, 10.0]] * 10)
    large = np.array([[400.0, 400.0]] * 10 + [[440.0, 440.0]] * 10)
    found, _ = cluster(np.concatenate([small, large]), 3, seed=0)
    np.testing.assert_allclose(found, [[10, 10], [30, 10], [420, 420]])


def test_fewer_sizes_than_clusters() -> None:
    found, overlap = cluster(np.array([[20.0, 10.0]] * 4 + [[5.0, 5.0]]), 5, seed=0)
    assert found.tolist() == [[5.0, 5.0], [20.0, 10.0]] and overlap == 1.0


@pytest.mark.parametrize("resize", ["aspect", "square"])
def test_sizes_are_those_after_resizing(yolo: TrainConfig, resize: str) -> None:
    """Scenes of 160×120 at short sides 60 and 96, the latter limited by the long one's 110."""
    config = replace(yolo, min_sizes=[60, 96], max_size=110, detector_options={"resize": resize})
    train = load_data(config).train
    assert set(map(tuple, train.sizes.tolist())) == {(160, 120)}
    own = (train.boxes[:, 2:] - train.boxes[:, :2]).astype(np.float64)
    expected = []
    for min_size in (60, 96):
        height, width = resized_shape(120, 160, min_size=min_size, max_size=110)
        side = (height, height) if resize == "square" else (width, height)
        expected.append(own * np.array(side) / [160, 120])
    square = build_detector(config, train.categories).transform.square
    found = training_sizes(config, train, square=square)
    np.testing.assert_allclose(found, np.concatenate(expected))


def test_given_anchors_and_other_detectors_are_left_alone(yolo: TrainConfig) -> None:
    train = load_data(yolo).train
    given = replace(yolo, detector_options={"anchor_sizes": [[30, 60]]})
    other = replace(yolo, detector="retinanet")
    for config in (given, other):
        assert with_anchors(config, train) == (config, [])


def test_nothing_to_find_them_by(scenes: Path, yolo: TrainConfig, tmp_path: Path) -> None:
    truth = json.loads((scenes / "annotations" / "instances_train.json").read_text())
    path = tmp_path / "empty.json"
    path.write_text(json.dumps({**truth, "annotations": []}))
    config = replace(yolo, train_annotations=str(path), train_images=str(scenes / "train"))
    with pytest.raises(
        InputError, match="no objects to find anchors by.*detector_options.anchor_sizes"
    ):
        with_anchors(config, load_data(config).train)


@pytest.mark.parametrize(
    ("detector", "options", "expected"),
    [
        ("faster_rcnn_fpn", {}, "p2 100%, p3 0%, p4 0%, p5 0%"),
        (
            "mask_rcnn_fpn",
            {"roi_canonical_size": 14},
            "p2 0%, p3 0%, p4 {0:.0%}, p5 {1:.0%}",
        ),
        ("fcos", {}, "p3 100%, p4 0%, p5 0%, p6 0%, p7 0%"),
    ],
)
def test_levels_that_find_the_training_boxes(
    tiny: TrainConfig, detector: str, options: dict, expected: str
) -> None:
    config = replace(tiny, detector=detector, detector_options=options)
    train = load_data(config).train
    (line,) = tell_levels(build_detector(config, train.categories), config, train)
    sizes = training_sizes(config, train, square=False)
    over = float((sizes.prod(1) >= 28**2).mean())  # P5 begins there
    shares = expected.format(1 - over, over)
    assert line == f"levels that find the training boxes, by their sizes: {shares}"


def test_sizes_alone_do_not_say_which_anchors_match(tiny: TrainConfig) -> None:
    config = replace(tiny, detector="retinanet", detector_options={})
    train = load_data(config).train
    assert tell_levels(build_detector(config, train.categories), config, train) == []


def test_a_run_prints_and_keeps_its_anchors(yolo: TrainConfig, tmp_path: Path) -> None:
    events: list[dict] = []
    config = replace(yolo, iterations=2, ema=0.0, val_split="none")
    assert detect.train(config, tmp_path / "run", on_event=events.append)
    notes = [event["text"] for event in events if event["event"] == "note"]
    (note,) = [text for text in notes if text.startswith("anchors by k-means on")]
    kept = TrainConfig.read(tmp_path / "run" / "config.yaml").detector_options["anchor_sizes"]
    assert len(kept) == 5 and kept == sorted(kept, key=lambda pair: pair[0] * pair[1])
    assert all(f"{width:.0f}×{height:.0f}" in note for width, height in kept)
    model = load_model(tmp_path / "run" / "model.safetensors")
    np.testing.assert_allclose(model.anchors.numpy(), kept)
    again: list[dict] = []
    assert detect.resume(tmp_path / "run", on_event=again.append)
    texts = [event["text"] for event in again if event["event"] == "note"]
    assert not any("k-means" in text for text in texts)  # its settings say them


def test_the_command_line_takes_anchors(yolo: TrainConfig) -> None:
    options = {"anchor_sizes": [[30, 60], [90, 45.5]]}
    config = TrainConfig.make(None, {"detector": "yolo", "detector_options": options})
    assert config.detector_options["anchor_sizes"] == options["anchor_sizes"]
