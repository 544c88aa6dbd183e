from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detnet.data.batches import eval_loader, stream
from detnet.data.classification.dataset import ClassificationDataset, ShuffledBatches
from detnet.data.classification.image_folder import ImageFolder, index_folder
from detnet.data.classification.transforms import TestView, TrainView
from detnet.errors import InputError


@pytest.fixture
def images(tmp_path: Path) -> ImageFolder:
    """Seven images of two classes, none square."""
    for index in range(7):
        path = tmp_path / "train" / ("cat" if index < 3 else "dog") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (30, 44, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return index_folder(tmp_path / "train")


def training(images: ImageFolder, seed: int = 3) -> ClassificationDataset:
    return ClassificationDataset(images, TrainView(16, mixup=0.2), seed=seed, substitute=True)


def bits(batches: Any) -> list[tuple[bytes, Any]]:
    return [(pixels.numpy().tobytes(), targets) for pixels, targets in batches]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_batch_holds(images: ImageFolder, workers: int) -> None:
    batches = ShuffledBatches(7, batch_size=3)
    assert len(batches) == 2
    ((pixels, targets),) = stream(training(images), batches, start=0, stop=1, workers=workers)
    assert pixels.shape == (3, 3, 16, 16) and pixels.dtype == torch.uint8
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    for target in targets:
        assert target["label"] == (0 if target["image_id"] < 3 else 1)
        assert set(target) == {"image_id", "label", "color", "light", "share"}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_resumed_anywhere_gives_the_same_bits(images: ImageFolder, workers: int) -> None:
    dataset, batches = training(images), ShuffledBatches(7, batch_size=3, seed=1)
    whole = bits(stream(dataset, batches, start=0, stop=5))
    for start in (0, 1, 2, 4):
        rest = stream(dataset, batches, start=start, stop=5, workers=workers)
        assert bits(rest) == whole[start:]
    assert whole != bits(stream(training(images, seed=4), batches, start=0, stop=5))


def test_an_epoch_shows_each_image_once_to_one_process() -> None:
    ranks = [ShuffledBatches(23, batch_size=4, seed=2, rank=r, world_size=2) for r in range(2)]
    assert [len(batches) for batches in ranks] == [2, 2]
    epochs = [
        [index for batches in ranks for keys in batches.keys(epoch) for _, index, _ in keys]
        for epoch in range(2)
    ]
    for shown in epochs:
        assert len(set(shown)) == len(shown) == 16
    assert epochs[0] != epochs[1]


def test_few_images_are_repeated_and_cropped_anew(images: ImageFolder) -> None:
    batches = ShuffledBatches(7, batch_size=16)
    (keys,) = batches.keys(3)
    assert [time for _, _, time in keys] == [0] * 7 + [1] * 7 + [2] * 2
    assert {epoch for epoch, _, _ in keys} == {3}
    ((pixels, targets),) = stream(training(images), batches, start=0, stop=1)
    first, second = [i for i, target in enumerate(targets) if target["image_id"] == 4][:2]
    assert not torch.equal(pixels[first], pixels[second])


def test_keys_of_an_epoch_are_made_when_they_are_asked_for() -> None:
    keys = ShuffledBatches(1_000_000, batch_size=256).keys(0)
    assert len(keys) == 1_000_000 // 256
    assert len(keys[3900:][2]) == 256


def test_evaluation_goes_once_through_in_order(images: ImageFolder) -> None:
    dataset = ClassificationDataset(images, TestView(16, 18), substitute=False)
    order = [[t["image_id"] for t in targets] for _, targets in eval_loader(dataset, batch_size=3)]
    assert order == [[0, 1, 2], [3, 4, 5], [6]]
    parts = [
        [t["image_id"] for _, targets in loader for t in targets]
        for rank in range(2)
        for loader in [eval_loader(dataset, batch_size=2, rank=rank, world_size=2)]
    ]
    assert parts == [[0, 2, 4, 6], [1, 3, 5]]


@pytest.mark.parametrize("workers", [0, 1])
def test_another_image_takes_the_place_of_one_that_cannot_be_read(
    images: ImageFolder, workers: int
) -> None:
    images.image_path(5).write_text("no image")
    dataset, batches = training(images), ShuffledBatches(7, batch_size=7)
    ((pixels, targets),) = stream(dataset, batches, start=0, stop=1, workers=workers)
    (replaced,) = [target for target in targets if "unreadable" in target]
    ((index, reason),) = replaced["unreadable"]
    assert (
        index == 5
        and reason == f"{images.image_path(5)}: is not an image in a format that can be read"
    )
    assert replaced["image_id"] != 5
    assert replaced["label"] == (0 if replaced["image_id"] < 3 else 1)
    assert bits(stream(dataset, batches, start=0, stop=1)) == bits([(pixels, targets)])


def test_evaluation_leaves_unreadable_images_out(images: ImageFolder) -> None:
    images.image_path(1).unlink()
    dataset = ClassificationDataset(images, TestView(16, 18), substitute=False)
    ((pixels, targets),) = eval_loader(dataset, batch_size=7)
    assert [target["label"] for target in targets] == [0, -1, 0, 1, 1, 1, 1]
    assert not pixels[1].any()
    assert targets[1]["unreadable"][0][1].endswith("1.png: no such image file")


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_that_can_be_read_is_one_line(images: ImageFolder, workers: int) -> None:
    for index in range(7):
        images.image_path(index).write_text("no image")
    source = stream(
        training(images), ShuffledBatches(7, batch_size=2), start=0, stop=1, workers=workers
    )
    with pytest.raises(InputError, match="^20 images in a row cannot be read, as .*png") as caught:
        next(source)
    assert "\n" not in str(caught.value)
