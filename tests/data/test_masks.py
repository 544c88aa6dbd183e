import pytest
import torch

from detnet.coco.masks import encode_pixels
from detnet.data.masks import Masks


def drawn(*shape: int) -> torch.Tensor:
    return (torch.rand(shape) < 0.5).to(torch.uint8)


def masks_of(pixels: torch.Tensor) -> Masks:
    """As a file has them."""
    counts = [encode_pixels(mask.numpy())["counts"].encode() for mask in pixels]
    return Masks.of_file(counts, *pixels.shape[1:])


@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.parametrize("old", [(37, 53), (480, 640), (1, 9)])
@pytest.mark.parametrize("new", [(37, 91), (800, 1066), (333, 499), (20, 1)])
def test_sizes_are_torchs_nearest(count: int, old: tuple[int, int], new: tuple[int, int]) -> None:
    pixels = drawn(count, *old)
    masks = masks_of(pixels).resized(*new)
    found = masks.pixels()
    assert masks.shape == found.shape == (count, *new) and found.dtype == torch.uint8
    if count:
        expected = torch.nn.functional.interpolate(pixels[:, None], size=new, mode="nearest")
        assert torch.equal(found, expected[:, 0])


def test_one_change_after_the_other() -> None:
    pixels = drawn(2, 20, 33)
    masks = masks_of(pixels)
    mirrored = torch.nn.functional.interpolate(pixels[:, None].flip(-1), size=(31, 29))[:, 0]
    changed = masks.flip(-1).resized(31, 29).flip(-2)
    assert torch.equal(changed.pixels(), mirrored.flip(-2))
    kept = torch.tensor([False, True])
    assert torch.equal(changed[kept].pixels(), mirrored.flip(-2)[1:])
    assert torch.equal(masks.pixels(), pixels)  # what came in is left alone


def test_masks_painted_by_a_transform() -> None:
    pixels = drawn(3, 9, 13)
    assert torch.equal(Masks.of_pixels(pixels).pixels(), pixels)
    assert Masks.of_pixels(pixels[:0]).shape == (0, 9, 13)


@pytest.mark.parametrize("shape", [(2, 5, 16), (3, 7, 19), (0, 4, 9)])
def test_masks_travel_as_bits(shape: tuple[int, ...]) -> None:
    pixels = drawn(*shape)
    bits = masks_of(pixels).flip(-1).bits()
    assert bits.bits.nbytes == shape[0] * shape[1] * -(-shape[2] // 8)
    found = bits.to(torch.device("cpu"))
    assert found.dtype == torch.uint8 and torch.equal(found, pixels.flip(-1))
