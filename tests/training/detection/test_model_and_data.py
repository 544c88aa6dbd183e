import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detnet.coco.categories import Categories
from detnet.data.batches import TrainBatches
from detnet.data.transforms import Augmentation
from detnet.engine.distributed import Process
from detnet.engine.machine import choose_precision
from detnet.errors import InputError
from detnet.training.detection.config import TrainConfig, find_val
from detnet.training.detection.model_and_data import (
    build_detector,
    load_data,
    make_batches,
    make_dataset,
)

CPU = torch.device("cpu")


def spoiled(scenes: Path, folder: Path, **changes: object) -> dict[str, str]:
    """Copies the training annotations with the first record changed."""
    truth = json.loads((scenes / "annotations" / "instances_train.json").read_text())
    truth["annotations"][0].update(changes)
    path = folder / "changed.json"
    path.write_text(json.dumps(truth))
    return {"train_annotations": str(path), "train_images": str(scenes / "train")}


def test_what_was_repaired_is_said(scenes: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    changed = spoiled(scenes, tmp_path, bbox=[-5.0, 10.0, 30.0, 20.0])
    notes = load_data(replace(tiny, **changed)).notes
    assert [note for note in notes if "clipped" in note], notes


def test_categories_of_val_must_be_those_of_train(
    scenes: Path, tiny: TrainConfig, tmp_path: Path
) -> None:
    truth = json.loads((scenes / "annotations" / "instances_val.json").read_text())
    truth["categories"][0]["name"] = "pentagon"
    path = tmp_path / "other.json"
    path.write_text(json.dumps(truth))
    config = replace(tiny, val_annotations=str(path), val_images=str(scenes / "val"))
    with pytest.raises(InputError, match="pentagon") as caught:
        load_data(config)
    assert "the model" not in str(caught.value)


def test_which_split_is_evaluated(scenes: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    found = find_val(tiny)
    assert found is not None and found.annotations.name == "instances_val.json"
    assert find_val(replace(tiny, val_split="none")) is None
    with pytest.raises(InputError, match="vall"):
        find_val(replace(tiny, val_split="vall"))
    alone = tmp_path / "alone"
    (alone / "annotations").mkdir(parents=True)
    truth = (scenes / "annotations" / "instances_train.json").read_text()
    (alone / "annotations" / "instances_train.json").write_text(truth)
    (alone / "train").symlink_to(scenes / "train")
    material = load_data(replace(tiny, data=str(alone)))
    assert material.val is None
    assert any("nothing is evaluated" in note for note in material.notes)


def test_no_images_to_train_on(scenes: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    truth = json.loads((scenes / "annotations" / "instances_train.json").read_text())
    path = tmp_path / "empty.json"
    path.write_text(json.dumps({**truth, "annotations": []}))
    changes = {"train_annotations": str(path), "train_images": str(scenes / "train")}
    with pytest.raises(InputError, match="no images with objects to train on"):
        load_data(replace(tiny, **changes, skip_empty=True))


def test_the_settings_reach_images_and_batches(tiny: TrainConfig) -> None:
    config = replace(
        tiny,
        min_sizes=[64, 80, 96],
        max_size=150,
        flip=0.25,
        flip_vertical=0.75,
        color_jitter=0.375,
        seed=7,
        aspect_grouping=False,
        repeat_threshold=0.9,
    )
    train = load_data(config).train
    dataset = make_dataset(config, train)
    assert dataset.transform == Augmentation(
        min_sizes=(64, 80, 96), max_size=150, flip_h=0.25, flip_v=0.75, color_jitter=0.375
    )
    assert dataset.seed == 7
    batches = make_batches(config, train, Process(1, 2, CPU))
    expected = TrainBatches(
        train,
        batch_size=1,
        seed=7,
        aspect_grouping=False,
        repeat_threshold=0.9,
        rank=1,
        world_size=2,
    )
    assert batches.batches(3) == expected.batches(3)
    plain = TrainBatches(train, batch_size=1, seed=7, aspect_grouping=False, rank=1, world_size=2)
    assert batches.batches(3) != plain.batches(3)  # rare classes are there to be repeated


@pytest.mark.parametrize(("name", "own"), [("frozen", "frozen"), ("min_size", "test_min_size")])
def test_a_setting_of_its_own_is_no_option(tiny: TrainConfig, name: str, own: str) -> None:
    """It would be another value than what the weights, the images and config.yaml go by."""
    config = replace(tiny, detector_options={name: 1})
    with pytest.raises(InputError, match=f"{name} is a setting of its own: give {own}$"):
        build_detector(config, Categories((1,), ("a",)))


def test_batches_must_divide(tiny: TrainConfig) -> None:
    material = load_data(tiny)
    with pytest.raises(InputError, match="batch_size 2 cannot be divided by 4 processes × 1"):
        make_batches(tiny, material.train, Process(0, 4, CPU))


def test_precision() -> None:
    assert choose_precision("fp32", CPU) is None
    assert choose_precision("bf16", CPU) is torch.bfloat16
