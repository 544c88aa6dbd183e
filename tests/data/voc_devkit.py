"""Small VOC folders for tests: years with lists, XML files and images that are not square."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

Object = tuple[str, tuple[float, float, float, float], int]  # name, corners as VOC's, difficult

SIZE = (60, 40)
DOG: Object = ("dog", (1, 1, 60, 40), 0)
CAT: Object = ("cat", (11.5, 6, 30, 25.25), 0)
HARD: Object = ("dog", (3, 4, 20, 30), 1)


def annotation(stem: str, objects: list[Object], size: tuple[int, int] | None = SIZE) -> str:
    """The text of an XML file; the objects' parts are boxes that must not be read."""
    lines = [f"<annotation><folder>VOC</folder><filename>{stem}.jpg</filename>"]
    if size is not None:
        lines.append(f"<size><width>{size[0]}</width><height>{size[1]}</height></size>")
    for name, corners, difficult in objects:
        keys = ("xmin", "ymin", "xmax", "ymax")
        box = "".join(f"<{k}>{v}</{k}>" for k, v in zip(keys, corners, strict=True))
        part = "<part><name>head</name><bndbox><xmin>2</xmin></bndbox></part>"
        flags = f"<difficult>{difficult}</difficult><bndbox>{box}</bndbox>"
        lines.append(f"<object><name>{name}</name>{flags}{part}</object>")
    return "\n".join([*lines, "</annotation>"])


def write_year(
    folder: Path,
    images: Mapping[str, list[Object]],
    lists: Mapping[str, str],
    *,
    size: tuple[int, int] = SIZE,
) -> Path:
    """Writes Annotations/, JPEGImages/ and ImageSets/Main/.

    Args:
        images: objects by stem.
        lists: stems, with blanks between, by the list's name.
    """
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for stem, objects in images.items():
        text = annotation(stem, objects, size)
        (folder / "Annotations" / f"{stem}.xml").write_text(text, encoding="utf-8")
        width, height = size
        stream = np.random.default_rng(list(f"{folder.name}/{stem}".encode()))  # no two alike
        pixels = stream.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{stem}.jpg")
    for name, stems in lists.items():
        text = "".join(f"{stem}\n" for stem in stems.split())
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


def write_devkit(root: Path, *, size: tuple[int, int] = SIZE) -> Path:
    """Two years as VOC gives them out: 2007 with its test, 2012 with a test without annotations."""
    write_year(
        root / "VOC2007",
        {"000005": [DOG], "000007": [CAT, HARD], "000001": [CAT, DOG], "000002": [HARD]},
        {"train": "000005", "val": "000007", "trainval": "000005 000007", "test": "000001 000002"},
        size=size,
    )
    lists = {"train": "2008_000008", "val": "2008_000002", "trainval": "2008_000008 2008_000002"}
    write_year(
        root / "VOC2012",
        {"2008_000008": [DOG, CAT], "2008_000002": [("bird", (5, 5, 40, 30), 0)]},
        {**lists, "test": "2008_000001"},
        size=size,
    )
    return root
