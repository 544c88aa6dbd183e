"""YOLO's folders: where their splits, classes and label files are; see `yolo_labels`."""

import hashlib
import os
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path
from typing import Any

import yaml

from detnet.coco.check import UNLABELLED
from detnet.data.folders import SPELLINGS, SPLITS, DatasetFormat, Split
from detnet.data.formats.interchange import (
    Flaws,
    Picture,
    PictureSet,
    Progress,
    files_below,
    image_files,
    measure,
    to_content,
    unique_names,
)
from detnet.data.formats.yolo_labels import label_file, read_labels
from detnet.errors import InputError
from detnet.files import read_text


class YoloFolder(DatasetFormat):
    """data.yaml that names the classes, or classes.txt and labels/; see `read_yolo`."""

    layout = "data.yaml, or classes.txt with labels/ (YOLO)"

    def find(self, data: Path, name: str, images: Path | None = None) -> Split | None:
        """Finds a split by data.yaml or by the names of folders.

        Raises:
            InputError: data.yaml cannot be used, or images were named.
        """
        listing, names = _present(data)
        if listing is not None and images is not None:
            raise InputError(f"{data}: a YOLO data set has its own images; leave out {images}")
        return Split(name, listing, data) if listing and name in names else None

    def names(self, data: Path) -> tuple[str, ...]:
        return _present(data)[1]

    def read(self, split: Split) -> dict[str, Any]:
        flaws = Flaws(split.images)
        found = _read(split.images, flaws, outside=split.outside, only=split.name)
        names = {picture.path: _below(picture.path, split.images) for picture in found.pictures}
        content = to_content(found.pictures, found.classes, names, placed=True)
        for row, picture in zip(content["images"], found.pictures, strict=True):
            if not picture.labelled:
                row[UNLABELLED] = True
        flaws.settle(content)
        return content

    def unread(self, data: Path) -> list[Path]:
        """Label files without an image.

        Raises:
            InputError: as `find`.
        """
        return _orphans(data, _splits(data, *find_yaml(data), []).values())

    def sources(self, split: Split, most: int | None = None) -> Iterable[Path]:
        """The file of the classes, and each image with its label file, which may not be there.

        Raises:
            InputError: as `find`.
        """
        members = _splits(split.images, *find_yaml(split.images), [], most).get(split.name, [])
        pairs = ((path, label_file(path)) for path in members)
        return chain([split.annotations], chain.from_iterable(pairs))

    def fingerprint(self, split: Split) -> str:
        """SHA-256 of the class names, and of names and labels of the images, in their order.

        Raises:
            InputError: as `find`.
        """
        config_path, config = find_yaml(split.images)
        members = _splits(split.images, config_path, config, [])[split.name]
        known = repr(_classes(split.images, config_path, config))
        keypoints = _keypoint_numbers(config_path, config)
        digest = hashlib.sha256(f"{known}{keypoints or ''}".encode())
        for path in members:
            labels = label_file(path)
            content = labels.read_bytes() if labels.is_file() else b""
            name = f"{path.name} {len(content)} ".encode(errors="surrogateescape")
            digest.update(name + content)
        return digest.hexdigest()


def read_yolo(
    folder: Path, *, outside: bool = False, progress: Progress | None = None
) -> PictureSet:
    """Reads a folder in one of YOLO's layouts.

    Splits are those of data.yaml, where it names any, else folders images/SPLIT or SPLIT/images,
    else all of images/ is train. The labels of …/images/a.jpg are …/labels/a.txt, else a.txt beside
    it; an image without them has no objects. Classes are data.yaml's names, else the lines of
    classes.txt. Where data.yaml has a `kpt_shape`, lines end with keypoints, which are left aside.

    Args:
        outside: follow data.yaml and lists of paths out of the folder, too.

    Raises:
        InputError: a file lies outside of the folder.
        UnsoundFiles: some cannot be read; the message names the first and its line.
    """
    flaws = Flaws(folder)
    found = _read(folder, flaws, outside=outside, progress=progress)
    flaws.settle()
    return found


def _read(
    folder: Path,
    flaws: Flaws,
    *,
    outside: bool = False,
    only: str | None = None,
    progress: Progress | None = None,
) -> PictureSet:
    """Reads all splits or one of them; pictures and lines that cannot be read are left out."""
    config_path, config = find_yaml(folder)
    classes = _classes(folder, config_path, config)
    keypoints = _keypoint_numbers(config_path, config)
    notes = ["left out the keypoints, keeping their boxes"] if keypoints else []
    members = _splits(folder, config_path, config, notes)
    if only is not None:
        members = {only: members[only]}
    if not outside:
        for path in (path for paths in members.values() for path in paths):
            if not _is_inside(path, folder):
                raise InputError(
                    f"{folder}: its files name {path}, which lies outside of it; move it in or "
                    "link it, or allow it by --outside-images"
                )
    files = measure((path for paths in members.values() for path in paths), flaws, progress)
    splits: dict[str, list[Picture]] = {split: [] for split in members}
    for split, paths in members.items():
        names = unique_names(paths)
        for path in (path for path in paths if path in files):
            picture = Picture(path, names[path], *files[path].upright_size)
            splits[split].append(picture)
            labels = label_file(path)
            picture.labelled = labels.is_file()
            if picture.labelled:
                picture.boxes = read_labels(labels, picture, classes, keypoints, flaws)
    if only is None:
        orphans = _orphans(folder, members.values())
        if orphans:
            notes.append(
                f"left out {len(orphans)} label files without an image, {orphans[0]} first"
            )
    return PictureSet(classes, splits, notes)


def _orphans(folder: Path, members: Iterable[Iterable[Path]]) -> list[Path]:
    """The label files that belong to no image of any split."""
    known = {label_file(path).resolve() for paths in members for path in paths}
    texts = files_below(folder, {".txt"})
    present = (p for p in texts if "labels" in p.relative_to(folder).parts)
    return [p for p in present if p.name != "classes.txt" and p.resolve() not in known]


def find_yaml(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    """The YAML file that names the classes, and its content.

    Raises:
        InputError: the file is not YAML.
    """
    for path in sorted(folder.glob("*.y*ml"), key=lambda path: path.name != "data.yaml"):
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # 2001-99-99 is no date
            raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
        if isinstance(config, dict) and isinstance(config.get("names"), (list, dict)):
            return path, {str(key).lower(): value for key, value in config.items()}  # CVAT: "Train"
    return None, {}


def _classes(folder: Path, path: Path | None, config: dict[str, Any]) -> list[str]:
    names = config.get("names")
    if isinstance(names, dict):
        numbers = list(range(len(names)))
        if any(type(key) is not int for key in names) or sorted(names) != numbers:
            raise InputError(f"{path}: names must be numbered 0 to {len(names) - 1} without gaps")
        names = [names[number] for number in numbers]
    if names is None:
        listing = _class_list(folder)
        lines = read_text(listing).splitlines() if listing else []
        names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise InputError(f"{folder}: no class names; write them as `names:` into data.yaml")
    for name in names:
        if isinstance(name, list | dict):
            raise InputError(f"{path or folder}: a class name must be a text, found {name!r:.40}")
    return [str(name) for name in names]


def _keypoint_numbers(path: Path | None, config: dict[str, Any]) -> int:
    """How many numbers of each line are keypoints: 51 by data.yaml's `kpt_shape: [17, 3]`."""
    shape = config.get("kpt_shape")
    if shape is None:
        return 0
    match shape:
        case [int(keypoints), 2 | 3 as values] if keypoints > 0:
            return keypoints * values
    raise InputError(f"{path}: kpt_shape must be as [17, 3] or [17, 2], found {shape!r:.40}")


def _class_list(folder: Path) -> Path | None:
    places = (folder / "classes.txt", folder / "labels" / "classes.txt")
    return next((path for path in places if path.is_file()), None)


def _has_labels(folder: Path) -> bool:
    return any(path.is_dir() for path in (*folder.glob("labels"), *folder.glob("*/labels")))


def _below(path: Path, folder: Path) -> str:
    """An image's name from the data set's folder on; its whole path where it lies elsewhere."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path.absolute())


def _present(data: Path) -> tuple[Path | None, tuple[str, ...]]:
    """The file that names the classes and the splits that are there, looking for one image each."""
    path, config = find_yaml(data)
    listing = path or _class_list(data)
    if listing is None or (path is None and not _has_labels(data)):
        return None, ()
    return listing, tuple(_splits(data, path, config, [], most=1))


def _splits(
    folder: Path,
    path: Path | None,
    config: dict[str, Any],
    notes: list[str],
    most: int | None = None,
) -> dict[str, list[Path]]:
    """The images of each split that has any, of each place no more than `most`."""
    splits: dict[str, list[Path]] = {}
    by_folder = not any(config.get(name) for name in (*SPLITS, *SPELLINGS["val"]))
    for split in SPLITS:
        spellings = SPELLINGS.get(split, (split,))
        given = next((config[name] for name in spellings if config.get(name)), None)
        if given is not None and path is not None:
            entries = given if isinstance(given, list) else [given]
            try:
                places = [_listed(str(entry), path, config, most) for entry in entries]
                splits[split] = list(chain.from_iterable(places))
            except InputError as error:
                if split != "test":  # exports name a test split that they do not contain
                    raise
                notes.append(f"no test split: {error}")
            continue
        for name in (*spellings, *map(str.capitalize, spellings)):
            for place in (folder / "images" / name, folder / name / "images", folder / name):
                if by_folder and split not in splits and (found := image_files(place, most=most)):
                    splits[split] = found
    if not splits:
        whole = folder / "images"
        splits["train"] = image_files(whole if whole.is_dir() else folder, most=most)
    if not any(splits.values()):
        raise InputError(f"{folder}: no images found in {', '.join(splits)}")
    return {split: paths for split, paths in splits.items() if paths}


def _listed(entry: str, path: Path, config: dict[str, Any], most: int | None) -> list[Path]:
    """The images of one entry of data.yaml: a folder, or a text file of paths."""
    root = path.parent / str(config.get("path") or "")
    # Exports are often moved: a leading ../ or a root on another machine then leads nowhere.
    inner = Path(*[part for part in Path(entry).parts if part not in ("..", ".", "/")])
    places = list(dict.fromkeys((root / entry, path.parent / entry, path.parent / inner)))
    for place in places:
        if place.is_dir():
            return image_files(place, most=most)
        if place.is_file():
            lines = (line.strip() for line in read_text(place).split("\n"))
            lead = "" if (place.parent / "data").exists() else "data/"  # as CVAT begins them
            names = islice(filter(None, lines), most)
            return [place.parent / name.removeprefix(lead) for name in names]
    looked = ", ".join(map(str, places))
    raise InputError(
        f"{path}: names {entry!r}, which is not there; looked for {looked}; correct the path"
    )


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether a path lies below the folder as it is written; links in there may lead anywhere."""
    roots = {Path(os.path.abspath(folder)), Path(os.path.realpath(folder))}
    below = path.relative_to(folder) if path.is_relative_to(folder) else None
    if below is not None:
        return ".." not in below.parts
    return ".." not in path.parts and not roots.isdisjoint(Path(os.path.abspath(path)).parents)
