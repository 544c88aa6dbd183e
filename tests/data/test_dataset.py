from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detnet.coco.annotations import Annotations
from detnet.data.batches import TrainBatches, eval_loader, stream
from detnet.data.dataset import DetectionDataset
from detnet.data.folders import Split
from detnet.data.reading import load_annotations
from detnet.data.transforms import Augmentation, eval_transform
from detnet.engine.loop import to_device
from detnet.errors import InputError

WriteData = Callable[..., Split]
Record = Callable[..., dict[str, Any]]
Batch = tuple[list[torch.Tensor], list[dict[str, Any]]]


@pytest.fixture
def annotations(write_data: WriteData, record: Record) -> Annotations:
    """Seven images: image i has i % 3 objects, and a crowd if i is 4."""
    sizes = [(60, 40), (40, 60), (50, 30), (60, 40), (40, 60), (50, 30), (60, 44)]
    records = []
    for image in range(7):
        for number in range(image % 3):
            polygon = [[3, 4, 13, 4, 13, 12, 3, 12]]
            box = [3, 4, 10, 8]
            category = 1 + number
            records.append(
                record(len(records) + 1, image, box, category_id=category, segmentation=polygon)
            )
    records.append(
        record(90, 4, [0, 0, 40, 60], iscrowd=1, segmentation=[[0, 0, 40, 0, 40, 60, 0, 60]])
    )
    return load_annotations(write_data(sizes, records), masks=True)[0]


@pytest.fixture
def dataset(annotations: Annotations) -> DetectionDataset:
    transform = Augmentation(min_sizes=(20, 30), flip_v=0.5, color_jitter=0.4)
    return DetectionDataset(annotations, transform, seed=5, masks=True)


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for (images, targets), (others, wanted) in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(images, others, strict=True))
        for target, other in zip(targets, wanted, strict=True):
            assert target.keys() == other.keys()
            for name, value in target.items():
                if isinstance(value, torch.Tensor):
                    assert torch.equal(value, other[name])
                else:
                    assert value == other[name]


def test_what_a_sample_holds(annotations: Annotations) -> None:
    dataset = DetectionDataset(annotations, eval_transform(), seed=0, masks=True)
    assert len(dataset) == 7
    image, target = dataset[(0, 5)]
    assert image.dtype == torch.uint8
    assert image.shape == (3, 30, 50)
    assert target["boxes"].tolist() == [[3, 4, 13, 12]] * 2
    assert target["boxes"].dtype == torch.float32
    assert target["labels"].tolist() == [1, 2]
    assert target["labels"].dtype == torch.int64
    assert target["masks"].shape == (2, 30, 50)
    assert target["masks"].dtype == torch.uint8
    assert target["masks"].sum() == 160
    assert target["area"].tolist() == [80, 80]
    assert target["iscrowd"].tolist() == [0, 0]
    assert (target["image_id"], target["index"]) == (105, 5)
    assert target["original_size"] == (30, 50)


def test_an_image_without_objects(annotations: Annotations) -> None:
    _, target = DetectionDataset(annotations, eval_transform(), seed=0, masks=True)[3]
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].shape == (0,)
    assert target["masks"].shape == (0, 40, 60)


def test_crowds_are_no_objects_to_train_on(annotations: Annotations) -> None:
    plain = DetectionDataset(annotations, eval_transform(), seed=0)
    assert plain[(0, 4)][1]["iscrowd"].tolist() == [0]
    assert "masks" not in plain[(0, 4)][1]


def test_masks_must_have_been_loaded(write_data: WriteData) -> None:
    annotations, _ = load_annotations(write_data([(60, 40)], []))
    with pytest.raises(ValueError, match="loaded without"):
        DetectionDataset(annotations, eval_transform(), seed=0, masks=True)


def test_boxes_too_thin_after_resizing_are_dropped(write_data: WriteData, record: Record) -> None:
    split = write_data([(60, 40)], [record(1, 0, [5, 5, 0.15, 9]), record(2, 0, [5, 5, 9, 9])])
    transform = Augmentation(min_sizes=(20,), flip_h=0)
    _, target = DetectionDataset(load_annotations(split)[0], transform, seed=0)[0]
    assert target["boxes"].tolist() == [[2.5, 2.5, 7, 7]]
    assert target["labels"].shape == target["area"].shape == (1,)


def test_the_augmentation_is_keyed(dataset: DetectionDataset) -> None:
    def draws(seed: int, *key: int) -> Any:
        dataset.seed = seed
        return dataset[key][0]

    assert torch.equal(draws(5, 2, 6), draws(5, 2, 6))
    images = [draws(5, 2, 6), draws(6, 2, 6), draws(5, 3, 6), draws(5, 2, 6, 1)]
    for index, image in enumerate(images):
        assert not any(torch.equal(image, other) for other in images[:index])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_resumed_anywhere_gives_the_same_bits(
    dataset: DetectionDataset, annotations: Annotations, workers: int
) -> None:
    batches = TrainBatches(annotations, batch_size=2, seed=1)
    assert len(batches) == 3
    whole = list(stream(dataset, batches, start=0, stop=8))
    assert len(whole) == 8
    for start in (0, 2, 3, 7):
        rest = stream(dataset, batches, start=start, stop=8, workers=workers)
        assert_same([to_device(batch, torch.device("cpu")) for batch in rest], whole[start:])
    assert list(stream(dataset, batches, start=8, stop=8)) == []
    seen = [[target["index"] for target in targets] for _, targets in whole]
    assert seen == [*batches.batches(0), *batches.batches(1), *batches.batches(2)[:2]]


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_leaves_the_global_generators_alone(
    dataset: DetectionDataset, annotations: Annotations, workers: int
) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    batches = TrainBatches(annotations, batch_size=2)
    list(stream(dataset, batches, start=0, stop=2, workers=workers))
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_evaluation_goes_once_through_in_order(annotations: Annotations) -> None:
    dataset = DetectionDataset(annotations, eval_transform(), seed=0)
    order = [
        [target["index"] for target in targets] for _, targets in eval_loader(dataset, batch_size=3)
    ]
    assert order == [[0, 1, 2], [3, 4, 5], [6]]
    parts = [
        [target["index"] for _, targets in loader for target in targets]
        for rank in range(2)
        for loader in [eval_loader(dataset, batch_size=2, rank=rank, world_size=2)]
    ]
    assert parts == [[0, 2, 4, 6], [1, 3, 5]]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_is_one_line_from_workers_too(
    dataset: DetectionDataset, annotations: Annotations, workers: int
) -> None:
    Path(annotations.image_path(6)).write_text("no image")
    with pytest.raises(InputError) as caught:
        list(eval_loader(dataset, workers=workers))
    path = annotations.image_path(6)
    assert str(caught.value) == (
        f"{path}: is not an image in a format that can be read; mend or replace it; "
        "training then goes on by --resume; `detnet check DATA` finds all such"
    )


def test_another_size_than_annotated_is_refused(
    write_data: WriteData, dataset: DetectionDataset, annotations: Annotations
) -> None:
    annotations.image_path(0).write_bytes(annotations.image_path(1).read_bytes())
    with pytest.raises(InputError, match="the image is 40x60 .* says 60x40; mend or replace it"):
        dataset[0]
