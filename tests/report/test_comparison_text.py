"""A comparison as text: complete, aligned, and never wider than a terminal."""

from typing import Any

from detnet.evaluation.comparison.compare import compare
from detnet.report.comparison_text import WIDTH, format_comparison
from detnet.report.comparison_view import Row
from detnet.text import percent


def made_up(images: int = 40) -> tuple[dict[str, Any], list[list[dict[str, Any]]]]:
    """Ground truth of one class with a long name, and one without objects; three detectors."""
    boxes = [[float(5 * (i % 7)), 10.0, 40.0, 30.0 + i] for i in range(images)]
    truth = {
        "images": [{"id": i, "width": 300, "height": 200} for i in range(images)],
        "categories": [
            {"id": 1, "name": "a class of which the name says more than anyone can take in"},
            {"id": 2, "name": "nothing"},
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": box} for i, box in enumerate(boxes)
        ],
    }
    results = []
    for shift, every in ((1.0, 1), (9.0, 1), (1.0, 2)):
        results.append(
            [
                {
                    "image_id": i,
                    "category_id": 1,
                    "bbox": [box[0] + shift, *box[1:]],
                    "score": 0.6 + i / 1000,
                }
                for i, box in enumerate(boxes)
                if i % every == 0
            ]
        )
    return truth, results


def comparison(names: list[str], **options: Any) -> dict[str, Any]:
    truth, results = made_up()
    found = compare(truth, results[: len(names)], names=names, resamples=200, **options)
    for pair in found["pictures"]:
        for image in pair["only_first"] + pair["only_other"]:
            image["file_name"] = f"{image['image_id']}.jpg" if image["image_id"] else None
    found["annotations"] = "truth.json"
    found["sources"] = [f"{name}.json" for name in names]
    return found


def test_two_detectors() -> None:
    found = comparison(["exact", "shifted"])
    text = format_comparison(found)
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[:2] == ["Comparison of boxes on 40 images, percent", "  A  exact  (exact.json)"]
    rows = [" ".join(line.split()) for line in lines]
    assert "AP 90.0 50.0 -40.0 -40.0 to -40.0 lower" not in rows  # what it is, not what it seems
    one = found["differences"][0]["headline"]["AP75"]
    numbers = [percent(one["first"]), percent(one["other"])]
    row = Row("AP75", **one)
    assert f"AP75 {' '.join(numbers)} {row.points} {row.interval} lower" in rows
    assert rows.count("small: no objects") == 2
    block = rows.index("medium mean .50 .60 .70 .80 .85")
    assert rows[block + 1].startswith("A exact ") and rows[block + 2].startswith("B shifted ")
    assert rows[block + 3].startswith("B - A lower -") and rows[block + 4].startswith(
        "95 % interval"
    )
    assert "nothing 0 - - - - - - - -" in rows
    assert "A finds none that B misses" in rows


def test_keypoints() -> None:
    truth, results = made_up()
    truth["categories"][0]["keypoints"] = ["here", "there"]
    for records in (truth["annotations"], *results):
        for record in records:
            x, y, width, height = record["bbox"]
            record["keypoints"] = [x, y, 2, x + width, y + height, 2]
    found = compare(
        truth, results[:2], names=["exact", "shifted"], iou_type="keypoints", resamples=100
    )
    found |= {"annotations": "truth.json", "sources": ["a", "b"], "pictures": []}
    text = format_comparison(found)
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[0] == "Comparison of keypoints on 40 images, percent"
    assert lines[4] == "  OKS by sigma 0.05"
    assert "Average recall by OKS threshold and object size" in lines
    assert "missed by the other (OKS .50" in text and "IoU" not in text
    recalls = [line.split()[0] for line in lines if line.startswith("AR")]
    assert recalls == ["AR", "AR50", "AR75", "ARm"], "no object is large"


def test_columns_stand_below_each_other() -> None:
    lines = format_comparison(comparison(["exact", "shifted"])).splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("medium"))
    ends = [
        {at for at in range(1, len(line) + 1) if line[at - 1] != " " and line[at : at + 1] in " "}
        for line in lines[begin : begin + 5]
    ]
    columns = [26 + 15 * n for n in range(1, 7)]
    assert all(set(columns) <= found for found in ends)


def test_three_detectors_an_own_grid_and_long_names() -> None:
    names = ["a" * 70, "b" * 70, "short"]
    grid = {"iou_thresholds": (0.55, 0.9), "areas": {"tall": (2000.0, 1e5)}, "max_dets": (300,)}
    found = comparison(names, confidence=0.9, **grid)
    found["notes"] = ["short: results for few images"]
    text = format_comparison(found)
    lines = text.splitlines()
    sources = [line for line in lines if line.endswith(".json)")]
    assert max(len(line) for line in lines if line not in sources) <= WIDTH
    assert "C - A" in text and "90 % interval" in text and "tall " in text
    assert "Average precision by IoU threshold and object size, continued" in lines
    assert (
        "Average recall by IoU threshold and object size, 300 results per image and class" in text
    )
    assert "A finds 20 that C misses, on 20 images: 1.jpg (1), 3.jpg (1), 5.jpg (1) …" in text
    assert lines[-1] == "note: short: results for few images"


def test_cost() -> None:
    found = comparison(["exact", "shifted"])
    one = {"macs": 207.4e9, "body_macs": 1e9, "params": 41.3e6, "input_size": [800, 1216]}
    found["cost"] = {
        "images": 1,
        "precision": "bf16",
        "device": "cpu",
        "threads": 2,
        "models": [{**one, "images_per_s": 1.236}, None],
    }
    rows = [" ".join(line.split()) for line in format_comparison(found).splitlines()]
    assert "A exact 207.4 G 1.0 G 41.3 M 800×1216 1.24" in rows
    assert "B shifted - - - - -" in rows
    how = "Measured here on 1 image, one at a time, in bf16 on cpu with 2 threads;"
    assert any(row.startswith(how) for row in rows)
