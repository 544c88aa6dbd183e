"""Bodies and images of every kind are taken, or refused with a reason."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from detnet.inference.server.refusals import RefusedRequest
from detnet.inference.server.uploads import ImageForm, check_image, decode_image
from tests.inference.server.bright import colours
from tests.inference.server.conftest import file_of

TYPE = "multipart/form-data; boundary=b"
HEAD = b'Content-Disposition: form-data; name="image"; filename="a.png"\r\n'
MOST = 10_000


def part(content: bytes = b"x", head: bytes = HEAD) -> bytes:
    return b"--b\r\n" + head + b"\r\n" + content + b"\r\n"


def read(body: bytes, *, at_once: int = 7, content_type: str = TYPE) -> list[bytes]:
    form = ImageForm(content_type, max_images=3)
    for start in range(0, len(body), at_once):
        form.feed(body[start : start + at_once])
    return form.finish()


@pytest.mark.parametrize("at_once", [1, 7, 10_000])
def test_images_come_out_as_they_were(at_once: int) -> None:
    contents = [bytes(range(256)) * 3, b"", b"\r\n--B\r\n--c--\r\n--"]
    body = b"".join(map(part, contents)) + b"--b--\r\n"
    assert read(body, at_once=at_once) == contents
    quoted = 'multipart/form-data; charset=utf-8; boundary="b"'
    assert read(body, at_once=at_once, content_type=quoted) == contents


@pytest.mark.parametrize(
    ("body", "status", "pattern"),
    [
        (b"", 400, "cut off"),
        (part(), 400, "cut off"),
        (b"--b--\r\n", 422, "no field named 'image'"),
        (b"GIF89a", 400, "not multipart"),
        (b"--c\r\n" + HEAD, 400, "not multipart"),
        (
            part(head=b'Content-Disposition: form-data; name="file"\r\n'),
            422,
            "unknown field 'file'",
        ),
        (part(head=b"Content-Type: image/png\r\n"), 422, "unknown field ''"),
        (part(head=b"Content-Disposition: attachment; name=image\r\n"), 422, "unknown field"),
        (part(head=HEAD + b"A: b\r\n" * 20), 400, "header count"),
        (part(head=b"A: " + b"b" * 9000 + b"\r\n"), 400, "header size"),
        (part() * 4 + b"--b--\r\n", 413, "3 images at most"),
        (part(head=b'Content-Disposition: form-data; name="\xff\xfe"\r\n'), 422, "unknown field"),
    ],
)
def test_broken_bodies_are_refused(body: bytes, status: int, pattern: str) -> None:
    with pytest.raises(RefusedRequest, match=pattern) as error:
        read(body)
    assert error.value.status == status


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("", 415),
        ("application/json", 415),
        ("image/png", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
        ("multipart/form-data; boundary=" + "b" * 71, 400),
        ("multipart/form-data; boundary=a\r\nb", 400),
        ("multipart/mixed; boundary=b", 415),
    ],
)
def test_other_kinds_of_bodies_are_refused(content_type: str, status: int) -> None:
    with pytest.raises(RefusedRequest) as error:
        ImageForm(content_type, max_images=3)
    assert error.value.status == status


def png_of_size(width: int, height: int) -> bytes:
    """A header that claims a size, and next to no pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "status", "pattern"),
    [
        (b"", 422, "empty"),
        (b"text", 415, "no image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", 415, "no image"),
        (png_of_size(101, 100), 413, "101 x 100 pixels; 10,000 are taken"),
        (png_of_size(60_000, 60_000), 413, "pixels; 10,000 are taken"),
        (png_of_size(2**31 - 1, 2**31 - 1), 413, "pixels"),
        (png_of_size(50, 50), 422, "damaged or cut off"),
        (file_of(colours())[:150], 422, "damaged or cut off"),
        (file_of(colours(), "JPEG")[:300], 422, "damaged or cut off"),
        (file_of(colours(), "TIFF"), 415, "no image"),
    ],
)
def test_what_is_no_image_is_refused(content: bytes, status: int, pattern: str) -> None:
    with pytest.raises(RefusedRequest, match=pattern) as error:
        check_image(content, max_pixels=MOST)
        decode_image(content, max_pixels=MOST)
    assert error.value.status == status and "0x" not in str(error.value)


def test_the_header_alone_tells_the_size() -> None:
    large = file_of(np.zeros((2000, 3000, 3), np.uint8))
    with pytest.raises(RefusedRequest, match="3,000 x 2,000"):
        check_image(large, max_pixels=MOST)
    check_image(large, max_pixels=6_000_000)


def test_the_usual_bound_of_the_environment_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETNET_MAX_PIXELS", "10")
    assert decode_image(file_of(colours()), max_pixels=MOST).shape == (64, 96, 3)


def progressive(*, pictures: int = 1, empty_scans: int = 0) -> bytes:
    """A JPEG whose last scan comes again and again; an MPO where there is more than one picture."""
    stream = io.BytesIO()
    image = Image.fromarray(colours())
    more = {"format": "MPO", "save_all": True, "append_images": [image] * (pictures - 1)}
    image.save(stream, **(more if pictures > 1 else {"format": "JPEG"}), progressive=True)
    usual = stream.getvalue()
    end = usual.index(b"\xff\xd9")
    last = usual.rindex(b"\xff\xda", 0, end)
    return usual[:end] + usual[last:end] * empty_scans + usual[end:]


@pytest.mark.parametrize("pictures", [1, 2])
def test_a_jpeg_of_many_scans_is_refused_at_once(pictures: int) -> None:
    usual = progressive(pictures=pictures)
    with Image.open(io.BytesIO(usual)) as image:
        assert image.format == ("MPO" if pictures > 1 else "JPEG")
    assert decode_image(usual, max_pixels=MOST).shape == (64, 96, 3)
    with pytest.raises(RefusedRequest, match="96 x 64 pixels; 6,000 are taken"):
        check_image(usual, max_pixels=6_000)
    scans = progressive(pictures=pictures, empty_scans=5000)
    thumbnail = b"\xff\xe1\x00\x04\xff\xd9"  # its end is not the picture's
    notes = usual[:2] + b"\xff\xfe\x00\x02" * 500_000 + usual[2:]
    start = time.monotonic()
    for content, what in (
        (scans, "100 scans"),
        (scans[:2] + thumbnail + scans[2:], "100 scans"),
        (notes, "1,000 segments"),
    ):
        with pytest.raises(RefusedRequest, match=f"more than {what}"):
            check_image(content, max_pixels=MOST)
    assert time.monotonic() - start < 0.5


@pytest.mark.parametrize("pictures", [1, 2])
def test_what_phones_hang_behind_a_jpeg_has_no_scans(pictures: int) -> None:
    video = np.random.default_rng(0).bytes(1 << 20) + b"\xff\xda" * 200
    content = progressive(pictures=pictures) + video
    assert decode_image(content, max_pixels=MOST).shape == (64, 96, 3)
