from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detnet.data.classification.transforms import (
    TestView,
    TrainView,
    centre_box,
    prepare,
    random_box,
)
from detnet.errors import InputError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def smooth(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    red = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    green = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([red, green, 0 * red + 90], 2).astype(np.uint8))


@pytest.fixture
def jpeg(tmp_path: Path) -> Path:
    smooth(200, 120).save(tmp_path / "a.jpg", quality=95)
    return tmp_path / "a.jpg"


def test_parts_lie_inside_and_have_the_area_asked_for() -> None:
    areas, aspects = [], []
    for seed in range(400):
        draws = generator(seed).random((10, 5))
        left, top, right, bottom = random_box(200, 120, draws, min_area=0.25)
        assert 0 <= left < right <= 200 and 0 <= top < bottom <= 120
        areas.append((right - left) * (bottom - top) / (200 * 120))
        aspects.append((right - left) / (bottom - top))
    assert min(areas) > 0.24 and max(areas) <= 1
    assert min(areas) < 0.3 and max(areas) > 0.7
    assert 0.72 < min(aspects) < 0.8 and 1.28 < max(aspects) < 1.36


def test_parts_reach_to_the_last_pixel() -> None:
    """A share of 0.25 at an aspect of 1 is 77 pixels square; it lies where it is drawn."""
    draws = np.array([[0.0, 3 / 7, 0.9, 0.9999, 0.9999]])
    assert random_box(200, 120, draws, min_area=0.25) == (123, 43, 200, 120)
    draws[0, 3:] = 0
    assert random_box(200, 120, draws, min_area=0.25) == (0, 0, 77, 77)
    draws[0, 3:] = 0.5
    assert random_box(200, 120, draws, min_area=0.25) == (62, 22, 139, 99)


def test_a_mixed_image_keeps_the_larger_share(jpeg: Path) -> None:
    shares = [TrainView(8, mixup=1.0)(jpeg, generator(seed))[1]["share"] for seed in range(20)]
    assert min(shares) >= 0.5 and max(shares) > 0.9 and min(shares) < 0.6


def test_a_thin_image_gives_the_square_in_its_middle() -> None:
    draws = generator().random((10, 5))
    draws[:, 0] = 0.99
    assert random_box(400, 20, draws, min_area=0.9) == (190, 0, 210, 20)
    assert centre_box(100, 50, 0.8) == (30, 5, 70, 45)


def test_what_training_sees_depends_on_the_generator_alone(jpeg: Path) -> None:
    view = TrainView(48, mixup=0.2)
    pixels, draws = view(jpeg, generator(3))
    again, same = view(jpeg, generator(3))
    assert pixels.shape == (48, 48, 3) and pixels.dtype == np.uint8
    assert np.array_equal(pixels, again) and draws == same
    other, different = view(jpeg, generator(4))
    assert not np.array_equal(pixels, other) and draws != different
    assert 0.5 <= draws["share"] <= 1
    assert all(0.6 <= factor <= 1.4 for factor in draws["color"][:3])


def test_options_leave_the_other_draws_alone(jpeg: Path) -> None:
    pixels, draws = TrainView(48, flip=0.0)(jpeg, generator(5))
    flipped, same = TrainView(48, flip=1.0)(jpeg, generator(5))
    assert np.array_equal(flipped, pixels[:, ::-1]) and draws == same
    plain, draws = TrainView(48, flip=0.0, color_jitter=0.0, lighting=0.0)(jpeg, generator(5))
    assert np.array_equal(plain, pixels)
    assert draws["color"][:3] == (1, 1, 1) and draws["light"] == (0, 0, 0) and draws["share"] == 1


def test_the_decoder_may_halve_what_is_large_enough(jpeg: Path) -> None:
    """The part is the same, whichever size the file was decoded at."""
    small = TrainView(20, min_area=1.0)  # the whole image at a sixth
    png = jpeg.with_suffix(".png")
    Image.open(jpeg).save(png)
    for seed in range(5):
        reduced, exact = (small(path, generator(seed))[0].astype(int) for path in (jpeg, png))
        assert np.abs(reduced - exact).max() <= 6


def test_evaluation_sees_the_middle(tmp_path: Path) -> None:
    smooth(200, 100).save(tmp_path / "a.png")
    pixels, draws = TestView(70, 80)(tmp_path / "a.png")
    assert pixels.shape == (70, 70, 3) and draws == {}
    side = 100 * 70 / 80
    left, right = (200 - side) / 2 / 200, (200 + side) / 2 / 200
    assert pixels[35, 0, 0] == pytest.approx(255 * left, abs=2)
    assert pixels[35, -1, 0] == pytest.approx(255 * right, abs=2)
    assert pixels[0, 35, 1] == pytest.approx(255 * (100 - side) / 200, abs=2)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16", "1"])
def test_other_kinds_of_images(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    gray = np.linspace(0, 65535, 60 * 40).reshape(40, 60).astype(np.uint16)
    image = Image.fromarray(gray) if mode == "I;16" else smooth(60, 40).convert(mode)
    image.save(path)
    for view in (TrainView(16), TestView(16, 18)):
        assert view(path, generator())[0].shape == (16, 16, 3)


def test_rotated_images_are_turned_upright_first(tmp_path: Path) -> None:
    image = smooth(60, 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    image.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "b.png")
    turned, upright = (
        TestView(32, 32)(tmp_path / name)[0].astype(int) for name in ("a.jpg", "b.png")
    )
    assert np.abs(turned - upright).mean() < 4


def test_bytes_are_read_like_files(jpeg: Path) -> None:
    content = BytesIO(jpeg.read_bytes())
    assert np.array_equal(
        TrainView(48)(Path("shard.tar/a.jpg"), generator(1), content)[0],
        TrainView(48)(jpeg, generator(1))[0],
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"text", "is not an image"), (None, "damaged or cut")],
)
def test_files_that_cannot_be_read(jpeg: Path, content: bytes | None, message: str) -> None:
    jpeg.write_bytes(jpeg.read_bytes()[:900] if content is None else content)
    with pytest.raises(InputError, match=rf"a\.jpg: .*{message}"):
        TrainView(48)(jpeg, generator())


def one_by_one(image: torch.Tensor, draw: dict[str, Any]) -> torch.Tensor:
    """The recipe's colour changes as their authors write them: one after the other, unclipped."""
    from itertools import permutations

    *factors, order = draw["color"]
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    for which in list(permutations(range(3)))[order]:
        gray = (image * weights).sum(0, keepdim=True)
        other = [torch.zeros_like(image), gray.mean(), gray][which]
        image = factors[which] * image + (1 - factors[which]) * other
    return image + torch.tensor(draw["light"])[:, None, None]


def test_colours_are_changed_as_drawn() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (6, 3, 20, 12), dtype=torch.uint8)
    draws = [
        {"color": (1.3, 0.7, 0.6 + 0.1 * order, order), "light": (0.1, -0.02, 0.01 * order)}
        for order in range(6)
    ]
    done = prepare(images.to(memory_format=torch.channels_last), draws, mean=MEAN, std=STD)
    assert done.dtype == torch.float32
    assert done.is_contiguous(memory_format=torch.channels_last)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    for image, draw, found in zip(images, draws, done, strict=True):
        expected = (one_by_one(image / 255, draw) - mean) / std
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_without_draws_pixels_are_normalised_alone() -> None:
    images = torch.randint(0, 256, (2, 3, 8, 6), dtype=torch.uint8)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    expected = (images / 255 - mean) / std
    for given in (images, images / 255):
        with torch.autocast("cpu", torch.bfloat16):
            found = prepare(given, mean=MEAN, std=STD)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
