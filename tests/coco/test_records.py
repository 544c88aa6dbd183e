"""Records as columns: fast where all is well, exact about what is not."""

import numpy as np

from detnet.coco.records import Problems, Records, is_number, show


def table(*rows: object, kind: str = "annotation") -> Records:
    return Records({"rows": list(rows)}, "rows", kind, Problems("x.json"))


def test_columns_of_good_values() -> None:
    rows = table({"id": 2**53 + 1, "area": 2, "bbox": [1, 2.5, 3, 4]}, {"id": -1, "area": 0.5})
    ids, there = rows.integers("id")
    assert ids.dtype == np.int64
    assert ids.tolist() == [2**53 + 1, -1]  # beyond a float's precision
    assert there.all()
    assert rows.numbers("area")[0].tolist() == [2.0, 0.5]
    assert rows.problems.found == []


def test_bad_values_are_masked_and_named() -> None:
    rows = table({"id": 4, "n": 1.0}, {"id": 5, "n": 1.5}, {"n": 10**30}, {"id": 7}, "text")
    numbers, there = rows.integers("n")
    assert numbers.tolist() == [1, 0, 0, 0]
    assert there.tolist() == [True, False, False, False]
    assert [(p.code, p.record) for p in rows.problems.found] == [
        ("bad-type", "rows[4]"),
        ("missing-field", "annotation 7"),
        ("bad-type", "annotation 5"),
        ("bad-type", "rows[2]"),
    ]


def test_boxes() -> None:
    rows = table({"bbox": [1, 2, 3, 4]}, {"bbox": [1, 2, 3]}, {"bbox": [1, 2, 3, "4"]})
    boxes, there = rows.boxes()
    np.testing.assert_array_equal(boxes, [[1, 2, 3, 4], [np.nan] * 4, [np.nan] * 4])
    assert there.tolist() == [True, False, False]


def test_names_say_id_and_file() -> None:
    rows = table({"id": 3, "file_name": "a.jpg"}, {"file_name": "b.jpg"}, {}, kind="image")
    assert [rows.name(i) for i in range(3)] == ["image 3 (a.jpg)", "rows[1] (b.jpg)", "rows[2]"]


def test_is_number_and_show() -> None:
    assert [is_number(v) for v in (1, 0.5, True, "1", None, float("inf"), 10**400)] == [
        True,
        True,
        *[False] * 5,
    ]
    assert show("1") == "the text '1'"
    assert show([0] * 100).endswith("…")
    assert len(show([0] * 100)) < 80
