"""Takes images out of a request's body as it arrives, bounded, and decodes them by content."""

import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from detnet.data.images import TooLarge, opened, to_rgb
from detnet.inference.engines.base import Pixels
from detnet.inference.server.refusals import RefusedRequest

# Pillow's names; what phones, cameras and browsers make. No other decoder sees a byte.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
FIELD = "image"
# Each scan of a progressive JPEG passes over the whole picture again: ten are usual, and thousands
# of empty ones keep a decoder busy for minutes. Pillow reads the other segments in Python.
_MOST_SCANS, _MOST_SEGMENTS = 100, 1_000
_SCAN, _END = b"\xda", b"\xd9"
# What a segment begins with; other bytes after 0xff stand in a scan's data or alone.
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{1,70}")  # RFC 2046, section 5.1.1


class ImageForm:
    """Collects the images of one multipart body.

    Args:
        content_type: the request's header.
        max_images: how many it may hold.

    Raises:
        RefusedRequest: the header is not one of multipart/form-data.
    """

    def __init__(self, content_type: str, *, max_images: int) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind.lower() != b"multipart/form-data":
            raise RefusedRequest(
                415, f"send the images as multipart/form-data, in fields named {FIELD!r}"
            )
        if not _BOUNDARY.fullmatch(boundary) or boundary.endswith(b" "):
            raise RefusedRequest(400, "multipart/form-data: the boundary is missing or not valid")
        self.images: list[bytes] = []
        self._max_images = max_images
        self._part: bytearray | None = None
        self._name = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._complete = False
        told: Mapping[str, Callable[..., None]] = {
            "on_part_begin": self._begin,
            "on_header_field": self._add_name,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_data,
            "on_part_data": self._add_data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }
        self._parser = MultipartParser(boundary, told)  # type: ignore[arg-type]

    def feed(self, data: bytes) -> None:
        """Takes the next bytes.

        Raises:
            RefusedRequest: they are not multipart, or hold what is not taken.
        """
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise RefusedRequest(400, f"the body is not multipart/form-data: {error}") from None

    def finish(self) -> list[bytes]:
        """Gives the images, in their order.

        Raises:
            RefusedRequest: the body is cut off, or holds none.
        """
        if not self._complete:
            raise RefusedRequest(400, "the body is cut off: its last boundary is missing")
        if not self.images:
            raise RefusedRequest(422, f"the body holds no field named {FIELD!r}")
        return self.images

    def _begin(self) -> None:
        if len(self.images) == self._max_images:
            raise RefusedRequest(413, f"a request takes {self._max_images} images at most")
        self._headers = {}

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _begin_data(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"")
        if kind != b"form-data" or name != FIELD.encode():
            seen = ascii(name[:40].decode("utf-8", "replace"))
            raise RefusedRequest(422, f"unknown field {seen}; name each image {FIELD!r}")
        self._part = bytearray()

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        assert self._part is not None  # the parser calls in this order
        self._part += data[start:end]

    def _end(self) -> None:
        assert self._part is not None
        self.images.append(bytes(self._part))
        self._part = None

    def _finish(self) -> None:
        self._complete = True


def check_image(content: bytes, *, max_pixels: int) -> None:
    """Refuses by its header what is not decoded.

    Raises:
        RefusedRequest: no image of `FORMATS`, or one of too many pixels.
    """
    with _opened(content, max_pixels):
        pass


def decode_image(content: bytes, *, max_pixels: int) -> Pixels:
    """Decodes an image as prediction does: upright, RGB.

    Raises:
        RefusedRequest: it is damaged or cut off.
    """
    with _opened(content, max_pixels) as image:
        try:
            return to_rgb(image)
        except MemoryError:
            raise
        except Exception:  # decoders raise anything on damaged data, and some tell addresses
            raise RefusedRequest(422, "the image is damaged or cut off") from None


@contextmanager
def _opened(content: bytes, max_pixels: int) -> Iterator[Image.Image]:
    if not content:
        raise RefusedRequest(422, "the image is empty")
    if content.startswith(b"\xff\xd8"):  # of pillow's JPEG and of its MPO, as phones make them
        _require_few_segments(content)
    try:
        with opened(io.BytesIO(content), formats=FORMATS, most=max_pixels) as image:
            yield image
    except TooLarge as error:
        size = str(error).partition(" pixels")[0]
        raise RefusedRequest(
            413, f"the image has {size} pixels; {max_pixels:,} are taken at most"
        ) from None
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise RefusedRequest(415, f"no image that is read here; send one of {known}") from None
    except OSError:
        raise RefusedRequest(422, "the image is damaged or cut off") from None


def _require_few_segments(jpeg: bytes) -> None:
    """Looks as far as the picture's end, as decoders do; phones put a video behind it."""
    scans, place = 0, 2
    for _ in range(_MOST_SEGMENTS):
        marker = _MARKER.search(jpeg, place)
        if marker is None or marker[1] == _END:
            return
        scans += marker[1] == _SCAN
        if scans > _MOST_SCANS:
            raise RefusedRequest(422, f"the JPEG has more than {_MOST_SCANS} scans")
        place = marker.end() + int.from_bytes(jpeg[marker.end() : marker.end() + 2])
    raise RefusedRequest(422, f"the JPEG has more than {_MOST_SEGMENTS:,} segments")
