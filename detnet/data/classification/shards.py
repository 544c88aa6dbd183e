"""Classified images in tar files, as the webdataset package writes them.

A shard holds an image and its class under one key: `00017.jpg` with `00017.cls`, a number in text.
Shards are read where an image lies, not from end to end, so that the order is the keyed one of all
data here and a run resumes exactly. The webdataset package is needed to write them, not to read.
"""

import os
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np

from detnet.coco.annotations import FlatBytes
from detnet.data.classification.image_folder import (
    ClassifiedImages,
    ImageFolder,
    Listing,
    index_folder,
    listed,
)
from detnet.data.images import IMAGE_SUFFIXES
from detnet.errors import InputError
from detnet.files import read_text

_LABEL = ".cls"
_CLASSES = "classes.txt"

Entry = tuple[str, int, int, int]  # name, label, offset, size


@dataclass(frozen=True, eq=False, kw_only=True)
class ShardedImages(ClassifiedImages):
    """The images of a folder of shards, in their order; names are those in the shards.

    Classes are those of classes.txt beside the shards or one folder up, else numbers.

    Args:
        shards: file names.
        shard_of: (N,) int32.
        offsets: (N,) int64, where an image's bytes begin in its shard.
        sizes: (N,) int64, bytes.
    """

    shards: tuple[str, ...]
    shard_of: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray

    def name(self, index: int) -> str:
        """An image's shard and its name in there."""
        return f"{self.shards[self.shard_of[index]]}/{os.fsdecode(self.names[index])}"

    def content(self, index: int) -> IO[bytes]:
        """An image's bytes.

        Raises:
            InputError: its shard cannot be read.
        """
        shard = self.path / self.shards[self.shard_of[index]]
        try:
            with shard.open("rb") as file:
                file.seek(int(self.offsets[index]))
                return BytesIO(file.read(int(self.sizes[index])))
        except OSError as error:
            raise InputError(f"{shard}: cannot be read: {error.strerror}") from None

    def fingerprint(self) -> str:
        """Hash of all but the images' content, by which a resumed run knows its data again."""
        return self._hash_with(self.shard_of, self.offsets, self.sizes)


def index_images(path: Path) -> ImageFolder | ShardedImages:
    """Lists the images of a split, in class folders or in shards.

    Raises:
        InputError: there is no such folder, or nothing in it can be used.
    """
    shards = sorted(path.glob("*.tar")) if path.is_dir() else []
    return index_shards(path) if shards else index_folder(path)


def index_shards(path: Path) -> ShardedImages:
    """Lists the images of all `*.tar` files in a folder, or takes the listing kept before.

    Raises:
        InputError: a shard that is none or is cut, an image without a class, a class without a
            name.
    """
    path = path.resolve()
    listing, cached = listed(path, "shards, others counted", lambda: _list(path))
    facts, arrays = listing.facts, listing.arrays
    labels = arrays["labels"]
    return ShardedImages(
        path,
        _class_names(path, int(labels.max()) + 1),
        labels,
        FlatBytes(arrays["blob"], arrays["name_offsets"]),
        others=facts["others"],
        cached=cached,
        shards=tuple(facts["shards"]),
        shard_of=arrays["shard_of"],
        offsets=arrays["offsets"],
        sizes=arrays["sizes"],
    )


def _list(path: Path) -> Listing:
    shards = sorted(shard.name for shard in path.glob("*.tar"))
    watched = {"": path.stat().st_mtime_ns}
    entries: list[Entry] = []
    counts, others = [], 0
    for shard in shards:
        watched[shard] = (path / shard).stat().st_mtime_ns
        found, left = _entries(path / shard)
        entries += found
        others += left
        counts.append(len(found))
    if not entries:
        raise InputError(f"{path}: its {len(shards)} shards hold no images")
    names, labels, offsets, sizes = zip(*entries, strict=True)
    flat = FlatBytes.of(os.fsencode(name) for name in names)
    arrays = {
        "labels": np.array(labels, dtype=np.int32),
        "blob": flat.blob,
        "name_offsets": flat.offsets,
        "shard_of": np.repeat(np.arange(len(shards), dtype=np.int32), counts),
        "offsets": np.array(offsets, dtype=np.int64),
        "sizes": np.array(sizes, dtype=np.int64),
    }
    return Listing({"shards": shards, "others": others}, arrays, watched)


def _entries(shard: Path) -> tuple[list[Entry], int]:
    """The images of a shard in the order of their keys' first appearance, and how many are left.

    Those are all but the last one of a key, and names with a further dot, which are no key's image.
    """
    pictures = 0
    images: dict[str, tuple[str, int, int]] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(shard, "r:") as tar, shard.open("rb") as file:
            for member in tar:
                if not member.isfile():
                    continue
                folder, _, base = member.name.rpartition("/")
                key, dot, rest = base.partition(".")  # webdataset's rule
                suffix, key = (dot + rest).lower(), f"{folder}/{key}"
                pictures += base.lower().endswith(tuple(IMAGE_SUFFIXES))
                if suffix in IMAGE_SUFFIXES:
                    images[key] = (member.name, member.offset_data, member.size)
                elif suffix == _LABEL:
                    file.seek(member.offset_data)
                    labels[key] = _label(shard, member.name, file.read(member.size))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{shard}: not a whole tar file: {error}") from error
    for key, (name, _, _) in images.items():
        if key not in labels:
            wanted = key.lstrip("/") + _LABEL
            raise InputError(f"{shard}: {name} has no class; a file {wanted} should tell it")
    found = [(name, labels[key], offset, size) for key, (name, offset, size) in images.items()]
    return found, pictures - len(found)


def _label(shard: Path, name: str, content: bytes) -> int:
    try:
        label = int(content)
    except ValueError:
        label = -1
    if label < 0:
        raise InputError(
            f"{shard}: {name} should hold a class's number from 0, not {content[:20]!r}"
        )
    return label


def _class_names(path: Path, count: int) -> tuple[str, ...]:
    for folder in (path, path.parent):
        if (folder / _CLASSES).is_file():
            names = read_text(folder / _CLASSES).split("\n")
            while names and not names[-1].strip():
                names.pop()
            if len(names) < count:
                raise InputError(
                    f"{folder / _CLASSES}: names {len(names)} classes, and the shards of {path} "
                    f"have {count}"
                )
            return tuple(name.strip() for name in names)
    return tuple(str(label) for label in range(count))
