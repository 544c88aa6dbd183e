"""Scores for a terminal: aligned, in percent, own grids in tables of their own."""

from detnet.evaluation.coco import Scores, score
from detnet.report.score_text import format_scores


def test_tables_are_aligned_percent() -> None:
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 20]}
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "a long name"}, {"id": 2, "name": "b"}],
        "annotations": [{"id": 1, **box}, {"id": 2, **box, "bbox": [50, 50, 9, 9]}],
    }
    scores = score(truth, [{**box, "score": 0.5}], class_agnostic_recall=True)
    text = format_scores(Scores.from_json(scores))
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
    lacking = "the file as it is, but for 2 areas that it lacks: width x height"
    assert lines[-1] == f"ground truth: {lacking}"


def test_own_grid_has_its_own_tables() -> None:
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 20]}
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": 1, **box}],
    }
    scores = score(
        truth,
        [{**box, "score": 0.5}],
        iou_thresholds=(0.925,),
        areas={"tiny": (0, 256.5), "huge": (1e6, float("inf"))},
        max_dets=(300,),
        class_agnostic_recall=True,
    )
    text = format_scores(Scores.from_json(scores))
    tables = {part.splitlines()[0]: part.splitlines()[1:] for part in text.split("\n\n")}
    by_size = "by IoU threshold and object size"
    for title in (
        f"Average precision {by_size}",
        f"Average recall {by_size}, 300 results per image and class",
        "Average recall, all classes as one",
        "Average recall, all classes as one, 300 results per image",
    ):
        assert tables[title][0] == "         mean     50     60     70     80     85   92.5"
        assert tables[title][2] == "small   100.0  100.0  100.0  100.0  100.0  100.0  100.0"
        assert tables[title][5] == "tiny        -      -      -      -      -      -      -"
    assert tables["Own sizes, square pixels"] == [
        "      lowest area  highest area",
        "tiny            0         256.5",
        "huge      1000000           inf",
    ]
    assert "AR300" in text


def test_nothing_to_score_is_said_in_one_line() -> None:
    for categories in ([], [{"id": 1, "name": "a"}]):
        text = format_scores(Scores.from_json(score({"images": [], "categories": categories}, [])))
        title, nothing, note = text.splitlines()
        assert title.startswith("COCO scores") and not nothing
        assert note == "note: the ground truth has no annotations: nothing can be scored"
