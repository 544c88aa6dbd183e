"""Areas of compressed masks equal those of pycocotools; damage is seen, never followed."""

import numpy as np
import pycocotools.mask
import pytest

from detnet.coco import run_lengths as module
from detnet.coco.run_lengths import rle_areas


def random_masks(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    sizes = random.integers(1, 90, (count, 2))
    fills = random.choice([0, 0.02, 0.5, 0.98, 1], count)
    return [(random.random(size) < fill).astype(np.uint8) for size, fill in zip(sizes, fills)]  # noqa: B905


@pytest.mark.parametrize("at_once", [1, 500, 10**9])
def test_areas(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHARACTERS_AT_ONCE", at_once)
    stack = [*random_masks(120), np.ones((1500, 2000), np.uint8)]
    counts = [pycocotools.mask.encode(np.asfortranarray(mask))["counts"] for mask in stack]
    texts = [text.decode() if i % 2 else text for i, text in enumerate(counts)]
    areas = rle_areas(texts, np.array([mask.size for mask in stack]))
    assert areas.tolist() == [int(mask.sum()) for mask in stack]


def test_damage_stays_with_its_mask() -> None:
    mask = random_masks(6)[2]
    good = pycocotools.mask.encode(np.asfortranarray(mask))["counts"].decode()
    damaged = ["", good[:-1], good + "P", "~" * 40, "o" * 400, good[: len(good) // 2], "\x00", "é"]
    texts = [good, *(text for bad in damaged for text in (bad, good))]
    areas = rle_areas(texts, np.full(len(texts), mask.size))
    assert areas[::2].tolist() == [int(mask.sum())] * (len(damaged) + 1)
    assert (areas[1::2] == -1).all()
    assert rle_areas([good], np.array([mask.size + 1])).tolist() == [-1]
    assert rle_areas([], np.zeros(0)).shape == (0,)
