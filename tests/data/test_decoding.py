"""The bound on pixels, before they are decoded, and what decoders say of broken files."""

import io
import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detnet.data.classification.transforms import TestView
from detnet.data.decoding import MAX_PIXELS, SETTING, TooLarge, most_pixels, require_size
from detnet.data.image_files import inspect_image, inspect_images
from detnet.data.images import read_image, read_pixels
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
