import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detnet.coco.annotations import Annotations, FlatBytes, repair, require_images
from detnet.coco.categories import Categories
from detnet.coco.table import AnnotationTable
from detnet.data.folders import Split
from detnet.data.reading import load_annotations
from detnet.errors import InputError

WriteData = Callable[..., Split]
Record = Callable[..., dict[str, Any]]


def test_what_went_in_comes_out() -> None:
    items = [b"", "ä/ö.jpg".encode(), b"", b"b"]
    flat = FlatBytes.of(items)
    assert len(flat) == 4
    assert list(flat) == items
    assert flat[1].decode() == "ä/ö.jpg"
    assert flat.blob.nbytes + flat.offsets.nbytes == 10 + 5 * 8


def test_no_bytes_and_out_of_range() -> None:
    flat = FlatBytes.of([])
    assert len(flat) == 0
    assert list(flat) == []
    with pytest.raises(IndexError, match="index 0"):
        flat[0]


def test_as_large_as_coco_it_stays_under_100_megabytes() -> None:
    images, count = 118_000, 860_000
    annotations = Annotations(
        path=None,  # type: ignore[arg-type]
        images_folder=None,  # type: ignore[arg-type]
        image_ids=np.arange(images),
        file_names=FlatBytes.of(b"train2017/%012d.jpg" % index for index in range(images)),
        sizes=np.zeros((images, 2), np.int32),
        offsets=np.zeros(images + 1, np.int64),
        boxes=np.zeros((count, 4), np.float32),
        boxes_xywh=np.zeros((count, 4)),
        labels=np.zeros(count, np.int32),
        areas=np.zeros(count),
        crowd=np.zeros(count, bool),
        annotation_ids=np.zeros(count, np.int64),
        masks=None,
        categories=Categories((1,), ("a",)),
    )
    names = annotations.file_names
    arrays = [each for each in vars(annotations).values() if isinstance(each, np.ndarray)]
    size = sum(each.nbytes for each in (*arrays, names.blob, names.offsets))
    assert 50e6 < size < 100e6


def test_labels_of_many_categories_do_not_wrap() -> None:
    many = 40_000
    raw = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": n, "bbox": [1, 1, 5, 5]} for n in (1, many)
        ],
        "categories": [{"id": n + 1, "name": f"c{n}"} for n in range(many)],
    }
    found, _ = repair(AnnotationTable(raw, "x.json"), Path("x.json"), Path())
    assert found.labels.tolist() == [1, many] and found.labels.dtype == np.int32


def test_missing_images_are_named_and_counted(write_data: WriteData, record: Record) -> None:
    split = write_data([(60, 40), (50, 70), (30, 20)], [record(1, 0, [1, 2, 10, 5])])
    annotations, _ = load_annotations(split)
    require_images(annotations)
    (split.images / "001.png").unlink()
    (split.images / "002.png").unlink()
    with pytest.raises(InputError, match=r"001.png does not exist \(and 1 more\); `detnet check"):
        require_images(annotations)


@pytest.mark.parametrize("name", ["images\\000.png", "photos/000.png", "000.PNG"])
def test_a_missing_image_that_is_spelt_otherwise(
    write_data: WriteData, record: Record, name: str
) -> None:
    split = write_data([(60, 40)], [record(1, 0, [1, 2, 10, 5])])
    content = json.loads(split.annotations.read_text())
    content["images"][0]["file_name"] = name
    split.annotations.write_text(json.dumps(content))
    there = "000.png" if name == "000.PNG" else re.escape(str(split.images / "000.png"))
    with pytest.raises(
        InputError, match=f"does not exist; {there} does; `detnet check DATA` names all"
    ):
        require_images(load_annotations(split)[0])
