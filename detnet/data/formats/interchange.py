"""What the converters pass on: pictures with named boxes, split by split, and nothing else."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from detnet.coco.masks import segmentation_areas
from detnet.coco.records import PLACE, Problem
from detnet.data.image_check import ImageFile, inspect_images
from detnet.data.images import IMAGE_SUFFIXES
from detnet.errors import InputError

Progress = Callable[[int, int], None]


class UnsoundFiles(InputError):
    """Files of which some cannot be read: the message names the first, `problems` are all.

    Args:
        content: that of a COCO file, of what could be read; None where nobody asks for it.
    """

    def __init__(
        self, message: str, problems: Sequence[Problem] = (), content: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.problems, self.content = tuple(problems), content


class Flaws:
    """What cannot be read, file by file and record by record: reading goes on behind each.

    Args:
        place: the data set, for the command that lists all of them.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.found: list[Problem] = []

    @contextmanager
    def noting(self, path: Path, code: str) -> Iterator[None]:
        """Keeps an `InputError` that is raised inside, as a problem of this file and kind."""
        try:
            yield
        except InputError as error:
            self.add(path, code, str(error).removeprefix(f"{path}: "))

    def add(self, path: Path, code: str, message: str) -> None:
        self.found.append(Problem("error", code, str(path), "", message))

    def settle(self, content: dict[str, Any] | None = None) -> None:
        """Ends the reading.

        Args:
            content: see `UnsoundFiles`.

        Raises:
            UnsoundFiles: there is any.
        """
        if self.found:
            more = f"+{len(self.found) - 1} more: " if len(self.found) > 1 else ""
            message = f"{self.found[0]} ({more}run `detnet check {self.place}`)"
            raise UnsoundFiles(message, self.found, content)


@dataclass(frozen=True)
class LabelledBox:
    """One object of a picture.

    Args:
        name: its class.
        box: x, y, width, height in pixels, from the upright image's upper left corner, 0, 0.
        crowd: not to be trained on and not counted: COCO's crowds, VOC's difficult objects.
        polygons: its outline in COCO's form, if the format has one.
        place: the file and the record it was read from, "line 3", for messages.
    """

    name: str
    box: tuple[float, float, float, float]
    crowd: bool = False
    polygons: list[list[float]] | None = None
    rle: dict[str, Any] | None = None
    place: tuple[str, str] | None = field(default=None, compare=False)


@dataclass
class Picture:
    """One image file and what is on it.

    Args:
        path: where it lies now.
        name: what it is to be called in the result, with "/" between folders.
        width: pixels of the upright image, as the annotations have it.
        height: as width.
        labelled: there is a file that tells its objects, or that it has none.
    """

    path: Path
    name: str
    width: int
    height: int
    boxes: list[LabelledBox] = field(default_factory=list)
    labelled: bool = True


@dataclass
class PictureSet:
    """A whole data set.

    Args:
        classes: names in the order of their ids.
        splits: train, val, test, as many as there are.
        notes: what a reader or writer left out or changed, one line each.
    """

    classes: list[str]
    splits: dict[str, list[Picture]]
    notes: list[str] = field(default_factory=list)

    @property
    def pictures(self) -> list[Picture]:
        return [picture for pictures in self.splits.values() for picture in pictures]

    def join_repeated(self) -> None:
        """Makes pictures of a split that are one file into one, with the objects of all."""
        for split, pictures in self.splits.items():
            found: dict[Path, Picture] = {}
            for picture in pictures:
                first = found.setdefault(picture.path, picture)
                if first is not picture:
                    first.boxes += [box for box in picture.boxes if box not in first.boxes]
            if repeated := len(pictures) - len(found):
                self.notes.append(f"{split}: joined {repeated} records of images named before")
            self.splits[split] = list(found.values())


def to_content(
    pictures: Sequence[Picture],
    classes: Sequence[str],
    names: Mapping[Path, str],
    *,
    ids: Sequence[int] = (),
    exact: bool = False,
    placed: bool = False,
) -> dict[str, Any]:
    """Makes pictures into the content of a COCO annotation file.

    Args:
        classes: in the order of their ids.
        names: of each picture's file, as the annotations are to name it.
        ids: of the pictures; from 1 if there are none.
        exact: coordinates as they are, not rounded to thousandths of a pixel.
        placed: say of each annotation where it was read, see `PLACE`; not to be written to a file.
    """
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, picture in zip(ids or range(1, len(pictures) + 1), pictures, strict=True):
        size = {"width": picture.width, "height": picture.height}
        images.append({"id": number, "file_name": names[picture.path], **size})
        for box in picture.boxes:
            record = {"id": len(annotations) + 1, "image_id": number}
            record["category_id"] = numbers[box.name]
            place = {PLACE: box.place} if placed and box.place else {}
            annotations.append({**record, **_entry(box, float if exact else plain), **place})
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _entry(box: LabelledBox, number: Callable[[float], float]) -> dict[str, Any]:
    entry: dict[str, Any] = {"bbox": [number(value) for value in box.box]}
    area = box.box[2] * box.box[3]
    if outline := box.polygons or box.rle:
        entry["segmentation"] = outline
        covered = float(segmentation_areas([outline])[0])
        area = area if np.isnan(covered) else covered
    return {**entry, "area": number(max(area, 0.0)), "iscrowd": int(box.crowd)}


def files_below(folder: Path, suffixes: Set[str], *, most: int | None = None) -> list[Path]:
    """All files of these lower-case suffixes below a folder, in order; no linked folder is entered.

    Hidden ones are none of the data: a Mac's "._a.jpg", Jupyter's ".ipynb_checkpoints/".

    Args:
        most: give no more than so many, whichever come first; to tell whether there is one.
    """
    found = islice(_below(str(folder), suffixes), most) if folder.is_dir() else ()
    # As paths compare, folder by folder: "\0" is below all that a name may hold.
    order = sorted(found, key=lambda path: os.path.normcase(path).replace(os.sep, "\0"))
    return [Path(path) for path in order]


image_files = partial(files_below, suffixes=IMAGE_SUFFIXES)


def _below(folder: str, suffixes: Set[str]) -> Iterator[str]:
    inner = list[str]()
    with suppress(PermissionError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                inner.append(entry.path)
            if os.path.splitext(entry.name)[1].lower() in suffixes:
                yield entry.path
    for path in inner:
        yield from _below(path, suffixes)


def unique_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Short names for files of several folders: the file's own, with its folders' where two clash.

    Names that differ in their suffix alone clash too, since labels are named by the stem.
    """
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in paths:
        parts = list(path.parts)
        for length in range(1, len(parts) + 1):
            name = "_".join(part.strip("/\\") for part in parts[-length:])
            if PurePosixPath(name).stem not in taken:
                break
        else:
            name = f"{len(names)}_{path.name}"
        taken.add(PurePosixPath(name).stem)
        names[path] = name
    return names


def measure(
    paths: Iterable[Path], flaws: Flaws, progress: Progress | None = None
) -> dict[Path, ImageFile]:
    """Reads the images for their sizes; those that are missing or say none are left out and noted.

    One that is merely cut is let through, for `detnet check` to name with all the others.
    """
    files = inspect_images(paths, sizes_only=True, progress=progress)
    for path, facts in files.items():
        if not facts.width:
            message = f"{facts.message}; replace it or take it out of the data set"
            flaws.add(path, facts.error, message)
    return {path: facts for path, facts in files.items() if facts.width}


def place_image(source: Path, target: Path, *, link: bool) -> None:
    """Puts an image into the result, as a hard link where the file system allows it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source = source.resolve()  # a link to a symbolic link would break when that one is moved
    if link:
        try:
            os.link(source, target)
            return
        except OSError:  # another file system, or one without links
            pass
    shutil.copyfile(source, target)


def finite(text: str, where: str) -> float:
    """A number from a label file.

    Raises:
        InputError: it is none; `where` names the file and record.
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e9:
        raise InputError(f"{where}: {text.strip()[:40]!r} is not a number of pixels or a fraction")
    return value


def plain(number: float, digits: int = 3) -> float | int:
    """Rounds away what floating point adds; a whole number becomes an int."""
    rounded = round(number, digits)
    return int(rounded) if rounded == int(rounded) else rounded


def clipped(
    box: tuple[float, float, float, float], width: int, height: int
) -> tuple[float, float, float, float] | None:
    """The part of a box (x, y, width, height) inside the image, None where nothing is."""
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    right, bottom = min(box[0] + box[2], width), min(box[1] + box[3], height)
    if right <= left or bottom <= top:
        return None
    return left, top, right - left, bottom - top
