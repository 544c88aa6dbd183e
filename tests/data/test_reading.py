import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detnet.coco.categories import Categories
from detnet.coco.masks import decode_masks, encode_pixels
from detnet.data.folders import Split, find_splits
from detnet.data.reading import load_annotations, read_sound
from detnet.errors import InputError

DATA = Path(os.environ.get("DETNET_DATA", Path(__file__).parents[3] / "shared" / "data"))
WriteData = Callable[..., Split]
Record = Callable[..., dict[str, Any]]


def test_annotations_are_grouped_by_image_in_the_files_order(
    write_data: WriteData, record: Record
) -> None:
    split = write_data(
        [(60, 40), (50, 70), (30, 20)],
        [
            record(900100000007, 2, [1, 2, 10, 5], category_id=9),
            record(5, 0, [3.5, 4, 20.25, 30], area=77.5),
            record(6, 2, [0, 0, 30, 20], iscrowd=1, segmentation=[[0, 0, 30, 0, 30, 20, 0, 20]]),
        ],
        categories=[{"id": 9, "name": "a"}, {"id": 1, "name": "b"}],
        names=["a.png", "träge/ordner/ü.png", "c.png"],
        files=False,
    )
    annotations, repairs = load_annotations(split)
    assert repairs == []
    assert len(annotations) == 3
    assert annotations.image_ids.tolist() == [100, 101, 102]
    assert annotations.sizes.tolist() == [[60, 40], [50, 70], [30, 20]]
    assert annotations.file_name(1) == "träge/ordner/ü.png"
    assert annotations.image_path(1) == split.images / "träge" / "ordner" / "ü.png"
    assert [annotations.rows(i) for i in range(3)] == [slice(0, 1), slice(1, 1), slice(1, 3)]
    assert annotations.boxes.tolist() == [[3.5, 4, 23.75, 34], [1, 2, 11, 7], [0, 0, 30, 20]]
    assert annotations.boxes.dtype == np.float32
    assert annotations.labels.tolist() == [1, 2, 1]  # id 1 is label 1, id 9 label 2
    assert annotations.areas.tolist() == [77.5, 50, 600]
    assert annotations.crowd.tolist() == [False, False, True]
    assert annotations.annotation_ids.tolist() == [5, 900100000007, 6]
    assert annotations.masks is None


def test_what_is_safe_is_repaired_and_said_once(write_data: WriteData, record: Record) -> None:
    triangle = [[0, 0, 20, 0, 0, 20]]
    split = write_data(
        [(60, 40), (50, 70)],
        [
            record(1, 0, [-5, 30, 20, 20]),
            record(2, 0, [50, 10, 10.02, 5]),  # within what rounding does: clipped in silence
            record(3, 0, [50, 10, 30, 5], area=None),
            record(4, 0, [10, 10, 0, 5]),
            record(5, 0, [70, 10, 5, 5]),
            record(6, 1, [0, 0, 20, 20], area=None, segmentation=triangle),
            record(7, 1, [30, 30, -10, 5]),
        ],
        files=False,
    )
    annotations, repairs = load_annotations(split)
    assert repairs == [
        "clipped 2 boxes to their image",
        "dropped 2 boxes without width or height",
        "dropped 1 box outside their image",
        "computed 2 missing areas",
    ]
    assert annotations.boxes.tolist() == [
        [0, 30, 15, 40],
        [50, 10, 60, 15],
        [50, 10, 60, 15],
        [0, 0, 20, 20],
    ]
    assert annotations.areas.tolist() == [150, 50, 50, 200]
    assert annotations.offsets.tolist() == [0, 3, 4]


def test_negative_areas_are_replaced(write_data: WriteData, record: Record) -> None:
    split = write_data(
        [(60, 40)],
        [
            record(1, 0, [1, 2, 10, 5], area=-50),
            record(2, 0, [0, 0, 20, 20], area=-1, segmentation=[[0, 0, 20, 0, 0, 20]]),
            record(3, 0, [1, 2, 10, 5], area=None),
            record(4, 0, [1, 2, 10, 5], area=0),
        ],
        files=False,
    )
    annotations, repairs = load_annotations(split)
    assert repairs == ["computed 1 missing area", "replaced 2 negative areas"]
    assert annotations.areas.tolist() == [50, 200, 50, 0]


@pytest.mark.parametrize("area", [float("nan"), float("inf")])
def test_areas_that_are_no_numbers_are_refused(
    write_data: WriteData, record: Record, area: float
) -> None:
    split = write_data([(60, 40)], [record(1, 0, [1, 2, 10, 5], area=area)], files=False)
    with pytest.raises(InputError, match='"area" must be a finite number'):
        load_annotations(split)


def test_images_without_objects_may_be_left_out(write_data: WriteData, record: Record) -> None:
    split = write_data(
        [(60, 40), (50, 70), (30, 20)],
        [record(1, 2, [1, 2, 10, 5]), record(2, 1, [1, 2, 10, 5], iscrowd=1)],
        files=False,
    )
    everything, _ = load_annotations(split)
    assert len(everything) == 3
    some, repairs = load_annotations(split, keep_empty=False)
    assert repairs == ["left out 2 images without objects"]
    assert some.image_ids.tolist() == [102]
    assert some.boxes.tolist() == [[1, 2, 11, 7]]


def test_nothing_annotated_at_all(write_data: WriteData) -> None:
    annotations, repairs = load_annotations(write_data([(60, 40)], [], files=False), masks=True)
    assert (len(annotations), repairs) == (1, [])
    assert annotations.boxes.shape == (0, 4)
    assert annotations.rows(0) == slice(0, 0)


def test_all_forms_of_masks(write_data: WriteData, record: Record) -> None:
    pixels = np.zeros((40, 60), dtype=bool)
    pixels[5:15, 10:30] = True
    box = [10, 5, 20, 10]
    runs = {"size": [40, 60], "counts": [10 * 40 + 5] + [10, 30] * 19 + [10, 30 * 40 - 15]}
    runs["counts"][-1] += 2400 - sum(runs["counts"])
    split = write_data(
        [(60, 40)],
        [
            record(1, 0, box, segmentation=[[10, 5, 30, 5, 30, 15, 10, 15]]),
            record(2, 0, box, segmentation=encode_pixels(pixels)),
            record(3, 0, box, segmentation=runs),
            record(4, 0, box),
            record(5, 0, box, segmentation=[[1, 2]]),
        ],
        files=False,
    )
    annotations, repairs = load_annotations(split, masks=True)
    assert repairs == ["took the box as mask of 2 objects without a usable one"]
    assert annotations.masks is not None
    decoded = decode_masks(list(annotations.masks), 40, 60)
    assert decoded.shape == (5, 40, 60)
    for mask in decoded:
        assert np.array_equal(mask, pixels)


def test_masks_are_refused_where_there_are_none(write_data: WriteData, record: Record) -> None:
    split = write_data([(60, 40)], [record(1, 0, [1, 2, 10, 5])], files=False)
    with pytest.raises(InputError, match="instances_train.json: has no masks"):
        load_annotations(split, masks=True)


def test_errors_stop_with_one_line(write_data: WriteData, record: Record) -> None:
    split = write_data(
        [(60, 40)],
        [record(1, 5, [1, 2, 10, 5]), record(2, 0, ["1", 2, 10, 5], area=3)],
        files=False,
    )
    with pytest.raises(InputError) as caught:
        load_annotations(split)
    message = str(caught.value)
    assert "\n" not in message
    assert "instances_train.json: annotation " in message
    assert f"(+1 more: run `detnet check {split.images.parent}`)" in message


def test_other_categories_than_those_wanted_are_refused(
    write_data: WriteData, record: Record
) -> None:
    split = write_data([(60, 40)], [record(1, 0, [1, 2, 10, 5])], files=False)
    load_annotations(split, categories=Categories((1, 2), ("cat", "dog")))
    with pytest.raises(InputError, match="the model and .* differ: id 2 is 'cow' in the model"):
        load_annotations(split, categories=Categories((1, 2), ("cat", "cow")))
    with pytest.raises(InputError, match="the categories of train.json and .* in train.json but"):
        load_annotations(
            split, categories=Categories((1, 2), ("cat", "cow")), categories_of="train.json"
        )


def test_names_that_repeat_the_folder(write_data: WriteData, record: Record) -> None:
    split = write_data([(60, 40)], [record(1, 0, [1, 2, 10, 5])])
    content = json.loads(split.annotations.read_text())
    content["images"][0]["file_name"] = "images/000.png"
    split.annotations.write_text(json.dumps(content))
    assert load_annotations(split)[0].image_path(0).is_file()


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ("annotations/instances_val.json", ""),
        ("val/_annotations.coco.json", ""),
        ("boxes.json", "/boxes.json"),
    ],
)
def test_the_first_error_is_named_and_how_to_see_all(
    tmp_path: Path, record: Record, place: str, named: str
) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    raw = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}],
        "annotations": [record(1, -99, [1, 2, 0, 5]), record(2, -99, [1, 2, 9, 5])],
        "categories": [{"id": 1, "name": "cat"}],
    }
    split = Split("val", path, tmp_path)
    path.write_text(json.dumps(raw))  # a warning passes
    assert len(read_sound(split)) == 2
    raw["annotations"][0]["category_id"] = 4
    path.write_text(json.dumps(raw))
    with pytest.raises(InputError) as caught:
        read_sound(split)
    message = str(caught.value)
    assert message.startswith(f"{path}: annotation ") and "has category 4" in message
    assert message.endswith(f"(run `detnet check {tmp_path}{named}`)")
    raw["annotations"][1]["category_id"] = 5
    path.write_text(json.dumps(raw))
    with pytest.raises(InputError, match=r"\(\+1 more: run `detnet check "):
        read_sound(split)


@pytest.mark.skipif(not (DATA / "coco-masks").is_dir(), reason="DETNET_DATA has no coco-masks/")
def test_real_coco() -> None:
    split = find_splits(DATA / "coco-masks")["val"]
    annotations, repairs = load_annotations(split, masks=True)
    assert (len(annotations), len(annotations.boxes), repairs) == (206, 1786, [])
    assert len(annotations.categories) == 80
    assert annotations.categories.ids[-1] == 90
    assert annotations.crowd.sum() > 0
    assert annotations.annotation_ids.max() > 10**11
