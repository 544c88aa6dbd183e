from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from detnet.coco.annotations import Annotations
from detnet.data.batches import TrainBatches, repeat_factors
from detnet.data.folders import Split
from detnet.data.reading import load_annotations

WriteData = Callable[..., Split]
Record = Callable[..., dict[str, Any]]


@pytest.fixture
def annotations(write_data: WriteData, record: Record) -> Annotations:
    """50 images, every third of them tall; category 1 on all, category 2 on two of them."""
    sizes = [(40, 60) if index % 3 == 0 else (60, 40) for index in range(50)]
    records = [record(index + 1, index, [1, 2, 10, 5]) for index in range(50)]
    for image in (4, 9):
        records += [record(900, image, [3, 3, 9, 9], category_id=2) for _ in range(3)]
    return load_annotations(write_data(sizes, records, files=False))[0]


def test_a_pure_function_of_seed_and_epoch(annotations: Annotations) -> None:
    batches = TrainBatches(annotations, batch_size=4, seed=3)
    again = TrainBatches(annotations, batch_size=4, seed=3)
    assert batches.batches(5) == again.batches(5)
    assert batches.batches(5) != batches.batches(6)
    assert batches.batches(5) != TrainBatches(annotations, batch_size=4, seed=4).batches(5)


def test_no_image_twice_and_the_remainder_changes(annotations: Annotations) -> None:
    batches = TrainBatches(annotations, batch_size=4)
    assert len(batches) == 12
    shown = []
    for epoch in range(6):
        images = [index for batch in batches.batches(epoch) for index in batch]
        assert len(images) == len(set(images)) == 48
        shown.append(set(images))
    assert set.union(*shown) == set(range(50))


def test_fewer_images_than_a_batch(annotations: Annotations) -> None:
    batches = TrainBatches(annotations, batch_size=64, rank=1, world_size=2)
    (batch,) = batches.batches(0)
    assert len(batch) == 64


def test_aspect_grouping_mixes_at_most_one_batch(annotations: Annotations) -> None:
    for epoch in range(4):
        kinds = [
            len({index % 3 == 0 for index in batch})
            for batch in TrainBatches(annotations, batch_size=4).batches(epoch)
        ]
        assert sum(kind == 2 for kind in kinds) <= 1
    plain = TrainBatches(annotations, batch_size=4, aspect_grouping=False).batches(0)
    assert sum(len({index % 3 == 0 for index in batch}) == 2 for batch in plain) > 3


def test_ranks_share_an_epoch_without_overlap(annotations: Annotations) -> None:
    ranks = [TrainBatches(annotations, batch_size=4, rank=rank, world_size=3) for rank in range(3)]
    shares = [rank.batches(2) for rank in ranks]
    assert [len(rank) for rank in ranks] == [4, 4, 4]
    assert [len(share) for share in shares] == [4, 4, 4]
    images = [index for share in shares for batch in share for index in batch]
    assert len(images) == len(set(images)) == 48
    mixed = 0
    for step in zip(*shares, strict=True):  # all ranks work on the same shape at a time
        mixed += len({index % 3 == 0 for batch in step for index in batch}) == 2
    assert mixed <= 1


def test_rare_classes_are_shown_more_often(annotations: Annotations) -> None:
    factors = repeat_factors(annotations, threshold=0.64)
    expected = np.ones(50)
    expected[[4, 9]] = np.sqrt(0.64 / (2 / 50))
    np.testing.assert_allclose(factors, expected)
    batches = TrainBatches(annotations, batch_size=1, repeat_threshold=0.64)
    assert len(batches) == 56  # 48 + 2 x 4
    counts = Counter(index for epoch in range(5) for (index,) in batches.batches(epoch))
    assert counts[4] == counts[9] == 20
    assert set(range(50)) == set(counts)


def test_crowds_make_no_class_more_frequent(write_data: WriteData, record: Record) -> None:
    """Category 2 is an object on image 3 only; crowds are not trained on."""
    records = [record(index + 1, index, [1, 2, 10, 5]) for index in range(8)]
    records += [record(20, 3, [3, 3, 9, 9], category_id=2)]
    records += [
        record(30 + at, at, [3, 3, 9, 9], category_id=2, iscrowd=1) for at in (1, 2, 3, 5, 7)
    ]
    annotations, _ = load_annotations(write_data([(60, 40)] * 8, records, files=False))
    factors = repeat_factors(annotations, threshold=0.5)
    expected = np.ones(8)
    expected[3] = np.sqrt(0.5 / (1 / 8))
    np.testing.assert_allclose(factors, expected)


def test_fractions_of_repeats_come_out_on_average(annotations: Annotations) -> None:
    batches = TrainBatches(annotations, batch_size=1, repeat_threshold=0.25)  # factor 2.5
    assert len(batches) == 53
    counts: Counter[int] = Counter()
    for epoch in range(100):
        shown = Counter(index for (index,) in batches.batches(epoch))
        assert shown[4] in (2, 3)
        assert min(shown.values()) == 1
        counts += shown
    assert 235 < counts[4] < 265


def test_repeats_of_an_image_are_numbered(annotations: Annotations) -> None:
    batches = TrainBatches(annotations, batch_size=4, repeat_threshold=0.64)
    keys = [key for batch in batches.keys(3) for key in batch]
    assert len(set(keys)) == len(keys)
    assert {epoch for epoch, _, _ in keys} == {3}
    assert {times for _, index, times in keys if index == 4} <= {0, 1, 2, 3}
    assert max(times for _, index, times in keys if index == 4) >= 2


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"batch_size": 2, "rank": 2, "world_size": 2}]
)
def test_impossible_options_are_refused(annotations: Annotations, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="batch_size="):
        TrainBatches(annotations, **options)


def test_no_images_are_refused(write_data: WriteData) -> None:
    empty, _ = load_annotations(write_data([], [], files=False))
    with pytest.raises(ValueError, match="no images"):
        TrainBatches(empty, batch_size=2)
