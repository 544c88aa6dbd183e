"""The files of a split, in whichever layout, as one COCO annotation file's content."""

import hashlib
from typing import Any

from detnet.coco.validate import read_json
from detnet.data.folders import Split
from detnet.data.formats.voc_content import fingerprint_voc_lists, read_voc_lists


def read_content(split: Split) -> dict[str, Any]:
    """Reads what the files say, neither checked nor repaired but where VOC's have to be.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    if split.lists:
        return read_voc_lists(split.lists, split.images)
    return read_json(split.annotations)


def fingerprint_files(split: Split) -> str:
    """SHA-256 of the annotation files, by which a resumed run knows its data again."""
    if split.lists:
        return fingerprint_voc_lists(split.lists)
    with split.annotations.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
