"""Requests that a server should refuse: broken HTTP, broken forms, and images that are none."""

import io
import random
import struct
import zlib
from collections.abc import Callable

from PIL import Image

Make = Callable[[random.Random], bytes]
_TYPE = "multipart/form-data; boundary=b"
_PART = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
_END = b"\r\n--b--\r\n"


def request(body: bytes = b"", *, start: str = "POST /predict", headers: str = "") -> bytes:
    """A request with a body of its length; `headers` may name a Content-Type of its own."""
    kind = "" if "Content-Type" in headers else f"Content-Type: {_TYPE}\r\n"
    head = f"{start} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{kind}{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def upload(image: bytes) -> bytes:
    """A sound request with one file."""
    return request(_PART + image + _END)


def picture(
    format: str, *, width: int = 160, height: int = 120, seed: int = 0, **options: bool
) -> bytes:
    """A picture of soft patches in one of pillow's formats."""
    noise = Image.frombytes("RGB", (40, 30), random.Random(seed).randbytes(3600))
    stream = io.BytesIO()
    noise.resize((width, height), Image.Resampling.BICUBIC).save(stream, format, **options)
    return stream.getvalue()


def _claiming(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


def _changed(content: bytes, by: random.Random) -> bytes:
    """A file of which some bytes are others."""
    changed = bytearray(content)
    for _ in range(by.randint(1, 40)):
        changed[by.randrange(len(changed))] = by.randrange(256)
    return bytes(changed)


def _scans() -> bytes:
    content = picture("JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * 2000 + b"\xff\xd9"


_JPEG, _PNG, _GIF = picture("JPEG"), picture("PNG"), picture("GIF")
_WEBP, _BMP, _SCANS = picture("WEBP"), picture("BMP"), _scans()
_GET = "GET /health HTTP/1.1\r\nHost: localhost\r\n"

KINDS: dict[str, Make] = {
    "random bytes": lambda by: by.randbytes(by.randint(1, 2000)) + b"\r\n\r\n",
    "TLS": lambda by: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + by.randbytes(500),
    "another protocol": lambda by: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": lambda by: b"GET /health\r\n\r\n",
    "a method of signs": lambda by: b"G@T /health HTTP/1.1\r\nHost: a\r\n\r\n",
    "a header without colon": lambda by: f"{_GET}nothing\r\n\r\n".encode(),
    "two hosts": lambda by: f"{_GET}Host: other\r\n\r\n".encode(),
    "no host": lambda by: b"GET /health HTTP/1.1\r\n\r\n",
    "a negative length": lambda by: f"{_GET}Content-Length: -{by.randint(1, 9)}\r\n\r\n".encode(),
    "two lengths": lambda by: f"{_GET}Content-Length: 1\r\nContent-Length: 2\r\n\r\n".encode(),
    "a length and chunks": lambda by: (
        f"{_GET}Content-Length: 5\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n".encode()
    ),
    "chunks of no size": lambda by: (
        f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: {_TYPE}\r\n"
        "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n"
    ).encode(),
    "a giant header": lambda by: f"{_GET}A: {'a' * by.randint(600_000, 700_000)}".encode(),
    "a giant address": lambda by: f"GET /{'a' * 600_000}".encode(),
    "an unknown address": lambda by: request(start=f"GET /{by.randbytes(9).hex()}"),
    "a path out": lambda by: request(start="GET /../../../etc/passwd"),
    "a path in hexadecimal": lambda by: request(start="GET /%2e%2e%2f%00%ff"),
    "an address as path": lambda by: request(start="GET http://169.254.169.254/latest"),
    "another method": lambda by: request(start=f"{by.choice(['PUT', 'DELETE', 'TRACE'])} /predict"),
    "a query of nonsense": lambda by: request(
        start=f"POST /predict?score_threshold={by.choice(['nan', '-1', '1e99', '%00', ''])}"
    ),
    "an upgrade": lambda by: request(
        start="GET /predict", headers="Connection: Upgrade\r\nUpgrade: websocket\r\n"
    ),
    "another type": lambda by: request(
        b'{"image": "/etc/passwd"}', headers="Content-Type: application/json\r\n"
    ),
    "no boundary": lambda by: request(b"a", headers="Content-Type: multipart/form-data\r\n"),
    "a long boundary": lambda by: request(
        b"a", headers=f"Content-Type: multipart/form-data; boundary={'b' * 5000}\r\n"
    ),
    "a body of another form": lambda by: request(by.randbytes(by.randint(1, 50_000))),
    "a form that is cut": lambda by: request(_PART + _JPEG[: by.randint(0, 2000)]),
    "thousands of parts": lambda by: request((_PART + b"a\r\n") * 3000 + _END),
    "a part with a giant header": lambda by: request(b"--b\r\nA: " + b"a" * 100_000 + b"\r\n\r\n"),
    "a part with many headers": lambda by: request(b"--b\r\n" + b"A: b\r\n" * 3000 + b"\r\n"),
    "another field": lambda by: request(_PART.replace(b'"image"', b'"file"') + _JPEG + _END),
    "a name of a file elsewhere": lambda by: request(
        _PART.replace(b"a.jpg", b"../../etc/passwd") + b"text" + _END
    ),
    "a giant length": lambda by: request(headers="").replace(b"Length: 0", b"Length: 99999999999"),
    "no image": lambda by: upload(by.choice([b"", b"text", b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0"])),
    "a cut JPEG": lambda by: upload(_JPEG[: by.randint(1, len(_JPEG) - 3)]),
    "a cut PNG": lambda by: upload(_PNG[: by.randint(1, len(_PNG) - 20)]),
    "a claim of pixels": lambda by: upload(_claiming(by.randint(30_000, 2**31 - 1), 60_000)),
    "a changed JPEG": lambda by: upload(_changed(_JPEG, by)),
    "a changed PNG": lambda by: upload(_changed(_PNG, by)),
    "a changed file": lambda by: upload(_changed(by.choice([_GIF, _WEBP, _BMP]), by)),
    "thousands of scans": lambda by: upload(_SCANS),
}
