"""Image files of all kinds, mutated as they are built: sizes, chunks, EXIF, bombs."""

import io
import struct
import warnings
import zlib
from functools import cache

import numpy as np
from PIL import Image

from tests.torture.mutate_bytes import Random, mutate_bytes

SIZE = (48, 36)  # width, height
_MODES = {
    "jpg": ("RGB", "L", "CMYK"),
    "png": ("RGB", "RGBA", "P", "L", "LA", "1", "I;16"),
    "gif": ("P", "L"),
    "bmp": ("RGB", "L", "P"),
    "tif": ("RGB", "L", "I;16", "F", "CMYK"),
    "webp": ("RGB", "RGBA"),
    "ppm": ("RGB", "L"),
}
_SIDES = (0, 1, 2, 65535, 65536, 13_000, 20_000, 46_341, 2**31 - 1, 2**31, 2**32 - 1)


def sound_image(random: Random) -> tuple[str, bytes]:
    """The suffix and content of an image that can be read."""
    suffix = str(random.choice(("jpg", "jpg", "jpg", "png", "png", *_MODES)))
    mode = str(random.choice(_MODES[suffix]))
    pixels = random.integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode)
    options: dict[str, object] = {}
    if suffix == "jpg":
        options = {"quality": int(random.integers(30, 96)), "progressive": random.random() < 0.3}
    if suffix == "tif" and mode != "F":
        options["compression"] = str(random.choice(("raw", "tiff_lzw", "tiff_adobe_deflate")))
    if suffix in ("jpg", "png", "webp") and random.random() < 0.3:
        exif = Image.Exif()
        exif[0x0112] = int(random.integers(1, 9))
        options["exif"] = exif.tobytes()
    file = io.BytesIO()
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
    image.save(file, kind, **options)
    return suffix, file.getvalue()


def mutate_image(random: Random) -> tuple[str, bytes]:
    """The suffix and content of an image file after a mutation."""
    suffix, data = sound_image(random)
    way = random.random()
    if way < 0.55:
        data = mutate_bytes(random, data)
    elif way < 0.7:
        data = _other_size(random, suffix, data)
    elif way < 0.8 and suffix == "png":
        data = _chunks(random, data)
    elif way < 0.88:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pillow warns of what is meant
            data = _odd_exif(random, suffix, data)
    elif way < 0.94:
        suffix = str(random.choice((*_MODES, "jpeg", "JPG")))
    else:
        suffix, data = _bomb(random)
    return suffix, data


def _other_size(random: Random, suffix: str, data: bytes) -> bytes:
    """The header says another width or height; a PNG's checksum is right again."""
    side = int(random.choice(_SIDES))
    which = int(random.integers(2))
    if suffix == "png":
        return _png(data, which, side)
    if suffix == "jpg":
        for marker in (b"\xff\xc0", b"\xff\xc2"):
            at = data.find(marker)
            if at > 0:
                at += 5 + 2 * which
                return data[:at] + struct.pack(">H", side % 65536) + data[at + 2 :]
    places = {"bmp": (18, "<I"), "gif": (6, "<H")}
    if suffix in places:
        at, form = places[suffix]
        size = struct.calcsize(form)
        at += size * which
        return data[:at] + struct.pack(form, side % 256**size) + data[at + size :]
    if suffix == "ppm":
        return data.replace(str(SIZE[which]).encode(), str(side).encode(), 1)
    return mutate_bytes(random, data)


def _png(data: bytes, which: int, side: int) -> bytes:
    head = bytearray(data[12:29])
    head[4 + 4 * which : 8 + 4 * which] = struct.pack(">I", side)
    return data[:12] + bytes(head) + struct.pack(">I", zlib.crc32(head)) + data[33:]


def _chunks(random: Random, data: bytes) -> bytes:
    """A PNG's chunks dropped, doubled, moved, or changed with a right checksum."""
    found, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    place = int(random.integers(len(found)))
    name, body = found[place]
    way = int(random.integers(5))
    if way == 0:
        del found[place]
    elif way == 1:
        found.insert(place, found[place])
    elif way == 2:
        random.shuffle(found)  # type: ignore[arg-type]
    elif way == 3:
        found[place] = (name, mutate_bytes(random, body))
    else:
        text = b"Comment\x00\x00" + zlib.compress(bytes(30_000_000))
        found.insert(1, (b"zTXt", text))
    out = [data[:8]]
    for name, body in found:
        checksum = zlib.crc32(name + body)
        out.append(struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum))
    return b"".join(out)


def _odd_exif(random: Random, suffix: str, data: bytes) -> bytes:
    """EXIF that is cut, random, or says an orientation that there is not."""
    exif = Image.Exif()
    exif[0x0112] = ("up", 0, 9, 65535, (1, 2), b"\x06", 6)[int(random.integers(7))]
    try:
        content = exif.tobytes()
    except (struct.error, TypeError, ValueError):
        content = b"Exif\x00\x00" + random.bytes(60)
    if random.random() < 0.5:
        content = mutate_bytes(random, content)
    if suffix == "jpg":
        part = content[:65000]
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part + data[2:]
    file = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        # A PNG holds neither CMYK nor floats, which a mutation before this one may have made.
        (image.convert("RGB") if image.mode in ("CMYK", "F") else image).save(
            file, "PNG", exif=content
        )
    return file.getvalue()


def _bomb(random: Random) -> tuple[str, bytes]:
    """Small files of very many pixels: PNG and GIF that compress well."""
    size = ((13_000, 13_000), (9_000, 9_000), (65_000, 3_000))[int(random.integers(3))]
    return ("gif", _large_gif(*size)) if random.random() < 0.3 else ("png", _large_png(*size))


@cache  # it takes seconds
def _large_gif(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("P", (width // 2, height // 2)).save(file, "GIF")
    return file.getvalue()


@cache
def _large_png(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(1)
    rows = bytes(100 * (1 + 3 * width))
    body = b"".join(packer.compress(rows) for _ in range(height // 100)) + packer.flush()
    parts = [(b"IHDR", head), (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in parts
    )
