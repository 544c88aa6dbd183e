"""Which lists of images make up a split of a VOC data set, one year or several.

DATA is a VOCdevkit with VOC2007, VOC2012 …, a folder that holds a VOCdevkit, or one year's folder
with Annotations/, JPEGImages/ and ImageSets/Main/. Where there is an annotated test list and a
trainval list, the splits are the papers': train is trainval of all years that have it, val is test
of all years that have it. Else train, val and test are the lists of these names.
"""

from collections.abc import Mapping
from pathlib import Path

from detnet.data.names import leaves
from detnet.errors import InputError

LISTS = Path("ImageSets", "Main")
STANDARD = ("train", "val", "trainval", "test")
_NO_OBJECT = "-1"  # second column of the lists that VOC has for each class


def find_years(data: Path) -> dict[str, Path]:
    """The folders with lists, by name; none where DATA is no VOC data set."""
    if (data / LISTS).is_dir():
        return {data.resolve().name: data}
    for root in (data, data / "VOCdevkit"):
        found = {path.parents[1].name: path.parents[1] for path in sorted(root.glob(f"*/{LISTS}"))}
        if found:
            return found
    return {}


def names_root(years: Mapping[str, Path], data: Path) -> Path:
    """The folder that names of images start from: that of the years, or the only year's own."""
    if list(years.values()) == [data]:
        return data
    return next(iter(years.values())).parent


def find_lists(years: Mapping[str, Path], split: str) -> tuple[Path, ...]:
    """The lists that make up a split; none where there are none.

    Args:
        split: "train", "val", "test", the name of another list (of all years that have it), or
            lists by their years, joined: "VOC2007/trainval+VOC2012/trainval".

    Raises:
        InputError: a list named by its year is not there.
    """
    if "/" in split:
        return tuple(_list(years, part.strip()) for part in split.split("+"))
    return _plan(years).get(split) or _all(years, split)


def find_standard(years: Mapping[str, Path]) -> tuple[str, ...]:
    """Those of train, val and test that are there; not test where it is val."""
    plan = _plan(years)
    same = plan.get("test") == plan.get("val")
    return tuple(name for name in plan if not (same and name == "test"))


def read_list(path: Path) -> list[str]:
    """The stems that a list names, in its order, each once.

    Of the lists of one class, as dog_train.txt, those images are left out that have no such object.

    Raises:
        InputError: the list cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text file"
        raise InputError(f"{path}: cannot be read: {reason}") from None
    rows = [line.split() for line in lines if line.strip()]
    out = next((row[0] for row in rows if leaves(row[0])), None)
    if out is not None:
        raise InputError(f"{path}: {out[:200]!r} leads out of the data set's folder")
    return list(dict.fromkeys(row[0] for row in rows if row[1:2] != [_NO_OBJECT]))


def annotation_file(listing: Path, stem: str) -> Path:
    """Where the XML file of a listed image is."""
    return listing.parents[2] / "Annotations" / f"{stem}.xml"


def _plan(years: Mapping[str, Path]) -> dict[str, tuple[Path, ...]]:
    """The lists of train, val and test: the papers' where the data are complete."""
    tests = tuple(path for path in _all(years, "test") if _annotated(path))
    trainval = _all(years, "trainval")
    if tests and trainval:
        return {"train": trainval, "val": tests, "test": tests}
    plan = {name: _all(years, name) for name in ("train", "val")} | {"test": tests}
    plan["train"] = plan["train"] or trainval
    return {name: lists for name, lists in plan.items() if lists}


def _annotated(listing: Path) -> bool:
    """Whether the list has annotations, which VOC keeps to itself for its later tests."""
    stems = read_list(listing)
    return bool(stems) and annotation_file(listing, stems[0]).is_file()


def _all(years: Mapping[str, Path], name: str) -> tuple[Path, ...]:
    paths = [folder / LISTS / f"{name}.txt" for folder in years.values()]
    return tuple(path for path in paths if path.is_file())


def _list(years: Mapping[str, Path], part: str) -> Path:
    year, _, name = part.partition("/")
    if year not in years:
        raise InputError(f"{part!r}: there is no {year!r}; the data have {', '.join(years)}")
    path = years[year] / LISTS / f"{name}.txt"
    if not path.is_file():
        has = [known for known in STANDARD if (path.parent / f"{known}.txt").is_file()]
        raise InputError(f"{path}: no such list; {year} has {', '.join(has) or 'no standard ones'}")
    return path
