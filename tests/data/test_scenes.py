from pathlib import Path

import numpy as np
import pytest

from detnet.coco.annotations import require_images
from detnet.coco.check import find_problems
from detnet.coco.masks import decode_masks
from detnet.coco.table import read_table
from detnet.data.folders import find_splits
from detnet.data.images import read_image
from detnet.data.reading import load_annotations
from detnet.data.scenes import NAMES, draw_scene, write_scenes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, train=60, val=8, seed=1)
    return folder


def test_a_data_set_with_nothing_to_complain_of(folder: Path) -> None:
    splits = find_splits(folder)
    assert list(splits) == ["train", "val"]
    for split in splits.values():
        problems = find_problems(read_table(split.annotations))
        assert [p for p in problems if p.severity != "info"] == []
        annotations, repairs = load_annotations(split, masks=True)
        assert repairs == []
        require_images(annotations)
        assert annotations.categories.names == NAMES


def test_boxes_and_areas_are_those_of_the_visible_masks(folder: Path) -> None:
    annotations, _ = load_annotations(find_splits(folder)["val"], masks=True)
    assert annotations.masks is not None
    assert annotations.sizes.tolist() == [[320, 240]] * 8
    overlaps = 0
    for image in range(len(annotations)):
        rows = range(*annotations.rows(image).indices(len(annotations.boxes)))
        masks = decode_masks([annotations.masks[row] for row in rows], 240, 320)
        assert masks.sum(axis=0, dtype=np.int64).max(initial=0) <= 1  # no pixel belongs to two
        for row, mask in zip(rows, masks, strict=True):
            y, x = np.nonzero(mask)
            assert annotations.areas[row] == len(x)
            assert annotations.boxes[row].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        for row in rows:
            x1, y1, x2, y2 = annotations.boxes[row]
            others = annotations.boxes[[other for other in rows if other != row]]
            beside = (others[:, :2] >= [x2, y2]) | (others[:, 2:] <= [x1, y1])
            overlaps += int((~beside.any(axis=1)).sum())
    assert overlaps > 8


def test_a_third_of_each_size_and_of_each_class(folder: Path) -> None:
    annotations, _ = load_annotations(find_splits(folder)["train"])
    areas = annotations.areas
    small, large = (areas < 32**2).mean(), (areas >= 96**2).mean()
    for share in (small, large, 1 - small - large):
        assert 0.25 < share < 0.42
    for share in np.bincount(annotations.labels)[1:] / len(areas):
        assert 0.25 < share < 0.42
    assert (np.diff(annotations.offsets) == 0).any()


def test_scenes_depend_on_seed_split_and_number_only(folder: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path / "same", train=2, val=1, seed=1)
    write_scenes(tmp_path / "other", train=2, val=1, seed=2)
    first = read_image(folder / "train" / "train_00001.jpg")
    assert first.shape == (3, 240, 320)
    assert (first == read_image(tmp_path / "same" / "train" / "train_00001.jpg")).all()
    assert (first != read_image(tmp_path / "other" / "train" / "train_00001.jpg")).any()
    train = read_image(tmp_path / "same" / "train" / "train_00000.jpg")
    assert (train != read_image(tmp_path / "same" / "val" / "val_00000.jpg")).any()


def test_other_sizes() -> None:
    pixels, objects = draw_scene(np.random.default_rng(3), (200, 150))
    assert pixels.shape == (150, 200, 3)
    assert pixels.dtype == np.uint8
    for label, mask in ((item.label, item.mask) for item in objects):
        assert 1 <= label <= len(NAMES)
        assert mask.shape == (150, 200)
        assert mask.any()
