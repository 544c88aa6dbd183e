"""One label file of YOLO's: a line is a class and a box, or an outline, in fractions."""

import os
from pathlib import Path

from detnet.data.formats.interchange import Flaws, LabelledBox, Picture, finite, plain
from detnet.errors import InputError
from detnet.files import read_text

Place = tuple[str, str]  # file and line, for messages

# Fractions are from 0 to 1, but boxes stick out of their image. One with a number beyond 2 does not
# touch it or is more than twice as wide, while of pixels one is beyond 2 in all but specks.
_FARTHEST = 2.0


def label_file(image: Path) -> Path:
    """Where an image's labels are: …/labels/a.txt of …/images/a.jpg, else beside it."""
    plain = os.path.splitext(image)[0] + ".txt"  # as text: there may be millions
    above, folder, below = f"{os.sep}{plain}".rpartition(f"{os.sep}images{os.sep}")
    beside = f"{above}{os.sep}labels{os.sep}{below}"[1:]
    return Path(beside if folder and os.path.isfile(beside) else plain)


def read_labels(
    path: Path, picture: Picture, classes: list[str], keypoints: int, flaws: Flaws
) -> list[LabelledBox]:
    """The objects that a label file tells; lines that cannot be read are left out and noted.

    Args:
        path: of the file.
        keypoints: how many numbers at the end of each line are keypoints.
    """
    boxes, file = list[LabelledBox](), str(path)
    with flaws.noting(path, "unreadable-labels"):
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            if line.strip():
                with flaws.noting(path, "bad-label"):
                    place = file, f"line {number}"
                    boxes.append(_read_line(line.split(), place, picture, classes, keypoints))
    return boxes


def _read_line(
    fields: list[str], place: Place, picture: Picture, classes: list[str], keypoints: int
) -> LabelledBox:
    where = ": ".join(place)
    name = classes[_class_number(fields[0], where, classes)]
    numbers = [finite(text, where) for text in fields[1:]]
    if len(numbers) == 4 + keypoints:
        box = _to_pixels(_fractions(numbers[:4], where), picture)
        return LabelledBox(name, box, place=place)
    if keypoints:
        raise InputError(
            f"{where}: {len(fields)} numbers; by data.yaml's kpt_shape a line is a class, 4 of a "
            f"box and {keypoints} of keypoints"
        )
    if len(numbers) >= 6 and len(numbers) % 2 == 0:
        return _outlined(name, _fractions(numbers, where), picture, place)
    raise InputError(
        f"{where}: {len(fields)} numbers; a box is a class and 4, an outline a class and 6 or more "
        "in pairs"
    )


def _class_number(text: str, where: str, classes: list[str]) -> int:
    if (text in classes or text[0].isalpha()) and not _is_number(text):
        number = f"number, {classes.index(text)}" if text in classes else "number"
        strange = "" if text in classes else ", and none of those known"
        raise InputError(
            f"{where}: class {text[:40]!r} is a name{strange}; YOLO's labels have its {number}"
        )
    label = finite(text, where)
    if label not in range(len(classes)):
        raise InputError(f"{where}: class {text} is not among the {len(classes)} names")
    return int(label)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _fractions(numbers: list[float], where: str) -> list[float]:
    """The numbers as they are.

    Raises:
        InputError: one is none of the image.
    """
    far = next((number for number in numbers if abs(number) > _FARTHEST), None)
    if far is not None:
        raise InputError(
            f"{where}: {far:g} is no fraction of the image; its coordinates look like pixels"
        )
    return numbers


def _to_pixels(numbers: list[float], picture: Picture) -> tuple[float, float, float, float]:
    x, y, width, height = numbers
    return (
        plain((x - width / 2) * picture.width),
        plain((y - height / 2) * picture.height),
        plain(width * picture.width),
        plain(height * picture.height),
    )


def _outlined(name: str, numbers: list[float], picture: Picture, place: Place) -> LabelledBox:
    xs = [plain(x * picture.width) for x in numbers[0::2]]
    ys = [plain(y * picture.height) for y in numbers[1::2]]
    box = (min(xs), min(ys), plain(max(xs) - min(xs)), plain(max(ys) - min(ys)))
    polygon: list[float] = [value for point in zip(xs, ys, strict=True) for value in point]
    return LabelledBox(name, box, polygons=[polygon], place=place)
