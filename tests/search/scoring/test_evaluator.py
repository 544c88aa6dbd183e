from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from detnet.errors import InputError
from detnet.search.scoring.evaluator import (
    CachedImages,
    NonFinite,
    Sample,
    ScoringBudget,
    own_randomness,
    part_order,
    recalibration_batches,
    refuse_non_finite,
)


def test_every_image_is_recalibrated_on_before_any_is_again() -> None:
    batches = recalibration_batches(10, ScoringBudget(26, 4), seed=1, flip=0.5)
    assert [len(batch) for batch in batches] == [4] * 6
    keys = [key for batch in batches for key in batch]
    assert Counter(Counter(index for index, _ in keys).values()) == {2: 6, 3: 4}
    assert len({index for index, _ in keys[:10]}) == 10
    assert 0 < sum(flip for _, flip in keys) < 24


def test_recalibration_goes_by_the_seed() -> None:
    one, same, other = (
        recalibration_batches(50, ScoringBudget(16), seed=s, flip=0.5) for s in (1, 1, 2)
    )
    assert one == same != other
    assert not any(
        flip
        for batch in recalibration_batches(9, ScoringBudget(8), seed=1, flip=0.0)
        for _, flip in batch
    )


def test_fewer_images_than_a_batch_make_one() -> None:
    assert [len(b) for b in recalibration_batches(9, ScoringBudget(3, 8), seed=0, flip=0.0)] == [3]


def test_others_draw_on_as_if_nothing_had_been() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    drawn = []
    for _ in range(2):
        with own_randomness(7, torch.device("cpu")):
            drawn.append(torch.rand(3))
    assert torch.equal(*drawn) and torch.equal(torch.rand(3), expected)


def test_parts_are_mixed() -> None:
    order = part_order(100, 0)
    assert sorted(order) == list(range(100)) and 30 < np.mean(order[:25]) < 70


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_no_number_is_refused_wherever_it_is(bad: float) -> None:
    class Levels(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
            return {"p2": [torch.ones(2), x]}

    module = Levels()
    refuse_non_finite(module)
    module(torch.ones(3))
    with pytest.raises(NonFinite, match="Levels"):
        module(torch.tensor([1.0, bad]))


ROWS = [[0, 1], [2], [3, 4, 0], [5], [6]]


@pytest.mark.parametrize("threads", [0, 2])
def test_samples_come_in_order_and_no_more_are_kept_than_fit(threads: int) -> None:
    read: list[int] = []

    def sample(index: int) -> Sample:
        read.append(index)
        return torch.full((3, 4, 5), index, dtype=torch.uint8), {"boxes": torch.zeros(2, 4)}

    size = 60 + 32
    cache = CachedImages(sample, limit=3 * size + 10, threads=threads)
    for _ in range(3):
        seen = [[int(image[0, 0, 0]) for image, _ in batch] for batch in cache.batches(ROWS)]
        assert seen == ROWS
        assert len(cache) == 3 and cache.nbytes == 3 * size
    assert {index: read.count(index) for index in (1, 2)} == {1: 1, 2: 1}
    assert [read.count(index) for index in (3, 4, 5, 6)] == [3, 3, 3, 3]


def test_a_limit_of_nothing_keeps_nothing() -> None:
    cache = CachedImages(lambda index: (torch.zeros(3, 2, 2), {}), limit=0)
    assert len(list(cache.batches([[0], [0]]))) == 2
    assert len(cache) == 0


def test_an_image_that_cannot_be_read_is_said() -> None:
    def sample(index: int) -> Sample:
        raise InputError(f"image {index}: damaged")

    with pytest.raises(InputError, match="image 7: damaged"):
        list(CachedImages(sample, limit=100, threads=1).batches([[7]]))
