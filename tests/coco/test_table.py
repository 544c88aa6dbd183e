"""Files as tables."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detnet.coco.table import AnnotationTable, read_table
from detnet.errors import InputError

CONTENT: dict[str, Any] = {
    "images": [
        {"id": 9, "file_name": "a.jpg", "width": 60, "height": 40},
        {"id": 2, "file_name": "b.jpg", "width": 30.0, "height": 20},
    ],
    "annotations": [
        {"id": 1, "image_id": 2, "category_id": 5, "bbox": [1, 2, 3, 4.5], "area": 7},
        {"id": 2, "image_id": 9, "category_id": 3, "bbox": [0, 0, 5, 5], "iscrowd": 1},
        {"id": 3, "image_id": 9, "category_id": 5, "bbox": [0, 0, 5, 5], "keypoints": [1, 2, 2]},
    ],
    "categories": [{"id": 5, "name": "dog"}, {"id": 3, "name": "cat"}],
}


def test_columns_point_at_rows_of_the_file() -> None:
    table = AnnotationTable(CONTENT, "x.json")
    assert table.image_of.tolist() == [1, 0, 0] and table.category_of.tolist() == [0, 1, 0]
    assert table.sizes.tolist() == [[60, 40], [30, 20]]
    assert table.boxes[0].tolist() == [1, 2, 3, 4.5]
    assert table.crowd.tolist() == [
        False,
        True,
        False,
    ]
    np.testing.assert_array_equal(table.areas, [7, np.nan, np.nan])
    assert table.keypoints == [None, None, [1, 2, 2]] and table.segmentations == [None] * 3
    assert table.problems.found == [] and len(table) == 3


def test_a_column_is_read_and_complains_once() -> None:
    content = CONTENT | {"annotations": [{"id": 1, "image_id": 4, "category_id": 5}]}
    table = AnnotationTable(content, "x.json")
    assert table.image_of.tolist() == table.image_of.tolist() == [-1]
    assert [str(problem) for problem in table.problems.found] == [
        "x.json: annotation 1: names image 4, which the file does not have"
    ]
    strict = AnnotationTable(content, "x.json", strict=True)
    assert strict.category_of.tolist() == [0]  # what nobody asks for is not looked at
    with pytest.raises(InputError, match="x.json: annotation 1: names image 4"):
        _ = strict.image_of


def test_a_file_of_images_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": [], "categories": []}))
    assert len(read_table(path, unlabelled=True)) == 0
    with pytest.raises(InputError, match='"annotations" is missing'):
        read_table(path)


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", b"\xef\xbb\xbf" + json.dumps(CONTENT).encode())
    assert read_table(path).images.rows == CONTENT["images"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cut off"),
        (json.dumps(CONTENT)[:300], "cut off"),
        (json.dumps(CONTENT)[:-1], "cut off"),
        ("a,b\n1,2\n", "not JSON, or cut off: Expecting value"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "not JSON, or cut off"),
        ("[]", "results"),
        ("3", 'holds 3; annotations are an object with "images"'),
        ("null", "not in COCO format: holds null; annotations are an object"),
        ("true", "holds true"),
        ('{"images": [], "annotations": []}', '"categories" is missing'),
        ('{"images": {}, "annotations": [], "categories": []}', '"images" is no list'),
        ("[" * 200_000, "not JSON, or cut off"),
    ],
)
def test_a_file_refuses_in_one_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = write(tmp_path / "a.json", text)
    with pytest.raises(InputError) as caught:
        read_table(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: cannot be read"):
        read_table(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path)


def test_a_number_of_thousands_of_digits_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(f'{{"images": [{{"id": {"9" * 5000}}}], "annotations": [], "categories": []}}')
    with pytest.raises(InputError, match=r"a\.json: not JSON, or cut off: Exceeds the limit"):
        read_table(path)


def test_a_category_whose_name_is_no_text_is_refused() -> None:
    """What scores it would end with a traceback after the first epoch."""
    content = CONTENT | {"categories": [{"id": 5, "name": "d\ud800g"}, {"id": 3, "name": "c\xe4t"}]}
    [problem] = AnnotationTable(content, "x.json").errors()
    assert problem.code == "bad-type"
    assert str(problem) == "x.json: category 5 (d\ud800g): its name is not UTF-8; rename it"
