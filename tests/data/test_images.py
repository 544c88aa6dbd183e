import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detnet.data.images import read_image, read_pixels, to_rgb
from detnet.errors import InputError

DATA = Path(os.environ.get("DETNET_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".webp"])
def test_lossless_formats_come_back_exactly(
    tmp_path: Path, pixels: np.ndarray, suffix: str
) -> None:
    path = tmp_path / f"bild ä{suffix}"
    Image.fromarray(pixels).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    image = read_image(path)
    assert image.dtype == torch.uint8
    assert image.shape == (3, 20, 30)
    assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels)
    assert np.array_equal(read_pixels(path), pixels)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".jpg"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, pixels: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"grey{suffix}"
    Image.fromarray(pixels[:, :, 0]).save(path)
    image = read_image(path)
    assert image.shape == (3, 20, 30)
    assert torch.equal(image[0], image[2])
    if suffix != ".jpg":
        assert np.array_equal(image[1].numpy(), pixels[:, :, 0])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "CMYK"])
def test_other_modes(tmp_path: Path, pixels: np.ndarray, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    converted = Image.fromarray(pixels).convert(mode)
    converted.save(path)
    image = read_image(path).permute(1, 2, 0).numpy().astype(int)
    expected = np.asarray(converted.convert("RGB")).astype(int)
    assert image.shape == expected.shape
    assert np.abs(image - expected).mean() < (60 if mode == "CMYK" else 0.5)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_become_eight(tmp_path: Path, suffix: str) -> None:
    deep = (np.arange(600, dtype=np.uint16) * 109).reshape(20, 30)
    path = tmp_path / f"deep{suffix}"
    Image.fromarray(deep).save(path)
    image = read_image(path)
    assert image.shape == (3, 20, 30)
    assert np.abs(image[0].numpy().astype(int) - (deep >> 8)).max() <= 1


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff"])
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str) -> None:
    lying = np.zeros((20, 30, 3), dtype=np.uint8)
    lying[:, :10] = 255  # the camera's left is the top once turned clockwise
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"turned{suffix}"
    Image.fromarray(lying).save(path, exif=exif)
    image = read_image(path)
    assert image.shape == (3, 30, 20)
    assert image[:, :8].float().mean() > 200
    assert image[:, 12:].float().mean() < 50


def test_a_picture_is_turned_without_touching_it() -> None:
    lying = Image.new("RGBA", (30, 20), (10, 20, 30, 0))
    lying.getexif()[0x0112] = 6
    upright = to_rgb(lying)
    assert upright.shape == (30, 20, 3) and (upright == [10, 20, 30]).all()
    assert lying.size == (30, 20)


def test_of_an_animation_the_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (30, 20), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif")[:, 10, 10].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.jpg", b"this is no image at all", "is not an image"),
        ("empty.png", b"", "the file is empty"),
        ("head.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "image"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: .*{message}") as caught:
        read_image(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
def test_a_cut_file_is_refused(tmp_path: Path, pixels: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match="damaged or cut"):
        read_image(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone.jpg: no such image file"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(InputError, match="cannot be read"):
        read_image(tmp_path)


@pytest.mark.skipif(not (DATA / "odd").is_dir(), reason="DETNET_DATA has no odd/")
def test_real_oddities() -> None:
    assert read_image(DATA / "odd" / "images" / "00076.jpg").shape == (3, 277, 480)
    assert read_image(DATA / "odd" / "images" / "00103.jpg").shape == (3, 321, 480)
    with pytest.raises(InputError, match="00090.jpg: the image is damaged or cut"):
        read_image(DATA / "odd" / "images" / "00090.jpg")


def test_float_grey_that_is_not_finite_is_black_or_white(tmp_path: Path) -> None:
    values = np.linspace(-3e38, 3e38, 600, dtype=np.float32).reshape(20, 30)  # their span overflows
    values[3, 4:7] = np.nan, np.inf, -np.inf
    Image.fromarray(values).save(tmp_path / "a.tif")
    image = read_image(tmp_path / "a.tif")[0]
    assert image[3, 4:7].tolist() == [0, 255, 0]
    assert (image[0, 0], image[-1, -1]) == (0, 255) and 100 < image[10, 0] < 150
