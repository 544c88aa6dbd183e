"""Keypoints from files to tensors: names, left and right, mirrors, scales, and what is unusable."""

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detnet.coco.check import find_problems
from detnet.coco.keypoints import KeypointLayout
from detnet.coco.table import AnnotationTable, read_table
from detnet.coco.writing import to_coco_dict
from detnet.data.dataset import DetectionDataset
from detnet.data.folders import Split, find_split
from detnet.data.reading import load_annotations
from detnet.data.scenes import write_scenes
from detnet.data.transforms import eval_transform, flip_horizontal, flip_vertical, resize
from detnet.errors import InputError

WriteData = Callable[..., Split]
Record = Callable[..., dict[str, Any]]

PERSON = {
    "id": 4,
    "name": "person",
    "keypoints": ["nose", "left_hand", "right_hand"],
    "skeleton": [[1, 2], [1, 3]],
}
HAND = {"id": 9, "name": "hand", "keypoints": ["thumb", "right_hand"]}
CATEGORIES = [HAND, {"id": 6, "name": "ball"}, PERSON]  # not in the order of their ids


@pytest.fixture
def split(write_data: WriteData, record: Record) -> Split:
    """Two images of 60×40; a person with two points, a ball, a hand, a person without any."""
    box = [10, 5, 30, 30]
    records = [
        record(1, 1, box, category_id=4, keypoints=[20, 10, 2, 0, 0, 0, 35, 30, 1]),
        record(2, 0, box, category_id=6),
        record(3, 1, box, category_id=9, keypoints=[11.25, 6, 2, 12, 7, 2]),
        record(4, 0, box, category_id=4, keypoints=[0] * 9),
        record(5, 0, box, category_id=4),
    ]
    return write_data([(60, 40), (60, 40)], records, categories=CATEGORIES)


def test_categories_share_their_common_keypoints(split: Split) -> None:
    annotations, repairs = load_annotations(split, keypoints=True)
    layout = annotations.keypoint_layout
    assert layout is not None and not repairs
    assert layout.names == ("nose", "left_hand", "right_hand", "thumb")
    assert layout.of_label == ((0, 1, 2), (), (3, 2))  # person, ball, hand: by ascending id
    assert layout.edges == (((0, 1), (0, 2)), (), ())
    assert layout.mirrored.tolist() == [0, 2, 1, 3]
    assert layout.to_json(annotations.categories) == sorted(
        [{**HAND, "skeleton": []}, CATEGORIES[1], PERSON], key=lambda category: category["id"]
    )
    assert annotations.keypoints is not None
    assert annotations.keypoints.shape == (5, 4, 3)
    assert annotations.keypoints[3].tolist() == [[20, 10, 2], [0, 0, 0], [35, 30, 1], [0, 0, 0]]
    assert annotations.keypoints[4].tolist() == [[0, 0, 0], [0, 0, 0], [12, 7, 2], [11.25, 6, 2]]
    assert not annotations.keypoints[:3].any()


def test_what_is_written_is_what_was_read(split: Split) -> None:
    annotations, _ = load_annotations(split, keypoints=True)
    written = {record["id"]: record for record in to_coco_dict(annotations)["annotations"]}
    assert written[4]["keypoints"] == [20, 10, 2, 0, 0, 0, 35, 30, 1]
    assert written[5]["keypoints"] == [11.25, 6, 2, 12, 7, 2]
    assert [written[i].get("num_keypoints") for i in range(1, 6)] == [None, 0, 0, 2, 2]
    assert "keypoints" not in to_coco_dict(load_annotations(split)[0])["annotations"][3]


def target_of(split: Split, image: int = 1) -> tuple[torch.Tensor, dict[str, Any]]:
    annotations, _ = load_annotations(split, keypoints=True)
    return DetectionDataset(annotations, eval_transform(), seed=0, keypoints=True)[image]


def test_a_pixels_index_becomes_its_centre(split: Split) -> None:
    _, target = target_of(split)
    assert target["keypoints"].shape == (2, 4, 3) and target["keypoints"].dtype == torch.float32
    assert target["keypoints"][0, 0].tolist() == [20.5, 10.5, 2]
    assert target_of(split, image=0)[1]["keypoints"].shape == (3, 4, 3)


def test_mirrors_swap_left_and_right(split: Split) -> None:
    image, target = target_of(split)
    image[:, 10, 20] = torch.tensor([255, 0, 1])  # the nose, to be found again
    flipped, mirrored = flip_horizontal(image, target)
    points = mirrored["keypoints"]
    assert points[0, 0].tolist() == [39.5, 10.5, 2]
    assert flipped[:, 10, 39].tolist() == [255, 0, 1]
    assert points[0, 1].tolist() == [60 - 35.5, 30.5, 1]  # the right hand is a left one now
    assert points[0, 2, 2] == 0
    again = flip_horizontal(flipped, mirrored)[1]["keypoints"]
    seen = target["keypoints"][..., 2] > 0
    assert torch.equal(again[seen], target["keypoints"][seen])
    turned, below = flip_vertical(image, target)
    assert below["keypoints"][0, 0].tolist() == [20.5, 29.5, 2]
    assert turned[:, 29, 20].tolist() == [255, 0, 1]
    assert below["keypoints"][0, 1].tolist() == [35.5, 40 - 30.5, 1]


def test_scales_move_keypoints_like_boxes(split: Split) -> None:
    image, target = target_of(split)
    larger, scaled = resize(image, target, min_size=100, max_size=1000)
    assert larger.shape == (3, 100, 150)
    torch.testing.assert_close(scaled["keypoints"][0, 0], torch.tensor([51.25, 26.25, 2]))
    torch.testing.assert_close(scaled["boxes"], target["boxes"] * 2.5)


def test_a_dropped_sliver_takes_its_keypoints_along(write_data: WriteData, record: Record) -> None:
    points = [[20, 10, 2, 21, 11, 2, 22, 12, 2], [30, 15, 2, 31, 16, 1, 32, 17, 2]]
    sizes = [[10, 5, 0.3, 30], [10, 5, 30, 30]]
    records = [
        record(i, 0, box, category_id=4, keypoints=own)
        for i, (box, own) in enumerate(zip(sizes, points, strict=True))
    ]
    annotations, _ = load_annotations(
        write_data([(60, 40)], records, categories=[PERSON]), keypoints=True
    )
    transform = eval_transform(min_size=8)
    _, target = DetectionDataset(annotations, transform, seed=0, keypoints=True)[0]
    assert target["boxes"].tolist() == [[2, 1, 8, 7]]
    assert target["keypoints"][:, :, 0].tolist() == [pytest.approx([6.1, 6.3, 6.5])]
    assert {len(target[name]) for name in ("boxes", "labels", "area", "iscrowd")} == {1}


def test_unusable_keypoints_leave_a_box(write_data: WriteData, record: Record) -> None:
    box = [10, 5, 30, 30]
    wrong = [
        [20, 10, 2],
        [20, 10, 3, 0, 0, 0, 0, 0, 0],
        [20, 10, 2, float("nan"), 0, 0, 0, 0, 0],
        "none",
        [20, 10, 2, 70, 10, 2, 5, 5, 2],
    ]
    records = [record(i, 0, box, category_id=4, keypoints=k) for i, k in enumerate(wrong, 1)]
    split = write_data([(60, 40)], records, categories=[PERSON])
    annotations, repairs = load_annotations(split, keypoints=True)
    assert annotations.keypoints is not None and len(annotations.boxes) == 5
    assert not annotations.keypoints[:4].any()
    assert annotations.keypoints[4].tolist() == [[20, 10, 2], [0, 0, 0], [5, 5, 2]]
    assert repairs == [
        "left out unusable keypoints of 4 objects",
        "left out 1 keypoint outside their image",
    ]


def test_check_finds_each_kind() -> None:
    box = {"image_id": 1, "category_id": 4, "area": 900, "iscrowd": 0}
    good = {"keypoints": [20, 10, 2, 59.5, 39.5, 1, 0, 0, 0], "num_keypoints": 2}
    raw = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}],
        "annotations": [{"id": i, "bbox": [i, 5, 30, 30], **box, **good} for i in range(1, 13)],
        "categories": [PERSON],
    }
    assert not [p for p in find_problems(AnnotationTable(raw, "x")) if p.severity != "info"]
    changes: dict[str, dict[str, Any]] = {
        "keypoints-length": {"keypoints": [20, 10, 2]},
        "keypoints-visibility": {"keypoints": [20, 10, 2, 30, 20, 5, 0, 0, 0]},
        "keypoints-outside": {"keypoints": [20, 10, 2, 61, 20, 1, 0, 0, 0]},
        "keypoints-number": {"num_keypoints": 3},
    }
    for (code, change), kind in itertools.product(changes.items(), (int, float)):  # 4.0 is 4
        bad = copy.deepcopy(raw)
        bad["annotations"][4] |= {**change, "category_id": kind(4)}
        (problem,) = [p for p in find_problems(AnnotationTable(bad, "x")) if p.severity != "info"]
        assert (problem.severity, problem.code) == ("warning", code)
        assert problem.record == "annotation 5 (image a.jpg)" and "\n" not in problem.message
    bad = copy.deepcopy(raw)
    bad["categories"].append({"id": 5, "name": "ball"})
    bad["annotations"][4] |= {"category_id": 5}
    codes = [p.code for p in find_problems(AnnotationTable(bad, "x")) if p.severity != "info"]
    assert codes == ["keypoints-unnamed"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keypoints": ["nose", "nose"]}, "list of different texts"),
        ({"keypoints": "nose"}, "list of different texts"),
        ({"skeleton": [[0, 1]]}, r"the list \[0, 1\], not two numbers from 1 to 3"),
        ({"skeleton": [[1, 2, 3]]}, "not two numbers"),
    ],
)
def test_bad_names_are_refused_where_keypoints_are_asked_for(
    change: dict[str, Any], message: str, write_data: WriteData, record: Record
) -> None:
    records = [record(1, 0, [1, 1, 9, 9], category_id=4)]
    split = write_data([(60, 40)], records, categories=[{**PERSON, **change}])
    with pytest.raises(InputError, match=message) as caught:
        load_annotations(split, keypoints=True)
    assert "category 4 (person)" in str(caught.value) and "\n" not in str(caught.value)
    codes = [p.code for p in find_problems(read_table(split.annotations))]
    assert "bad-keypoint-names" in codes
    load_annotations(split)  # boxes are not concerned


def test_data_without_keypoints_is_one_line(write_data: WriteData, record: Record) -> None:
    records = [record(1, 0, [1, 1, 9, 9])]
    with pytest.raises(InputError, match=r"has no keypoints \(category 'cat', 'dog' names no"):
        load_annotations(write_data([(60, 40)], records), keypoints=True)
    records[0]["category_id"] = 4
    split = write_data([(60, 40)], records, categories=[PERSON])
    with pytest.raises(InputError, match=r"instances_train.json: .*'person' names some, but no"):
        load_annotations(split, keypoints=True)


def test_other_keypoints_than_the_models_are_refused(split: Split) -> None:
    other = KeypointLayout.from_json(
        [{**PERSON, "keypoints": ["a", "b", "c"]}, *CATEGORIES[:2]], file=""
    )
    with pytest.raises(InputError, match="keypoints of the model and .* differ: those of label 1"):
        load_annotations(split, keypoints=True, layout=other)


def test_sides_in_names() -> None:
    names = [
        "left_eye",
        "right_eye",
        "Left",
        "Right",
        "knee-left",
        "knee-right",
        "left_ear",
        "upright",
    ]
    layout = KeypointLayout.from_json([{"id": 1, "name": "x", "keypoints": names}], file="")
    assert layout is not None
    assert layout.mirrored.tolist() == [1, 0, 3, 2, 5, 4, 6, 7]


def test_scenes_have_their_corners(tmp_path: Path) -> None:
    write_scenes(tmp_path / "with", train=12, val=1, seed=4, keypoints=True)
    write_scenes(tmp_path / "without", train=12, val=1, seed=4)
    name = "train/train_00003.jpg"
    assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()
    split = find_split(tmp_path / "with", "train")
    problems = find_problems(read_table(split.annotations))
    assert not [p for p in problems if "keypoint" in p.code]
    annotations, repairs = load_annotations(split, keypoints=True)
    assert not repairs and annotations.keypoints is not None
    kinds = set(annotations.keypoints[..., 2].ravel().tolist())
    assert kinds == {0, 1, 2}
    layout = annotations.keypoint_layout
    assert layout is not None and layout.of_label[0] == ()
    left, right = (layout.names.index(f"{side}_foot") for side in ("left", "right"))
    points = annotations.keypoints
    both = (points[:, left, 2] > 0) & (points[:, right, 2] > 0)
    assert both.sum() > 8 and (points[both, left, 0] < points[both, right, 0]).all()
    # A box ends where the shape covers half a pixel, before a narrow corner's tip.
    grown = np.concatenate([annotations.boxes[:, :2] - 4, annotations.boxes[:, 2:] + 4], axis=1)
    seen = points[..., 2] == 2
    for axis in range(2):
        inside = (points[..., axis] > grown[:, None, axis]) & (
            points[..., axis] < grown[:, None, axis + 2]
        )
        assert inside[seen].all()
