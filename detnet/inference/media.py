"""Finds the images and videos to predict on, and the place of each one's drawn copy."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from detnet.data.images import IMAGE_SUFFIXES, TooLarge, listening, opened
from detnet.errors import InputError

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")


@dataclass(frozen=True)
class MediaFile:
    """One file to predict on.

    Args:
        path: of the image or video.
        destination: of the drawn copy, below the output folder.
        video: whether it is a video.
        asked_for: named itself rather than met in a folder, so that it may not be passed over.
    """

    path: Path
    destination: Path
    video: bool
    asked_for: bool


def find_media(paths: Sequence[Path], output: Path) -> tuple[list[MediaFile], list[Path]]:
    """Lists the images and videos among files and folders, folders with all that is below them.

    What the output folder holds is passed over, so that running twice does not draw on drawings.

    Args:
        paths: files and folders.
        output: where drawn copies go: as in the folder given, under their names; the second of two
            that would get the same name is numbered, and one that would get a folder's.

    Returns:
        The files, in the order of `paths` and by name within folders, each file once; and the
        files in folders that are neither image nor video by their suffix.

    Raises:
        InputError: a path that does not exist, a file that is neither image nor video, an output
            folder that is the input's, or nothing to predict on.
    """
    found: list[tuple[Path, Path, bool]] = []
    skipped: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside, others = _search(path, output)
            found += [(file, file.relative_to(path), False) for file in inside]
            skipped += others
        elif path.exists():
            if not _is_video(path):
                _require_image(path)
            found.append((path, Path(path.name), True))
        else:
            raise InputError(f"{path}: no such file or folder")
    if not found:
        where = ", ".join(map(str, paths))
        raise InputError(f"{where}: no image or video found ({len(skipped)} other files)")
    return _with_destinations(found, output), skipped


def _search(folder: Path, output: Path) -> tuple[list[Path], list[Path]]:
    inside: list[Path] = []
    others: list[Path] = []
    root, out = folder.resolve(), output.resolve()
    if root == out:
        raise InputError(f"{folder}: is the output folder too; choose another --output")
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or (root in out.parents and out in file.resolve().parents):
            continue
        if any(part.startswith(".") for part in file.relative_to(folder).parts):
            continue  # a Mac's "._a.jpg", Jupyter's ".ipynb_checkpoints/"
        (inside if _is_known(file) else others).append(file)
    return inside, others


def _require_image(path: Path) -> None:
    """Reads the file's header only, so that the mistake shows before a model is loaded."""
    try:
        with listening(), opened(path):
            pass
    except TooLarge as error:
        raise InputError(f"{path}: {error}") from None
    except Image.UnidentifiedImageError as error:
        if not path.stat().st_size:
            raise InputError(f"{path}: the file is empty") from None
        videos = ", ".join(VIDEO_SUFFIXES)
        raise InputError(f"{path}: neither an image nor a video ({videos})") from error


def _with_destinations(found: Sequence[tuple[Path, Path, bool]], output: Path) -> list[MediaFile]:
    files: dict[Path, MediaFile] = {}
    # No copy stands where a folder of others is wanted: beside a.bmp there may be a folder a.png.
    taken = {str(folder).lower() for _, name, _ in found for folder in name.parents}
    for path, name, asked_for in found:
        real = path.resolve()
        if real in files:
            continue
        name = name.with_suffix(_drawn_suffix(path))
        number = 1
        unique = name
        while str(unique).lower() in taken:  # some file systems do not tell A.jpg from a.jpg
            number += 1
            unique = name.with_stem(f"{name.stem}-{number}")
        taken.add(str(unique).lower())
        files[real] = MediaFile(path, output / unique, _is_video(path), asked_for)
    inside = output.resolve()
    for file in files.values():
        place = file.destination.resolve()
        if place in files:
            raise InputError(f"{file.path}: would be overwritten; choose another --output")
        if inside not in place.parents:
            raise InputError(
                f"{file.destination}: a link there leads out of {output}; remove it, or choose "
                "another --output"
            )
    return list(files.values())


def _drawn_suffix(path: Path) -> str:
    if _is_video(path):
        return ".mp4"
    return ".jpg" if path.suffix.lower() in (".jpg", ".jpeg") else ".png"


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _is_known(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES or _is_video(path)
