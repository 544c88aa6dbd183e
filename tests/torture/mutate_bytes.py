"""Mutates bytes and text: flipped, cut, doubled, other encodings, odd numbers."""

import gzip
import re

import numpy as np

Random = np.random.Generator

_ODD = (
    *("nan", "inf", "-inf", "-1", "0", "-0", "1e400", "1e-400", "1e9", "99999999999999999999"),
    *("9" * 5000, "0x10", "1_000", "1,5", "٣", "½", "", " ", "1 2", "1.2.3", "+", "-", "e", "None"),
    *("true", "null", "\x00", "\ufeff1", "0.5", "1.0000001", "-0.0001", "2", "7", "3.7", "\u2028"),
)
_WORDS = (
    "<",
    ">",
    "&",
    "]]>",
    "\n",
    "\r",
    "\t",
    " ",
    "{",
    "[",
    ":",
    "- ",
    "#",
    '"',
    "'",
    "\\",
    "%s",
)


def mutate_bytes(random: Random, data: bytes) -> bytes:
    """Flips, cuts, inserts, repeats, or makes something else of it altogether."""
    way = int(random.integers(14))
    size = len(data)
    if way < 5:  # a few bytes flipped, anywhere or near the beginning
        reach = size if way < 3 else min(size, 256)
        changed = bytearray(data)
        for _ in range(int(random.choice((1, 1, 2, 8, 64)))):
            if reach:
                changed[int(random.integers(reach))] ^= int(random.integers(1, 256))
        return bytes(changed)
    at, end = sorted(int(place) for place in random.integers(0, size + 1, 2))
    if way < 8:
        return data[:at]
    if way == 8:
        return data[:at] + data[end:]
    if way == 9:
        return data[:at] + random.bytes(int(random.integers(1, 64))) + data[at:]
    if way == 10:
        return data[:end] + data[at:]
    if way == 11:
        return data[:at] + b"\x00" * (end - at) + data[end:]
    if way == 12:
        return data + data[:at]
    return _another(random, data)


def _another(random: Random, data: bytes) -> bytes:
    """Not this file at all."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
    page = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    others = (b"", b"\x00" * 100, random.bytes(300), pointer, page, gzip.compress(data), data[::-1])
    return others[int(random.integers(len(others)))]


def mutate_text(random: Random, data: bytes) -> bytes:
    """Changes words, numbers and lines of a text, or its encoding."""
    text = data.decode("utf-8", "replace")
    way = int(random.integers(9))
    if way < 4:
        return odd_number(random, text).encode("utf-8", "surrogatepass")
    if way == 4:
        at = int(random.integers(len(text) + 1))
        return (text[:at] + _WORDS[int(random.integers(len(_WORDS)))] + text[at:]).encode()
    if way == 5:
        lines = text.splitlines(keepends=True)
        random.shuffle(lines)
        return "".join(lines).encode()
    if way == 6:
        lines = text.splitlines(keepends=True)
        keep = random.random(len(lines)) > 0.2
        return "".join(line for line, kept in zip(lines, keep, strict=True) if kept).encode()
    if way == 7:
        encoding = ("utf-16", "utf-32", "latin-1", "utf-8-sig", "cp037")[int(random.integers(5))]
        return (text + "é").encode(encoding)
    return text.replace("\n", ("\r\n", "\r", "\x0b", "")[int(random.integers(4))]).encode()


def odd_number(random: Random, text: str) -> str:
    """The text with one of its numbers, or of its words, become an odd one."""
    pattern = r"-?\d+(\.\d+)?" if random.random() < 0.8 else r"\w+"
    found = list(re.finditer(pattern, text))
    if not found:
        return _ODD[int(random.integers(len(_ODD)))]
    one = found[int(random.integers(len(found)))]
    odd = _ODD[int(random.integers(len(_ODD)))]
    return text[: one.start()] + odd + text[one.end() :]
