"""Keeps some training images apart, by the seed alone, to score a search's candidates on."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detnet.coco.annotations import Annotations, require_images
from detnet.coco.writing import to_coco_dict
from detnet.data.classification.shards import ShardedImages, index_images
from detnet.data.folders import Split, find_split, find_splits
from detnet.data.reading import fingerprint_files, load_annotations
from detnet.errors import InputError
from detnet.files import write_text
from detnet.search.config import SearchConfig
from detnet.search.records import read_record, write_record
from detnet.training.classification.evaluate import split_folder

_PURPOSE = 16  # keeps this draw apart from others of the same seed
_RECORD = "source.json"  # what was carved; written last
_CLASSES = "classes.json"  # beside it, where classification is the guide
_DECISIVE = ("search_images", "seed", "val_split")  # settings that say which images they are
_SHOWN = 12  # digits of a hash in messages


@dataclass(frozen=True)
class _KeptApart:
    """Images of a classification folder to search by, ascending places in its listing."""

    search: tuple[int, ...]


@dataclass(frozen=True)
class _Data:
    """What tells whether the data are still those that were parted.

    Args:
        images: their folder.
        train, search: fingerprints; None where there is no search split of one's own.
    """

    images: str
    train: str
    search: str | None


@dataclass(frozen=True)
class _Parted:
    """What was parted, of which data, and the settings that decided it; {} in old folders."""

    data: _Data
    counts: dict[str, int]
    notes: tuple[str, ...]
    settings: dict[str, int | str] = field(default_factory=dict)


def write_split(config: SearchConfig, run: Path) -> list[str]:
    """Parts the training images into those to train supernets on and those to score on.

    Writes RUN/data/train.json and search.json, boxes only, whose file names start where the data
    set's do; with classification as the guide RUN/data/classes.json. What is there already is
    checked against the data instead. Images that are the same file, byte for byte, stay together,
    and none that the validation split has, too, is taken.

    Args:
        config: with absolute paths.
        run: the search's folder.

    Returns:
        One line for each thing a person should know.

    Raises:
        InputError: the data cannot be used or have changed, or a search split of one's own shares
            images with training or validation.
    """
    part = _part_classes if config.by_classes else _part_annotations
    (run / "data").mkdir(exist_ok=True)
    record = run / "data" / _RECORD
    now = fingerprint(config)
    settings = {name: getattr(config, name) for name in _DECISIVE}
    if record.exists():
        before = read_record(_Parted, record)
        _require_same(before.data, now, run)
        for name, value in before.settings.items():
            if settings[name] != value:
                raise InputError(
                    f"{run}: its images were parted with {name} {value}, now it is "
                    f"{settings[name]}; restore that, or begin in a new folder"
                )
        return []
    counts, notes = part(config, run / "data")
    write_record(record, _Parted(now, counts, tuple(notes), settings))
    return notes


def same_data(config: SearchConfig, other: Path) -> bool:
    """Whether another search parted the training data that these settings name."""
    theirs, ours = read_record(_Parted, other / "data" / _RECORD).data, fingerprint(config)
    return (theirs.train, theirs.search) == (ours.train, ours.search)


def counts_of(run: Path) -> dict[str, int]:
    """Images of the parts, "train" and "search", and "detection", all to train detectors on.

    And the "classes" of objects, which a folder of an earlier version has not.
    """
    return read_record(_Parted, run / "data" / _RECORD).counts


def find_own(config: SearchConfig) -> Split | None:
    """The search split of one's own, None where one is to be carved."""
    if not config.search_annotations:
        return None
    images = Path(config.search_images_folder) if config.search_images_folder else None
    return find_split(Path(config.search_annotations), "search", images=images)


def training_images(config: SearchConfig) -> Path:
    """The folder of the training images, which the file names of both parts start from."""
    return find_split(Path(config.data), config.train_split).images


def search_images(config: SearchConfig) -> Path:
    """The folder of the images that candidates are scored on, where detection is the guide."""
    own = find_own(config)
    return own.images if own is not None else training_images(config)


def kept_apart(run: Path, images: int | None = None) -> list[int]:
    """Reads which images of the classification folder are kept apart to score candidates by.

    Args:
        images: that the folder has, to be sure that it is this one.

    Returns:
        places in the folder's listing, ascending.

    Raises:
        InputError: the file is not there or damaged, or is one of another folder.
    """
    path = run / "data" / _CLASSES
    found = [*read_record(_KeptApart, path).search]
    if images is not None and found and found[-1] >= images:
        raise InputError(f"{path}: names image {found[-1]}, but the folder has {images}")
    return found


def _part_annotations(config: SearchConfig, folder: Path) -> tuple[dict[str, int], list[str]]:
    split = find_split(Path(config.data), config.train_split)
    train, repairs = load_annotations(split)
    require_images(train)
    val, own = _load_val(config, train), find_own(config)
    notes = [f"{split.name}: {repair}" for repair in repairs]
    everything = list(range(len(train)))
    if own is not None:
        search, repairs = load_annotations(
            own, categories=train.categories, categories_of=str(split.annotations)
        )
        require_images(search)
        _require_apart(search, train, "training")
        _require_apart(search, val, "validation")
        notes += [f"search: {repair}" for repair in repairs]
        notes.append(f"candidates are scored on the {len(search)} images of {own.annotations}")
        parts = {"train": (train, everything), "search": (search, list(range(len(search))))}
    else:
        wanted = min(config.search_images, len(train) // 2)
        chosen, skipped = choose(_paths(train), _paths(val), wanted=wanted, seed=config.seed)
        _require_some(chosen, str(split.annotations))
        rest = sorted(set(everything) - set(chosen))
        parts = {"train": (train, rest), "search": (train, chosen)}
        notes += _say(len(chosen), len(train), config.search_images, skipped)
    for name, (annotations, images) in parts.items():
        write_text(folder / f"{name}.json", json.dumps(to_coco_dict(annotations, images)))
    counts = {name: len(images) for name, (_, images) in parts.items()}
    return {**counts, "detection": len(train), "classes": len(train.categories)}, notes


def _part_classes(config: SearchConfig, folder: Path) -> tuple[dict[str, int], list[str]]:
    data = Path(config.pretrain_data)
    images = index_images(class_folder(config))
    wanted = min(config.search_images, len(images) // 2)
    if isinstance(images, ShardedImages):  # nobody has the same image in a folder and a shard
        order = _generator(config.seed).permutation(len(images))
        chosen, skipped = sorted(order[:wanted].tolist()), 0
    else:
        mine = [images.image_path(index) for index in range(len(images))]
        val = index_images(data / "val") if (data / "val").is_dir() else None
        theirs = [val.image_path(index) for index in range(len(val))] if val else []
        chosen, skipped = choose(mine, theirs, wanted=wanted, seed=config.seed)
    _require_some(chosen, str(images.path))
    write_record(folder / _CLASSES, _KeptApart(tuple(chosen)))
    split = find_split(Path(config.data), config.train_split)
    counts = {"train": len(images) - len(chosen), "search": len(chosen)}
    found, _ = load_annotations(split)
    counts |= {"detection": len(found), "classes": len(found.categories)}
    return counts, _say(len(chosen), len(images), config.search_images, skipped)


def choose(
    paths: Sequence[Path], others: Sequence[Path], *, wanted: int, seed: int
) -> tuple[list[int], int]:
    """Draws files by the seed; copies of one file are drawn together or not at all.

    Args:
        others: files of which no copy may be drawn.

    Returns:
        Their indices, ascending, and how many were passed over for being among the others.
    """
    mine, theirs = _Contents(paths), _Contents(others)
    chosen, seen, skipped = set[int](), set[int](), 0
    for index in _generator(seed).permutation(len(paths)).tolist():
        if len(chosen) >= wanted:
            break
        if index in seen:
            continue
        copies = mine.same_as(paths[index])
        seen.update(copies)
        if theirs.same_as(paths[index]):
            skipped += len(copies)
        elif len(chosen) + len(copies) <= wanted:
            chosen.update(copies)
    return sorted(chosen), skipped


class _Contents:
    """Files by what is in them; only those of one size are ever read."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._by_size: dict[int, list[int]] = {}
        self._known: dict[int, bytes] = {}
        for index, path in enumerate(paths):
            self._by_size.setdefault(os.stat(path).st_size, []).append(index)

    def same_as(self, path: Path) -> list[int]:
        """The files with the same content, that of this path among them."""
        alike = self._by_size.get(os.stat(path).st_size, [])
        if not alike or [self._paths[index] for index in alike] == [path]:
            return alike
        digest = _digest(path)
        return [index for index in alike if self._digest(index) == digest]

    def _digest(self, index: int) -> bytes:
        if index not in self._known:
            self._known[index] = _digest(self._paths[index])
        return self._known[index]


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def class_folder(config: SearchConfig) -> Path:
    """The class folders that the search pre-trains on.

    Raises:
        InputError: there are none.
    """
    name = config.pretrain.get("train_split", "train")
    return split_folder(Path(config.pretrain_data), name)


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence((seed, _PURPOSE)))


def _paths(annotations: Annotations | None) -> list[Path]:
    if annotations is None:
        return []
    return [annotations.image_path(image) for image in range(len(annotations))]


def _load_val(config: SearchConfig, train: Annotations) -> Annotations | None:
    if config.val_split == "none":
        return None
    if config.val_split == "val":
        split = find_splits(Path(config.data)).get("val")
    else:
        split = find_split(Path(config.data), config.val_split)
    if split is None:
        return None
    val, _ = load_annotations(split, categories=train.categories, categories_of=str(train.path))
    require_images(val)
    return val


def _require_apart(search: Annotations, other: Annotations | None, what: str) -> None:
    """Refuses a search split that shares images with another."""
    if other is None:
        return
    contents = _Contents(_paths(other))
    pairs = ((path, contents.same_as(path)) for path in _paths(search))
    shared = [(path, copies[0]) for path, copies in pairs if copies]
    if shared:
        path, copy = shared[0]
        raise InputError(
            f"{search.path}: {len(shared)} of its {len(search)} images are {what} images, too "
            f"({path.name} is {other.image_path(copy)}); take them out"
        )


def _require_some(chosen: Sequence[int], where: str) -> None:
    if not chosen:
        raise InputError(
            f"{where}: no image can be kept apart to score candidates on: there must be two or "
            "more that the validation split has not"
        )


def _say(chosen: int, images: int, asked: int, skipped: int) -> list[str]:
    less = f" (not {asked}: at most half)" if chosen < asked else ""
    notes = [
        f"{chosen} of {images} training images are kept apart to score candidates on{less}; "
        f"supernets are trained on the other {images - chosen}"
    ]
    if skipped:
        notes.append(f"{skipped} training images are in the validation split, too; none was taken")
    return notes


def fingerprint(config: SearchConfig) -> _Data:
    """What tells whether the data are still the same."""
    if config.by_classes:
        images = index_images(class_folder(config))
        return _Data(str(images.path), images.fingerprint(), None)
    split, own = find_split(Path(config.data), config.train_split), find_own(config)
    images_folder = str(split.images.resolve())
    return _Data(images_folder, fingerprint_files(split), fingerprint_files(own) if own else None)


def _require_same(before: _Data, now: _Data, run: Path) -> None:
    for text, old, new in (
        ("training data", before.train, now.train),
        ("search split", before.search, now.search),
    ):
        if old != new:
            raise InputError(
                f"{run}: its search began with another {text} (sha256 "
                f"{str(old)[:_SHOWN]}, now {str(new)[:_SHOWN]}); restore it, or "
                "begin in a new folder"
            )
