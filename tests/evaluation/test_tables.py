"""Scores as text."""

from detnet.evaluation.coco import score
from detnet.evaluation.tables import format_scores


def test_tables_are_aligned_percent() -> None:
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 20]}
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "a long name"}, {"id": 2, "name": "b"}],
        "annotations": [{"id": 1, **box}, {"id": 2, **box, "bbox": [50, 50, 9, 9]}],
    }
    scores = score(truth, [{**box, "score": 0.5}], class_agnostic_recall=True)
    text = format_scores(scores)
    lines = text.splitlines()
    assert lines[0] == f"COCO scores of boxes, percent ({scores['engine']})"
    # One of two boxes found: precision 1 at the 51 recalls up to 0.5.
    assert lines[2:4] == ["  AP  AP50  AP75   APs  APm  APl", "50.5  50.5  50.5  50.5    -    -"]
    assert "         mean    50    60    70    80    85" not in text  # columns as wide as needed
    assert "small   50.0  50.0  50.0  50.0  50.0  50.0" in lines
    assert "large      -     -     -     -     -     -" in lines
    assert "class          AP  AP50  AR100  annotations" in lines
    assert "a long name  50.5  50.5   50.0            2" in lines
    assert "b               -     -      -            0" in lines
    assert "Average recall, all classes as one" in lines


def test_no_classes_and_own_grid() -> None:
    nothing = {"images": [], "categories": [], "annotations": []}
    text = format_scores(score(nothing, [], max_dets=(300,), areas={"tiny": (0, 9)}))
    assert "Per class" not in text and "AR300" in text and "\ntiny" in text
