"""What a file of an image says of itself, and what is told of one that is broken."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detnet.data.image_check import inspect_image, inspect_images
from detnet.data.images import read_image, read_pixels
from detnet.errors import InputError


def picture(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rotated(orientation: int) -> bytes:
    """A JPEG of 64x48 with that EXIF orientation, however absurd: pillow writes 16 bits only."""
    entry = struct.pack("<HHHIII", 1, 0x0112, 4, 1, orientation, 0)
    return encoded(picture(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0" + entry)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_a_good_image(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.image"
    path.write_bytes(encoded(picture(), kind))
    facts = inspect_image(path)
    assert (facts.error, facts.width, facts.height, facts.orientation) == ("", 64, 48, 1)
    assert len(facts.digest) == 16


@pytest.mark.parametrize("orientation", range(9))
def test_orientation_gives_the_size_that_the_loader_gives(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(rotated(orientation))
    facts = inspect_image(path)
    assert (facts.width, facts.height, facts.orientation) == (64, 48, orientation)
    assert facts.upright_size == ((48, 64) if orientation >= 5 else (64, 48))
    assert tuple(read_image(path).shape[1:]) == facts.upright_size[::-1]


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiffs_orientation_does(
    tmp_path: Path, compression: str | None, orientation: int
) -> None:
    """Which pillow turns itself, as it does no other file."""
    path = tmp_path / "a.tif"
    picture().save(path, compression=compression, tiffinfo={0x0112: orientation})
    for facts in (inspect_image(path), inspect_images([path], sizes_only=True)[path]):
        assert (facts.width, facts.height, facts.orientation) == (64, 48, orientation)
        assert facts.upright_size == ((48, 64) if orientation >= 5 else (64, 48))
    assert tuple(read_image(path).shape[1:]) == facts.upright_size[::-1]


def test_an_orientation_beyond_sixteen_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(rotated(65537))
    facts = inspect_image(path)
    assert (facts.error, facts.orientation, facts.upright_size) == ("", 65537, (64, 48))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_cut_image(tmp_path: Path, kind: str, kept: float) -> None:
    content = encoded(picture(), kind)
    path = tmp_path / "a.image"
    path.write_bytes(content[: int(len(content) * kept)])
    facts = inspect_image(path)
    assert facts.error in ("image-truncated", "image-unreadable")
    if kind == "JPEG":
        assert facts.error == "image-truncated"
        assert facts.message == "the image is cut off: the file ends before the picture does"
        assert (facts.width, facts.height) == (64, 48)
    assert "\n" not in facts.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"no image here\n", "a text file, not an image; it starts with 'no image here'"),
        ("<html>\nпривет".encode(), "a text file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (bytes(range(256)) * 4, "not an image in a format"),
    ],
)
def test_a_file_that_is_no_image(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    facts = inspect_image(path)
    assert facts.error == "image-unreadable"
    assert message in facts.message


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert inspect_image(tmp_path / "none.jpg").error == "image-missing"
    assert inspect_image(tmp_path / "a\0b.jpg").error == "image-unreadable"
    assert inspect_image(tmp_path).error == "image-unreadable"


def test_each_file_is_read_once_and_progress_counts(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for index, path in enumerate(paths):
        path.write_bytes(encoded(picture(seed=index // 2), "PNG"))
    told: list[tuple[int, int]] = []
    found = inspect_images(paths * 2, progress=lambda *done: told.append(done))
    assert list(found) == paths
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert found[paths[0]].digest == found[paths[1]].digest != found[paths[2]].digest


def test_a_png_of_broken_data_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.arange(36 * 48, dtype=np.uint8).reshape(36, 48)).save(path)
    content = path.read_bytes()
    at = content.index(b"IDAT") + 4
    path.write_bytes(content[:at] + b"\xff" * 4 + content[at + 4 :])
    facts = inspect_image(path)
    assert (facts.error, facts.width, facts.height) == ("image-unreadable", 48, 36)
    with pytest.raises(InputError, match=r"a\.png: the image is damaged"):
        read_pixels(path)
