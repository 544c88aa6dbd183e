"""Finds what is wrong with a data set, annotations and images, before it costs a training run."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from detnet.coco.check import find_problems
from detnet.coco.records import SEVERITIES, Problem, Problems
from detnet.coco.statistics import statistics
from detnet.coco.table import AnnotationTable
from detnet.data.folders import (
    SPLITS,
    Split,
    find_split,
    find_splits,
    leads_out,
    names_start,
)
from detnet.data.formats import FORMATS
from detnet.data.formats.interchange import UnsoundFiles, image_files
from detnet.data.image_check import NamedImage, duplicate_images, image_problems, inspect_images
from detnet.data.reading import read_content
from detnet.errors import InputError
from detnet.text import count

_NAMED = 5  # how many names a message lists
_JSON = ("coco", "roboflow")  # formats of one JSON file a split


@dataclass(frozen=True)
class Report:
    """What `check` found.

    Args:
        problems: the gravest first.
        statistics: {"splits": {name: see `statistics`}}, of the files that are read, each with its
            "source": {"format", "files", "images"}.
    """

    problems: list[Problem] = field(default_factory=list)
    statistics: dict[str, Any] = field(default_factory=dict)

    def count(self, severity: str) -> int:
        return sum(problem.severity == severity for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        return {
            "problems": [asdict(problem) for problem in self.problems],
            "statistics": self.statistics,
        }


def check(
    data: Path,
    *,
    splits: Sequence[str] | None = None,
    images: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Checks the annotations and images of a data set.

    Args:
        data: a folder in one of `FORMATS`.
        splits: the splits to check; all that are there if None.
        images: whether to read the images too.
        progress: called with (images done, images in all).

    Raises:
        InputError: there is no data set at `data`, or not the split asked for. Everything else,
            an annotation file that is cut too, is a problem in the report.
    """
    data = Path(data)
    try:
        if splits is None:
            found = list(find_splits(data).values())
        else:
            found = [find_split(data, name) for name in splits]
    except InputError as error:
        # Annotations whose images are nowhere are still annotations to check.
        present = [_without_images(data, name) for name in splits or SPLITS]
        found = [split for split in present if split is not None]
        if not found or (splits is not None and len(found) < len(splits)):
            raise
        report = check_splits(found, images=False)
        if not images:
            return report
        lost = Problem("error", "images-missing", str(data), "", str(error))
        return Report([lost, *report.problems], report.statistics)
    return check_splits(found, progress=progress, images=images)


def check_splits(
    splits: Sequence[Split],
    *,
    progress: Callable[[int, int], None] | None = None,
    images: bool = True,
) -> Report:
    """Checks splits given explicitly.

    Args:
        progress: called with (images done, images in all).
        images: whether to read the images too.

    Raises:
        InputError: an annotation file or a folder of images does not exist.
    """
    for split in splits:
        if not split.annotations.is_file():
            raise InputError(f"{split.annotations}: no such annotation file")
        if images and not split.images.is_dir():
            raise InputError(f"{split.images}: the folder of images does not exist")
    problems: list[Problem] = []
    numbers: dict[str, Any] = {}
    categories: dict[str, dict[str, Any]] = {}
    named: list[NamedImage] = []
    for split in splits:
        table, unsound = _read_table(split)
        problems += unsound
        if table is None:
            continue
        shared = sum(other.annotations == split.annotations for other in splits) > 1
        problems += find_problems(table, split=split.name if shared else "")
        if not len(table.images):
            problems.append(Problem("error", "no-images", table.file, "", "names no images"))
        images_named, outside = _named_images(table, split)
        named += images_named
        problems += outside
        numbers[split.name] = {"source": _source(split), **statistics(table)}
        rows = table.categories.rows
        categories[table.file] = {str(row.get("id")): row.get("name") for row in rows}
    problems += _differing_categories(categories)
    if images:
        files = inspect_images((image.path for image in named), progress=progress)
        problems += image_problems(named, files)
        problems += duplicate_images(named, files)
        if len(numbers) == len(splits):
            problems += _unlisted(
                {s.images for s in splits if s.format in _JSON},
                {p for p in files if files[p].digest},
            )
    for name, root in {(s.format, s.root): None for s in splits if s.root is not None}:
        problems += _unread(name, root)
    problems.sort(key=lambda problem: SEVERITIES.index(problem.severity))
    return Report(problems, {"splits": numbers})


def _read_table(split: Split) -> tuple[AnnotationTable | None, list[Problem]]:
    """What a split's files say, None where they cannot be read, and what is wrong with them."""
    file = str(split.annotations)
    try:
        return read_content(split), []
    except UnsoundFiles as error:
        content = error.content
        return None if content is None else AnnotationTable(content, file), [*error.problems]
    except InputError as error:
        kind = "json" if split.format in _JSON else "files"
        message = str(error).removeprefix(f"{file}: ")
        return None, [Problem("error", f"unreadable-{kind}", file, "", message)]


def _source(split: Split) -> dict[str, Any]:
    files = [str(path) for path in split.lists or (split.annotations,)]
    return {"format": split.format, "files": files, "images": str(split.images)}


def _without_images(data: Path, name: str) -> Split | None:
    try:
        return find_split(data, name, images=data)
    except InputError:
        return None


def _differing_categories(categories: dict[str, dict[str, Any]]) -> list[Problem]:
    """Compares every file's categories with the first file's."""
    problems: list[Problem] = []
    files = list(categories)
    for file in files[1:]:
        mine, first = categories[file], categories[files[0]]
        differing = [
            f"{number} is {first.get(number, 'absent')!r} there and {mine.get(number, 'absent')!r}"
            f" here"
            for number in {**first, **mine}
            if first.get(number) != mine.get(number)
        ]
        if differing:
            more = f" (+{len(differing) - 1} more)" if len(differing) > 1 else ""
            message = f"categories differ from {Path(files[0]).name}: id {differing[0]}{more}"
            problems.append(Problem("error", "categories-differ", file, "", message))
    return problems


def _named_images(table: AnnotationTable, split: Split) -> tuple[list[NamedImage], list[Problem]]:
    """The images that records name, and a problem for each name that leads out of the data set."""
    rows = [row for row, good in zip(table.images.rows, table.file_names[1], strict=True) if good]
    folder = names_start(split.images, (row["file_name"] for row in rows))
    named, outside = [], Problems(str(split.annotations))
    for row in rows:
        name, record = row["file_name"], f"image {row.get('id')}"
        if leads_out(split, folder, name):
            place = split.root or split.images
            message = f"its file_name leads out of {place}; move the image in or link it"
            outside.add("error", "image-outside", f"{record} ({name[:200]})", message)
            continue
        size = row.get("width"), row.get("height")
        named.append(NamedImage(split.name, f"{record} ({name})", folder, name, *size))
    return named, outside.found


def _unread(format_name: str, root: Path) -> list[Problem]:
    found = FORMATS[format_name]().unread(root)
    if not found:
        return []
    names = ", ".join(str(path.relative_to(root)) for path in found[:_NAMED])
    listing = names + (", …" if len(found) > _NAMED else "")
    message = f"{count(len(found), 'file')} of annotations in no split, or without image: {listing}"
    return [Problem("info", "annotations-unread", str(root), "", message)]


def _unlisted(folders: set[Path], listed: set[Path]) -> list[Problem]:
    known = {path.resolve() for path in listed}
    problems: list[Problem] = []
    for folder in sorted(folders):
        found = (path for path in image_files(folder) if path.resolve() not in known)
        names = [str(path.relative_to(folder)) for path in found]
        if names:
            listing = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
            message = f"no record names {len(names)} of the folder's image files: {listing}"
            problems.append(Problem("info", "image-unlisted", str(folder), "", message))
    return problems
