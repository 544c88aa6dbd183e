"""Images kept for candidates: in order, no more than fit, mistakes told."""

import pytest
import torch

from detnet.errors import InputError
from detnet.search.scoring.cache import CachedImages, Sample

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
