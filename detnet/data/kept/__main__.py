"""The process that reads an annotation file and keeps its columns; `splits` starts it."""

import json
import sys

from detnet.coco.annotations import FlatBytes
from detnet.coco.ground_truth import make_ground_truths
from detnet.data.folders import Split
from detnet.data.kept.packing import Reading
from detnet.data.kept.splits import REFUSED, ReadOptions, make
from detnet.data.reading import load_annotations, read_sound
from detnet.errors import InputError


class _Unsound(Exception):
    """The file holds errors, whoever asks for it."""


def _read(split: Split, asked: ReadOptions) -> Reading | None:
    """Reads a split as `load_annotations` and `load_scored` do."""
    try:
        table = read_sound(split, unlabelled=True)
    except InputError as error:
        raise _Unsound(str(error)) from error
    if not len(table):  # small, and what it leaves out is for others to judge
        return None
    annotations, repairs = load_annotations(
        split,
        masks=asked.masks,
        keypoints=asked.keypoints,
        keep_empty=asked.keep_empty,
        table=table,
    )
    truths = make_ground_truths(table, annotations, repairs) if asked.scored else None
    names = FlatBytes.of(name.encode("utf-8", "surrogatepass") for name in table.file_names[0])
    return Reading(annotations, names, repairs, truths)


if __name__ == "__main__":
    try:
        sys.exit(make(sys.argv[1], _read))
    except _Unsound as error:
        print(json.dumps(str(error)))
        sys.exit(REFUSED)
    except (InputError, OSError):  # who asked finds out, and says it in their words
        sys.exit(1)
