from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detnet.coco.annotations import FlatBytes
from detnet.coco.ground_truth import fingerprint
from detnet.data.folders import Split
from detnet.data.kept.columns import map_columns, write_columns
from detnet.data.kept.packing import MappedMasks, Reading, pack, unpack
from detnet.data.reading import load_annotations, load_scored

TRIANGLE = [[1, 2, 20, 3, 4, 30]]
RUNS = {"size": [40, 60], "counts": [5, 20, 2375]}
POINTS = [{"id": 4, "name": "a", "keypoints": ["nose", "left_ear"], "skeleton": [[1, 2]]}]


def require_equal(one: Any, other: Any, *, but: Sequence[str] = ()) -> None:
    """Two dataclasses of arrays, flat bytes and the like are the same, bit for bit."""
    assert type(one) is type(other)
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name in but:
            continue
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype and a.shape == b.shape, field.name
            assert a.tobytes() == b.tobytes(), field.name
        elif isinstance(a, FlatBytes):
            assert list(a) == list(b), field.name
        elif field.name == "masks" and a is not None:
            assert list(a) == list(b)
        else:
            assert a == b, field.name


@pytest.fixture
def split(write_data: Callable[..., Split], record: Callable[..., Any]) -> Split:
    return write_data(
        [(60, 40), (50, 70), (30, 20)],
        [
            record(7, 2, [1, 2, 40, 5], category_id=4, keypoints=[5, 6, 2, 1, 1, 1]),
            record(5, 0, [3.5, 4, 20.25, 30], category_id=4, segmentation=TRIANGLE, area=None),
            record(6, 0, [0, 0, 30, 20], category_id=4, iscrowd=1, segmentation=RUNS),
        ],
        categories=POINTS,
        names=["a.png", "träge/ordner/ü.png", "\ud800.png"],
        files=False,
    )


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("keypoints", [False, True])
@pytest.mark.parametrize("keep_empty", [False, True])
def test_what_was_read_comes_back(
    split: Split, tmp_path: Path, masks: bool, keypoints: bool, keep_empty: bool
) -> None:
    annotations, repairs, truths = load_scored(
        split, masks=masks, keypoints=keypoints, keep_empty=keep_empty
    )
    assert repairs and len(annotations) == (3 if keep_empty else 2)
    names = FlatBytes.of([b"x", "ü".encode()])
    path = tmp_path / "a.columns"
    write_columns(path, pack(Reading(annotations, names, repairs, truths)))
    found = unpack(map_columns(path), split)
    require_equal(found.annotations, annotations)
    assert (list(found.names), found.repairs) == (list(names), repairs)
    assert found.truths is not None
    for kind in ("bbox", "segm", "keypoints"):
        own = getattr(truths, kind)
        if own is None:
            assert getattr(found.truths, kind) is None
        else:
            require_equal(found.truths.of(kind), own)
            assert fingerprint(found.truths.of(kind)) == fingerprint(own)


def test_without_ground_truth_and_without_objects(split: Split, tmp_path: Path) -> None:
    annotations, repairs = load_annotations(split, masks=True)
    found = unpack(pack(Reading(annotations, annotations.file_names, repairs)), split)
    require_equal(found.annotations, annotations)
    assert found.truths is None


def test_masks_are_a_sequence() -> None:
    counts = FlatBytes.of([b"one", b"", b"three"])
    masks = MappedMasks(counts, np.array([[4, 5], [6, 7], [8, 9]]))
    expected = [
        {"counts": b"one", "size": [4, 5]},
        {"counts": b"", "size": [6, 7]},
        {"counts": b"three", "size": [8, 9]},
    ]
    assert list(masks) == expected and len(masks) == 3
    assert masks[np.int64(1)] == expected[1] and masks[-1] == expected[2]
    assert masks[1:] == expected[1:]
    with pytest.raises(IndexError):
        masks[3]
    with pytest.raises(IndexError):
        masks[-4]
