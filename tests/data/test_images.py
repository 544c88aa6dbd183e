"""Pictures as they are read, the bound on pixels, and what a file says of itself."""

import io
import logging
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detnet.data.classification.transforms import TestView
from detnet.data.image_check import inspect_image, inspect_images
from detnet.data.images import (
    MAX_PIXELS,
    SETTING,
    TooLarge,
    listening,
    most_pixels,
    read_image,
    read_pixels,
    require_size,
    to_rgb,
)
from detnet.errors import InputError
from detnet.inference.media import find_media


def png_of(width: int, height: int) -> bytes:
    """A PNG of one bit a pixel whose header says this size and whose data are a few bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 99)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(13_000, 13_000))
    assert path.stat().st_size < 200
    return path


def test_a_bomb_is_refused_before_it_is_decoded(bomb: Path) -> None:
    view = TestView(64, 73)
    readers = (
        read_image,
        read_pixels,
        view,
        lambda path: find_media([path], path.parent / "out"),
    )
    for read in readers:
        with pytest.raises(InputError, match=r"bomb.png: 13,000 x 13,000 pixels") as caught:
            read(bomb)
        assert SETTING in str(caught.value) and "\n" not in str(caught.value)
    facts = inspect_image(bomb)
    assert facts.error == "image-too-large" and "13,000 x 13,000" in facts.message
    assert inspect_images([bomb])[bomb] == facts


def test_between_pillows_warning_and_our_bound(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_of(10_000, 9_500))
    with pytest.raises(InputError, match="damaged or cut"):  # its data are too few, not its pixels
        read_image(tmp_path / "a.png")


def test_the_bound_can_be_moved(
    bomb: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (60, 40)).save(path)
    monkeypatch.setenv(SETTING, "2399")
    with pytest.raises(InputError, match="60 x 40 pixels are more than the 2,399"):
        read_image(path)
    assert inspect_image(path).error == "image-too-large"
    monkeypatch.setenv(SETTING, "2400")
    assert read_image(path).shape == (3, 40, 60)
    monkeypatch.setenv(SETTING, "500e6")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    with pytest.raises(InputError, match="damaged or cut"):
        read_image(bomb)
    for wrong in ("many", "0", "-5", "nan", "inf"):
        monkeypatch.setenv(SETTING, wrong)
        with pytest.raises(InputError, match=f"{SETTING}={wrong}: write a number"):
            most_pixels()


def test_photographs_and_panoramas_pass() -> None:
    for size in ((11_648, 8_736), (16_384, 8_192), (1, MAX_PIXELS)):
        require_size(*size)
    with pytest.raises(TooLarge):
        require_size(1, MAX_PIXELS + 1)


def test_no_program_is_run(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 20\n%%EndComments\n")
    with pytest.raises(InputError, match=r"a.jpg: is not an image"):
        read_image(path)
    assert inspect_image(path).error == "image-unreadable"


def cut_exif() -> bytes:
    """A JPEG whose EXIF says more than it has, which pillow reads on with a warning."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    entry = struct.pack("<HHHIII", 9, 0x0112, 3, 1, 1, 0)  # nine entries promised, one there
    exif = b"Exif\0\0II*\0\x08\0\0\0" + entry
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_a_broken_files_warning_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(cut_exif())
    with pytest.warns(UserWarning, match=r"a.jpg: .*[Cc]orrupt EXIF"):
        assert read_image(path).shape == (3, 20, 30)
    facts = inspect_images([path])[path]
    assert facts.error == "" and "orrupt EXIF" in facts.warned[0]


def test_threads_that_listen_at_once_give_warnings_back(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(cut_exif())
    with pytest.warns(UserWarning, match=r"a.jpg: .*[Cc]orrupt EXIF"):
        before = warnings.showwarning, list(warnings.filters)
        first, second = listening(), listening()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)  # before the one that came after it
        read_image(path)
        second.__exit__(None, None, None)
        assert (warnings.showwarning, warnings.filters) == before


def test_headers_that_pillow_itself_stumbles_over(tmp_path: Path) -> None:
    """More pixels than pillow's own bound, and a text that would fill the memory."""
    huge, wordy = tmp_path / "huge.png", tmp_path / "wordy.png"
    huge.write_bytes(png_of(15_000, 13_000))
    text = b"zTXt" + b"Comment\0\0" + zlib.compress(b" " * 2**21)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    sound = png_of(40, 30)
    wordy.write_bytes(sound[:33] + chunk + sound[33:])
    for path, said in ((huge, f"195,000,000 pixels.*{SETTING}"), (wordy, "neither an image")):
        with pytest.raises(InputError, match=f"{path.name}: .*{said}") as caught:
            find_media([path], tmp_path / "out")
        assert "\n" not in str(caught.value)
        with pytest.raises(InputError, match=path.name):
            read_image(path)
    assert inspect_image(huge).error == "image-too-large"


def test_what_decoders_log_does_not_reach_standard_error() -> None:
    handlers = logging.getLogger("PIL").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)


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
    with pytest.raises(InputError, match="damaged or cut: the file ends before the picture does$"):
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


@pytest.mark.parametrize("name", ["x\0y.png", "\ud800.png"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(InputError) as caught:
        read_pixels(Path(name))
    assert str(caught.value).endswith(f": no file can be named {ascii(name)}")
