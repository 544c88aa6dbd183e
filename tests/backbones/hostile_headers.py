"""Model files whose header lies, each made of a sound one: what is changed, what must be said."""

import json
import struct
from collections.abc import Callable
from typing import Any

Header = dict[str, Any]


def split(content: bytes) -> tuple[Header, bytes]:
    """A file's own header and its data."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(header: bytes | Header, data: bytes, *, length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def with_text(content: bytes, text: str) -> bytes:
    """The file with another text in the place of our description."""
    header, data = split(content)
    return join({**header, "__metadata__": {"detnet": text}}, data)


def with_entries(content: bytes, **changes: Any) -> bytes:
    """The file with other entries in our description; None takes one out."""
    header, _ = split(content)
    ours = json.loads(header["__metadata__"]["detnet"])
    for name, value in changes.items():
        if value is None:
            ours.pop(name)
        elif name == "options":
            ours["options"] = {**ours.get("options", {}), **value}
        else:
            ours[name] = value
    return with_text(content, json.dumps(ours))


def _tensor(header: Header) -> Header:
    return next(entry for name, entry in header.items() if name != "__metadata__")


def _changed(change: Callable[[Header], Any]) -> Callable[[bytes], bytes]:
    def make(content: bytes) -> bytes:
        header, data = split(content)
        change(header)
        return join(header, data)

    return make


def _overlap(header: Header) -> None:
    first, second = [entry for name, entry in header.items() if name != "__metadata__"][:2]
    second["data_offsets"] = first["data_offsets"]


def _entries(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda content: with_entries(content, **changes)


def _options(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda content: with_entries(content, options=changes)


def _text(text: str) -> Callable[[bytes], bytes]:
    return lambda content: with_text(content, text)


_STEM = "backbone.backbone.stem.conv.weight"
_WHOLE = "not a whole .safetensors"
_DEEP = {"a": json.loads("[" * 40 + "]" * 40)}
_BLOCKS = {
    "kind": "shuffle",
    "stem_channels": 8,
    "rows": [{"name": "c2", "blocks": 10**9, "channels": 16}],
}

# Wrong as .safetensors, for every reader alike.
RAW: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "no JSON": (lambda c: join(b"{not json", b""), _WHOLE),
    "a list": (lambda c: join(b"[1, 2, 3]", b""), _WHOLE),
    "deep": (lambda c: join(b'{"a":' + b"[" * 99_999, b""), _WHOLE),
    "header of 2^62 bytes": (lambda c: join(b"{}", b"", length=2**62), _WHOLE),
    "header longer than the file": (lambda c: join(b"{}", b"", length=99), _WHOLE),
    "empty": (lambda c: b"", _WHOLE),
    "seven bytes": (lambda c: b"\0" * 7, _WHOLE),
    "cut": (lambda c: c[: len(c) // 2], _WHOLE),
    "offsets overlap": (_changed(_overlap), _WHOLE),
    "offsets beyond the data": (
        _changed(lambda h: _tensor(h).update(data_offsets=[2**40, 2**41])),
        _WHOLE,
    ),
    "offsets backwards": (_changed(lambda h: _tensor(h)["data_offsets"].reverse()), _WHOLE),
    "a shape that disagrees": (_changed(lambda h: _tensor(h).update(shape=[7, 7])), _WHOLE),
    "a shape beyond 64 bits": (_changed(lambda h: _tensor(h).update(shape=[2**62, 8])), _WHOLE),
    "a negative shape": (_changed(lambda h: _tensor(h).update(shape=[-1])), _WHOLE),
    "an unknown type": (_changed(lambda h: _tensor(h).update(dtype="F12")), _WHOLE),
    "a huge tensor": (
        _changed(lambda h: h.update(x={"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4]})),
        _WHOLE,
    ),
    "metadata of numbers": (_changed(lambda h: h.update(__metadata__={"detnet": 1})), _WHOLE),
    "metadata that is a list": (_changed(lambda h: h.update(__metadata__=[1])), _WHOLE),
}

# Wrong in our own description, whatever the network.
TEXTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "no text": (_text(""), "is not JSON"),
    "half an object": (_text('{"format_version": 1'), "is not JSON"),
    "null": (_text("null"), "is no JSON object"),
    "a list": (_text("[1]"), "is no JSON object"),
    "a text": (_text('"x"'), "is no JSON object"),
    "deep as Python allows": (_text('{"format_version": 1, "a": ' + "[" * 99_999), "is not JSON"),
    "too deep": (_text(json.dumps({"format_version": 1, **_DEEP})), "deeper than 16"),
    "NaN": (_text('{"format_version": 1, "num_classes": NaN}'), "is not JSON"),
    "1e999": (_text('{"format_version": 1, "num_classes": 1e999}'), "not finite"),
    "five thousand digits": (_text('{"format_version": 1, "a": ' + "9" * 5000 + "}"), "not JSON"),
    "a number of 90 bits": (_text('{"format_version": 1, "a": ' + "9" * 27 + "}"), "64 bits"),
    "too long": (_text(" " * (16 * 2**20 + 1)), "characters"),
    "no version": (_entries(format_version=None), "format version None"),
    "version 2": (_entries(format_version=2), "format version 2"),
    "version true": (_entries(format_version=True), "format version True"),
    "a version in words": (_entries(format_version="1"), "format version '1'"),
    "a version of versions": (_entries(format_version=[1]), r"format version \[1\]"),
    "an unknown kind": (_entries(kind="virus"), "unknown kind of network 'virus'"),
    "a kind that is a list": (_entries(kind=["detector"]), "unknown kind of network"),
    "no backbone": (_entries(backbone=None), "nothing of backbone"),
    "an unknown backbone": (_entries(backbone="vgg"), "unknown backbone 'vgg'"),
    "a backbone of 10^5 letters": (_entries(backbone="x" * 10**5), "unknown backbone"),
    "a backbone that is a number": (_entries(backbone=59), "backbone must be a text"),
    "an unknown entry": (_entries(code="import os"), "unknown entry 'code'"),
    "options that are a list": (
        _text('{"format_version": 1, "kind": "backbone", "backbone": "resnet50", "options": []}'),
        "options must be an object",
    ),
    "width in words": (_options(width="1"), "width must be a finite number"),
    "stride_in of 3": (_options(stride_in=3), "stride_in must be '1x1' or '3x3'"),
    "an unknown norm": (_options(norm="none"), "norm must be"),
}  # fmt: skip

# Wrong for a detector alone; other readers may take the weights.
DETECTOR: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a classifier's": (
        _text('{"format_version": 1, "kind": "classifier", "backbone": "resnet50", "classes": []}'),
        "holds a classifier",
    ),
    "no detector": (_entries(detector=None), "nothing of detector"),
    "an unknown detector": (_entries(detector="ssd9000"), "unknown detector 'ssd9000'"),
    "a detector that is a list": (_entries(detector=[]), "detector must be a text"),
    "no num_classes": (_entries(num_classes=None), "nothing of num_classes"),
    "num_classes in words": (_entries(num_classes="3"), "num_classes must be a whole number"),
    "num_classes true": (_entries(num_classes=True), "num_classes must be a whole number"),
    "half a class": (_entries(num_classes=2.5), "num_classes must be a whole number"),
    "minus one class": (_entries(num_classes=-1), "num_classes must be 2 or more"),
    "10^9 classes": (_entries(num_classes=10**9, categories=[]), "does not fit its weights"),
    "2^62 classes": (_entries(num_classes=2**62, categories=[]), "does not fit its weights"),
    "width 1e9": (_options(width=1e9), "width must lie in"),
    "width 8": (_options(width=8.0), "does not fit its weights"),
    "width 0": (_options(width=0), "width must lie in"),
    "an unknown option": (_options(run="rm"), "unknown option of retinanet 'run'"),
    "min_size in words": (_options(min_size="800"), "min_size must be a whole number"),
    "min_size 0": (_options(min_size=0), "need 0 < min_size"),
    "max_size 10^9": (_options(max_size=10**9), "need 0 < min_size"),
    "two means": (_options(pixel_mean=[0.5, 0.5]), "pixel_mean must be a list of 3 finite"),
    "means in words": (_options(pixel_mean=["a", "b", "c"]), "pixel_mean must be a list of 3"),
    "deviations of 0": (_options(pixel_std=[0, 0, 0]), "pixel_std must be positive"),
    "an order of no colours": (_options(channel_order="xyz"), "channel_order must be"),
    "frozen in one word": (_options(frozen="stem"), "frozen must be a list of texts"),
    "an unknown frozen part": (_options(frozen=["c9"]), "cannot freeze 'c9'"),
    "a threshold that is a list": (_options(score_threshold=[0.5]), "score_threshold must be a"),
    "backbone options in words": (_options(backbone_options="x"), "backbone_options must be an"),
    "unknown backbone options": (_options(backbone_options={"x": 1}), "unknown option of detnet59"),
    "searched without a space": (_entries(backbone="searched"), "searched asks for space"),
    "an unknown space": (
        _entries(backbone="searched", options={"backbone_options": {"space": "x", "path": "0"}}),
        "unknown space",
    ),
    "a space of 10^9 blocks": (
        _entries(
            backbone="searched", options={"backbone_options": {"space": _BLOCKS, "path": [0]}}
        ),
        "1 to 1000 blocks",
    ),
    "a path of words": (
        _entries(
            backbone="searched",
            options={"backbone_options": {"space": "detnas_small", "path": ["a"] * 20}},
        ),
        "describes no network|path",
    ),
    "another backbone": (_entries(backbone="resnet101"), "do(es)? not fit"),
    "another detector": (_entries(detector="fcos"), "unknown option of fcos|do(es)? not fit"),
    "categories that are an object": (_entries(categories={}), "categories must be a list"),
    "categories of words": (_entries(categories=["cat"]), "categories must be a list of objects"),
    "a category without a name": (_entries(categories=[{"id": 1}]), "name of category 0"),
    "an id in words": (_entries(categories=[{"id": "1", "name": "a"}]), "id of category 0"),
    "too many categories": (
        _entries(categories=[{"id": n, "name": str(n)} for n in range(9)]),
        "names 9 categories",
    ),
    "one id twice": (
        _entries(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]),
        "the same id",
    ),
    "a broken skeleton": (
        _entries(
            categories=[
                {"id": 1, "name": "a", "keypoints": ["x"], "skeleton": [[1, 99]]},
                {"id": 2, "name": "b"},
            ]
        ),
        "category 1",
    ),
    "shapes of another network": (
        _changed(lambda h: h[_STEM].update(shape=h[_STEM]["shape"][::-1])),
        "do not fit a retinanet",
    ),
    "a tensor without numbers": (
        _changed(
            lambda h: h.update(x={"dtype": "F32", "shape": [2**40, 0], "data_offsets": [0, 0]})
        ),
        "do not fit a retinanet|not a whole",
    ),
}  # fmt: skip

CLASSIFIER: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "classes in one word": (_entries(classes="cats"), "classes must be a list of texts"),
    "classes that are numbers": (_entries(classes=[1, 2, 3]), "classes must be a list of texts"),
    "no classes": (_entries(classes=[]), "names no class"),
    "no entry of classes": (_entries(classes=None), "nothing of classes"),
    "a class too few": (_entries(classes=["a", "b"]), "do not fit"),
    "10^6 classes": (_entries(classes=["a"] * 10**6), "does not fit its weights"),
    "images of no size": (_entries(input_size=0), "input_size"),
    "images of 10^9": (_entries(input_size=10**9), "input_size"),
    "a side in words": (_entries(short_side="256"), "short_side must be a whole number"),
    "two means": (_entries(pixel_mean=[0.5, 0.5]), "pixel_mean must be a list of 3"),
    "negative deviations": (_entries(pixel_std=[-1, 1, 1]), "pixel_std must be positive"),
    "an order of no colours": (_entries(channel_order="xyz"), "channel_order must be"),
    "a detector's": (_entries(kind="detector"), "nothing of detector"),
}
